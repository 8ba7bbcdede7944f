"""Models that find masks by queries: MaskFormer and Mask2Former."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log2
from typing import Final

from fastewq.architectures.assembly import (
    Assembly,
    At,
    Convolution,
    Embedding,
    Family,
    In,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    linears,
    plus,
    sizes,
    tensors,
)
from fastewq.architectures.body import Body, BodyBuilder
from fastewq.architectures.dense_prediction.deformable import sampling
from fastewq.architectures.dense_prediction.detection import DECODER_LAYER, side_layers
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Part, Tensors
from fastewq.architectures.vision.backbones import resnet, resnet_widths, swin_stages
from fastewq.architectures.vision.swin import SWIN
from fastewq.errors import UnsupportedArchitecture

# -- what they look through -------------------------------------------------------------------------------------------


Sight = tuple[BodyBuilder, Callable[[Fields], list[int]]]
"""A backbone, and the channels of the images it gives out, the largest image first."""
RESNET: Final[Sight] = (Rest(resnet), resnet_widths)


def seen(f: Fields, sights: Mapping[str, Sight]) -> tuple[Fields, Sight]:
    nested = f.sub("backbone_config")
    if nested.model_type not in sights:
        raise UnsupportedArchitecture(
            f"{nested.where('model_type')} is {nested.model_type[:80]!r}; described are {', '.join(sights)}"
        )
    return nested, sights[nested.model_type]


def looks(sights: Mapping[str, Sight]) -> BodyBuilder:
    def build(f: Fields, path: str) -> Body:
        nested, (backbone, _) = seen(f, sights)
        return backbone(nested, path)

    return build


def channels(f: Fields, sights: Mapping[str, Sight]) -> list[int]:
    nested, (_, widths) = seen(f, sights)
    return widths(nested)


def mask_width(f: Fields) -> int:
    return f.size("mask_feature_size", 256)


def normed(name: str, rows: Size, columns: Size, kernel: int, bias: bool = False) -> Part:
    return Under(name, Convolution("0", rows, columns, (kernel, kernel), bias), Norm("1", rows))


def mask_embedder(name: str, width: Size) -> Part:
    return Under(name, Linear("0.0", width, width), Linear("1.0", width, width), Linear("2.0", mask_width, width))


# -- MaskFormer -------------------------------------------------------------------------------------------------------


def all_stages(f: Fields) -> list[int]:
    """MaskFormer looks at all stages of Swin, whatever its config says."""
    return [f["embed_dim"] << i for i in range(len(sizes(f, "depths")))]


MASKFORMER_SIGHTS: Mapping[str, Sight] = {
    "swin": (SWIN["maskformer-swin"].builders["Backbone"], all_stages),
    "resnet": RESNET,
}


def pyramid(f: Fields) -> Tensors:
    """From the smallest image up to the largest, each joined with the next."""
    *larger, smallest = channels(f, MASKFORMER_SIGHTS)
    width = "fpn_feature_size"
    parts: list[Part] = [normed("stem", width, smallest, 3)]
    for i, lateral in enumerate(reversed(larger)):
        parts += [normed(f"layers.{i}.proj", width, lateral, 1), normed(f"layers.{i}.block", width, width, 3)]
    return tensors(f, parts)


def smallest_image(f: Fields) -> int:
    return channels(f, MASKFORMER_SIGHTS)[-1]


QUERY = "decoder_config.d_model"
MASKFORMER = Assembly(
    At("pixel_level_module.encoder", looks(MASKFORMER_SIGHTS)),
    Rest(
        Under("pixel_level_module.decoder.fpn", pyramid),
        Convolution("pixel_level_module.decoder.mask_projection", mask_width, "fpn_feature_size", (3, 3)),
        Embedding("transformer_module.queries_embedder", "decoder_config.num_queries", QUERY),
        When(
            lambda f: smallest_image(f) != f[QUERY],
            Convolution("transformer_module.input_projection", QUERY, smallest_image, (1, 1)),
        ),
    ),
    In(
        "decoder_config",
        side_layers("decoder", *DECODER_LAYER),
        Rest(Norm("layernorm", "d_model")),
        path="transformer_module.decoder",
    ),
)

# -- Mask2Former: the pixels look at points, the queries at masks -----------------------------------------------------

MASK2FORMER_SIGHTS: Mapping[str, Sight] = {
    "swin": (SWIN["swin"].builders["Backbone"], lambda f: swin_stages(f)[0]),
    "resnet": RESNET,
}
LEVELS: Final = 3
"""The smallest images, which the pixels look at."""
FEATURES, WIDTH = "feature_size", "hidden_dim"


def pixel_projections(f: Fields) -> Tensors:
    """The smallest image first; larger ones than the three are joined at the end."""
    widths, strides = channels(f, MASK2FORMER_SIGHTS), sizes(f, "feature_strides", LEVELS)
    smallest = enumerate(reversed(widths[-LEVELS:]))
    parts: list[Part] = [normed(f"input_projections.{i}", FEATURES, width, 1, bias=True) for i, width in smallest]
    joined = int(log2(min(strides[-LEVELS:])) - log2(f["common_stride"]))
    for i, width in enumerate(widths[: max(joined, 0)], 1):
        parts += [normed(f"adapter_{i}", FEATURES, width, 1), normed(f"layer_{i}", FEATURES, FEATURES, 3)]
    return tensors(f, parts)


def feed_forward(inner: str, width: str) -> tuple[Part, ...]:
    return (Linear("fc1", inner, width), Linear("fc2", width, inner), Norm("final_layer_norm", width))


def query_projections(f: Fields) -> Tensors:
    if f[FEATURES] == f[WIDTH] and not f.flag("enforce_input_projection"):
        return ()
    return tensors(f, (Convolution(f"input_projections.{i}", WIDTH, FEATURES, (1, 1)) for i in range(LEVELS)))


MASK2FORMER = Assembly(
    At("pixel_level_module.encoder", looks(MASK2FORMER_SIGHTS)),
    At(
        "pixel_level_module.decoder",
        Rest(
            pixel_projections,
            Parameter("level_embed", (LEVELS, FEATURES), "embedding"),
            Convolution("mask_projection", mask_width, FEATURES, (1, 1)),
        ),
        Layers(
            "encoder.layers",
            (
                sampling("self_attn", "num_attention_heads", "4", str(LEVELS), FEATURES),
                Norm("self_attn_layer_norm", FEATURES),
                *feed_forward("encoder_feedforward_dim", FEATURES),
            ),
            count="encoder_layers",
            name="pixels",
            role="vision",
            width=FEATURES,
            ffn="encoder_feedforward_dim",
        ),
    ),
    At(
        "transformer_module",
        Rest(
            Embedding("queries_embedder", "num_queries", WIDTH),
            Embedding("queries_features", "num_queries", WIDTH),
            Embedding("level_embed", LEVELS, WIDTH),
            query_projections,
            Norm("decoder.layernorm", WIDTH),
            mask_embedder("decoder.mask_predictor.mask_embedder", WIDTH),
        ),
        Layers(
            "decoder.layers",
            (
                *linears("self_attn", "k_proj v_proj q_proj out_proj", WIDTH, WIDTH),
                Norm("self_attn_layer_norm", WIDTH),
                Parameter("cross_attn.in_proj_weight", (f"3*{WIDTH}", WIDTH)),
                Parameter("cross_attn.in_proj_bias", (f"3*{WIDTH}",), "bias"),
                Linear("cross_attn.out_proj", WIDTH, WIDTH),
                Norm("cross_attn_layer_norm", WIDTH),
                *feed_forward("dim_feedforward", WIDTH),
            ),
            count=lambda f: f.count("decoder_layers", low=1) - 1,
            name="decoder",
            role="vision",
            width=WIDTH,
            ffn="dim_feedforward",
        ),
    ),
)


def predicting(body: BodyBuilder, width: Size, *heads: Part) -> BodyBuilder:
    """One class more than there are labels: nothing."""
    return Assembly(At("model", body), Rest(Linear("class_predictor", plus(labels, 1), width), *heads))


INSTANCES, UNIVERSAL = "ForInstanceSegmentation", "ForUniversalSegmentation"
MASKS: Mapping[str, Family] = {
    "maskformer": Family(
        "MaskFormer",
        {"Model": MASKFORMER, INSTANCES: predicting(MASKFORMER, QUERY, mask_embedder("mask_embedder", QUERY))},
        INSTANCES,
    ),
    "mask2former": Family("Mask2Former", {"Model": MASK2FORMER, UNIVERSAL: predicting(MASK2FORMER, WIDTH)}, UNIVERSAL),
}
