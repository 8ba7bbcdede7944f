"""RWKV 5 and 6: RWKV/rwkv-5-world-1b5, modeling_rwkv5.py; RWKV/rwkv-6-world-1b6, modeling_rwkv6.py. They are never run.

flash-linear-attention's files say `rwkv6` too and have other parts; they are told by their classes' names. Follows
fla-org/flash-linear-attention, layers/rwkv6.py and models/rwkv6/modeling_rwkv6.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from fastewq.architecture import Mixer as MixerKind
from fastewq.architectures.assembly import tied
from fastewq.architectures.body import Decoder, leading
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import LMHead, Model, decoder, heads_with
from fastewq.architectures.parts import (
    LAYER_NORM,
    MLP,
    MixerPart,
    Norm,
    Tensors,
    field_or,
    linear,
    norm,
    parameter,
    prefixed,
)
from fastewq.architectures.remote.heads import UNTIED_BY_DEFAULT
from fastewq.architectures.remote.hybrid import norm_bias

LARGE: Final = 4096
"""The hidden size whose low ranks are twice as high."""


def inner(f: Fields) -> int:
    return f.optional_size("intermediate_size") or int(f["hidden_size"] * 3.5) // 32 * 32


@dataclass(frozen=True, kw_only=True)
class RwkvMixer(MixerPart):
    """Linear attention with heads and a gate; the decay depends on the data in version 6."""

    kind: ClassVar[MixerKind] = "linear_attention"

    first: bool
    dynamic: bool

    def __call__(self, f: Fields) -> Tensors:
        hidden, width = f["hidden_size"], field_or("attention_hidden_size", "hidden_size")(f)
        size = f.size("head_size", 64)
        for name, value in (("attention_hidden_size", width), ("hidden_size", hidden)):
            if value % size or value != hidden:
                raise f.refuse(name, value, f"the hidden size, a multiple of the heads' size {size}")
        heads = hidden // size
        tensors = (
            *(self.dynamic_mix(hidden) if self.dynamic else self.static_mix(hidden, heads, size)),
            *parameter("time_faaaa", heads, size),
            *(t for name in ("receptance", "key", "value", "gate") for t in linear(name, width, hidden)),
            *linear("output", hidden, width),
            *norm("ln_x", hidden, True),
        )
        before = norm("pre_ln", hidden, True) if self.first else ()
        return (*before, *prefixed("attention", tensors))

    @staticmethod
    def static_mix(hidden: int, heads: int, size: int) -> Tensors:
        mixed = ("gate", "key", "value", "receptance")
        mixes = (t for name in mixed for t in parameter(f"time_mix_{name}", 1, 1, hidden))
        return (*parameter("time_decay", heads, size), *mixes)

    @staticmethod
    def dynamic_mix(hidden: int) -> Tensors:
        scale = 2 if hidden == LARGE else 1
        return (
            *(t for letter in "xwkvrg" for t in parameter(f"time_maa_{letter}", 1, 1, hidden)),
            *parameter("time_maa_w1", hidden, 5 * 32 * scale),
            *parameter("time_maa_w2", 5, 32 * scale, hidden),
            *parameter("time_decay", 1, 1, hidden),
            *parameter("time_decay_w1", hidden, 64 * scale),
            *parameter("time_decay_w2", 64 * scale, hidden),
        )


@dataclass(frozen=True, kw_only=True)
class ChannelMixing(MLP):
    mixes: tuple[str, str]

    def __call__(self, f: Fields) -> Tensors:
        hidden, wide = f["hidden_size"], f[self.inner]
        tensors = (
            *(t for name in self.mixes for t in parameter(name, 1, 1, hidden)),
            *linear("key", wide, hidden),
            *linear("receptance", hidden, hidden),
            *linear("value", hidden, wide),
        )
        return prefixed("feed_forward", tensors)


def rwkv(version: int, *mixes: str) -> Model:
    dynamic = version > 5
    return decoder(
        Decoder(
            mixers={name: RwkvMixer(first=name == "first", dynamic=dynamic) for name in ("first", "rest")},
            mixer_schedule=leading(1, "first", "rest"),
            feed_forwards={"dense": ChannelMixing(inner=inner, mixes=(mixes[0], mixes[1]))},
            norm=LAYER_NORM,
            norms=("ln1", "ln2"),
            layers="blocks",
            embed="embeddings",
            final_norm="ln_out",
            only={"proj_low_rank_dim": (), "hidden_ratio": ()},
        ),
        heads=heads_with(ForCausalLM=LMHead(path="head", tied=tied)),
        prefix="rwkv",
        classes=(f"Rwkv{version}ForCausalLM", f"Rwkv{version}Model"),
    )


# -- version 6 of flash-linear-attention: fla-hub/rwkv6-7B-finch -------------------------------------------------------


def expanded(factor: str) -> Size:
    return lambda f: int(f["hidden_size"] * f.number(factor))


@dataclass(frozen=True, kw_only=True)
class FlashMixer(MixerPart):
    """The same attention; what is mixed with the token before comes from one projection for all five inputs."""

    kind: ClassVar[MixerKind] = "linear_attention"

    first: bool

    def __call__(self, f: Fields) -> Tensors:
        hidden, keys, values = f["hidden_size"], f[expanded("expand_k")], f[expanded("expand_v")]
        heads, mixed, decay = f["num_heads"], 5 * f["proj_low_rank_dim"], f["gate_low_rank_dim"]
        if keys % heads or values % heads:
            raise f.refuse("num_heads", heads, f"a divisor of the widths of keys and values, {keys} and {values}")
        tensors = (
            *linear("x_proj.0.linear", mixed, hidden),
            *parameter("x_proj.0.mu", hidden),
            *linear("x_proj.2", hidden, mixed),
            *parameter("x_bias", 5, hidden),
            *linear("r_proj.linear", keys, hidden),
            *linear("w_proj.linear.lora.0", decay, hidden),
            *linear("w_proj.linear.lora.2", keys, decay, True),
            *linear("k_proj.linear", keys, hidden),
            *linear("v_proj.linear", values, hidden),
            *linear("g_proj.linear", values, hidden),
            *parameter("bonus", heads, keys // heads),
            *norm("g_norm", values, True),
            *linear("o_proj", hidden, values),
        )
        before = norm("pre_norm", hidden, norm_bias(f)) if self.first and f.flag("norm_first", True) else ()
        return (*before, *prefixed("attn", tensors))


def flash_inner(f: Fields) -> int:
    wide = f.optional_size("intermediate_size")
    return wide or -(-int(f["hidden_size"] * f.number("hidden_ratio", 3.5)) // 32) * 32


@dataclass(frozen=True, kw_only=True)
class FlashChannelMixing(MLP):
    def __call__(self, f: Fields) -> Tensors:
        hidden, wide = f["hidden_size"], f[self.inner]
        tensors = (
            *linear("key.linear", wide, hidden),
            *parameter("key.mu", hidden),
            *linear("value", hidden, wide),
            *linear("receptance.linear", hidden, hidden),
            *parameter("receptance.mu", hidden),
        )
        return prefixed("ffn", tensors)


FLASH_RWKV = decoder(
    Decoder(
        mixers={name: FlashMixer(first=name == "first") for name in ("first", "rest")},
        mixer_schedule=leading(1, "first", "rest"),
        feed_forwards={"dense": FlashChannelMixing(inner=flash_inner)},
        norm=Norm("layer", bias=norm_bias),
        norms=("attn_norm", "ffn_norm"),
        embed="embeddings",
        only={"attn": ()},
    ),
    heads=UNTIED_BY_DEFAULT,
    classes=("RWKV6ForCausalLM", "RWKV6Model"),
)

RWKV: Mapping[str, Model] = {
    "rwkv6_flash": FLASH_RWKV,
    "rwkv5": rwkv(5, "time_mix_key", "time_mix_receptance"),
    "rwkv6": rwkv(6, "time_maa_k", "time_maa_r"),
}
