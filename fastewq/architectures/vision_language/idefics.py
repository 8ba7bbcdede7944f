"""IDEFICS, the open Flamingo: a language model with gated blocks between its own that look at the image."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    FFN,
    UNTIED,
    WIDTH,
    Assembly,
    At,
    Embedding,
    Family,
    In,
    Layers,
    Linear,
    Norm,
    Only,
    Parameter,
    Rest,
    When,
    linears,
    positive,
    quotient,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Option, Part, Tensors
from fastewq.architectures.vision.clip import CLIP_VISION, vision_layers

SEEN = "vision_config.hidden_size"
HEAD = quotient(WIDTH, "num_attention_heads")

# -- the resampler: latent queries read the image ---------------------------------------------------------------------

INNER = "resampler_n_heads*resampler_head_dim"
RESAMPLER = Assembly(
    Rest(Parameter("latents", ("resampler_n_latents", WIDTH)), Norm("layer_norm")),
    vision_layers(
        "blocks",
        Norm("0.context_layer_norm"),
        Norm("0.latents_layer_norm"),
        When(
            "qk_layer_norms_perceiver",
            Norm("0.q_layer_norm", "resampler_head_dim"),
            Norm("0.k_layer_norm", "resampler_head_dim"),
        ),
        *linears("0", "q_proj k_proj v_proj", INNER, WIDTH, False),
        Linear("0.output_proj", WIDTH, INNER, False),
        Norm("1.ln"),
        Linear("1.fc", f"4*{WIDTH}", WIDTH, False),
        Linear("1.c_proj", WIDTH, f"4*{WIDTH}", False),
        count="resampler_depth",
        name="resampler",
        heads="resampler_n_heads",
        head_dim="resampler_head_dim",
        ffn=f"4*{WIDTH}",
    ),
)

# -- the language model -----------------------------------------------------------------------------------------------


def attention(name: str, source: Size, normed: Option) -> tuple[Part, ...]:
    return (
        *linears(name, "q_proj o_proj", bias=False),
        *linears(name, "k_proj v_proj", WIDTH, source, False),
        When(normed, Norm(f"{name}.q_layer_norm", HEAD, False), Norm(f"{name}.k_layer_norm", HEAD, False)),
    )


def layers(path: str, name: str, count: Size, *parts: Part) -> Layers:
    return Layers(
        path,
        (
            *parts,
            *linears("mlp", "gate_proj up_proj", FFN, WIDTH, False),
            Linear("mlp.down_proj", WIDTH, FFN, False),
            Norm("input_layernorm", bias=False),
            Norm("post_attention_layernorm", bias=False),
        ),
        count=count,
        name=name,
        role="decoder",
        norm="rms",
    )


def gates(f: Fields) -> Tensors:
    """How much of what a block sees is let through: one number, or one per feature."""
    shape: tuple[Size, ...] = (1, 1, WIDTH) if f.choice("alpha_type", ("float", "vector")) == "vector" else (1,)
    return (*Parameter("alpha_cross_attn", shape)(f), *Parameter("alpha_dense", shape)(f))


IDEFICS = Assembly(
    Rest(
        Embedding("embed_tokens", "vocab_size"),
        When(
            positive("additional_vocab_size"),
            Embedding("embed_tokens.additional_embedding", "additional_vocab_size"),
        ),
        Norm("norm", bias=False),
    ),
    In("vision_config", CLIP_VISION, path="vision_model"),
    Only("use_resampler", In("perceiver_config", RESAMPLER, path="perceiver_resampler", hidden_size=SEEN)),
    layers(
        "gated_cross_attn_layers",
        "cross",
        quotient("num_hidden_layers", "cross_layer_interval"),
        *attention("cross_attn", SEEN, "qk_layer_norms"),
        gates,
    ),
    layers("layers", "decoder", "num_hidden_layers", *attention("self_attn", WIDTH, False)),
)
WRITES = "ForVisionText2Text"
CLASSES: Mapping[str, BodyBuilder] = {
    "Model": IDEFICS,
    WRITES: Assembly(
        At("model", IDEFICS),
        Rest(
            When(
                UNTIED,
                Linear("lm_head", "vocab_size", WIDTH, False),
                When(
                    positive("additional_vocab_size"),
                    Linear("lm_head.additional_fc", "additional_vocab_size", WIDTH, False),
                ),
            )
        ),
    ),
}
IDEFICS_LINE: Mapping[str, Family] = {"idefics": Family("Idefics", CLASSES, WRITES)}
