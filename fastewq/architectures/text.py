"""Every text model by model_type: those that generate, encode or do both. Multimodal models hold one of them."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.bart import BART_LINE
from fastewq.architectures.decoders import DECODERS, uniform
from fastewq.architectures.encoders import ENCODERS
from fastewq.architectures.gemma import GEMMA
from fastewq.architectures.heads import Model, decoder
from fastewq.architectures.latent import LATENT_LINE
from fastewq.architectures.linear_attention import LINEAR
from fastewq.architectures.moe import MOE
from fastewq.architectures.parts import Attention, GatedMLP
from fastewq.architectures.remote import REMOTE
from fastewq.architectures.seq2seq import SEQ2SEQ
from fastewq.architectures.state_space import STATE_SPACE

ALONE: Mapping[str, Model] = {
    **DECODERS,
    **GEMMA,
    **MOE,
    **LATENT_LINE,
    **STATE_SPACE,
    **LINEAR,
    **REMOTE,
    **ENCODERS,
    **SEQ2SEQ,
    **BART_LINE,
}

TWINS = {
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen3_vl_text": "qwen3",
    "qwen3_vl_moe_text": "qwen3_moe",
}
"""The text half of a vision-language model -> the model_type with the same tensors."""

HALVES: Mapping[str, Model] = {
    **{half: ALONE[twin] for half, twin in TWINS.items()},
    "glm4v_text": decoder(
        uniform(
            Attention(bias=True, out_bias=False),
            GatedMLP(fused="gate_up_proj"),
            norms=(
                "input_layernorm",
                "post_attention_layernorm",
                "post_self_attn_layernorm",
                "post_mlp_layernorm",
            ),
        )
    ),
}
TEXT: Mapping[str, Model] = {**ALONE, **HALVES}
