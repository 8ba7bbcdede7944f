"""dots3.note: latent attention with windows of its own sizes, and a tower whose later blocks have ever more experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastewq.architectures.assembly import WIDTH, Convolution, Family, Linear, Nested, Norm, Rest, Under, adjusted
from fastewq.architectures.audio_language.speech_language import hears
from fastewq.architectures.body import BlockStack, Body, Decoder, Overrides, listed, per_layer_config
from fastewq.architectures.decoders.dense import HEADS
from fastewq.architectures.decoders.latent import LatentAttention, indexer
from fastewq.architectures.fields import MAX_EXPERTS, Fields
from fastewq.architectures.heads import Model, decoder
from fastewq.architectures.parts import (
    Attention,
    GatedMLP,
    MixtureOfExperts,
    Part,
    Tensors,
    hidden_per_head,
    linear,
    norm,
)
from fastewq.architectures.vision.clip import PATCH_KERNEL
from fastewq.architectures.vision_language.multimodal import GENERATE, speaking

# -- the text model ---------------------------------------------------------------------------------------------------

SHARED_WIDTH = "shared_experts_intermediate_size"
SLIDING = {
    "num_attention_heads": 64,
    "q_lora_rank": 1024,
    "kv_lora_rank": 1024,
    "qk_nope_head_dim": 192,
    "v_head_dim": 128,
}
"""Sizes of layers with a window, where neither `per_layer_config` nor fields such as `swa_q_lora_rank` say others."""


def usual_layers(f: Fields, layers: int) -> Sequence[str]:
    """Every fourth layer and the first two see everything."""
    windows = f.flag("use_sliding_window", True)
    return ["sliding_attention" if windows and i >= 2 and i % 4 != 1 else "full_attention" for i in range(layers)]


def mixers(f: Fields, layers: int) -> Sequence[str]:
    """Full attention has an indexer unless `use_dsa` is off; beside `per_layer_config` the kinds are meant as named."""
    kinds = listed("layer_types", usual_layers)(f, layers)
    decided = f.value("use_dsa", None)
    if decided is None and f.has("per_layer_config") and f.has("layer_types"):
        return kinds
    full, indexed = "full_attention", "indexed_attention"
    old, new = (indexed, full) if decided is False else (full, indexed)
    return [new if kind == old else kind for kind in kinds]


def usual_experts(f: Fields, layers: int) -> Sequence[str]:
    first, often = f.count("first_k_dense_replace", 1), f.value("moe_layer_freq", 1)
    if isinstance(often, list | tuple):
        chosen = [bool(one) for one in f.per_layer("moe_layer_freq", layers)]
    else:
        chosen = [i % f.size("moe_layer_freq", 1) == 0 for i in range(layers)]
    return ["sparse" if i >= first and chosen[i] else "dense" for i in range(layers)]


def windowed(f: Fields, layers: int) -> Sequence[Overrides]:
    sizes = {name: f.size(f"swa_{name}", usual) for name, usual in SLIDING.items()}
    turned = f.size("swa_head_dim", 256) - sizes["qk_nope_head_dim"]
    sizes["qk_rope_head_dim"] = f.size("swa_qk_rope_head_dim", turned)
    changes = tuple(sizes.items())
    return [changes if kind == "sliding_attention" else () for kind in mixers(f, layers)]


def gate_and_norm(f: Fields) -> Tensors:
    return (*linear("g_proj", f[HEADS], f["hidden_size"]), *norm("k_rope_only_layernorm", f["qk_rope_head_dim"]))


def latent(*extras: Part) -> LatentAttention:
    return LatentAttention(low_rank_query=True, extras=(gate_and_norm, *extras))


TEXT: Mapping[str, Model] = {
    "dots3_note_text": decoder(
        Decoder(
            mixers={
                "indexed_attention": latent(indexer),
                "full_attention": latent(),
                "sliding_attention": latent(),
            },
            mixer_schedule=mixers,
            feed_forwards={
                "dense": GatedMLP(),
                "sparse": MixtureOfExperts(
                    experts="n_routed_experts",
                    shared=GatedMLP(prefix="shared_experts", inner=f"n_shared_experts*{SHARED_WIDTH}"),
                ),
            },
            feed_forward_schedule=listed("mlp_layer_types", usual_experts),
            per_layer=per_layer_config(windowed),
            renamed={"moe_shared_expert_intermediate_size": SHARED_WIDTH},
        )
    )
}

# -- the tower --------------------------------------------------------------------------------------------------------

SPELLINGS = {"embed_dim": "hidden_size", "num_heads": HEADS, "use_bias": "attention_bias"}
PYRAMID = [-1] * 25 + [*range(4, 65, 4), 64]
"""Experts of each block where a config does not say; -1 for none."""


def pyramid(f: Fields, layers: int) -> Sequence[int]:
    given = f.value("pyramid_num_routed", None)
    counts = PYRAMID[:layers] if given is None else f.per_layer("pyramid_num_routed", layers)
    if len(counts) < layers:
        raise f.refuse("num_hidden_layers", layers, f"at most {len(PYRAMID)} without pyramid_num_routed")
    if not all(type(count) is int and count <= MAX_EXPERTS for count in counts):
        raise f.refuse("pyramid_num_routed", given, f"a list of integers up to {MAX_EXPERTS}")
    return counts


def counted_blocks(f: Fields, layers: int) -> Sequence[str]:
    return ["sparse" if count > 0 else "dense" for count in pyramid(f, layers)]


def blocks_with_experts(f: Fields, layers: int) -> Sequence[str]:
    if f.value("pyramid_num_routed", None) is None:
        return listed("mlp_layer_types", counted_blocks)(f, layers)
    return counted_blocks(f, layers)


def experts_of_each(f: Fields, layers: int) -> Sequence[Overrides]:
    if f.value("pyramid_num_routed", None) is None and f.value("mlp_layer_types", None) is not None:
        return [()] * layers
    return [(("num_local_experts", count),) if count > 0 else () for count in pyramid(f, layers)]


BLOCKS = BlockStack(
    mixers={
        "attention": Attention(
            prefix="attn",
            fused="qkv",
            names=("", "", "", "proj"),
            bias="attention_bias",
            kv_heads=HEADS,
            dim=hidden_per_head,
            qk_norm="head",
        )
    },
    feed_forwards={"dense": GatedMLP(bias="mlp_bias"), "sparse": MixtureOfExperts(experts="num_local_experts")},
    feed_forward_schedule=blocks_with_experts,
    per_layer=per_layer_config(experts_of_each),
    norms=("norm1", "norm2"),
    layers="blocks",
    name="vision",
    role="vision",
)


def merged(f: Fields) -> int:
    return f["adapter_in_dim"] * f["adapter_merge_size"] ** 2


AROUND = Rest(
    Convolution("patch_embed.proj", WIDTH, "num_channels", PATCH_KERNEL),
    Norm("patch_embed.norm", bias=False),
    Norm("norm", bias=False),
    Under(
        "merger",
        Norm("ln_q", "adapter_in_dim"),
        Linear("mlp.0", merged, merged),
        Linear("mlp.2", "adapter_out_dim", merged),
    ),
)


def tower(f: Fields, path: str) -> Body:
    f = f.renamed(SPELLINGS)
    return AROUND(f, path)._replace(stacks=(BLOCKS.stack(f, path),), width=f[WIDTH])


EYES: Mapping[str, Model] = {"dots3_note_vision_encoder": Family("Dots3NoteVision", {"Model": tower})}

# -- the whole --------------------------------------------------------------------------------------------------------


def once_flat(f: Fields) -> Fields:
    """Published files have the text model's fields at the top."""
    return f.unflattened("text_config")


WHOLE = adjusted(
    speaking(Nested("text_config", "language_model", TEXT), Nested("vision_config", "vision_tower", EYES), hears()),
    once_flat,
)
DOTS3_NOTE: Mapping[str, Model] = {
    **TEXT,
    **EYES,
    "dots3_note": Family("Dots3Note", {**WHOLE, "ForCausalLM": WHOLE[GENERATE]}, GENERATE),
}
