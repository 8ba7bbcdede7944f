"""What the names of modules tell: which of them serving engines run as one, and which stand at the end of a model."""

from __future__ import annotations

from typing import Final

from fastewq.architecture import Layout, Role
from fastewq.schemes import MATRICES

FUSED: Final[dict[str, tuple[str, ...]]] = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "qkv": ("query", "key", "value"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "w13": ("w1", "w3"),
    "fused_qkv_a_proj": ("q_a_proj", "kv_a_proj_with_mqa"),
    "in_proj_qkvz": ("in_proj_qkv", "in_proj_z"),
    "in_proj_ba": ("in_proj_b", "in_proj_a"),
}
"""Name of the fused module in serving engines -> the modules under one parent that it is made of."""

TOKEN_HEADS: Final = frozenset({"lm_head", "embed_out"})
"""Last names of the module that turns the last hidden state into token scores."""

OUTPUTS: Final = TOKEN_HEADS | {"norm", "norm_f", "ln_f", "final_layernorm", "final_layer_norm", "pooler", "score"}
"""Last names of modules that run after the last block."""


def is_token_head(path: str) -> bool:
    """Whether a module, by its path, gives token scores."""
    return path.rpartition(".")[2] in TOKEN_HEADS


_GROUP: Final = {part: whole for whole, parts in FUSED.items() for part in parts}


def module_name(tensor: str) -> str:
    """The module path of a tensor: `self_attn.q_proj` of `self_attn.q_proj.weight`; a bare parameter is its own."""
    return tensor.removesuffix(".weight")


def modules(layout: Layout, roles: frozenset[Role] = MATRICES) -> tuple[str, ...]:
    """The modules of a block whose matrices can be quantized."""
    return tuple(module_name(tensor.name) for tensor in layout.tensors if tensor.role in roles)


def fused(name: str) -> str:
    """What a module is fused into, as `parent.whole`: equal for modules that must share one precision.

    All expert tensors of a block count as one; a module that is fused with no other is its own.
    """
    parent, _, last = name.rpartition(".")
    if parent.rpartition(".")[2] == "experts":
        return parent
    return f"{parent}.{_GROUP[last]}" if last in _GROUP else name


def is_output(path: str) -> bool:
    """Whether a group outside the blocks runs after the last of them."""
    return path.rpartition(".")[2] in OUTPUTS and "embed" not in path.rpartition(".")[0]
