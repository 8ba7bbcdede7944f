"""T5 and its relatives: LongT5, Switch, T5Gemma, and those that hear or see pages, Pop2Piano and UDOP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastewq.architectures.assembly import (
    FFN,
    UNTIED,
    WIDTH,
    Assembly,
    At,
    Convolution,
    Embedding,
    Expect,
    Family,
    In,
    Layers,
    Linear,
    Nested,
    Norm,
    Only,
    Parameter,
    Rest,
    Under,
    Variant,
    When,
    linears,
)
from fastewq.architectures.body import Body, BodyBuilder, Schedule
from fastewq.architectures.fields import MAX_EXPERTS, Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Part, Tensors, field_or, prefixed, unless
from fastewq.architectures.vision.clip import VISION

# -- T5 -------------------------------------------------------------------------------------------------------------

T5_INNER = "num_heads*d_kv"


def gated(f: Fields) -> bool:
    if f.has("is_gated_act"):
        return f.flag("is_gated_act")
    return f.text("feed_forward_proj").startswith("gated-")


def t5_attention(name: str) -> Part:
    return Under(name, *linears("", "q k v", T5_INNER, "d_model", False), Linear("o", "d_model", T5_INNER, False))


def t5_norm(name: str) -> Norm:
    return Norm(name, "d_model", bias=False)


T5_DENSE = (
    When(gated, *linears("", "wi_0 wi_1", "d_ff", "d_model", False)),
    When(unless(gated), Linear("wi", "d_ff", "d_model", False)),
    Linear("wo", "d_model", "d_ff", False),
)
T5_RELATIVE_BIAS = Embedding("relative_attention_bias", "relative_attention_num_buckets", "num_heads")


def t5_stack(
    name: str,
    *,
    feed_forward: tuple[Part, ...] = (Under("DenseReluDense", *T5_DENSE),),
    self_attention: str = "SelfAttention",
    bias_everywhere: bool = False,
    extra: tuple[Part, ...] = (),
    first: tuple[Part, ...] = (),
    **facts: Any,
) -> BodyBuilder:
    """The encoder or the decoder: blocks of self-attention, cross-attention (decoder) and feed-forward, final norm."""
    decoder = name == "decoder"
    last = 2 if decoder else 1
    bias = Under(f"layer.0.{self_attention}", T5_RELATIVE_BIAS)
    parts: tuple[Part, ...] = (
        Under("layer.0", t5_attention(self_attention), t5_norm("layer_norm")),
        *((Under("layer.1", t5_attention("EncDecAttention"), t5_norm("layer_norm")),) if decoder else ()),
        Under(f"layer.{last}", *feed_forward, t5_norm("layer_norm")),
        *((bias,) if bias_everywhere else ()),
        *extra,
    )
    return At(
        name,
        Layers(
            "block",
            parts,
            count=field_or("num_decoder_layers", "num_layers") if decoder else "num_layers",
            name=name,
            role="decoder" if decoder else "encoder",
            width="d_model",
            heads="num_heads",
            head_dim="d_kv",
            ffn="d_ff",
            norm="rms",
            first=() if bias_everywhere else (bias, *first),
            **facts,
        ),
        Rest(t5_norm("final_layer_norm")),
    )


def ties_head(f: Fields) -> bool:
    return f.flag("tie_word_embeddings", True)


LM_HEAD = Rest(Linear("lm_head", "vocab_size", "d_model", False, unless(ties_head)))
"""T5 1.1, Flan-T5 and mT5 have one, as their files say. The library's config class overrides `tie_word_embeddings`; its
`from_pretrained` keeps the head all the same, since it differs from the embeddings."""


def t5_classes(encoder: BodyBuilder, decoder: BodyBuilder) -> dict[str, BodyBuilder]:
    shared = Rest(Embedding("shared", "vocab_size", "d_model"))
    both = Assembly(shared, encoder, decoder)
    alone = Assembly(Expect("is_decoder", False), shared, encoder)
    classification = Rest(
        Linear("classification_head.dense", "d_model", "d_model"),
        Linear("classification_head.out_proj", labels, "d_model"),
    )
    return {
        "Model": both,
        "ForConditionalGeneration": Assembly(both, LM_HEAD),
        "WithLMHeadModel": Assembly(both, LM_HEAD),
        "EncoderModel": alone,
        "ForSequenceClassification": Assembly(At("transformer", both), classification),
        "ForTokenClassification": Assembly(At("transformer", alone), Rest(Linear("classifier", labels, "d_model"))),
        "ForQuestionAnswering": Assembly(both, Rest(Linear("qa_outputs", labels, "d_model"))),
    }


T5 = t5_classes(t5_stack("encoder"), t5_stack("decoder"))
UMT5 = t5_classes(t5_stack("encoder", bias_everywhere=True), t5_stack("decoder", bias_everywhere=True))

# -- LongT5 and Switch: another encoder attention, experts ------------------------------------------------------------

GLOBAL_BIAS = (
    Embedding(
        "layer.0.TransientGlobalSelfAttention.global_relative_attention_bias",
        "relative_attention_num_buckets",
        "num_heads",
    ),
)
GLOBAL_NORM = t5_norm("layer.0.TransientGlobalSelfAttention.global_input_layer_norm")
LONG_ENCODER = {
    "local": t5_stack("encoder", self_attention="LocalSelfAttention"),
    "transient-global": t5_stack(
        "encoder", self_attention="TransientGlobalSelfAttention", extra=(GLOBAL_NORM,), first=GLOBAL_BIAS
    ),
}


def long_encoder(f: Fields, path: str) -> Body:
    return LONG_ENCODER[f.choice("encoder_attention_type", tuple(LONG_ENCODER))](f, path)


def switch_experts(f: Fields) -> Tensors:
    """A router and one feed-forward per expert, each a module of its own."""
    experts = f.count("num_experts", low=1, high=MAX_EXPERTS)
    once = (*Linear("wi", "d_ff", "d_model", False)(f), *Linear("wo", "d_model", "d_ff", False)(f))
    return (
        *Linear("router.classifier", experts, "d_model", "router_bias", role="router")(f),
        *(t for i in range(experts) for t in prefixed(f"experts.expert_{i}", once)),
    )


def switch_schedule(side: str) -> Schedule:
    """Experts in every n-th block, so that there are about `num_sparse_*_layers` of them."""

    def schedule(f: Fields, count: int) -> list[str]:
        sparse = f.count(f"num_sparse_{side}_layers")
        step = f.count(f"{side}_sparse_step", count // sparse if sparse else count)
        return ["experts" if step and (i % step == 1 or step == 1) else "dense" for i in range(count)]

    return schedule


def switch_stack(side: str) -> BodyBuilder:
    return t5_stack(
        side,
        feed_forward=(),
        variants={
            "dense": Variant(
                (
                    Under(
                        switch_mlp(side),
                        *linears("", "wi", "d_ff", "d_model", False),
                        Linear("wo", "d_model", "d_ff", False),
                    ),
                )
            ),
            "experts": Variant((Under(switch_mlp(side), switch_experts),), feed_forward="experts"),
        },
        schedule=switch_schedule(side),
    )


def switch_mlp(side: str) -> str:
    return f"layer.{2 if side == 'decoder' else 1}.mlp"


def with_tokens(side: str) -> BodyBuilder:
    """A side with an embedding of its own where `tie_word_embeddings` is off; in T5 the sides still share one."""
    return Assembly(
        At(side, Rest(When(UNTIED, Embedding("embed_tokens", "vocab_size", "d_model")))), switch_stack(side)
    )


SWITCH = t5_classes(with_tokens("encoder"), with_tokens("decoder"))

# -- T5Gemma --------------------------------------------------------------------------------------------------------

QUERIES = "num_attention_heads*head_dim"
KEYS = "num_key_value_heads*head_dim"


def gemma_attention(name: str, source: Size = WIDTH) -> tuple[Part, ...]:
    return (
        Linear(f"{name}.q_proj", QUERIES, WIDTH, "attention_bias"),
        *linears(name, "k_proj v_proj", KEYS, source, "attention_bias"),
        Linear(f"{name}.o_proj", WIDTH, QUERIES, "attention_bias"),
    )


def gemma_norms(name: str) -> tuple[Part, ...]:
    return (Norm(f"pre_{name}_layernorm", bias=False), Norm(f"post_{name}_layernorm", bias=False))


def t5gemma_stack(side: str, *cross: Part) -> BodyBuilder:
    return Assembly(
        Rest(Norm("norm", bias=False)),
        Layers(
            "layers",
            (
                *gemma_attention("self_attn"),
                *gemma_norms("self_attn"),
                *linears("mlp", "gate_proj up_proj", FFN, WIDTH, False),
                Linear("mlp.down_proj", WIDTH, FFN, False),
                *gemma_norms("feedforward"),
                *cross,
            ),
            name=side,
            role="decoder" if side == "decoder" else "encoder",
            kv_heads="num_key_value_heads",
            head_dim="head_dim",
            norm="rms",
        ),
    )


T5GEMMA_ENCODER = t5gemma_stack("encoder")
T5GEMMA_DECODER = t5gemma_stack(
    "decoder", *gemma_attention("cross_attn", "cross_attention_hidden_size"), *gemma_norms("cross_attn")
)


def with_heads(body: BodyBuilder) -> dict[str, BodyBuilder]:
    score = Rest(Linear("score.out_proj", labels, "decoder.hidden_size"))
    writes = Rest(Linear("lm_head.out_proj", "decoder.vocab_size", "decoder.hidden_size", False, UNTIED))
    return {
        "Model": body,
        "ForConditionalGeneration": Assembly(At("model", body), writes),
        "ForSequenceClassification": Assembly(At("model", body), score),
        "ForTokenClassification": Assembly(At("model", body), score),
    }


TOKENS = Rest(Embedding("embed_tokens", "vocab_size"))
T5GEMMA = Assembly(
    In("encoder", TOKENS, T5GEMMA_ENCODER),
    In("decoder", TOKENS, T5GEMMA_DECODER, cross_attention_hidden_size="encoder.hidden_size"),
)


# -- T5Gemma 2: the encoder sees, and the decoder attends to itself and to the encoder at once -----------------------

QUERY_KEY_NORMS = (Norm("self_attn.q_norm", "head_dim", False), Norm("self_attn.k_norm", "head_dim", False))
MARKED_TOKENS = Rest(Embedding("embed_tokens", "vocab_size"), Parameter("embed_tokens.eoi_embedding", (WIDTH,)))
SIGLIP: dict[str, Family] = {"siglip_vision_model": VISION["siglip_vision_model"]}
T5GEMMA2_READS = t5gemma_stack("encoder", *QUERY_KEY_NORMS)
T5GEMMA2_WRITES = t5gemma_stack("decoder", *QUERY_KEY_NORMS)
T5GEMMA2_ENCODER = Assembly(
    In("text_config", MARKED_TOKENS, T5GEMMA2_READS, path="text_model"),
    Nested("vision_config", "vision_tower", SIGLIP),
    Rest(
        Parameter(
            "multi_modal_projector.mm_input_projection_weight",
            ("vision_config.hidden_size", "text_config.hidden_size"),
            "linear",
        ),
        Norm("multi_modal_projector.mm_soft_emb_norm", "vision_config.hidden_size", False),
    ),
)
T5GEMMA2 = Assembly(
    In("encoder", T5GEMMA2_ENCODER),
    In("decoder", T5GEMMA2_WRITES),
    Only(UNTIED, In("decoder", MARKED_TOKENS)),
)

# -- Pop2Piano and UDOP: T5 that hears, and T5 that sees pages ---------------------------------------------------------

POP2PIANO = Assembly(
    Rest(
        Embedding("shared", "vocab_size", "d_model"),
        Embedding("mel_conditioner.embedding", "composer_vocab_size", "d_model"),
    ),
    t5_stack("encoder"),
    t5_stack("decoder"),
    Rest(Linear("lm_head", "vocab_size", "d_model", False)),
)
UDOP_BIASES = ("1d", "horizontal", "vertical")


def page_biases(name: str, *tables: int) -> Part:
    """A table for each kind of distance; the first is the first block's own, but for the body alone."""

    def part(f: Fields) -> Tensors:
        given = f.value("relative_bias_args", None)
        if given is not None:
            if not isinstance(given, list | tuple):
                raise f.refuse("relative_bias_args", given, "a list of objects")
            kinds = [entry.get("type") if isinstance(entry, Mapping) else None for entry in given]
            if kinds != list(UDOP_BIASES) or any(len(entry) > 1 for entry in given):
                raise f.refuse("relative_bias_args", given, f"the kinds {', '.join(UDOP_BIASES)}")
        table = Embedding("relative_attention_bias", 32, "num_heads")  # whatever the config says of the blocks'
        return tuple(t for i in tables or (1, 2) for t in prefixed(f"{name}.relative_bias.biases.{i}", table(f)))

    return part


def pages(name: str) -> Part:
    return Convolution(f"{name}.proj", "d_model", "num_channels", ("patch_size", "patch_size"))


UDOP_ENCODER = Assembly(
    Rest(
        Embedding("shared", "vocab_size", "d_model"),
        pages("patch_embed"),
        Embedding("encoder.cell_2d_embedding.x_position_embeddings", "max_2d_position_embeddings", "d_model"),
        Embedding("encoder.cell_2d_embedding.y_position_embeddings", "max_2d_position_embeddings", "d_model"),
        page_biases("encoder"),
    ),
    t5_stack("encoder"),
)
UDOP = Assembly(UDOP_ENCODER, Rest(pages("decoder.embed_patches"), page_biases("decoder")), t5_stack("decoder"))
UDOP_CLASSES: dict[str, BodyBuilder] = {
    "EncoderModel": UDOP_ENCODER,
    "Model": Assembly(UDOP, Rest(page_biases("encoder", 0), page_biases("decoder", 0))),
    "ForConditionalGeneration": Assembly(UDOP, LM_HEAD),
}

SEQ2SEQ: dict[str, Family] = {
    "pop2piano": Family(
        "Pop2Piano", {"ForConditionalGeneration": POP2PIANO}, "ForConditionalGeneration", "ForConditionalGeneration"
    ),
    "udop": Family("Udop", UDOP_CLASSES, "ForConditionalGeneration"),
    "t5": Family("T5", T5, "ForConditionalGeneration", classes=("T5WithLMHeadModel",), tied=ties_head),
    "mt5": Family("MT5", T5, "ForConditionalGeneration"),
    "longt5": Family("LongT5", t5_classes(long_encoder, t5_stack("decoder")), "ForConditionalGeneration"),
    "switch_transformers": Family("SwitchTransformers", SWITCH, "ForConditionalGeneration"),
    "t5gemma": Family("T5Gemma", with_heads(T5GEMMA), "ForConditionalGeneration"),
    "t5gemma2": Family("T5Gemma2", with_heads(T5GEMMA2), "ForConditionalGeneration"),
    "t5gemma2_text": Family(
        "T5Gemma2Text", {"": Assembly(MARKED_TOKENS, t5gemma_stack("encoder", *QUERY_KEY_NORMS))}, "", ""
    ),
    "t5gemma2_decoder": Family(
        "T5Gemma2Decoder", {"": Assembly(MARKED_TOKENS, t5gemma_stack("decoder", *QUERY_KEY_NORMS))}, "", ""
    ),
    "t5gemma2_encoder": Family("T5Gemma2Encoder", {"": T5GEMMA2_ENCODER}, "", ""),
    "umt5": Family("UMT5", UMT5, "ForConditionalGeneration", tied=ties_head),
}
