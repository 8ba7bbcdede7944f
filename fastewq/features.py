"""Blocks -> what a predictor may know about them. Pure.

Two steps, both also used by the trainer, so that training and serving cannot drift apart:
`block_columns` lists the facts of every block of an architecture (the columns of `training_data/blocks.csv`), and
`feature_matrix` turns such columns into the numbers a booster reads. Names and order are fixed in `SELECTED`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from fastewq.architecture import Architecture, Stack

Columns = Mapping[str, NDArray[np.generic]]
"""Column name -> one value per block, all of the same length."""

FACTS: tuple[str, ...] = (
    "exec_index",
    "num_blocks",
    "num_parameters",
    "stack_parameters",
    "model_parameters",
    "width",
    "heads",
    "kv_heads",
    "head_dim",
    "ffn_width",
    "experts",
    "vocab_size",
    "initializer_range",
    "tied_embeddings",
    "layer_norm",
    "causal",
    "dtype_bytes",
    "kind",
)
"""The facts `block_columns` gives. All are numbers but `kind`, a string such as `attention+dense`.

exec_index         position in execution order within the stack, from 0
num_blocks         blocks of the stack
num_parameters     parameters of the block; stack_parameters, model_parameters: of its stack, of the whole model
layer_norm         1 for LayerNorm, 0 for RMSNorm;  causal: 1 where the stack generates, 0 where it reads
dtype_bytes        bytes per raw weight
"""

DTYPE_BYTES: dict[str, int] = {
    "float64": 8,
    "float32": 4,
    "bfloat16": 2,
    "float16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
}


def block_columns(*architectures: Architecture) -> dict[str, NDArray[np.generic]]:
    """The FACTS of every block, model after model, stack after stack, in execution order."""
    owned = [(model, stack) for model in architectures for stack in model.stacks if stack.blocks]
    lengths = [len(stack.blocks) for _, stack in owned]
    parameters = [[block.layout.parameters for block in stack.blocks] for _, stack in owned]

    def repeated(values: list[float]) -> NDArray[np.float64]:
        return np.repeat(np.array(values, dtype=np.float64), np.array(lengths, dtype=np.intp))

    def of_model(fact: Callable[[Architecture], float]) -> NDArray[np.float64]:
        return repeated([float(fact(model)) for model, _ in owned])

    def of_stack(fact: Callable[[Stack], float]) -> NDArray[np.float64]:
        return repeated([float(fact(stack)) for _, stack in owned])

    return {
        "exec_index": np.fromiter(chain.from_iterable(map(range, lengths)), np.float64, sum(lengths)),
        "num_blocks": repeated([float(n) for n in lengths]),
        "num_parameters": np.fromiter(chain.from_iterable(parameters), np.float64, sum(lengths)),
        "stack_parameters": repeated([float(sum(values)) for values in parameters]),
        "model_parameters": of_model(lambda model: model.parameters),
        "width": of_stack(lambda stack: stack.width),
        "heads": of_stack(lambda stack: stack.heads),
        "kv_heads": of_stack(lambda stack: stack.kv_heads),
        "head_dim": of_stack(lambda stack: stack.head_dim),
        "ffn_width": of_stack(lambda stack: stack.ffn_width),
        "experts": of_stack(lambda stack: stack.experts),
        "vocab_size": of_model(lambda model: model.vocab_size),
        "initializer_range": of_model(lambda model: model.initializer_range),
        "tied_embeddings": of_model(lambda model: model.tied_embeddings),
        "layer_norm": of_stack(lambda stack: stack.norm == "layer"),
        "causal": of_stack(lambda stack: stack.role == "decoder"),
        "dtype_bytes": of_model(lambda model: DTYPE_BYTES.get(model.dtype, 2)),
        "kind": np.array([block.layout.kind for _, stack in owned for block in stack.blocks], dtype=np.str_),
    }


Feature = Callable[[Columns], NDArray[np.float64]]


def _fact(name: str) -> Feature:
    return lambda columns: columns[name].astype(np.float64)


def _log(name: str) -> Feature:
    return lambda columns: np.log(np.maximum(columns[name].astype(np.float64), 1))


def _ratio(top: str, bottom: str) -> Feature:
    return lambda columns: columns[top].astype(np.float64) / np.maximum(columns[bottom].astype(np.float64), 1)


def _from_end(columns: Columns) -> NDArray[np.float64]:
    return columns["num_blocks"].astype(np.float64) - 1 - columns["exec_index"].astype(np.float64)


def _relative_depth(columns: Columns) -> NDArray[np.float64]:
    return columns["exec_index"].astype(np.float64) / np.maximum(columns["num_blocks"].astype(np.float64) - 1, 1)


FEATURES: dict[str, Feature] = {
    "exec_index": _fact("exec_index"),
    "from_end": _from_end,
    "relative_depth": _relative_depth,
    "num_blocks": _fact("num_blocks"),
    "ffn_ratio": _ratio("ffn_width", "width"),
    "causal": _fact("causal"),
    "layer_norm": _fact("layer_norm"),
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
num_blocks        deep stacks spread what shallow ones do in one block
ffn_ratio         wide feed-forwards (4 and more) came with other training recipes than narrow ones
causal, layer_norm, tied_embeddings, kv_ratio, head_dim, initializer_range, log_vocab   how the family was built
log_width, log_parameters, log_model_parameters, share_of_stack   size: entropy grows with the size of a matrix
"""

SELECTED: tuple[str, ...] = ("exec_index", "from_end", "ffn_ratio")
"""What helps on families held out (benchmarks/features.py); the rest lets the booster recognise a family."""


def feature_matrix(columns: Columns, names: tuple[str, ...] = SELECTED) -> NDArray[np.float32]:
    """One row per block, one column per feature name, in that order, float32 as XGBoost stores them."""
    return np.stack([FEATURES[name](columns) for name in names], axis=1).astype(np.float32)
