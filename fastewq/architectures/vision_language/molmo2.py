"""Molmo 2: a tower whose layers are read side by side, pooling by attention, and a decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastewq.architectures.assembly import (
    FFN,
    WIDTH,
    Assembly,
    Embedding,
    Family,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    Under,
    adjusted,
    key_width,
    length,
    linears,
    query_width,
    sizes,
)
from fastewq.architectures.body import Decoder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import Model, decoder
from fastewq.architectures.parts import Attention, GatedMLP, Part, head_dim, kv_heads
from fastewq.architectures.vision.clip import vision_layers
from fastewq.architectures.vision_language.multimodal import GENERATE, OWN_LM_HEAD, speaking

READ = "vision_feature_layer"


def words(f: Fields) -> int:
    return f["vocab_size"] + f.count("additional_vocab_size")


def norms(f: Fields, layers: int) -> Sequence[str]:
    return [f.choice("qk_norm_type", ("qwen3", "olmo"))] * layers


def positions(f: Fields) -> int:
    """Patches of an image of 378 pixels a side, or of the size given."""
    if f.value("num_position_embeddings", None) is not None:
        return f["num_position_embeddings"]
    size = (378, 378) if f.value("image_size", None) is None else sizes(f, "image_size", 2)
    return (size[0] // f["patch_size"]) * (size[1] // f["patch_size"])


def attention(name: str, seen: Size) -> Part:
    return Under(
        name,
        Linear("q_proj", query_width, seen, "attention_bias"),
        *linears("", "k_proj v_proj", key_width, seen, "attention_bias"),
        Linear("o_proj", WIDTH, query_width, "attention_bias"),
    )


TOWER = Assembly(
    Rest(
        Parameter("positional_embedding", (positions, WIDTH), "embedding"),
        Linear("patch_embedding", WIDTH, "patch_size*patch_size*num_channels"),
    ),
    vision_layers(
        "layers",
        Norm("layer_norm1"),
        Norm("layer_norm2"),
        attention("self_attn", WIDTH),
        Linear("mlp.fc1", FFN, WIDTH),
        Linear("mlp.fc2", WIDTH, FFN),
        kv_heads=kv_heads,
        head_dim=head_dim,
    ),
)


def side_by_side(f: Fields) -> int:
    return f[WIDTH] * f[length(READ)]


ADAPTER = Rest(
    attention("image_pooling_2d", side_by_side),
    *linears("image_projector", "gate_proj up_proj", FFN, WIDTH, "mlp_bias"),
    Linear("image_projector.down_proj", "text_hidden_size", FFN, False),
)
OLD_VISION = {
    "image_default_input_size": "image_size",
    "image_patch_size": "patch_size",
    "image_num_pos": "num_position_embeddings",
}


def spelled_tower(f: Fields) -> Fields:
    return f.renamed(OLD_VISION)


def spelled_adapter(f: Fields) -> Fields:
    read = f.renamed({"vit_layers": READ})
    return read if read.value(READ, None) is not None else read.replaced(**{READ: [24, 18]})


def spelled(f: Fields) -> Fields:
    """Files with the tower as `vit_config` have all its layers; those after the last one that is read are left out."""
    if f.value("vision_config", None) is None and f.has("vit_config"):
        f.sub("vit_config", "")  # which counts as read
        f = f.renamed({"vit_config": "vision_config"})
    depth = f.sub("vision_config").layers()
    read = spelled_adapter(f.sub("adapter_config")).value(READ)
    known = range(-depth, depth)
    if not isinstance(read, list | tuple) or not read or not all(type(i) is int and i in known for i in read):
        raise f.refuse(f"adapter_config.{READ}", read, f"a list of the {depth} layers of the tower")
    if not f.has("vit_config"):
        return f
    kept: dict[str, Any] = {**f.value("vision_config"), "num_hidden_layers": max(i % depth for i in read) + 1}
    return f.replaced(vision_config=kept)


TEXT: Mapping[str, Model] = {
    "molmo2_text": decoder(
        Decoder(
            mixers={
                "qwen3": Attention(bias="attention_bias", out_bias=False, qk_norm="head"),
                "olmo": Attention(bias="attention_bias", out_bias=False, qk_norm="full"),
            },
            mixer_schedule=norms,
            feed_forwards={"dense": GatedMLP()},
            embed="",
            beside=(Embedding("embed_tokens", words),),
        )
    )
}
EYES = {"molmo2_vision": Family("Molmo2Vision", adjusted({"Model": TOWER}, spelled_tower))}
POOLING = {"molmo2_adapter": Family("Molmo2", adjusted({"Adapter": ADAPTER}, spelled_adapter), "Adapter", "Adapter")}
MOLMO2: Mapping[str, Model] = {
    **TEXT,
    **EYES,
    "molmo2": Family(
        "Molmo2",
        adjusted(
            speaking(
                Nested("vision_config", "vision_tower", EYES),
                Nested("adapter_config", "multi_modal_projector", POOLING),
                Nested("text_config", "language_model", TEXT),
                lm_head=OWN_LM_HEAD,
            ),
            spelled,
        ),
        GENERATE,
    ),
}
