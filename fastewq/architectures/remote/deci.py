"""DeciLM: a search has chosen for every layer what it has, or leaves out; the config lists it.

The code lies in the repositories and is never run; each entry follows the definition named in the comment above it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastewq.architectures.body import Decoder, Overrides
from fastewq.architectures.decoders.dense import HEADS, LLAMA_ATTENTION, LLAMA_MLP, uniform
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model, decoder
from fastewq.architectures.parts import (
    NO_FEED_FORWARD,
    NO_MIXER,
    Attention,
    FeedForwardPart,
    GatedMLP,
    MixerPart,
    Tensors,
    linear,
    norm,
)
from fastewq.errors import UnsupportedArchitecture


def deci_inner(f: Fields) -> int:
    """Two thirds of a multiple of the hidden size, rounded up to a multiple of 256; newer configs give the width."""
    if f.value("intermediate_size", None) is not None:
        return f["intermediate_size"]
    inner = int(2 * f.number("ffn_mult", high=1e3) * f["hidden_size"] / 3)
    return max(-(-inner // 256) * 256, 256)


def deci_part(f: Fields, layer: Any, name: str, options: Sequence[str]) -> dict[str, Any]:
    """One half of a layer's block config, refused where it asks for a structure not described here."""
    half = layer.get(name) if isinstance(layer, dict) else None
    if not isinstance(half, dict):
        raise f.refuse("block_configs", layer, f"objects with an object named {name}")
    if not half.keys().isdisjoint(options):
        for option in options:
            if half.get(option):
                raise UnsupportedArchitecture(f"block_configs.{name}.{option} is set; no layout is known for it")
    return half


def replacement(f: Fields, half: Mapping[str, Any], name: str) -> str | None:
    """What stands in the place of a half of a layer, if anything does."""
    for option, part in (("no_op", "none"), ("replace_with_linear", "linear")):
        value = half.get(option)
        if value is not None and type(value) is not bool:
            raise f.refuse(f"block_configs.{name}.{option}", value, "true or false")
        if value:
            return part
    return None


def deci_attention(f: Fields, layer: Any) -> tuple[str, Overrides]:
    half = deci_part(f, layer, "attention", ("is_mamba", "mamba", "llama4"))
    instead = replacement(f, half, "attention")
    if instead:
        return instead, ()
    group, keys = half.get("n_heads_in_group"), sent(f, half, "attention", "num_key_value_heads")
    if keys is not None:
        return "attention", (("num_key_value_heads", keys),)
    heads = f[HEADS]
    if type(group) is not int or group < 1 or heads % group:
        raise f.refuse("block_configs.attention.n_heads_in_group", group, f"a divisor of the {heads} attention heads")
    return "attention", (("num_key_value_heads", heads // group),)


def deci_feed_forward(f: Fields, layer: Any) -> tuple[str, Overrides]:
    half = deci_part(f, layer, "ffn", ("moe",))
    instead = replacement(f, half, "ffn")
    if instead:
        return instead, ()
    return "dense", tuple([(name, sent(f, half, "ffn", name)) for name in ("intermediate_size", "ffn_mult")])


def sent(f: Fields, half: Mapping[str, Any], part: str, name: str) -> int | float | None:
    """A size of a half of a layer."""
    value = half.get(name)
    if value is not None and type(value) not in (int, float):
        raise f.refuse(f"block_configs.{part}.{name}", value, "a number or null")
    return value


@dataclass(frozen=True, kw_only=True)
class DeciDecoder(Decoder):
    """`block_configs` says all about each layer."""

    def kinds(self, f: Fields) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        layers = f.per_layer("block_configs", f.layers())
        mixers = [deci_attention(f, layer) for layer in layers]
        feeds = [deci_feed_forward(f, layer) for layer in layers]
        changes = [mixer[1] + feed[1] for mixer, feed in zip(mixers, feeds, strict=True)]
        return [name for name, _ in mixers], [name for name, _ in feeds], changes


@dataclass(frozen=True, kw_only=True)
class NormedAttention(Attention):
    def __call__(self, f: Fields) -> Tensors:
        return (*norm("input_layernorm", f["hidden_size"]), *super().__call__(f))


@dataclass(frozen=True, kw_only=True)
class NormedMLP(GatedMLP):
    def __call__(self, f: Fields) -> Tensors:
        return (*norm("post_attention_layernorm", f["hidden_size"]), *super().__call__(f))


@dataclass(frozen=True, kw_only=True)
class LinearMixer(MixerPart):
    """One matrix in the place of attention."""

    def __call__(self, f: Fields) -> Tensors:
        hidden = f["hidden_size"]
        return (*norm("input_layernorm", hidden), *linear("self_attn.linear_attn", hidden, hidden))


@dataclass(frozen=True, kw_only=True)
class LinearFeedForward(FeedForwardPart):
    """One matrix in the place of the feed-forward."""

    def __call__(self, f: Fields) -> Tensors:
        hidden = f["hidden_size"]
        return (*norm("post_attention_layernorm", hidden), *linear("mlp.linear_mlp", hidden, hidden))


DECI = DeciDecoder(
    mixers={"attention": NormedAttention(bias="attention_bias"), "linear": LinearMixer(), "none": NO_MIXER},
    feed_forwards={
        "dense": NormedMLP(bias="mlp_bias", inner=deci_inner),
        "linear": LinearFeedForward(),
        "none": NO_FEED_FORWARD,
    },
    norms=(),
)


def deci_7b_heads(f: Fields, layers: int) -> Sequence[Overrides]:
    return [(("num_key_value_heads", n),) for n in f.sizes("num_key_value_heads_per_layer", layers)]


DECI_LINE: Mapping[str, Model] = {
    # nvidia/Llama-3_3-Nemotron-Super-49B-v1, modeling_decilm.py and block_config.py
    "nemotron-nas": decoder(DECI, classes=("DeciLMForCausalLM", "DeciLMModel")),
    # Deci/DeciLM-7B, modeling_decilm.py
    "deci": decoder(uniform(LLAMA_ATTENTION, LLAMA_MLP, per_layer=deci_7b_heads), classes=("DeciLMForCausalLM",)),
}
