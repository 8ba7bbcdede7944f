"""Blocks -> what a predictor may know about them. Pure.

Two steps, both also used by the trainer, so that training and serving cannot drift apart:
`block_columns` lists the facts of every block of an architecture (the columns of `training_data/blocks.csv`), and
`feature_matrix` turns such columns into the numbers a booster reads. Names and order are fixed in `SELECTED`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastewq.architecture import Architecture, Outside, Stack

Columns = Mapping[str, NDArray[np.float64]]
"""Column name -> one value per block, all of the same length; those of `kind` are strings."""

DTYPE_BYTES: Final = {
    "float64": 8,
    "float32": 4,
    "bfloat16": 2,
    "float16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
}


def _post_norm(model: Architecture, stack: Stack) -> bool:
    """Whether each block of a text stack ends in a LayerNorm (BERT, Marian), so that none is needed after the last."""
    if stack.norm != "layer" or stack.role not in ("decoder", "encoder"):
        return False
    blocks = f".{stack.blocks.paths[0]}"
    return not any(_is_final_norm(group, blocks) for group in model.outside)


def _is_final_norm(group: Outside, blocks: str) -> bool:
    """Whether a parameter group is a norm beside the module list of blocks, or beside one around it."""
    parent, _, name = f".{group.path}".rpartition(".")
    return (
        "embed" not in name
        and "embeddings" not in parent
        and blocks.startswith(f"{parent}.")
        and bool(group.tensors)
        and all(tensor.role == "norm" for tensor in group.tensors)
    )


STACK_FACTS: Final[Mapping[str, Callable[[Architecture, Stack], float]]] = {
    "num_blocks": lambda _, stack: len(stack.blocks.paths),
    "stack_parameters": lambda _, stack: sum([layout.parameters for layout in stack.blocks.layouts]),
    "model_parameters": lambda model, _: model.parameters,
    "width": lambda _, stack: stack.width,
    "heads": lambda _, stack: stack.heads,
    "kv_heads": lambda _, stack: stack.kv_heads,
    "head_dim": lambda _, stack: stack.head_dim,
    "ffn_width": lambda _, stack: stack.ffn_width,
    "experts": lambda _, stack: stack.experts,
    "vocab_size": lambda model, _: model.vocab_size,
    "initializer_range": lambda model, _: model.initializer_range,
    "tied_embeddings": lambda model, _: model.tied_embeddings,
    "layer_norm": lambda _, stack: stack.norm == "layer",
    "post_norm": _post_norm,
    "causal": lambda _, stack: stack.role == "decoder",
    "dtype_bytes": lambda model, _: DTYPE_BYTES.get(model.dtype, 2),
}
"""What all blocks of a stack have in common: name -> how it is read off the model and the stack.

num_blocks         blocks of the stack
stack_parameters, model_parameters   of the stack, of the whole model
layer_norm         1 for LayerNorm, 0 for RMSNorm
post_norm          1 where a block normalises what it hands on, 0 where it hands on a sum (pre-norm)
causal             1 where the stack generates, 0 where it reads
dtype_bytes        bytes per raw weight
"""

FACTS: Final = ("exec_index", "num_parameters", "kind", *STACK_FACTS)
"""Every column of `block_columns`. All hold numbers but `kind`, a string such as `attention+dense`.

exec_index         position in execution order within the stack, from 0
num_parameters     parameters of the block
"""


def block_columns(*architectures: Architecture) -> Columns:
    """The FACTS of every block, model after model, stack after stack, in execution order."""
    return _BlockColumns(architectures)


class _BlockColumns(Columns):
    """Columns that are computed when they are first asked for: a predictor asks for few of them."""

    def __init__(self, architectures: Sequence[Architecture]) -> None:
        self._owned = [(model, stack) for model in architectures for stack in model.stacks if stack.blocks.paths]
        self._lengths = np.array([len(stack.blocks.paths) for _, stack in self._owned], dtype=np.intp)
        self._known: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = self._column(name)
        return found

    def _column(self, name: str) -> NDArray[Any]:
        fact = STACK_FACTS.get(name)
        if fact is not None:
            values = [fact(model, stack) for model, stack in self._owned]
            return np.array(values, dtype=np.float64).repeat(self._lengths)
        if name == "exec_index":
            return np.concatenate([np.arange(0.0, length) for length in self._lengths.tolist()] or [np.empty(0)])
        layouts = (layout for _, stack in self._owned for layout in stack.blocks.layouts)
        if name == "num_parameters":
            return np.array([layout.parameters for layout in layouts], dtype=np.float64)
        if name == "kind":
            return np.array([layout.kind for layout in layouts], dtype=np.str_)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(FACTS)

    def __len__(self) -> int:
        return len(FACTS)


Feature = Callable[[Columns], NDArray[np.float64]]


def _fact(name: str) -> Feature:
    return itemgetter(name)


def _log(name: str) -> Feature:
    return lambda columns: np.log(np.maximum(columns[name], 1.0))


def _ratio(top: str, bottom: str) -> Feature:
    return lambda columns: columns[top] / _positive(columns[bottom])


def _positive(values: Any) -> Any:
    """At least 1, of a column or of one number, for which numpy takes many times as long."""
    return np.maximum(values, 1.0) if isinstance(values, np.ndarray) else max(values, 1.0)


def _from_end(columns: Columns) -> NDArray[np.float64]:
    return columns["num_blocks"] - 1 - columns["exec_index"]


def _relative_depth(columns: Columns) -> NDArray[np.float64]:
    return columns["exec_index"] / np.maximum(columns["num_blocks"] - 1, 1.0)


def _edge_distance(columns: Columns) -> NDArray[np.float64]:
    depth = _relative_depth(columns)
    return np.minimum(depth, 1 - depth)


def _post_norm_depth(columns: Columns) -> NDArray[np.float64]:
    # One hundredth more, so that the first block of such a stack differs from all blocks of the others.
    return (_relative_depth(columns) + 0.01) * columns["post_norm"]


FEATURES: dict[str, Feature] = {
    "exec_index": _fact("exec_index"),
    "from_end": _from_end,
    "relative_depth": _relative_depth,
    "edge_distance": _edge_distance,
    "post_norm_depth": _post_norm_depth,
    "num_blocks": _fact("num_blocks"),
    "ffn_ratio": _ratio("ffn_width", "width"),
    "causal": _fact("causal"),
    "layer_norm": _fact("layer_norm"),
    "post_norm": _fact("post_norm"),
    "tied_embeddings": _fact("tied_embeddings"),
    "kv_ratio": _ratio("kv_heads", "heads"),
    "head_dim": _fact("head_dim"),
    "log_width": _log("width"),
    "log_parameters": _log("num_parameters"),
    "log_model_parameters": _log("model_parameters"),
    "log_vocab": _log("vocab_size"),
    "initializer_range": _fact("initializer_range"),
    "share_of_stack": _ratio("num_parameters", "stack_parameters"),
}
"""Feature name -> how it is computed from the facts. Every candidate; `SELECTED` are those the shipped booster reads.

exec_index, from_end, relative_depth   where the block is: first and last blocks differ from the rest, by an absolute
                                       distance to the end (embedding and head are near) or by a share of the depth
edge_distance     share of the depth to the nearer end: without post-norm, the first and last blocks matter most
post_norm_depth   relative depth where blocks end in their norm, which damps what earlier ones did wrong; 0 elsewhere
num_blocks        deep stacks spread what shallow ones do in one block
ffn_ratio         wide feed-forwards (4 and more) came with other training recipes than narrow ones
causal, layer_norm, tied_embeddings, kv_ratio, head_dim, initializer_range, log_vocab   how the family was built
log_width, log_parameters, log_model_parameters, share_of_stack   size: entropy grows with the size of a matrix
"""

PLACE: Final = frozenset({"exec_index", "num_blocks"})
"""The facts that say where in its stack a block is."""


class StackFacts(dict[str, Any]):
    """The facts that all blocks of a stack have in common, as numbers in place of columns."""

    def __init__(self, model: Architecture, stack: Stack) -> None:
        super().__init__()
        self._model, self._stack = model, stack

    def __missing__(self, name: str) -> float:
        return STACK_FACTS[name](self._model, self._stack)


class _Asked(dict[str, Any]):
    """Facts that are all 1, and remember which of them were asked for."""

    def __missing__(self, name: str) -> float:
        self[name] = 1.0
        return 1.0


def facts_of(feature: str) -> frozenset[str]:
    """The facts that a feature is computed from."""
    asked = _Asked()
    FEATURES[feature](asked)
    return frozenset(asked)


SELECTED: tuple[str, ...] = ("exec_index", "from_end", "ffn_ratio")
"""What helps on families held out (benchmarks/features.py); the rest lets the booster recognise a family."""


def feature_matrix(columns: Columns, names: tuple[str, ...] = SELECTED) -> NDArray[np.float32]:
    """One row per block, one column per feature name, in that order, float32 as XGBoost stores them."""
    return np.array([FEATURES[name](columns) for name in names], dtype=np.float32).T
