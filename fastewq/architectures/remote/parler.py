"""Parler-TTS: T5 reads how a voice sounds, a decoder of codes speaks the prompt that way, and Descript's codec sounds.

After huggingface/parler-tts, modeling_parler_tts.py and dac_wrapper/modeling_dac.py, and descriptinc/
descript-audio-codec, dac/model/dac.py, which are never run; the tensors are named as in the published files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastewq.architectures.assembly import (
    HEADS,
    WIDTH,
    Adjusted,
    Assembly,
    At,
    Embedding,
    Family,
    In,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    assuming,
    linears,
)
from fastewq.architectures.audio.dac import DAC, own_dac
from fastewq.architectures.audio.speech_generation import (
    ENCODEC,
    GENERATES,
    HEAD_OF_EACH_CODE,
    T5,
    crosses_as_wide,
    music_decoder,
)
from fastewq.architectures.body import Body
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import Part, head_dim, join, kv_heads, unless

# -- the codec: the authors' own, or the library's ---------------------------------------------------------------------

OWN = assuming(
    Rest(Under("model", *own_dac("latent_dim"))),
    num_codebooks=9,
    codebook_size=1024,
    latent_dim=1024,
)
LIBRARYS = Nested("audio_encoder", "audio_encoder", {**DAC, **ENCODEC})


def codec(f: Fields, path: str) -> Body:
    """The library took the authors' model_type for its own codec later, whose configs have the widths."""
    audio = f.sub("audio_encoder")
    own = audio.model_type == "dac_on_the_hub" or (audio.model_type == "dac" and not audio.has("encoder_hidden_size"))
    return OWN(audio, join(path, "audio_encoder")) if own else LIBRARYS(f, path)


# -- the decoder ------------------------------------------------------------------------------------------------------


def per_cross_head(f: Fields) -> int:
    heads = f["num_cross_attention_key_value_heads"] if f.has("num_cross_attention_key_value_heads") else kv_heads(f)
    return heads * head_dim(f)


def attention(name: str, keys: Callable[[Fields], int]) -> tuple[Part, ...]:
    return (
        *linears(name, "q_proj out_proj", bias=False),
        *linears(name, "k_proj v_proj", keys, bias=False),
        Norm(f"{name}_layer_norm"),
    )


POSITIONS = Parameter("embed_positions.weights", ("max_position_embeddings", WIDTH))
"""A table of sines that the files hold."""
SPEAKER = At(
    "model",
    music_decoder(
        *attention("self_attn", lambda f: kv_heads(f) * head_dim(f)),
        *attention("encoder_attn", per_cross_head),
        beside=(When(unless("rope_embeddings"), POSITIONS),),
        kv_heads=kv_heads,
    ),
)
CODE_HEADS = Rest(
    When("use_fused_lm_heads", Linear("lm_heads", lambda f: f["vocab_size"] * f["num_codebooks"], WIDTH, False)),
    When(unless("use_fused_lm_heads"), HEAD_OF_EACH_CODE),
)
DECODER_DEFAULTS: Mapping[str, Any] = {
    "model_type": "parler_tts_decoder",
    "vocab_size": 2049,
    "max_position_embeddings": 2048,
    "num_hidden_layers": 24,
    "ffn_dim": 4096,
    HEADS: 16,
    "hidden_size": 1024,
    "num_codebooks": 4,
    "rope_embeddings": False,
    "use_fused_lm_heads": False,
}


def completed(f: Fields) -> Fields:
    """With what the class of the decoder assumes."""
    sent = f.value("decoder", None)
    if not isinstance(sent, Mapping):
        raise f.refuse("decoder", sent, "an object")
    given = {name: value for name, value in sent.items() if value is not None}
    return f.replaced(decoder={**DECODER_DEFAULTS, **given}, vocab_size=f.count("vocab_size", 1024))


PARLER = Assembly(
    Nested("text_encoder", "text_encoder", T5, "EncoderModel"),
    codec,
    In("decoder", SPEAKER, CODE_HEADS),
    Rest(
        Embedding("embed_prompts", "vocab_size", "decoder.hidden_size"),
        When(
            "prompt_cross_attention",
            Parameter("embed_positions.weights", ("decoder.max_position_embeddings", "decoder.hidden_size")),
        ),
        When(crosses_as_wide, Linear("enc_to_dec_proj", "decoder.hidden_size", "text_encoder.d_model")),
    ),
)
PARLER_TTS: Mapping[str, Model] = {
    "parler_tts": Family(
        "ParlerTTS",
        {GENERATES: Adjusted(assuming(PARLER, prompt_cross_attention=False), completed)},
        GENERATES,
        GENERATES,
        ("ParlerTTSForConditionalGeneration",),
    )
}
