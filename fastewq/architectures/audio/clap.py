"""CLAP: a RoBERTa for text and a Swin of spectrograms for audio, each with a projection into a common space."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    Assembly,
    At,
    Convolution,
    Family,
    In,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    Stages,
    Under,
    When,
    length,
    linears,
    quotient,
    scaled,
    sizes,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.encoders.bert import BERT, POOLER
from fastewq.architectures.fields import Fields
from fastewq.architectures.parts import Part, Tensors
from fastewq.architectures.vision.clip import PATCH_KERNEL
from fastewq.architectures.vision.swin import swin_merge

WIDTH, INNER = "stage_width", scaled("stage_width", "mlp_ratio")
PATCH = "patch_embeds_hidden_size"


def level(f: Fields, stage: int) -> Fields:
    heads, depths = sizes(f, "num_attention_heads", stage + 1), sizes(f, "depths", stage + 1)
    return f.replaced(stage_width=f[PATCH] << stage, stage_heads=heads[stage], stage_depth=depths[stage])


def distances(f: Fields) -> int:
    return (2 * f["window_size"] - 1) ** 2


def stage(i: int) -> Layers:
    return Layers(
        f"layers.{i}.blocks",
        (
            Norm("layernorm_before", WIDTH),
            Parameter("attention.self.relative_position_bias_table", (distances, "stage_heads"), "embedding"),
            *linears("attention.self", "query key value", WIDTH, WIDTH, "qkv_bias"),
            Linear("attention.output.dense", WIDTH, WIDTH),
            Norm("layernorm_after", WIDTH),
            Linear("intermediate.dense", INNER, WIDTH),
            Linear("output.dense", WIDTH, INNER),
        ),
        count="stage_depth",
        name="audio",
        role="audio",
        width=WIDTH,
        heads="stage_heads",
        ffn=INNER,
    )


def merges(f: Fields) -> Tensors:
    return tuple(
        t
        for i in range(len(sizes(f, "depths")) - 1)
        for part in swin_merge(f"layers.{i}.downsample", f[PATCH] << i)
        for t in part(f)
    )


def last_width(f: Fields) -> int:
    return f[PATCH] << (len(sizes(f, "depths")) - 1)


def channels(f: Fields) -> int:
    """Four views of a long recording are stacked where the fusion says so."""
    stacked = f.flag("enable_fusion") and f.value("fusion_type", None) == "channel_map"
    return f["patch_embed_input_channels"] * (4 if stacked else 1)


def wide_kernel(f: Fields) -> int:
    return 3 * PATCH_KERNEL[1](f)


NARROW = quotient(PATCH, "aff_block_r")


def attention_of_channels(path: str, first: int) -> Part:
    """Two convolutions of one pixel, a batch norm after each."""
    return Under(
        path,
        Convolution(f"{first}", NARROW, PATCH, (1, 1)),
        Norm(f"{first + 1}", NARROW),
        Convolution(f"{first + 3}", PATCH, NARROW, (1, 1)),
        Norm(f"{first + 4}", PATCH),
    )


AUDIO = At(
    "audio_encoder",
    Rest(
        Convolution("patch_embed.proj", PATCH, channels, PATCH_KERNEL),
        When("enable_patch_layer_norm", Norm("patch_embed.norm", PATCH)),
        When(
            "enable_fusion",
            attention_of_channels("patch_embed.fusion_model.local_att", 0),
            attention_of_channels("patch_embed.fusion_model.global_att", 1),
            Convolution("patch_embed.mel_conv2d", PATCH, "patch_embed_input_channels", (PATCH_KERNEL[0], wide_kernel)),
        ),
        merges,
        Norm("batch_norm", "num_mel_bins"),
        Norm("norm", last_width),
    ),
    Stages(length("depths"), stage, level),
)
TEXT = Assembly(BERT, POOLER)


def projection(path: str) -> BodyBuilder:
    return Rest(
        Under(
            path,
            Linear("linear1", "projection_dim", "hidden_size"),
            Linear("linear2", "projection_dim", "projection_dim"),
        )
    )


CLAP_TEXT = Assembly(At("text_model", TEXT), projection("text_projection"))
CLAP_AUDIO = Assembly(At("audio_model", AUDIO), projection("audio_projection"))
CLAP: Mapping[str, Family] = {
    "clap": Family(
        "Clap",
        {
            "Model": Assembly(
                Rest(Parameter("logit_scale_a", ()), Parameter("logit_scale_t", ())),
                In("text_config", CLAP_TEXT, path="", projection_dim="projection_dim"),
                In("audio_config", CLAP_AUDIO, path="", projection_dim="projection_dim"),
            )
        },
    ),
    "clap_text_model": Family("ClapText", {"Model": TEXT, "ModelWithProjection": CLAP_TEXT}),
    "clap_audio_model": Family("ClapAudio", {"Model": AUDIO, "ModelWithProjection": CLAP_AUDIO}),
}
