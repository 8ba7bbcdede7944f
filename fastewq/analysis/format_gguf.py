"""The GGUF header. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

The header is read here rather than by the `gguf` package's reader, which makes several Python objects per vocabulary
entry (hundreds of megabytes) and trusts every count in the file. Names and sizes of the types are the package's.
"""

from __future__ import annotations

import struct
from math import prod
from typing import Any

from gguf import GGMLQuantizationType

from fastewq.analysis.dequantize import block_layout
from fastewq.analysis.tensors import MAX_DIMENSIONS, MAX_TENSORS, TensorInfo, check_layout
from fastewq.errors import InvalidCheckpoint

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_ENTRIES = 100_000
MAX_ARRAY = 10_000_000
MAX_NAME = 65_536

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9


def parse_header(file: str, data: Any, file_size: int) -> tuple[dict[str, Any], list[TensorInfo]]:
    """Metadata (scalars and strings; arrays only as their length) and tensors of a GGUF file of `file_size` bytes.

    data  a buffer with the file's first bytes, at least the whole header
    Shapes are in row-major order, the reverse of the file's. Raises InvalidCheckpoint, naming file and tensor.
    """
    cursor = _Cursor(file, data)
    if cursor.bytes(4) != MAGIC:
        raise InvalidCheckpoint(f"{file}: does not start with the GGUF magic")
    version = cursor.number("<I")
    if version not in VERSIONS:
        raise InvalidCheckpoint(f"{file}: GGUF version {version}; expected one of {VERSIONS}, little-endian")
    tensor_count = cursor.count("tensors", MAX_TENSORS)
    entry_count = cursor.count("metadata entries", MAX_ENTRIES)
    metadata: dict[str, Any] = {}
    for _ in range(entry_count):
        key = cursor.string()
        metadata[key] = _value(cursor, key, cursor.number("<I"))
    entries = [_tensor_entry(cursor) for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
        raise InvalidCheckpoint(f"{file}: general.alignment is {alignment!r}; expected a power of two")
    begin = -(-cursor.position // alignment) * alignment
    tensors = [_tensor(file, begin, alignment, *entry) for entry in entries]
    if len({t.name for t in tensors}) < len(tensors):
        raise InvalidCheckpoint(f"{file}: two tensors have the same name")
    check_layout(file, tensors, begin, file_size)
    return metadata, tensors


class _Cursor:
    def __init__(self, file: str, data: Any) -> None:
        self.file, self.data, self.position = file, memoryview(data), 0

    def bytes(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise InvalidCheckpoint(f"{self.file}: the GGUF header needs byte {end}; the file ends at {len(self.data)}")
        part = self.data[self.position : end].tobytes()
        self.position = end
        return part

    def skip(self, count: int) -> None:
        self.position += count
        if self.position > len(self.data):
            raise InvalidCheckpoint(f"{self.file}: the GGUF header is longer than the file's {len(self.data)} bytes")

    def number(self, kind: str) -> Any:
        return struct.unpack(kind, self.bytes(struct.calcsize(kind)))[0]

    def count(self, what: str, limit: int) -> int:
        value: int = self.number("<Q")
        if value > limit:
            raise InvalidCheckpoint(f"{self.file}: the header announces {value} {what}; expected at most {limit}")
        return value

    def string(self) -> str:
        raw = self.bytes(self.count("bytes of a name", MAX_NAME))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidCheckpoint(f"{self.file}: a name in the GGUF header is not UTF-8: {error}") from None


def _value(cursor: _Cursor, key: str, kind: int) -> Any:
    if kind in _SCALARS:
        return cursor.number(_SCALARS[kind])
    if kind == _STRING:
        length = cursor.count(f"bytes in {key}", len(cursor.data))
        start = cursor.position
        cursor.skip(length)
        return bytes(cursor.data[start : start + min(length, MAX_NAME)]).decode("utf-8", "replace")
    if kind != _ARRAY:
        raise InvalidCheckpoint(f"{cursor.file}: {key} has the unknown value type {kind}")
    kind, length = cursor.number("<I"), cursor.count(f"values in {key}", MAX_ARRAY)
    if kind in _SCALARS:
        cursor.skip(length * struct.calcsize(_SCALARS[kind]))
    elif kind == _STRING:
        for _ in range(length):
            cursor.skip(cursor.number("<Q"))
    else:
        raise InvalidCheckpoint(f"{cursor.file}: {key} is an array of the unknown value type {kind}")
    return length


def _tensor_entry(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name = cursor.string()
    rank = cursor.number("<I")
    if rank > MAX_DIMENSIONS:
        raise InvalidCheckpoint(
            f"{cursor.file}: tensor {name} has {rank} dimensions; expected at most {MAX_DIMENSIONS}"
        )
    dims = tuple(cursor.number("<Q") for _ in range(rank))
    return name, dims[::-1], cursor.number("<I"), cursor.number("<Q")


def _tensor(
    file: str, begin: int, alignment: int, name: str, shape: tuple[int, ...], kind: int, offset: int
) -> TensorInfo:
    if any(n >= 1 << 48 for n in shape):
        raise InvalidCheckpoint(f"{file}: tensor {name} has the impossible shape {shape}")
    if offset % alignment:
        raise InvalidCheckpoint(f"{file}: tensor {name} is at offset {offset}; expected a multiple of {alignment}")
    try:
        dtype = GGMLQuantizationType(kind).name
    except ValueError:
        raise InvalidCheckpoint(f"{file}: tensor {name} has the unknown GGUF type {kind}") from None
    values, size = block_layout(dtype)
    if shape and shape[-1] % values:
        raise InvalidCheckpoint(
            f"{file}: tensor {name} of type {dtype} has rows of {shape[-1]} values; expected a multiple of {values}"
        )
    return TensorInfo(name, shape, dtype, file, begin + offset, prod(shape) // values * size)
