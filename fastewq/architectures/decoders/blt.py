"""The byte latent transformer: bytes are gathered into patches, patches are predicted, and written out as bytes."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
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
    Rest,
    StackRole,
    Variant,
    When,
    length,
    linears,
    quotient,
)
from fastewq.architectures.body import Body, BodyBuilder
from fastewq.architectures.fields import Fields
from fastewq.architectures.parts import Part, kv_heads

HEAD = quotient(WIDTH, HEADS)


def keys(f: Fields) -> int:
    return kv_heads(f) * f[HEAD]


def inner(f: Fields) -> int:
    """Eight thirds of the width, where the config has no other."""
    return f.optional_size(FFN) or 8 * f[WIDTH] // 3


def queries(f: Fields) -> int:
    return f[HEADS] * f[HEAD]


def attention(name: str) -> tuple[Part, ...]:
    return (
        Linear(f"{name}q_proj", queries, WIDTH, False),
        *linears(name.rstrip("."), "k_proj v_proj", keys, WIDTH, False),
        Linear(f"{name}o_proj", WIDTH, queries, False),
    )


def blocks(name: str, role: StackRole) -> BodyBuilder:
    return Layers(
        "layers",
        (
            *attention("self_attn."),
            *linears("mlp", "gate_proj up_proj", inner, WIDTH, False),
            Linear("mlp.down_proj", WIDTH, inner, False),
            Norm("input_layernorm", bias=False),
            Norm("post_attention_layernorm", bias=False),
        ),
        name=name,
        role=role,
        kv_heads=kv_heads,
        head_dim=HEAD,
        ffn=inner,
        norm="rms",
    )


def crossings(f: Fields) -> int:
    """Blocks that read the other level: all, or one."""
    return f.layers() if f.flag("cross_attn_all_layers") else 1


ATTENDS = Variant(feed_forward="none")


def crossing(name: str, role: StackRole) -> BodyBuilder:
    return Layers(
        "cross_attn_layers",
        (*attention(""), Norm("q_norm", bias=False), Norm("k_norm", bias=False)),
        count=crossings,
        name=name,
        role=role,
        kv_heads=kv_heads,
        head_dim=HEAD,
        ffn=0,
        norm="rms",
        variants={"": ATTENDS},
    )


GATHERED = f"{WIDTH}*cross_attn_k"
ENCODER = Assembly(
    Rest(Embedding("embed_tokens", "vocab_size"), Linear("patch_embedding_projection", GATHERED, WIDTH, False)),
    blocks("bytes_in", "encoder"),
    crossing("bytes_in_cross", "encoder"),
)
DECODER = Assembly(
    Rest(Linear("patch_embedding_projection", GATHERED, "hidden_size_global", False), Norm("norm", bias=False)),
    crossing("bytes_out_cross", "decoder"),
    blocks("bytes_out", "decoder"),
)
PATCHER = Assembly(
    Rest(
        Embedding("embed_tokens", "vocab_size"),
        Norm("norm", bias=False),
        Linear("lm_head", "vocab_size", WIDTH, False),
    ),
    blocks("patcher", "encoder"),
)


def gathered(f: Fields) -> int:
    """Features of a patch, as the bytes' encoder gives them."""
    encoder = f.sub("encoder_config")
    return encoder[WIDTH] * f["cross_attn_k"]


TOGETHER = "patch_width"
GLOBAL = Assembly(
    Rest(When(lambda f: f[TOGETHER] != f[WIDTH], Linear("token_embedding_projection", WIDTH, TOGETHER, False))),
    blocks("patches", "decoder"),
)


def hashes(f: Fields) -> int:
    """Rows of the table of groups of bytes: a part for each function and length of a group."""
    lengths = 6 if not f.value("encoder_hash_byte_group_size", None) else f[length("encoder_hash_byte_group_size")]
    return f["encoder_hash_byte_group_vocab"] * f["encoder_hash_byte_group_nb_functions"] * lengths


def bytes_at_last(f: Fields, path: str) -> Body:
    """The whole, whose words are bytes."""
    return WHOLE(f, path)._replace(vocab_size=f.count("vocab_size", low=1))


WHOLE = Assembly(
    Rest(Embedding("encoder_hash_tok_embedding", hashes, f"encoder_config.{WIDTH}")),
    Only("patch_in_forward", In("patcher_config", PATCHER, path="patcher")),
    In("encoder_config", ENCODER, path="local_encoder"),
    In("global_config", GLOBAL, path="global_transformer", patch_width=gathered),
    In("decoder_config", DECODER, path="local_decoder"),
)
BLT: Mapping[str, Family] = {
    "blt": Family(
        "Blt",
        {
            "Model": bytes_at_last,
            "ForCausalLM": Assembly(
                At("model", bytes_at_last),
                Rest(Linear("lm_head", "vocab_size", f"decoder_config.{WIDTH}", False, UNTIED)),
            ),
        },
        "ForCausalLM",
    ),
    "blt_patcher": Family("BltPatcher", {"": PATCHER}, "", ""),
    "blt_local_encoder": Family("BltLocalEncoder", {"": ENCODER}, "", ""),
    "blt_local_decoder": Family("BltLocalDecoder", {"": DECODER}, "", ""),
    "blt_global_transformer": Family("BltGlobalTransformer", {"": blocks("patches", "decoder")}, "", ""),
}
