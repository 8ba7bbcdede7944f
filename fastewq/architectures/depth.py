"""Models that predict a value per pixel from several layers of an image model: DPT and Depth Anything."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    WIDTH,
    Assembly,
    At,
    Convolution,
    Each,
    Expect,
    Family,
    Linear,
    Nested,
    Norm,
    Only,
    Rest,
    Under,
    When,
    labels,
    length,
    patches,
    plus,
    present,
    quotient,
    sizes,
    unless,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.image_text import upsampling
from fastewq.architectures.images import (
    FINAL_NORM,
    IMAGES,
    VIT_POOLER,
    older_vit_layer,
    patch_embedding,
    position_table,
    token,
    vit,
)
from fastewq.architectures.parts import Part, Tensors
from fastewq.architectures.swin import SWIN

FUSED = "fusion_hidden_size"
NECK = "neck_hidden_sizes"

# -- from tokens to images of several sizes, and to one ---------------------------------------------------------------


def factors(f: Fields) -> list[float]:
    """How much larger than the grid of patches each image is; below one where it is smaller."""
    values = f.value("reassemble_factors")
    if not isinstance(values, list | tuple) or not all(type(v) in (int, float) and 0 < v <= 64 for v in values):
        raise f.refuse("reassemble_factors", values, "a list of numbers from 0 to 64")
    return list(values)


def reassembly(seen: Size) -> Part:
    """A projection per image and a convolution that resizes it."""

    def part(f: Fields) -> Tensors:
        parts: list[Part] = []
        for i, (width, factor) in enumerate(zip(sizes(f, NECK), factors(f), strict=False)):
            parts.append(Convolution(f"layers.{i}.projection", width, seen, (1, 1)))
            if factor > 1:
                parts += upsampling(f"layers.{i}.resize", width, width, int(factor), int(factor))
            elif factor < 1:
                parts.append(Convolution(f"layers.{i}.resize", width, width, (3, 3)))
        return tuple(t for part in parts for t in part(f))

    return part


def neck_convolutions(f: Fields) -> Tensors:
    return tuple(
        t
        for i, width in enumerate(sizes(f, NECK))
        for t in Convolution(f"neck.convs.{i}", FUSED, width, (3, 3), bias=False)(f)
    )


def batch_normed(f: Fields) -> bool:
    return f.flag("use_batch_norm_in_fusion_residual", False)


def residual_bias(f: Fields) -> bool:
    given = f.value("use_bias_in_fusion_residual", None)
    return not batch_normed(f) if given is None else f.flag("use_bias_in_fusion_residual")


def residual(name: str) -> Part:
    return Under(
        name,
        *(Convolution(f"convolution{i}", FUSED, FUSED, (3, 3), residual_bias) for i in (1, 2)),
        When(batch_normed, Norm("batch_norm1", FUSED), Norm("batch_norm2", FUSED)),
    )


def fusion(*extra: Part) -> Part:
    return Each(
        "neck.fusion_stage.layers",
        length(NECK),
        (
            Convolution("projection", FUSED, FUSED, (1, 1)),
            residual("residual_layer1"),
            residual("residual_layer2"),
            *extra,
        ),
    )


# -- DPT --------------------------------------------------------------------------------------------------------------

DPT = vit(
    token("cls_token"),
    position_table(plus(patches, 1)),
    patch_embedding(),
    norm=FINAL_NORM,
    layer=older_vit_layer(),
    path="encoder.layer",
    head_dim=None,
)
BACKBONES: Mapping[str, Family] = {"beit": IMAGES["beit"], "dinov2": IMAGES["dinov2"], "swinv2": SWIN["swinv2"]}


def dpt_width(f: Fields) -> int:
    backbone = f.optional_sub("backbone_config")
    if backbone is not None and backbone.value("hidden_size", None) is not None:
        return backbone[WIDTH]
    return f[WIDTH]


def reads_swin(f: Fields) -> bool:
    backbone = f.optional_sub("backbone_config")
    return backbone is not None and backbone.model_type == "swinv2"


def projects_readout(f: Fields) -> bool:
    return bool(f.value("readout_type", None) == "project")


DPT_NECK = Rest(
    When(
        unless(reads_swin),
        Under("neck.reassemble_stage", reassembly(dpt_width)),
        When(
            projects_readout,
            Each(
                "neck.reassemble_stage.readout_projects",
                length(NECK),
                (Linear("0", dpt_width, lambda f: 2 * dpt_width(f)),),
            ),
        ),
    ),
    neck_convolutions,
    fusion(),
)
DPT_DEPTH = Assembly(
    Expect("is_hybrid", False),
    Only(present("backbone_config"), Nested("backbone_config", "backbone", BACKBONES, "Backbone")),
    Only(unless(present("backbone_config")), At("dpt", DPT)),
    DPT_NECK,
    Rest(
        When("add_projection", Convolution("head.projection", 256, 256, (3, 3))),
        Convolution("head.head.0", quotient(FUSED, 2), FUSED, (3, 3)),
        Convolution("head.head.2", 32, quotient(FUSED, 2), (3, 3)),
        Convolution("head.head.4", 1, 32, (1, 1)),
    ),
)


def segmenting(name: str) -> Part:
    return Under(
        name,
        Convolution("head.0", FUSED, FUSED, (3, 3), bias=False),
        Norm("head.1", FUSED),
        Convolution("head.4", labels, FUSED, (1, 1)),
    )


DPT_SEGMENTS = Assembly(
    Expect("is_hybrid", False),
    At("dpt", DPT),
    DPT_NECK,
    Rest(segmenting("head"), When("use_auxiliary_head", segmenting("auxiliary_head"))),
)

# -- Depth Anything ---------------------------------------------------------------------------------------------------

DINO: Mapping[str, Family] = {name: IMAGES[name] for name in ("dinov2", "dinov2_with_registers")}


def depth_anything(*extra: Part) -> BodyBuilder:
    return Assembly(
        Nested("backbone_config", "backbone", DINO, "Backbone"),
        Rest(
            Under("neck.reassemble_stage", reassembly("reassemble_hidden_size")),
            neck_convolutions,
            fusion(*extra),
            Convolution("head.conv1", quotient(FUSED, 2), FUSED, (3, 3)),
            Convolution("head.conv2", "head_hidden_size", quotient(FUSED, 2), (3, 3)),
            Convolution("head.conv3", 1, "head_hidden_size", (1, 1)),
        ),
    )


PROMPT = Under(
    "prompt_depth_layer",
    Convolution("convolution1", FUSED, 1, (3, 3)),
    Convolution("convolution2", FUSED, FUSED, (3, 3)),
    Convolution("convolution3", FUSED, FUSED, (3, 3)),
)
ESTIMATES = "ForDepthEstimation"
DEPTH: Mapping[str, Family] = {
    "dpt": Family(
        "DPT",
        {
            "Model": Assembly(Expect("is_hybrid", False), DPT, VIT_POOLER),
            ESTIMATES: DPT_DEPTH,
            "ForSemanticSegmentation": DPT_SEGMENTS,
        },
        ESTIMATES,
    ),
    "depth_anything": Family("DepthAnything", {ESTIMATES: depth_anything()}, ESTIMATES, ESTIMATES),
    "prompt_depth_anything": Family("PromptDepthAnything", {ESTIMATES: depth_anything(PROMPT)}, ESTIMATES, ESTIMATES),
}
