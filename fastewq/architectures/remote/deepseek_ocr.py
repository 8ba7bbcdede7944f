"""DeepSeek-OCR: SAM's tower and CLIP's one after the other, a linear projector, a mixture of experts.

Follows deepseek-ai/DeepSeek-OCR, modeling_deepseekocr.py and deepencoder.py, which are never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastewq.architectures.assembly import (
    HEADS,
    WIDTH,
    Adjusted,
    Assembly,
    At,
    Convolution,
    In,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    Variant,
    quotient,
    sizes,
)
from fastewq.architectures.body import Body
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.remote.moe import REMOTE_MOE
from fastewq.architectures.vision.clip import VISION, vision_layers
from fastewq.errors import UnsupportedArchitecture

PATCH = 16
WINDOW = 14


def sent(f: Fields, name: str) -> Mapping[str, Any]:
    value = f.value(name)
    if not isinstance(value, Mapping):
        raise f.refuse(name, value, "an object")
    return value


def completed(f: Fields) -> Fields:
    """The same with a config for each part; the file has the two towers below `vision_config.width`."""
    vision = f.sub("vision_config", "")
    widths = sent(vision, "width")
    if set(widths) != {"sam_vit_b", "clip-l-14-224"}:
        raise UnsupportedArchitecture("vision_config.width names other towers than sam_vit_b and clip-l-14-224")
    sam, clip = (vision.sub("width", "").sub(name, "") for name in ("sam_vit_b", "clip-l-14-224"))
    second, third = sizes(sam, "downsample_channels", 2)[:2]
    f.sub("projector_config", "").choice("projector_type", ("linear",))
    f.sub("language_config", "deepseek").choice("use_mla", (False,))
    return f.replaced(
        language_config={"tie_word_embeddings": False, **sent(f, "language_config"), "model_type": "deepseek"},
        sam_config={
            "model_type": "sam",
            "hidden_size": sam["width"],
            "num_hidden_layers": sam.layers("layers"),
            "num_attention_heads": sam["heads"],
            "grid": vision["image_size"] // PATCH,
            "everywhere": sorted(sam.indices("global_attn_indexes")),
            "second": second,
            "third": third,
        },
        clip_config={
            "model_type": "clip_vision_model",
            "hidden_size": clip["width"],
            "intermediate_size": 4 * clip["width"],
            "num_hidden_layers": clip.layers("layers"),
            "num_attention_heads": clip["heads"],
            "image_size": clip["image_size"],
            "patch_size": clip["patch_size"],
        },
    )


def attending(length: Size) -> Variant:
    """Relative positions of rows and columns, of a window or of the whole image."""
    rows = (lambda f: 2 * f[length] - 1, quotient(WIDTH, HEADS))
    return Variant(tuple(Parameter(f"attn.rel_pos_{axis}", rows, "embedding") for axis in "hw"))


def reach(f: Fields, count: int) -> list[str]:
    everywhere = f.indices("everywhere")
    return ["image" if i in everywhere else "window" for i in range(count)]


SAM = Assembly(
    Rest(
        Convolution("patch_embed.proj", WIDTH, 3, (PATCH, PATCH)),
        Parameter("pos_embed", (1, "grid", "grid", WIDTH), "embedding"),
        Convolution("neck.0", 256, WIDTH, (1, 1), bias=False),
        Norm("neck.1", 256),
        Convolution("neck.2", 256, 256, (3, 3), bias=False),
        Norm("neck.3", 256),
        Convolution("net_2", "second", 256, (3, 3), bias=False),
        Convolution("net_3", "third", "second", (3, 3), bias=False),
    ),
    vision_layers(
        "blocks",
        Norm("norm1"),
        Linear("attn.qkv", "3*hidden_size", WIDTH),
        Linear("attn.proj", WIDTH, WIDTH),
        Norm("norm2"),
        Linear("mlp.lin1", "4*hidden_size", WIDTH),
        Linear("mlp.lin2", WIDTH, "4*hidden_size"),
        name="sam",
        ffn="4*hidden_size",
        variants={"window": attending(WINDOW), "image": attending("grid")},
        schedule=reach,
    ),
)
CLIP = Nested("clip_config", "vision_model", VISION)


def clip(f: Fields, path: str) -> Body:
    """CLIP's tower without the norm after its last block."""
    body = CLIP(f, path)
    return body._replace(outside=tuple(group for group in body.outside if not group.path.endswith("post_layernorm")))


PROJECTED = "projector_config.n_embed"
OCR = Adjusted(
    Assembly(
        Nested("language_config", "", REMOTE_MOE, "ForCausalLM"),
        At(
            "model",
            In("sam_config", SAM, path="sam_model"),
            clip,
            Rest(
                Linear("projector.layers", PROJECTED, "projector_config.input_dim"),
                Parameter("image_newline", (PROJECTED,)),
                Parameter("view_seperator", (PROJECTED,)),
            ),
        ),
    ),
    completed,
)
