"""Inkling and Inkling 2: attention with short convolutions on keys and values and learned logits of distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise, permutations
from math import log
from operator import mul
from typing import ClassVar

from fastewq.architecture import Mixer as MixerKind
from fastewq.architecture import Tensor
from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    MAX_ENTRIES,
    WIDTH,
    Adjusted,
    Assembly,
    Embedding,
    Family,
    In,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    Under,
    linears,
    scaled,
)
from fastewq.architectures.body import Decoder, listed
from fastewq.architectures.fields import MAX_EXPERTS, Fields, Size
from fastewq.architectures.heads import NEVER_TIED, Model, decoder
from fastewq.architectures.parts import (
    GatedMLP,
    Heads,
    MixerPart,
    MixtureOfExperts,
    Part,
    Tensors,
    convolution,
    field_or,
    linear,
    norm,
    parameter,
    prefixed,
)
from fastewq.architectures.vision.clip import vision_layers
from fastewq.architectures.vision_language.multimodal import GENERATE, MOUTH, OWN_LM_HEAD, speaking
from fastewq.errors import UnsupportedArchitecture

# -- attention --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RelativeAttention(MixerPart):
    """Attention that learns how distances count, with other heads where it slides over a window."""

    kind: ClassVar[MixerKind] = "attention"

    sliding: bool

    def facts(self, f: Fields) -> Heads:
        prefix = "swa_" if self.sliding else ""
        return Heads(f[f"{prefix}{HEADS}"], f[f"{prefix}num_key_value_heads"], f[f"{prefix}head_dim"])

    def projections(self, f: Fields) -> Tensors:
        hidden, (heads, kv_heads, dim) = f[WIDTH], self.facts(f)
        distance, reach = f["d_rel"], f["sliding_window_size" if self.sliding else "rel_extent"]
        return (
            *linear("q_proj", heads * dim, hidden),
            *linear("k_proj", kv_heads * dim, hidden),
            *linear("v_proj", kv_heads * dim, hidden),
            *linear("r_proj", heads * distance, hidden),
            *linear("o_proj", hidden, heads * dim),
            *parameter("rel_logits_proj.proj", distance, reach),
        )

    def convolutions(self, f: Fields) -> Tensors:
        _, kv_heads, dim = self.facts(f)
        return tuple(
            t
            for name in ("k_sconv", "v_sconv")
            for t in convolution(f"{name}.conv1d", kv_heads * dim, 1, f["conv_kernel_size"], bias=False)
        )

    def __call__(self, f: Fields) -> Tensors:
        dim = self.facts(f).dim
        tensors = (*self.projections(f), *self.convolutions(f), *norm("q_norm", dim), *norm("k_norm", dim))
        return prefixed("self_attn", tensors)


@dataclass(frozen=True, kw_only=True)
class ClippedAttention(RelativeAttention):
    """Inkling 2's: gated, with sinks, and with queries of bounded length.

    Before it, a learned query picks among the outputs of earlier blocks, in full attention one each for queries, keys
    and values, whose convolutions there depend on the token. The first layer has none to pick from.
    """

    first: bool

    def dynamic(self, f: Fields) -> Tensors:
        _, kv_heads, dim = self.facts(f)
        kernel = f["conv_kernel_size"]
        return tuple(
            t
            for name in ("k_sconv", "v_sconv")
            for t in (
                *parameter(f"{name}.static_weight", kernel, kv_heads * dim, role="conv"),
                *linear(f"{name}.weight_proj", kv_heads * kernel, f[WIDTH]),
            )
        )

    def __call__(self, f: Fields) -> Tensors:
        hidden, (heads, _, dim) = f[WIDTH], self.facts(f)
        tensors = (
            *self.projections(f),
            *(self.convolutions(f) if self.sliding else self.dynamic(f)),
            *linear("gate_proj", heads * dim, hidden),
            *linear("sink_proj", heads, hidden),
            *parameter("q_l2_clip.scale", heads, dim),
            *parameter("rel_l2_clip.scale", heads, f["d_rel"]),
        )
        norms = ("input_layernorm",) if self.sliding else tuple(f"{x}_input_layernorm" for x in "qkv")
        picked = () if self.first else parameter("attention_input.query", *(() if self.sliding else (3,)), hidden)
        return (*prefixed("self_attn", tensors), *picked, *(t for name in norms for t in norm(name, hidden)))


def by_number(f: Fields, layers: int) -> Sequence[str]:
    """Full attention in every sixth layer, or in those that are not listed as local."""
    if f.value("local_layer_ids", None) is not None:
        local = f.indices("local_layer_ids")
        return ["hybrid_sliding" if i in local else "hybrid" for i in range(layers)]
    return ["hybrid_sliding" if (i + 1) % 6 else "hybrid" for i in range(layers)]


def kinds(f: Fields, layers: int) -> Sequence[str]:
    """Anything that does not slide is full attention."""
    names = listed("layer_types", by_number)(f, layers)
    return [name if name == "hybrid_sliding" else "hybrid" for name in names]


def first_apart(f: Fields, layers: int) -> Sequence[str]:
    names = kinds(f.replaced(local_layer_ids=None), layers)
    return [f"first_{names[0]}", *names[1:]] if layers else []


def wide_convolutions(*names: str) -> Part:
    """Short convolutions of the hidden state."""
    return lambda f: tuple(
        t for name in names for t in convolution(f"{name}.conv1d", f[WIDTH], 1, f["conv_kernel_size"], bias=False)
    )


EMBED_NORM = Norm("embed_tokens.embed_norm", bias=False)

# -- Inkling ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ScaledMLP(GatedMLP):
    def __call__(self, f: Fields) -> Tensors:
        return (*super().__call__(f), *parameter("mlp.global_scale", 1))


@dataclass(frozen=True, kw_only=True)
class RoutedAndShared(MixtureOfExperts):
    """The router weighs the shared experts, too, which are stacked like the others."""

    def __call__(self, f: Fields) -> Tensors:
        hidden, (inner, experts), always = f[WIDTH], self.facts(f), f.count("n_shared_experts", high=MAX_EXPERTS)
        tensors = (
            *linear("gate", experts + always, hidden, role="router"),
            *parameter("gate.global_scale", 1, role="router"),
            *self.stacked("experts.gate_up_proj", experts, 2 * inner, hidden, False),
            *self.stacked("experts.down_proj", experts, hidden, inner, False),
        )
        if always:
            tensors += (
                *self.stacked("shared_experts.gate_proj", always, inner, hidden, False),
                *self.stacked("shared_experts.up_proj", always, inner, hidden, False),
                *self.stacked("shared_experts.down_proj", always, hidden, inner, False),
            )
        return prefixed("mlp", tensors)


def first_dense(f: Fields, layers: int) -> Sequence[str]:
    n = min(f.count("dense_mlp_idx", 0), layers)
    return ["dense"] * n + ["sparse"] * (layers - n)


def spelled(f: Fields) -> Fields:
    """Files with a width for dense layers of its own have that of the experts as `intermediate_size`."""
    if not f.has("dense_intermediate_size"):
        return f
    return f.replaced(moe_intermediate_size=f["intermediate_size"], intermediate_size=f["dense_intermediate_size"])


TEXT1 = Decoder(
    mixers={"hybrid_sliding": RelativeAttention(sliding=True), "hybrid": RelativeAttention(sliding=False)},
    mixer_schedule=kinds,
    feed_forwards={"sparse": RoutedAndShared(experts="n_routed_experts"), "dense": ScaledMLP()},
    feed_forward_schedule=listed("mlp_layer_types", first_dense),
    extras=(wide_convolutions("attn_sconv", "mlp_sconv"),),
    beside=(EMBED_NORM,),
)


CHANNELS = "num_channels"
MAX_SCALES = 7
"""Scales of a patch to choose among where there are fewer layers; published models have 6."""
NEAR = 1e-4
"""Costs as near as this may be told apart otherwise by the library, which rounds to 32 bits."""
Scale = tuple[int, int, int]
"""(frames, side, channels) of a part of a patch."""


def prime_factors(n: int) -> list[int]:
    """In descending order."""
    factors, p = [], 2
    while p * p <= n:
        while n % p == 0:
            factors.append(p)
            n //= p
        p += 1
    return sorted([*factors, n] if n > 1 else factors, reverse=True)


def scales(side: int, frames: int, channels: int) -> list[Scale]:
    """Ever larger parts of a patch: first rows and columns grow, then frames."""
    sides, times = (accumulate(prime_factors(n), mul) for n in (side, frames))
    spatial = [(1, s, -(-s * s * channels // 64) * 64) for s in sides]
    return [(1, 1, channels), *spatial, *((t, side, side * side * channels * t * 64) for t in times)]


@lru_cache(64)
def chosen(side: int, frames: int, channels: int, layers: int) -> tuple[Scale, ...] | None:
    """The scale before the first layer and after each, as near as can be to equal ratios; None where that is unclear.

    Where there are as many scales as layers or more, each is taken once at most.
    """
    found = scales(side, frames, channels)
    places = [log(t * s * s) for t, s, _ in found]
    ideal = [log(side * side * frames * channels) * i / layers for i in range(layers + 1)]
    costs = [[abs(x - place) for place in places] for x in ideal]
    ends = (0, len(found) - 1)
    if layers >= len(found):
        near = [[j for j, cost in enumerate(row) if cost - min(row) < NEAR] for row in costs[1:-1]]
        best = {tuple(row[0] for row in near)} if all(len(row) == 1 for row in near) else set()
    elif len(found) <= MAX_SCALES:
        rows = list(permutations(range(len(found)), layers + 1))
        totals = [sum(cost[j] for cost, j in zip(costs, row, strict=True)) for row in rows]
        best = {row[1:-1] for row, total in zip(rows, totals, strict=True) if total - min(totals) < NEAR}
    else:
        best = set()
    return tuple(found[j] for j in (ends[0], *best.pop(), ends[1])) if len(best) == 1 else None


def patch_layers(f: Fields) -> Tensors:
    """Each layer joins the parts of a patch that the last one made."""
    layers = f.count("num_hidden_layers", low=1, high=MAX_ENTRIES)
    side, frames = f.count("patch_size", low=2, high=4096), f.count("temporal_patch_size", low=1, high=4096)
    steps = chosen(side, frames, f.count(CHANNELS, low=1, high=4096), layers)
    if steps is None:
        raise UnsupportedArchitecture(
            f"{f.where('num_hidden_layers')} is {layers}: how it divides patches of {frames} * {side} * {side} is not "
            "clear to the precision of the library"
        )
    tensors: list[Tensor] = []
    for i, (before, after) in enumerate(pairwise(steps)):
        seen = before[2] * (after[0] // before[0]) * (after[1] // before[1]) ** 2
        last = i == layers - 1
        tensors += linear(f"encoder_layers.{i}.projection", f["text_hidden_size"] if last else after[2], seen)
        tensors += () if last else norm(f"encoder_layers.{i}.layer_norm", after[2])
    return tuple(tensors)


def codes(f: Fields) -> int:
    return f["n_mel_bins"] * f["mel_vocab_size"]


SPOKEN = "text_hidden_size"
TEXT: Mapping[str, Model] = {
    "inkling_text": decoder(Adjusted(TEXT1, spelled), heads=NEVER_TIED),
    "inkling2_text": decoder(
        Decoder(
            mixers={
                f"{place}{kind}": ClippedAttention(sliding=kind == "hybrid_sliding", first=bool(place))
                for kind in ("hybrid_sliding", "hybrid")
                for place in ("", "first_")
            },
            mixer_schedule=first_apart,
            feed_forwards={"sparse": MixtureOfExperts(experts="n_routed_experts")},
            norms=("post_attention_layernorm",),
            extras=(
                Parameter("mlp_input.query", (WIDTH,)),
                wide_convolutions("post_attention_convolution", "post_mlp_convolution"),
            ),
            beside=(EMBED_NORM, Parameter("final_input.query", (WIDTH,))),
        ),
        heads=NEVER_TIED,
    ),
}
TOWERS = {
    "inkling_vision": Family("InklingVision", {"Model": Rest(patch_layers, Norm("final_norm", SPOKEN, False))}),
    "inkling_audio": Family(
        "InklingAudio",
        {"Model": Rest(Embedding("embed_audio_tokens.embed_audio_tokens", codes, SPOKEN), Norm("norm", SPOKEN, False))},
    ),
}


# -- Inkling 2 --------------------------------------------------------------------------------------------------------

INNER = field_or(FFN, scaled(WIDTH, "mlp_ratio"))
MERGED: Size = "spatial_merge_size*spatial_merge_size*hidden_size"
VISION2 = Assembly(
    Rest(
        Under(
            "embeddings",
            Parameter("class_embedding", (WIDTH,)),
            Parameter("cls_position_embedding", (WIDTH,)),
            Linear("patch_embedding", WIDTH, "num_channels*patch_size*patch_size", False),
            Embedding("position_embedding", "posemb_grid_size*posemb_grid_size"),
        ),
        Norm("pre_layernorm"),
        Linear("merger.linear_1", "projection_hidden_dim", MERGED, "projector_bias"),
        Linear("merger.linear_2", SPOKEN, "projection_hidden_dim", "projector_bias"),
    ),
    vision_layers(
        "layers",
        Parameter("lambda_1", (WIDTH,)),
        Parameter("lambda_2", (WIDTH,)),
        *linears("self_attn", "k_proj v_proj q_proj out_proj"),
        Linear("mlp.fc1", INNER, WIDTH),
        Linear("mlp.fc2", WIDTH, INNER),
        Norm("layernorm_before"),
        Norm("layernorm_after"),
        ffn=INNER,
    ),
)
EYES = {"inkling2_vision": Family("Inkling2Vision", {"Model": VISION2})}
SPEAKS = Nested("text_config", "language_model", TEXT)
INKLING: Mapping[str, Model] = {
    **TEXT,
    **TOWERS,
    **EYES,
    "inkling_mm_model": Family(
        "Inkling",
        speaking(
            SPEAKS,
            In("audio_config", TOWERS["inkling_audio"].builders["Model"], path="audio_tower", text_hidden_size=MOUTH),
            In(
                "vision_config", TOWERS["inkling_vision"].builders["Model"], path="vision_tower", text_hidden_size=MOUTH
            ),
            lm_head=OWN_LM_HEAD,
        ),
        GENERATE,
    ),
    "inkling2": Family(
        "Inkling2", speaking(SPEAKS, Nested("vision_config", "vision_tower", EYES), lm_head=OWN_LM_HEAD), GENERATE
    ),
}
