"""Qwen4-Exp: several residual streams, linear and sparse attention, and tables of n-grams beside some layers.

Follows the library's modeling_qwen4_exp.py. The tables hold most of a model's parameters: each has as many rows as the
next prime number from `ngram_vocab_size_base` on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from fastewq.architectures.assembly import Family, Nested
from fastewq.architectures.body import Decoder, Overrides
from fastewq.architectures.decoders.linear_attention import (
    QWEN_LAYERS,
    QWEN_NEXT_EXPERTS,
    GatedAttention,
    GatedDeltaNet,
    qwen3_5_projections,
)
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import BodyAndHeads, decoder
from fastewq.architectures.parts import (
    Tensors,
    convolution,
    embedding,
    field_or,
    linear,
    norm,
    prefixed,
)
from fastewq.architectures.vision.qwen_towers import QWEN3_5_TOWER
from fastewq.architectures.vision_language.multimodal import GENERATE, speaking

MAX_TABLES = 1024
"""n-gram tables of one model; published ones have 16 in each of a few layers."""
WITNESSES = (2, 3, 5, 7)
"""Enough to tell every prime below 3.2e9, after Pomerance, Selfridge and Wagstaff, Math. Comp. 35 (1980)."""


def is_prime(n: int) -> bool:
    """The test of Miller and Rabin."""
    if n < 2 or any(n % p == 0 for p in WITNESSES):
        return n in WITNESSES
    twos = ((n - 1) & (1 - n)).bit_length() - 1
    for base in WITNESSES:
        power = pow(base, (n - 1) >> twos, n)
        if power not in (1, n - 1) and all((power := power * power % n) != n - 1 for _ in range(twos - 1)):
            return False
    return True


@lru_cache(16)
def primes(first: int, count: int) -> tuple[int, ...]:
    """The first primes that are not below a number."""
    found: list[int] = []
    while len(found) < count:
        if is_prime(first):
            found.append(first)
        first += 1
    return tuple(found)


# -- n-grams ----------------------------------------------------------------------------------------------------------

EMBED = field_or("ple_embed_dim", "hidden_size")


def tables_per_layer(f: Fields) -> int:
    return (f.count("ngram_size", low=2, high=64) - 1) * f.count("heads_per_ngram", low=1, high=MAX_TABLES)


def places(f: Fields, layers: int) -> Sequence[Overrides]:
    """Which layers have n-grams, counted from 1 in `ple_layer_ids`; each has tables of sizes of its own."""
    ids = sorted(f.indices("ple_layer_ids"))
    kinds = QWEN_LAYERS(f, layers)
    for layer in ids:
        if not 0 < layer <= layers or kinds[layer - 1] != "linear_attention":
            raise f.refuse("ple_layer_ids", layer, f"a layer from 1 to {layers} with linear attention")
    if len(ids) * tables_per_layer(f) > MAX_TABLES:
        raise f.refuse("ple_layer_ids", ids, f"at most {MAX_TABLES} tables of n-grams")
    return [(("ngram_layer", ids.index(i + 1) if i + 1 in ids else None),) for i in range(layers)]


def table_rows(f: Fields, place: int) -> int:
    """Rows of all tables of a layer, padded to a multiple."""
    tables, divisor = tables_per_layer(f), f["make_ngram_vocab_size_divisible_by"]
    rows = sum(primes(f["ngram_vocab_size_base"], (place + 1) * tables)[place * tables :])
    return -(-rows // divisor) * divisor


def ngrams(f: Fields) -> Tensors:
    place = f.value("ngram_layer", None)
    if place is None:
        return ()
    width, tables, streams = EMBED(f), tables_per_layer(f), f["hc_count"] * f["hidden_size"]
    if width % tables:
        raise f.refuse("ple_embed_dim", width, f"a multiple of the {tables} tables of n-grams")
    tensors = (
        *embedding("ple_embedding.ngram_embedding", table_rows(f, place), width // tables),
        *linear("key_proj", streams, width),
        *linear("value_proj", f["hidden_size"], width),
        *(t for name in ("norm_key", "norm_query", "norm_conv") for t in norm(name, streams)),
        *convolution("conv1d", streams, 1, f["ple_conv_kernel_size"], bias=False),
    )
    return prefixed("ple", tensors)


# -- residual streams and attention -----------------------------------------------------------------------------------


def mixed_streams(f: Fields, name: str) -> Tensors:
    """What makes one stream of several, with a matrix of low rank."""
    streams, rank = f.count("hc_count", low=2) * f["hidden_size"], f["hc_lowrank"]
    return (
        *norm(f"{name}.hc_norm", streams),
        *linear(f"{name}.input_mix_weight_down", rank, streams),
        *linear(f"{name}.input_mix_weight_up", streams, rank),
    )


def connections(f: Fields) -> Tensors:
    return tuple(
        t
        for name in ("attn_hyper_connection", "mlp_hyper_connection")
        for t in (
            *mixed_streams(f, name),
            *linear(f"{name}.block_inject_weight", f["hc_count"], f["hc_count"] * f["hidden_size"]),
        )
    )


def indexer(f: Fields) -> Tensors:
    """The small scorer that picks which blocks of tokens are read; its keys have one head."""
    keys = f.choice("indexer_kv_heads", (1,))
    dim = f["indexer_head_dim"]
    return (
        *linear("indexer.index_qk_proj", (f["indexer_n_heads"] + keys) * dim, f["hidden_size"]),
        *norm("indexer.q_layernorm", dim),
        *norm("indexer.k_layernorm", dim),
    )


INDEXED = GatedAttention(bias="attention_bias", qk_norm="head", dim="head_dim", extras=(indexer,))
QWEN4_TEXT: Mapping[str, BodyAndHeads] = {
    "qwen4_exp_text": decoder(
        Decoder(
            mixers={
                "linear_attention": GatedDeltaNet(projections=qwen3_5_projections),
                "indexed_attention": INDEXED,
                "full_attention": INDEXED,
            },
            mixer_schedule=QWEN_LAYERS,
            feed_forwards={"sparse": QWEN_NEXT_EXPERTS},
            per_layer=places,
            norms=(),
            extras=(connections, ngrams),
            beside=(lambda f: mixed_streams(f, "hyper_connection_mixer"),),
            final_norm="",
        )
    ),
}
TOWER = {"qwen4_exp_vision": Family("Qwen4ExpVision", {"Model": QWEN3_5_TOWER})}
QWEN4: Mapping[str, BodyAndHeads | Family] = {
    **QWEN4_TEXT,
    **TOWER,
    "qwen4_exp": Family(
        "Qwen4Exp",
        speaking(Nested("vision_config", "visual", TOWER), Nested("text_config", "language_model", QWEN4_TEXT)),
        GENERATE,
    ),
}
