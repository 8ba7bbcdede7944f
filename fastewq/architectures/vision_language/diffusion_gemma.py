"""DiffusionGemma: Gemma 4's blocks read a prompt, and the same blocks fill in a whole stretch of text at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fastewq.architectures.assembly import (
    FFN,
    UNTIED,
    WIDTH,
    Assembly,
    At,
    Expect,
    Family,
    In,
    Linear,
    Named,
    Nested,
    Norm,
    Only,
    Rest,
    linears,
    tied,
)
from fastewq.architectures.body import always
from fastewq.architectures.decoders.gemma import GEMMA4, KEYS_ARE_VALUES, gemma4_layers
from fastewq.architectures.vision.gemma_towers import GEMMA_TOWERS
from fastewq.architectures.vision_language.multimodal import EYE, MOUTH

TEXT = replace(
    GEMMA4,
    mixers={**GEMMA4.mixers, "full_attention": replace(KEYS_ARE_VALUES, when=True)},
    mixer_schedule=gemma4_layers,
    feed_forward_schedule=always("experts"),
    extras=(),
    beside=(),
)
EYES: Mapping[str, Family] = {"gemma4_vision": GEMMA_TOWERS["gemma4_vision"]}
SEES = Assembly(
    Nested("vision_config", "vision_tower", EYES),
    Rest(Linear("embed_vision.embedding_projection", MOUTH, EYE, False)),
)
READS = Named("encoder", In("text_config", TEXT, path="language_model"))
FILLS = In(
    "text_config",
    TEXT,
    Rest(
        Norm("self_conditioning.pre_norm", bias=False),
        *linears("self_conditioning", "gate_proj up_proj", FFN, WIDTH, False),
        Linear("self_conditioning.down_proj", WIDTH, FFN, False),
    ),
    path="",
)
# With biases both sides are tied but for these.
UNBIASED = Only(tied, In("text_config", Expect("attention_bias", False), path=""))
BODY = Assembly(UNBIASED, At("encoder", SEES, Only(UNTIED, READS)), At("decoder", FILLS))
HEAD = Rest(Linear("lm_head", "text_config.vocab_size", MOUTH, False, UNTIED))
FILLS_IN = "ForBlockDiffusion"
DIFFUSION_GEMMA: Mapping[str, Family] = {
    "diffusion_gemma_text": Family("DiffusionGemmaEncoderText", {"Model": TEXT}),
    "diffusion_gemma": Family(
        "DiffusionGemma",
        {
            "EncoderModel": Assembly(SEES, READS),
            "DecoderModel": FILLS,
            "Model": BODY,
            FILLS_IN: Assembly(At("model", BODY), HEAD),
        },
        FILLS_IN,
    ),
}
