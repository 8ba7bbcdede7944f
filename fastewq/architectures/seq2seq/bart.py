"""BART and the encoder-decoders built like it: mBART, Marian, Pegasus, M2M-100, Blenderbot, LED ..."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastewq.architectures.assembly import (
    TEXT_HEAD,
    UNTIED,
    WIDTH,
    Assembly,
    At,
    Embedding,
    Expect,
    Family,
    Layers,
    Linear,
    Norm,
    Only,
    Rest,
    StackRole,
    Under,
    Variant,
    When,
    linears,
    plus,
    tied,
)
from fastewq.architectures.body import BodyBuilder, Schedule
from fastewq.architectures.fields import MAX_EXPERTS, Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Option, Part, Tensors, field_or, prefixed


def bart_attention(name: str, key_bias: Option = True, width: Size = "d_model") -> tuple[Part, ...]:
    return (*linears(name, "q_proj v_proj out_proj", width, width), Linear(f"{name}.k_proj", width, width, key_bias))


def bart_feed_forward(side: str, width: Size = "d_model") -> tuple[Part, ...]:
    return (
        Linear("fc1", f"{side}_ffn_dim", width),
        Linear("fc2", width, f"{side}_ffn_dim"),
        Norm("final_layer_norm", width),
    )


def bart_layer(side: str, key_bias: Option = True, cross: bool = False, width: Size = "d_model") -> tuple[Part, ...]:
    """Attention, cross-attention (decoder) and feed-forward, a norm for each (before or after: the same tensors)."""
    crossing: tuple[Part, ...] = (
        *bart_attention("encoder_attn", key_bias, width),
        Norm("encoder_attn_layer_norm", width),
    )
    return (
        *bart_attention("self_attn", key_bias, width),
        Norm("self_attn_layer_norm", width),
        *(crossing if cross else ()),
        *bart_feed_forward(side, width),
    )


def bart_stack(side: str, parts: tuple[Part, ...], role: StackRole | None = None, **facts: Any) -> Layers:
    return Layers(
        "layers",
        parts,
        count=f"{side}_layers",
        name=side,
        role=role or ("decoder" if side == "decoder" else "encoder"),
        width="d_model",
        heads=f"{side}_attention_heads",
        ffn=f"{side}_ffn_dim",
        **facts,
    )


@dataclass(frozen=True)
class Side:
    """What surrounds the blocks of one side: rows of the position table (none: not learned), norms, own embedding."""

    layer: tuple[Part, ...]
    positions: Size | None = None
    embedding_norm: bool = False
    final_norm: bool = False
    extra: tuple[Part, ...] = ()
    vocab: Size = "vocab_size"
    facts: Mapping[str, Any] = field(default_factory=dict)

    def build(self, side: str, tokens: Option) -> BodyBuilder:
        """`tokens` says whether the side has an embedding that is not an alias of the shared one."""
        parts: list[Part] = [When(tokens, Embedding("embed_tokens", self.vocab, "d_model")), *self.extra]
        if self.positions is not None:
            parts.append(Embedding("embed_positions", self.positions, "d_model"))
        if self.embedding_norm:
            parts.append(Norm("layernorm_embedding", "d_model"))
        if self.final_norm:
            parts.append(Norm("layer_norm", "d_model"))
        return At(side, Rest(*parts), bart_stack(side, self.layer, **self.facts))


LM_HEAD = Rest(Linear("lm_head", "vocab_size", "d_model", False, UNTIED))
SHARED = Rest(Embedding("shared", "vocab_size", "d_model"))


def labels_or(number: int) -> Size:
    """Labels, where the config class assumes another number than two."""
    return lambda f: labels(f) if f.has("id2label") or f.has("num_labels") else number


def bart_classes(encoder: Side, decoder: Side, prefix: str = "model", classes: Size = labels) -> dict[str, BodyBuilder]:
    body = Assembly(SHARED, encoder.build("encoder", UNTIED), decoder.build("decoder", UNTIED))
    inner = At(prefix, body)
    return {
        "Model": body,
        "ForConditionalGeneration": Assembly(inner, LM_HEAD),
        "ForCausalLM": Assembly(At(prefix, decoder.build("decoder", True)), LM_HEAD),
        "ForQuestionAnswering": Assembly(inner, Rest(Linear("qa_outputs", 2, "d_model"))),
        "ForSequenceClassification": Assembly(
            inner,
            Rest(
                Linear("classification_head.dense", "d_model", "d_model"),
                Linear("classification_head.out_proj", classes, "d_model"),
            ),
        ),
    }


def alike(**surroundings: Any) -> tuple[Side, Side]:
    """BART's blocks with the same surroundings on both sides."""
    return (
        Side(bart_layer("encoder"), **surroundings),
        Side(bart_layer("decoder", cross=True), **surroundings),
    )


POSITIONS = "max_position_embeddings"
TWO_MORE = plus(POSITIONS, 2)
BART = bart_classes(*alike(positions=TWO_MORE, embedding_norm=True))
BART3 = bart_classes(*alike(positions=TWO_MORE, embedding_norm=True), classes=labels_or(3))
MBART = bart_classes(*alike(positions=TWO_MORE, embedding_norm=True, final_norm=True))
PEGASUS = bart_classes(*alike(positions=POSITIONS, final_norm=True))
BLENDERBOT_SMALL = bart_classes(*alike(positions=POSITIONS, embedding_norm=True))
M2M = bart_classes(*alike(final_norm=True))


# -- Marian: one vocabulary for both languages, or two ----------------------------------------------------------------


def shares(f: Fields) -> bool:
    return f.flag("share_encoder_decoder_embeddings")


DECODER_VOCAB = field_or("decoder_vocab_size", "vocab_size")


def marian_classes() -> dict[str, BodyBuilder]:
    own = lambda f: not (shares(f) and tied(f))  # noqa: E731
    encoder = Side(bart_layer("encoder"), positions=POSITIONS)
    decoder = Side(bart_layer("decoder", cross=True), positions=POSITIONS, vocab=DECODER_VOCAB)
    body = Assembly(Only(shares, SHARED), encoder.build("encoder", own), decoder.build("decoder", own))
    target: Size = lambda f: f["vocab_size" if shares(f) else DECODER_VOCAB]  # noqa: E731
    return {
        "Model": body,
        "MTModel": Assembly(At("model", body), Rest(Linear("lm_head", target, "d_model", False, UNTIED))),
        "ForCausalLM": Assembly(
            At("model", decoder.build("decoder", True)),
            Rest(Linear("lm_head", DECODER_VOCAB, "d_model", False, UNTIED)),
        ),
    }


# -- other attention: Pegasus-X, LED, BigBird-Pegasus, NLLB-MoE -------------------------------------------------------


def unbiased_layer(side: str, cross: bool, bias: Option = False) -> tuple[Part, ...]:
    attention = linears("self_attn", "k_proj v_proj q_proj out_proj", "d_model", "d_model", bias)
    crossing: tuple[Part, ...] = (
        *linears("encoder_attn", "k_proj v_proj q_proj out_proj", "d_model", "d_model", bias),
        Norm("encoder_attn_layer_norm", "d_model"),
    )
    return (
        *attention,
        Norm("self_attn_layer_norm", "d_model"),
        *(crossing if cross else ()),
        *bart_feed_forward(side),
    )


PEGASUS_X = bart_classes(
    Side(
        (*unbiased_layer("encoder", cross=False), Norm("global_self_attn_layer_norm", "d_model")),
        final_norm=True,
        extra=(Embedding("embed_global", "num_global_tokens", "d_model"),),
    ),
    Side(unbiased_layer("decoder", cross=True), final_norm=True),
)
LED = bart_classes(
    Side(
        (
            *linears(
                "self_attn.longformer_self_attn",
                "query key value query_global key_global value_global",
                "d_model",
                "d_model",
            ),
            Linear("self_attn.output", "d_model", "d_model"),
            Norm("self_attn_layer_norm", "d_model"),
            *bart_feed_forward("encoder"),
        ),
        positions="max_encoder_position_embeddings",
        embedding_norm=True,
    ),
    Side(bart_layer("decoder", cross=True), positions="max_decoder_position_embeddings", embedding_norm=True),
    prefix="led",
)
BIGBIRD_PEGASUS_SIDES = (
    Side(
        (
            *linears("self_attn.self", "query key value", "d_model", "d_model", "use_bias"),
            Linear("self_attn.output", "d_model", "d_model", "use_bias"),
            Norm("self_attn_layer_norm", "d_model"),
            *bart_feed_forward("encoder"),
        ),
        positions=POSITIONS,
        embedding_norm=True,
    ),
    Side(unbiased_layer("decoder", cross=True, bias="use_bias"), positions=POSITIONS, embedding_norm=True),
)
BIGBIRD_PEGASUS = bart_classes(*BIGBIRD_PEGASUS_SIDES)
BIGBIRD_PEGASUS_LM = Assembly(
    At("model", BIGBIRD_PEGASUS_SIDES[1].build("decoder", True)),
    Rest(Linear("lm_head", "vocab_size", "d_model", False)),
)


def nllb_experts(side: str) -> Part:
    """A router and one feed-forward per expert, each a module of its own."""

    def part(f: Fields) -> Tensors:
        experts = f.count("num_experts", low=1, high=MAX_EXPERTS)
        once = (*Linear("fc1", f"{side}_ffn_dim", "d_model")(f), *Linear("fc2", "d_model", f"{side}_ffn_dim")(f))
        return (
            *Linear("ffn.router.classifier", experts, "d_model", "router_bias", role="router")(f),
            *(t for i in range(experts) for t in prefixed(f"ffn.experts.expert_{i}", once)),
        )

    return part


def nllb_schedule(side: str) -> Schedule:
    def schedule(f: Fields, count: int) -> list[str]:
        step = f.count(f"{side}_sparse_step")
        return ["experts" if step and (i + 1) % step == 0 else "dense" for i in range(count)]

    return schedule


def nllb_side(side: str, *cross: Part) -> Side:
    dense = Under("ffn", Linear("fc1", f"{side}_ffn_dim", "d_model"), Linear("fc2", "d_model", f"{side}_ffn_dim"))
    return Side(
        (
            *bart_attention("self_attn"),
            Norm("self_attn_layer_norm", "d_model"),
            *cross,
            Norm("ff_layer_norm", "d_model"),
        ),
        final_norm=True,
        facts={
            "variants": {"dense": Variant((dense,)), "experts": Variant((nllb_experts(side),), feed_forward="experts")},
            "schedule": nllb_schedule(side),
            "experts": "num_experts",
        },
    )


NLLB_CROSS: tuple[Part, ...] = (*bart_attention("cross_attention"), Norm("cross_attention_layer_norm", "d_model"))
NLLB_MOE = bart_classes(nllb_side("encoder"), nllb_side("decoder", *NLLB_CROSS))

# -- FSMT: a vocabulary for each language -----------------------------------------------------------------------------


def fsmt_side(side: str, vocab: str, tokens: Option) -> BodyBuilder:
    layer = Side(bart_layer(side, cross=side == "decoder"), positions=TWO_MORE, vocab=vocab)
    return layer.build(side, tokens)


FSMT = Assembly(
    fsmt_side("encoder", "src_vocab_size", UNTIED),
    fsmt_side("decoder", "tgt_vocab_size", True),
    Rest(Linear("decoder.output_projection", "tgt_vocab_size", "d_model", False, UNTIED)),
)

# -- ProphetNet -----------------------------------------------------------------------------------------------------


def prophetnet_side(side: str, *attention: Part, extra: tuple[Part, ...] = ()) -> BodyBuilder:
    return At(
        side,
        Rest(
            When(UNTIED, Embedding("word_embeddings", "vocab_size")),
            Embedding("position_embeddings", POSITIONS),
            Norm("embeddings_layer_norm"),
            *extra,
        ),
        Layers(
            "layers",
            (
                *linears("self_attn", "key_proj value_proj query_proj out_proj"),
                Norm("self_attn_layer_norm"),
                *attention,
                Linear("feed_forward.intermediate", f"{side}_ffn_dim", WIDTH),
                Linear("feed_forward.output", WIDTH, f"{side}_ffn_dim"),
                Norm("feed_forward_layer_norm"),
            ),
            count=f"num_{side}_layers",
            name=side,
            role="decoder" if side == "decoder" else "encoder",
            heads=f"num_{side}_attention_heads",
            ffn=f"{side}_ffn_dim",
        ),
    )


PROPHETNET_DECODER = prophetnet_side(
    "decoder",
    Linear("self_attn.relative_pos_embeddings", "num_buckets*num_decoder_attention_heads", WIDTH),
    When(
        "add_cross_attention",
        *linears("cross_attn", "key_proj value_proj query_proj out_proj"),
        Norm("cross_attn_layer_norm"),
    ),
    extra=(Embedding("ngram_embeddings", "ngram"),),
)
PROPHETNET = Assembly(Rest(Embedding("word_embeddings", "vocab_size")), prophetnet_side("encoder"), PROPHETNET_DECODER)

GENERATE = "ForConditionalGeneration"
BART_LINE: dict[str, Family] = {
    "bart": Family("Bart", BART3, GENERATE),
    "mbart": Family("MBart", MBART, GENERATE),
    "mvp": Family(
        "Mvp", {ending: Assembly(Expect("use_prompt", False), build) for ending, build in BART.items()}, GENERATE
    ),
    "plbart": Family("PLBart", BART, GENERATE),
    "marian": Family("Marian", marian_classes(), "MTModel"),
    "pegasus": Family("Pegasus", PEGASUS, GENERATE),
    "pegasus_x": Family("PegasusX", PEGASUS_X, GENERATE),
    "m2m_100": Family("M2M100", M2M, GENERATE),
    "blenderbot": Family("Blenderbot", PEGASUS, GENERATE),
    "blenderbot-small": Family("BlenderbotSmall", BLENDERBOT_SMALL, GENERATE),
    "nllb-moe": Family("NllbMoe", NLLB_MOE, GENERATE),
    "fsmt": Family("FSMT", {"Model": FSMT, GENERATE: At("model", FSMT)}, GENERATE),
    "led": Family("LED", LED, GENERATE),
    "bigbird_pegasus": Family("BigBirdPegasus", {**BIGBIRD_PEGASUS, "ForCausalLM": BIGBIRD_PEGASUS_LM}, GENERATE),
    "prophetnet": Family(
        "ProphetNet",
        {
            "Model": PROPHETNET,
            GENERATE: Assembly(At("prophetnet", PROPHETNET), TEXT_HEAD),
        },
        GENERATE,
    ),
}
