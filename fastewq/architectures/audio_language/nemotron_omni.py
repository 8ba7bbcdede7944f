"""Nemotron-H Omni: RADIO's tower and Parakeet's encoder before a hybrid decoder."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    WIDTH,
    Adjusted,
    Assembly,
    Family,
    Linear,
    Nested,
    Norm,
    Only,
    Parameter,
    Rest,
    Under,
    When,
    linears,
    plus,
    query_width,
    scaled,
)
from fastewq.architectures.audio.speech import AUDIO
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Option, Part, head_dim, present, unless
from fastewq.architectures.vision.clip import vision_layers
from fastewq.architectures.vision_language.multimodal import MOUTH, speaks

# -- RADIO: arXiv 2312.06709 ------------------------------------------------------------------------------------------

FFN = scaled(WIDTH, "mlp_ratio")


def gated_ffn(f: Fields) -> int:
    """Two thirds of the inner width, rounded up to a multiple of 8."""
    return (int(f[FFN] * 2 / 3) + 7) // 8 * 8


def pixels(f: Fields) -> int:
    return f["num_channels"] * f["patch_size"] ** 2


def frames(f: Fields) -> int:
    """Pixels of a patch of several frames."""
    return pixels(f) * f.count("video_temporal_patch_size", low=2)


def positions(f: Fields) -> int:
    return (f["max_img_size"] // f["patch_size"]) ** 2


RADIO = Assembly(
    Rest(
        Under(
            "embeddings",
            Parameter("position_embedding", (1, positions, WIDTH), "embedding"),
            Parameter("cls_register_token", (plus("num_cls_tokens", "num_registers"), WIDTH)),
            Linear("patch_projection", WIDTH, pixels, False),
            When(present("video_temporal_patch_size"), Linear("video_patch_projection", WIDTH, frames, False)),
        )
    ),
    vision_layers(
        "encoder.layer",
        Norm("norm1"),
        Norm("norm2"),
        *linears("attention", "q_proj k_proj v_proj", query_width, WIDTH, "qkv_bias"),
        Linear("attention.o_proj", WIDTH, query_width),
        Parameter("layer_scale1.lambda1", (WIDTH,)),
        Parameter("layer_scale2.lambda1", (WIDTH,)),
        When(unless("use_swiglu_ffn"), Linear("mlp.fc1", FFN, WIDTH), Linear("mlp.fc2", WIDTH, FFN)),
        When(
            "use_swiglu_ffn",
            *linears("mlp", "gate_proj up_proj", gated_ffn, WIDTH),
            Linear("mlp.down_proj", WIDTH, gated_ffn),
        ),
        ffn=lambda f: gated_ffn(f) if f.flag("use_swiglu_ffn") else f[FFN],
        head_dim=head_dim,
    ),
)
EYES = {"radio": Family("Radio", {"Model": RADIO})}

# -- the whole --------------------------------------------------------------------------------------------------------

OLD_NAMES = {"llm_config": "text_config", "sound_config": "audio_config", "vit_hidden_size": "vision_hidden_size"}


def spelled(f: Fields) -> Fields:
    """Old names are read where the field has the class's own value; an audio config assumes no biases in attention."""
    own = {name: 1280 if name == "vision_hidden_size" else None for name in OLD_NAMES.values()}
    old = {new: f.value(old, None) for old, new in OLD_NAMES.items() if f.value(new, None) == own[new]}
    for name, new in OLD_NAMES.items():
        if new in old and f.nests(name):
            f.sub(name, "")  # counts as read
    return f.replaced(**{name: value for name, value in old.items() if value is not None}).completed("audio_config")


def projector(name: str, seen: Size, inner: Size, bias: Option = False) -> Part:
    return Under(
        name,
        Norm("layer_norm", seen, False),
        Linear("linear_1", inner, seen, bias),
        Linear("linear_2", MOUTH, inner, bias),
    )


def shuffled(f: Fields) -> int:
    """Features of a pixel-shuffled token."""
    return f["vision_hidden_size"] * int(1 / f.number("downsample_ratio", low=1e-3)) ** 2


def predicts_more(f: Fields) -> bool:
    return f.sub("text_config").count("num_nextn_predict_layers", 0) > 0


def audio_bias(f: Fields) -> bool:
    return f.sub("audio_config").flag("projection_bias")


NEMOTRON_H_OMNI = Adjusted(
    Assembly(
        speaks("language_model", "ForCausalLM"),
        Nested("vision_config", "vision_model", EYES),
        Rest(
            When(predicts_more, Norm("vision_final_layernorm", "vision_hidden_size")),
            projector("multi_modal_projector", shuffled, "projector_hidden_size"),
        ),
        Only(
            present("audio_config"),
            Nested("audio_config", "audio_tower", AUDIO),
            Rest(
                projector("embed_audio", "audio_config.hidden_size", "audio_config.projection_hidden_size", audio_bias)
            ),
        ),
    ),
    spelled,
)
NEMOTRON_OMNI: Mapping[str, Family] = {
    **EYES,
    "nemotron_h_omni": Family("NemotronH_Omni_Reasoning_V3", {"": NEMOTRON_H_OMNI}, "", ""),
}
