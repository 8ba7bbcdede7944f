"""The tower that GLM-4V sees with, EVA2-CLIP: THUDM/glm-4v-9b, visual.py; vLLM, models/glm4v.py. They are never run."""

from __future__ import annotations

from fastewq.architectures.assembly import (
    FFN,
    WIDTH,
    Assembly,
    Convolution,
    Embedding,
    Linear,
    Norm,
    Parameter,
    Rest,
    Under,
    linears,
)
from fastewq.architectures.body import Body
from fastewq.architectures.fields import Fields
from fastewq.architectures.parts import join
from fastewq.architectures.vision.clip import PATCH_KERNEL, vision_layers

SPOKEN, SPOKEN_FFN = "spoken_width", "spoken_ffn"
TOWER = Assembly(
    Rest(
        Under(
            "patch_embedding",
            Convolution("proj", WIDTH, "in_channels", PATCH_KERNEL),
            Parameter("cls_embedding", (1, WIDTH)),
            Embedding("position_embedding", "num_positions"),
        ),
        Under(
            "linear_proj",
            Linear("linear_proj", SPOKEN, SPOKEN, False),
            Norm("norm1", SPOKEN),
            *linears("", "dense_h_to_4h gate_proj", SPOKEN_FFN, SPOKEN, False),
            Linear("dense_4h_to_h", SPOKEN, SPOKEN_FFN, False),
        ),
        Convolution("conv", SPOKEN, WIDTH, (2, 2)),
        Parameter("boi", (1, 1, SPOKEN)),
        Parameter("eoi", (1, 1, SPOKEN)),
    ),
    vision_layers(
        "transformer.layers",
        Norm("input_layernorm"),
        Linear("attention.query_key_value", "3*hidden_size", WIDTH),
        Linear("attention.dense", WIDTH, WIDTH),
        Linear("mlp.fc1", FFN, WIDTH),
        Linear("mlp.fc2", WIDTH, FFN),
        Norm("post_attention_layernorm"),
        heads="num_heads",
    ),
)


def glm_eyes(f: Fields, path: str) -> Body:
    seen = f.sub("vision_config", "the tower of chatglm")
    return TOWER(seen.replaced(spoken_width=f[WIDTH], spoken_ffn=f["ffn_hidden_size"]), join(path, "vision"))
