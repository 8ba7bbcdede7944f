"""What a config describes: stacks of transformer blocks with the exact shape of every tensor. Pure data.

An `Architecture` is made by `fastewq.config.read_config` and consumed by features, plans and exports. Blocks of the
same shape share one `Layout`, so a 126-block model costs no more memory than its distinct layouts.

Nothing here is changed once it is made. Python is not told so by `frozen=True`, with which making an object takes up to
six times as long, and reading a config is mostly making objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count
from math import prod
from operator import itemgetter
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar, overload

Role = Literal["linear", "experts", "router", "embedding", "norm", "bias", "conv", "other"]
"""What a tensor is to a quantizer.

linear   a matrix applied to activations: what quantization tools quantize
experts  a stack of such matrices, shape (experts, rows, columns)
router   the gate of a mixture of experts: small and always kept
embedding, norm, bias, conv, other   kept in raw precision by every tool
"""

Mixer = Literal["attention", "linear_attention", "state_space", "hybrid", "conv", "none"]
"""How a block mixes tokens; `hybrid` has attention and a state space side by side."""
FeedForward = Literal["dense", "experts", "none"]


STORED_PRECISIONS: Final = frozenset(
    {"fp8", "mxfp8", "mxfp6", "mxfp4", "nvfp4", "nf4", "fp4", "stored-ternary"}
    | {f"stored-int{bits}" for bits in range(1, 9)}
)
"""Precisions of matrices that a checkpoint holds quantized. Integers are marked, since int8 and int4 are what a plan
asks a tool for, and these ask for nothing."""


USUAL_TENSORS: Final = 64
"""Tensors of a block up to which what is found about it is kept for later models; more would fill the memory."""

Found = TypeVar("Found")


class lazy(Generic[Found]):  # noqa: N801  (it stands where a property would)
    """A property computed when it is first asked for: `functools.cached_property` without the lock that it takes up to
    Python 3.11, which costs more than most of these computations."""

    def __init__(self, compute: Callable[[Any], Found]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, owner: None, _: type) -> lazy[Found]: ...
    @overload
    def __get__(self, owner: object, _: type) -> Found: ...
    def __get__(self, owner: Any, _: type) -> lazy[Found] | Found:
        if owner is None:
            return self
        found = owner.__dict__[self._name] = self._compute(owner)
        return found


class Stored(NamedTuple):
    """How a quantized checkpoint stores a matrix.

    precision   its name in a plan, one of STORED_PRECISIONS
    bits        per weight, without scales
    bytes       of the matrix with its scales, zero points and the like
    """

    precision: str
    bits: int
    bytes: int


class Tensor(NamedTuple):
    """One parameter tensor. `name` is relative to its block, in the transformers library's module naming.

    `transposed` marks a matrix stored as (..., inputs, outputs), as GPT-2's Conv1D and some stacked experts are.
    `stored` is set where the checkpoint holds it quantized.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    transposed: bool = False
    stored: Stored | None = None

    @property
    def oriented(self) -> tuple[int, ...]:
        """The shape with the inputs last, which is the direction quantization groups run in."""
        return (*self.shape[:-2], self.shape[-1], self.shape[-2]) if self.transposed else self.shape

    @property
    def parameters(self) -> int:
        return prod(self.shape)


Nameless = tuple[tuple[int, ...], Role, bool, Stored | None]
"""The fields of a tensor but its name."""
nameless_fields: Final[Callable[[Tensor], Nameless]] = itemgetter(slice(1, None))
_SHAPE: Final = itemgetter(1)


def counted(tensors: Sequence[Tensor]) -> int:
    """The parameters of all these tensors; a large share of a batch goes into counting them."""
    return sum(map(prod, map(_SHAPE, tensors)))


def nameless(fields: Nameless) -> Tensor:
    """A tensor without a name."""
    return new_tensor(("", *fields))


new_tensor: Final = partial(tuple.__new__, Tensor)
"""A tensor from a tuple of all five fields. A call of `Tensor` takes twice as long, and reading a config is mostly
making tensors."""


@dataclass
class Layout:
    """The shape of a block: which mixer and feed-forward it has and every tensor in it.

    Blocks of one shape share the object, and it is the object that a dictionary knows: to hash all tensors of a layout
    for each of its blocks would take longer than the rest of a plan.
    """

    mixer: Mixer
    feed_forward: FeedForward
    tensors: tuple[Tensor, ...]

    __hash__ = object.__hash__

    @lazy
    def alike(self) -> Counter[Nameless]:
        """How many tensors there are of each shape and kind: those that differ in name alone count together."""
        return Counter(map(nameless_fields, self.tensors))

    @lazy
    def parameters(self) -> int:
        return counted(self.tensors)

    @lazy
    def weights(self) -> dict[Hashable, tuple[int, ...]]:
        """What a block weighs in the formats that were asked for; see `fastewq.schemes.Target.layout_sizes`."""
        return {}

    @lazy
    def planned(self) -> dict[str, Any]:
        """What the latest plan said of such blocks; see `fastewq.draft`."""
        return {}

    @lazy
    def quantized(self) -> bool:
        """Whether the checkpoint holds some of the tensors quantized."""
        return any(t.stored for t in self.tensors)

    @lazy
    def kind(self) -> str:
        """Mixer and feed-forward joined by '+', for instance `attention+dense`, `state_space`, `experts`."""
        if self.mixer == "none" or self.feed_forward == "none":
            one = self.feed_forward if self.mixer == "none" else self.mixer
            return "identity" if one == "none" else one
        return f"{self.mixer}+{self.feed_forward}"


class Block(NamedTuple):
    """One transformer block: its place in execution order within the stack, its module path and its layout."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs on a block
    path: str
    layout: Layout


@dataclass(slots=True)
class Blocks:
    """The blocks of a stack in execution order, as two columns with an entry per block.

    Most readers want one column, so a `Block` is made when it is asked for: making all of them takes as long as the
    rest of reading a config.
    """

    paths: tuple[str, ...]
    layouts: tuple[Layout, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Block]:
        return map(Block, count(), self.paths, self.layouts)

    def __getitem__(self, index: int) -> Block:
        return Block(range(len(self))[index], self.paths[index], self.layouts[index])


class Stack(NamedTuple):
    """Blocks that run one after another. `role` says what the stack reads and whether it generates.

    width          features per token between blocks (hidden size)
    heads, kv_heads, head_dim, ffn_width, experts   of the typical block; 0 where the stack has none
    """

    name: str
    role: Literal["decoder", "encoder", "vision", "audio"]
    blocks: Blocks
    width: int
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    ffn_width: int = 0
    experts: int = 0
    norm: Literal["rms", "layer", "none"] = "rms"


class Outside(NamedTuple):
    """A parameter group outside every block: embeddings, final norm, LM head, projector ..."""

    path: str
    tensors: tuple[Tensor, ...]

    @property
    def parameters(self) -> int:
        return counted(self.tensors)


new_outside: Final = partial(tuple.__new__, Outside)
"""A group from a tuple of its two fields, as `new_tensor`."""


@dataclass
class Architecture:
    """A whole model. `exact`: every parameter count is known; `warnings` name whatever had to be assumed.

    quantization   the method with which the checkpoint is already quantized, None where it is not
    """

    model_type: str
    dtype: str
    stacks: tuple[Stack, ...]
    outside: tuple[Outside, ...]
    vocab_size: int = 0
    tied_embeddings: bool = False
    initializer_range: float = 0.02
    exact: bool = True
    warnings: tuple[str, ...] = field(default=())
    quantization: str | None = None

    @lazy
    def layouts(self) -> tuple[Layout, ...]:
        """The layouts of the blocks, each once, in order of their first block."""
        return tuple(self.counts)

    @lazy
    def counts(self) -> dict[Layout, int]:
        """How many blocks have each of the layouts."""
        if len(self.stacks) == 1 and len(alike := {*self.stacks[0].blocks.layouts}) == 1:
            return dict.fromkeys(alike, len(self.stacks[0].blocks))
        return Counter(chain.from_iterable([stack.blocks.layouts for stack in self.stacks]))

    @lazy
    def parameters(self) -> int:
        """All parameters, tied tensors counted once."""
        blocks = sum([count * layout.parameters for layout, count in self.counts.items()])
        return blocks + sum(self.outside_parameters)

    @lazy
    def outside_parameters(self) -> list[int]:
        """Of each group outside the blocks."""
        return [counted(tensors) for _, tensors in self.outside]
