"""Jina CLIP 2: the text encoder of jina-embeddings-v3 and EVA's tower.

Follows jinaai/jina-clip-implementation, modeling_clip.py, eva_model.py and hf_model.py, which are never run. What the
config says of the text encoder changes the class defaults of jinaai/xlm-roberta-flash-implementation.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    Adjusted,
    Assembly,
    Convolution,
    Expect,
    In,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    When,
    patches,
    plus,
    scaled,
)
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import unless
from fastewq.architectures.remote.encoders import FLASH, FLASH_DEFAULTS
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.remote.multimodal import nested
from fastewq.errors import UnsupportedArchitecture
from fastewq.shown import shown

WIDTH = "width"
INNER = scaled(WIDTH, "mlp_ratio")

EVA = Assembly(
    Expect("naive_swiglu", True),
    Expect("ls_init_value", None),
    Expect("proj_type", None),
    Rest(
        Parameter("cls_token", (1, 1, WIDTH)),
        Parameter("pos_embed", (1, plus(patches, 1), WIDTH), "embedding"),
        Convolution("patch_embed.proj", WIDTH, 3, ("patch_size", "patch_size")),
        Norm("norm", WIDTH),
    ),
    Layers(
        "blocks",
        (
            Norm("norm1", WIDTH),
            When("subln", *(Linear(f"attn.{side}_proj", WIDTH, WIDTH, False) for side in "qkv")),
            When(unless("subln"), Linear("attn.qkv", lambda f: 3 * f[WIDTH], WIDTH, False)),
            When("qkv_bias", *(Parameter(f"attn.{side}_bias", (WIDTH,), "bias") for side in "qv")),
            When("subln", Norm("attn.inner_attn_ln", WIDTH)),
            Linear("attn.proj", WIDTH, WIDTH),
            Norm("norm2", WIDTH),
            Linear("mlp.w1", INNER, WIDTH),
            Linear("mlp.w2", INNER, WIDTH),
            When("subln", Norm("mlp.ffn_ln", INNER)),
            Linear("mlp.w3", WIDTH, INNER),
        ),
        count="layers",
        name="vision",
        role="vision",
        width=WIDTH,
        heads=lambda f: f.divided(WIDTH, "head_width"),
        ffn=INNER,
    ),
)
KNOWN_TEXT = "jinaai/jina-embeddings-v3"


def jina_clip(f: Fields) -> Fields:
    """The same with a nested config for the text encoder, whose fields lie one level deeper."""
    text, seen = nested(f, "text_config"), nested(f, "vision_config")
    of = f.sub("text_config", "")
    if text.get("hf_model_name_or_path") != KNOWN_TEXT:
        named = shown(text.get("hf_model_name_or_path"))
        raise UnsupportedArchitecture(f"{of.where('hf_model_name_or_path')} is {named}; {KNOWN_TEXT} is known")
    of.require("proj_type", (None,))
    spoken = {**FLASH_DEFAULTS, **(nested(of, "hf_model_config_kwargs") if of.has("hf_model_config_kwargs") else {})}
    for level, width in ((of, spoken["hidden_size"]), (f.sub("vision_config", ""), seen.get("width"))):
        if level["embed_dim"] != width:
            raise level.refuse("embed_dim", level["embed_dim"], f"the width {width}, so that nothing lies between")
    return f.replaced(text_config={**spoken, "model_type": ""}, vision_config={**seen, "model_type": ""})


JINA_CLIP_PARTS = Assembly(
    Expect("add_projections", False),
    In("text_config", FLASH, path="text_model.transformer"),
    In("vision_config", EVA, path="vision_model"),
    Rest(Parameter("logit_scale", ())),
)
JINA_CLIP: Mapping[str, Model] = {"jina_clip": one_class("JinaCLIP", "Model", Adjusted(JINA_CLIP_PARTS, jina_clip))}
