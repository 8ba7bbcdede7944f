"""Seamless: translates text and speech into text and, by units of sound, into speech."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from fastewq.architectures.assembly import (
    TEXT_HEAD,
    UNTIED,
    WIDTH,
    Adjusted,
    Assembly,
    At,
    Convolution,
    Embedding,
    Family,
    Layers,
    Linear,
    Named,
    Norm,
    Only,
    Parameter,
    Rest,
    Under,
    When,
    linears,
    plus,
)
from fastewq.architectures.audio.codecs import hifi_gan
from fastewq.architectures.audio.speech import KEY_DISTANCES, adapter_layer, conformer_layer
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Part

# -- text -------------------------------------------------------------------------------------------------------------


def attention(name: str, norm: str) -> tuple[Part, ...]:
    return (*linears(name, "k_proj v_proj q_proj out_proj"), Norm(norm))


SELF_ATTENTION = attention("self_attn", "self_attn_layer_norm")


def side(name: Literal["encoder", "decoder"], *parts: Part) -> BodyBuilder:
    layers = Layers(
        "layers",
        parts,
        count=f"{name}_layers",
        name=name,
        role=name,
        heads=f"{name}_attention_heads",
        ffn=f"{name}_ffn_dim",
    )
    return Assembly(layers, Rest(Norm("layer_norm")))


def feed_forward(ffn: Size) -> tuple[Part, ...]:
    return (Linear("ffn.fc1", ffn, WIDTH), Linear("ffn.fc2", WIDTH, ffn), Norm("ffn_layer_norm"))


ENCODER = side("encoder", *SELF_ATTENTION, *feed_forward("encoder_ffn_dim"))
DECODER = side(
    "decoder",
    *SELF_ATTENTION,
    *attention("cross_attention", "cross_attention_layer_norm"),
    *feed_forward("decoder_ffn_dim"),
)
WORDS = Embedding("embed_tokens", "vocab_size")
OWN_WORDS = Rest(When(UNTIED, WORDS))
READS = At("text_encoder", ENCODER, OWN_WORDS)
WRITES = Assembly(
    Rest(Embedding("shared", "vocab_size"), Linear("lm_head", "vocab_size", WIDTH, False, UNTIED)),
    At("text_decoder", DECODER, OWN_WORDS),
)

# -- speech -----------------------------------------------------------------------------------------------------------


def heard(f: Fields) -> Fields:
    """The fields as those of a conformer."""
    values: dict[str, Any] = {
        "num_hidden_layers": f.value("speech_encoder_layers"),
        "num_attention_heads": f.value("speech_encoder_attention_heads"),
        "intermediate_size": f.value("speech_encoder_intermediate_size"),
    }
    return f.replaced(**values)


def hears(conv_norm: str, *extra: Part) -> BodyBuilder:
    return At(
        "speech_encoder",
        Adjusted(
            Assembly(
                Rest(
                    Norm("feature_projection.layer_norm", "feature_projection_input_dim"),
                    Linear("feature_projection.projection", WIDTH, "feature_projection_input_dim"),
                    Norm("encoder.layer_norm"),
                    Linear("intermediate_ffn.intermediate_dense", "intermediate_size", WIDTH),
                    Linear("intermediate_ffn.output_dense", WIDTH, "intermediate_size"),
                    Norm("inner_layer_norm"),
                ),
                Layers("encoder.layers", (*conformer_layer(conv_norm), *extra), name="audio", role="audio"),
                Only(
                    "add_adapter",
                    Layers(
                        "adapter.layers",
                        adapter_layer(WIDTH, "adaptor_kernel_size"),
                        count="num_adapter_layers",
                        name="adapter",
                        role="audio",
                    ),
                ),
            ),
            heard,
        ),
    )


# -- from text to units, and from units to sound ----------------------------------------------------------------------

UNITS = (
    *(f"{name}_{field}" for name in ("encoder", "decoder") for field in ("layers", "attention_heads", "ffn_dim")),
    "vocab_size",
)

ALIASES = {"hidden_layers": "layers", "attention_heads": "attention_heads"}


def of_units(f: Fields) -> Fields:
    """The fields that begin with `t2u_`, without it."""
    values = {name: f.value(f"t2u_{name}") for name in UNITS}
    other_spellings = {f"num_{name}": values[f"decoder_{size}"] for name, size in ALIASES.items()}
    return f.replaced(**values, **other_spellings)


def durations(name: str, width: Size, inner: Size, kernel: str) -> Part:
    return Under(
        name,
        Convolution("conv1", inner, width, (kernel,)),
        Norm("ln1", inner),
        Convolution("conv2", inner, inner, (kernel,)),
        Norm("ln2", inner),
        Linear("proj", 1, inner),
    )


UNIT_WORDS = Rest(WORDS)
UNIT_MODEL = Assembly(At("encoder", ENCODER), At("decoder", DECODER, UNIT_WORDS))
UNIT_MODEL_2 = Assembly(
    At("encoder", ENCODER),
    At(
        "decoder",
        side(
            "decoder",
            *SELF_ATTENTION,
            Convolution("conv1", WIDTH, WIDTH, (7,)),
            Convolution("conv2", WIDTH, WIDTH, (7,)),
            Norm("conv_layer_norm"),
        ),
        UNIT_WORDS,
        Rest(
            Embedding("embed_char", "char_vocab_size"),
            Parameter("pos_emb_alpha_char", (1,)),
            Parameter("pos_emb_alpha", (1,)),
            durations(
                "duration_predictor",
                "t2u_variance_predictor_embed_dim",
                "t2u_variance_predictor_hidden_dim",
                "t2u_variance_predictor_kernel_size",
            ),
        ),
    ),
)
UNIT = "unit_embed_dim"
VOCODER = Rest(
    durations("dur_predictor", UNIT, UNIT, "variance_predictor_kernel_size"),
    Embedding("unit_embedding", "unit_hifi_gan_vocab_size", UNIT),
    Embedding("speaker_embedding", "vocoder_num_spkrs", "spkr_embed_dim"),
    Embedding("language_embedding", "vocoder_num_langs", "lang_embed_dim"),
    Under("hifi_gan", hifi_gan(plus(plus(UNIT, "lang_embed_dim"), "spkr_embed_dim"))),
)


def classes(hearing: BodyBuilder, units: BodyBuilder) -> dict[str, BodyBuilder]:
    speaking = Adjusted(Assembly(At("model", units), TEXT_HEAD), of_units)
    speaks = Assembly(Named("units", At("t2u_model", speaking)), At("vocoder", VOCODER))
    return {
        "Model": Assembly(READS, hearing, WRITES, speaks),
        "ForTextToText": Assembly(READS, WRITES),
        "ForSpeechToText": Assembly(hearing, WRITES),
        "ForTextToSpeech": Assembly(READS, WRITES, speaks),
        "ForSpeechToSpeech": Assembly(hearing, WRITES, speaks),
        "TextToUnitModel": units,
        "TextToUnitForConditionalGeneration": speaking,
        "CodeHifiGan": VOCODER,
    }


SEAMLESS: Mapping[str, Family] = {
    "seamless_m4t": Family("SeamlessM4T", classes(hears("batch_norm"), UNIT_MODEL)),
    "seamless_m4t_v2": Family("SeamlessM4Tv2", classes(hears("depthwise_layer_norm", KEY_DISTANCES), UNIT_MODEL_2)),
}
