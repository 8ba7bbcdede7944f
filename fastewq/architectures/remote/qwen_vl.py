"""The tower that Qwen's first models see with: Qwen/Qwen-VL, visual.py. That code is never run."""

from __future__ import annotations

from math import isqrt

from fastewq.architectures.assembly import (
    Assembly,
    Convolution,
    Linear,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    scaled,
)
from fastewq.architectures.body import Body
from fastewq.architectures.fields import Fields
from fastewq.architectures.parts import join
from fastewq.architectures.vision.clip import vision_layers

POSITIONS = 256
"""Of a grid of 16 by 16, from which others are interpolated."""


def queries(f: Fields) -> int:
    return isqrt(f.size("n_queries", 256)) ** 2


def narrower(f: Fields) -> bool:
    return f["width"] != f["output_dim"]


RESAMPLER = Under(
    "attn_pool",
    Parameter("pos_embed", (queries, "output_dim"), "embedding"),
    Parameter("query", (queries, "output_dim")),
    When(narrower, Linear("kv_proj", "output_dim", "width", False)),
    Parameter("attn.in_proj_weight", ("3*output_dim", "output_dim"), "linear"),
    Parameter("attn.in_proj_bias", ("3*output_dim",), "bias"),
    Linear("attn.out_proj", "output_dim", "output_dim"),
    Norm("ln_q", "output_dim"),
    Norm("ln_kv", "output_dim"),
)
TOWER = Assembly(
    Rest(
        Convolution("conv1", "width", 3, ("patch_size", "patch_size"), bias=False),
        Parameter("positional_embedding", (POSITIONS, "width"), "embedding"),
        Norm("ln_pre", "width"),
        RESAMPLER,
        Norm("ln_post", "output_dim"),
        Parameter("proj", ("output_dim", "output_dim"), "linear"),
    ),
    vision_layers(
        "transformer.resblocks",
        Norm("ln_1", "width"),
        Linear("attn.in_proj", "3*width", "width"),
        Linear("attn.out_proj", "width", "width"),
        Norm("ln_2", "width"),
        Linear("mlp.c_fc", scaled("width", "mlp_ratio"), "width"),
        Linear("mlp.c_proj", "width", scaled("width", "mlp_ratio")),
        count="layers",
        width="width",
        heads="heads",
        ffn=scaled("width", "mlp_ratio"),
    ),
)


def qwen_eyes(f: Fields, path: str) -> Body:
    return TOWER(f.sub("visual", "the tower of qwen"), join(path, "visual"))
