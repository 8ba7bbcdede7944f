"""Text models whose blocks are like no other's: Zaya, the hierarchical reasoning model and CPM-Ant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fastewq.architecture import FeedForward as FeedForwardKind
from fastewq.architecture import Mixer as MixerKind
from fastewq.architectures.assembly import (
    WIDTH,
    Assembly,
    At,
    Embedding,
    Family,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    linears,
)
from fastewq.architectures.body import BodyBuilder, Decoder, leading
from fastewq.architectures.decoders.dense import LLAMA_MLP, uniform
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import LMHead, Model, decoder, heads_with
from fastewq.architectures.parts import (
    NO_NORM,
    Attention,
    FeedForwardPart,
    Heads,
    MixerPart,
    Tensors,
    chosen,
    convolution,
    head_dim,
    kv_heads,
    linear,
    norm,
    parameter,
    prefixed,
)

# -- Zaya: convolutions over queries and keys, and a router with a memory of the block before -------------------------


@dataclass(frozen=True, kw_only=True)
class ConvolvedAttention(MixerPart):
    """Queries and keys pass through two convolutions; half of the values come from the token before."""

    kind: ClassVar[MixerKind] = "attention"

    def facts(self, f: Fields) -> Heads:
        return Heads(f["num_attention_heads"], kv_heads(f), head_dim(f))

    def __call__(self, f: Fields) -> Tensors:
        hidden, (heads, groups, dim), bias = f["hidden_size"], self.facts(f), chosen(f, "attention_bias")
        channels = (heads + groups) * dim
        projected = (
            *linear("q_proj", heads * dim, hidden, bias),
            *linear("k_proj", groups * dim, hidden, bias),
            *linear("v_proj_current", groups * dim // 2, hidden, bias),
            *linear("v_proj_delayed", groups * dim // 2, hidden, bias),
            *convolution("conv_qk_depthwise", channels, 1, f["cca_time0"]),
            *convolution("conv_qk_grouped", channels, dim, f["cca_time1"]),
        )
        return (
            *prefixed("self_attn.qkv_proj", projected),
            *linear("self_attn.o_proj", hidden, heads * dim, bias),
            *parameter("self_attn.qk_norm.temp", groups),
        )


@dataclass(frozen=True, kw_only=True)
class RoutedByPerceptron(FeedForwardPart):
    """Experts whose router may choose none of them. `remembers`: it reads what the router before it made, too."""

    kind: ClassVar[FeedForwardKind] = "experts"

    remembers: bool = True

    def facts(self, f: Fields) -> tuple[int, int]:
        return f["moe_intermediate_size"], f.experts("num_experts")

    def __call__(self, f: Fields) -> Tensors:
        hidden, width, (inner, experts) = f["hidden_size"], f["router_hidden_size"], self.facts(f)
        router = (
            *linear("down_proj", width, hidden, True, "router"),
            *norm("router_mlp.norm", width),
            *linear("router_mlp.fc1", width, width, True, "router"),
            *linear("router_mlp.fc2", width, width, True, "router"),
            *linear("router_mlp.out_proj", experts + 1, width, False, "router"),
            *(parameter("router_states_scale", width, role="router") if self.remembers else ()),
        )
        return (
            *prefixed("mlp.gate", router),
            *parameter("mlp.experts.gate_up_proj", experts, 2 * inner, hidden, role="experts"),
            *parameter("mlp.experts.down_proj", experts, hidden, inner, role="experts"),
        )


def scaled_residuals(f: Fields) -> Tensors:
    return tuple(
        tensor
        for place in ("attention", "mlp")
        for name in ("hidden_states_scale", "hidden_states_bias", "residual_scale", "residual_bias")
        for tensor in parameter(f"post_{place}_residual_scale.{name}", f["hidden_size"])
    )


def scaled_input(f: Fields) -> Tensors:
    width = f["hidden_size"]
    return (*parameter("input_hidden_states_scale", width), *parameter("input_hidden_states_bias", width))


ZAYA = Decoder(
    mixers={"attention": ConvolvedAttention()},
    feed_forwards={"first": RoutedByPerceptron(remembers=False), "later": RoutedByPerceptron()},
    feed_forward_schedule=leading(1, "first", "later"),
    extras=(scaled_residuals,),
    beside=(scaled_input,),
)

# -- HRM: two stacks that run in turns, the lower one more often ------------------------------------------------------


def gate(f: Fields) -> Tensors:
    """Of what attention gives, one for each of its outputs."""
    inner = f["num_attention_heads"] * head_dim(f)
    return linear("gate_proj", inner, f["hidden_size"], chosen(f, "attention_bias"))


def blocks(f: Fields) -> int:
    """Of one stack: a config that was saved counts those of all turns under the usual name."""
    return f.layers("num_hidden_layers" if f.value("num_layers_per_stack", None) is None else "num_layers_per_stack")


def stack(path: str, name: str) -> BodyBuilder:
    return uniform(
        Attention(bias="attention_bias", kv_heads="num_attention_heads", extras=(gate,)),
        LLAMA_MLP,
        norms=(),
        norm=NO_NORM,
        embed="",
        final_norm="",
        layers=f"{path}.layers",
        count=blocks,
        name=name,
    )


HRM = Assembly(
    Rest(Embedding("embed_tokens", "vocab_size"), Parameter("z_L_init", ("hidden_size",))),
    stack("L_module", "low"),
    stack("H_module", "high"),
)

# -- CPM-Ant: a prompt of its own words, and a bias for every distance ------------------------------------------------


def distances(f: Fields) -> int:
    """Rows of the position table: distances within a segment, and one for every pair of segments."""
    return f["segment_types"] ** 2 + f["position_bias_num_buckets"]


def words_and_prompt(f: Fields) -> int:
    return f["vocab_size"] + f["prompt_types"] * f["prompt_length"]


INNER = "num_attention_heads*dim_head"
CPMANT = Assembly(
    Rest(
        Embedding("input_embedding", words_and_prompt),
        Embedding("segment_embedding", "segment_types"),
        Parameter("position_bias.relative_attention_bias", (distances, "num_attention_heads"), "embedding"),
        Norm("encoder.output_layernorm", bias=False),
    ),
    Layers(
        "encoder.layers",
        (
            Norm("self_att.layernorm_before_attention", bias=False),
            *linears("self_att.self_attention", "project_q project_k project_v", INNER, WIDTH, False),
            Linear("self_att.self_attention.attention_out", WIDTH, INNER, False),
            Norm("ffn.layernorm_before_ffn", bias=False),
            *linears("ffn.ffn", "w_in.w_0 w_in.w_1", "dim_ff", WIDTH, False),
            Linear("ffn.ffn.w_out", WIDTH, "dim_ff", False),
        ),
        name="decoder",
        role="decoder",
        head_dim="dim_head",
        ffn="dim_ff",
        norm="rms",
    ),
)
CPMANT_HEAD = Rest(Linear("lm_head", "vocab_size", WIDTH, False))

RECENT_TEXT: Mapping[str, Model] = {
    "zaya": decoder(ZAYA, heads=heads_with(ForCausalLM=LMHead(bias="lm_head_bias"))),
    "hrm_text": decoder(HRM),
    "cpmant": Family(
        "CpmAnt", {"Model": CPMANT, "ForCausalLM": Assembly(At("cpmant", CPMANT), CPMANT_HEAD)}, "ForCausalLM"
    ),
}
