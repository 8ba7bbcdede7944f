"""LFM3-VL: a tower of convolutions over the image and attention, as the text model has them over the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    WIDTH,
    Assembly,
    Convolution,
    Family,
    Linear,
    Nested,
    Norm,
    Rest,
    Under,
    Variant,
    linears,
    quotient,
)
from fastewq.architectures.fields import Fields
from fastewq.architectures.vision.clip import vision_layers
from fastewq.architectures.vision_language.multimodal import EYE, GENERATE, MOUTH, merged_features, speaking, speaks

DIM = quotient(WIDTH, HEADS)


def queries(f: Fields) -> int:
    return f[HEADS] * f[DIM]


def keys(f: Fields) -> int:
    return f["num_key_value_heads"] * f[DIM]


def layers(f: Fields, count: int) -> Sequence[str]:
    """Anything but a convolution is attention; without a list, every second block from the third on."""
    if f.value("layer_types", None) is None:
        return ["conv" if i < 2 or i % 2 else "attention" for i in range(count)]
    return ["conv" if kind == "conv" else "attention" for kind in f.per_layer("layer_types", count)]


ATTENTION = Variant(
    (
        Linear("self_attn.q_proj", queries, WIDTH, False),
        *linears("self_attn", "k_proj v_proj", keys, WIDTH, False),
        Linear("self_attn.out_proj", WIDTH, queries, False),
        Norm("self_attn.q_norm", DIM, False),
        Norm("self_attn.k_norm", DIM, False),
    )
)
CONVOLUTION = Variant(
    (
        Linear("conv.in_proj", "3*hidden_size", WIDTH, False),
        Convolution("conv.spatial_conv", WIDTH, 1, ("conv_kernel_size", "conv_kernel_size"), bias=False),
        Linear("conv.out_proj", WIDTH, WIDTH, False),
    ),
    mixer="conv",
)
TOWER = Assembly(
    Rest(
        Linear("patch_embed", WIDTH, "in_channels*temporal_patch_size*patch_size*patch_size", False),
        Norm("embedding_norm", bias=False),
    ),
    vision_layers(
        "layers",
        *linears("feed_forward", "w1 w3", FFN, WIDTH, False),
        Linear("feed_forward.w2", WIDTH, FFN, False),
        Norm("operator_norm", bias=False),
        Norm("ffn_norm", bias=False),
        kv_heads="num_key_value_heads",
        head_dim=DIM,
        norm="rms",
        variants={"attention": ATTENTION, "conv": CONVOLUTION},
        schedule=layers,
    ),
)
EYES = {"lfm3_vl_vision": Family("Lfm3VlVision", {"Model": TOWER})}
LFM3_VL: Mapping[str, Family] = {
    **EYES,
    "lfm3_vl": Family(
        "Lfm3Vl",
        speaking(
            speaks("language_model"),
            Nested("vision_config", "vision_tower", EYES),
            Rest(
                Under(
                    "multi_modal_projector",
                    Norm("layer_norm", EYE),
                    Linear("linear_1", "projector_hidden_size", merged_features, "projector_bias"),
                    Linear("linear_2", MOUTH, "projector_hidden_size", "projector_bias"),
                )
            ),
        ),
        GENERATE,
    ),
}
