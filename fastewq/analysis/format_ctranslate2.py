"""CTranslate2's `model.bin`, binary version 6, little-endian.

u32 version, string spec, u32 revision, u32 count, then per variable:
    string name, u8 rank, u32 dims[rank], u8 type, u32 bytes, data
then u32 count of aliases, two strings each. A string is a u16 length that counts the final zero byte, and the bytes.
"""

from __future__ import annotations

import struct
from typing import Any

from fastewq.analysis.tensors import MAX_DIMENSIONS, MAX_TENSORS, TensorInfo, stored_bytes
from fastewq.errors import InvalidCheckpoint

VERSION = 6
MAGIC = b"\6\0\0\0"
"""The version; in a safetensors file these four bytes would be followed by four zeros."""
_TYPES = ("F32", "I8", "I16", "I32", "F16", "BF16")


def parse(file: str, data: Any) -> tuple[str, list[TensorInfo]]:
    """The model specification's name and the tensors of a whole file (a buffer). Raises InvalidCheckpoint."""
    cursor = _Cursor(file, data)
    version = cursor.number("<I")
    if version != VERSION:
        raise InvalidCheckpoint(f"{file}: CTranslate2 binary version {version}; expected {VERSION}")
    spec = cursor.string()
    cursor.number("<I")
    count = cursor.number("<I")
    if count > MAX_TENSORS:
        raise InvalidCheckpoint(f"{file}: the header announces {count} variables; expected at most {MAX_TENSORS}")
    tensors = [_variable(cursor) for _ in range(count)]
    if len({t.name for t in tensors}) < len(tensors):
        raise InvalidCheckpoint(f"{file}: two variables have the same name")
    return spec, tensors


class _Cursor:
    def __init__(self, file: str, data: Any) -> None:
        self.file, self.data, self.position = file, memoryview(data), 0

    def skip(self, count: int) -> int:
        """Move on by `count` bytes and return where they start."""
        start = self.position
        if count > len(self.data) - start:
            raise InvalidCheckpoint(f"{self.file}: ends at byte {len(self.data)}; expected {start + count} or more")
        self.position += count
        return start

    def number(self, kind: str) -> int:
        value: int = struct.unpack_from(kind, self.data, self.skip(struct.calcsize(kind)))[0]
        return value

    def string(self) -> str:
        length = self.number("<H")
        start = self.skip(length)
        raw = bytes(self.data[start : start + length])
        if not raw.endswith(b"\0"):
            raise InvalidCheckpoint(f"{self.file}: the string at byte {start} does not end with a zero byte")
        try:
            return raw[:-1].decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidCheckpoint(f"{self.file}: the string at byte {start} is not UTF-8: {error}") from None


def _variable(cursor: _Cursor) -> TensorInfo:
    name = cursor.string()
    rank = cursor.number("<B")
    if rank > MAX_DIMENSIONS:
        raise InvalidCheckpoint(
            f"{cursor.file}: tensor {name} has {rank} dimensions; expected at most {MAX_DIMENSIONS}"
        )
    shape = tuple(cursor.number("<I") for _ in range(rank))
    kind = cursor.number("<B")
    if kind >= len(_TYPES):
        raise InvalidCheckpoint(f"{cursor.file}: tensor {name} has the unknown type {kind}")
    nbytes = cursor.number("<I")
    expected = stored_bytes(cursor.file, name, shape, _TYPES[kind])
    if nbytes != expected:
        raise InvalidCheckpoint(
            f"{cursor.file}: tensor {name} of type {_TYPES[kind]} and shape {shape} takes {expected} bytes; "
            f"the header says {nbytes}"
        )
    if cursor.position + nbytes > len(cursor.data):
        raise InvalidCheckpoint(
            f"{cursor.file}: tensor {name} ends at byte {cursor.position + nbytes} of {len(cursor.data)}"
        )
    return TensorInfo(name, shape, _TYPES[kind], cursor.file, cursor.skip(nbytes), nbytes)
