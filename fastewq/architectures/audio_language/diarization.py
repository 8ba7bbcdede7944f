"""NVIDIA's Nemotron models of who speaks when, and of what they say: plain encoders of stacked spectrogram frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastewq.architectures.assembly import (
    FFN,
    WIDTH,
    Adjusted,
    Assembly,
    At,
    Convolution,
    Family,
    In,
    Layers,
    Linear,
    Named,
    Nested,
    Norm,
    Parameter,
    Rest,
    key_width,
    query_width,
    upsampling,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields
from fastewq.architectures.parts import Part, head_dim, kv_heads
from fastewq.architectures.vision_language.multimodal import GENERATE, MOUTH, speaking, speaks


def encoder(*own: Part) -> BodyBuilder:
    """`own` are further tensors of a block."""
    return Assembly(
        Rest(Norm("input_layer_norm"), Norm("layer_norm")),
        Layers(
            "layers",
            (
                Linear("self_attn.q_proj", query_width, WIDTH, False),
                Linear("self_attn.k_proj", key_width, WIDTH, False),
                Linear("self_attn.v_proj", query_width, WIDTH, False),
                Linear("self_attn.o_proj", WIDTH, query_width),
                *own,
                Norm("layer_norm1"),
                Linear("mlp.fc1", FFN, WIDTH),
                Linear("mlp.fc2", WIDTH, FFN),
                Norm("layer_norm2"),
            ),
            name="audio",
            role="audio",
            kv_heads=kv_heads,
            head_dim=head_dim,
        ),
    )


EMBEDDER = Rest(Linear("embedder.projection", WIDTH, "subsampling_factor*num_mel_bins", False))
QUERY_KEY_NORMS = (Norm("self_attn.q_norm", head_dim), Norm("self_attn.k_norm", head_dim))
DIARIZATION_AUDIO = Assembly(EMBEDDER, encoder())
ASR_AUDIO = Assembly(EMBEDDER, encoder(*QUERY_KEY_NORMS))

# -- who speaks when --------------------------------------------------------------------------------------------------

HEAD: Final[Mapping[str, Any]] = {
    "hidden_size": 192,
    "num_speakers": 8,
    "audio_hidden_size": 512,
    "subsampling_factor": 8,
}
"""What the class of the head assumes; it has no model_type of its own."""
NARROW = f"head_config.{WIDTH}"
SPEAKERS = "head_config.num_speakers"


def with_head(f: Fields) -> Fields:
    given = f.value("head_config", None)
    if given is not None and not isinstance(given, Mapping):
        raise f.refuse("head_config", given, "an object")
    return f.replaced(head_config={**HEAD, **(given or {})})


BODY = Assembly(
    In("audio_config", DIARIZATION_AUDIO, path="audio_tower"),
    Rest(
        Linear("proj", NARROW, "head_config.audio_hidden_size"),
        Convolution("upsampler.conv", f"{NARROW}*head_config.subsampling_factor", NARROW, (3,)),
    ),
)
FRAMES = Assembly(
    Rest(Parameter("silence_embeds", (f"audio_config.{WIDTH}",))),
    At("model", BODY),
    Rest(Linear("classifier.dense", NARROW, NARROW), Linear("classifier.out_proj", SPEAKERS, NARROW)),
)
CLASSIFIES = "ForAudioFrameClassification"
DIARIZERS: Mapping[str, Family] = {
    "nemotron3_diarization": Family(
        "Nemotron3Diarization",
        {"Model": Adjusted(BODY, with_head), CLASSIFIES: Adjusted(FRAMES, with_head)},
        CLASSIFIES,
    )
}

# -- who says what ----------------------------------------------------------------------------------------------------


def speakers(f: Fields) -> int:
    return with_head(f.sub("diarization_config"))[SPEAKERS]


HEARS = Assembly(
    In("asr_config", ASR_AUDIO, path="asr_encoder"),
    Nested("diarization_config", "diarization_model", DIARIZERS, CLASSIFIES, name="diarization"),
    Rest(Norm("asr_norm", f"asr_config.{WIDTH}"), Norm("speaker_norm", speakers)),
)
TIMES_WORDS = Assembly(Rest(*upsampling("upsampler", WIDTH, WIDTH, "upsampling_factor")), encoder(*QUERY_KEY_NORMS))


def heard_width(f: Fields) -> int:
    return f.sub("audio_config").sub("asr_config")[WIDTH]


TRANSCRIBES = (
    In("audio_config", HEARS, path="audio_tower"),
    Rest(Linear("multi_modal_projector", MOUTH, heard_width)),
    Named("word_times", In("word_timestamp_config", TIMES_WORDS, path="word_timestamp_encoder")),
    speaks("language_model"),
)
TIMED = Rest(
    Linear("lm_head", "text_config.vocab_size", MOUTH, False),
    Convolution("word_timestamp_head", "word_timestamp_config.vocab_size", f"word_timestamp_config.{WIDTH}", (1,)),
)
DIARIZATION: Mapping[str, Family] = {
    **DIARIZERS,
    "nemotron3_diarization_audio": Family("Nemotron3DiarizationAudio", {"Model": DIARIZATION_AUDIO}),
    "nemotron3_5_transcribe_asr_audio": Family("Nemotron3_5TranscribeAsrAudio", {"Model": ASR_AUDIO}),
    "nemotron3_5_transcribe_audio": Family("Nemotron3_5TranscribeAudio", {"Model": HEARS}),
    "nemotron3_5_transcribe_word_timestamp": Family("Nemotron3_5TranscribeWordTimestamp", {"Model": TIMES_WORDS}),
    "nemo_speechlm": Family("Nemotron3_5Transcribe", speaking(Assembly(*TRANSCRIBES), lm_head=TIMED), GENERATE),
}
