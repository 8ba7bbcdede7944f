"""The tensors that blocks are made of: functions from sizes to named shapes, and the declarative parts built on them.

A part is a small frozen dataclass whose call maps `Fields` to tensors. Options that a config decides are given as the
name of its field (`bias="attention_bias"`); options that are fixed for an architecture as True or False.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastewq.architecture import Tensor
from fastewq.architectures.fields import MAX_EXPERTS, Fields

Option = bool | str
"""True/False, or the name of the boolean config field that decides."""


def chosen(f: Fields, option: Option) -> bool:
    return f.flag(option) if isinstance(option, str) else option


def join(*names: str) -> str:
    """Module path from its parts, skipping empty ones."""
    return ".".join(name for name in names if name)


def linear(name: str, rows: int, columns: int, bias: bool = False) -> tuple[Tensor, ...]:
    """A matrix applied to activations, shape (outputs, inputs), and its bias."""
    weight = Tensor(join(name, "weight"), (rows, columns), "linear")
    return (weight, Tensor(join(name, "bias"), (rows,), "bias")) if bias else (weight,)


def norm(name: str, width: int, bias: bool = False) -> tuple[Tensor, ...]:
    weight = Tensor(join(name, "weight"), (width,), "norm")
    return (weight, Tensor(join(name, "bias"), (width,), "norm")) if bias else (weight,)


def embedding(name: str, rows: int, width: int) -> tuple[Tensor, ...]:
    return (Tensor(join(name, "weight"), (rows, width), "embedding"),)


def head_dim(f: Fields) -> int:
    """The config's `head_dim`, or hidden size / heads where it has none."""
    return f.optional_size("head_dim") or f.size("hidden_size") // f.size("num_attention_heads")


def kv_heads(f: Fields) -> int:
    return f.optional_size("num_key_value_heads") or f.size("num_attention_heads")


@dataclass(frozen=True)
class Attention:
    """Softmax attention with grouped key-value heads.

    `bias` covers q, k and v; `out_bias` the output projection. `qk_norm` is per head (`head`: one vector of head_dim
    for q and one for k) or over all heads (`full`).
    """

    bias: Option = False
    out_bias: Option = False
    qk_norm: Literal["head", "full"] | None = None
    prefix: str = "self_attn"
    names: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "o_proj")
    norm_names: tuple[str, str] = ("q_norm", "k_norm")

    def __call__(self, f: Fields) -> tuple[Tensor, ...]:
        width, dim = f.size("hidden_size"), head_dim(f)
        queries, keys = f.size("num_attention_heads") * dim, kv_heads(f) * dim
        bias = chosen(f, self.bias)
        q, k, v, o = (f"{self.prefix}.{name}" for name in self.names)
        tensors = (
            *linear(q, queries, width, bias),
            *linear(k, keys, width, bias),
            *linear(v, keys, width, bias),
            *linear(o, width, queries, chosen(f, self.out_bias)),
        )
        if self.qk_norm is None:
            return tensors
        q_size, k_size = (dim, dim) if self.qk_norm == "head" else (queries, keys)
        q_norm, k_norm = (f"{self.prefix}.{name}" for name in self.norm_names)
        return (*tensors, *norm(q_norm, q_size), *norm(k_norm, k_size))


@dataclass(frozen=True)
class GatedMLP:
    """down(act(gate(x)) * up(x)), the feed-forward of the llama line."""

    bias: Option = False
    prefix: str = "mlp"
    width: str = "intermediate_size"

    def __call__(self, f: Fields) -> tuple[Tensor, ...]:
        return gated(self.prefix, f.size("hidden_size"), f.size(self.width), chosen(f, self.bias))


def gated(prefix: str, hidden: int, inner: int, bias: bool = False) -> tuple[Tensor, ...]:
    return (
        *linear(f"{prefix}.gate_proj", inner, hidden, bias),
        *linear(f"{prefix}.up_proj", inner, hidden, bias),
        *linear(f"{prefix}.down_proj", hidden, inner, bias),
    )


@dataclass(frozen=True)
class MixtureOfExperts:
    """A router and stacked gated experts, as the transformers library 5 stores them: gate and up in one tensor."""

    experts: str = "num_experts"
    width: str = "moe_intermediate_size"
    prefix: str = "mlp"

    def __call__(self, f: Fields) -> tuple[Tensor, ...]:
        hidden, inner = f.size("hidden_size"), f.size(self.width)
        experts = f.count(self.experts, low=1, high=MAX_EXPERTS)
        return (
            Tensor(f"{self.prefix}.gate.weight", (experts, hidden), "router"),
            Tensor(f"{self.prefix}.experts.gate_up_proj", (experts, 2 * inner, hidden), "experts"),
            Tensor(f"{self.prefix}.experts.down_proj", (experts, hidden, inner), "experts"),
        )
