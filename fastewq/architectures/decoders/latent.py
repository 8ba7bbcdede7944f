"""Decoder-only text models with multi-head latent attention: DeepSeek V2 to V4 and what is built on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from fastewq.architecture import Mixer as MixerKind
from fastewq.architecture import Tensor
from fastewq.architectures.body import Decoder, always, listed
from fastewq.architectures.decoders.dense import HEADS, LLAMA_MLP, uniform
from fastewq.architectures.decoders.experts import EXPERTS, FIRST_DENSE, MLP_TYPES, several_shared, sparse
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import BodyAndHeads, decoder
from fastewq.architectures.parts import (
    GatedMLP,
    Heads,
    MixerPart,
    MixtureOfExperts,
    Option,
    Part,
    Tensors,
    chosen,
    field_or,
    hidden_per_head,
    linear,
    norm,
    parameter,
    prefixed,
    present,
)


def query_dim(f: Fields) -> int:
    """The width of a query head: a part without and a part with rotary positions."""
    return f["qk_nope_head_dim"] + f["qk_rope_head_dim"]


HAS_Q_RANK = present("q_lora_rank")


@dataclass(frozen=True, kw_only=True)
class LatentAttention(MixerPart):
    """Multi-head latent attention: keys and values come from one narrow vector per token, and queries often too.

    Source: DeepSeek-V2, arXiv 2405.04434, section 2.1.
    """

    kind: ClassVar[MixerKind] = "attention"

    prefix: str = "self_attn"
    bias: Option = "attention_bias"
    low_rank_query: Option = HAS_Q_RANK
    query_dim: Size = query_dim
    value_dim: Size = "v_head_dim"
    rope_dim: Size = "qk_rope_head_dim"
    extras: tuple[Part, ...] = ()

    def facts(self, f: Fields) -> Heads:
        heads = f[HEADS]
        return Heads(heads, heads, f[self.query_dim])

    def __call__(self, f: Fields) -> Tensors:
        hidden, facts, bias = f["hidden_size"], self.facts(f), chosen(f, self.bias)
        queries, rank, values = facts.heads * facts.dim, f["kv_lora_rank"], f[self.value_dim]
        at = self.prefix
        if chosen(f, self.low_rank_query):
            q_rank = f["q_lora_rank"]
            query = (
                *linear(f"{at}.q_a_proj", q_rank, hidden, bias),
                *norm(f"{at}.q_a_layernorm", q_rank),
                *linear(f"{at}.q_b_proj", queries, q_rank),
            )
        else:
            query = linear(f"{at}.q_proj", queries, hidden)
        tensors = (
            *query,
            *linear(f"{at}.kv_a_proj_with_mqa", rank + f[self.rope_dim], hidden, bias),
            *norm(f"{at}.kv_a_layernorm", rank),
            *linear(f"{at}.kv_b_proj", facts.heads * (f["qk_nope_head_dim"] + values), rank),
            *linear(f"{at}.o_proj", hidden, facts.heads * values, bias),
        )
        for extra in self.extras:
            tensors += prefixed(at, extra(f))
        return tensors


def indexer(f: Fields) -> Tensors:
    """The small scorer that picks which tokens sparse attention reads; arXiv 2512.02556 (DeepSeek-V3.2)."""
    heads, dim, hidden = f["index_n_heads"], f["index_head_dim"], f["hidden_size"]
    return (
        *linear("indexer.wq_b", heads * dim, f["q_lora_rank"]),
        *linear("indexer.wk", dim, hidden),
        *norm("indexer.k_norm", dim, bias=True),
        *linear("indexer.weights_proj", heads, hidden),
    )


LATENT = LatentAttention()
LATENT_INDEXED = LatentAttention(low_rank_query=True, extras=(indexer,))


def glm_indexers(f: Fields, layers: int) -> Sequence[str]:
    """Which layers own an indexer ("full") and which reuse the last one's choice ("shared")."""
    pattern = f.value("index_topk_pattern", None)
    if isinstance(pattern, str):
        if len(pattern) < layers:
            raise f.refuse("index_topk_pattern", pattern, f"{layers} letters, one per layer")
        return [{"F": "full", "S": "shared"}.get(letter, letter) for letter in pattern[:layers]]
    if pattern is not None:
        return listed("index_topk_pattern", always("full"))(f, layers)
    frequency = max(f.count("index_topk_freq", 1), 1)
    offset = f.count("index_skip_topk_offset", 2)
    names = ["shared"] * layers
    for places in (slice(0, offset), slice(offset + frequency - 1, None, frequency)):
        names[places] = ["full"] * len(names[places])
    return names


# -- DeepSeek V4 -----------------------------------------------------------------------------------------------------

V4_LAYERS = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}
V4_RATES = {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128}


def v4_layers(f: Fields, layers: int) -> Sequence[str]:
    """`compress_ratios` (0, 4 or 128 tokens per entry), else two heavily compressed layers, then both in turn."""
    if f.value("compress_ratios", None) is not None:
        ratios = f.per_layer("compress_ratios", layers)
        return [V4_LAYERS.get(r, str(r)) if type(r) is int else str(r) for r in ratios]
    sparse, heavy = V4_LAYERS[4], V4_LAYERS[128]
    return [sparse if i > 2 and i % 2 else heavy for i in range(layers)]


def v4_rate(f: Fields, kind: str, old: str) -> int:
    """Tokens per compressed entry."""
    return f.sub("compress_rates", "").size(kind, V4_RATES[kind]) if f.value(old, None) is None else f[old]


def v4_compressor(prefix: str, f: Fields, dim: int, width: int, rate: int) -> Tensors:
    hidden = f["hidden_size"]
    return (
        *parameter(f"{prefix}.position_bias", rate, width),
        *linear(f"{prefix}.kv_proj", width, hidden),
        *linear(f"{prefix}.gate_proj", width, hidden),
        *norm(f"{prefix}.kv_norm", dim),
    )


def v4_heavy(f: Fields) -> Tensors:
    dim = f["head_dim"]
    return v4_compressor("compressor", f, dim, dim, v4_rate(f, "heavily_compressed_attention", "compress_rate_hca"))


def v4_sparse(f: Fields) -> Tensors:
    rate = v4_rate(f, "compressed_sparse_attention", "compress_rate_csa")
    dim, heads, index_dim = f["head_dim"], f["index_n_heads"], f["index_head_dim"]
    return (
        *v4_compressor("compressor", f, dim, 2 * dim, rate),
        *v4_compressor("compressor.indexer", f, index_dim, 2 * index_dim, rate),
        *linear("compressor.indexer.q_b_proj", heads * index_dim, f["q_lora_rank"]),
        *linear("compressor.indexer.scorer.weights_proj", heads, f["hidden_size"]),
    )


@dataclass(frozen=True, kw_only=True)
class V4Attention(MixerPart):
    """One key-value head for all, low-rank queries and outputs, and by layer a compressor of older tokens."""

    kind: ClassVar[MixerKind] = "attention"

    compressor: Part | None = None

    def facts(self, f: Fields) -> Heads:
        return Heads(f[HEADS], 1, f["head_dim"])

    def __call__(self, f: Fields) -> Tensors:
        hidden, facts, rank = f["hidden_size"], self.facts(f), f["q_lora_rank"]
        groups, width = f["o_groups"], facts.heads * facts.dim
        if width % groups:
            raise f.refuse("o_groups", groups, f"a divisor of num_attention_heads * head_dim = {width}")
        tensors = (
            *parameter("sinks", facts.heads),
            *linear("q_a_proj", rank, hidden),
            *norm("q_a_norm", rank),
            *linear("q_b_proj", width, rank),
            *linear("kv_proj", facts.dim, hidden),
            *norm("kv_norm", facts.dim),
            *linear("o_a_proj", groups * f["o_lora_rank"], width // groups),
            *linear("o_b_proj", hidden, groups * f["o_lora_rank"]),
            *(self.compressor(f) if self.compressor else ()),
        )
        return prefixed("self_attn", tensors)


def hyper_connections(f: Fields) -> Tensors:
    """The mixing weights of several residual streams, before attention and before the feed-forward."""
    streams = f["hc_mult"]
    mixes = (2 + streams) * streams
    return tuple(
        t
        for name in ("attn_hc", "ffn_hc")
        for t in (
            *parameter(f"{name}.fn", mixes, streams * f["hidden_size"]),
            *parameter(f"{name}.base", mixes),
            *parameter(f"{name}.scale", 3),
        )
    )


def hyper_head(f: Fields) -> Tensors:
    streams = f["hc_mult"]
    return (
        *parameter("hc_head.hc_fn", streams, streams * f["hidden_size"]),
        *parameter("hc_head.hc_base", streams),
        *parameter("hc_head.hc_scale", 1),
    )


V4_EXPERTS = MixtureOfExperts(
    experts="n_routed_experts", shared=GatedMLP(prefix="shared_experts", inner="moe_intermediate_size", bias="mlp_bias")
)

# -- LongCat ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TwoLatentAttentions(LatentAttention):
    """LongCat's block holds two attentions, each with a dense feed-forward behind it."""

    def __call__(self, f: Fields) -> Tensors:
        first, second = (
            LatentAttention(prefix=f"self_attn.{i}", low_rank_query=True, query_dim=self.query_dim) for i in (0, 1)
        )
        return (*first(f), *second(f))


def longcat_dense(f: Fields) -> Tensors:
    hidden = f["hidden_size"]
    return tuple(
        t
        for i in (0, 1)
        for t in (
            *GatedMLP(prefix=f"mlps.{i}", inner="ffn_hidden_size")(f),
            *norm(f"input_layernorm.{i}", hidden),
            *norm(f"post_attention_layernorm.{i}", hidden),
        )
    )


@dataclass(frozen=True, kw_only=True)
class LongcatExperts(MixtureOfExperts):
    """Experts of which some do nothing; these too have a row in the router and in `gate_up_proj`."""

    def __call__(self, f: Fields) -> Tensors:
        hidden, (inner, experts) = f["hidden_size"], self.facts(f)
        total = experts + (0 if f.value("zero_expert_num", None) is None else f.count("zero_expert_num"))
        return (
            *linear("mlp.router.classifier", total, hidden, f.flag("router_bias", False), "router"),
            Tensor("mlp.experts.gate_up_proj", (total, 2 * inner, hidden), "experts"),
            Tensor("mlp.experts.down_proj", (experts, hidden, inner), "experts"),
        )


V2_EXPERTS = replace(EXPERTS, shared=several_shared(bias="mlp_bias"))

# -- A.X K1, A.X K2 and HY 4 ------------------------------------------------------------------------------------------


def axk_schedule(f: Fields, layers: int) -> Sequence[str]:
    """Experts from layer `first_k_dense_replace` on, in every `moe_layer_freq`-th one."""
    first, step = f.count("first_k_dense_replace", 1), f.size("moe_layer_freq", 1)
    return ["sparse" if i >= first and i % step == 0 else "dense" for i in range(layers)]


def gated_norm(name: str) -> Part:
    """A norm whose output passes a gate of low rank."""

    def part(f: Fields) -> Tensors:
        hidden, rank = f["hidden_size"], f["gated_norm_rank"]
        tensors = (*norm("norm", hidden), *linear("mlp.fc1", rank, hidden), *linear("mlp.fc2", hidden, rank))
        return prefixed(name, tensors)

    return part


POST = "post_attention_layernorm"


@dataclass(frozen=True, kw_only=True)
class GatedLatentAttention(LatentAttention):
    """A.X K2's: one matrix makes queries and a gate on the output."""

    def __call__(self, f: Fields) -> Tensors:
        rank, heads = f["q_lora_rank"], f[HEADS]
        query = f"{self.prefix}.q_b_proj."
        rows = heads * (f[self.query_dim] + f[self.value_dim])
        others = (t for t in super().__call__(f) if not t.name.startswith(query))
        return (*others, *linear(f"{self.prefix}.q_gate_proj", rows, 2 * rank))


@dataclass(frozen=True, kw_only=True)
class NormedMLP(GatedMLP):
    """A dense feed-forward and the plain norm before it, where experts have a gated one."""

    def __call__(self, f: Fields) -> Tensors:
        return (*super().__call__(f), *norm(POST, f["hidden_size"]))


@dataclass(frozen=True, kw_only=True)
class GatedNormExperts(MixtureOfExperts):
    def __call__(self, f: Fields) -> Tensors:
        return (*super().__call__(f), *gated_norm(POST)(f))


def hy_gate(f: Fields) -> Tensors:
    """Sinks, and a gate on the output of attention."""
    heads = f[HEADS]
    return (*parameter("sinks", heads), *linear("gate_proj", heads * f["v_head_dim"], f["hidden_size"]))


def hy_connections(f: Fields) -> Tensors:
    streams = f["hc_mult"]
    return tuple(
        t
        for name in ("attn_hc", "ffn_hc")
        for t in (
            *parameter(f"{name}.fn", 2 * streams, streams * f["hidden_size"]),
            *parameter(f"{name}.base", 2 * streams),
            *parameter(f"{name}.scale", 2),
        )
    )


def hy_indexers(_: Fields, layers: int) -> Sequence[str]:
    return ["full" if i == 0 or (i - 1) % 4 == 0 else "shared" for i in range(layers)]


# -- Mistral Large 4 --------------------------------------------------------------------------------------------------


def softmax_scaling(f: Fields) -> Tensors:
    return tuple(t for name in ("scale", "bias") for t in parameter(f"softmax_scaling.{name}", f[HEADS]))


def unranked_indexer(f: Fields) -> Tensors:
    """An indexer that reads the hidden state, as there is no query of low rank, and scales each of its heads."""
    heads, dim, hidden = f["index_n_heads"], f["index_head_dim"], f["hidden_size"]
    tensors = (
        *linear("wq_b", heads * dim, hidden),
        *linear("wk", dim, hidden),
        *norm("k_norm", dim, bias=True),
        *linear("weights_proj", heads, hidden),
        *norm("q_input_norm", hidden, bias=True),
        *parameter("softmax_scaling.scale", heads),
        *parameter("softmax_scaling.bias", heads),
    )
    return prefixed("indexer", tensors)


@dataclass(frozen=True, kw_only=True)
class LargeLatentAttention(MixerPart):
    """Latent attention whose layers without rotary positions have as wide queries, all of them without positions.

    A layer may read the latent vectors of an earlier one; it still expands them by a matrix of its own.
    """

    kind: ClassVar[MixerKind] = "attention"

    rotary: bool
    owns_keys: bool
    indexes: bool

    def facts(self, f: Fields) -> Heads:
        return Heads(f[HEADS], f[HEADS], query_dim(f))

    def __call__(self, f: Fields) -> Tensors:
        hidden, (heads, _, queries), rank, values = f["hidden_size"], self.facts(f), f["kv_lora_rank"], f["v_head_dim"]
        rotated, bias = f["qk_rope_head_dim"] if self.rotary else 0, f.flag("attention_bias")
        keys = (
            *linear("kv_a_proj_with_mqa", rank + rotated, hidden, bias),
            *norm("kv_a_layernorm", rank),
        )
        tensors = (
            *(keys if self.owns_keys else ()),
            *linear("kv_b_proj", heads * (queries - rotated + values), rank),
            *linear("o_proj", hidden, heads * values, bias),
            *(unranked_indexer(f) if self.indexes else ()),
            *linear("q_proj", heads * queries, hidden),
            *softmax_scaling(f),
        )
        return prefixed("self_attn", tensors)


LARGE_MIXERS = {
    f"{rotary:d}{owns:d}{indexes:d}": LargeLatentAttention(rotary=rotary, owns_keys=owns, indexes=indexes)
    for rotary in (True, False)
    for owns in (True, False)
    for indexes in (True, False)
}


def key_sources(f: Fields, layers: int) -> Sequence[int]:
    """The layer whose latent vectors each layer reads: itself, or an earlier one that reads its own."""
    if f.value("kv_source_layers", None) is None:
        return range(layers)
    sources = f.per_layer("kv_source_layers", layers)
    for i, source in enumerate(sources):
        if type(source) is not int or not 0 <= source <= i or sources[source] != source:
            raise f.refuse("kv_source_layers", source, f"layer {i} itself or an earlier one with keys of its own")
    return sources


def rotary_layers(f: Fields, layers: int) -> Sequence[bool]:
    """`no_rope_layers` has 0 for a layer without rotary positions; else every fourth one has none."""
    if f.value("no_rope_layers", None) is None:
        step = f.size("no_rope_layer_interval", 4)
        return [(i + 1) % step != 0 for i in range(layers)]
    flags = f.per_layer("no_rope_layers", layers)
    if not all(flag in (0, 1) for flag in flags):
        raise f.refuse("no_rope_layers", flags, "a list of 0 and 1")
    return [bool(flag) for flag in flags]


def large_schedule(f: Fields, layers: int) -> Sequence[str]:
    rotary, sources = rotary_layers(f, layers), key_sources(f, layers)
    indexers = listed("indexer_types", glm_indexers)(f, layers)
    return [f"{rotary[i]:d}{sources[i] == i:d}{indexers[i] != 'shared':d}" for i in range(layers)]


LATENT_LINE: Mapping[str, BodyAndHeads] = {
    "deepseek_v2": decoder(sparse(LATENT, V2_EXPERTS, LLAMA_MLP, FIRST_DENSE)),
    "deepseek_v3": decoder(sparse(LATENT, EXPERTS, GatedMLP(), FIRST_DENSE)),
    "deepseek_v32": decoder(
        sparse(
            LATENT_INDEXED,
            EXPERTS,
            GatedMLP(),
            listed("mlp_layer_types", FIRST_DENSE),
            renamed={"num_experts": "n_routed_experts"},
        )
    ),
    "glm_moe_dsa": decoder(
        Decoder(
            mixers={"full": LATENT_INDEXED, "shared": LatentAttention(low_rank_query=True)},
            mixer_schedule=listed("indexer_types", glm_indexers),
            feed_forwards={"dense": GatedMLP(), "sparse": EXPERTS},
            feed_forward_schedule=listed("mlp_layer_types", FIRST_DENSE),
            renamed={"num_experts": "n_routed_experts"},
        )
    ),
    "deepseek_v4": decoder(
        Decoder(
            mixers={
                "sliding_attention": V4Attention(),
                "compressed_sparse_attention": V4Attention(compressor=v4_sparse),
                "heavily_compressed_attention": V4Attention(compressor=v4_heavy),
            },
            mixer_schedule=listed("layer_types", v4_layers),
            feed_forwards={"sparse": V4_EXPERTS},
            extras=(hyper_connections,),
            beside=(hyper_head,),
        )
    ),
    "longcat_flash": decoder(
        Decoder(
            mixers={"attention": TwoLatentAttentions(query_dim=field_or("qk_head_dim", query_dim))},
            feed_forwards={"sparse": LongcatExperts(experts="n_routed_experts", inner="expert_ffn_hidden_size")},
            norms=(),
            extras=(longcat_dense,),
            count="num_layers",
        )
    ),
    "axk1": decoder(
        sparse(
            LATENT,
            replace(EXPERTS, extras=(lambda f: norm("post_mlp_layernorm", f["hidden_size"]),)),
            GatedMLP(),
            listed("mlp_layer_types", axk_schedule),
        )
    ),
    "axk2": decoder(
        Decoder(
            mixers={"attention": GatedLatentAttention(low_rank_query=True, extras=(indexer,))},
            feed_forwards={
                "dense": NormedMLP(),
                "sparse": GatedNormExperts(experts=EXPERTS.experts, shared=EXPERTS.shared),
            },
            feed_forward_schedule=listed("mlp_layer_types", axk_schedule),
            norms=(),
            extras=(gated_norm("input_layernorm"),),
        )
    ),
    "hy_v4": decoder(
        Decoder(
            mixers={
                "full": LatentAttention(low_rank_query=True, extras=(indexer, hy_gate)),
                "shared": LatentAttention(low_rank_query=True, extras=(hy_gate,)),
            },
            mixer_schedule=listed("indexer_types", hy_indexers),
            feed_forwards={"dense": GatedMLP(), "sparse": EXPERTS},
            feed_forward_schedule=MLP_TYPES,
            extras=(hy_connections,),
            beside=(hyper_head,),
        )
    ),
    "glm4_moe_lite": decoder(sparse(LATENT, EXPERTS, GatedMLP(), MLP_TYPES)),
    "mistral4": decoder(sparse(LATENT, EXPERTS, GatedMLP(), FIRST_DENSE)),
    "mistral_large4_text": decoder(
        Decoder(
            mixers=LARGE_MIXERS,
            mixer_schedule=large_schedule,
            feed_forwards={"dense": GatedMLP(), "sparse": EXPERTS},
            feed_forward_schedule=listed("mlp_layer_types", FIRST_DENSE),
            renamed={"num_experts": "n_routed_experts"},
        )
    ),
    "youtu": decoder(uniform(LATENT, GatedMLP())),
    "minicpm3": decoder(uniform(LatentAttention(value_dim=field_or("v_head_dim", hidden_per_head)), LLAMA_MLP)),
}
