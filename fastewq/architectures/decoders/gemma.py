"""Gemma 3n, Gemma 4 and their relatives: layers that reuse keys and values, and embeddings for every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from fastewq.architecture import FeedForward as FeedForwardKind
from fastewq.architecture import Mixer as MixerKind
from fastewq.architectures.body import Decoder, Overrides, every, listed, per_layer_config
from fastewq.architectures.decoders.dense import GEMMA2_NORMS
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model, decoder, no_head
from fastewq.architectures.parts import (
    Attention,
    FeedForwardPart,
    GatedMLP,
    Heads,
    MixerPart,
    Option,
    Part,
    Tensors,
    chosen,
    embedding,
    linear,
    norm,
    parameter,
    prefixed,
)


@dataclass(frozen=True, kw_only=True)
class Without(MixerPart):
    """An attention that lacks some of its tensors, by name below its prefix, where an option holds."""

    kind: ClassVar[MixerKind] = "attention"

    attention: Attention
    names: tuple[str, ...]
    when: Option = True

    def facts(self, f: Fields) -> Heads:
        return self.attention.facts(f)

    def __call__(self, f: Fields) -> Tensors:
        tensors = self.attention(f)
        if not chosen(f, self.when):
            return tensors
        dropped = tuple(f"{self.attention.prefix}.{name}." for name in self.names)
        return tuple(t for t in tensors if not t.name.startswith(dropped))


GEMMA_ATTENTION = Attention(bias="attention_bias", qk_norm="head")
REUSING = Without(attention=GEMMA_ATTENTION, names=("k_proj", "v_proj", "k_norm"))
KEYS_ARE_VALUES = Without(attention=GEMMA_ATTENTION, names=("v_proj",), when="attention_k_eq_v")


def first_reusing(f: Fields, layers: int) -> int:
    """The first of the last `num_kv_shared_layers` layers, which have no keys and values of their own."""
    reusing = f.count("num_kv_shared_layers")
    if reusing and reusing >= layers:
        raise f.refuse("num_kv_shared_layers", reusing, f"less than the {layers} layers")
    return layers - reusing


def per_layer_inputs(prefix: str = "") -> Part:
    """What feeds the per-layer embedding into a block; absent where its width is 0."""

    def part(f: Fields) -> Tensors:
        width, hidden = f.count("hidden_size_per_layer_input"), f["hidden_size"]
        if not width:
            return ()
        tensors = (
            *linear("per_layer_input_gate", width, hidden),
            *linear("per_layer_projection", hidden, width),
            *norm("post_per_layer_input_norm", hidden),
        )
        return prefixed(prefix, tensors)

    return part


def per_layer_table(f: Fields) -> Tensors:
    """The embedding of every layer, side by side, and the projection that joins the token embedding to it."""
    width, layers = f.count("hidden_size_per_layer_input"), f.layers()
    if not width or not layers:
        return ()
    return (
        *embedding("embed_tokens_per_layer", f["vocab_size_per_layer_input"], layers * width),
        *linear("per_layer_model_projection", layers * width, f["hidden_size"]),
        *norm("per_layer_projection_norm", width),
    )


# -- Gemma 3n --------------------------------------------------------------------------------------------------------


def gemma3n_mixers(f: Fields, layers: int) -> Sequence[str]:
    own = first_reusing(f, layers)
    return ["own"] * own + ["reusing"] * (layers - own)


def gemma3n_widths(f: Fields, layers: int) -> Sequence[Overrides]:
    """`intermediate_size` may be a list."""
    if not isinstance(f.value("intermediate_size"), list | tuple):
        return [()] * layers
    return [(("intermediate_size", width),) for width in f.sizes("intermediate_size", layers)]


def altup_and_laurel(f: Fields) -> Tensors:
    """Several copies of the residual stream (AltUp, arXiv 2301.13310) and a low-rank bypass (LAuReL, 2411.07501)."""
    hidden, copies, rank = f["hidden_size"], f["altup_num_inputs"], f["laurel_rank"]
    return (
        *parameter("altup.correct_output_scale", hidden),
        *linear("altup.correction_coefs", copies, copies),
        *linear("altup.prediction_coefs", copies**2, copies),
        *linear("altup.modality_router", copies, hidden, role="router"),
        *norm("altup.router_norm", hidden),
        *linear("laurel.linear_left", rank, hidden),
        *linear("laurel.linear_right", hidden, rank),
        *norm("laurel.post_laurel_norm", hidden),
    )


def altup_projections(f: Fields) -> Tensors:
    hidden, copies = f["hidden_size"], f.count("altup_num_inputs", low=1, high=64)
    names = ("altup_projections", "altup_unembed_projections")
    return tuple(t for name in names for i in range(copies - 1) for t in linear(f"{name}.{i}", hidden, hidden))


# -- Gemma 4 ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Gemma4Experts(FeedForwardPart):
    """Experts beside a dense feed-forward, each behind norms of its own."""

    kind: ClassVar[FeedForwardKind] = "experts"

    dense: GatedMLP = field(default_factory=GatedMLP)

    def facts(self, f: Fields) -> tuple[int, int]:
        return f["moe_intermediate_size"], f.experts("num_experts")

    def __call__(self, f: Fields) -> Tensors:
        hidden, (inner, experts) = f["hidden_size"], self.facts(f)
        names = ("post_feedforward_layernorm_1", "post_feedforward_layernorm_2", "pre_feedforward_layernorm_2")
        return (
            *self.dense(f),
            *linear("router.proj", experts, hidden, role="router"),
            *parameter("router.scale", hidden, role="router"),
            *parameter("router.per_expert_scale", experts, role="router"),
            *parameter("experts.gate_up_proj", experts, 2 * inner, hidden, role="experts"),
            *parameter("experts.down_proj", experts, hidden, inner, role="experts"),
            *(t for name in names for t in norm(name, hidden)),
        )


GEMMA_LAYERS = listed("layer_types", every(6, "full_attention", "sliding_attention"))


def gemma4_layers(f: Fields, layers: int) -> Sequence[str]:
    """`layer_types`, of which the last is always full attention."""
    return [*GEMMA_LAYERS(f, layers)[: layers - 1], "full_attention"] if layers else []


def gemma4_mixers(f: Fields, layers: int) -> Sequence[str]:
    own = first_reusing(f, layers)
    return [kind if i < own else "reusing" for i, kind in enumerate(gemma4_layers(f, layers))]


def gemma4_feed_forwards(f: Fields, layers: int) -> Sequence[str]:
    """Layers that reuse keys and values may have a feed-forward of twice the width."""
    experts, own = f.flag("enable_moe_block", False), first_reusing(f, layers)
    plain, wide = ("experts", "wide_experts") if experts else ("dense", "wide")
    return [wide if i >= own and f.flag("use_double_wide_mlp") else plain for i in range(layers)]


def gemma4_heads(f: Fields, layers: int) -> Sequence[Overrides]:
    """Full attention has wider heads, and where keys are values its own number of key-value heads."""
    changes: Overrides = (("head_dim", f.size("global_head_dim", 512)),)
    heads = f.optional_size("num_global_key_value_heads")
    if heads is not None and f.flag("attention_k_eq_v", True):
        changes += (("num_key_value_heads", heads),)
    return [changes if kind == "full_attention" else () for kind in gemma4_layers(f, layers)]


WIDE = GatedMLP(inner="2*intermediate_size")
GEMMA4 = Decoder(
    mixers={"sliding_attention": GEMMA_ATTENTION, "full_attention": KEYS_ARE_VALUES, "reusing": REUSING},
    mixer_schedule=gemma4_mixers,
    feed_forwards={
        "dense": GatedMLP(),
        "wide": WIDE,
        "experts": Gemma4Experts(),
        "wide_experts": Gemma4Experts(dense=WIDE),
    },
    feed_forward_schedule=gemma4_feed_forwards,
    per_layer=per_layer_config(gemma4_heads),
    norms=GEMMA2_NORMS,
    extras=(per_layer_inputs(),),
    beside=(per_layer_table,),
)

# -- EmbeddingGemma 2 ------------------------------------------------------------------------------------------------


EMBEDDING_GEMMA_LAYERS = listed(
    "layer_types", every(lambda f: f.size("sliding_window_pattern", 6), "full_attention", "sliding_attention")
)


def embedding_gemma_heads(f: Fields, layers: int) -> Sequence[Overrides]:
    """Full attention, which the last layer always has, has wider heads, and fewer of them for keys and values."""
    dim, heads = f.size("global_head_dim", 512), f.size("num_global_key_value_heads", 1)
    wide: Overrides = (("head_dim", dim), ("num_key_value_heads", heads))
    kinds = EMBEDDING_GEMMA_LAYERS(f, layers)
    return [wide if kind == "full_attention" or i == layers - 1 else () for i, kind in enumerate(kinds)]


def layer_inputs_and_output(f: Fields) -> Tensors:
    """What every block gets beside the residual stream, and the width of an embedding."""
    width, hidden, layers = f["hidden_size_per_layer_input"], f["hidden_size"], f.layers()
    return (
        *(linear("ple.per_layer_model_projection", layers * width, hidden) if layers else ()),
        *norm("ple.per_layer_projection_norm", width),
        *linear("embedding_projection", f["embedding_dim"], hidden),
    )


EMBEDDING_GEMMA2 = Decoder(
    mixers={"attention": GEMMA_ATTENTION},
    per_layer=per_layer_config(embedding_gemma_heads),
    norms=GEMMA2_NORMS,
    extras=(per_layer_inputs("ple_block"),),
    beside=(layer_inputs_and_output,),
    name="encoder",
    role="encoder",
)

GEMMA: Mapping[str, Model] = {
    "embedding_gemma2_text": decoder(EMBEDDING_GEMMA2, heads={"Model": no_head}, default="Model"),
    "gemma3n_text": decoder(
        Decoder(
            mixers={"own": GEMMA_ATTENTION, "reusing": REUSING},
            mixer_schedule=gemma3n_mixers,
            per_layer=gemma3n_widths,
            norms=GEMMA2_NORMS,
            extras=(altup_and_laurel, per_layer_inputs()),
            beside=(per_layer_table, altup_projections),
        )
    ),
    "gemma4_text": decoder(GEMMA4),
    "gemma4_unified_text": decoder(replace(GEMMA4, extras=(), beside=())),
}
