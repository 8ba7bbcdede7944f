"""HunYuan-VL, the model behind HunYuanOCR: a plain tower whose merger ends in the text model's width."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    WIDTH,
    Assembly,
    Convolution,
    Embedding,
    Family,
    In,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    Under,
    adjusted,
    query_width,
)
from fastewq.architectures.decoders.dense import DECODERS
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import head_dim
from fastewq.architectures.vision.clip import PATCH_KERNEL, plain_layer, vision_layers
from fastewq.architectures.vision_language.multimodal import GENERATE, LM_HEAD_OF_EITHER, MOUTH, speaking

SPOKEN = "text_hidden_size"


def positions(f: Fields) -> int:
    """Patches of the largest image, and one more."""
    return (f["max_image_size"] // f["patch_size"]) ** 2 + 1


TOWER = Assembly(
    Rest(
        Convolution("embeddings.patch_embedding", WIDTH, "num_channels", PATCH_KERNEL),
        Embedding("embeddings.position_embedding", positions),
        Under(
            "patch_merger",
            Convolution("proj_conv", "2*hidden_size", WIDTH, ("spatial_merge_size", "spatial_merge_size")),
            Convolution("proj_out", "4*hidden_size", "2*hidden_size", (1, 1)),
            Linear("mlp", SPOKEN, "4*hidden_size"),
            Parameter("image_newline", ("4*hidden_size",)),
            *(Parameter(f"image_{mark}", (SPOKEN,)) for mark in ("begin", "end", "sep")),
            Norm("before_rms", bias=False),
            Norm("after_rms", SPOKEN, False),
        ),
    ),
    vision_layers(
        "layers",
        *plain_layer("self_attn", "o_proj", ("layer_norm1", "layer_norm2"), query_width),
        head_dim=head_dim,
    ),
)


def once_flat(f: Fields) -> Fields:
    """Older files have the text model's fields at the top, of which `tie_word_embeddings` is the whole model's."""
    if f.has("text_config"):
        return f
    flat: Mapping[str, object] = f.unflattened("text_config").value("text_config")
    return f.replaced(text_config={name: value for name, value in flat.items() if name != "tie_word_embeddings"})


TEXT: Mapping[str, Model] = {"hunyuan_vl_text": DECODERS["hunyuan_v1_dense"]}
HUNYUAN_VL: Mapping[str, Model] = {
    **TEXT,
    "hunyuan_vl_vision": Family("HunYuanVLVision", {"Transformer": TOWER}, "Transformer", "Transformer"),
    "hunyuan_vl": Family(
        "HunYuanVL",
        adjusted(
            speaking(
                In("vision_config", TOWER, path="vision_tower", text_hidden_size=MOUTH),
                Nested("text_config", "language_model", TEXT),
                lm_head=LM_HEAD_OF_EITHER,
            ),
            once_flat,
        ),
        GENERATE,
    ),
}
