"""model_type -> Model, looked up in one family module after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Final

from fastewq.architectures.heads import Model

FAMILIES: Final = (
    ("decoders.dense", "DECODERS"),
    ("decoders.gemma", "GEMMA"),
    ("decoders.moe", "MOE"),
    ("text", "TEXT"),
    ("audio.speech", "AUDIO"),
    ("vision.clip", "VISION"),
    ("vision.images", "IMAGES"),
    ("vision.swin", "SWIN"),
    ("vision.pyramids", "PYRAMIDS"),
    ("vision.towers", "TOWERS"),
    ("vision_language.multimodal", "MULTIMODAL"),
    ("vision_language.captions", "CAPTIONS"),
    ("audio_language.speech_language", "SPEECH_LANGUAGE"),
    ("remote.multimodal", "REMOTE_MULTIMODAL"),
    ("remote.omni", "REMOTE_OMNI"),
    ("remote.qwen_tts", "QWEN_TTS"),
    ("remote.nemotron_vl", "REMOTE_NEMOTRON_VL"),
    ("remote.bagel", "REMOTE_BAGEL"),
    ("remote.kimi", "REMOTE_KIMI"),
    ("vision_language.documents", "DOCUMENTS"),
    ("vision_language.vision_seq2seq", "VISION_SEQ2SEQ"),
    ("vision.convnext", "CONVNEXT"),
    ("vision.mobilevit", "MOBILE"),
    ("vision_language.florence", "FLORENCE"),
    ("audio.clap", "CLAP"),
    ("remote.deepseek_vl", "DEEPSEEK_VL"),
    ("remote.janus", "JANUS"),
    ("remote.bunny", "BUNNY"),
    ("remote.llava", "LLAVA"),
    ("remote.drafters", "DRAFTERS"),
    ("remote.got_ocr", "GOT_OCR"),
    ("remote.kanana", "KANANA"),
    ("remote.higgs", "HIGGS"),
    ("remote.rwkv", "RWKV"),
    ("remote.fish", "FISH"),
    ("audio.dac", "DAC"),
    ("remote.parler", "PARLER_TTS"),
    ("remote.jina_clip", "JINA_CLIP"),
    ("remote.nomic", "NOMIC"),
    ("remote.hyperclovax", "HYPERCLOVAX"),
    ("remote.jet", "JET"),
    ("remote.prismatic", "PRISMATIC"),
    ("remote.molmo", "MOLMO"),
    ("remote.jina_vlm", "JINA_VLM"),
    ("remote.moondream", "MOONDREAM"),
    ("remote.falcon_vision", "FALCON_VISION"),
    ("audio_language.phi4", "PHI4_MULTIMODAL"),
    ("encoders.classic", "CLASSIC_ENCODERS"),
    ("vision_language.dual_encoders", "DUAL_ENCODERS"),
    ("vision_language.kosmos", "KOSMOS_LINE"),
    ("vision_language.retrieval", "RETRIEVAL"),
    ("vision_language.qwen4", "QWEN4"),
    ("vision_language.glm5", "GLM5"),
    ("audio_language.omni", "OMNI"),
    ("audio_language.nemotron_omni", "NEMOTRON_OMNI"),
    ("vision_language.lfm3_vl", "LFM3_VL"),
    ("vision_language.hunyuan_vl", "HUNYUAN_VL"),
    ("vision_language.minicpm_v", "MINICPM_V"),
    ("vision_language.ernie_vl", "ERNIE_VL"),
    ("vision_language.granite_vision", "GRANITE_VISION"),
    ("vision_language.molmo2", "MOLMO2"),
    ("vision.backbones", "BACKBONES"),
    ("vision.vitdet", "VITDET"),
    ("dense_prediction.detection", "DETECTION"),
    ("dense_prediction.deformable", "DEFORMABLE_DETECTION"),
    ("dense_prediction.masks", "MASKS"),
    ("dense_prediction.depth", "DEPTH"),
    ("dense_prediction.segmentation", "SEGMENTATION"),
    ("dense_prediction.sam3", "SAM3_LINE"),
    ("vision.video", "VIDEO"),
    ("audio.transcription", "TRANSCRIPTION"),
    ("audio.speech_generation", "SPEECH_GENERATION"),
    ("seq2seq.time_series", "TIME_SERIES"),
    ("remote.forecasting", "FORECASTING"),
    ("decoders.recent", "RECENT_TEXT"),
    ("decoders.gemma_assistant", "GEMMA_ASSISTANTS"),
    ("vision_language.cohere_compass", "COHERE_COMPASS"),
    ("vision_language.clip_relatives", "CLIP_RELATIVES"),
    ("vision_language.early", "EARLY_IMAGE_TEXT"),
    ("vision_language.image_codes", "IMAGE_CODES"),
    ("audio_language.speech_codes", "SPEECH_CODES"),
    ("audio.seamless", "SEAMLESS"),
    ("vision_language.deepseek_ocr2", "DEEPSEEK_OCR2"),
    ("audio_language.muse", "MUSE"),
    ("audio_language.dots3_note", "DOTS3_NOTE"),
    ("audio_language.inkling", "INKLING"),
    ("vision_language.idefics", "IDEFICS_LINE"),
    ("vision_language.cosmos", "COSMOS"),
    ("audio_language.vibevoice", "VIBEVOICE"),
    ("audio_language.flow_speech", "FLOW_SPEECH"),
    ("audio_language.diarization", "DIARIZATION"),
    ("vision.later_images", "LATER_IMAGES"),
    ("decoders.decisions", "DECISIONS"),
    ("decoders.blt", "BLT"),
    ("seq2seq.rag", "RAG"),
    ("dense_prediction.light_detr", "LIGHT_DETR"),
    ("vision_language.diffusion_gemma", "DIFFUSION_GEMMA"),
)
"""Modules and their tables, the most asked for first; `text` has the tables before it, too."""


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
