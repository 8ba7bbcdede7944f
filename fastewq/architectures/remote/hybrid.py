"""State spaces and linear attention of models that the transformers library does not have.

Their code lies in the model's repository and is never run; each entry follows its published definition, which the
comment above it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from fastewq.architecture import Mixer as MixerKind
from fastewq.architectures.body import Decoder, leading
from fastewq.architectures.decoders.experts import shared_if
from fastewq.architectures.decoders.state_space import MAMBA_EXPANDED, Mamba, rank
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import LMHead, Model, decoder, heads_with
from fastewq.architectures.parts import (
    LAYER_NORM,
    MLP,
    Attention,
    GatedMLP,
    Heads,
    MixerPart,
    MixtureOfExperts,
    Norm,
    Tensors,
    convolution,
    field_or,
    head_dim,
    hidden_per_head,
    kv_heads,
    linear,
    norm,
    parameter,
    prefixed,
)
from fastewq.architectures.remote.heads import TIED_BY_DEFAULT, UNTIED_BY_DEFAULT
from fastewq.architectures.remote.moe import BAILING_ATTENTION, shared_width

MAMBA_RANK = rank("mamba_dt_rank")

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


# -- Phi-4-mini-flash: microsoft/Phi-4-mini-flash-reasoning, modeling_phi4flash.py. arXiv 2507.06607 -------------------


def differences(f: Fields) -> Tensors:
    """What differential attention learns: four vectors and a norm of the two heads of a pair."""
    dim = hidden_per_head(f)
    vectors = (t for name in ("q1", "k1", "q2", "k2") for t in parameter(f"lambda_{name}", dim))
    return prefixed("inner_cross_attn", (*vectors, *norm("subln", 2 * dim)))


@dataclass(frozen=True, kw_only=True)
class CrossAttention(MixerPart):
    """Attention to the keys and values of an earlier layer; its `Wqkv` makes queries alone."""

    kind: ClassVar[MixerKind] = "attention"

    def facts(self, f: Fields) -> Heads:
        return Heads(f["num_attention_heads"], kv_heads(f), hidden_per_head(f))

    def __call__(self, f: Fields) -> Tensors:
        hidden = f["hidden_size"]
        tensors = (*linear("Wqkv", hidden, hidden, True), *linear("out_proj", hidden, hidden, True), *differences(f))
        return prefixed("attn", tensors)


@dataclass(frozen=True, kw_only=True)
class GatedMemory(MixerPart):
    """A gate on the output of an earlier layer's state space."""

    kind: ClassVar[MixerKind] = "state_space"

    def __call__(self, f: Fields) -> Tensors:
        hidden = f["hidden_size"]
        return (*linear("attn.in_proj", 2 * hidden, hidden), *linear("attn.out_proj", hidden, 2 * hidden))


def samba_layers(f: Fields, layers: int) -> Sequence[str]:
    """State spaces in every `mb_per_layer`-th layer, else attention; both read earlier ones in the second half."""
    step, own = f["mb_per_layer"], layers // 2 + 2
    state = ["mamba" if i < own else "memory" for i in range(layers)]
    return [state[i] if i % step == 0 else "attention" if i < own else "cross" for i in range(layers)]


# -- Ring-linear: inclusionAI/Ring-mini-linear-2.0, modeling_bailing_moe_linear_v2.py ---------------------------------


@dataclass(frozen=True, kw_only=True)
class GatedLightning(MixerPart):
    """Lightning attention with as many key-value heads as heads, and a norm and a gate on its output."""

    kind: ClassVar[MixerKind] = "linear_attention"

    def __call__(self, f: Fields) -> Tensors:
        hidden, heads, dim = f["hidden_size"], f["num_attention_heads"], head_dim(f)
        width = heads * dim
        norms = (*norm("query_layernorm", dim), *norm("key_layernorm", dim)) if f.flag("use_qk_norm", False) else ()
        tensors = (
            *linear("query_key_value", 3 * width, hidden, f.flag("use_qkv_bias", False)),
            *linear("dense", hidden, width, f.flag("use_bias", False)),
            *linear("g_proj", width, hidden),
            *norm("g_norm", width),
            *norms,
        )
        return prefixed("attention", tensors)


def ring_layers(f: Fields, layers: int) -> Sequence[str]:
    """Softmax attention in the last layer of each group, and in those after the last whole group."""
    group = f["layer_group_size"]
    whole = layers // group * group
    return ["full" if (i + 1) % group == 0 or i >= whole else "linear" for i in range(layers)]


# -- Hymba: nvidia/Hymba-1.5B-Base, modeling_hymba.py. arXiv 2411.13676 ------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class HeadsBesideStates(MixerPart):
    """Attention and a state space on one projection and with one output, which is the mean of both.

    Where a layer attends to the keys and values of an earlier one, its projection makes queries alone.
    """

    kind: ClassVar[MixerKind] = "hybrid"

    reuses: bool

    def facts(self, f: Fields) -> Heads:
        return Heads(f["num_attention_heads"], kv_heads(f), hidden_per_head(f))

    def __call__(self, f: Fields) -> Tensors:
        hidden, state, step, bias = f["hidden_size"], f["mamba_d_state"], f[MAMBA_RANK], f.flag("mamba_proj_bias")
        inner = f[MAMBA_EXPANDED]
        keys = kv_heads(f) / f["num_attention_heads"] * hidden
        made = 0 if self.reuses else int(keys) + int(keys * f.number("mamba_expand"))
        norms = (*norm("dt_layernorm", step), *norm("B_layernorm", state), *norm("C_layernorm", state))
        tensors = (
            *norm("pre_avg_layernorm1", inner),
            *norm("pre_avg_layernorm2", inner),
            *linear("in_proj", 2 * inner + hidden + made, hidden, bias),
            *linear("out_proj", hidden, inner, bias),
            *convolution("conv1d", inner, 1, f["mamba_d_conv"], bias=f.flag("mamba_conv_bias")),
            *linear("x_proj.0", step + 2 * state, inner),
            *linear("dt_proj.0", inner, step, True),
            *parameter("A_log.0", inner, state),
            *parameter("D.0", inner),
            *(norms if f.flag("mamba_inner_layernorms") else ()),
        )
        return prefixed("mamba", tensors)


def reusing_layers(f: Fields, layers: int) -> Sequence[str]:
    """In a group of layers all but the first reuse its keys and values; without groups, all but every so many do."""
    groups = f.value("kv_reuse_group", None)
    if groups is None:
        step = f["kv_reuse_every_i_layer"] if f.value("kv_reuse_every_i_layer", -1) not in (-1, 0) else 1
        return ["reusing" if i % step else "whole" for i in range(layers)]
    if not isinstance(groups, list | tuple) or not all(isinstance(one, list | tuple) for one in groups):
        raise f.refuse("kv_reuse_group", groups, "a list of lists of layer numbers")
    later = {i for group in groups for i in group[1:] if type(i) is int}
    return ["reusing" if i in later else "whole" for i in range(layers)]


def memory_tokens(f: Fields) -> Tensors:
    count = f.count("num_memory_tokens", 0)
    return parameter("memory_tokens", count, f["hidden_size"], role="embedding") if count else ()


REMOTE_HYBRID: Mapping[str, Model] = {
    "bailing_moe_linear": decoder(
        Decoder(
            mixers={"full": BAILING_ATTENTION, "linear": GatedLightning()},
            mixer_schedule=ring_layers,
            feed_forwards={
                "dense": GatedMLP(),
                "sparse": MixtureOfExperts(
                    shared=shared_if("num_shared_experts", GatedMLP(prefix="shared_experts", inner=shared_width))
                ),
            },
            feed_forward_schedule=leading(field_or("first_k_dense_replace", 0), "dense", "sparse"),
            embed="word_embeddings",
            only={"use_bias": (False,), "moe_router_enable_shared_expert": (True,)},
        ),
        heads=UNTIED_BY_DEFAULT,
        classes=("BailingMoeLinearV2ForCausalLM", "BailingMoeLinearForCausalLM", "BailingMoeLinearV2Model"),
    ),
    "hymba": decoder(
        Decoder(
            mixers={"whole": HeadsBesideStates(reuses=False), "reusing": HeadsBesideStates(reuses=True)},
            mixer_schedule=reusing_layers,
            feed_forwards={"dense": GatedMLP(prefix="moe.experts.0")},
            norms=("input_layernorm", "pre_moe_layernorm"),
            final_norm="final_layernorm",
            beside=(memory_tokens,),
            only={"kq_norm": ("none",), "mlp_hidden_act": ("silu",)},
        ),
        heads=UNTIED_BY_DEFAULT,
        classes=("HymbaForCausalLM", "HymbaModel"),
    ),
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
        heads=TIED_BY_DEFAULT,
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
        heads=UNTIED_BY_DEFAULT,
        classes=("RWKV7ForCausalLM", "RWKV7Model"),
    ),
    "phi4flash": decoder(
        Decoder(
            mixers={
                "mamba": Mamba(
                    prefix="attn",
                    inner="2*hidden_size",
                    state="mamba_d_state",
                    kernel="mamba_d_conv",
                    step_rank=lambda f: ceil(f["hidden_size"] / 16),
                    bias=False,
                    conv_bias=True,
                ),
                "memory": GatedMemory(),
                "attention": Attention(
                    prefix="attn",
                    fused="Wqkv",
                    names=("", "", "", "out_proj"),
                    bias=True,
                    dim=hidden_per_head,
                    extras=(differences,),
                ),
                "cross": CrossAttention(),
            },
            mixer_schedule=samba_layers,
            feed_forwards={"dense": GatedMLP(fused="fc1", names=("", "", "fc2"))},
            norm=LAYER_NORM,
            final_norm="final_layernorm",
            only={
                "mamba_d_state": (16,),
                "mamba_d_conv": (4,),
                "mamba_expand": (2,),
                "mamba_conv_bias": (True,),
                "mamba_proj_bias": (False,),
                "mlp_bias": (False,),
                "lm_head_bias": (False,),
            },
        ),
        heads=heads_with(ForCausalLM=LMHead(tied=True)),
        classes=("Phi4FlashForCausalLM", "Phi4FlashModel"),
    ),
}
