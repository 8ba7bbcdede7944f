"""State spaces and linear attention of models that the transformers library does not have.

Their code lies in the model's repository and is never run; each entry follows its published definition, which the
comment above it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fastewq.architecture import Mixer as MixerKind
from fastewq.architectures.body import Decoder
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import LMHead, Model, decoder, heads_with
from fastewq.architectures.parts import (
    MLP,
    Attention,
    GatedMLP,
    MixerPart,
    Norm,
    Tensors,
    convolution,
    linear,
    norm,
    parameter,
    prefixed,
)

# -- PLaMo 2: pfnet/plamo-2-1b, modeling_plamo.py ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PlamoMamba(MixerPart):
    """Mamba with heads, whose time steps and states are made after the convolution and normalized."""

    kind: ClassVar[MixerKind] = "state_space"

    def __call__(self, f: Fields) -> Tensors:
        hidden, heads, state = f["hidden_size"], f["mamba_num_heads"], f["mamba_d_state"]
        inner, step = heads * f["hidden_size_per_head"], max(64, hidden // 16)
        tensors = (
            *linear("in_proj", 2 * inner, hidden),
            *convolution("conv1d", inner, 1, f["mamba_d_conv"], bias=False),
            *linear("bcdt_proj", step + 2 * state, inner),
            *linear("dt_proj", heads, step),
            *parameter("dt_bias", heads, role="bias"),
            *parameter("A_log", heads),
            *parameter("D", heads),
            *parameter("dt_norm_weight", step, role="norm"),
            *parameter("B_norm_weight", state, role="norm"),
            *parameter("C_norm_weight", state, role="norm"),
            *linear("out_proj", hidden, inner),
        )
        return prefixed("mixer", tensors)


def head_weights(f: Fields) -> Tensors:
    """A weight for each head of the normalized queries and keys."""
    dim = f["hidden_size_per_head"]
    return (
        *parameter("q_weight", f["num_attention_heads"], dim, role="norm"),
        *parameter("k_weight", f["num_key_value_heads"], dim, role="norm"),
    )


def plamo_layers(f: Fields, layers: int) -> Sequence[str]:
    """Attention in the middle of every `mamba_step` layers; in the last one where there are fewer."""
    if not f.flag("mamba_enabled", True):
        return ["attention"] * layers
    step = f.count("mamba_step", 2, low=2)
    if layers <= step // 2:
        return ["mamba"] * (layers - 1) + ["attention"] * min(layers, 1)
    return ["attention" if i % step == step // 2 else "mamba" for i in range(layers)]


# -- RWKV-7: fla-hub/rwkv7-1.5B-world, whose code is that of flash-linear-attention, layers/rwkv7.py ------------------


def low_rank(name: str, width: int, rank: int, bias: bool) -> Tensors:
    return (*linear(f"{name}.lora.0", rank, width), *linear(f"{name}.lora.2", width, rank, bias))


@dataclass(frozen=True, kw_only=True)
class TimeMixing(MixerPart):
    """RWKV-7's linear attention; only the first layer lacks the value residual and has a norm before it."""

    kind: ClassVar[MixerKind] = "linear_attention"

    first: bool

    def __call__(self, f: Fields) -> Tensors:
        hidden, dim = f["hidden_size"], f["head_dim"]
        values = f.value("value_dim", None)
        if any(one not in (None, hidden) for one in (values if isinstance(values, list) else [values])):
            raise f.refuse("value_dim", values, f"{hidden}, the hidden size, in every layer")
        tensors = (
            *(t for letter in "rwkvag" for t in parameter(f"x_{letter}", 1, 1, hidden)),
            *parameter("k_k", hidden),
            *parameter("k_a", hidden),
            *parameter("r_k", f.divided("hidden_size", "head_dim"), dim),
            *(t for letter in "rkvo" for t in linear(f"{letter}_proj", hidden, hidden)),
            *low_rank("w_lora", hidden, f["decay_low_rank_dim"], True),
            *(() if self.first else low_rank("v_lora", hidden, f["v_low_rank_dim"], True)),
            *low_rank("a_lora", hidden, f["a_low_rank_dim"], True),
            *low_rank("g_lora", hidden, f["gate_low_rank_dim"], False),
            *norm("g_norm", hidden, True),
        )
        before = norm("pre_norm", hidden, norm_bias(f)) if self.first and f.flag("norm_first", True) else ()
        return (*before, *prefixed("attn", tensors))


def norm_bias(f: Fields) -> bool:
    return f.flag("norm_bias", True)


REMOTE_HYBRID: Mapping[str, Model] = {
    "plamo2": decoder(
        Decoder(
            mixers={
                "mamba": PlamoMamba(),
                "attention": Attention(
                    prefix="mixer",
                    fused="qkv_proj",
                    kv_heads="num_key_value_heads",
                    dim="hidden_size_per_head",
                    extras=(head_weights,),
                ),
            },
            mixer_schedule=plamo_layers,
            feed_forwards={"dense": GatedMLP(fused="gate_up_proj")},
            norms=("pre_mixer_norm", "post_mixer_norm", "pre_mlp_norm", "post_mlp_norm"),
            layers="layers.layers",
            only={"use_predefined_initial_state": (False,)},
        ),
        heads=heads_with(ForCausalLM=LMHead(tied=lambda f: f.flag("tie_word_embeddings", True))),
        classes=("Plamo2ForCausalLM", "Plamo2Model"),
    ),
    "rwkv7": decoder(
        Decoder(
            mixers={"first": TimeMixing(first=True), "rest": TimeMixing(first=False)},
            mixer_schedule=lambda _, layers: ["first"] * min(layers, 1) + ["rest"] * (layers - 1),
            feed_forwards={"dense": MLP(prefix="ffn", names=("key", "value"), bias=False)},
            norms=("attn_norm", "ffn_norm"),
            norm=Norm("layer", bias=norm_bias),
            extras=(lambda f: parameter("ffn.x_k", f["hidden_size"]),),
            embed="embeddings",
            only={"attn": ()},
        ),
        heads=heads_with(ForCausalLM=LMHead(tied=lambda f: f.flag("tie_word_embeddings", False))),
        classes=("RWKV7ForCausalLM", "RWKV7Model"),
    ),
}
