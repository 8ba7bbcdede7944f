"""VibeVoice: a language model whose words are spoken by diffusion, and heard through convolutions of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastewq.architectures.assembly import (
    FFN,
    MAX_ENTRIES,
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
    Stages,
    Under,
    Variant,
    When,
    adjusted,
    plus,
    sizes,
    tensors,
    upsampling,
)
from fastewq.architectures.audio.codecs import convolving
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Part, Tensors, present, unless
from fastewq.architectures.vision_language.multimodal import GENERATE, MOUTH, OWN_LM_HEAD, speaking, speaks, text_untied

# -- the tokenizer of sound: ConvNeXt's blocks between strided convolutions -------------------------------------------

KERNEL = ("kernel_size",)
RATIOS = "downsampling_ratios"
INNER = "stage_width*ffn_expansion"


def rates(f: Fields) -> int:
    return len(sizes(f, RATIOS))


def widths(f: Fields) -> list[int]:
    """Channels of every stage of the encoder: twice as many after each strided convolution."""
    stages = rates(f) + 1
    if stages > 16:
        raise f.refuse(RATIOS, stages - 1, "at most 15 entries")
    return [f["num_filters"] << i for i in range(stages)]


def level(backwards: bool) -> Callable[[Fields, int], Fields]:
    """The width and the depth of a stage; the decoder's are as the encoder's from behind, its depths as they are."""

    def stage(f: Fields, i: int) -> Fields:
        found = widths(f)[::-1] if backwards else widths(f)
        return f.replaced(stage_width=found[i], stage_depth=sizes(f, "depths", len(found))[i])

    return stage


def blocks(i: int) -> Layers:
    return convolving(
        f"conv_layers.{i - 1}.stage" if i else "stem.stage",
        INNER,
        Parameter("gamma", ("stage_width",)),
        Parameter("ffn_gamma", ("stage_width",)),
        Norm("norm", "stage_width", False),
        Norm("ffn_norm", "stage_width", False),
        Linear("ffn.linear1", INNER, "stage_width"),
        Linear("ffn.linear2", "stage_width", INNER),
        Convolution("mixer.conv", "stage_width", 1, KERNEL),
    )


def shortening(f: Fields) -> Tensors:
    found = widths(f)
    parts: list[Part] = [Convolution("stem.conv.conv", found[0], "channels", KERNEL)]
    for i, rate in enumerate(sizes(f, RATIOS)):
        parts.append(Convolution(f"conv_layers.{i}.conv.conv", found[i + 1], found[i], (2 * rate,)))
    return tensors(f, (*parts, Convolution("head.conv", WIDTH, found[-1], KERNEL)))


def lengthening(f: Fields) -> Tensors:
    found = widths(f)[::-1]
    parts: list[Part] = [Convolution("stem.conv.conv", found[0], WIDTH, KERNEL)]
    for i, rate in enumerate(sizes(f, RATIOS)[::-1]):
        parts += upsampling(f"conv_layers.{i}.convtr.convtr", found[i], found[i + 1], 2 * rate)
    return tensors(f, (*parts, Convolution("head.conv", "channels", found[-1], KERNEL)))


def reversed_depths(f: Fields) -> Fields:
    return f.replaced(depths=sizes(f, "depths")[::-1])


ENCODER = Assembly(Stages(plus(rates, 1), blocks, level(False)), Rest(shortening))
DECODER = Assembly(Stages(plus(rates, 1), blocks, level(True)), Rest(lengthening))
TOKENIZER = Assembly(
    Named("audio_encoder", At("encoder", ENCODER)),
    Named("audio_decoder", At("decoder", Adjusted(DECODER, reversed_depths))),
)
ENCODERS: Mapping[str, Family] = {
    "vibevoice_acoustic_tokenizer_encoder": Family("VibeVoiceAcousticTokenizerEncoder", {"Model": ENCODER})
}
TOKENIZERS: Mapping[str, Family] = {
    "vibevoice_acoustic_tokenizer": Family("VibeVoiceAcousticTokenizer", {"Model": TOKENIZER})
}


# -- the model that listens -------------------------------------------------------------------------------------------


def heard(kind: str) -> tuple[Part, ...]:
    seen = f"{kind}_tokenizer_encoder_config.{WIDTH}"
    return (
        Linear(f"{kind}_linear_1", MOUTH, seen),
        Norm(f"{kind}_norm", MOUTH, False),
        Linear(f"{kind}_linear_2", MOUTH, MOUTH),
    )


ASR = (
    Nested("acoustic_tokenizer_encoder_config", "acoustic_tokenizer_encoder", ENCODERS, name="acoustic"),
    Nested("semantic_tokenizer_encoder_config", "semantic_tokenizer_encoder", ENCODERS, name="semantic"),
    Rest(Under("multi_modal_projector", *heard("acoustic"), *heard("semantic"))),
    speaks("language_model"),
)

# -- the model that speaks --------------------------------------------------------------------------------------------

DIFFUSION = Assembly(
    Rest(
        Linear("noisy_images_proj", WIDTH, "latent_size", False),
        Linear("cond_proj", WIDTH, WIDTH, False),
        Linear("timestep_proj.fc1", WIDTH, "frequency_embedding_size", False),
        Linear("timestep_proj.fc2", WIDTH, WIDTH, False),
        Linear("final_layer.linear_1", f"2*{WIDTH}", WIDTH, False),
        Linear("final_layer.linear_2", "latent_size", WIDTH, False),
    ),
    Layers(
        "layers",
        (
            Linear("ffn.gate_proj", FFN, WIDTH, "mlp_bias"),
            Linear("ffn.up_proj", FFN, WIDTH, "mlp_bias"),
            Linear("ffn.down_proj", WIDTH, FFN, "mlp_bias"),
            Norm("norm", bias=False),
            Linear("linear", f"3*{WIDTH}", WIDTH, False),
        ),
        name="diffusion",
        role="audio",
        heads=0,
        norm="rms",
        variants={"": Variant(mixer="none")},
    ),
)


def connector(name: str, source: Size) -> Part:
    return Under(name, Linear("linear_1", MOUTH, source), Norm("act", MOUTH, False), Linear("linear_2", MOUTH, MOUTH))


AUTHORS = present("decoder_config")
"""The format of microsoft/VibeVoice-1.5B, whose two factors are no parameters."""
USUAL: dict[str, Any] = {"conv_bias": True, "disable_last_norm": True, "layernorm_elementwise_affine": True}
USUAL |= {"layernorm": "RMSNorm", "mixer_layer": "depthwise_conv"}


def tokenizer(f: Fields) -> dict[str, Any]:
    """The library's fields of a tokenizer of sound, by those of the authors."""
    for name, value in USUAL.items():
        f.require(name, (value,))
    f.require("decoder_depths", ())
    for name in ("n_filters", "ratios"):
        both = [f.value(f"{side}_{name}") for side in ("encoder", "decoder")]
        if both[1] not in (None, both[0]):
            raise f.refuse(f"decoder_{name}", both[1], f"what encoder_{name} says")
    depths = f.text("encoder_depths")
    if len(depths) > MAX_ENTRIES or not all(one.isdecimal() for one in depths.split("-")):
        raise f.refuse("encoder_depths", depths, "numbers such as '3-3-8'")
    return {
        "depths": [int(one) for one in depths.split("-")],
        "downsampling_ratios": sizes(f, "encoder_ratios")[::-1],
        "num_filters": f["encoder_n_filters"],
        "channels": f["channels"],
        "hidden_size": f["vae_dim"],
    }


def of_authors(f: Fields) -> Fields:
    """The same in the library's words, where it is in those of the authors."""
    if not f.has("decoder_config"):
        return f
    names = ("decoder_config", "acoustic_tokenizer_config", "semantic_tokenizer_config", "diffusion_head_config")
    _, acoustic, semantic, diffusion = (f.sub(name, "") for name in names)
    head = {
        "hidden_size": diffusion[WIDTH],
        "latent_size": diffusion["latent_size"],
        "intermediate_size": int(diffusion[WIDTH] * diffusion.number("head_ffn_ratio")),
        "num_hidden_layers": diffusion.layers("head_layers"),
    }
    if not head["intermediate_size"]:
        raise diffusion.refuse("head_ffn_ratio", diffusion.value("head_ffn_ratio"), "more")
    return f.replaced(
        text_config=f.value("decoder_config"),
        audio_config=tokenizer(acoustic),
        semantic_model_config=tokenizer(semantic),
        diffusion_head_config=head,
    )


HEARD = f"audio_config.{WIDTH}"
LM_HEAD = Rest(Linear("lm_head", "text_config.vocab_size", MOUTH, False, text_untied))
TTS = (
    Rest(When(unless(AUTHORS), Parameter("latent_scaling_factor", ()), Parameter("latent_bias_factor", ()))),
    Nested("audio_config", "audio_tower", TOKENIZERS),
    Nested("semantic_model_config", "semantic_tokenizer_encoder", ENCODERS, name="semantic"),
    In("diffusion_head_config", DIFFUSION, path="diffusion_head", hidden_size=MOUTH, latent_size=HEARD),
    Rest(
        connector("multi_modal_projector", HEARD),
        connector("semantic_connector", f"semantic_model_config.{WIDTH}"),
    ),
    speaks("language_model"),
)
VIBEVOICE: Mapping[str, Family] = {
    **ENCODERS,
    **TOKENIZERS,
    "vibevoice_acoustic_tokenizer_decoder": Family("VibeVoiceAcousticTokenizerDecoder", {"Model": DECODER}),
    "vibevoice_asr": Family("VibeVoiceAsr", speaking(*ASR, lm_head=OWN_LM_HEAD), GENERATE),
    "vibevoice": Family("VibeVoice", adjusted(speaking(Assembly(*TTS), lm_head=LM_HEAD), of_authors), GENERATE),
}
