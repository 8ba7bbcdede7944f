"""ViTDet: a plain vision transformer that detectors look through, with attention in windows."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    WIDTH,
    Assembly,
    Convolution,
    Family,
    Norm,
    Rest,
    Under,
    Variant,
    When,
    pair,
    quotient,
    scaled,
)
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Part
from fastewq.architectures.vision.clip import PATCH_KERNEL, fused_layer, vision_layers
from fastewq.architectures.vision.images import position_table
from fastewq.architectures.vision.towers import got_positions

INNER = scaled(WIDTH, "mlp_ratio")


def first_positions(f: Fields) -> int:
    """Of the images that the tower was first trained on, and a class token's."""
    (height, width), (rows, columns) = pair(f, "pretrain_image_size"), pair(f, "patch_size")
    return (height // rows) * (width // columns) + 1


HALF = quotient(WIDTH, 2)


def normed(i: int, rows: Size, columns: Size, kernel: int) -> tuple[Part, ...]:
    return (Convolution(f"conv{i}", rows, columns, (kernel, kernel), bias=False), Norm(f"norm{i}", rows))


RESIDUAL = Under("residual", *normed(1, HALF, WIDTH, 1), *normed(2, HALF, HALF, 3), *normed(3, WIDTH, HALF, 1))


def relative(window: bool) -> tuple[Part, ...]:
    return got_positions(window, "attention", "use_relative_position_embeddings")


def schedule(f: Fields, count: int) -> list[str]:
    windowed = f.indices("window_block_indices") if f.count("window_size") else frozenset()
    residual = f.indices("residual_block_indices")
    return [
        ("window" if i in windowed else "whole") + (" and convolutions" if i in residual else "") for i in range(count)
    ]


BODY = Assembly(
    Rest(
        When("use_absolute_position_embeddings", position_table(first_positions)),
        Convolution("embeddings.projection", WIDTH, "num_channels", PATCH_KERNEL),
    ),
    vision_layers(
        "encoder.layer",
        *fused_layer("attention", "qkv_bias", ffn=INNER),
        ffn=INNER,
        variants={
            "window": Variant(relative(True)),
            "whole": Variant(relative(False)),
            "window and convolutions": Variant((*relative(True), RESIDUAL)),
            "whole and convolutions": Variant((*relative(False), RESIDUAL)),
        },
        schedule=schedule,
    ),
)
VITDET: Mapping[str, Family] = {"vitdet": Family("VitDet", {"Model": BODY, "Backbone": BODY})}
