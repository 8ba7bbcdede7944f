"""Nomic's encoder of images: nomic-ai/nomic-embed-vision-v1.5, whose code is that of nomic-ai/nomic-bert-2048,
modeling_hf_nomic_bert.py. It is never run; its configs say `nomic_bert`, as those of the encoders of text do.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    WIDTH,
    Adjusted,
    Assembly,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    positive,
)
from fastewq.architectures.encoders.rotary import NOMIC_SPELLINGS, nomic_gated
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import Option, hidden_per_head, unless
from fastewq.architectures.remote.heads import one_class

CHUNK = 256


def flag(name: str, default: bool = False) -> Option:
    return lambda f: f.flag(name, default)


def kv_heads(f: Fields) -> int:
    return f.size("num_heads_kv", f[HEADS])


def inner(f: Fields) -> int:
    """Rounded up with a gate."""
    return -(-f[FFN] // CHUNK) * CHUNK if nomic_gated(f) else f[FFN]


def kv_width(f: Fields) -> int:
    return 2 * hidden_per_head(f) * kv_heads(f)


def qkv_width(f: Fields) -> int:
    return f[WIDTH] + kv_width(f)


def patches(f: Fields) -> int:
    return (f["img_size"] // f["patch_size"]) ** 2


def positions(f: Fields) -> int:
    """With one for the class token, but not where DINO's table goes with registers."""
    return patches(f) + (0 if f.flag("learned_pos_embedding", False) and f.count("register_tokens", 0) else 1)


def pixels(f: Fields) -> int:
    return f.size("num_channels", 3) * f["patch_size"] ** 2


BIASED = flag("qkv_proj_bias", True)
FIRST = flag("mlp_fc1_bias", True)
SECOND = flag("mlp_fc2_bias", True)
FEED_FORWARD = (
    When(nomic_gated, Linear("mlp.fc11", inner, WIDTH, FIRST), Linear("mlp.fc12", inner, WIDTH, FIRST)),
    When(unless(nomic_gated), Linear("mlp.fc1", inner, WIDTH, FIRST)),
    Linear("mlp.fc2", WIDTH, inner, SECOND),
)


def normed_inside(f: Fields) -> bool:
    return nomic_gated(f) and f.flag("norm_mlp", False)


NOMIC_VISION = Adjusted(
    Assembly(
        Rest(
            Linear("embeddings.proj", WIDTH, pixels, flag("patch_embed_bias", True)),
            When(unless(flag("no_cls_token")), Parameter("embeddings.cls_token", (1, 1, WIDTH))),
            When(flag("use_pos_embed", True), Parameter("embeddings.pos_embed", (1, positions, WIDTH), "embedding")),
            When(positive("register_tokens"), Parameter("embeddings.reg_token", (1, "register_tokens", WIDTH))),
            When(flag("mask_token"), Parameter("embeddings.mask_token", (1, WIDTH))),
        ),
        Layers(
            "layers",
            (
                Linear("attn.Wqkv", qkv_width, WIDTH, BIASED),
                Linear("attn.out_proj", WIDTH, WIDTH, BIASED),
                *FEED_FORWARD,
                When(normed_inside, Norm("mlp.norm", inner)),
                Norm("norm1"),
                Norm("norm2"),
            ),
            role="vision",
            kv_heads=kv_heads,
            ffn=inner,
        ),
        Rest(
            Linear("selector.attn.Wq", WIDTH, WIDTH, BIASED),
            Linear("selector.attn.Wkv", kv_width, WIDTH, BIASED),
            Parameter("selector.attn.latent", (1, 1, WIDTH)),
            Linear("selector.attn.out_proj", WIDTH, WIDTH, BIASED),
            Under("selector", *FEED_FORWARD, Norm("norm1")),
        ),
    ),
    lambda f: f.renamed(NOMIC_SPELLINGS),
)
NOMIC: Mapping[str, Model] = {"nomic_vision": one_class("NomicVision", "Model", NOMIC_VISION)}
