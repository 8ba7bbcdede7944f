"""Checkpoints as lists of tensors whose values can be read in pieces. Nothing here unpickles or runs what a file holds.

    open_checkpoint(path) -> Checkpoint     safetensors (file, index, folder), GGUF, torch .bin, CTranslate2
    checkpoint.tensors                      TensorInfo: name, shape, dtype, file, offset, nbytes
    checkpoint.matrices(tensor)             its values as `kernel.Weights`: one, or one per expert of a stacked tensor

The formats (`format_*.py`) turn headers into TensorInfo and know nothing of files or networks. Whoever can deliver
byte ranges (`ByteSource`) can make a Checkpoint.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from fastewq.analysis import format_ctranslate2, format_gguf, format_safetensors, format_torch
from fastewq.analysis.dequantize import block_layout, can_dequantize, dequantize
from fastewq.analysis.kernel import STORAGE, ValueType
from fastewq.analysis.numerics import TILE
from fastewq.analysis.tensors import BITS, TensorInfo
from fastewq.errors import InvalidCheckpoint, NotFound, StorageFailure

CHUNK_BYTES = 4 << 20
"""Bytes of values handed to the kernel at a time: large enough that the page faults of a memory map cost little."""

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
        """The values of a tensor. Raises InvalidCheckpoint for a type that holds no weights on its own."""
        value_type = value_type_of(tensor)
        if value_type is None:
            raise InvalidCheckpoint(
                f"{tensor.file}: tensor {tensor.name} is stored as {tensor.dtype}, which does not hold weights on its "
                f"own; analyse the checkpoint before quantization"
            )
        shape = tensor.shape[1:] if is_expert_stack(tensor) else tensor.shape
        size = math.prod(shape)
        return [
            StoredMatrix(self.source, tensor, value_type, shape, first)
            for first in range(0, tensor.parameters, size)
            if size
        ]


_EXPERTS = re.compile(r"(^|[._/])(experts?|\w*_exps|moe|block_sparse_moe)([._/]|$)")


def is_expert_stack(tensor: TensorInfo) -> bool:
    """Whether a tensor is (experts, rows, columns): three dimensions and a name that says so."""
    return len(tensor.shape) == 3 and _EXPERTS.search(tensor.name) is not None


def value_type_of(tensor: TensorInfo) -> ValueType | None:
    """The type in which the kernel sees a tensor's values: float32 for GGUF's block types, None for no weights."""
    if tensor.dtype in STORAGE:
        return cast(ValueType, tensor.dtype)
    return None if tensor.dtype in BITS or not can_dequantize(tensor.dtype) else "F32"


@dataclass(frozen=True, slots=True)
class StoredMatrix:
    """The `kernel.Weights` of a tensor, or of one expert of it that starts at value `first`."""

    source: ByteSource
    tensor: TensorInfo
    value_type: ValueType
    shape: tuple[int, ...]
    first: int

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
        if self.tensor.dtype in BITS:
            values, size = 1, BITS[self.tensor.dtype] // 8
        else:
            values, size = block_layout(self.tensor.dtype)
        begin = self.tensor.offset + (self.first + start) // values * size
        end = self.tensor.offset + (self.first + stop) // values * size
        with self.source.read(self.tensor.file, begin, end) as raw:
            if self.tensor.dtype in BITS:
                yield raw.view(STORAGE[self.value_type])
            else:
                yield dequantize(raw, self.tensor.dtype)


# --- local files ------------------------------------------------------------------------------------------------------


class LocalFiles:
    """Files of one folder, mapped into memory. A chunk's pages are given back as soon as it has been used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._maps: dict[str, mmap.mmap] = {}

    def map(self, file: str) -> mmap.mmap:
        if file not in self._maps:
            path = self.folder / file
            try:
                with path.open("rb") as stream:
                    self._maps[file] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            except (FileNotFoundError, IsADirectoryError):
                raise NotFound(f"{path} does not exist or is not a file") from None
            except ValueError:
                raise InvalidCheckpoint(f"{file}: the file is empty") from None
            except OSError as error:
                raise StorageFailure(f"{path} cannot be read: {error.strerror}") from None
        return self._maps[file]

    @contextmanager
    def read(self, file: str, start: int, stop: int) -> Iterator[Bytes]:
        mapped = self.map(file)
        yield np.frombuffer(mapped, np.uint8, stop - start, start)
        if hasattr(mapped, "madvise"):
            page = start // mmap.PAGESIZE * mmap.PAGESIZE
            mapped.madvise(mmap.MADV_DONTNEED, page, stop - page)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint by what its first bytes say.

    path  a safetensors file, `*.safetensors.index.json`, GGUF, torch `.bin` (or its index), CTranslate2 `model.bin`, or
          a folder that holds one of them

    Raises NotFound, StorageFailure, or InvalidCheckpoint naming the file and, where one is at fault, the tensor.
    """
    path = Path(path)
    target = _choose(path) if path.is_dir() else path
    source = LocalFiles(target.parent)
    if target.suffix == ".json":
        tensors = _open_index(source, target.name)
    else:
        _refuse_lone_shard(target)
        tensors = _open_file(source, target.name)
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
    for pattern in ("*.safetensors.index.json", "*.safetensors", "*.gguf", "*.bin"):
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(p.name for p in found[:5])
            raise InvalidCheckpoint(f"{folder}: several checkpoints ({names}); name the one to analyse")
    raise NotFound(f"{folder} holds no checkpoint; expected safetensors, GGUF or a torch or CTranslate2 .bin file")


def _refuse_lone_shard(path: Path) -> None:
    match = re.search(r"-(\d+)-of-(\d+)\.\w+$", path.name)
    if match and int(match[2]) > 1:
        raise InvalidCheckpoint(f"{path.name}: one part of {int(match[2])}; expected the index file or the folder")


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


def _open_file(source: LocalFiles, file: str) -> list[TensorInfo]:
    data = source.map(file)
    first = data[:16]
    if first[:4] == format_gguf.MAGIC:
        return format_gguf.parse_header(file, data, len(data))[1]
    if first[:4] == format_torch.ZIP_MAGIC or first[:1] == b"\x80":
        with (source.folder / file).open("rb") as stream:
            return format_torch.parse(file, stream, len(data))
    if first[:4] == format_ctranslate2.VERSION.to_bytes(4, "little") and not file.endswith(".safetensors"):
        return format_ctranslate2.parse(file, data)[1]
    length = format_safetensors.header_length(file, first, len(data))
    return format_safetensors.parse_header(file, data[8 : 8 + length], len(data))
