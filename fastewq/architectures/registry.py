"""model_type -> Model, looked up in one family module after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Final

from fastewq.architectures.heads import Model

FAMILIES: Final = (
    ("decoders", "DECODERS"),
    ("gemma", "GEMMA"),
    ("moe", "MOE"),
    ("text", "TEXT"),
    ("audio", "AUDIO"),
    ("vision", "VISION"),
    ("images", "IMAGES"),
    ("swin", "SWIN"),
    ("pyramids", "PYRAMIDS"),
    ("towers", "TOWERS"),
    ("multimodal", "MULTIMODAL"),
    ("captions", "CAPTIONS"),
    ("speech_language", "SPEECH_LANGUAGE"),
    ("remote_multimodal", "REMOTE_MULTIMODAL"),
    ("remote_kimi", "REMOTE_KIMI"),
    ("documents", "DOCUMENTS"),
    ("vision_seq2seq", "VISION_SEQ2SEQ"),
    ("convnext", "CONVNEXT"),
    ("florence", "FLORENCE"),
    ("clap", "CLAP"),
    ("deepseek_vl", "DEEPSEEK_VL"),
    ("molmo", "MOLMO"),
    ("phi4", "PHI4_MULTIMODAL"),
    ("classic_encoders", "CLASSIC_ENCODERS"),
    ("image_text", "IMAGE_TEXT"),
    ("retrieval", "RETRIEVAL"),
    ("qwen4", "QWEN4"),
    ("glm5", "GLM5"),
    ("omni", "OMNI"),
    ("nemotron_omni", "NEMOTRON_OMNI"),
    ("lfm3_vl", "LFM3_VL"),
    ("hunyuan_vl", "HUNYUAN_VL"),
    ("minicpm_v", "MINICPM_V"),
    ("ernie_vl", "ERNIE_VL"),
    ("granite_vision", "GRANITE_VISION"),
    ("molmo2", "MOLMO2"),
    ("backbones", "BACKBONES"),
    ("vitdet", "VITDET"),
    ("detection", "DETECTION"),
    ("deformable", "DEFORMABLE_DETECTION"),
    ("masks", "MASKS"),
    ("depth", "DEPTH"),
    ("segmentation", "SEGMENTATION"),
    ("sam3", "SAM3_LINE"),
    ("video", "VIDEO"),
    ("transcription", "TRANSCRIPTION"),
    ("speech_generation", "SPEECH_GENERATION"),
    ("time_series", "TIME_SERIES"),
    ("recent_text", "RECENT_TEXT"),
    ("cohere_compass", "COHERE_COMPASS"),
    ("clip_relatives", "CLIP_RELATIVES"),
    ("early_image_text", "EARLY_IMAGE_TEXT"),
    ("image_codes", "IMAGE_CODES"),
    ("speech_codes", "SPEECH_CODES"),
    ("seamless", "SEAMLESS"),
    ("deepseek_ocr2", "DEEPSEEK_OCR2"),
    ("muse", "MUSE"),
    ("inkling", "INKLING"),
    ("idefics", "IDEFICS_LINE"),
    ("cosmos", "COSMOS"),
    ("vibevoice", "VIBEVOICE"),
    ("flow_speech", "FLOW_SPEECH"),
    ("diarization", "DIARIZATION"),
    ("later_images", "LATER_IMAGES"),
    ("decisions", "DECISIONS"),
    ("blt", "BLT"),
    ("rag", "RAG"),
    ("light_detr", "LIGHT_DETR"),
    ("diffusion_gemma", "DIFFUSION_GEMMA"),
)
"""Modules and their tables, the most asked for first; `text` has those before it, too."""


class _Models(Mapping[str, Model]):
    """Imports a family module only once a model is not found before it: all of them take a good part of a second."""

    def __init__(self) -> None:
        self._known: dict[str, Model] = {}
        self._waiting = list(FAMILIES)

    def __getitem__(self, model_type: str) -> Model:
        while model_type not in self._known and self._waiting:
            self._load_next()
        return self._known[model_type]

    def __iter__(self) -> Iterator[str]:
        while self._waiting:
            self._load_next()
        return iter(self._known)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _load_next(self) -> None:
        module, table = self._waiting[0]
        self._known.update(getattr(import_module(f"fastewq.architectures.{module}"), table))
        self._waiting.remove((module, table))


MODELS: Final[Mapping[str, Model]] = _Models()
