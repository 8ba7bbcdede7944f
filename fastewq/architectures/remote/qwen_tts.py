"""Qwen3-TTS: text to codes of sound. What makes sound of them lies beside it, with a config of its own.

Follows QwenLM/Qwen3-TTS, qwen_tts/core/models/modeling_qwen3_tts.py. It is never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastewq.architectures.assembly import (
    WIDTH,
    Adjusted,
    Assembly,
    Each,
    Embedding,
    In,
    Linear,
    Only,
    Rest,
    Under,
    When,
    equals,
)
from fastewq.architectures.audio_language.omni import NORMED_ATTENTION, given, levels, voice
from fastewq.architectures.decoders.dense import uniform
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import GatedMLP
from fastewq.architectures.remote.heads import one_class

TALKER: Final[Mapping[str, Any]] = {
    "model_type": "qwen3_tts_talker",
    "vocab_size": 3072,
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_hidden_layers": 20,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "text_hidden_size": 2048,
}
PREDICTOR: Final[Mapping[str, Any]] = {
    "model_type": "qwen3_tts_talker_code_predictor",
    "vocab_size": 2048,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 5,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "num_code_groups": 32,
}
SPEAKER: Final[Mapping[str, Any]] = {
    "model_type": "",
    "mel_dim": 128,
    "enc_dim": 1024,
    "enc_channels": [512, 512, 512, 512, 1536],
    "enc_kernel_sizes": [5, 3, 3, 3, 1],
    "enc_attention_channels": 128,
    "enc_res2net_scale": 8,
    "enc_se_channels": 128,
}
"""What the classes of these configs assume."""
SPOKEN = "talker_width"


def completed(f: Fields) -> Fields:
    """The same with what the classes assume."""
    sent = given(f, "talker_config")
    predictor = {**PREDICTOR, **given(Fields(sent, "", "talker_config"), "code_predictor_config")}
    return f.replaced(
        talker_config={**TALKER, **sent, "code_predictor_config": predictor},
        speaker_encoder_config={**SPEAKER, **given(f, "speaker_encoder_config")},
    )


def narrows(f: Fields) -> bool:
    return f[WIDTH] != f[SPOKEN]


QWEN3_TTS = Adjusted(
    Assembly(
        In(
            "talker_config",
            uniform(
                NORMED_ATTENTION,
                GatedMLP(),
                embed="model.codec_embedding",
                layers="model.layers",
                final_norm="model.norm",
                name="talker",
            ),
            Rest(
                Embedding("model.text_embedding", "text_vocab_size", "text_hidden_size"),
                Under(
                    "text_projection",
                    Linear("linear_fc1", "text_hidden_size", "text_hidden_size"),
                    Linear("linear_fc2", WIDTH, "text_hidden_size"),
                ),
                Linear("codec_head", "vocab_size", WIDTH, False),
            ),
            In(
                "code_predictor_config",
                uniform(
                    NORMED_ATTENTION,
                    GatedMLP(),
                    embed="",
                    layers="model.layers",
                    final_norm="model.norm",
                    name="code_predictor",
                ),
                Rest(
                    Each("model.codec_embedding", levels, (Embedding("", "vocab_size", SPOKEN),)),
                    Each("lm_head", levels, (Linear("", "vocab_size", WIDTH, False),)),
                    When(narrows, Linear("small_to_mtp_projection", WIDTH, SPOKEN)),
                ),
                path="code_predictor",
                talker_width=WIDTH,
            ),
            path="talker",
        ),
        Only(equals("tts_model_type", "base"), In("speaker_encoder_config", Rest(voice), path="speaker_encoder")),
    ),
    completed,
)

QWEN_TTS: Mapping[str, Model] = {"qwen3_tts": one_class("Qwen3TTS", "ForConditionalGeneration", QWEN3_TTS)}
