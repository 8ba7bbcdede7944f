"""ConvNeXt and ConvNeXt V2: stages of convolutional blocks, each half as large and about twice as wide."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from fastewq.architectures.assembly import (
    MAX_ENTRIES,
    Assembly,
    At,
    Convolution,
    Family,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    Stages,
    Under,
    Variant,
    When,
    adjusted,
    entry,
    length,
    sizes,
    tensors,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Part, Tensors
from fastewq.architectures.vision.clip import vision_layers

FIRST, LAST = entry("hidden_sizes", 0), entry("hidden_sizes", -1)
WIDTH, INNER = "stage_width", "4*stage_width"


def level(f: Fields, stage: int) -> Fields:
    widths, depths = sizes(f, "hidden_sizes", stage + 1), sizes(f, "depths", stage + 1)
    return f.replaced(stage_width=widths[stage], stage_depth=depths[stage], before=widths[max(stage - 1, 0)])


STAGE: Mapping[str, Any] = {
    "count": "stage_depth",
    "width": WIDTH,
    "heads": 0,
    "ffn": INNER,
    "variants": {"": Variant(mixer="conv")},
}


def layers(i: int, *own: Part) -> Layers:
    return vision_layers(
        f"encoder.stages.{i}.layers",
        Convolution("dwconv", WIDTH, 1, (7, 7)),
        Norm("layernorm", WIDTH),
        Linear("pwconv1", INNER, WIDTH),
        *own,
        Linear("pwconv2", WIDTH, INNER),
        **STAGE,
    )


def downsampling(f: Fields) -> Tensors:
    """Between stages: a norm and a strided convolution."""
    stages = f.count("num_stages", low=1, high=MAX_ENTRIES)
    parts = (Norm("0", "before"), Convolution("1", WIDTH, "before", (2, 2)))
    return tuple(
        t for i in range(1, stages) for t in Under(f"encoder.stages.{i}.downsampling_layer", *parts)(level(f, i))
    )


def convnext(*own: Part) -> Assembly:
    return Assembly(
        Rest(
            Convolution("embeddings.patch_embeddings", FIRST, "num_channels", ("patch_size", "patch_size")),
            Norm("embeddings.layernorm", FIRST),
            downsampling,
            Norm("layernorm", LAST),
        ),
        Stages("num_stages", lambda i: layers(i, *own), level),
    )


def classes(prefix: str, body: BodyBuilder) -> dict[str, BodyBuilder]:
    return {
        "Model": body,
        "ForImageClassification": Assembly(At(prefix, body), Rest(Linear("classifier", labels, LAST))),
    }


def scaled(f: Fields) -> bool:
    return f.number("layer_scale_init_value") > 0


SCALE = When(scaled, Parameter("layer_scale_parameter", (WIDTH,)))
RESPONSE_NORM = Under("grn", Parameter("weight", (1, 1, 1, INNER), "norm"), Parameter("bias", (1, 1, 1, INNER), "norm"))

# -- DINOv3's ConvNeXt: the same blocks below other names --------------------------------------------------------------


def listed(f: Fields) -> Fields:
    """With the widths and depths that the class assumes where the config has none."""
    assumed = {"hidden_sizes": [96, 192, 384, 768], "depths": [3, 3, 9, 3]}
    return f.replaced(**{name: f.value(name) or value for name, value in assumed.items()})


def dino_stage(i: int) -> Layers:
    return vision_layers(
        f"model.stages.{i}.layers",
        Parameter("gamma", (WIDTH,)),
        Convolution("depthwise_conv", WIDTH, 1, (7, 7)),
        Norm("layer_norm", WIDTH),
        Linear("pointwise_conv1", INNER, WIDTH),
        Linear("pointwise_conv2", WIDTH, INNER),
        **STAGE,
    )


def dino_downsampling(f: Fields) -> Tensors:
    parts: list[Part] = [
        Convolution("model.stages.0.downsample_layers.0", FIRST, "num_channels", (4, 4)),
        Norm("model.stages.0.downsample_layers.1", FIRST),
    ]
    for i, (before, width) in enumerate(pairwise(sizes(f, "hidden_sizes")), 1):
        parts += [
            Norm(f"model.stages.{i}.downsample_layers.0", before),
            Convolution(f"model.stages.{i}.downsample_layers.1", width, before, (2, 2)),
        ]
    return tensors(f, parts)


DINOV3_CONVNEXT = Assembly(Rest(dino_downsampling), Stages(length("hidden_sizes"), dino_stage, level))
DINOV3_CLASSES = adjusted(
    {"Model": Assembly(DINOV3_CONVNEXT, Rest(Norm("layer_norm", LAST))), "Backbone": DINOV3_CONVNEXT}, listed
)

CONVNEXT: Mapping[str, Family] = {
    "convnext": Family("ConvNext", classes("convnext", convnext(SCALE))),
    "dinov3_convnext": Family("DINOv3ConvNext", DINOV3_CLASSES),
    "convnextv2": Family("ConvNextV2", classes("convnextv2", convnext(RESPONSE_NORM))),
}
