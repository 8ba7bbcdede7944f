"""The tensors that blocks are made of: functions from sizes to named shapes, and the declarative parts built on them.

A part is a small frozen dataclass whose call maps `Fields` to tensors. What a config decides is given as the name of
its field (`bias="attention_bias"`), what an architecture fixes as a constant, what it derives as a function of Fields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar, Literal, NamedTuple

from fastewq.architecture import FeedForward as FeedForwardKind
from fastewq.architecture import Mixer as MixerKind
from fastewq.architecture import Role, Tensor, new_tensor
from fastewq.architectures.fields import Fields, Size

Tensors = tuple[Tensor, ...]
Option = bool | str | Callable[[Fields], bool]
"""True/False, the name of the boolean config field that decides, or a function."""
Part = Callable[[Fields], Tensors]
Matrix = Callable[[str, int, int, bool], Tensors]
"""(name, outputs, inputs, bias) -> a matrix as an architecture stores it."""


def chosen(f: Fields, option: Option) -> bool:
    if option is True or option is False:
        return option
    return f.flag(option, False) if isinstance(option, str) else option(f)


@lru_cache(4096)
def join(*names: str) -> str:
    """Module path from its parts, skipping empty ones."""
    return ".".join(filter(None, names))


@lru_cache(4096)
def linear(name: str, rows: int, columns: int, bias: bool = False, role: Role = "linear") -> Tensors:
    """A matrix applied to activations, shape (outputs, inputs), and its bias."""
    weight = new_tensor((f"{name}.weight" if name else "weight", (rows, columns), role, False, None))
    return (weight, new_tensor((join(name, "bias"), (rows,), "bias", False, None))) if bias else (weight,)


def conv1d_linear(name: str, rows: int, columns: int, bias: bool = True) -> Tensors:
    """The transposed matrix that GPT-2 and its relatives store, shape (inputs, outputs), and its bias."""
    weight = Tensor(join(name, "weight"), (columns, rows), "linear", transposed=True)
    return (weight, Tensor(join(name, "bias"), (rows,), "bias")) if bias else (weight,)


def convolution(name: str, *shape: int, bias: bool = True) -> Tensors:
    """A convolution kernel, shape (outputs, inputs per group, kernel ...), and its bias."""
    weight = Tensor(join(name, "weight"), shape, "conv")
    return (weight, Tensor(join(name, "bias"), (shape[0],), "bias")) if bias else (weight,)


@lru_cache(1024)
def norm(name: str, width: int, bias: bool = False) -> Tensors:
    weight = new_tensor((f"{name}.weight" if name else "weight", (width,), "norm", False, None))
    return (weight, new_tensor((join(name, "bias"), (width,), "norm", False, None))) if bias else (weight,)


def embedding(name: str, rows: int, width: int) -> Tensors:
    return (new_tensor((join(name, "weight"), (rows, width), "embedding", False, None)),)


def parameter(name: str, *shape: int, role: Role = "other") -> Tensors:
    return (new_tensor((name, shape, role, False, None)),)


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    if not prefix:
        return tensors
    return tuple(
        [new_tensor((f"{prefix}.{name}", shape, role, flipped, None)) for name, shape, role, flipped, _ in tensors]
    )


def field_or(name: str, otherwise: Size) -> Callable[[Fields], int]:
    """The size in a field, or another size where it is null or absent."""
    return lambda f: f.optional_size(name) or f[otherwise]


def unless(option: Option) -> Callable[[Fields], bool]:
    return lambda f: not chosen(f, option)


def present(name: str) -> Callable[[Fields], bool]:
    """The option that a field is not null."""
    return lambda f: f.value(name, None) is not None


def head_dim(f: Fields) -> int:
    """The config's `head_dim`, or hidden size / heads where it has none."""
    return f.optional_size("head_dim") or hidden_per_head(f)


def hidden_per_head(f: Fields) -> int:
    width, heads = f["hidden_size"], f["num_attention_heads"]
    if width < heads:
        raise f.refuse("hidden_size", width, f"at least the {heads} attention heads")
    return width // heads


def kv_heads(f: Fields) -> int:
    return f.optional_size("num_key_value_heads") or f["num_attention_heads"]


@dataclass(frozen=True)
class Norm:
    """How an architecture normalizes: a weight, by option a bias; neither where it is not `affine`."""

    kind: Literal["rms", "layer", "none"] = "rms"
    bias: Option = False
    affine: Option = True

    def __call__(self, f: Fields, name: str, width: int) -> Tensors:
        if self.bias is False and self.affine is True:  # as of most models, which ask nothing of a config
            return norm(name, width)
        return norm(name, width, chosen(f, self.bias)) if chosen(f, self.affine) else ()


RMS_NORM = Norm()
LAYER_NORM = Norm("layer", bias=True)
NO_NORM = Norm("none", affine=False)


class Heads(NamedTuple):
    """What the predictor learns about attention: 0 where a block has none."""

    heads: int = 0
    kv_heads: int = 0
    dim: int = 0


@dataclass(frozen=True, kw_only=True)
class MixerPart:
    """Base of what mixes tokens: attention, state space, convolution."""

    kind: ClassVar[MixerKind] = "none"

    def __call__(self, f: Fields) -> Tensors:  # noqa: ARG002
        return ()

    def facts(self, f: Fields) -> Heads:  # noqa: ARG002
        return Heads()


@dataclass(frozen=True, kw_only=True)
class FeedForwardPart:
    """Base of what works on each token alone."""

    kind: ClassVar[FeedForwardKind] = "none"

    def __call__(self, f: Fields) -> Tensors:  # noqa: ARG002
        return ()

    def facts(self, f: Fields) -> tuple[int, int]:  # noqa: ARG002
        """(inner width of one expert or of the dense layer, experts)."""
        return 0, 0


NO_MIXER = MixerPart()
NO_FEED_FORWARD = FeedForwardPart()


@dataclass(frozen=True, kw_only=True)
class Attention(MixerPart):
    """Softmax attention with grouped key-value heads.

    `bias` covers q, k and v; `out_bias` the output projection, None: like `bias`. `fused` names one matrix that holds
    q, k and v; `value_dim` is set where values are not as wide as keys. `qk_norm` is per head ("head": one vector of
    head_dim for q and one for k), over all heads ("full"), or one row per head ("each"); `qk_norm_if` is the option
    that turns it on. `extras` are named below the prefix.
    """

    kind: ClassVar[MixerKind] = "attention"

    bias: Option = False
    out_bias: Option | None = None
    prefix: str = "self_attn"
    names: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "o_proj")
    fused: str = ""
    heads: Size = "num_attention_heads"
    kv_heads: Size = kv_heads
    dim: Size = head_dim
    value_dim: Size | None = None
    hidden: Size = "hidden_size"
    qk_norm: Literal["head", "full", "each"] | None = None
    qk_norm_if: Option = True
    norm: Norm = RMS_NORM
    norm_names: tuple[str, str] = ("q_norm", "k_norm")
    matrix: Matrix = linear
    extras: tuple[Part, ...] = ()

    @cached_property
    def paths(self) -> tuple[str, str, str, str, str, str, str]:
        """Of the projections q, k, v, o, the fused one, and the norms of q and k."""
        q, k, v, o, fused, q_norm, k_norm = (
            join(self.prefix, name) for name in (*self.names, self.fused, *self.norm_names)
        )
        return q, k, v, o, fused, q_norm, k_norm

    def facts(self, f: Fields) -> Heads:
        return Heads(f[self.heads], f[self.kv_heads], f[self.dim])

    def __call__(self, f: Fields) -> Tensors:
        hidden, (heads, kv_heads, dim) = f[self.hidden], self.facts(f)
        q, k, v, o, fused, q_norm, k_norm = self.paths
        queries, keys = heads * dim, kv_heads * dim
        value_dim = dim if self.value_dim is None else f[self.value_dim]
        bias = chosen(f, self.bias)
        out_bias = bias if self.out_bias is None else chosen(f, self.out_bias)
        if self.fused:
            tensors = self.matrix(fused, queries + keys + kv_heads * value_dim, hidden, bias)
        else:
            tensors = (
                *self.matrix(q, queries, hidden, bias),
                *self.matrix(k, keys, hidden, bias),
                *self.matrix(v, kv_heads * value_dim, hidden, bias),
            )
        tensors += self.matrix(o, hidden, heads * value_dim, out_bias)
        if self.qk_norm is not None and chosen(f, self.qk_norm_if):
            if self.qk_norm == "each":
                tensors += parameter(f"{q_norm}.weight", heads, dim, role="norm")
                tensors += parameter(f"{k_norm}.weight", kv_heads, dim, role="norm")
            else:
                q_size, k_size = (dim, dim) if self.qk_norm == "head" else (queries, keys)
                tensors += (*self.norm(f, q_norm, q_size), *self.norm(f, k_norm, k_size))
        for extra in self.extras:
            tensors += prefixed(self.prefix, extra(f))
        return tensors


@dataclass(frozen=True, kw_only=True)
class GatedMLP(FeedForwardPart):
    """down(act(gate(x)) * up(x)), the feed-forward of the llama line. `fused` names one matrix for gate and up."""

    kind: ClassVar[FeedForwardKind] = "dense"

    bias: Option = False
    out_bias: Option | None = None
    prefix: str = "mlp"
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    fused: str = ""
    inner: Size = "intermediate_size"
    hidden: Size = "hidden_size"

    @cached_property
    def paths(self) -> tuple[str, str, str, str]:
        """Of gate, up, down and the fused matrix."""
        gate, up, down, fused = (join(self.prefix, name) for name in (*self.names, self.fused))
        return gate, up, down, fused

    def facts(self, f: Fields) -> tuple[int, int]:
        return f[self.inner], 0

    def __call__(self, f: Fields) -> Tensors:
        hidden, inner, bias = f[self.hidden], f[self.inner], chosen(f, self.bias)
        gate, up, down, fused = self.paths
        out_bias = bias if self.out_bias is None else chosen(f, self.out_bias)
        if self.fused:
            return (*linear(fused, 2 * inner, hidden, bias), *linear(down, hidden, inner, out_bias))
        return (
            *linear(gate, inner, hidden, bias),
            *linear(up, inner, hidden, bias),
            *linear(down, hidden, inner, out_bias),
        )


@dataclass(frozen=True, kw_only=True)
class MLP(FeedForwardPart):
    """down(act(up(x))), the feed-forward of the GPT and BERT lines."""

    kind: ClassVar[FeedForwardKind] = "dense"

    bias: Option = True
    prefix: str = "mlp"
    names: tuple[str, str] = ("fc1", "fc2")
    inner: Size = "intermediate_size"
    hidden: Size = "hidden_size"
    matrix: Matrix = linear

    def facts(self, f: Fields) -> tuple[int, int]:
        return f[self.inner], 0

    def __call__(self, f: Fields) -> Tensors:
        hidden, inner, bias = f[self.hidden], f[self.inner], chosen(f, self.bias)
        up, down = (join(self.prefix, name) for name in self.names)
        return (*self.matrix(up, inner, hidden, bias), *self.matrix(down, hidden, inner, bias))


@dataclass(frozen=True, kw_only=True)
class MixtureOfExperts(FeedForwardPart):
    """A router and stacked experts, as the transformers library 5 stores them: (experts, outputs, inputs).

    gated        gate and up share one tensor `gate_up_proj`; otherwise there is `up_proj` alone
    transposed   (experts, inputs, outputs) instead
    bias         one bias per expert and output
    shared       a dense feed-forward that every token passes, next to the experts
    extras       further tensors under the prefix
    """

    kind: ClassVar[FeedForwardKind] = "experts"

    experts: str = "num_experts"
    inner: Size = "moe_intermediate_size"
    hidden: Size = "hidden_size"
    prefix: str = "mlp"
    router: str = "gate"
    router_bias: Option = False
    gated: bool = True
    transposed: bool = False
    bias: Option = False
    shared: FeedForwardPart = NO_FEED_FORWARD
    extras: tuple[Part, ...] = ()

    def facts(self, f: Fields) -> tuple[int, int]:
        return f[self.inner], f.experts(self.experts)

    def stacked(self, name: str, experts: int, rows: int, columns: int, bias: bool) -> Tensors:
        shape = (experts, columns, rows) if self.transposed else (experts, rows, columns)
        weight = Tensor(name, shape, "experts", self.transposed)
        return (weight, Tensor(f"{name}_bias", (experts, rows), "bias")) if bias else (weight,)

    def __call__(self, f: Fields) -> Tensors:
        hidden, (inner, experts), bias = f[self.hidden], self.facts(f), chosen(f, self.bias)
        router = linear(join(self.prefix, self.router), experts, hidden, chosen(f, self.router_bias), "router")
        inside = join(self.prefix, "experts")
        up, rows = ("gate_up_proj", 2 * inner) if self.gated else ("up_proj", inner)
        tensors = (
            *router,
            *self.stacked(f"{inside}.{up}", experts, rows, hidden, bias),
            *self.stacked(f"{inside}.down_proj", experts, hidden, inner, bias),
            *prefixed(self.prefix, self.shared(f)),
        )
        for extra in self.extras:
            tensors += prefixed(self.prefix, extra(f))
        return tensors
