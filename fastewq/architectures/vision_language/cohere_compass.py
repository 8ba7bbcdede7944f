"""Cohere's Compass: Cohere's text model behind the tower of Qwen3-VL."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import Family, Nested
from fastewq.architectures.decoders.dense import DECODERS
from fastewq.architectures.heads import Model
from fastewq.architectures.vision.qwen_towers import QWEN3_VL_TOWER
from fastewq.architectures.vision_language.multimodal import GENERATE, speaking

TEXT: Mapping[str, Model] = {"cohere_compass_text": DECODERS["cohere2"]}
EYES: Mapping[str, Family] = {"cohere_compass_vision": Family("CohereCompassVision", {"Model": QWEN3_VL_TOWER})}
MODEL = (Nested("vision_config", "visual", EYES), Nested("text_config", "language_model", TEXT))
COHERE_COMPASS: Mapping[str, Model] = {
    **TEXT,
    **EYES,
    "cohere_compass": Family("CohereCompass", speaking(*MODEL), GENERATE),
}
