"""ConvNeXt and ConvNeXt V2: stages of convolutional blocks, each half as large and about twice as wide."""

from __future__ import annotations

from collections.abc import Mapping

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
    entry,
    labels,
    sizes,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields
from fastewq.architectures.parts import Part, Tensors
from fastewq.architectures.vision import vision_layers

FIRST, LAST = entry("hidden_sizes", 0), entry("hidden_sizes", -1)
WIDTH, INNER = "stage_width", "4*stage_width"


def level(f: Fields, stage: int) -> Fields:
    widths, depths = sizes(f, "hidden_sizes", stage + 1), sizes(f, "depths", stage + 1)
    return f.replaced(stage_width=widths[stage], stage_depth=depths[stage], before=widths[max(stage - 1, 0)])


def layers(i: int, *own: Part) -> Layers:
    return vision_layers(
        f"encoder.stages.{i}.layers",
        Convolution("dwconv", WIDTH, 1, (7, 7)),
        Norm("layernorm", WIDTH),
        Linear("pwconv1", INNER, WIDTH),
        *own,
        Linear("pwconv2", WIDTH, INNER),
        count="stage_depth",
        width=WIDTH,
        heads=0,
        ffn=INNER,
        variants={"": Variant(mixer="conv")},
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

CONVNEXT: Mapping[str, Family] = {
    "convnext": Family("ConvNext", classes("convnext", convnext(SCALE))),
    "convnextv2": Family("ConvNextV2", classes("convnextv2", convnext(RESPONSE_NORM))),
}
