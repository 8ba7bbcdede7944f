"""Many configs -> their plans' totals and blocks, with one call of the booster. Pure; no Daft, no file.

Every number is computed by the code that makes a single plan (`fastewq.draft`), so a batch equals its items.
"""

from __future__ import annotations

import gc
import hashlib
import marshal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa

from fastewq.architecture import Architecture
from fastewq.catalog.schema import BLOCK, PLAN, POLICIES
from fastewq.config import read_config
from fastewq.draft import Draft, followed
from fastewq.errors import FastEWQError
from fastewq.jsonio import parse_config
from fastewq.plan import quantized_warning, starting_point
from fastewq.policy import DEFAULT_POLICY, Policy, read_policy
from fastewq.predictor import Predictor
from fastewq.schemes import Target, stored_bytes, target_named
from fastewq.stored import dumped_architecture

REMEMBERED: Final = 4096
"""Configs whose result is kept: most repositories of the Hub are fine-tunes that carry another model's config."""
IRRELEVANT: Final = frozenset(
    {"_name_or_path", "transformers_version", "bos_token_id", "eos_token_id", "pad_token_id", "use_cache"}
)
"""Keys that say nothing about a plan and differ between copies of a config."""


@dataclass(frozen=True)
class Result:
    """One config, planned or refused. Arrays hold a value per block, in execution order, stack after stack."""

    error: FastEWQError | None = None
    architecture: Architecture | None = None
    already_quantized: bool = False
    headers_agree: bool | None = None
    probabilities: Sequence[float] = ()
    warnings: tuple[str, ...] = ()
    extrapolating: bool = False
    totals: Mapping[str, int] = field(default_factory=dict)
    raw_bytes: int = 0
    precisions: Sequence[str] = ()
    sizes: Sequence[int] = ()

    @cached_property
    def facts(self) -> list[tuple[str, int, str, int]]:
        """stack, index, kind, parameters of every block"""
        assert self.architecture is not None
        return [
            (stack.name, index, layout.kind, layout.parameters)
            for stack in self.architecture.stacks
            for index, layout in enumerate(stack.blocks.layouts)
        ]


def refused(error: FastEWQError) -> Result:
    """A config that could not be planned. The traceback goes, or it would keep the whole batch in memory."""
    error.__context__ = error.__cause__ = None
    return Result(error=error.with_traceback(None))


class Batch:
    """Plans batches of configs with one predictor; keeps the results of recent configs."""

    def __init__(self, predictor: Predictor, target: str = "plain") -> None:
        self._predictor = predictor
        self._target: Target = target_named(target)
        self._policies: dict[str, Policy] = {name: read_policy(name, predictor.card) for name in POLICIES}
        self._recent: dict[bytes, Result] = {}
        self._weighed: dict[Any, dict[str, int]] = {}

    def plan(self, configs: Sequence[str | None], headers: Sequence[str | None] | None = None) -> pa.StructArray:
        """One PLAN struct per config text; a null config stays null, a refused one becomes its error.

        `headers`: per config its safetensors headers, as `fastewq.stored.dump_tensors` writes them, where known.
        """
        with _without_collector():
            return self._plan(configs, headers or [None] * len(configs))

    def _plan(self, configs: Sequence[str | None], headers: Sequence[str | None]) -> pa.StructArray:
        results: list[Result | None] = [None] * len(configs)
        hashes: list[str | None] = [None] * len(configs)
        waiting: dict[bytes, list[int]] = {}
        fresh: dict[bytes, tuple[Mapping[str, Any], str | None]] = {}
        for row, (text, header) in enumerate(zip(configs, headers, strict=True)):
            if text is None:
                continue
            data = text.encode()
            hashes[row] = config_hash(text, header)
            try:
                config = parse_config(data, "config.json")
            except FastEWQError as error:
                results[row] = refused(error)
                continue
            key = _key(config, header)
            if key in self._recent:
                results[row] = self._recent[key]
            else:
                waiting.setdefault(key, []).append(row)
                fresh.setdefault(key, (config, header))
        for key, result in zip(fresh, self._results(list(fresh.values())), strict=True):
            self._remember(key, result)
            for row in waiting[key]:
                results[row] = result
        return _arrow(results, hashes, self._predictor.version)

    def _remember(self, key: bytes, result: Result) -> None:
        if len(self._recent) >= REMEMBERED:
            del self._recent[next(iter(self._recent))]
        self._recent[key] = result

    def _results(self, configs: Sequence[tuple[Mapping[str, Any], str | None]]) -> list[Result]:
        read: list[Architecture | FastEWQError] = []
        agree: list[bool | None] = []
        for config, header in configs:
            try:
                architecture, agrees = architecture_of(config, header)
                read.append(architecture)
                agree.append(agrees)
            except FastEWQError as error:
                read.append(error)
                agree.append(None)
        known = [entry for entry in read if isinstance(entry, Architecture)]
        predicted = iter(self._predictor.of_models(known))
        results = []
        for entry, agrees in zip(read, agree, strict=True):
            if not isinstance(entry, Architecture):
                results.append(refused(entry))
                continue
            probabilities = np.round(next(predicted), 6).tolist()
            outside = self._predictor.outside_domain(entry)
            results.append(self._result(entry, agrees, outside, probabilities))
        return results

    def _result(
        self,
        architecture: Architecture,
        headers_agree: bool | None,
        outside: Sequence[str],
        probabilities: Sequence[float],
    ) -> Result:
        try:
            start = starting_point(architecture, self._target.name)
            default = Draft(start, probabilities, self._policies[DEFAULT_POLICY], self._target)
        except FastEWQError as error:
            return refused(error)
        weigh = _Scale(default, self._weighed)
        others = {n: followed(p, start, probabilities)[0] for n, p in self._policies.items() if n != DEFAULT_POLICY}
        precisions = {**others, DEFAULT_POLICY: default.precisions}
        return Result(
            architecture=architecture,
            already_quantized=architecture.quantization is not None,
            headers_agree=headers_agree,
            probabilities=probabilities,
            warnings=(
                *architecture.warnings,
                *quantized_warning(architecture, self._target.name),
                *outside,
                *default.warnings,
            ),
            extrapolating=bool(outside),
            totals={name: weigh.total(precisions[name]) for name in self._policies},
            raw_bytes=stored_bytes(architecture, default.raw_bytes),
            precisions=[common.precision for common in default._common()],
            sizes=weigh.sizes(),
        )


class _Scale:
    """Bytes of one model under the named policies, which override nothing and keep the same outside the blocks.

    Alike blocks are weighed once; `weighed` remembers blocks of other models too: (tensors, bytes per raw weight) ->
    precision -> bytes.
    """

    def __init__(self, draft: Draft, weighed: dict[Any, dict[str, int]]) -> None:
        self._draft = draft
        self._layouts = [*map(id, draft.layouts)]
        if len(weighed) >= REMEMBERED:
            weighed.clear()
        distinct = draft.architecture.layouts
        self._known = {id(x): weighed.setdefault((x.tensors, draft.raw_bytes), {}) for x in distinct}
        self._first = {key: self._layouts.index(key) for key in self._known}
        self._outside = sum(map(draft.group_bytes, range(len(draft.groups))))

    def _size(self, layout: int, precision: str) -> int:
        known = self._known[layout]
        if precision not in known:
            known[precision] = self._draft.block_bytes(self._first[layout], precision)
        return known[precision]

    def sizes(self) -> list[int]:
        """Of every block of the draft."""
        return [self._size(layout, p) for layout, p in zip(self._layouts, self._draft.precisions, strict=True)]

    def total(self, precisions: Sequence[str]) -> int:
        """`Draft.total` with these precisions."""
        if len(self._known) == 1:  # as in most models, and several times faster
            counts = Counter(precisions)
            return self._outside + sum([count * self._size(self._layouts[0], p) for p, count in counts.items()])
        pairs = Counter(zip(self._layouts, precisions, strict=True))
        return self._outside + sum([count * self._size(*pair) for pair, count in pairs.items()])


def architecture_of(config: Mapping[str, Any], headers: str | None) -> tuple[Architecture, bool | None]:
    """The architecture by the config, or by config and headers where these are known; whether the two agree."""
    return (read_config(config), None) if headers is None else dumped_architecture(config, headers)


def config_hash(config: str, headers: str | None) -> str:
    """SHA-256 of what a plan is made from: the config's text, and the headers after a line break if there are any."""
    return hashlib.sha256((config if headers is None else f"{config}\n{headers}").encode()).hexdigest()


def _key(config: Mapping[str, Any], headers: str | None) -> bytes:
    """Equal for copies of a config that list its keys in the same order, as copies do."""
    relevant = {key: value for key, value in config.items() if key not in IRRELEVANT}
    return marshal.dumps((relevant, headers), 2)  # version 2: the bytes depend on the values alone


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


# ---- results -> Arrow ----


def _arrow(results: Sequence[Result | None], hashes: Sequence[str | None], version: str) -> pa.StructArray:
    planned = [r if r is not None and r.architecture is not None else None for r in results]
    errors = [r.error if r is not None else None for r in results]

    def column(kind: pa.DataType, values: list[Any]) -> pa.Array:
        return pa.array(values, kind)

    architectures = [r.architecture if r else None for r in planned]
    columns = [
        column(pa.string(), [e.code if e else None for e in errors]),
        column(pa.string(), [e.message if e else None for e in errors]),
        column(pa.string(), [a.model_type if a else None for a in architectures]),
        column(pa.string(), [a.dtype if a else None for a in architectures]),
        column(pa.int64(), [a.parameters if a else None for a in architectures]),
        column(pa.int32(), [len(a.stacks) if a else None for a in architectures]),
        column(pa.int32(), [len(r.sizes) if r else None for r in planned]),
        column(pa.bool_(), [a.exact if a else None for a in architectures]),
        column(pa.bool_(), [r.already_quantized if r else None for r in planned]),
        column(pa.bool_(), [r.headers_agree if r else None for r in planned]),
        column(pa.string(), [_confidence(r) if r else None for r in planned]),
        column(pa.int64(), [r.raw_bytes if r else None for r in planned]),
        *(column(pa.int64(), [r.totals[name] if r else None for r in planned]) for name in POLICIES),
        column(pa.list_(pa.string()), [list(r.warnings) if r else None for r in planned]),
        column(pa.string(), list(hashes)),
        column(pa.string(), [version] * len(results)),
        _blocks(planned),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(PLAN))


def _confidence(result: Result) -> str:
    return "extrapolating" if result.extrapolating else "in_domain"


def _blocks(planned: Sequence[Result | None]) -> pa.ListArray:
    present = [r for r in planned if r]
    facts = [fact for r in present for fact in r.facts]
    values = pa.StructArray.from_arrays(
        [
            *(pa.array([fact[i] for fact in facts], BLOCK[i].type) for i in range(4)),
            pa.array([p for r in present for p in r.probabilities], pa.float64()),
            pa.array([p for r in present for p in r.precisions], pa.string()),
            pa.array([s for r in present for s in r.sizes], pa.int64()),
        ],
        fields=list(BLOCK),
    )
    lengths = [len(r.sizes) if r else 0 for r in planned]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
