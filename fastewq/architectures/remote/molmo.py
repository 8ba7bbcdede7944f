"""Molmo: a tower whose last blocks are left out, pooling by attention, and a decoder in the style of OLMo.

Follows allenai/Molmo-7B-D-0924, modeling_molmo.py, whose tower has sizes that are in that code alone, and
allenai/MolmoPoint-8B, modeling_molmo_point.py, which points by what it saw: the parts of Molmo 2 under the names of its
files. They are never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from fastewq.architectures.assembly import (
    FFN,
    WIDTH,
    Adjusted,
    Assembly,
    At,
    Family,
    In,
    Linear,
    Norm,
    Only,
    Parameter,
    Rest,
    Under,
    When,
    key_width,
    length,
    linears,
    positive,
    query_width,
)
from fastewq.architectures.body import Decoder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Attention, GatedMLP, Option, Part, head_dim, kv_heads
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.remote.multimodal import nested
from fastewq.architectures.vision.clip import vision_layers
from fastewq.architectures.vision_language.molmo2 import (
    READ,
    norms,
    positions,
    side_by_side,
    spelled,
    spelled_adapter,
    spelled_tower,
)

EYE = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 23,
}
POSITIONS, PIXELS, POOLED = 577, 588, "2*vision_config.hidden_size"
NEW_WORDS = 128


def completed(f: Fields) -> Fields:
    """The same with the tower's config, and the width of one half of the fused feed-forward."""
    f.choice("attention_layer_norm", (False,), False)
    f.choice("layer_norm_type", ("rms",))
    f.choice("weight_tying", (False,))
    return f.replaced(vision_config=EYE, inner=f.count("intermediate_size", low=2) // 2)


def attention(name: str, seen: Size, out: Option = True) -> Part:
    return Under(
        name,
        Linear("wq", query_width, seen),
        *linears("", "wk wv", key_width, seen),
        When(out, Linear("wo", WIDTH, query_width)),
    )


BLOCKS = vision_layers(
    "transformer.resblocks",
    attention("attention", WIDTH),
    Linear("feed_forward.w1", FFN, WIDTH),
    Linear("feed_forward.w2", WIDTH, FFN),
    Norm("attention_norm"),
    Norm("ffn_norm"),
    kv_heads=kv_heads,
    head_dim=head_dim,
)
TOWER = Assembly(
    Rest(
        Parameter("class_embedding", (WIDTH,)),
        Parameter("positional_embedding", (POSITIONS, WIDTH), "embedding"),
        Linear("patch_embedding", WIDTH, PIXELS, False),
        Norm("pre_ln"),
    ),
    BLOCKS,
)
SEEN, SAID = "vision_config.hidden_size", "text_config.hidden_size"
ATTENTION = Attention(prefix="", fused="att_proj", names=("", "", "", "attn_out"), bias="qkv_bias", out_bias=False)
MLP = GatedMLP(prefix="", fused="ff_proj", names=("", "", "ff_out"), inner="inner")


def words(known: Size, new: Size) -> tuple[Part, ...]:
    return tuple(
        Parameter(f"wte.{name}", (rows, WIDTH), "embedding")
        for name, rows in (("embedding", known), ("new_embedding", new))
    )


DECODER = Decoder(
    mixers={"attention": ATTENTION},
    feed_forwards={"dense": MLP},
    norms=("attn_norm", "ff_norm"),
    layers="blocks",
    embed="",
    final_norm="ln_f",
    vocab="embedding_size",
    beside=words("embedding_size", NEW_WORDS),
)

POINTS: Final = {"patch_embed_dim": 256, "layer_norm_x": True, "patch_location": "3x3"}
POOLS: Final = {"positional_embeddings": 16, "attention_pooling_out_layer": False}
"""What the code of MolmoPoint assumes of fields that a config leaves out, and its `adapter_config`."""
PLACES = 9


def pointing(f: Fields) -> Fields:
    """The same with the nested configs of Molmo 2, as deep as the tower is read."""
    sides = {
        "vision_config": {**nested(f, "vit_config"), "model_type": "molmo2_vision"},
        "adapter_config": {**POOLS, **nested(f, "adapter_config"), "model_type": "molmo2_adapter"},
        "text_config": {**nested(f, "text_config"), "model_type": "molmo2_text"},
    }
    f = spelled(f.replaced(**{name: f.value(name, value) for name, value in POINTS.items()}, **sides))
    f.choice("patch_location", ("3x3", None))
    f.choice("embed_selected_vit_patch", ("linear",), "linear")
    f.sub("text_config").choice("use_qk_norm", (True,))
    return f


def all_seen(f: Fields) -> int:
    return f[SEEN] * spelled_adapter(f.sub("adapter_config"))[length(READ)]


def placed(f: Fields) -> bool:
    return f.value("patch_location") is not None


def untied(f: Fields) -> bool:
    return not f.sub("text_config").flag("tie_word_embeddings")


POINTED = replace(ATTENTION, prefix="self_attn")
POINTING = Assembly(
    At(
        "model",
        In(
            "text_config",
            replace(
                DECODER,
                mixers={"qwen3": replace(POINTED, qk_norm="head"), "olmo": replace(POINTED, qk_norm="full")},
                mixer_schedule=norms,
                feed_forwards={"dense": replace(MLP, prefix="mlp", inner=FFN)},
                vocab="vocab_size",
                beside=words("vocab_size", "additional_vocab_size"),
            ),
            path="transformer",
        ),
        In(
            "vision_config",
            Adjusted(
                Assembly(
                    Rest(
                        Parameter("positional_embedding", (positions, WIDTH), "embedding"),
                        Linear("patch_embedding", WIDTH, "patch_size*patch_size*num_channels"),
                    ),
                    BLOCKS,
                ),
                spelled_tower,
            ),
            path="vit",
        ),
        In(
            "adapter_config",
            Adjusted(
                Rest(
                    attention("image_pooling_2d", side_by_side, "attention_pooling_out_layer"),
                    *linears("image_projector", "w1 w3", FFN, WIDTH, False),
                    Linear("image_projector.w2", "text_hidden_size", FFN, False),
                    When(
                        positive("positional_embeddings"),
                        Parameter("positional_embeddings.bias", ("positional_embeddings", side_by_side), "embedding"),
                    ),
                ),
                spelled_adapter,
            ),
            path="connector",
        ),
        Rest(
            Linear("build_vit_embedding", SAID, all_seen),
            Under(
                "point_predictor",
                When("layer_norm_x", Norm("x_norm", SAID, False)),
                *linears("", "patch_q patch_k subpatch_q", "patch_embed_dim", SAID),
                Linear("subpatch_k", "patch_embed_dim", all_seen),
                Parameter("add_no_point_class_embed.vector", ("patch_embed_dim",)),
                When(placed, Linear("subpatch_loc_k", PLACES, SAID)),
            ),
        ),
    ),
    Only(
        untied,
        Rest(
            Parameter("lm_head.output_embeddings", ("text_config.vocab_size", SAID), "linear"),
            Parameter("lm_head.new_output_embeddings", (NEW_WORDS, SAID), "linear"),
        ),
    ),
)

MOLMO: Mapping[str, Family] = {
    "molmo": one_class(
        "Molmo",
        "ForCausalLM",
        Adjusted(
            At(
                "model",
                At("transformer", DECODER, Rest(Linear("ff_out", "embedding_size", WIDTH, False))),
                At(
                    "vision_backbone",
                    In("vision_config", TOWER, path="image_vit"),
                    Rest(
                        *linears("image_pooling_2d", "wq wk wv", SEEN, POOLED),
                        Linear("image_pooling_2d.wo", SEEN, SEEN),
                        *linears("image_projector", "w1 w3", "inner", SEEN, False),
                        Linear("image_projector.w2", WIDTH, "inner", False),
                        Parameter("pad_embed", (2, POOLED)),
                    ),
                ),
            ),
            completed,
        ),
    ),
    "molmo_point": one_class("MolmoPoint", "ForConditionalGeneration", Adjusted(POINTING, pointing)),
}
