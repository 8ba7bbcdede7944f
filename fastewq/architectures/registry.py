"""model_type -> Model, gathered from the family modules."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.audio import AUDIO
from fastewq.architectures.captions import CAPTIONS
from fastewq.architectures.heads import Model
from fastewq.architectures.images import IMAGES
from fastewq.architectures.multimodal import MULTIMODAL
from fastewq.architectures.speech_language import SPEECH_LANGUAGE
from fastewq.architectures.text import TEXT
from fastewq.architectures.towers import TOWERS
from fastewq.architectures.vision import VISION

MODELS: Mapping[str, Model] = {
    **TEXT,
    **AUDIO,
    **VISION,
    **IMAGES,
    **TOWERS,
    **MULTIMODAL,
    **CAPTIONS,
    **SPEECH_LANGUAGE,
}
