"""Checkpoints as lists of tensors whose values can be read in pieces. Nothing here unpickles or runs what a file holds.

    open_checkpoint(path) -> Checkpoint     safetensors (file, index, folder), GGUF, torch .bin, CTranslate2
    checkpoint.tensors                      TensorInfo: name, shape, dtype, file, offset, nbytes
    checkpoint.matrices(tensor)             its values as `weights.Weights`: one, or one per expert of a stacked tensor

The formats (`format_*.py`) turn headers into TensorInfo and know nothing of files or networks. Whoever can deliver
byte ranges (`ByteSource`) can make a Checkpoint.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from fastewq.analysis import format_ctranslate2, format_gguf, format_safetensors, format_torch
from fastewq.analysis.dequantize import block_layout, can_dequantize, dequantize
from fastewq.analysis.numerics import TILE
from fastewq.analysis.tensors import BITS, TensorInfo
from fastewq.analysis.weights import STORAGE, ValueType, bit_values
from fastewq.errors import InvalidCheckpoint, NotFound, StorageFailure

CHUNK_BYTES = 4 << 20
"""Bytes of values handed to the kernel at a time: large enough that what is not in memory yet is read in long runs."""

Bytes = npt.NDArray[np.uint8]


class ByteSource(Protocol):
    """Byte ranges of named files, from any thread."""

    def read(self, file: str, start: int, stop: int) -> AbstractContextManager[Bytes]:
        """Exactly the bytes start to stop, valid inside the context."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """Tensors in file order and where their bytes come from. `name` is what a report calls the model."""

    name: str
    tensors: tuple[TensorInfo, ...]
    source: ByteSource

    def matrices(self, tensor: TensorInfo) -> list[StoredMatrix]:
        """The values of a tensor: one matrix, or one per expert. Float8 weights are multiplied by their scales.

        Raises InvalidCheckpoint for a type that holds no weights on its own.
        """
        value_type = self._value_type(tensor)
        scales = self._scales(tensor)
        if scales is not None:
            return [StoredMatrix(self.source, tensor, "F64", tensor.shape, scales=scales)]
        shape = tensor.shape[1:] if is_expert_stack(tensor) else tensor.shape
        starts = range(0, tensor.parameters, max(1, math.prod(shape)))
        return [StoredMatrix(self.source, tensor, value_type, shape, first) for first in starts]

    def parts(self, tensor: TensorInfo) -> int:
        """How many `matrices` a tensor has, without reading anything. Raises the same."""
        self._value_type(tensor)
        return tensor.shape[0] if is_expert_stack(tensor) and self.scale_of(tensor) is None else 1

    def _value_type(self, tensor: TensorInfo) -> ValueType:
        value_type = value_type_of(tensor)
        if value_type is None:
            raise InvalidCheckpoint(
                f"{tensor.file}: tensor {tensor.name} is stored as {tensor.dtype}, which does not hold weights on its "
                f"own; analyse the checkpoint before quantization"
            )
        return value_type

    @cached_property
    def _by_name(self) -> dict[str, TensorInfo]:
        return {t.name: t for t in self.tensors}

    def is_scale(self, tensor: TensorInfo) -> bool:
        """Whether a tensor holds the scales of a float8 tensor, which `matrices` applies, and no weights."""
        return any(
            tensor.name.endswith(suffix)
            and (scaled := self._by_name.get(tensor.name.removesuffix(suffix))) is not None
            and scaled.dtype.startswith("F8")
            for suffix in _SCALE_SUFFIXES
        )

    def scale_of(self, tensor: TensorInfo) -> TensorInfo | None:
        """The tensor that holds the scales of a float8 tensor."""
        if not tensor.dtype.startswith("F8"):
            return None
        companions = (self._by_name.get(tensor.name + suffix) for suffix in _SCALE_SUFFIXES)
        return next((t for t in companions if t), None)

    def _scales(self, tensor: TensorInfo) -> npt.NDArray[np.float64] | None:
        """The scales that belong to a float8 matrix, as (blocks of rows, blocks of columns); None without any."""
        found = self.scale_of(tensor)
        if found is None:
            return None
        fits = len(tensor.shape) == 2 and 0 < found.parameters <= tensor.parameters
        if found.dtype not in ("F32", "BF16", "F16") or not fits:
            raise InvalidCheckpoint(
                f"{found.file}: tensor {found.name} of type {found.dtype} and shape {found.shape} does not scale "
                f"{tensor.name} of shape {tensor.shape}"
            )
        with StoredMatrix(self.source, found, cast(ValueType, found.dtype), found.shape).chunk(
            0, found.parameters
        ) as raw:
            values = raw.astype(np.float64) if found.dtype == "F32" else bit_values(cast(ValueType, found.dtype))[raw]
        return values.reshape(1, 1) if values.size == 1 else values.reshape(found.shape[0], -1)


_SCALE_SUFFIXES = ("_scale_inv", "_scale")  # both are factors, whatever the first one's name says
_EXPERTS = re.compile(r"(^|[._/])(experts?|\w*_exps|moe|block_sparse_moe)([._/]|$)")


def is_expert_stack(tensor: TensorInfo) -> bool:
    """Whether a tensor is (experts, rows, columns): three dimensions and a name that says so."""
    return len(tensor.shape) == 3 and _EXPERTS.search(tensor.name) is not None


def value_type_of(tensor: TensorInfo) -> ValueType | None:
    """The type in which the kernel sees a tensor's values: float32 for GGUF's block types, None for no weights."""
    if tensor.dtype in STORAGE:
        return cast(ValueType, tensor.dtype)
    return None if tensor.dtype in BITS or not can_dequantize(tensor.dtype) else "F32"


def is_packed(tensor: TensorInfo) -> bool:
    """Whether a type is one in which quantization tools pack several weights, or codes that need a scale."""
    return value_type_of(tensor) is None and tensor.dtype not in ("BOOL", "I16", "U16", "I64", "U64", "F8_E8M0")


FLOAT8_BLOCK = 128
"""Rows and columns that share a scale where a float8 checkpoint does not have one per tensor or row (DeepSeek-V3)."""


@dataclass(frozen=True, slots=True)
class StoredMatrix:
    """The `weights.Weights` of a tensor, of its expert that starts at value `first`, or of a scaled float8 matrix."""

    source: ByteSource
    tensor: TensorInfo
    value_type: ValueType
    shape: tuple[int, ...]
    first: int = 0
    scales: npt.NDArray[np.float64] | None = None

    @property
    def name(self) -> str:
        return self.tensor.name

    @property
    def file(self) -> str:
        return self.tensor.file

    @property
    def chunk_size(self) -> int:
        return CHUNK_BYTES // np.dtype(STORAGE[self.value_type]).itemsize // TILE * TILE

    @contextmanager
    def chunk(self, start: int, stop: int) -> Iterator[npt.NDArray[Any]]:
        plain = self.tensor.dtype in BITS
        values, size = (1, BITS[self.tensor.dtype] // 8) if plain else block_layout(self.tensor.dtype)
        begin = self.tensor.offset + (self.first + start) // values * size
        end = self.tensor.offset + (self.first + stop) // values * size
        with self.source.read(self.tensor.file, begin, end) as raw:
            if self.scales is not None:
                yield self._scaled(raw, self.scales, start, stop)
            elif plain:
                yield raw.view(STORAGE[self.value_type])
            else:
                yield dequantize(raw, self.tensor.dtype)

    def _scaled(self, raw: Bytes, scales: npt.NDArray[np.float64], start: int, stop: int) -> npt.NDArray[np.float64]:
        """Float8 codes times scales, exact in float64."""
        rows, columns = self.shape
        first_row, last_row = start // columns, (stop - 1) // columns + 1
        row_block, column_block = self._block(rows, scales.shape[0]), self._block(columns, scales.shape[1])
        factors = np.repeat(scales[np.arange(first_row, last_row) // row_block], column_block, axis=1)[:, :columns]
        skipped = first_row * columns
        codes = bit_values(cast(ValueType, self.tensor.dtype))[raw]
        return codes * factors.reshape(-1)[start - skipped : stop - skipped]

    def _block(self, length: int, scales: int) -> int:
        """How many of `length` rows or columns share one of so many scales."""
        for block in (length, 1, FLOAT8_BLOCK):
            if -(-length // block) == scales:
                return block
        raise InvalidCheckpoint(f"{self.file}: {self.name} of shape {self.shape} has {scales} scales for {length}")


# --- local files ------------------------------------------------------------------------------------------------------


class LocalFiles:
    """Files of one folder.

    Weights are read into buffers that are used again, not from a memory map: there a file that is cut, or a disk that
    fails, would end the process instead of being an error.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._streams: dict[str, FileIO] = {}
        self._buffers: list[Bytes] = []
        self._opening = threading.Lock()

    def map(self, file: str) -> mmap.mmap:
        """The whole file, to parse its header from."""
        with self._open(file) as stream:
            try:
                return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:
                raise InvalidCheckpoint(f"{file}: the file is empty") from None

    @contextmanager
    def read(self, file: str, start: int, stop: int) -> Iterator[Bytes]:
        with self._opening:
            if file not in self._streams:
                self._streams[file] = self._open(file)
                weakref.finalize(self, self._streams[file].close)
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = np.empty(CHUNK_BYTES, np.uint8)
        if len(buffer) < stop - start:
            buffer = np.empty(stop - start, np.uint8)
        try:
            self._fill(file, buffer[: stop - start], start)
            yield buffer[: stop - start]
        finally:
            self._buffers.append(buffer)

    def _fill(self, file: str, buffer: Bytes, start: int) -> None:
        stream, done = self._streams[file], 0
        while done < len(buffer):
            try:
                count = _read_at(stream, buffer.data[done:], start + done)
            except OSError as error:
                raise StorageFailure(f"{self.folder / file} cannot be read: {error.strerror}") from error
            if count == 0:
                size, stop = os.fstat(stream.fileno()).st_size, start + len(buffer)
                raise InvalidCheckpoint(f"{file}: {size} bytes; expected {stop}: the file was cut after its opening")
            done += count

    def _open(self, file: str) -> FileIO:
        path = self.folder / file
        try:
            if not path.is_file():  # opening a pipe would wait for someone to write to it
                raise NotFound(f"{path} does not exist or is not a file")
            return path.open("rb", buffering=0)
        except OSError as error:
            raise StorageFailure(f"{path} cannot be read: {error.strerror}") from None


_SEEKING = threading.Lock()


def _read_at(stream: FileIO, buffer: memoryview, position: int) -> int:
    """Read up to a buffer's length, from any thread; how many bytes, 0 at the end of the file."""
    if hasattr(os, "preadv"):
        return os.preadv(stream.fileno(), [buffer], position)
    with _SEEKING:  # Windows reads at the stream's own place only
        stream.seek(position)
        return stream.readinto(buffer)


_SPLIT = re.compile(r"(?P<stem>.*)-\d{5}-of-(?P<parts>\d{5})(?P<suffix>\.gguf|\.safetensors)")
_PART = re.compile(r"-\d+-of-(?P<parts>\d+)\.\w+$")
_MAX_PARTS = 1000


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint by what its first bytes say.

    path  a safetensors or GGUF file (any part of a split one), `*.safetensors.index.json`, torch `.bin` (or its index),
          CTranslate2 `model.bin`, or a folder that holds one of them

    Raises NotFound, StorageFailure, or InvalidCheckpoint naming the file and, where one is at fault, the tensor.
    """
    path = Path(path)
    target = _choose(path) if path.is_dir() else path
    source = LocalFiles(target.parent)
    tensors = _open_index(source, target.name) if target.suffix == ".json" else _open_parts(source, _parts(target))
    name = path.resolve().name if path.is_dir() else path.name
    return Checkpoint(name, tuple(tensors), source)


_PREFERRED = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "model.bin",
)


def _choose(folder: Path) -> Path:
    for name in _PREFERRED:
        if (folder / name).is_file():
            return folder / name
    for pattern in ("*.safetensors.index.json", "*.safetensors", "*.gguf", "*.bin", "*.pt"):
        found = sorted(folder.glob(pattern))
        stems = {match["stem"] if (match := _SPLIT.fullmatch(p.name)) else p.name for p in found}
        if len(stems) == 1:
            return found[0]
        if found:
            names = ", ".join(p.name for p in found[:5])
            raise InvalidCheckpoint(f"{folder}: several checkpoints ({names}); name the one to analyse")
    raise NotFound(f"{folder} holds no checkpoint; expected safetensors, GGUF or a torch or CTranslate2 .bin file")


def _parts(path: Path) -> list[str]:
    """The files of a model: those of a split one, else the one given. A part of a torch file is refused."""
    split = _PART.search(path.name)
    count = int(split["parts"]) if split else 1
    if count > _MAX_PARTS:
        raise InvalidCheckpoint(f"{path.name}: a part of {count}; expected at most {_MAX_PARTS}")
    if whole := _SPLIT.fullmatch(path.name):
        return [f"{whole['stem']}-{part:05d}-of-{whole['parts']}{whole['suffix']}" for part in range(1, count + 1)]
    if count > 1:
        raise InvalidCheckpoint(f"{path.name}: one part of {count}; expected the index file or the folder")
    return [path.name]


def _open_index(source: LocalFiles, file: str) -> list[TensorInfo]:
    weight_map = format_safetensors.parse_index(file, bytes(source.map(file)))
    stored: dict[str, TensorInfo] = {}
    for shard in dict.fromkeys(weight_map.values()):
        for tensor in _open_file(source, shard):
            if weight_map.get(tensor.name) == shard:
                stored[tensor.name] = tensor
    for name, shard in weight_map.items():
        if name not in stored:
            raise InvalidCheckpoint(f"{file}: tensor {name} should be in {shard}, which does not hold it")
    return list(stored.values())


def _open_parts(source: LocalFiles, files: Iterable[str]) -> list[TensorInfo]:
    stored: dict[str, TensorInfo] = {}
    for file in files:
        for tensor in _open_file(source, file):
            if tensor.name in stored:
                raise InvalidCheckpoint(f"{file}: tensor {tensor.name} is in {stored[tensor.name].file} as well")
            stored[tensor.name] = tensor
    return list(stored.values())


def _open_file(source: LocalFiles, file: str) -> list[TensorInfo]:
    data = source.map(file)
    first = data[:16]
    if first.startswith(format_gguf.MAGIC):
        return format_gguf.parse_header(file, data, len(data))[1]
    if first.startswith(format_torch.MAGICS):
        with (source.folder / file).open("rb") as stream:
            return format_torch.parse(file, stream, len(data))
    if first.startswith(format_ctranslate2.MAGIC) and first[4:8] != bytes(4):
        return format_ctranslate2.parse(file, data)[1]
    length = format_safetensors.header_length(file, first, len(data))
    return format_safetensors.parse_header(file, data[8 : 8 + length], len(data))
