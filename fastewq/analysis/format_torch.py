"""torch state dicts (`pytorch_model.bin`), both layouts, without torch and without unpickling.

A state dict is a pickle that names tensors by (storage, offset, size, stride), beside the raw storages. The standard
library's `pickletools.genops` lists a pickle's instructions without executing any; `_Machine` interprets the few that a
state dict needs, over plain values: no class is looked up, nothing is imported or called. Any other instruction or name
is refused.

    zip layout (torch >= 1.6)   archive/data.pkl, archive/data/<key>: the storages, stored uncompressed
    older layout                five pickles (magic, protocol, system, state dict, keys); per key u64 count and data
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any, BinaryIO

from fastewq.analysis.tensors import BITS, MAX_DIMENSIONS, TensorInfo, check_names, stored_bytes
from fastewq.errors import InvalidCheckpoint

PICKLE_LIMIT = 64_000_000
"""Bytes of the pickles, and of a zip file's directory."""
STEP_LIMIT = 4_000_000
"""Instructions of one pickle; a state dict has about 30 per tensor."""

ZIP_MAGIC = b"PK\x03\x04"
OLD_MAGIC = 0x1950A86A20F9469CFC6C
MAGICS = (ZIP_MAGIC, b"\x80\x02\x8a\n\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")
"""How a file starts: as a zip, or with OLD_MAGIC as a pickled number."""

_STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: str
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


_ZIP_ERRORS = (
    *(zipfile.BadZipFile, struct.error, EOFError, OSError, RuntimeError),  # of a damaged or encrypted archive
    *(ValueError, IndexError, OverflowError),  # of impossible positions and names in it
)


def parse(file: str, stream: BinaryIO, file_size: int) -> list[TensorInfo]:
    """The tensors of a state dict. Raises InvalidCheckpoint, naming the file and what was refused."""
    try:
        zipped = stream.read(4) == ZIP_MAGIC
        state, storages = (_read_zip if zipped else _read_old)(file, stream, file_size)
    except _ZIP_ERRORS as error:
        raise InvalidCheckpoint(f"{file}: not a readable torch file: {error}") from None
    if not isinstance(state, dict):
        raise InvalidCheckpoint(f"{file}: holds a {type(state).__name__}; expected a state dict of tensors")
    if not any(isinstance(t, _Tensor) for t in state.values()):
        # A training checkpoint keeps its state dict beside other facts, under a name of its choice.
        states = [s for s in state.values() if isinstance(s, dict) and any(isinstance(t, _Tensor) for t in s.values())]
        state = states[0] if len(states) == 1 else {}
    check_names(file, (name for name in state if isinstance(name, str)))
    tensors = [_located(file, name, t, storages) for name, t in state.items() if isinstance(t, _Tensor)]
    if not tensors:
        raise InvalidCheckpoint(f"{file}: holds no tensors by name; expected a state dict")
    return tensors


def _located(file: str, name: Any, tensor: _Tensor, storages: Mapping[str, tuple[int, int]]) -> TensorInfo:
    if not isinstance(name, str):
        raise InvalidCheckpoint(f"{file}: a tensor is named {short(name)}; expected a string")
    storage = tensor.storage
    if storage.key not in storages:
        raise InvalidCheckpoint(
            f"{file}: tensor {name} is in storage {short(storage.key)}, which the file does not have"
        )
    begin, size = storages[storage.key]
    nbytes = stored_bytes(file, name, tensor.shape, storage.dtype)
    shape = _storage_order(file, name, tensor)
    offset = tensor.offset * BITS[storage.dtype] // 8
    if offset + nbytes > size:
        raise InvalidCheckpoint(f"{file}: tensor {name} ends at byte {offset + nbytes} of a storage of {size} bytes")
    return TensorInfo(name, shape, storage.dtype, file, begin + offset, nbytes)


def _storage_order(file: str, name: str, tensor: _Tensor) -> tuple[int, ...]:
    """The shape in the order in which the values lie in the file: that of a transposed tensor is transposed back."""
    by_stride = sorted(zip(tensor.stride, tensor.shape, strict=True), key=lambda pair: -pair[0])
    order = [(stride, n) for stride, n in by_stride if n > 1]
    if any(stride != math.prod(n for _, n in order[i + 1 :]) for i, (stride, _) in enumerate(order)):
        raise InvalidCheckpoint(
            f"{file}: tensor {name} of shape {tensor.shape} has strides {tensor.stride}; expected values without gaps"
        )
    row_major = all(a >= b for (a, b) in zip(tensor.stride, tensor.stride[1:], strict=False))
    return tensor.shape if row_major else tuple(n for _, n in by_stride)


def _read_zip(file: str, stream: BinaryIO, file_size: int) -> tuple[Any, dict[str, tuple[int, int]]]:
    _check_directory(file, stream, file_size)
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        root = members[0].filename.split("/")[0] if members else ""
        by_name = {m.filename: m for m in members}
        for m in members:
            if m.compress_type != zipfile.ZIP_STORED or m.flag_bits & 1:
                raise InvalidCheckpoint(f"{file}: {m.filename} is compressed or encrypted; expected stored bytes")
        if f"{root}/data.pkl" not in by_name:
            raise InvalidCheckpoint(f"{file}: a zip file without {root}/data.pkl; expected a torch state dict")
        if by_name[f"{root}/data.pkl"].file_size > PICKLE_LIMIT:
            raise InvalidCheckpoint(f"{file}: {root}/data.pkl is larger than {PICKLE_LIMIT} bytes")
        if f"{root}/byteorder" in by_name and archive.read(f"{root}/byteorder")[:16] != b"little":
            raise InvalidCheckpoint(f"{file}: written on a big-endian machine; expected little-endian")
        state = _Machine(file).run(io.BytesIO(archive.read(f"{root}/data.pkl")))
    storages = {}
    for m in members:
        if m.filename.startswith(f"{root}/data/"):
            stream.seek(m.header_offset)
            local = stream.read(30)
            name_length, extra_length = struct.unpack("<HH", local[26:30])
            begin = m.header_offset + 30 + name_length + extra_length
            if local[:4] != ZIP_MAGIC or begin + m.file_size > file_size:
                raise InvalidCheckpoint(f"{file}: {m.filename} lies outside the file")
            storages[m.filename.removeprefix(f"{root}/data/")] = (begin, m.file_size)
    return state, storages


def _check_directory(file: str, stream: BinaryIO, file_size: int) -> None:
    """Refuse a zip file whose directory, which `zipfile` reads as a whole, is too large for a state dict."""
    stream.seek(max(0, file_size - (1 << 16) - 22))  # the end record and its comment
    tail = stream.read()
    end = tail.rfind(b"PK\5\6")
    (size,) = struct.unpack_from("<I", tail, end + 12) if end >= 0 else (0,)
    if size == 0xFFFFFFFF and (end64 := tail.rfind(b"PK\6\6", 0, end)) >= 0:
        (size,) = struct.unpack_from("<Q", tail, end64 + 40)
    if size > PICKLE_LIMIT:
        raise InvalidCheckpoint(f"{file}: the zip directory has {size} bytes; expected at most {PICKLE_LIMIT}")


def _read_old(file: str, stream: BinaryIO, file_size: int) -> tuple[Any, dict[str, tuple[int, int]]]:
    stream.seek(0)
    pickles = io.BytesIO(stream.read(PICKLE_LIMIT))
    if _Machine(file).run(pickles) != OLD_MAGIC:
        raise InvalidCheckpoint(f"{file}: neither a zip nor an old torch file")
    _protocol, system = _Machine(file).run(pickles), _Machine(file).run(pickles)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise InvalidCheckpoint(f"{file}: written on a big-endian machine; expected little-endian")
    machine = _Machine(file)
    state, keys = machine.run(pickles), _Machine(file).run(pickles)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise InvalidCheckpoint(f"{file}: the list of storages is malformed")
    position, storages = pickles.tell(), {}
    for key in keys:
        if key not in machine.storages:
            raise InvalidCheckpoint(f"{file}: storage {short(key)} belongs to no tensor")
        stream.seek(position)
        (count,) = struct.unpack("<Q", stream.read(8))
        storage = machine.storages[key]
        size = count * BITS[storage.dtype] // 8
        if count != storage.count or position + 8 + size > file_size:
            raise InvalidCheckpoint(
                f"{file}: storage {short(key)} has {count} values; expected {storage.count}, inside the file"
            )
        storages[key] = (position + 8, size)
        position += 8 + size
    return state, storages


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


class _Machine:
    """Interprets a pickle's instructions over dicts, lists, tuples, strings, numbers and the three classes above."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, _Storage] = {}

    def run(self, stream: BinaryIO) -> Any:
        """The value of one pickle; the stream is left behind it."""
        try:
            for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
                if step > STEP_LIMIT:
                    raise InvalidCheckpoint(f"{self.file}: a pickle of more than {STEP_LIMIT} steps")
                if opcode.name == "STOP":
                    return self.stack.pop()
                self._step(opcode.name, argument)
        except InvalidCheckpoint:
            raise
        except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
            raise InvalidCheckpoint(f"{self.file}: malformed pickle: {error}") from None
        raise InvalidCheckpoint(f"{self.file}: malformed pickle: no end")

    def _step(self, name: str, argument: Any) -> None:
        if name in _PUSH_ARGUMENT:
            self.stack.append(argument)
        elif name in _PUSH:
            self.stack.append(_PUSH[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise InvalidCheckpoint(f"{self.file}: the pickle uses {name}, which a state dict does not need")

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def put(self, slot: int | None) -> None:
        self.memo[len(self.memo) if slot is None else slot] = self.stack[-1]

    def get(self, slot: int) -> None:
        self.stack.append(self.memo[slot])

    def tuple(self, count: int | None) -> None:
        self.stack.append(tuple(self._pop(count)))

    def append(self, count: int | None) -> None:
        items = self._pop(count)
        self._top(list).extend(items)

    def set_items(self, count: int | None) -> None:
        items = self._pop(count)
        if not all(isinstance(key, str) or _is_count(key) for key in items[::2]):
            raise TypeError("a key is neither text nor a number")
        self._top(dict).update(zip(items[::2], items[1::2], strict=True))

    def name(self, module_and_name: str | None) -> None:
        self.stack.append(_Global(module_and_name.replace(" ", ".") if module_and_name else ".".join(self._pop(2))))

    def persistent(self, _: Any) -> None:
        self.stack.append(self._storage(self.stack.pop()))

    def reduce(self, _: Any) -> None:
        function, arguments = self._pop(2)
        self.stack.append(self._call(function, arguments))

    def build(self, _: Any) -> None:
        """Attributes of the state dict itself, such as _metadata: not needed."""
        self._pop(1)
        self._top(dict)

    def _pop(self, count: int | None) -> list[Any]:
        """The last `count` values of the stack, or with None all since the last mark."""
        if count is None:
            count = len(self.stack) - self.marks.pop()
        if not count:
            return []
        if len(self.stack) < count + (self.marks[-1] if self.marks else 0):
            raise IndexError("stack underflow")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise TypeError(f"expected a {kind.__name__}")
        return self.stack[-1]

    def _storage(self, identifier: Any) -> _Storage:
        """('storage', class, key, device, count), and in the older layout a sixth: a view, which must be None."""
        kind, storage_class, key, _device, count, *view = identifier
        dtype = _STORAGES.get(storage_class.name.removeprefix("torch.")) if isinstance(storage_class, _Global) else None
        if (
            kind != "storage"
            or dtype is None
            or not isinstance(key, str)
            or not _is_count(count)
            or view not in ([], [None])
        ):
            raise InvalidCheckpoint(f"{self.file}: a storage is described by {short(identifier)}")
        storage = _Storage(key, dtype, count)
        if self.storages.setdefault(key, storage) != storage:
            raise InvalidCheckpoint(f"{self.file}: storage {short(key)} is described twice, differently")
        return storage

    def _call(self, function: Any, arguments: Any) -> Any:
        name = function.name if isinstance(function, _Global) else short(function)
        if name == "collections.OrderedDict" and arguments == ():
            return {}
        if name == "torch._utils._rebuild_parameter":
            return arguments[0]
        if name == "torch._utils._rebuild_tensor_v2":
            storage, offset, shape, stride, *_ = arguments
            numbers = [offset, *shape, *stride] if isinstance(shape, tuple) and isinstance(stride, tuple) else [None]
            if (
                isinstance(storage, _Storage)
                and all(map(_is_count, numbers))
                and len(shape) == len(stride) <= MAX_DIMENSIONS
            ):
                return _Tensor(storage, offset, tuple(shape), tuple(stride))
        raise InvalidCheckpoint(f"{self.file}: the pickle calls {name:.200}, which a state dict does not need")


_PUSH_ARGUMENT = {
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"),
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
}
_PUSH: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "TUPLE": _Machine.tuple,
    "TUPLE1": lambda machine, _: machine.tuple(1),
    "TUPLE2": lambda machine, _: machine.tuple(2),
    "TUPLE3": lambda machine, _: machine.tuple(3),
    "APPEND": lambda machine, _: machine.append(1),
    "APPENDS": _Machine.append,
    "SETITEM": lambda machine, _: machine.set_items(2),
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name,
    "BINPERSID": _Machine.persistent,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
