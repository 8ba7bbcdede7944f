"""Falcon OCR and Falcon Perception: one decoder for patches and words, and what points, measures and outlines.

Follow tiiuae/Falcon-Perception, falcon_perception/model.py and anyup.py, which are never run. Norms have no weights but
the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastewq.architectures.assembly import (
    WIDTH,
    Adjusted,
    Assembly,
    Convolution,
    Each,
    Linear,
    Norm,
    Only,
    Parameter,
    Rest,
    Under,
)
from fastewq.architectures.decoders.dense import HEADS, uniform
from fastewq.architectures.decoders.experts import sinks
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import Attention, GatedMLP, Part
from fastewq.architectures.remote.heads import one_class

SPELLINGS: Final = {
    "dim": WIDTH,
    "ffn_dim": "intermediate_size",
    "n_heads": HEADS,
    "n_kv_heads": "num_key_value_heads",
    "n_layers": "num_hidden_layers",
}
ASSUMED: Final[Mapping[str, Any]] = {
    "head_dim": 128,
    "num_key_value_heads": 8,
    "channel_size": 3,
    "spatial_patch_size": 16,
    "temporal_patch_size": 1,
    "coord_enc_dim": 512,
    "coord_dec_dim": 8192,
    "coord_out_dim": 2048,
    "size_enc_dim": 512,
    "size_dec_dim": 8192,
    "size_out_dim": 2048,
    "segm_out_dim": 256,
    "num_segm_layers": 3,
}
"""What the code assumes of fields that a config leaves out."""


def told(f: Fields) -> Fields:
    f = f.renamed(SPELLINGS)
    return f.replaced(**{name: value for name, value in ASSUMED.items() if not f.has(name)})


DECODER = Assembly(
    uniform(
        Attention(prefix="attention", fused="wqkv", names=("", "", "", "wo"), dim="head_dim", extras=(sinks,)),
        GatedMLP(prefix="feed_forward", fused="w13", names=("", "", "w2")),
        norms=(),
        embed="tok_embeddings",
    ),
    Rest(
        Linear("img_projector", WIDTH, "temporal_patch_size*spatial_patch_size*spatial_patch_size*channel_size", False),
        Linear("output", "vocab_size", WIDTH, False),
    ),
)


def fourier(name: str) -> Part:
    """A point or a size as waves, and as a token."""
    waves = f"{name}_enc_dim"
    return Under(
        f"{name}_encoder",
        Linear("embed", lambda f: f[waves] // 2, 2, False),
        Linear("transform", WIDTH, waves, False),
    )


def binned(name: str) -> Part:
    """A token as a point or a size."""
    inner = f"{name}_dec_dim"
    return Under(
        f"{name}_decoder",
        Linear("w1", inner, WIDTH, False),
        Linear("w2", f"{name}_out_dim", inner, False),
    )


# -- AnyUp: patches become pixels by attention to the image -----------------------------------------------------------

SIDE: Final = 128
"""Channels, whatever the config says."""


def narrowing(name: str, first: Part) -> Part:
    block = Under(
        "block",
        Norm("0", SIDE),
        Convolution("2", SIDE, SIDE, (1, 1), bias=False),
        Norm("3", SIDE),
        Convolution("5", SIDE, SIDE, (1, 1), bias=False),
    )
    return Under(name, first, Under("1", block), Under("2", block))


ANY_UP = Under(
    "itok_upsampler",
    narrowing("image_encoder", Convolution("0", SIDE, 3, (1, 1), bias=False)),
    narrowing("key_encoder", Convolution("0", SIDE, SIDE, (1, 1), bias=False)),
    narrowing("query_encoder", Convolution("0", SIDE, SIDE, (1, 1), bias=False)),
    narrowing("key_features_encoder", Parameter("0.basis", (SIDE, 1, 5, 5), "conv")),
    narrowing("aggregation", Convolution("0", SIDE, 2 * SIDE, (3, 3), bias=False)),
    Parameter("rope.freqs", (2, SIDE)),
    Under(
        "cross_decode",
        Convolution("conv2d", SIDE, SIDE, (3, 3), bias=False),
        Norm("cross_attn.norm_q", SIDE, False),
        Norm("cross_attn.norm_k", SIDE, False),
        Parameter("cross_attn.attention.in_proj_weight", (3 * SIDE, SIDE), "linear"),
        Parameter("cross_attn.attention.in_proj_bias", (3 * SIDE,), "bias"),
    ),
)
OUTLINES = Rest(
    ANY_UP,
    Under(
        "proj_segm",
        Each("layers", lambda f: f["num_segm_layers"] - 1, (Linear("", WIDTH, WIDTH),)),
        Linear("pixel_layer", "segm_out_dim", WIDTH, False),
    ),
    Convolution("conv_segm", "segm_out_dim", WIDTH, (3, 3)),
)


def perceives(f: Fields) -> bool:
    return f.flag("perception_heads", True)


def outlines(f: Fields) -> bool:
    return f.flag("do_segmentation", True)


PERCEPTION = Assembly(
    DECODER,
    Only(perceives, Rest(*(part(name) for name in ("coord", "size") for part in (fourier, binned)))),
    Only(lambda f: perceives(f) and outlines(f), OUTLINES),
)
FALCON_VISION: Mapping[str, Model] = {
    "falcon_ocr": one_class("FalconOCR", "ForCausalLM", Adjusted(DECODER, told)),
    "falcon_perception": one_class("FalconPerception", "ForSegmentation", Adjusted(PERCEPTION, told)),
}
