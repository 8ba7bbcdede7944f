"""What a plan is, and its JSON form: the document `fastewq.plan/1` of docs/plans.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, Final, NamedTuple, get_args

import orjson
from orjson import Fragment

from fastewq.architecture import STORED_PRECISIONS, Role, Stored, Tensor, lazy
from fastewq.errors import InvalidConfig, InvalidPlan
from fastewq.memory import Memory, MemoryReport
from fastewq.placement import Run
from fastewq.policy import USUAL_BLOCKS
from fastewq.schemes import LEVELS, raw_precision
from fastewq.shown import json_kind, shown

SCHEMA: Final = "fastewq.plan/1"
Text = bytes
"""Where a class has a field named bytes."""


@dataclass
class Common:
    """What a planned block has in common with every other block of its layout, precision and overrides.

    `layout` counts in the layouts of the plan; `modules` holds the modules whose precision differs from the block's.
    """

    kind: str
    parameters: int
    precision: str
    bytes: int
    layout: int
    modules: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """The fields of a block from `kind` on, as they are written: `modules` where there are any."""
        document = {
            "kind": self.kind,
            "parameters": self.parameters,
            "precision": self.precision,
            "bytes": self.bytes,
            "layout": self.layout,
        }
        return {**document, "modules": self.modules} if self.modules else document

    @lazy
    def written(self) -> Text:
        """The same as JSON, to go on with after a comma, with the closing brace."""
        return orjson.dumps(self.as_dict())[1:]


class PlannedBlock(NamedTuple):
    """One block of a plan; the fields after `p_quantize` are those of `Common`."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    path: str
    p_quantize: float
    kind: str
    parameters: int
    precision: str
    bytes: int
    layout: int
    modules: Mapping[str, str]


@dataclass(slots=True)
class PlannedBlocks:
    """The planned blocks of a stack in execution order, as columns with an entry per block.

    alike   what blocks have in common;  which: the place in `alike` of every block's

    A `PlannedBlock` is made when it is asked for, since writing a plan needs none.
    """

    paths: tuple[str, ...]
    p_quantize: tuple[float, ...]
    alike: tuple[Common, ...]
    which: Sequence[int]

    def __len__(self) -> int:
        return len(self.paths)

    def __eq__(self, other: object) -> bool:
        return [*self] == [*other] if isinstance(other, PlannedBlocks) else NotImplemented

    def __iter__(self) -> Iterator[PlannedBlock]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> PlannedBlock:
        common = self.alike[self.which[index]]
        own = range(len(self))[index], self.paths[index], self.p_quantize[index]
        return PlannedBlock(
            *own, common.kind, common.parameters, common.precision, common.bytes, common.layout, common.modules
        )

    @property
    def bytes(self) -> int:
        """Of all blocks together."""
        return sum([common.bytes * self.which.count(place) for place, common in enumerate(self.alike)])

    def as_list(self) -> list[dict[str, Any]]:
        """Every block as it is written."""
        alike = [common.as_dict() for common in self.alike]
        columns = zip(self.paths, self.p_quantize, self.which, strict=True)
        return [
            {"index": index, "path": path, "p_quantize": p_quantize, **alike[place]}
            for index, (path, p_quantize, place) in enumerate(columns)
        ]

    def as_json(self) -> Fragment:
        """The same list as JSON: what blocks have in common is written once, and copied."""
        if len(self.alike) > len(MARKS):
            return Fragment(orjson.dumps(self.as_list()))
        outline = _outline if len(self) <= USUAL_BLOCKS else _outline.__wrapped__
        text = outline(self.paths, self.p_quantize, bytes(self.which))
        for mark, common in zip(MARKS, self.alike, strict=False):
            text = text.replace(mark, common.written)
        return Fragment(text)


MARKS: Final = tuple([b"%c" % number for number in range(32)])
"""Bytes that JSON never holds, of which each stands for what some blocks have in common."""


@lru_cache(64)
def _outline(paths: tuple[str, ...], p_quantize: tuple[float, ...], which: bytes) -> bytes:
    """Blocks as JSON, with a mark in place of what each has in common with others.

    Most stacks have the paths, probabilities and precisions of others of their depth, so the latest are kept.
    """
    own = enumerate(zip(paths, p_quantize, strict=True))
    fields = [orjson.dumps({"index": index, "path": path, "p_quantize": p})[:-1] for index, (path, p) in own]
    return b"[%b]" % b",".join([b"%b,%c" % block for block in zip(fields, which, strict=True)])


class Listed(tuple[Tensor, ...]):
    """The tensors of a layout that plans share, so that their JSON is written once."""

    @lazy
    def written(self) -> bytes:
        return orjson.dumps(_tensors(self))


class PlannedStack(NamedTuple):
    name: str
    blocks: PlannedBlocks


class PlannedGroup(NamedTuple):
    """Parameters outside every block."""

    path: str
    parameters: int
    precision: str
    bytes: int
    layout: int


class Totals(NamedTuple):
    """bytes: the model under the plan; raw_bytes: as it is stored; bits_per_weight: 8 * bytes / parameters."""

    bytes: int
    raw_bytes: int
    saved_fraction: float
    bits_per_weight: float


class Plan(NamedTuple):
    """The plan document of docs/plans.md; `as_dict` is its JSON form, keys in the documented order.

    layouts   the tensors of each distinct block and outside group, which exports need; `memory` is there on request
    """

    model: dict[str, Any]
    predictor: dict[str, Any]
    policy: dict[str, Any]
    target: str
    confidence: str
    stacks: tuple[PlannedStack, ...]
    other: tuple[PlannedGroup, ...]
    layouts: tuple[tuple[Tensor, ...], ...]
    totals: Totals
    warnings: tuple[str, ...]
    memory: MemoryReport | None = None

    @property
    def raw(self) -> str:
        """The precision of the model as stored: bf16, fp16 or fp32."""
        return raw_precision(self.model["dtype"])[0]

    def as_dict(self) -> dict[str, Any]:
        return self._document(PlannedBlocks.as_list, _tensors)

    def as_json(self) -> bytes:
        """The same document as JSON text, in a fraction of the time."""
        return orjson.dumps(self._document(PlannedBlocks.as_json, _written_tensors))

    def _document(
        self, blocks: Callable[[PlannedBlocks], Any], tensors: Callable[[tuple[Tensor, ...]], Any]
    ) -> dict[str, Any]:
        document = {
            "schema": SCHEMA,
            "model": self.model,
            "predictor": self.predictor,
            "policy": self.policy,
            "target": self.target,
            "confidence": self.confidence,
            "stacks": [{"name": stack.name, "blocks": blocks(stack.blocks)} for stack in self.stacks],
            "other": [group._asdict() for group in self.other],
            "layouts": [*map(tensors, self.layouts)],
            "totals": self.totals._asdict(),
            "warnings": list(self.warnings),
        }
        if self.memory is not None:
            document["memory"] = self.memory.as_dict()
        return document


def _written_tensors(layout: tuple[Tensor, ...]) -> Fragment | list[dict[str, Any]]:
    return Fragment(layout.written) if isinstance(layout, Listed) else _tensors(layout)


def _tensors(layout: tuple[Tensor, ...]) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = []
    for name, shape, role, transposed, stored in layout:
        document: dict[str, Any] = {"name": name, "shape": [*shape], "role": role}
        if transposed:
            document["transposed"] = True
        if stored is not None:
            document["stored"] = stored._asdict()
        documents.append(document)
    return documents


# -- reading a document back ------------------------------------------------------------------------------------------

MAX_BLOCKS: Final = 65_536
MAX_TENSORS: Final = 4096
MAX_COUNT: Final = 2**60
NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,8}")
PATH: Final = re.compile(r"[A-Za-z0-9_]{1,80}(\.[A-Za-z0-9_]{1,80}){0,30}")
ROLES: Final = frozenset(get_args(Role))


def read_plan(document: Any) -> Plan:
    """The plan of a document that `Plan.as_dict` gave, with every path, number and reference checked.

    Raises InvalidPlan, naming the field. Totals and reports are taken as they are written.
    """
    if not isinstance(document, Mapping):
        raise InvalidPlan(f"the document is {json_kind(document)}; expected an object with schema {SCHEMA!r}")
    if document.get("schema") != SCHEMA:
        raise InvalidPlan(f"schema is {shown(document.get('schema'))}; expected {SCHEMA!r}")
    model = dict(_get(document, "model", Mapping))
    try:
        raw = raw_precision(_get(model, "dtype", str, "model."))[0]
    except InvalidConfig as error:
        raise InvalidPlan(f"model.{error.message}") from None
    _get(model, "model_type", str, "model.")
    layouts = tuple(_layout(entry, f"layouts[{i}]") for i, entry in enumerate(_list(document, "layouts")))
    reader = _Reader(raw, layouts)
    stacks = tuple(reader.stack(entry, f"stacks[{i}]") for i, entry in enumerate(_list(document, "stacks")))
    blocks = sum(len(stack.blocks) for stack in stacks)
    if blocks > MAX_BLOCKS:
        raise InvalidPlan(f"stacks hold more than {MAX_BLOCKS} blocks")
    other = tuple(reader.group(entry, f"other[{i}]") for i, entry in enumerate(_list(document, "other")))
    _check_sums([*(common for stack in stacks for common in stack.blocks.alike), *other])  # one entry per block
    totals = _get(document, "totals", Mapping)
    return Plan(
        model=model,
        predictor=dict(_get(document, "predictor", Mapping)),
        policy=dict(_get(document, "policy", Mapping)),
        target=_get(document, "target", str),
        confidence=_get(document, "confidence", str),
        stacks=stacks,
        other=other,
        layouts=layouts,
        totals=Totals(
            _count(totals, "bytes", "totals."),
            _count(totals, "raw_bytes", "totals."),
            _number(totals, "saved_fraction", "totals."),
            _number(totals, "bits_per_weight", "totals."),
        ),
        warnings=_warnings(document),
        memory=_memory(document["memory"], blocks) if "memory" in document else None,
    )


def _check_sums(parts: Sequence[Common | PlannedGroup]) -> None:
    """What adds up to more than any file holds would not fit where sums have 64 bits."""
    for name in ("parameters", "bytes"):
        size = sum(getattr(part, name) for part in parts)
        if size > MAX_COUNT:
            raise InvalidPlan(f"{name} of stacks and other add up to {size}; expected at most {MAX_COUNT}")


class _Reader:
    """What blocks and groups are checked against: the raw precision's name and the layouts they refer to."""

    def __init__(self, raw: str, layouts: Sequence[tuple[Tensor, ...]]) -> None:
        self.precisions = (raw, *LEVELS)
        self.layouts = layouts

    def stack(self, entry: Any, where: str) -> PlannedStack:
        entry = _object(entry, where)
        rows = [self.block(b, i, f"{where}.blocks[{i}]") for i, b in enumerate(_list(entry, "blocks", f"{where}."))]
        paths, probabilities, common = zip(*rows, strict=True) if rows else ((), (), ())
        last: dict[str, int] = {}
        for index, path in enumerate(paths):
            parent, _, number = path.rpartition(".")
            if not NUMBER.fullmatch(number) or int(number) <= last.get(parent, -1):
                at = f"{where}.blocks[{index}].path"
                raise InvalidPlan(f"{at} is {path!r}; expected it to end in a number, higher than those before")
            last[parent] = int(number)
        return PlannedStack(
            _get(entry, "name", str, f"{where}."), PlannedBlocks(paths, probabilities, common, range(len(paths)))
        )

    def block(self, entry: Any, position: int, where: str) -> tuple[str, float, Common]:
        entry, at = _object(entry, where), f"{where}."
        path, index = _path(entry, at), _count(entry, "index", at)
        if index != position:
            raise InvalidPlan(f"{at}index is {index}; expected the block's position, {position}")
        layout = self.layout(entry, at)
        modules = _object(entry.get("modules", {}), f"{at}modules")
        names = {tensor.name.removesuffix(".weight") for tensor in self.layouts[layout]}
        for name in modules:
            if name not in names:
                raise InvalidPlan(f"{at}modules names {shown(name, 80)}, which the block does not have")
        common = Common(
            _get(entry, "kind", str, at),
            _count(entry, "parameters", at),
            self.precision(entry, "precision", at),
            _count(entry, "bytes", at),
            layout,
            {name: self.precision(modules, name, f"{at}modules.") for name in modules},
        )
        return path, _number(entry, "p_quantize", at), common

    def group(self, entry: Any, where: str) -> PlannedGroup:
        entry, at = _object(entry, where), f"{where}."
        return PlannedGroup(
            _path(entry, at) if entry.get("path") else "",
            _count(entry, "parameters", at),
            self.precision(entry, "precision", at),
            _count(entry, "bytes", at),
            self.layout(entry, at),
        )

    def precision(self, entry: Mapping[str, Any], name: str, at: str) -> str:
        value: str = _get(entry, name, str, at)
        if value not in self.precisions and value not in STORED_PRECISIONS:
            raise InvalidPlan(f"{at}{name} is {shown(value)}; expected one of {', '.join(self.precisions)}")
        return value

    def layout(self, entry: Mapping[str, Any], at: str) -> int:
        number = _count(entry, "layout", at)
        if number >= len(self.layouts):
            raise InvalidPlan(f"{at}layout is {number}; the document has {len(self.layouts)} layouts")
        return number


def _layout(entry: Any, where: str) -> tuple[Tensor, ...]:
    if not isinstance(entry, Sequence) or isinstance(entry, str) or len(entry) > MAX_TENSORS:
        raise InvalidPlan(f"{where} must be a list of at most {MAX_TENSORS} tensors")
    return tuple(_read_tensor(tensor, f"{where}[{i}]") for i, tensor in enumerate(entry))


def _read_tensor(entry: Any, where: str) -> Tensor:
    entry, at = _object(entry, where), f"{where}."
    shape = tuple(_list(entry, "shape", at))
    if len(shape) > 8 or not all(type(n) is int and n >= 0 for n in shape) or prod(shape) > MAX_COUNT:
        raise InvalidPlan(f"{at}shape is {_sides(shape)}; expected up to eight integers from 0")
    role = _get(entry, "role", str, at)
    if role not in ROLES:
        raise InvalidPlan(f"{at}role is {shown(role)}; expected one of {', '.join(sorted(ROLES))}")
    if role in ("linear", "experts", "embedding") and (len(shape) < 2 or 0 in shape):
        raise InvalidPlan(f"{at}shape is {_sides(shape)}; expected a matrix for the role {role}")
    return Tensor(_path(entry, at, "name"), shape, role, entry.get("transposed") is True, _stored(entry, at))


def _sides(shape: Sequence[Any]) -> str:
    return f"[{', '.join(map(shown, shape[:9]))}]"


def _warnings(document: Mapping[str, Any]) -> tuple[str, ...]:
    found = _list(document, "warnings")
    for i, warning in enumerate(found):
        if not isinstance(warning, str):
            raise InvalidPlan(f"warnings[{i}] is {shown(warning)}; expected a string")
    return tuple(found)


def _stored(entry: Mapping[str, Any], at: str) -> Stored | None:
    if entry.get("stored") is None:
        return None
    stored, at = _object(entry["stored"], f"{at}stored"), f"{at}stored."
    precision, bits = _get(stored, "precision", str, at), _count(stored, "bits", at)
    if precision not in STORED_PRECISIONS or not 1 <= bits <= 8:
        raise InvalidPlan(f"{at}precision is {shown(precision)} with {bits} bits; expected a precision of 1 to 8 bits")
    return Stored(precision, bits, _count(stored, "bytes", at))


def _memory(entry: Any, blocks: int) -> MemoryReport:
    entry, at = _object(entry, "memory"), "memory."
    devices = _list(entry, "devices", at) if "devices" in entry else []
    runs: list[Run] = []
    placed = 0
    for i, device in enumerate(devices):
        device, where = _object(device, f"memory.devices[{i}]"), f"memory.devices[{i}]."
        count = _count(device, "blocks", where)
        if count:
            start = _count(device, "first_block", where)
            if start != placed:
                raise InvalidPlan(f"{where}first_block is {start}; expected {placed}, the first that has no device yet")
            placed += count
            runs.append(Run(i, start, placed, _count(device, "bytes", where)))
    if devices and placed != blocks:
        raise InvalidPlan(f"memory.devices hold {placed} blocks; expected all {blocks}")
    limit, free = (None if entry.get(name) is None else _count(entry, name, at) for name in ("limit", "free"))
    request = Memory(
        limit=limit,
        devices=tuple(_count(_object(d, at), "capacity", at) for d in devices),
        **{name: _count(entry, name, at) for name in ("context", "batch", "cache_bits", "reserve")},
    )
    optimal = entry.get("optimal")
    if optimal is not None and not isinstance(optimal, bool):
        raise InvalidPlan(f"memory.optimal is {shown(optimal)}; expected true, false or null")
    return MemoryReport(
        request, _count(entry, "weights", at), _count(entry, "kv_cache", at), free, optimal, tuple(runs)
    )


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidPlan(f"{where} is {json_kind(value)}; expected an object")
    return value


def _get(entry: Mapping[str, Any], name: str, kind: type, at: str = "") -> Any:
    value = entry.get(name)
    if not isinstance(value, kind):
        raise InvalidPlan(f"{at}{name} is {json_kind(value)}; expected {'a string' if kind is str else 'an object'}")
    return value


def _list(entry: Mapping[str, Any], name: str, at: str = "") -> list[Any]:
    value = entry.get(name)
    if not isinstance(value, list | tuple) or len(value) > MAX_BLOCKS:
        raise InvalidPlan(f"{at}{name} must be a list of at most {MAX_BLOCKS} entries")
    return list(value)


def _count(entry: Mapping[str, Any], name: str, at: str) -> int:
    value = entry.get(name)
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise InvalidPlan(f"{at}{name} is {shown(value)}; expected an integer from 0 to {MAX_COUNT}")
    return value


def _number(entry: Mapping[str, Any], name: str, at: str) -> float:
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -MAX_COUNT <= value <= MAX_COUNT:
        raise InvalidPlan(f"{at}{name} is {shown(value)}; expected a number from -{MAX_COUNT} to {MAX_COUNT}")
    return value


def _path(entry: Mapping[str, Any], at: str, name: str = "path") -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not PATH.fullmatch(value):
        raise InvalidPlan(f"{at}{name} is {shown(value, 80)}; expected a module path such as model.layers.0")
    return value
