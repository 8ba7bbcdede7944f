"""NVIDIA's Cosmos 3, which reasons about what it sees: SigLIP 2's tower, or Qwen3-VL whole."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import Family, Linear, Nested, Norm, Rest, Under
from fastewq.architectures.decoders.dense import LLAMA_ATTENTION, uniform
from fastewq.architectures.heads import Model, decoder, no_head
from fastewq.architectures.parts import MLP
from fastewq.architectures.vision.clip import SIGLIP2_LAYERS
from fastewq.architectures.vision_language.multimodal import (
    EYE,
    GENERATE,
    MOUTH,
    OWN_LM_HEAD,
    QWEN_VL,
    merged_features,
    speaking,
)

TEXT: Mapping[str, Model] = {
    "cosmos3_edge_text": decoder(
        uniform(LLAMA_ATTENTION, MLP(bias="mlp_bias")), heads={"Model": no_head}, default="Model"
    )
}
EYES: Mapping[str, Family] = {"cosmos3_edge_vision": Family("Cosmos3EdgeVision", {"Model": SIGLIP2_LAYERS})}


EDGE = (
    Nested("vision_config", "visual", EYES),
    Nested("text_config", "language_model", TEXT),
    Rest(
        Under(
            "projector",
            Norm("norm", EYE),
            Linear("linear_fc1", "projector_hidden_size", merged_features),
            Linear("linear_fc2", MOUTH, "projector_hidden_size"),
        )
    ),
)
COSMOS: Mapping[str, Model] = {
    **TEXT,
    **EYES,
    "cosmos3_edge": Family("Cosmos3Edge", speaking(*EDGE, lm_head=OWN_LM_HEAD), GENERATE),
    "cosmos3_omni": Family("Cosmos3Omni", speaking(*QWEN_VL), GENERATE),
}
