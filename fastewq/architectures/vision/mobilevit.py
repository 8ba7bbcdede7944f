"""MobileViT: transformers between convolutions, in the last three of five stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastewq.architectures.assembly import (
    Assembly,
    At,
    Convolution,
    Family,
    Layers,
    Linear,
    Norm,
    Rest,
    Stages,
    Under,
    entry,
    linears,
    scaled,
    sizes,
    tensors,
)
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Part, Tensors
from fastewq.architectures.vision.clip import vision_layers

WIDTH, INNER = "stage_width", scaled("stage_width", "mlp_ratio")
KERNEL = "conv_kernel_size"
DEPTHS: Final = (2, 4, 3)
PLAIN: Final = (1, 3)
"""Layers of the first two stages, which have no transformers."""
NECK: Final = "neck_hidden_sizes"


def conv(name: str, outputs: Size, inputs: Size, kernel: Size = 1) -> Part:
    weights = Convolution("convolution", outputs, inputs, (kernel, kernel), bias=False)
    return Under(name, weights, Norm("normalization", outputs))


def divisible(value: int) -> int:
    """The nearest multiple of 8 that is at most a tenth smaller."""
    near = max(8, (value + 4) // 8 * 8)
    return near + 8 if near < 0.9 * value else near


def residual(f: Fields, name: str, inputs: int, outputs: int) -> Tensors:
    """An inverted residual, as in MobileNet 2."""
    wide = divisible(round(inputs * f.number("expand_ratio")))
    parts = (conv("expand_1x1", wide, inputs), conv("conv_3x3", wide, 1, 3), conv("reduce_1x1", outputs, wide))
    return Under(name, *parts)(f)


def convolutions(f: Fields) -> Tensors:
    """All of the encoder but its transformers."""
    necks, widths = sizes(f, NECK, 6), sizes(f, "hidden_sizes", 3)
    found = [*conv("conv_stem", necks[0], "num_channels", 3)(f)]
    for i, depth in enumerate(PLAIN):
        for j in range(depth):
            found += residual(f, f"encoder.layer.{i}.layer.{j}", necks[i + 1 if j else i], necks[i + 1])
    for i, width in enumerate(widths[:3], len(PLAIN)):
        neck = necks[i + 1]
        found += residual(f, f"encoder.layer.{i}.downsampling_layer", necks[i], neck)
        parts = (
            conv("conv_kxk", neck, neck, KERNEL),
            Convolution("conv_1x1.convolution", width, neck, (1, 1), bias=False),
            Norm("layernorm", width),
            conv("conv_projection", neck, width),
            conv("fusion", neck, 2 * neck, KERNEL),
        )
        found += Under(f"encoder.layer.{i}", *parts)(f)
    return tuple(found)


def level(f: Fields, stage: int) -> Fields:
    return f.replaced(stage_width=sizes(f, "hidden_sizes", 3)[stage], stage_depth=DEPTHS[stage])


def transformers(i: int) -> Layers:
    return vision_layers(
        f"encoder.layer.{len(PLAIN) + i}.transformer.layer",
        *linears("attention.attention", "query key value", WIDTH, WIDTH, "qkv_bias"),
        Linear("attention.output.dense", WIDTH, WIDTH),
        Linear("intermediate.dense", INNER, WIDTH),
        Linear("output.dense", WIDTH, INNER),
        Norm("layernorm_before", WIDTH),
        Norm("layernorm_after", WIDTH),
        count="stage_depth",
        width=WIDTH,
        ffn=INNER,
    )


ENCODER = Assembly(Rest(convolutions), Stages(len(DEPTHS), transformers, level))
MOBILEVIT = Assembly(ENCODER, Rest(conv("conv_1x1_exp", entry(NECK, 6), entry(NECK, 5))))


def segmented(f: Fields) -> Tensors:
    """DeepLab's head: convolutions at several rates, and one of what is pooled."""
    outputs, seen = f["aspp_out_channels"], sizes(f, NECK, 6)[-2]
    rates = sizes(f, "atrous_rates", 3)
    if len(rates) != 3:
        raise f.refuse("atrous_rates", rates, "three rates")
    parts: tuple[Part, ...] = (
        conv("aspp.convs.0", outputs, seen),
        *(conv(f"aspp.convs.{i}", outputs, seen, 3) for i in (1, 2, 3)),
        conv("aspp.convs.4.conv_1x1", outputs, seen),
        conv("aspp.project", outputs, 5 * outputs),
        Convolution("classifier.convolution", labels, outputs, (1, 1)),
    )
    return tensors(f, (Under("segmentation_head", *parts),))


MOBILE: Mapping[str, Family] = {
    "mobilevit": Family(
        "MobileViT",
        {
            "Model": MOBILEVIT,
            "ForImageClassification": Assembly(
                At("mobilevit", MOBILEVIT), Rest(Linear("classifier", labels, entry(NECK, -1)))
            ),
            "ForSemanticSegmentation": Assembly(At("mobilevit", ENCODER), Rest(segmented)),
        },
    ),
}
