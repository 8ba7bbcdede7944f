"""ERNIE 4.5 VL: experts of their own for text and for images, behind attention that both share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fastewq.architecture import FeedForward as FeedForwardKind
from fastewq.architectures.assembly import (
    WIDTH,
    Assembly,
    Family,
    Linear,
    Nested,
    Norm,
    Rest,
    Under,
    sizes,
)
from fastewq.architectures.decoders.experts import MLP_TYPES, shared, shared_if, sparse
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import Model, decoder
from fastewq.architectures.parts import (
    Attention,
    FeedForwardPart,
    GatedMLP,
    MixtureOfExperts,
    Part,
    Tensors,
    parameter,
    prefixed,
)
from fastewq.architectures.vision.clip import FUSED_LAYERS
from fastewq.architectures.vision_language.multimodal import GENERATE, MOUTH, merged_features, speaking

EXPERTS = "moe_num_experts"


def widths(f: Fields) -> tuple[int, ...]:
    """Inner widths of the experts for text and of those for images."""
    return (1536, 512) if f.value("moe_intermediate_size", None) is None else sizes(f, "moe_intermediate_size", 2)


def group(kind: int) -> MixtureOfExperts:
    return MixtureOfExperts(
        experts=EXPERTS,
        inner=lambda f: widths(f)[kind],
        prefix=("text_moe", "vision_moe")[kind],
        extras=(lambda f: parameter("gate.moe_statics.e_score_correction_bias", 1, f.experts(EXPERTS), role="router"),),
    )


SHARED = shared_if("moe_num_shared_experts", shared("inner", bias="use_bias"))


@dataclass(frozen=True, kw_only=True)
class TwoKindsOfExperts(FeedForwardPart):
    kind: ClassVar[FeedForwardKind] = "experts"

    def facts(self, f: Fields) -> tuple[int, int]:
        return widths(f)[0], f.experts(EXPERTS)

    def __call__(self, f: Fields) -> Tensors:
        always = SHARED(f.replaced(inner=widths(f)[0] * f.count("moe_num_shared_experts")))
        return prefixed("mlp", (*group(0)(f), *group(1)(f), *always))


TEXT: Mapping[str, Model] = {
    "ernie4_5_vl_moe_text": decoder(
        sparse(Attention(bias="use_bias"), TwoKindsOfExperts(), GatedMLP(bias="use_bias"), MLP_TYPES)
    )
}
TOWER = Assembly(
    Rest(Linear("patch_embed.proj", WIDTH, "in_channels*patch_size*patch_size", False), Norm("ln")),
    FUSED_LAYERS,
)


def several_frames(f: Fields) -> int:
    return merged_features(f) * f.sub("vision_config")["temporal_merge_size"]


def merging(name: str, seen: Size) -> Part:
    return Under(
        name,
        Linear("fc1", merged_features, seen),
        Linear("fc2", merged_features, merged_features),
        Norm("ln", merged_features),
    )


EYES = {
    "ernie4_5_vl_moe_vision": Family(
        "Ernie4_5_VLMoeVisionTransformer",
        {"PretrainedModel": TOWER},
        "PretrainedModel",
        "PretrainedModel",
        ("Ernie4_5_VL_MoeVisionTransformerPretrainedModel",),
    )
}
RESAMPLER = Rest(
    Under(
        "resampler_model",
        merging("spatial_linear", merged_features),
        merging("temporal_linear", several_frames),
        Linear("mlp", MOUTH, merged_features),
        Norm("after_norm", MOUTH, False),
    )
)
ERNIE_VL: Mapping[str, Model] = {
    **TEXT,
    **EYES,
    "ernie4_5_vl_moe": Family(
        "Ernie4_5_VLMoe",
        speaking(
            Nested("text_config", "language_model", TEXT),
            Nested("vision_config", "vision_tower", EYES),
            RESAMPLER,
        ),
        GENERATE,
        classes=("Ernie4_5_VL_MoeForConditionalGeneration", "Ernie4_5_VL_MoeModel"),
    ),
}
