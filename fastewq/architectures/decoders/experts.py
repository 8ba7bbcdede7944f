"""Mixtures of experts: schedules that say which layers have them, and parts that single architectures have.

Experts are stacked as the transformers library 5 stores them. The usual keys of feed-forwards are those of its
`mlp_layer_types`: "dense" and "sparse".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any, ClassVar

from fastewq.architecture import FeedForward as FeedForwardKind
from fastewq.architecture import Mixer as MixerKind
from fastewq.architecture import Tensor
from fastewq.architectures.body import Decoder, Overrides, Schedule, always, every, leading, listed
from fastewq.architectures.decoders.dense import (
    HEADS,
    LLAMA_MLP,
)
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import (
    Attention,
    FeedForwardPart,
    GatedMLP,
    Heads,
    MixerPart,
    MixtureOfExperts,
    Tensors,
    head_dim,
    kv_heads,
    linear,
    norm,
    parameter,
)
from fastewq.errors import UnsupportedArchitecture


def sparse(
    attention: MixerPart,
    experts: FeedForwardPart,
    dense: FeedForwardPart | None = None,
    schedule: Schedule | None = None,
    **options: Any,
) -> Decoder:
    """A decoder with experts in every layer, or where the schedule says "sparse"."""
    parts = {"sparse": experts} if dense is None else {"dense": dense, "sparse": experts}
    return Decoder(mixers={"attention": attention}, feed_forwards=parts, feed_forward_schedule=schedule, **options)


def shared(inner: Size, prefix: str = "shared_experts", **options: Any) -> GatedMLP:
    return GatedMLP(prefix=prefix, inner=inner, **options)


def several_shared(
    count: str = "n_shared_experts", inner: str = "moe_intermediate_size", **options: Any
) -> FeedForwardPart:
    """Shared experts as wide as `inner`, in one feed-forward; none where their count is 0 or null."""
    return shared_if(count, shared(f"{count}*{inner}", **options))


def shared_if(count: str, part: FeedForwardPart) -> FeedForwardPart:
    """A part that exists where a count is above zero."""
    return OptionalPart(count=count, part=part)


@dataclass(frozen=True, kw_only=True)
class OptionalPart(FeedForwardPart):
    """A feed-forward that exists where the count in a field is above zero (null counts as zero)."""

    count: str
    part: FeedForwardPart

    def __call__(self, f: Fields) -> Tensors:
        return self.part(f) if f.value(self.count, None) is not None and f.count(self.count) else ()


def sinks(f: Fields) -> Tensors:
    """A learned logit per head that takes attention nowhere."""
    return parameter("sinks", f[HEADS])


MLP_TYPES = listed("mlp_layer_types", leading(1, "dense", "sparse"))
FIRST_DENSE = leading("first_k_dense_replace", "dense", "sparse")


def qwen_schedule(f: Fields, layers: int) -> Sequence[str]:
    """Experts in every `decoder_sparse_step`-th layer except those in `mlp_only_layers`; none where there are none."""
    if not f.count("num_experts"):
        return ["dense"] * layers
    step, dense = f["decoder_sparse_step"], f.indices("mlp_only_layers")
    return ["sparse" if i not in dense and (i + 1) % step == 0 else "dense" for i in range(layers)]


def ernie_schedule(f: Fields, layers: int) -> Sequence[str]:
    """Experts in every `moe_layer_interval`-th layer from a first to a last one; -1 means the last layer."""
    step, start = f["moe_layer_interval"], f.count("moe_layer_start_index", low=-1)
    end = f.count("moe_layer_end_index", low=-1)
    end = layers - 1 if end == -1 else end
    return ["sparse" if (i + 1) % step == 0 and start <= i <= end else "dense" for i in range(layers)]


def llama4_schedule(f: Fields, layers: int) -> Sequence[str]:
    """Experts in the layers of `moe_layers`, else in every `interleave_moe_layer_step`-th one."""
    if f.value("moe_layers", None) is None:
        return every("interleave_moe_layer_step", "sparse", "dense")(f, layers)
    chosen = f.indices("moe_layers")
    return ["sparse" if i in chosen else "dense" for i in range(layers)]


def granite_shared(f: Fields) -> Tensors:
    width = f.count("shared_intermediate_size")
    if not width:
        return ()
    hidden = f["hidden_size"]
    return (
        *linear("shared_mlp.input_linear", 2 * width, hidden),
        *linear("shared_mlp.output_linear", hidden, width),
    )


GRANITE_EXPERTS = MixtureOfExperts(
    experts="num_local_experts", inner="intermediate_size", prefix="block_sparse_moe", router="router"
)
GPT_OSS_ATTENTION = Attention(bias="attention_bias", extras=(sinks,))


@dataclass(frozen=True, kw_only=True)
class OneShared(GatedMLP):
    """One shared expert; nothing is left of one that is 0 wide."""

    inner: str = "shared_expert_intermediate_size"
    prefix: str = "shared_experts"

    def __call__(self, f: Fields) -> Tensors:
        return super().__call__(f) if f.count(self.inner) else ()


QWEN_SHARED = OneShared(prefix="shared_expert")


def shared_gate(f: Fields) -> Tensors:
    """The gate that weighs the shared expert."""
    return linear("shared_expert_gate", 1, f["hidden_size"], role="router")


@dataclass(frozen=True, kw_only=True)
class JetMoeAttention(MixerPart):
    """Query and output projections chosen by a router; one key-value projection for all."""

    kind: ClassVar[MixerKind] = "attention"

    def facts(self, f: Fields) -> Heads:
        keys = f["num_key_value_heads"]
        return Heads(keys * f["num_experts_per_tok"], keys, f["kv_channels"])

    def __call__(self, f: Fields) -> Tensors:
        hidden, keys = f["hidden_size"], f["num_key_value_heads"] * f["kv_channels"]
        experts, inside = f.experts("num_local_experts"), "self_attention.experts"
        return (
            *parameter(f"{inside}.bias", hidden, role="bias"),
            Tensor(f"{inside}.input_linear.weight", (experts, keys, hidden), "experts"),
            Tensor(f"{inside}.output_linear.weight", (experts, hidden, keys), "experts"),
            *linear(f"{inside}.router.layer", experts, hidden, role="router"),
            *linear("self_attention.kv_proj", 2 * keys, hidden),
        )


@dataclass(frozen=True, kw_only=True)
class JetMoeExperts(MixtureOfExperts):
    def __call__(self, f: Fields) -> Tensors:
        hidden, (inner, experts) = f["hidden_size"], self.facts(f)
        return (
            *parameter("mlp.bias", hidden, role="bias"),
            Tensor("mlp.input_linear.weight", (experts, 2 * inner, hidden), "experts"),
            Tensor("mlp.output_linear.weight", (experts, hidden, inner), "experts"),
            *linear("mlp.router.layer", experts, hidden, role="router"),
        )


def mimo_attention(sliding: bool) -> Attention:
    """Sliding layers have sinks and twice the key-value heads."""
    return Attention(
        bias="attention_bias",
        out_bias=False,
        kv_heads="2*num_key_value_heads" if sliding else "num_key_value_heads",
        value_dim="v_head_dim",
        extras=(sinks,) if sliding else (),
    )


def mimo_layers(f: Fields, layers: int) -> Sequence[str]:
    """`hybrid_layer_pattern` (1: sliding), else full attention in the first and every sixth layer."""
    if f.value("hybrid_layer_pattern", None) is None:
        return ["full_attention" if i == 0 or (i + 1) % 6 == 0 else "sliding_attention" for i in range(layers)]
    return ["sliding_attention" if x else "full_attention" for x in f.per_layer("hybrid_layer_pattern", layers)]


def mimo_experts(f: Fields, layers: int) -> Sequence[str]:
    """`moe_layer_freq` (1: experts), else experts in all but the first layer."""
    if not isinstance(f.value("moe_layer_freq", None), list):
        return leading(1, "dense", "sparse")(f, layers)
    return ["sparse" if x else "dense" for x in f.per_layer("moe_layer_freq", layers)]


def laguna_heads(f: Fields, layers: int) -> Sequence[Overrides]:
    """Laguna's layers may differ in their number of heads."""
    if f.value("num_attention_heads_per_layer", None) is None:
        return [()] * layers
    return [((HEADS, heads),) for heads in f.sizes("num_attention_heads_per_layer", layers)]


def laguna_gate(f: Fields) -> Tensors:
    per_head = f.value("gating") is True or f.value("gating") == "per-head"
    return linear("g_proj", f[HEADS] * (1 if per_head else head_dim(f)), f["hidden_size"])


@dataclass(frozen=True, kw_only=True)
class DbrxAttention(MixerPart):
    """DBRX keeps its norms beside the attention and its key-value heads in a nested config."""

    kind: ClassVar[MixerKind] = "attention"

    def facts(self, f: Fields) -> Heads:
        return Heads(f[HEADS], f.sub("attn_config", "").size("kv_n_heads", 1), f.divided("hidden_size", HEADS))

    def __call__(self, f: Fields) -> Tensors:
        facts, hidden = self.facts(f), f["hidden_size"]
        inside = "norm_attn_norm"
        return (
            *linear(f"{inside}.attn.Wqkv", hidden + 2 * facts.kv_heads * facts.dim, hidden),
            *linear(f"{inside}.attn.out_proj", hidden, hidden),
            *norm(f"{inside}.norm_1", hidden),
            *norm(f"{inside}.norm_2", hidden),
        )


@dataclass(frozen=True, kw_only=True)
class DbrxExperts(FeedForwardPart):
    """All experts side by side in three matrices of (experts * inner, hidden)."""

    kind: ClassVar[FeedForwardKind] = "experts"

    def facts(self, f: Fields) -> tuple[int, int]:
        ffn = f.sub("ffn_config", "")
        return ffn.size("ffn_hidden_size", 3584), ffn.experts("moe_num_experts", 4)

    def __call__(self, f: Fields) -> Tensors:
        hidden, (inner, experts) = f["hidden_size"], self.facts(f)
        stacked = ("w1", "v1", "w2")
        return (
            *linear("ffn.router.layer", experts, hidden, role="router"),
            *(Tensor(f"ffn.experts.mlp.{name}", (experts * inner, hidden), "experts") for name in stacked),
        )


def m3_indexer(f: Fields) -> Tensors:
    """MiniMax M3's scorer of key blocks; old configs nest its sizes in `sparse_attention_config`."""
    old = f.sub("sparse_attention_config", "")
    heads = old.size("sparse_num_index_heads", f.value("index_n_heads"))
    dim, hidden = old.size("sparse_index_dim", f.value("index_head_dim")), f["hidden_size"]
    return (
        *linear("indexer.q_proj", heads * dim, hidden),
        *linear("indexer.k_proj", dim, hidden),
        *norm("indexer.q_norm", dim),
        *norm("indexer.k_norm", dim),
    )


def m3_layers(f: Fields, layers: int) -> Sequence[str]:
    old = f.sub("sparse_attention_config", "")
    if old.value("sparse_attention_freq", None) is None:
        return ["full_attention"] * layers
    pattern = old.per_layer("sparse_attention_freq", layers)
    if old.value("sparse_disable_index_value", None) is not None:
        disabled = old.per_layer("sparse_disable_index_value", layers)
        if any(on and not off for on, off in zip(pattern, disabled, strict=True)):
            raise UnsupportedArchitecture(
                f"{old.where('sparse_disable_index_value')} is 0 in a sparse layer; no layout is known"
            )
    return ["minimax_m3_sparse" if on else "full_attention" for on in pattern]


def m3_experts(f: Fields, layers: int) -> Sequence[str]:
    if f.value("moe_layer_freq", None) is None:
        return ["sparse"] * layers
    return ["sparse" if on else "dense" for on in f.per_layer("moe_layer_freq", layers)]


def step_experts(f: Fields, layers: int) -> Sequence[str]:
    """`moe_layers_enum`, a list or a string of layer numbers with commas; else experts from the fourth layer on."""
    value = f.value("moe_layers_enum", None)
    if isinstance(value, str):
        if not all(part.strip().isdecimal() for part in value.split(",") if part.strip()):
            raise f.refuse("moe_layers_enum", value, "layer numbers with commas")
        chosen = frozenset(int(part) for part in value.split(",") if part.strip())
    else:
        chosen = frozenset(range(3, layers)) if value is None else f.indices("moe_layers_enum")
    return ["sparse" if i in chosen else "dense" for i in range(layers)]


def step_heads(f: Fields, layers: int) -> Sequence[Overrides]:
    """Sliding layers may have another number of heads."""
    kinds = listed("layer_types", always("full_attention"))(f, layers)
    heads = f.optional_size("num_sliding_attention_heads")
    if heads is None and f.value("attention_other_setting", None) is not None:
        heads = f.sub("attention_other_setting", "").optional_size("num_attention_heads")
    other = ((HEADS, heads),) if heads else ()
    return [other if kind == "sliding_attention" else () for kind in kinds]


EXPERTS = MixtureOfExperts(experts="n_routed_experts", shared=several_shared())
LLAMA4_MLP = GatedMLP(prefix="feed_forward", inner="intermediate_size_mlp")


def beam_gate(f: Fields) -> Tensors:
    """A gate on the output of attention and a bias per head for it."""
    heads = f[HEADS]
    return (
        *parameter("gate_bias", heads, role="bias"),
        *linear("gate_proj", heads * head_dim(f), f["hidden_size"]),
    )


def flint_schedule(f: Fields, layers: int) -> Sequence[str]:
    """As Qwen's, with the first two layers dense where nothing is said."""
    return qwen_schedule(
        f if f.value("mlp_only_layers", None) is not None else f.replaced(mlp_only_layers=[0, 1]), layers
    )


def dynamic_mask(f: Fields) -> Tensors:
    """Doge's mask on the attention weights, computed from the values."""
    keys = kv_heads(f)
    return (*parameter("A", keys), *linear("dt_proj", keys, keys * head_dim(f), f.flag("attention_bias")))


def doge_residuals(f: Fields) -> Tensors:
    hidden = f["hidden_size"]
    return (*parameter("input_residual", hidden), *parameter("post_attention_residual", hidden))


@dataclass(frozen=True, kw_only=True)
class DogeExperts(FeedForwardPart):
    """A dense feed-forward beside a table of experts that are one vector each."""

    kind: ClassVar[FeedForwardKind] = "experts"

    def facts(self, f: Fields) -> tuple[int, int]:
        return f["intermediate_size"], f.experts("num_experts")

    def __call__(self, f: Fields) -> Tensors:
        hidden, experts = f["hidden_size"], f.experts("num_experts")
        return (
            *LLAMA_MLP(f),
            *linear("mlp.router_gate", 2 * isqrt(experts), hidden, role="router"),
            Tensor("mlp.down_embed.weight", (experts, hidden), "embedding"),
            Tensor("mlp.up_embed.weight", (experts, hidden), "embedding"),
        )


def doge_experts(f: Fields, layers: int) -> Sequence[str]:
    return ["sparse" if f.flag("is_moe") else "dense"] * layers


def privacy_labels(f: Fields) -> int:
    """The 33 labels of the released filter, unless the config names others."""
    named = f.value("id2label", None)
    return len(named) if isinstance(named, Mapping) and named else f.size("num_labels", 33)


GPT_OSS = sparse(
    GPT_OSS_ATTENTION,
    MixtureOfExperts(
        experts="num_local_experts",
        inner="intermediate_size",
        router="router",
        router_bias=True,
        transposed=True,
        bias=True,
    ),
)
