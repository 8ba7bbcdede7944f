"""How many tokens a cache holds where it is not the context of the text: sources of a fixed length, tokens that a
model puts before the others, sound that is heard while it comes in.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Final, NamedTuple

from fastewq.architectures.fields import Fields, Size


def image_tokens(f: Fields) -> int:
    """At most so many for one image: its patches, of which a pyramid merges four at each further stage, and two more
    (DeiT's). 0 where the config has no size of images."""
    from fastewq.architectures.assembly import pair  # with all that it imports, which models of text never need

    if f.value("image_size", None) is None or f.value("patch_size", None) is None:
        return 0
    stages = f.value("depths", None)
    merged = 2 ** (min(len(stages), MAX_STAGES) - 1) if isinstance(stages, list | tuple) and stages else 1
    (height, width), (rows, columns) = pair(f, "image_size"), pair(f, "patch_size")
    return -(-height // (rows * merged)) * -(-width // (columns * merged)) + 2


MAX_STAGES: Final = 8
"""Swin has four."""


def tiles_of_image(f: Fields) -> int:
    """All tiles are kept, also those that an image leaves empty."""
    return f["max_num_tiles"] * image_tokens(f)


SOURCES: Final[Mapping[str, tuple[str, Size]]] = {
    "blip": ("vision_config", image_tokens),
    "mllama": ("vision_config", tiles_of_image),
    "pix2struct": ("vision_config", "seq_len"),
    "vision-encoder-decoder": ("encoder", image_tokens),
    "whisper": ("", "max_source_positions"),
}
"""model_type -> the nested config and the tokens of a source that is never shorter: Whisper fills up its 30 seconds."""
BESIDE: Final[Mapping[str, Size]] = {"florence2": 24 * 24 + 1, "udop": image_tokens}
"""model_type -> the tokens of an image that the source holds beside the text."""
BEFORE: Final[Mapping[str, Size]] = {
    "cpmant": "prompt_length",
    "hymba": lambda f: f.count("num_memory_tokens", 0),
    "musicgen_melody": "chroma_length",
}
"""model_type -> learnt prompts, or a melody, before the tokens of the context."""
UNCACHED: Final = frozenset(
    {
        ("bark", "fine_acoustics"),
        ("blip", "text"),
        ("idefics", "cross"),
        ("openai-gpt", "decoder"),
        ("openai_privacy_filter", "decoder"),
        ("seamless_m4t_v2", "units_decoder"),
        ("timesfm", "decoder"),
        ("timesfm2_5", "decoder"),
    }
)
"""(model_type, stack) that keeps nothing: it makes keys and values anew for each token, or runs over all tokens once,
as what labels them, reads a question or fills in all codes of a sound at once."""
SPOKEN: Final = 6.5
"""Tokens a second: the most that Moonshine is allowed to write, against repetitions."""
FRAMES: Final[Mapping[str, float]] = {
    "canary": 12.5,
    "cohere_asr": 12.5,
    "moonshine": 16_000 / (64 * 3 * 2),
    "moonshine_streaming": 50,
    "speech-encoder-decoder": 50,
    "speech_to_text": 25,
}
"""model_type -> the frames a second of a source of sound, of which there are more than tokens."""
GUIDED: Final = frozenset({"dia", "musicgen", "musicgen_melody", "vibevoice"})
"""Generate with a second sequence, without the text, that says what to move away from."""


class Streamed(NamedTuple):
    """A stack that hears while the decoder writes: its nested config, and its tokens for each one of the decoder."""

    stack: str
    config: str
    rate: Size


STREAMED: Final[Mapping[str, Streamed]] = {
    "kyutai_speech_to_text": Streamed("codec_encoder", "codec_config", 2),
    "nemotron3_5_asr": Streamed("audio", "encoder_config", 1),
    "nemotron_asr_streaming": Streamed("audio", "encoder_config", 1),
    "voxtral_realtime": Streamed("audio", "audio_config", "downsample_factor"),
}


def least_source(f: Fields) -> int:
    """Tokens that cross attention reads whatever the context; 0 where the source is as long as the context."""
    if f.model_type not in SOURCES:
        return 0
    nested, size = SOURCES[f.model_type]
    return (f.sub(nested) if nested else f).amount(size)


def tokens_heard(f: Fields) -> int:
    """Tokens of a source of sound for each one of the text, at the rate of SPOKEN; 1 for other sources."""
    return ceil(FRAMES.get(f.model_type, 1) / SPOKEN)


def is_written_alone(f: Fields) -> bool:
    """Whether a decoder that is the whole model has no source: BART as a language model. Halves of other models
    (TrOCR), and Whisper's, which hears beside a larger one, are given theirs."""
    return f.model_type not in SOURCES and any(name.endswith("ForConditionalGeneration") for name in f.classes)


def tokens_beside(f: Fields) -> int:
    """Tokens of the source besides those of a text as long as the context."""
    return f.amount(BESIDE[f.model_type]) if f.model_type in BESIDE else 0


def tokens_before(f: Fields) -> int:
    """Tokens that a model itself puts before those of the context."""
    return f.amount(BEFORE[f.model_type]) if f.model_type in BEFORE else 0
