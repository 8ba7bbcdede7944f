"""Decoder-only text models with linear attention, convolutions or gated recurrences in some or all blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from fastewq.architecture import Mixer as MixerKind
from fastewq.architectures.body import Decoder, every, leading, listed
from fastewq.architectures.decoders.dense import HEADS, POST_NORMS, QA_TRANSFORMER
from fastewq.architectures.decoders.experts import QWEN_SHARED, qwen_schedule, several_shared, shared_gate
from fastewq.architectures.decoders.latent import LATENT, LatentAttention
from fastewq.architectures.decoders.state_space import times
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import NEVER_TIED, LMHead, Model, decoder, heads_with
from fastewq.architectures.parts import (
    LAYER_NORM,
    MLP,
    Attention,
    GatedMLP,
    MixerPart,
    MixtureOfExperts,
    Norm,
    Part,
    Tensors,
    convolution,
    field_or,
    head_dim,
    linear,
    norm,
    parameter,
    prefixed,
)

# -- linear attention -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class GatedDeltaNet(MixerPart):
    """Linear attention with the gated delta rule. Source: arXiv 2412.06464.

    `projections` maps the widths of keys, values and value heads to the names and rows of the input matrices.
    """

    kind: ClassVar[MixerKind] = "linear_attention"

    projections: Callable[[int, int, int], Mapping[str, int]]
    norm_name: str = "norm"
    out_name: str = "out_proj"
    key_heads: Size = "linear_num_key_heads"
    value_heads: Size = "linear_num_value_heads"
    key_dim: Size = "linear_key_head_dim"
    value_dim: Size = "linear_value_head_dim"
    extras: tuple[Part, ...] = ()

    def __call__(self, f: Fields) -> Tensors:
        hidden, heads, dim = f["hidden_size"], f[self.value_heads], f[self.value_dim]
        keys, values = f[self.key_heads] * f[self.key_dim], heads * dim
        tensors = (
            *parameter("dt_bias", heads, role="bias"),
            *parameter("A_log", heads),
            *convolution("conv1d", 2 * keys + values, 1, f["linear_conv_kernel_dim"], bias=False),
            *(t for name, rows in self.projections(keys, values, heads).items() for t in linear(name, rows, hidden)),
            *norm(self.norm_name, dim),
            *linear(self.out_name, hidden, values),
        )
        return (*prefixed("linear_attn", tensors), *(t for extra in self.extras for t in extra(f)))


def qwen3_next_projections(keys: int, values: int, heads: int) -> Mapping[str, int]:
    return {"in_proj_qkvz": 2 * keys + 2 * values, "in_proj_ba": 2 * heads}


def qwen3_5_projections(keys: int, values: int, heads: int) -> Mapping[str, int]:
    return {"in_proj_qkv": 2 * keys + values, "in_proj_z": values, "in_proj_b": heads, "in_proj_a": heads}


def olmo_projections(keys: int, values: int, heads: int) -> Mapping[str, int]:
    narrow = {"a_proj": heads, "b_proj": heads}
    return {"q_proj": keys, "k_proj": keys, "v_proj": values, **narrow, "g_proj": values}


@dataclass(frozen=True, kw_only=True)
class GatedAttention(Attention):
    """Attention whose query projection also makes a gate on the output, so that it has twice the rows."""

    def __call__(self, f: Fields) -> Tensors:
        query = f"{self.prefix}.{self.names[0]}"
        return tuple(
            t._replace(shape=(2 * t.shape[0], *t.shape[1:])) if t.name.startswith(f"{query}.") else t
            for t in super().__call__(f)
        )


QWEN_GATED = GatedAttention(bias="attention_bias", qk_norm="head")
QWEN_LAYERS = listed("layer_types", every(field_or("full_attention_interval", 4), "full_attention", "linear_attention"))
QWEN_NEXT_EXPERTS = MixtureOfExperts(shared=QWEN_SHARED, extras=(shared_gate,))


def qwen_hybrid(projections: Callable[[int, int, int], Mapping[str, int]], **options: Any) -> Decoder:
    mixers: Mapping[str, MixerPart] = {
        "linear_attention": GatedDeltaNet(projections=projections),
        "full_attention": QWEN_GATED,
    }
    return Decoder(mixers=mixers, mixer_schedule=QWEN_LAYERS, **options)


@dataclass(frozen=True, kw_only=True)
class LightningAttention(MixerPart):
    """Linear attention with a fixed decay per head. Source: arXiv 2501.08313."""

    kind: ClassVar[MixerKind] = "linear_attention"

    def __call__(self, f: Fields) -> Tensors:
        hidden, width = f["hidden_size"], f[HEADS] * head_dim(f)
        tensors = (
            *norm("norm", width),
            *linear("qkv_proj", 3 * width, hidden),
            *linear("out_proj", hidden, width),
            *linear("output_gate", width, hidden),
        )
        return prefixed("self_attn", tensors)


@dataclass(frozen=True, kw_only=True)
class KimiDelta(MixerPart):
    """Delta attention with a decay per channel. Source: arXiv 2510.26692.

    The decays of the heads are stored with `decay_dims` dimensions.
    """

    kind: ClassVar[MixerKind] = "linear_attention"

    decay_dims: Literal[1, 4] = 4

    def __call__(self, f: Fields) -> Tensors:
        old = f.sub("linear_attn_config", "")
        heads, dim = (
            old.size("num_heads", f.value("linear_num_heads")),
            old.size("head_dim", f.value("linear_head_dim")),
        )
        kernel = old.size("short_conv_kernel_size", f.value("linear_conv_kernel_dim"))
        hidden, width = f["hidden_size"], heads * dim
        tensors = (
            *(t for name in ("q_proj", "k_proj", "v_proj") for t in linear(name, width, hidden)),
            *convolution("conv1d", 3 * width, 1, kernel, bias=False),
            *parameter("forget_gate.dt_bias", width, role="bias"),
            *parameter("forget_gate.A_log", *((heads,) if self.decay_dims == 1 else (1, 1, heads, 1))),
            *linear("forget_gate.f_a_proj", dim, hidden),
            *linear("forget_gate.f_b_proj", width, dim),
            *linear("b_proj", heads, hidden),
            *linear("g_a_proj", dim, hidden),
            *linear("g_b_proj", width, dim),
            *norm("o_norm", dim),
            *linear("o_proj", hidden, width),
        )
        return prefixed("self_attn", tensors)


def kimi_layers(f: Fields, layers: int) -> Sequence[str]:
    """Full attention in every fourth layer, or in those that `linear_attn_config` lists, counted from 1."""
    old = f.sub("linear_attn_config", "")
    if old.value("full_attn_layers", None) is None or old.value("kda_layers", None) is None:
        return ["full_attention" if i and i % 4 == 0 else "linear_attention" for i in range(layers)]
    full, linear_ = old.indices("full_attn_layers"), old.indices("kda_layers")
    if full | linear_ != frozenset(range(1, layers + 1)) or full & linear_:
        raise old.refuse("kda_layers", sorted(linear_), f"with full_attn_layers each layer from 1 to {layers} once")
    return ["full_attention" if i + 1 in full else "linear_attention" for i in range(layers)]


def three_quarters(f: Fields) -> int:
    return max(int(0.75 * f["hidden_size"] / field_or("linear_num_key_heads", HEADS)(f)), 1)


OLMO_KEY_DIM = field_or("linear_key_head_dim", three_quarters)


def olmo_layers(_: Fields, layers: int) -> Sequence[str]:
    kinds = ["full_attention" if i % 4 == 3 else "linear_attention" for i in range(layers)]
    return kinds if "full_attention" in kinds else [*kinds[:-1], *["full_attention"] * min(layers, 1)]


def hidden_norms(*names: str) -> tuple[Part, ...]:
    """Norms of the hidden size that only one of the mixers brings."""
    return tuple(norm_part(name) for name in names)


def norm_part(name: str) -> Part:
    return lambda f: norm(name, f["hidden_size"])


@dataclass(frozen=True, kw_only=True)
class OlmoAttention(Attention):
    """OLMo's attention with the norms of its blocks, which differ from those of the linear ones."""

    def __call__(self, f: Fields) -> Tensors:
        return (*super().__call__(f), *(t for part in hidden_norms(*POST_NORMS) for t in part(f)))


# -- convolutions and recurrences -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ShortConv(MixerPart):
    """A gated short convolution."""

    kind: ClassVar[MixerKind] = "conv"

    def __call__(self, f: Fields) -> Tensors:
        hidden, bias = f["hidden_size"], f.flag("conv_bias")
        return (
            *convolution("conv.conv", hidden, 1, f["conv_L_cache"], bias=bias),
            *linear("conv.in_proj", 3 * hidden, hidden, bias),
            *linear("conv.out_proj", hidden, hidden, bias),
        )


def lfm2_inner(f: Fields) -> int:
    """Two thirds of `intermediate_size`, scaled and rounded up, where the config asks for the adjustment."""
    inner = f.count("intermediate_size", low=2)
    if not f.flag("block_auto_adjust_ff_dim"):
        return inner
    inner = int(2 * inner / 3)
    if f.value("block_ffn_dim_multiplier") is not None:
        multiple = f["block_multiple_of"]
        inner = -(-int(f.number("block_ffn_dim_multiplier") * inner) // multiple) * multiple
    return max(inner, 1)


def lfm2_tied(f: Fields) -> bool:
    """Under the name that published files have for it, if it is there."""
    return f.flag("tie_embedding" if f.has("tie_embedding") else "tie_word_embeddings")


LFM2_HEADS = heads_with(ForCausalLM=LMHead(tied=lfm2_tied))


def lfm2_layers(f: Fields, layers: int) -> Sequence[str]:
    if f.value("full_attn_idxs", None) is None:
        return ["full_attention"] * layers
    attention = f.indices("full_attn_idxs")
    return ["full_attention" if i in attention else "conv" for i in range(layers)]


def required_layers(f: Fields, layers: int) -> Sequence[str]:
    """LFM2-MoE has no default for its layer types."""
    return f.per_layer("layer_types", layers)


LFM2_OPTIONS: Mapping[str, Any] = {"norms": ("operator_norm", "ffn_norm"), "final_norm": "embedding_norm"}
LFM2_ATTENTION = Attention(
    qk_norm="head", names=("q_proj", "k_proj", "v_proj", "out_proj"), norm_names=("q_layernorm", "k_layernorm")
)
LFM2_NAMES = ("w1", "w3", "w2")


@dataclass(frozen=True, kw_only=True)
class GatedRecurrence(MixerPart):
    """Griffin's recurrent block. Source: arXiv 2402.19427."""

    kind: ClassVar[MixerKind] = "state_space"

    def __call__(self, f: Fields) -> Tensors:
        hidden, width, heads = f["hidden_size"], field_or("lru_width", "hidden_size")(f), f[HEADS]
        block = width // heads
        if not block:
            raise f.refuse("lru_width", width, f"at least the {heads} attention heads")
        gates = tuple(
            t
            for name in ("input_gate", "recurrent_gate")
            for t in (
                *parameter(f"rg_lru.{name}_weight", heads, block, block),
                *parameter(f"rg_lru.{name}_bias", heads, block, role="bias"),
            )
        )
        tensors = (
            *linear("linear_y", width, hidden, True),
            *linear("linear_x", width, hidden, True),
            *linear("linear_out", hidden, width, True),
            *convolution("conv_1d", width, 1, f["conv1d_width"]),
            *parameter("rg_lru.recurrent_param", width),
            *gates,
        )
        return prefixed("temporal_block", tensors)


def griffin_layers(f: Fields, layers: int) -> Sequence[str]:
    """`block_types`, repeated as often as needed."""
    kinds = f.value("block_types")
    if not isinstance(kinds, list | tuple) or not kinds or not all(isinstance(k, str) for k in kinds):
        raise f.refuse("block_types", kinds, "a list of strings")
    return [kinds[i % len(kinds)] for i in range(layers)]


def half_inner(f: Fields) -> int:
    return f.count("intermediate_size", low=2) // 2


@dataclass(frozen=True, kw_only=True)
class RwkvAttention(MixerPart):
    kind: ClassVar[MixerKind] = "linear_attention"

    first: bool

    def __call__(self, f: Fields) -> Tensors:
        hidden, width = f["hidden_size"], field_or("attention_hidden_size", "hidden_size")(f)
        mixes = ("time_mix_key", "time_mix_value", "time_mix_receptance")
        return (
            *(norm("pre_ln", hidden, True) if self.first else ()),
            *parameter("attention.time_decay", width),
            *parameter("attention.time_first", width),
            *(t for name in mixes for t in parameter(f"attention.{name}", 1, 1, hidden)),
            *(t for name in ("key", "value", "receptance") for t in linear(f"attention.{name}", width, hidden)),
            *linear("attention.output", hidden, width),
        )


@dataclass(frozen=True, kw_only=True)
class RwkvFeedForward(MLP):
    def __call__(self, f: Fields) -> Tensors:
        hidden, inner = f["hidden_size"], f[self.inner]
        tensors = (
            *parameter("time_mix_key", 1, 1, hidden),
            *parameter("time_mix_receptance", 1, 1, hidden),
            *linear("key", inner, hidden),
            *linear("receptance", hidden, hidden),
            *linear("value", hidden, inner),
        )
        return prefixed("feed_forward", tensors)


@dataclass(frozen=True, kw_only=True)
class MatrixLSTM(MixerPart):
    """The mLSTM layer of xLSTM-7B. Source: arXiv 2503.13427."""

    kind: ClassVar[MixerKind] = "linear_attention"

    def __call__(self, f: Fields) -> Tensors:
        hidden, heads, bias = f["hidden_size"], f["num_heads"], f.flag("use_bias")
        keys, values = times("qk_dim_factor")(f), times("v_dim_factor")(f)
        if values % heads:
            raise f.refuse("num_heads", heads, f"a divisor of the {values} values")
        if f.value("weight_mode") == "fused":
            entry = (
                *linear("qkv_opreact", 2 * keys + 2 * values, hidden, bias),
                *linear("ifgate_preact", 2 * heads, hidden, True),
            )
        else:
            entry = (
                *linear("q", keys, hidden, bias),
                *linear("k", keys, hidden, bias),
                *linear("v", values, hidden, bias),
                *linear("ogate_preact", values, hidden, bias),
                *linear("igate_preact", heads, hidden, True),
                *linear("fgate_preact", heads, hidden, True),
            )
        tensors = (
            *entry,
            *norm("multihead_norm", values, bias),
            *linear("out_proj", hidden, values, bias),
        )
        return prefixed("mlstm_layer", tensors)


def xlstm_blocks(f: Fields) -> int:
    return f.layers("num_hidden_layers" if f.value("num_blocks", None) is None else "num_blocks")


def xlstm_inner(f: Fields) -> int:
    multiple = f["ffn_round_up_to_multiple_of"]
    return int((f["hidden_size"] * f.number("ffn_proj_factor") + multiple - 1) // multiple) * multiple


@dataclass(frozen=True, kw_only=True)
class XlstmFeedForward(GatedMLP):
    def __call__(self, f: Fields) -> Tensors:
        fused = "proj_up_gate_z" if f.value("weight_mode") == "fused" else ""
        return GatedMLP.__call__(replace(self, fused=fused), f)


@dataclass(frozen=True, kw_only=True)
class BailingDelta(MixerPart):
    """Kimi's delta attention with full-rank gates; its heads are those of attention unless the config says others."""

    kind: ClassVar[MixerKind] = "linear_attention"

    def __call__(self, f: Fields) -> Tensors:
        hidden, heads = f["hidden_size"], field_or("linear_num_heads", HEADS)(f)
        dim = field_or("linear_head_dim", "head_dim")(f)
        kernel = field_or("linear_conv_kernel_dim", "short_conv_kernel_size")(f)
        width = heads * dim
        tensors = (
            *(t for name in ("q_proj", "k_proj", "v_proj", "g_proj") for t in linear(name, width, hidden)),
            *convolution("conv1d", 3 * width, 1, kernel, bias=False),
            *parameter("forget_gate.A_log", heads),
            *parameter("forget_gate.dt_bias", width, role="bias"),
            *linear("forget_gate.f_proj", width, hidden),
            *linear("b_proj", heads, hidden),
            *norm("o_norm", dim),
            *linear("o_proj", hidden, width),
        )
        return prefixed("self_attn", tensors)


def head_gate(f: Fields) -> Tensors:
    return linear("g_proj", f[HEADS], f["hidden_size"])


def lfm3_gate(f: Fields) -> Tensors:
    return head_gate(f) if f.flag("use_attention_gate") else ()


def lfm3_layers(_: Fields, layers: int) -> Sequence[str]:
    kinds = {0: "sliding_attention", 2: "full_attention"}
    return ["conv" if i == 0 else kinds.get(i % 4, "conv") for i in range(layers)]


def lfm3_norms(f: Fields) -> tuple[str, ...]:
    after = ("post_operator_norm", "post_ffn_norm") if f.flag("use_sandwich_norm") else ()
    return ("operator_norm", "ffn_norm", *after)


LFM3_ATTENTION = Attention(bias="attention_bias", qk_norm="head", extras=(lfm3_gate,))

MINIMAX = Decoder(
    mixers={"full_attention": Attention(), "linear_attention": LightningAttention()},
    mixer_schedule=listed("layer_types", every(2, "linear_attention", "full_attention")),
    feed_forwards={"sparse": MixtureOfExperts(experts="num_local_experts", inner="intermediate_size")},
)

LINEAR: Mapping[str, Model] = {
    "qwen3_next": decoder(
        qwen_hybrid(
            qwen3_next_projections,
            feed_forwards={"dense": GatedMLP(), "sparse": QWEN_NEXT_EXPERTS},
            feed_forward_schedule=qwen_schedule,
        ),
        prefixes=QA_TRANSFORMER,
    ),
    "qwen3_5_text": decoder(qwen_hybrid(qwen3_5_projections)),
    "qwen3_5_moe_text": decoder(qwen_hybrid(qwen3_5_projections, feed_forwards={"sparse": QWEN_NEXT_EXPERTS})),
    "minimax": decoder(MINIMAX),
    "kimi_linear": decoder(
        Decoder(
            mixers={"full_attention": LATENT, "linear_attention": KimiDelta()},
            mixer_schedule=listed("layer_types", kimi_layers),
            feed_forwards={
                "dense": GatedMLP(),
                "sparse": MixtureOfExperts(experts="num_local_experts", shared=several_shared()),
            },
            feed_forward_schedule=listed(
                "mlp_layer_types", leading(field_or("first_k_dense_replace", 1), "dense", "sparse")
            ),
        ),
        heads=NEVER_TIED,
    ),
    "olmo_hybrid": decoder(
        Decoder(
            mixers={
                "full_attention": OlmoAttention(bias="attention_bias", qk_norm="full"),
                "linear_attention": GatedDeltaNet(
                    projections=olmo_projections,
                    norm_name="o_norm",
                    out_name="o_proj",
                    key_heads=field_or("linear_num_key_heads", HEADS),
                    value_heads=field_or("linear_num_value_heads", HEADS),
                    key_dim=OLMO_KEY_DIM,
                    value_dim=field_or("linear_value_head_dim", lambda f: 2 * OLMO_KEY_DIM(f)),
                    extras=hidden_norms("input_layernorm", "post_attention_layernorm"),
                ),
            },
            mixer_schedule=listed("layer_types", olmo_layers),
            norms=(),
        )
    ),
    "bailing_hybrid": decoder(
        Decoder(
            mixers={
                "full_attention": LatentAttention(low_rank_query=False, extras=(head_gate,)),
                "linear_attention": BailingDelta(),
            },
            mixer_schedule=listed("layer_types", every("layer_group_size", "full_attention", "linear_attention")),
            feed_forwards={
                "dense": GatedMLP(),
                "sparse": MixtureOfExperts(experts="num_local_experts", shared=several_shared()),
            },
            feed_forward_schedule=listed("mlp_layer_types", leading("first_k_dense_replace", "dense", "sparse")),
        ),
        heads=NEVER_TIED,
    ),
    "lfm3": decoder(
        Decoder(
            mixers={"full_attention": LFM3_ATTENTION, "sliding_attention": LFM3_ATTENTION, "conv": ShortConv()},
            mixer_schedule=listed("layer_types", lfm3_layers),
            feed_forwards={"dense": GatedMLP(prefix="feed_forward", names=LFM2_NAMES)},
            norms=lfm3_norms,
            final_norm="embedding_norm",
        )
    ),
    "lfm2": decoder(
        Decoder(
            mixers={"full_attention": LFM2_ATTENTION, "conv": ShortConv()},
            mixer_schedule=listed("layer_types", lfm2_layers),
            feed_forwards={"dense": GatedMLP(prefix="feed_forward", names=LFM2_NAMES, inner=lfm2_inner)},
            renamed={"block_ff_dim": "intermediate_size"},
            **LFM2_OPTIONS,
        ),
        heads=LFM2_HEADS,
    ),
    "lfm2_moe": decoder(
        Decoder(
            mixers={"full_attention": LFM2_ATTENTION, "conv": ShortConv()},
            mixer_schedule=listed("layer_types", required_layers),
            feed_forwards={
                "dense": GatedMLP(prefix="feed_forward", names=LFM2_NAMES),
                "sparse": MixtureOfExperts(prefix="feed_forward"),
            },
            feed_forward_schedule=leading("num_dense_layers", "dense", "sparse"),
            **LFM2_OPTIONS,
        ),
        heads=LFM2_HEADS,
    ),
    "recurrent_gemma": decoder(
        Decoder(
            mixers={
                "recurrent": GatedRecurrence(),
                "attention": Attention(prefix="temporal_block", bias="attention_bias", out_bias=True),
            },
            mixer_schedule=griffin_layers,
            feed_forwards={
                "dense": GatedMLP(prefix="mlp_block", bias=True, inner=half_inner),
            },
            norms=("temporal_pre_norm", "channel_pre_norm"),
            final_norm="final_norm",
        )
    ),
    "rwkv": decoder(
        Decoder(
            mixers={"first": RwkvAttention(first=True), "rest": RwkvAttention(first=False)},
            mixer_schedule=leading(1, "first", "rest"),
            feed_forwards={"dense": RwkvFeedForward(inner=field_or("intermediate_size", "4*hidden_size"))},
            norm=LAYER_NORM,
            norms=("ln1", "ln2"),
            layers="blocks",
            embed="embeddings",
            final_norm="ln_out",
        ),
        heads=heads_with(ForCausalLM=LMHead(path="head")),
        prefix="rwkv",
    ),
    "xlstm": decoder(
        Decoder(
            mixers={"mlstm": MatrixLSTM()},
            feed_forwards={
                "dense": XlstmFeedForward(
                    prefix="ffn",
                    names=("proj_up_gate", "proj_up", "proj_down"),
                    bias="use_bias",
                    inner=xlstm_inner,
                )
            },
            only={"use_bias": (False,)},
            norm=Norm(),
            norms=("norm_mlstm", "norm_ffn"),
            layers="blocks",
            embed="embeddings",
            embed_width=field_or("embedding_dim", "hidden_size"),
            count=xlstm_blocks,
            final_norm="out_norm",
        ),
        heads=NEVER_TIED,
        prefix="backbone",
    ),
}
