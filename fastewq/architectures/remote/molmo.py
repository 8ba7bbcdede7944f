"""Molmo: CLIP's tower without its last block, pooling by attention, and a decoder in the style of OLMo.

Follows allenai/Molmo-7B-D-0924, modeling_molmo.py, which is never run. The sizes of the tower are in that code alone.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    Parameter,
    Rest,
    linears,
)
from fastewq.architectures.decoders.dense import uniform
from fastewq.architectures.fields import Fields
from fastewq.architectures.parts import Attention, GatedMLP
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.vision.clip import vision_layers

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


TOWER = Assembly(
    Rest(
        Parameter("class_embedding", (WIDTH,)),
        Parameter("positional_embedding", (POSITIONS, WIDTH), "embedding"),
        Linear("patch_embedding", WIDTH, PIXELS, False),
        Norm("pre_ln"),
    ),
    vision_layers(
        "transformer.resblocks",
        *linears("attention", "wq wk wv wo"),
        Linear("feed_forward.w1", FFN, WIDTH),
        Linear("feed_forward.w2", WIDTH, FFN),
        Norm("attention_norm"),
        Norm("ffn_norm"),
    ),
)
SEEN = "vision_config.hidden_size"
DECODER = uniform(
    Attention(prefix="", fused="att_proj", names=("", "", "", "attn_out"), bias="qkv_bias", out_bias=False),
    GatedMLP(prefix="", fused="ff_proj", names=("", "", "ff_out"), inner="inner"),
    norms=("attn_norm", "ff_norm"),
    layers="transformer.blocks",
    embed="transformer.wte.embedding",
    final_norm="transformer.ln_f",
    vocab="embedding_size",
)
MOLMO: Mapping[str, Family] = {
    "molmo": one_class(
        "Molmo",
        "ForCausalLM",
        Adjusted(
            At(
                "model",
                DECODER,
                Rest(
                    Parameter("transformer.wte.new_embedding", (NEW_WORDS, WIDTH), "embedding"),
                    Linear("transformer.ff_out", "embedding_size", WIDTH, False),
                ),
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
    )
}
