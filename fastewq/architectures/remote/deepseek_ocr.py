"""DeepSeek-OCR: SAM's tower and CLIP's one after the other, a linear projector, a mixture of experts.

Follows deepseek-ai/DeepSeek-OCR, modeling_deepseekocr.py and deepencoder.py, and deepseek-ai/DeepSeek-OCR-2,
modeling_deepseekocr2.py and deepencoderv2.py, where Qwen2 stands in CLIP's place; they are never run.
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
    Embedding,
    In,
    Linear,
    Nested,
    Norm,
    Only,
    Parameter,
    Rest,
    Variant,
    quotient,
    sizes,
)
from fastewq.architectures.body import Body
from fastewq.architectures.decoders.dense import uniform
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Attention, GatedMLP, unless
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


CLIP_TOWER = "clip-l-14-224"
QWEN_TOWER = "qwen2-0-5b"
QWEN: Mapping[str, Any] = {
    "model_type": "qwen2",
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
}
"""What the code of DeepSeek-OCR 2 says of a tower whose width alone is in the file."""


def second_tower(f: Fields) -> str:
    """The name of the tower that reads what SAM's saw."""
    named = sent(f.sub("vision_config", ""), "width").keys() - {"sam_vit_b"}
    if named not in ({CLIP_TOWER}, {QWEN_TOWER}):
        raise UnsupportedArchitecture(f"vision_config.width names other towers than {CLIP_TOWER} or {QWEN_TOWER}")
    return named.pop()


def reads_by_clip(f: Fields) -> bool:
    return second_tower(f) == CLIP_TOWER


def completed(f: Fields) -> Fields:
    """The same with a config for each part; the file has the two towers below `vision_config.width`."""
    vision = f.sub("vision_config", "")
    reader, sam = (vision.sub("width", "").sub(name, "") for name in (second_tower(f), "sam_vit_b"))
    second, third = sizes(sam, "downsample_channels", 2)[:2]
    f.sub("projector_config", "").choice("projector_type", ("linear",))
    f.sub("language_config", "deepseek").choice("use_mla", (False,))
    if reads_by_clip(f):
        reads = {
            "model_type": "clip_vision_model",
            "hidden_size": reader["width"],
            "intermediate_size": 4 * reader["width"],
            "num_hidden_layers": reader.layers("layers"),
            "num_attention_heads": reader["heads"],
            "image_size": reader["image_size"],
            "patch_size": reader["patch_size"],
        }
    else:
        reads = {**QWEN, "hidden_size": reader["dim"]}
        third = reader["dim"]  # whatever the file says
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
        reader_config=reads,
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
CLIP = Nested("reader_config", "vision_model", VISION)


def clip(f: Fields, path: str) -> Body:
    """CLIP's tower without the norm after its last block."""
    body = CLIP(f, path)
    return body._replace(outside=tuple(group for group in body.outside if not group.path.endswith("post_layernorm")))


QWEN2 = Assembly(
    uniform(Attention(bias=True, out_bias=False), GatedMLP(), embed="", name="encoder", role="vision"),
)
PROJECTED = "projector_config.n_embed"
OCR = Adjusted(
    Assembly(
        Nested("language_config", "", REMOTE_MOE, "ForCausalLM"),
        At(
            "model",
            In("sam_config", SAM, path="sam_model"),
            Only(reads_by_clip, clip, Rest(Parameter("image_newline", (PROJECTED,)))),
            Only(
                unless(reads_by_clip),
                In("reader_config", QWEN2, path="qwen2_model.model.model"),
                In(
                    "reader_config",
                    Rest(Embedding("query_768", 144), Embedding("query_1024", 256)),
                    path="qwen2_model",
                ),
            ),
            Rest(
                Linear("projector.layers", PROJECTED, "projector_config.input_dim"),
                Parameter("view_seperator", (PROJECTED,)),
            ),
        ),
    ),
    completed,
)
