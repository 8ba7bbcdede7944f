"""Decoder-only text models with attention and a dense feed-forward in every block.

One entry per model_type; the parts say what differs from the llama line. The later Gemma models are in gemma.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastewq.architectures.body import Body, Decoder, leading
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import BodyAndHeads, Classifier, Head, LMHead, Model, decoder, heads_with, no_head
from fastewq.architectures.parts import (
    LAYER_NORM,
    MLP,
    NO_NORM,
    Attention,
    FeedForwardPart,
    GatedMLP,
    Matrix,
    MixerPart,
    Norm,
    Part,
    Tensors,
    conv1d_linear,
    embedding,
    field_or,
    head_dim,
    hidden_per_head,
    kv_heads,
    linear,
    norm,
    parameter,
)


def uniform(mixer: MixerPart, feed_forward: FeedForwardPart, **options: Any) -> Decoder:
    """A decoder whose blocks are all alike."""
    return Decoder(mixers={"attention": mixer}, feed_forwards={"dense": feed_forward}, **options)


LLAMA_ATTENTION = Attention(bias="attention_bias")
LLAMA_MLP = GatedMLP(bias="mlp_bias")
LLAMA = uniform(LLAMA_ATTENTION, LLAMA_MLP)
GEMMA2_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
POST_NORMS = ("post_attention_layernorm", "post_feedforward_layernorm")
QA_TRANSFORMER = {"ForQuestionAnswering": "transformer"}
"""Classes that keep the body under `transformer` for question answering, for the sake of old checkpoints."""
TOKEN_CLASSIFIER = Classifier(path="classifier", bias=True)
CLASSIFIER_HEADS = heads_with(ForTokenClassification=TOKEN_CLASSIFIER)
GPT2_HEADS = heads_with(ForTokenClassification=TOKEN_CLASSIFIER, LMHeadModel=LMHead())

# -- the llama line --------------------------------------------------------------------------------------------------


MOST_NORMS = 1024
"""A norm for every head is a tensor for every head: more heads than this are a mistake or an attack."""


def per_head_norms(f: Fields) -> Tensors:
    """StableLM's query and key norms: one vector for every head."""
    if not f.flag("qk_layernorm"):
        return ()
    dim, sides = hidden_per_head(f), (("q_layernorm", f["num_attention_heads"]), ("k_layernorm", kv_heads(f)))
    for name, heads in sides:
        if heads > MOST_NORMS:
            raise f.refuse("qk_layernorm", True, f"at most {MOST_NORMS} heads for {name}, not {heads}")
    return tuple(t for name, heads in sides for i in range(heads) for t in norm(f"{name}.norms.{i}", dim))


def xielu(f: Fields) -> Tensors:
    """The two learned scalars of Apertus's activation."""
    if f.value("hidden_act") != "xielu":
        return ()
    return (*parameter("mlp.act_fn.alpha_p", 1), *parameter("mlp.act_fn.alpha_n", 1))


def lambdas(f: Fields) -> Tensors:
    """Differential attention's four vectors."""
    dim = hidden_per_head(f) if f.value("head_dim") is None else f["head_dim"]
    return tuple(t for name in ("q1", "k1", "q2", "k2") for t in parameter(f"lambda_{name}", dim))


def square_head_dim(f: Fields) -> int:
    """`head_dim`, refused unless the heads together are as wide as the hidden size."""
    dim = head_dim(f)
    if dim * f["num_attention_heads"] != f["hidden_size"]:
        raise f.refuse("head_dim", dim, "hidden_size / num_attention_heads")
    return dim


def judge(outputs: int) -> Head:
    """What scores an answer or its steps, in the code of Qwen/Qwen2.5-Math-RM-72B and Qwen/Qwen2.5-Math-PRM-7B."""

    def head(f: Fields, body: Body) -> Tensors:  # noqa: ARG001
        width = body.width
        return (*linear("score.0", width, width, True), *linear("score.2", outputs, width, True))

    return head


LLAMA_LINE: Mapping[str, BodyAndHeads] = {
    "llama": decoder(LLAMA, prefixes=QA_TRANSFORMER),
    "mistral": decoder(uniform(Attention(), GatedMLP())),
    "ministral": decoder(uniform(Attention(), GatedMLP()), prefixes=QA_TRANSFORMER),
    "ministral3": decoder(uniform(Attention(), GatedMLP())),
    "qwen2": decoder(
        uniform(Attention(bias=True, out_bias=False), GatedMLP()),
        heads=heads_with(ForRewardModel=judge(1), ForProcessRewardModel=judge(2)),
        prefixes=QA_TRANSFORMER,
        classes=("Qwen2ForRewardModel", "Qwen2ForProcessRewardModel"),
    ),
    "qwen3": decoder(uniform(Attention(bias="attention_bias", qk_norm="head"), GatedMLP()), prefixes=QA_TRANSFORMER),
    "smollm3": decoder(LLAMA, prefixes=QA_TRANSFORMER),
    "arcee": decoder(
        uniform(LLAMA_ATTENTION, MLP(names=("up_proj", "down_proj"), bias="mlp_bias")), prefixes=QA_TRANSFORMER
    ),
    "seed_oss": decoder(
        uniform(Attention(bias="attention_bias", out_bias="attention_out_bias"), LLAMA_MLP), prefixes=QA_TRANSFORMER
    ),
    "internlm3": decoder(LLAMA, classes=("InternLM3ForCausalLM",)),
    "iquestcoder": decoder(LLAMA, classes=("IQuestCoderForCausalLM",)),
    "cwm": decoder(uniform(Attention(), LLAMA_MLP)),
    "granite": decoder(LLAMA),
    "hyperclovax": decoder(
        uniform(
            LLAMA_ATTENTION,
            LLAMA_MLP,
            norms=lambda f: (
                "input_layernorm",
                "post_attention_layernorm",
                *(("post_norm1", "post_norm2") if f.flag("use_post_norm") else ()),
            ),
        )
    ),
    "helium": decoder(uniform(Attention(bias="attention_bias", out_bias=False, dim=square_head_dim), LLAMA_MLP)),
    "ernie4_5": decoder(uniform(Attention(bias="use_bias"), GatedMLP(bias="use_bias"))),
    "exaone4": decoder(uniform(Attention(qk_norm="head"), GatedMLP(), norms=POST_NORMS), prefixes=QA_TRANSFORMER),
    "hunyuan_v1_dense": decoder(
        uniform(
            Attention(bias="attention_bias", qk_norm="head", norm_names=("query_layernorm", "key_layernorm")),
            GatedMLP(),
            only={"use_qk_norm": (True,)},
        )
    ),
    "glm": decoder(uniform(Attention(bias="attention_bias", out_bias=False), GatedMLP(fused="gate_up_proj"))),
    "glm4": decoder(
        uniform(
            Attention(bias="attention_bias", out_bias=False),
            GatedMLP(fused="gate_up_proj"),
            norms=(
                "input_layernorm",
                "post_attention_layernorm",
                "post_self_attn_layernorm",
                "post_mlp_layernorm",
            ),
        )
    ),
    "olmo": decoder(uniform(LLAMA_ATTENTION, GatedMLP(), norm=NO_NORM)),
    "olmo2": decoder(uniform(Attention(bias="attention_bias", qk_norm="full"), GatedMLP(), norms=POST_NORMS)),
    "olmo3": decoder(uniform(Attention(bias="attention_bias", qk_norm="full"), GatedMLP(), norms=POST_NORMS)),
    "phi3": decoder(uniform(Attention(fused="qkv_proj"), GatedMLP(fused="gate_up_proj"))),
    "stablelm": decoder(
        uniform(
            Attention(bias="use_qkv_bias", out_bias=False, dim=hidden_per_head, extras=(per_head_norms,)),
            GatedMLP(),
            norm=LAYER_NORM,
            norms=lambda f: (
                ("input_layernorm",)
                if f.flag("use_parallel_residual")
                else ("input_layernorm", "post_attention_layernorm")
            ),
        )
    ),
    "cohere": decoder(
        uniform(
            Attention(bias="attention_bias", qk_norm="each", qk_norm_if="use_qk_norm"),
            GatedMLP(),
            norm=Norm("layer"),
            norms=("input_layernorm",),
        )
    ),
    "cohere2": decoder(uniform(LLAMA_ATTENTION, GatedMLP(), norm=Norm("layer"), norms=("input_layernorm",))),
    "nemotron": decoder(
        uniform(LLAMA_ATTENTION, MLP(names=("up_proj", "down_proj"), bias="mlp_bias"), norm=LAYER_NORM),
        prefixes=QA_TRANSFORMER,
    ),
    "jais2": decoder(uniform(LLAMA_ATTENTION, MLP(names=("up_proj", "down_proj"), bias="mlp_bias"), norm=LAYER_NORM)),
    "starcoder2": decoder(
        uniform(Attention(bias="use_bias"), MLP(names=("c_fc", "c_proj"), bias="use_bias"), norm=LAYER_NORM)
    ),
    "apertus": decoder(
        uniform(
            Attention(bias="attention_bias", qk_norm="head"),
            MLP(names=("up_proj", "down_proj"), bias=False),
            norms=("attention_layernorm", "feedforward_layernorm"),
            extras=(xielu,),
        )
    ),
    "bitnet": decoder(
        uniform(
            Attention(bias="attention_bias", extras=(lambda f: norm("attn_sub_norm", f["hidden_size"]),)),
            GatedMLP(),
            extras=(lambda f: norm("mlp.ffn_sub_norm", f["intermediate_size"]),),
        )
    ),
    "nanochat": decoder(uniform(LLAMA_ATTENTION, MLP(bias=False), norm=NO_NORM)),
    "diffllama": decoder(
        uniform(Attention(bias="attention_bias", extras=(lambdas,)), GatedMLP()), prefixes=QA_TRANSFORMER
    ),
    "gemma": decoder(uniform(LLAMA_ATTENTION, GatedMLP())),
    "gemma2": decoder(uniform(LLAMA_ATTENTION, GatedMLP(), norms=GEMMA2_NORMS)),
    "gemma3_text": decoder(uniform(Attention(bias="attention_bias", qk_norm="head"), GatedMLP(), norms=GEMMA2_NORMS)),
    "vaultgemma": decoder(uniform(LLAMA_ATTENTION, GatedMLP(), norms=("input_layernorm", "pre_feedforward_layernorm"))),
}

# -- the GPT line ----------------------------------------------------------------------------------------------------

HEADS = "num_attention_heads"
H_4H = ("dense_h_to_4h", "dense_4h_to_h")
INNER = field_or("n_inner", "4*hidden_size")
NO_CROSS_ATTENTION = {"add_cross_attention": (False,)}


def whole_head_dim(f: Fields) -> int:
    return f.divided("hidden_size", HEADS)


def mpt_keys(f: Fields) -> int:
    """MPT's own code can let heads share keys and values, as in replit/replit-code-v1_5-3b; the library's cannot."""
    attention = f.sub("attn_config", "")
    attention.require("qk_ln", (False,))
    kind = attention.choice(
        "attn_type", ("multihead_attention", "multiquery_attention", "grouped_query_attention"), "multihead_attention"
    )
    if kind == "multihead_attention":
        return f[HEADS]
    return 1 if kind == "multiquery_attention" else attention["kv_n_heads"]


def positions(name: str, offset: int = 0) -> Any:
    """A learned position table; some models keep `offset` more rows."""
    return lambda f: embedding(name, f["max_position_embeddings"] + offset, f["hidden_size"])


def gpt2_reader(f: Fields) -> Tensors:
    """What reads another model, as in VisionEncoderDecoder: keys and values in one matrix, queries in another."""
    if not f.flag("add_cross_attention", False):
        return ()
    width = f["hidden_size"]
    return (
        *conv1d_linear("crossattention.c_attn", 2 * width, width),
        *conv1d_linear("crossattention.q_attn", width, width),
        *conv1d_linear("crossattention.c_proj", width, width),
        *norm("ln_cross_attn", width, bias=True),
    )


def gpt2_attention(matrix: Matrix = conv1d_linear, kv: Size = HEADS) -> Attention:
    return Attention(
        prefix="attn",
        fused="c_attn",
        names=("", "", "", "c_proj"),
        bias=True,
        kv_heads=kv,
        dim=whole_head_dim,
        matrix=matrix,
    )


def gpt2(
    embed: str,
    position: str,
    final_norm: str,
    matrix: Matrix = conv1d_linear,
    kv: Size = HEADS,
    extras: tuple[Part, ...] = (),
    only: Mapping[str, tuple[Any, ...]] = NO_CROSS_ATTENTION,
) -> Decoder:
    return uniform(
        gpt2_attention(matrix, kv),
        MLP(names=("c_fc", "c_proj"), inner=INNER, matrix=matrix),
        norm=LAYER_NORM,
        norms=("ln_1", "ln_2"),
        layers="h",
        embed=embed,
        final_norm=final_norm,
        beside=(positions(position),),
        extras=extras,
        only=only,
    )


GPT2 = gpt2("wte", "wpe", "ln_f", extras=(gpt2_reader,), only={})


def pixel_head(f: Fields, body: Body) -> Tensors:
    """ImageGPT predicts every colour but the one that starts an image, which is a word all the same."""
    if f.flag("tie_word_embeddings"):
        return ()
    return linear("lm_head", f.count("vocab_size", low=2) - 1, body.width)


def gptj(attention: Attention) -> Model:
    body = uniform(
        attention,
        MLP(names=("fc_in", "fc_out"), inner=INNER),
        norm=LAYER_NORM,
        norms=("ln_1",),
        layers="h",
        embed="wte",
        final_norm="ln_f",
    )
    heads = heads_with(ForCausalLM=LMHead(bias=True), ForQuestionAnswering=Classifier(path="qa_outputs", bias=True))
    return decoder(body, heads=heads, prefix="transformer")


def fairseq(**options: Any) -> Decoder:
    """The decoder layer of fairseq, which OPT, XGLM and BioGPT follow."""
    bias, inner = options.pop("bias", True), options.pop("inner", "intermediate_size")
    return uniform(
        Attention(
            bias=bias,
            names=("q_proj", "k_proj", "v_proj", "out_proj"),
            kv_heads=HEADS,
            dim=whole_head_dim,
        ),
        MLP(prefix="", bias=bias, inner=inner),
        norms=("self_attn_layer_norm", "final_layer_norm"),
        **options,
    )


def opt_width(f: Fields) -> int:
    """The width of OPT's token embedding, which its smallest model has narrower than the blocks."""
    return field_or("word_embed_proj_dim", "hidden_size")(f)


def opt_projections(f: Fields) -> Tensors:
    width, hidden = opt_width(f), f["hidden_size"]
    if width == hidden:
        return ()
    return (*linear("decoder.project_out", width, hidden), *linear("decoder.project_in", hidden, width))


def opt_final_norm(f: Fields) -> Tensors:
    has_norm = f.flag("do_layer_norm_before") and not f.flag("_remove_final_layer_norm")
    return OPT_NORM(f, "decoder.final_layer_norm", f["hidden_size"]) if has_norm else ()


OPT_NORM = Norm("layer", bias=True, affine="layer_norm_elementwise_affine")


def falcon_kv_heads(f: Fields) -> int:
    if f.flag("new_decoder_architecture"):
        return field_or("num_kv_heads", HEADS)(f)
    return 1 if f.flag("multi_query") else f[HEADS]


def falcon_norms(f: Fields) -> tuple[str, ...]:
    if not f.flag("parallel_attn"):
        return ("input_layernorm", "post_attention_layernorm")
    count = f.value("num_ln_in_parallel_attn")
    two = f.flag("new_decoder_architecture") if count is None else f["num_ln_in_parallel_attn"] == 2
    return ("ln_attn", "ln_mlp") if two else ("input_layernorm",)


def last_differs(_: Fields, layers: int) -> list[str]:
    return ["attention"] * (layers - 1) + ["last"] * min(layers, 1)


NEOX_ATTENTION = Attention(
    prefix="attention",
    fused="query_key_value",
    names=("", "", "", "dense"),
    kv_heads=HEADS,
    dim=whole_head_dim,
    bias="attention_bias",
)
NEOX_JAPANESE = replace(NEOX_ATTENTION, bias=False)

FALCON = decoder(
    uniform(
        replace(NEOX_ATTENTION, prefix="self_attention", bias="bias", kv_heads=falcon_kv_heads),
        MLP(names=H_4H, bias="bias", inner=field_or("ffn_hidden_size", "4*hidden_size")),
        norm=LAYER_NORM,
        norms=falcon_norms,
        layers="h",
        embed="word_embeddings",
        final_norm="ln_f",
        renamed={"n_embed": "hidden_size"},
    ),
    heads=CLASSIFIER_HEADS,
    prefix="transformer",
)
GPT_LINE: Mapping[str, Model] = {
    "gpt2": decoder(GPT2, heads=GPT2_HEADS, prefix="transformer", default="LMHeadModel"),
    "gpt-sw3": decoder(GPT2, heads=GPT2_HEADS, prefix="transformer", default="LMHeadModel"),
    "imagegpt": decoder(
        replace(gpt2("wte", "wpe", "ln_f"), norm=Norm()),
        heads={
            "ForCausalImageModeling": pixel_head,
            "Model": no_head,
            "ForImageClassification": Classifier(),
        },
        prefix="transformer",
        default="ForCausalImageModeling",
    ),
    "openai-gpt": decoder(
        gpt2("tokens_embed", "positions_embed", ""), heads=GPT2_HEADS, prefix="transformer", default="LMHeadModel"
    ),
    "gpt_bigcode": decoder(
        gpt2("wte", "wpe", "ln_f", linear, lambda f: 1 if f.flag("multi_query") else f[HEADS]),
        heads=CLASSIFIER_HEADS,
        prefix="transformer",
    ),
    "gpt_neo": decoder(
        uniform(
            Attention(
                prefix="attn.attention",
                names=("q_proj", "k_proj", "v_proj", "out_proj"),
                out_bias=True,
                kv_heads=HEADS,
                dim=whole_head_dim,
            ),
            MLP(names=("c_fc", "c_proj"), inner=field_or("intermediate_size", "4*hidden_size")),
            norm=LAYER_NORM,
            norms=("ln_1", "ln_2"),
            layers="h",
            embed="wte",
            final_norm="ln_f",
            beside=(positions("wpe"),),
        ),
        heads=CLASSIFIER_HEADS,
        prefix="transformer",
    ),
    "gptj": gptj(
        Attention(
            prefix="attn",
            names=("q_proj", "k_proj", "v_proj", "out_proj"),
            kv_heads=HEADS,
            dim=whole_head_dim,
        )
    ),
    "codegen": gptj(
        Attention(prefix="attn", fused="qkv_proj", names=("", "", "", "out_proj"), kv_heads=HEADS, dim=whole_head_dim)
    ),
    "ctrl": decoder(
        uniform(
            Attention(
                prefix="multi_head_attention",
                names=("Wq", "Wk", "Wv", "dense"),
                bias=True,
                kv_heads=HEADS,
                dim=whole_head_dim,
            ),
            MLP(prefix="ffn", names=("0", "2"), inner="dff"),
            norm=LAYER_NORM,
            norms=("layernorm1", "layernorm2"),
            layers="h",
            embed="w",
            final_norm="layernorm",
        ),
        heads={
            "LMHeadModel": LMHead(bias=True),
            "Model": no_head,
            "ForSequenceClassification": Classifier(path="classifier"),
        },
        default="LMHeadModel",
        prefix="transformer",
    ),
    "gpt_neox": decoder(
        uniform(NEOX_ATTENTION, MLP(names=H_4H), norm=LAYER_NORM, embed="embed_in", final_norm="final_layer_norm"),
        heads=CLASSIFIER_HEADS,
        prefix="gpt_neox",
    ),
    "gpt_neox_japanese": decoder(
        Decoder(
            mixers={
                "attention": NEOX_JAPANESE,
                "last": replace(
                    NEOX_JAPANESE, extras=(lambda f: parameter("dense_bias", f["hidden_size"], role="bias"),)
                ),
            },
            mixer_schedule=last_differs,
            feed_forwards={
                "dense": MLP(
                    names=H_4H,
                    bias=False,
                    inner=lambda f: int(f["hidden_size"] * f.number("intermediate_multiple_size")),
                )
            },
            norm=LAYER_NORM,
            embed="embed_in",
            final_norm="final_layer_norm",
        ),
        heads=heads_with(ForCausalLM=LMHead(path="embed_out")),
        prefix="gpt_neox_japanese",
    ),
    "opt": decoder(
        fairseq(
            bias="enable_bias",
            inner="ffn_dim",
            norm=OPT_NORM,
            layers="decoder.layers",
            embed="decoder.embed_tokens",
            embed_width=opt_width,
            head_width=opt_width,
            final_norm="",
            beside=(positions("decoder.embed_positions", 2), opt_projections, opt_final_norm),
        )
    ),
    "xglm": decoder(fairseq(inner="ffn_dim", norm=LAYER_NORM, final_norm="layer_norm", only=NO_CROSS_ATTENTION)),
    "biogpt": decoder(
        fairseq(norm=LAYER_NORM, final_norm="layer_norm", beside=(positions("embed_positions", 2),)),
        heads=heads_with(ForTokenClassification=TOKEN_CLASSIFIER, ForCausalLM=LMHead(path="output_projection")),
        prefix="biogpt",
    ),
    "bloom": decoder(
        uniform(
            replace(NEOX_ATTENTION, prefix="self_attention", bias=True),
            MLP(names=H_4H, inner="4*hidden_size"),
            norm=LAYER_NORM,
            layers="h",
            embed="word_embeddings",
            final_norm="ln_f",
            beside=(lambda f: norm("word_embeddings_layernorm", f["hidden_size"], bias=True),),
            renamed={"n_embed": "hidden_size"},
        ),
        heads=CLASSIFIER_HEADS,
        prefix="transformer",
    ),
    "falcon": FALCON,
    "mpt": decoder(
        uniform(
            Attention(
                prefix="attn", fused="Wqkv", names=("", "", "", "out_proj"), kv_heads=mpt_keys, dim=whole_head_dim
            ),
            MLP(prefix="ffn", names=("up_proj", "down_proj"), bias=False, inner="4*hidden_size"),
            norm=Norm("layer"),
            norms=("norm_1", "norm_2"),
            layers="blocks",
            embed="wte",
            final_norm="norm_f",
        ),
        heads=CLASSIFIER_HEADS,
        prefix="transformer",
    ),
    "phi": decoder(
        uniform(
            Attention(
                bias=True,
                names=("q_proj", "k_proj", "v_proj", "dense"),
                qk_norm="head",
                qk_norm_if="qk_layernorm",
                norm=LAYER_NORM,
                norm_names=("q_layernorm", "k_layernorm"),
            ),
            MLP(),
            norm=LAYER_NORM,
            norms=("input_layernorm",),
            final_norm="final_layernorm",
        ),
        heads=heads_with(ForCausalLM=LMHead(bias=True)),
    ),
    "persimmon": decoder(
        uniform(
            Attention(
                fused="query_key_value",
                names=("", "", "", "dense"),
                bias=True,
                kv_heads=HEADS,
                dim=whole_head_dim,
                qk_norm="head",
                qk_norm_if="qk_layernorm",
                norm=LAYER_NORM,
                norm_names=("q_layernorm", "k_layernorm"),
            ),
            MLP(names=H_4H),
            norm=LAYER_NORM,
            final_norm="final_layernorm",
        )
    ),
}

# -- ModernBERT's decoder --------------------------------------------------------------------------------------------

MODERN_NORM = Norm("layer", bias="norm_bias")


@dataclass(frozen=True, kw_only=True)
class ModernAttention(Attention):
    """Attention behind a norm, which the first block lacks."""

    normed: bool

    def __call__(self, f: Fields) -> Tensors:
        norms = MODERN_NORM(f, "attn_norm", f["hidden_size"]) if self.normed else ()
        return (*norms, *super().__call__(f))


def modern_attention(normed: bool) -> Attention:
    return ModernAttention(
        normed=normed,
        prefix="attn",
        names=("q_proj", "k_proj", "v_proj", "Wo"),
        bias="attention_bias",
        kv_heads=HEADS,
        dim=whole_head_dim,
    )


def modern_transform(name: str, f: Fields) -> Tensors:
    hidden = f["hidden_size"]
    return (
        *linear(f"{name}.dense", hidden, hidden, f.flag("classifier_bias")),
        *MODERN_NORM(f, f"{name}.norm", hidden),
    )


def modern_lm_head(f: Fields, body: Body) -> Tensors:
    return (*modern_transform("lm_head", f), *LMHead(path="decoder", bias="decoder_bias")(f, body))


def modern_classifier(f: Fields, body: Body) -> Tensors:
    return (*modern_transform("head", f), *Classifier(path="classifier", bias="classifier_bias")(f, body))


MODERN: Mapping[str, Model] = {
    "modernbert-decoder": decoder(
        Decoder(
            mixers={"first": modern_attention(False), "rest": modern_attention(True)},
            mixer_schedule=leading(1, "first", "rest"),
            feed_forwards={"dense": GatedMLP(fused="Wi", names=("", "", "Wo"), bias="mlp_bias")},
            norm=MODERN_NORM,
            norms=("mlp_norm",),
            embed="embeddings.tok_embeddings",
            final_norm="final_norm",
            beside=(lambda f: MODERN_NORM(f, "embeddings.norm", f["hidden_size"]),),
        ),
        heads={
            "ForCausalLM": modern_lm_head,
            "Model": no_head,
            "ForSequenceClassification": modern_classifier,
        },
    )
}

DECODERS: Mapping[str, Model] = {**LLAMA_LINE, **GPT_LINE, **MODERN}
