"""Jina VLM: a tower of which two layers are read side by side, pooled by attention, and a decoder of the same blocks.

Follows jinaai/jina-vlm, modeling_jvlm.py, blocks_jvlm.py and configuration_jvlm.py, which are never run. Queries, keys
and values have their biases as bare tensors, which are there where they stay zero too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    WIDTH,
    Adjusted,
    Assembly,
    At,
    In,
    Linear,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    key_width,
    pair,
    query_width,
    times,
)
from fastewq.architectures.decoders.dense import uniform
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import Attention, GatedMLP, Part, head_dim, kv_heads
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.vision.clip import vision_layers


def settled(f: Fields, name: str, default: Any, *known: Any) -> None:
    """Refuses a field whose value, or the one that the code assumes, is none of the known ones."""
    f.replaced(**{name: f.value(name, default)}).require(name, known)


def attends(f: Fields, name: str) -> dict[str, Any]:
    sub = f.sub(name, "")
    for option in ("v_lnorm", "inner_lnorm"):
        sub.require(option, (False,))
    normed = sub.flag("q_lnorm", False)
    settled(sub, "k_lnorm", False, normed)
    if normed:
        settled(sub, "qkv_lnorm_on_heads", False, True)
        normalizes(sub, "rms")
    return {
        HEADS: sub.count("n_heads"),
        "num_key_value_heads": sub.value("n_kv_heads", None),
        "head_dim": sub.value("head_dim", None),
        "out_bias": sub.flag("o_bias", False),
        "qk_norm": normed,
    }


def feeds(f: Fields, name: str, width: int, gated: bool) -> dict[str, Any]:
    sub = f.sub(name, "")
    settled(sub, "gated_activation", True, gated)
    sub.require("inner_lnorm", (False,))
    given = sub.value("size", None) is not None
    inner = sub.count("size") if given else sub.count("ratio") * width
    return {FFN: inner, "ffn_bias": sub.flag("bias", False)}


def normalizes(f: Fields, *kinds: str) -> bool:
    """Whether norms have biases, of one of the kinds."""
    sub = f.sub("lnorm_config", "")
    settled(sub, "type", "default", *kinds)
    sub.require("with_affine", (True,))
    biased = sub.flag("bias", False)
    if kinds == ("rms",):
        sub.require("bias", (False,))
    return biased


def blocks(f: Fields, gated: bool, *kinds: str) -> dict[str, Any]:
    sub, width = f.sub("block_config", ""), f.count(WIDTH)
    for option in ("attn_lscale_init", "ffn_lscale_init"):
        sub.require(option, ())
    own = {"model_type": "", WIDTH: width, "num_hidden_layers": f.layers("n_layers")}
    own |= {**attends(sub, "attn_config"), **feeds(sub, "ffn_config", width, gated)}
    return own | {"norm_bias": normalizes(sub, *kinds)}


def told(f: Fields) -> Fields:
    """The same with flat configs for the three parts."""
    speaks, sees = f.sub("text_config"), f.sub("vision_config")
    pools = sees.sub("vl_connector_config", "")
    settled(speaks, "rope", False, True)
    settled(speaks, "tie_word_embeddings", True, False)
    settled(sees, "use_cls_token", True, False)
    settled(sees, "use_absolute_positional_embeddings", True, True)
    settled(sees, "linear_patch_embedding", True, True)
    settled(pools, "pooling_type", "attention", "attention", "attention_meanq")
    settled(pools, "projector_type", "mlp", "mlp")
    pools.choice("padding_embed_type", ("pad_and_partial_pad",))
    height, width = pair(sees, "input_size")
    side, read = sees.count("patch_size", low=1), sees.value("vit_layers")
    if not isinstance(read, list) or not read:
        raise sees.refuse("vit_layers", read, "a list of layers")
    rows = "vocab_size" if speaks.value("embedding_size", None) is None else "embedding_size"
    text = {"vocab_size": speaks.count(rows), "new_words": speaks.count("additional_vocab_size")}
    vision = {
        "positions": (height // side) * (width // side),
        "pixels": side * side * sees.count("n_channels"),
        "patch_bias": sees.flag("patch_embedding_bias", True),
        "pre_norm": sees.flag("pre_lnorm", False),
        "post_norm": sees.flag("post_lnorm", False),
    }
    seen = sees.count(WIDTH)
    connector = {"model_type": "", WIDTH: seen, "seen": seen * len(read), "told": sees.count("output_size")}
    connector |= {**attends(pools, "attn_pooling_config"), **feeds(pools, "mlp_projector_config", seen, True)}
    return f.replaced(
        text_config={**blocks(speaks, True, "rms"), **text},
        vision_config={**blocks(sees, False, "default", "low_precision"), **vision},
        connector=connector,
    )


BIASES: tuple[Part, ...] = (
    Parameter("q_b", (query_width,), "bias"),
    Parameter("k_b", (key_width,), "bias"),
    Parameter("v_b", (key_width,), "bias"),
)
ATTENTION = Attention(
    prefix="attn",
    fused="qkv_w",
    names=("", "", "", "out"),
    out_bias="out_bias",
    qk_norm="head",
    qk_norm_if="qk_norm",
    norm_names=("q_lnorm", "k_lnorm"),
    extras=BIASES,
)
TEXT = Assembly(
    uniform(
        ATTENTION,
        GatedMLP(prefix="ffn", fused="up", names=("", "", "down"), bias="ffn_bias"),
        norms=("attn_lnorm", "ffn_lnorm"),
        embed="",
        final_norm="ln_f",
        beside=(
            Parameter("embedding.embedding", ("vocab_size", WIDTH), "embedding"),
            Parameter("embedding.new_embedding", ("new_words", WIDTH), "embedding"),
        ),
    )
)
TOWER = Assembly(
    Rest(
        Parameter("pos_embed", ("positions", WIDTH), "embedding"),
        Linear("patch_embed.proj", WIDTH, "pixels", "patch_bias"),
        When("pre_norm", Norm("pre_lnorm", WIDTH, "norm_bias")),
        When("post_norm", Norm("post_lnorm", WIDTH, "norm_bias")),
    ),
    vision_layers(
        "layers",
        ATTENTION,
        Linear("ffn.up", FFN, WIDTH, "ffn_bias"),
        Linear("ffn.down", WIDTH, FFN, "ffn_bias"),
        Norm("attn_lnorm", WIDTH, "norm_bias"),
        Norm("ffn_lnorm", WIDTH, "norm_bias"),
        kv_heads=kv_heads,
        head_dim=head_dim,
    ),
)
CONNECTOR = Rest(
    Parameter("pad_embed", (2, "seen")),
    Under(
        "pooling",
        Linear("q_w", query_width, "seen", False),
        Linear("kv_w", times(2, key_width), "seen", False),
        Linear("out", WIDTH, query_width, "out_bias"),
        *BIASES,
    ),
    Linear("projector.up", times(2, FFN), WIDTH, "ffn_bias"),
    Linear("projector.down", "told", FFN, "ffn_bias"),
)
JINA_VLM: Mapping[str, Model] = {
    "jvlm": one_class(
        "JinaVLM",
        "ForConditionalGeneration",
        Adjusted(
            Assembly(
                At(
                    "model",
                    In("text_config", TEXT, path="language_model"),
                    In("vision_config", TOWER, path="vision_model"),
                    In("connector", CONNECTOR, path="vision_model.vl_connector"),
                ),
                Rest(Linear("lm_head", "text_config.vocab_size", "text_config.hidden_size", False)),
            ),
            told,
        ),
    ),
}
