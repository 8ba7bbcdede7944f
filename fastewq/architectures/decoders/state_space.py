"""Decoder-only text models with selective state spaces (Mamba, Mamba 2) in some or all blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, ClassVar

from fastewq.architecture import FeedForward as FeedForwardKind
from fastewq.architecture import Mixer as MixerKind
from fastewq.architectures.body import Decoder, Overrides, always, listed
from fastewq.architectures.decoders.dense import HEADS, LLAMA_ATTENTION
from fastewq.architectures.decoders.experts import GRANITE_EXPERTS, granite_shared
from fastewq.architectures.fields import MAX_LAYERS, Fields, Size
from fastewq.architectures.heads import NEVER_TIED, Model, decoder
from fastewq.architectures.parts import (
    MLP,
    NO_FEED_FORWARD,
    NO_MIXER,
    Attention,
    FeedForwardPart,
    GatedMLP,
    Heads,
    MixerPart,
    MixtureOfExperts,
    Option,
    Tensors,
    chosen,
    convolution,
    field_or,
    kv_heads,
    linear,
    norm,
    parameter,
    prefixed,
)

# -- state spaces -----------------------------------------------------------------------------------------------------


def times(factor: str, width: str = "hidden_size") -> Callable[[Fields], int]:
    """The integer part of a factor times a width; the factor may be a fraction."""

    def product(f: Fields) -> int:
        value = int(f.number(factor) * f[width])
        if not value:
            raise f.refuse(factor, f.value(factor), f"at least 1 / {width}")
        return value

    return product


def rank(name: str) -> Callable[[Fields], int]:
    """The rank of the time-step projection; "auto" is a sixteenth of the hidden size."""
    return lambda f: ceil(f["hidden_size"] / 16) if f.value(name) == "auto" else f[name]


EXPANDED, MAMBA_EXPANDED, STEP_RANK = times("expand"), times("mamba_expand"), rank("time_step_rank")
GIVEN_OR_EXPANDED = field_or("intermediate_size", EXPANDED)
"""A config may say the inner width itself, as Falcon Mamba's does, whose `expand` means something else."""


@dataclass(frozen=True, kw_only=True)
class Mamba(MixerPart):
    """Selective state space with one state per channel. Source: arXiv 2312.00752."""

    kind: ClassVar[MixerKind] = "state_space"

    prefix: str = "mixer"
    inner: Size = GIVEN_OR_EXPANDED
    state: str = "state_size"
    kernel: str = "conv_kernel"
    step_rank: Size = STEP_RANK
    bias: Option = "use_bias"
    conv_bias: Option = "use_conv_bias"
    normed: bool = False

    def __call__(self, f: Fields) -> Tensors:
        hidden, inner, state = f["hidden_size"], f[self.inner], f[self.state]
        step, bias = f[self.step_rank], chosen(f, self.bias)
        norms = (*norm("dt_layernorm", step), *norm("b_layernorm", state), *norm("c_layernorm", state))
        tensors = (
            *parameter("A_log", inner, state),
            *parameter("D", inner),
            *convolution("conv1d", inner, 1, f[self.kernel], bias=chosen(f, self.conv_bias)),
            *linear("in_proj", 2 * inner, hidden, bias),
            *linear("x_proj", step + 2 * state, inner),
            *linear("dt_proj", inner, step, True),
            *linear("out_proj", hidden, inner, bias),
            *(norms if self.normed else ()),
        )
        return prefixed(self.prefix, tensors)


@dataclass(frozen=True, kw_only=True)
class Mamba2(MixerPart):
    """Selective state space with heads. Source: arXiv 2405.21060."""

    kind: ClassVar[MixerKind] = "state_space"

    prefix: str = "mamba"
    inner: Size = MAMBA_EXPANDED
    heads: str = "mamba_n_heads"
    groups: str = "mamba_n_groups"
    state: str = "mamba_d_state"
    kernel: str = "mamba_d_conv"
    bias: Option = "mamba_proj_bias"
    out_bias: Option | None = None
    conv_bias: Option = "mamba_conv_bias"
    normed: Option = True

    def __call__(self, f: Fields) -> Tensors:
        hidden, inner, heads = f["hidden_size"], f[self.inner], f[self.heads]
        channels, bias = inner + 2 * f[self.groups] * f[self.state], chosen(f, self.bias)
        tensors = (
            *parameter("dt_bias", heads, role="bias"),
            *parameter("A_log", heads),
            *parameter("D", heads),
            *convolution("conv1d", channels, 1, f[self.kernel], bias=chosen(f, self.conv_bias)),
            *linear("in_proj", inner + channels + heads, hidden, bias),
            *(norm("norm", inner) if chosen(f, self.normed) else ()),
            *linear("out_proj", hidden, inner, bias if self.out_bias is None else chosen(f, self.out_bias)),
        )
        return prefixed(self.prefix, tensors)


@dataclass(frozen=True, kw_only=True)
class SideBySide(MixerPart):
    """Attention and a state space that read the same input."""

    kind: ClassVar[MixerKind] = "hybrid"

    attention: Attention
    state_space: Mamba2

    def facts(self, f: Fields) -> Heads:
        return self.attention.facts(f)

    def __call__(self, f: Fields) -> Tensors:
        return (*self.attention(f), *self.state_space(f))


JAMBA_MAMBA = Mamba(
    prefix="mamba",
    inner="mamba_expand*hidden_size",
    state="mamba_d_state",
    kernel="mamba_d_conv",
    step_rank=rank("mamba_dt_rank"),
    bias="mamba_proj_bias",
    conv_bias="mamba_conv_bias",
    normed=True,
)


def mamba_body(mixer: MixerPart) -> Decoder:
    return Decoder(
        mixers={"mamba": mixer},
        feed_forwards={"none": NO_FEED_FORWARD},
        norms=("norm",),
        embed="embeddings",
        final_norm="norm_f",
    )


def jamba_layers(f: Fields, layers: int) -> Sequence[str]:
    period, offset = f["attn_layer_period"], f.count("attn_layer_offset")
    return ["full_attention" if i % period == offset else "linear_attention" for i in range(layers)]


def jamba_experts(f: Fields, layers: int) -> Sequence[str]:
    """Experts in every `expert_layer_period`-th layer, a dense feed-forward where there is one expert."""
    period, offset = f["expert_layer_period"], f.count("expert_layer_offset")
    many = f.experts("num_experts") > 1
    return ["sparse" if many and i % period == offset else "dense" for i in range(layers)]


def bamba_layers(f: Fields, layers: int) -> Sequence[str]:
    attention = f.indices("attn_layer_indices")
    return ["full_attention" if i in attention else "linear_attention" for i in range(layers)]


JAMBA_OPTIONS: Mapping[str, Any] = {"norms": ("input_layernorm", "pre_ff_layernorm"), "final_norm": "final_layernorm"}
JAMBA_MLP = GatedMLP(prefix="feed_forward")


@dataclass(frozen=True, kw_only=True)
class GraniteSharedMLP(FeedForwardPart):
    """The feed-forward of a Granite hybrid without experts: its shared one, which every block has anyway."""

    kind: ClassVar[FeedForwardKind] = "dense"

    def facts(self, f: Fields) -> tuple[int, int]:
        return f.count("shared_intermediate_size"), 0


def granite_feed_forwards(f: Fields, layers: int) -> Sequence[str]:
    return ["experts" if f.count("num_local_experts") else "dense"] * layers


# -- Nemotron-H: blocks that only mix or only feed forward ------------------------------------------------------------

NEMOTRON_LETTERS = {"M": "linear_attention", "E": "moe", "*": "full_attention", "-": "mlp"}
NEMOTRON_DEFAULT = ("linear_attention", "moe", "full_attention", "mlp")


def nemotron_layers(f: Fields) -> Sequence[str]:
    """The part of each layer: `layers_block_type`, else the letters of `hybrid_override_pattern`."""
    kinds, pattern = f.value("layers_block_type", None), f.value("hybrid_override_pattern", None)
    if kinds is not None:
        if not isinstance(kinds, list | tuple) or len(kinds) > MAX_LAYERS:
            raise f.refuse("layers_block_type", kinds, f"a list of at most {MAX_LAYERS} strings")
        return listed("layers_block_type", always(""))(f, len(kinds))
    if pattern is None:
        return NEMOTRON_DEFAULT
    if not isinstance(pattern, str) or len(pattern) > MAX_LAYERS:
        raise f.refuse("hybrid_override_pattern", pattern, f"a string of at most {MAX_LAYERS} letters M, E, * and -")
    return [*map(NEMOTRON_LETTERS.get, pattern, pattern)]


@dataclass(frozen=True, kw_only=True)
class NemotronExperts(MixtureOfExperts):
    """Experts without a gate, by option behind a projection to a narrower width, and a wide shared one."""

    def __call__(self, f: Fields) -> Tensors:
        narrow, hidden = f.optional_size("moe_latent_size"), f["hidden_size"]
        experts = super().__call__(f)
        if narrow is None:
            return experts
        bias = f.flag("mlp_bias")
        return (
            *(t for t in experts if ".experts." not in t.name),
            *(t for t in replace_hidden(self, f) if ".experts." in t.name),
            *linear("mixer.fc1_latent_proj", narrow, hidden, bias),
            *linear("mixer.fc2_latent_proj", hidden, narrow, bias),
        )


def replace_hidden(part: MixtureOfExperts, f: Fields) -> Tensors:
    """The experts' tensors as if the hidden size were the latent one."""
    return MixtureOfExperts.__call__(replace(part, hidden="moe_latent_size"), f)


NEMOTRON_MAMBA = Mamba2(
    prefix="mixer",
    inner="mamba_num_heads*mamba_head_dim",
    heads="mamba_num_heads",
    groups="n_groups",
    state="ssm_state_size",
    kernel="conv_kernel",
    bias="use_bias",
    conv_bias="use_conv_bias",
)
NEMOTRON_OLD = {
    "mamba_n_groups": "n_groups",
    "mamba_d_conv": "conv_kernel",
    "mamba_expand": "expand",
    "mamba_conv_bias": "use_conv_bias",
}
NEMOTRON_H = Decoder(
    mixers={
        "linear_attention": NEMOTRON_MAMBA,
        "full_attention": Attention(prefix="mixer"),
        "moe": NO_MIXER,
        "mlp": NO_MIXER,
    },
    feed_forwards={
        "linear_attention": NO_FEED_FORWARD,
        "full_attention": NO_FEED_FORWARD,
        "moe": NemotronExperts(
            experts="n_routed_experts",
            prefix="mixer",
            gated=False,
            shared=MLP(
                prefix="shared_experts",
                names=("up_proj", "down_proj"),
                inner="moe_shared_expert_intermediate_size",
                bias="mlp_bias",
            ),
        ),
        "mlp": MLP(prefix="mixer", names=("up_proj", "down_proj"), bias="mlp_bias"),
    },
    mixer_schedule=lambda f, _: f.once(nemotron_layers),
    feed_forward_schedule=lambda f, _: f.once(nemotron_layers),
    count=lambda f: len(f.once(nemotron_layers)),
    norms=("norm",),
    embed="embeddings",
    final_norm="norm_f",
    renamed=NEMOTRON_OLD,
    only={"attention_bias": (False,)},
)

# -- Zamba: one attention shared by several blocks --------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ZambaMamba(MixerPart):
    kind: ClassVar[MixerKind] = "state_space"

    prefix: str = ""

    def __call__(self, f: Fields) -> Tensors:
        hidden, inner, state = f["hidden_size"], f["mamba_expand*hidden_size"], f["mamba_d_state"]
        heads, step, bias = f["n_mamba_heads"], rank("mamba_dt_rank")(f), f.flag("mamba_proj_bias")
        if inner % heads:
            raise f.refuse("n_mamba_heads", heads, f"a divisor of mamba_expand * hidden_size = {inner}")
        width = inner // heads
        tensors = (
            *parameter("mamba.A_log", heads, width, state),
            *parameter("mamba.D", heads, width),
            *convolution("mamba.conv1d", inner, 1, f["mamba_d_conv"], bias=f.flag("mamba_conv_bias")),
            *linear("mamba.in_proj", 2 * inner, hidden, bias),
            *parameter("mamba.x_proj_weight", heads, step + 2 * state, width),
            *parameter("mamba.dt_proj_weight", heads, width, step),
            *parameter("mamba.dt_proj_bias", heads, width, role="bias"),
            *linear("mamba.out_proj", hidden, inner, bias),
            *norm("input_layernorm", hidden),
        )
        return prefixed(self.prefix, tensors)


def zamba_head_dim(f: Fields) -> int:
    return f.optional_size("attention_head_dim") or 2 * f["hidden_size"] // f[HEADS]


@dataclass(frozen=True, kw_only=True)
class ZambaHybrid(MixerPart):
    """A mamba block with the shared transformer before it; only the first such block holds the shared tensors."""

    kind: ClassVar[MixerKind] = "hybrid"

    first: bool

    def facts(self, f: Fields) -> Heads:
        return Heads(f[HEADS], f["num_key_value_heads"], f[zamba_head_dim])

    def __call__(self, f: Fields) -> Tensors:
        hidden, facts = f["hidden_size"], self.facts(f)
        wide = f.optional_size("attention_hidden_size") or 2 * hidden
        own = (*linear("linear", hidden, hidden), *ZambaMamba(prefix="mamba_decoder")(f))
        if not self.first:
            return own
        transformer = (
            *linear("self_attn.q_proj", facts.heads * facts.dim, wide),
            *linear("self_attn.k_proj", facts.kv_heads * facts.dim, wide),
            *linear("self_attn.v_proj", facts.kv_heads * facts.dim, wide),
            *linear("self_attn.o_proj", hidden, facts.heads * facts.dim),
            *GatedMLP(prefix="feed_forward")(f),
            *norm("input_layernorm", wide),
            *norm("pre_ff_layernorm", hidden),
        )
        return (*own, *prefixed("shared_transf", transformer))


def zamba_layers(f: Fields, layers: int) -> Sequence[str]:
    kinds = listed("layers_block_type", zamba_default)(f, layers)
    if not f.flag("tie_word_embeddings"):  # then nothing is shared
        return ["first_hybrid" if kind == "hybrid" else kind for kind in kinds]
    first = next((i for i, kind in enumerate(kinds) if kind == "hybrid"), layers)
    return ["first_hybrid" if i == first else kind for i, kind in enumerate(kinds)]


def zamba_default(f: Fields, layers: int) -> Sequence[str]:
    period, offset = f["attn_layer_period"], f.count("attn_layer_offset")
    rest = ["hybrid" if i % period == offset else "linear_attention" for i in range(layers - 3)]
    return ["linear_attention", "linear_attention", "hybrid", *rest][:layers]


ZAMBA2_MAMBA = Mamba2(
    prefix="mamba",
    heads="n_mamba_heads",
    groups="mamba_ngroups",
    bias="add_bias_linear",
    conv_bias=True,
)
ZAMBA2_DEFAULT = "m" + "mmmmmh" * 7 + "mmmmhmmmhmm"


def zamba2_mamba(prefix: str, f: Fields) -> Tensors:
    return prefixed(prefix, (*ZAMBA2_MAMBA(f), *norm("input_layernorm", f["hidden_size"])))


@dataclass(frozen=True, kw_only=True)
class Zamba2Mamba(MixerPart):
    kind: ClassVar[MixerKind] = "state_space"

    def __call__(self, f: Fields) -> Tensors:
        return zamba2_mamba("", f)


@dataclass(frozen=True, kw_only=True)
class Zamba2Hybrid(MixerPart):
    """A mamba block behind one of a few shared transformers, which the first blocks that use them hold.

    A shared transformer has a low-rank adapter for each block that uses it: `hybrid_index` is this block's number
    among those, `hybrid_count` how many there are.
    """

    kind: ClassVar[MixerKind] = "hybrid"

    def facts(self, f: Fields) -> Heads:
        return Heads(f[HEADS], kv_heads(f), f[zamba_head_dim])

    def __call__(self, f: Fields) -> Tensors:
        hidden = f["hidden_size"]
        own = (*linear("linear", hidden, hidden), *zamba2_mamba("mamba_decoder", f))
        index, groups = f.count("hybrid_index"), f["num_mem_blocks"]
        if index >= groups and f.flag("tie_word_embeddings"):
            return own
        users = [i for i in range(f.count("hybrid_count")) if i % groups == index % groups]
        return (*own, *prefixed("shared_transformer", self.shared(f, users)))

    def shared(self, f: Fields, users: Sequence[int]) -> Tensors:
        hidden, facts, adapter = f["hidden_size"], self.facts(f), f["adapter_rank"]
        inner, bias = zamba2_inner(f), f.flag("add_bias_linear")
        wide = field_or("attention_hidden_size", "2*hidden_size")(f)
        mixed, adapted = facts.heads * facts.dim, ("q", "k", "v") if f.flag("use_shared_attention_adapter") else ()
        return (
            *linear("self_attn.q_proj", mixed, wide),
            *linear("self_attn.k_proj", facts.kv_heads * facts.dim, wide),
            *linear("self_attn.v_proj", facts.kv_heads * facts.dim, wide),
            *linear("self_attn.o_proj", hidden, mixed),
            *(
                t
                for name in adapted
                for i in users
                for t in low_rank(f"self_attn.linear_{name}_adapter_list.{i}", wide, wide, adapter)
            ),
            *linear("feed_forward.gate_up_proj", 2 * inner, hidden, bias),
            *linear("feed_forward.down_proj", hidden, inner, bias),
            *(
                t
                for i in users
                for t in low_rank(f"feed_forward.gate_up_proj_adapter_list.{i}", 2 * inner, hidden, adapter)
            ),
            *norm("input_layernorm", wide),
            *norm("pre_ff_layernorm", hidden),
        )


def low_rank(name: str, rows: int, columns: int, rank: int) -> Tensors:
    return (*linear(f"{name}.0", rank, columns), *linear(f"{name}.1", rows, rank))


def zamba2_inner(f: Fields) -> int:
    return field_or("intermediate_size", "4*hidden_size")(f)


def zamba2_default(f: Fields, layers: int) -> Sequence[str]:
    if layers != len(ZAMBA2_DEFAULT):
        raise f.refuse("num_hidden_layers", layers, f"{len(ZAMBA2_DEFAULT)}, as there are no layers_block_type")
    return ["hybrid" if letter == "h" else "linear_attention" for letter in ZAMBA2_DEFAULT]


ZAMBA2_LAYERS = listed("layers_block_type", zamba2_default)


def zamba2_hybrids(f: Fields, layers: int) -> Sequence[Overrides]:
    kinds = ZAMBA2_LAYERS(f, layers)
    numbers = {i: n for n, i in enumerate(i for i, kind in enumerate(kinds) if kind == "hybrid")}
    count = len(numbers)
    return [(("hybrid_index", numbers[i]), ("hybrid_count", count)) if i in numbers else () for i in range(layers)]


STATE_SPACE: Mapping[str, Model] = {
    "mamba": decoder(mamba_body(Mamba()), prefix="backbone"),
    "falcon_mamba": decoder(mamba_body(Mamba()), prefix="backbone"),
    "mamba2": decoder(
        mamba_body(
            Mamba2(
                prefix="mixer",
                inner=EXPANDED,
                heads="num_heads",
                groups="n_groups",
                state="state_size",
                kernel="conv_kernel",
                bias="use_bias",
                conv_bias="use_conv_bias",
            )
        ),
        prefix="backbone",
    ),
    "jamba": decoder(
        Decoder(
            mixers={"full_attention": Attention(), "linear_attention": JAMBA_MAMBA},
            mixer_schedule=jamba_layers,
            feed_forwards={
                "dense": JAMBA_MLP,
                "sparse": MixtureOfExperts(prefix="feed_forward", router="router", inner="intermediate_size"),
            },
            feed_forward_schedule=jamba_experts,
            **JAMBA_OPTIONS,
        )
    ),
    "bamba": decoder(
        Decoder(
            mixers={"full_attention": LLAMA_ATTENTION, "linear_attention": Mamba2()},
            mixer_schedule=bamba_layers,
            feed_forwards={"dense": replace(JAMBA_MLP, bias="mlp_bias")},
            **JAMBA_OPTIONS,
        )
    ),
    "falcon_h1": decoder(
        Decoder(
            mixers={
                "hybrid": SideBySide(
                    attention=LLAMA_ATTENTION,
                    state_space=Mamba2(
                        inner=field_or("mamba_d_ssm", times("mamba_expand")),
                        out_bias="projectors_bias",
                        normed="mamba_rms_norm",
                    ),
                )
            },
            feed_forwards={"dense": replace(JAMBA_MLP, bias="mlp_bias")},
            **JAMBA_OPTIONS,
        )
    ),
    "granitemoehybrid": decoder(
        Decoder(
            mixers={"full_attention": LLAMA_ATTENTION, "linear_attention": Mamba2()},
            mixer_schedule=listed("layer_types", always("linear_attention")),
            feed_forwards={
                "experts": GRANITE_EXPERTS,
                "dense": GraniteSharedMLP(),
            },
            feed_forward_schedule=granite_feed_forwards,
            extras=(granite_shared,),
        )
    ),
    "nemotron_h": decoder(NEMOTRON_H, heads=NEVER_TIED),
    "zamba2": decoder(
        Decoder(
            mixers={"linear_attention": Zamba2Mamba(), "hybrid": Zamba2Hybrid()},
            mixer_schedule=ZAMBA2_LAYERS,
            per_layer=zamba2_hybrids,
            feed_forwards={"none": NO_FEED_FORWARD},
            norms=(),
            final_norm="final_layernorm",
        )
    ),
    "zamba": decoder(
        Decoder(
            mixers={
                "linear_attention": ZambaMamba(),
                "hybrid": ZambaHybrid(first=False),
                "first_hybrid": ZambaHybrid(first=True),
            },
            mixer_schedule=zamba_layers,
            feed_forwards={"none": NO_FEED_FORWARD},
            norms=(),
            final_norm="final_layernorm",
        )
    ),
}
