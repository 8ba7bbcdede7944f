"""Many configs -> their plans' totals and blocks, with one call of the booster. Pure; no Daft, no file.

What a block weighs and is called at each precision is found once per layout, by the code that makes a single plan, so
a batch equals its items; the rest is columns over all blocks of the batch.
"""

from __future__ import annotations

import gc
import hashlib
import marshal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, count, islice
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fastewq.architecture import Architecture, Layout, Nameless, nameless
from fastewq.catalog.schema import BLOCK, PLAN, POLICIES, total_column
from fastewq.config import read_config
from fastewq.draft import followed, usual_precisions
from fastewq.errors import FastEWQError
from fastewq.features import block_columns
from fastewq.jsonio import parse_config
from fastewq.plan import quantized_warning
from fastewq.policy import DEFAULT_POLICY, Policy, read_policy
from fastewq.predictor import Predictor
from fastewq.profiles import DECIMALS
from fastewq.schemes import (
    DEFAULT_TARGET,
    KEEP,
    LEVELS,
    MATRICES,
    PRECISIONS,
    raw_precision,
    stored_bytes,
    target_named,
)
from fastewq.stored import dumped_architecture

REMEMBERED: Final = 4096
"""Configs whose result is kept: most repositories of the Hub are fine-tunes that carry another model's config."""
MAX_SHAPES: Final = 2**16
"""Shapes of tensors whose sizes are kept."""
IRRELEVANT: Final = frozenset(
    {"_name_or_path", "transformers_version", "bos_token_id", "eos_token_id", "pad_token_id", "use_cache"}
)
"""Keys that say nothing about a plan and differ between copies of a config."""


class Model(NamedTuple):
    """A model that can be planned; `headers_agree`: whether config and headers say the same, None without headers."""

    architecture: Architecture
    headers_agree: bool | None


Key = str | bytes | None
"""What a result is remembered by: of a config its values, of a text that is none the text, None where there is none."""


class Batch:
    """Plans batches of configs with one predictor; keeps the results of recent configs."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._policies = tuple([read_policy(name, predictor.card) for name in POLICIES])
        self._scale = Scale()
        self._results = _refused([])
        self._rows: dict[Key, int] = {}
        """Where in `_results` the result of a config is."""

    def plan(self, configs: Sequence[str | None], headers: Sequence[str | None] | None = None) -> pa.StructArray:
        """One PLAN struct per config text; a null config stays null, a refused one becomes its error.

        `headers`: per config its safetensors headers, as `fastewq.stored.dump_tensors` writes them, where known.
        """
        headers = headers or [None] * len(configs)
        with _without_collector():
            rows = pa.array(self._find(configs, headers), pa.int32())
            columns = {field.name: self._results.field(field.name).take(rows) for field in PLAN}
            self._forget()
        texts = zip(configs, headers, strict=True)
        hashes = [None if text is None else config_hash(text, header) for text, header in texts]
        columns["config_hash"] = pa.array(hashes, pa.string())
        columns["predictor"] = pa.repeat(self._predictor.version, len(hashes))
        return _plans(columns, len(hashes))

    def _find(self, configs: Sequence[str | None], headers: Sequence[str | None]) -> list[int]:
        """The row of every config in the results, to which those of new configs are added."""
        keys = []
        new: dict[Key, Model | FastEWQError | None] = {}
        for text, header in zip(configs, headers, strict=True):
            key, config = _parsed(text, header)
            keys.append(key)
            if key not in self._rows and key not in new:
                new[key] = read_model(config, header) if isinstance(config, Mapping) else config
        models = {key: found for key, found in new.items() if isinstance(found, Model)}
        others = {key: found for key, found in new.items() if not isinstance(found, Model)}
        self._rows.update(zip((*models, *others), count(len(self._results))))
        planned = self._planned(list(models.values())) if models else _refused([])
        self._results = pa.concat_arrays([self._results, planned, _refused(list(others.values()))])
        return [self._rows[key] for key in keys]

    def _forget(self) -> None:
        """Drop all but the newest results."""
        surplus = len(self._results) - REMEMBERED
        if surplus > 0:
            self._results = self._results[surplus:]
            self._rows = {key: row for row, key in enumerate(islice(self._rows, surplus, None))}

    def _planned(self, models: Sequence[Model]) -> pa.StructArray:
        architectures = [model.architecture for model in models]
        outside_domain = [self._predictor.outside_domain(architecture) for architecture in architectures]
        raw_bytes = np.array([stored_bytes(a, raw_precision(a.dtype)[1]) for a in architectures], np.int64)
        probabilities = self._predictor.probabilities(block_columns(*architectures)).round(DECIMALS)
        precisions = dict(zip(POLICIES, _precisions(self._policies, architectures, probabilities), strict=True))
        blocks = _Blocks(architectures, self._scale)
        columns = {
            "model_type": [a.model_type for a in architectures],
            "dtype": [a.dtype for a in architectures],
            "parameters": [a.parameters for a in architectures],
            "stacks": [len(a.stacks) for a in architectures],
            "num_blocks": blocks.per_model,
            "exact": [a.exact for a in architectures],
            "already_quantized": [a.quantization is not None for a in architectures],
            "headers_agree": [model.headers_agree for model in models],
            "confidence": ["extrapolating" if facts else "in_domain" for facts in outside_domain],
            "raw_bytes": raw_bytes,
            # What is outside the blocks is kept as it is by every named policy.
            **{total_column(name): raw_bytes - blocks.saved(found) for name, found in precisions.items()},
            "warnings": [
                [*architecture.warnings, *quantized_warning(architecture, DEFAULT_TARGET), *facts]
                for architecture, facts in zip(architectures, outside_domain, strict=True)
            ],
        }
        arrays = {name: pa.array(values, PLAN.field(name).type) for name, values in columns.items()}
        arrays["blocks"] = blocks.lists(probabilities, precisions[DEFAULT_POLICY])
        return _plans(arrays, len(models))


def _precisions(
    policies: tuple[Policy, ...], architectures: Sequence[Architecture], probabilities: NDArray[np.float64]
) -> list[NDArray[np.intp]]:
    """For each policy, an index into PRECISIONS for every block of the models."""
    values = iter(probabilities.tolist())
    found = [
        followed(policies, architecture, [*islice(values, sum(architecture.counts.values()))])
        for architecture in architectures
    ]
    return [np.frombuffer(b"".join(models), np.uint8).astype(np.intp) for models in zip(*found, strict=True)]


class _Rows(dict[Nameless, int]):
    """A tensor but its name, of a model with so many `raw_bytes` per weight -> its row in a table; see `Scale`."""

    def __init__(self, raw_bytes: int, new_row: Callable[[int, Nameless], int]) -> None:
        super().__init__()
        self._raw_bytes = raw_bytes
        self._new_row = new_row

    def __missing__(self, fields: Nameless) -> int:
        row = self[fields] = self._new_row(self._raw_bytes, fields)
        return row


class Scale:
    """Bytes at each of PRECISIONS. Shapes recur from model to model, so those of tensors are remembered."""

    def __init__(self) -> None:
        self._sizes = np.empty((0, len(PRECISIONS)), np.int64)  # a row for each tensor
        self._new: list[tuple[int, Nameless]] = []  # what the next rows are for
        self._rows: dict[int, _Rows] = {}

    def weigh(self, layouts: Sequence[Layout], raw_bytes: Sequence[int]) -> NDArray[np.int64]:
        """A block of each layout, shape (layouts, PRECISIONS); `raw_bytes` per weight of the models they are from."""
        if len(self._sizes) > MAX_SHAPES:
            self._sizes = self._sizes[:0]
            self._rows.clear()
        rows: list[int] = []
        counts: list[int] = []
        ends = [0]
        for layout, raw in zip(layouts, raw_bytes, strict=True):
            known = self._rows.get(raw) or self._rows.setdefault(raw, _Rows(raw, self._new_row))
            rows += map(known.__getitem__, layout.alike)
            counts += layout.alike.values()
            ends.append(len(rows))
        if self._new:
            self._sizes = np.concatenate([self._sizes, tensor_sizes(self._new)])
            self._new.clear()
        upto = np.zeros((len(rows) + 1, len(PRECISIONS)), np.int64)
        np.cumsum(self._sizes[rows] * np.array(counts, np.int64)[:, None], axis=0, out=upto[1:])
        return np.diff(upto[ends], axis=0)

    def _new_row(self, raw_bytes: int, fields: Nameless) -> int:
        self._new.append((raw_bytes, fields))
        return len(self._sizes) + len(self._new) - 1


def tensor_sizes(tensors: Sequence[tuple[int, Nameless]]) -> NDArray[np.int64]:
    """Bytes at each of PRECISIONS, shape (tensors, PRECISIONS), of tensors given by bytes per weight and fields.

    Matrices that no checkpoint holds quantized, which are most of what is new, go through the formats all at once.
    """
    plain = target_named(DEFAULT_TARGET)
    sizes = np.empty((len(tensors), len(PRECISIONS)), np.int64)
    places: list[int] = []
    shapes: list[tuple[int, int, int, int]] = []
    for place, (raw_bytes, fields) in enumerate(tensors):
        tensor = nameless(fields)
        if tensor.role not in MATRICES:
            sizes[place] = plain.tensor_bytes(tensor, KEEP, raw_bytes)
        elif tensor.stored is not None or len(tensor.shape) < 2:
            sizes[place] = [plain.tensor_bytes(tensor, level, raw_bytes) for level in PRECISIONS]
        else:
            *stacked, outputs, inputs = tensor.oriented
            places.append(place)
            shapes.append((raw_bytes, prod(stacked), outputs, inputs))
    raw, matrices, rows, columns = np.array(shapes, np.int64).reshape(-1, 4).T
    sizes[places, 0] = raw * matrices * rows * columns
    for number, level in enumerate(LEVELS, 1):  # PRECISIONS are these after KEEP
        (scheme,) = plain.schemes[level]
        sizes[places, number] = matrices * scheme.matrix_size(rows, columns)
    return sizes


class _Blocks:
    """The blocks of many models, model after model, stack after stack.

    layouts    the distinct layouts, model after model;  layout: which of these each block has
    sizes      of each layout, its bytes at each of PRECISIONS;  names: what a block of it is called in a plan
    per_model  the number of blocks of each model
    """

    def __init__(self, architectures: Sequence[Architecture], scale: Scale) -> None:
        self.stacks = [stack for architecture in architectures for stack in architecture.stacks]
        self.per_model = np.array([sum(a.counts.values()) for a in architectures], np.intp)
        self.layouts: list[Layout] = []
        layout: list[int] = []
        raw_bytes: list[int] = []
        self.names: list[str] = []
        for architecture in architectures:
            own = architecture.layouts
            number = dict(zip(own, count(len(self.layouts))))
            layout += map(number.__getitem__, chain.from_iterable([s.blocks.layouts for s in architecture.stacks]))
            self.layouts += own
            raw, bytes_per_weight = raw_precision(architecture.dtype)
            raw_bytes += [bytes_per_weight] * len(own)
            if architecture.quantization is None:
                self.names += [raw, *LEVELS] * len(own)
            else:
                self.names += chain.from_iterable([usual_precisions(one, PRECISIONS, MATRICES, raw) for one in own])
        self.layout = np.array(layout, np.intp)
        self.sizes = scale.weigh(self.layouts, raw_bytes)

    def saved(self, precisions: NDArray[np.intp]) -> NDArray[np.int64]:
        """Bytes that each model saves with these precisions, indices into PRECISIONS."""
        found = np.zeros(len(self.per_model), np.int64)
        saved = self.sizes[self.layout, 0] - self.sizes[self.layout, precisions]
        np.add.at(found, np.arange(len(found)).repeat(self.per_model), saved)
        return found

    def lists(self, probabilities: NDArray[np.float64], precisions: NDArray[np.intp]) -> pa.ListArray:
        """A list of BLOCK for each model."""
        lengths = np.array([len(stack.blocks) for stack in self.stacks], np.intp)
        starts = lengths.cumsum() - lengths
        columns = {
            "stack": pa.array([stack.name for stack in self.stacks]).take(np.arange(len(lengths)).repeat(lengths)),
            "index": np.arange(len(self.layout)) - starts.repeat(lengths),
            "kind": pa.array([layout.kind for layout in self.layouts]).take(self.layout),
            "parameters": np.array([layout.parameters for layout in self.layouts], np.int64)[self.layout],
            "p_quantize": probabilities,
            "precision": pa.array(self.names).take(self.layout * len(PRECISIONS) + precisions),
            "bytes": self.sizes[self.layout, precisions],
        }
        arrays = [pa.array(columns[field.name], field.type) for field in BLOCK]
        offsets = np.concatenate([[0], self.per_model.cumsum()])
        return pa.ListArray.from_arrays(
            pa.array(offsets, pa.int32()), pa.StructArray.from_arrays(arrays, fields=list(BLOCK))
        )


def _refused(errors: Sequence[FastEWQError | None]) -> pa.StructArray:
    """PLAN structs without a plan."""
    columns = {field.name: pa.nulls(len(errors), field.type) for field in PLAN}
    columns["error_code"] = pa.array([error and error.code for error in errors], pa.string())
    columns["error_message"] = pa.array([error and error.message for error in errors], pa.string())
    columns["blocks"] = pa.array([[]] * len(errors), PLAN.field("blocks").type)
    return _plans(columns, len(errors))


def _plans(columns: Mapping[str, pa.Array], rows: int) -> pa.StructArray:
    """PLAN structs of these columns and of nulls in the others."""
    arrays = [columns[field.name] if field.name in columns else pa.nulls(rows, field.type) for field in PLAN]
    return pa.StructArray.from_arrays(arrays, fields=list(PLAN))


def _parsed(text: str | None, headers: str | None) -> tuple[Key, Mapping[str, Any] | FastEWQError | None]:
    if text is None:
        return None, None
    try:
        config = parse_config(text.encode(), "config.json")
    except FastEWQError as error:
        return text, _alone(error)
    return _key(config, headers), config


def _alone(error: FastEWQError) -> FastEWQError:
    """The error without its traceback, whose frames would keep the whole batch in memory, in a cycle."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def _key(config: Mapping[str, Any], headers: str | None) -> bytes:
    """Equal for copies of a config that list its keys in the same order, as copies do."""
    relevant = dict(config)
    for name in IRRELEVANT:
        relevant.pop(name, None)
    return marshal.dumps((relevant, headers), 2)  # version 2: the bytes depend on the values alone


def read_model(config: Mapping[str, Any], headers: str | None) -> Model | FastEWQError:
    """The architecture by the config, or by config and headers where these are known; or why there is none."""
    try:
        model = Model(read_config(config), None) if headers is None else Model(*dumped_architecture(config, headers))
        raw_precision(model.architecture.dtype)
    except FastEWQError as error:
        return _alone(error)
    return model


def config_hash(config: str, headers: str | None) -> str:
    """SHA-256 of what a plan is made from: the config's text, and the headers after a line break if there are any."""
    return hashlib.sha256((config if headers is None else f"{config}\n{headers}").encode()).hexdigest()


@contextmanager
def _without_collector() -> Iterator[None]:
    """A batch makes a million objects and no cycle: looking for cycles again and again takes a quarter of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.freeze()  # and unfreeze: what was made counts as old, and is not looked through at once
            gc.unfreeze()
            gc.enable()
