"""Marian's binary models with 8-bit matrices, as the translation models of browsers are distributed.

    u64 version, u64 items, per item u64 name length, type, dimensions, bytes; the names; the shapes as i32;
    u64 gap, gap; the data, item after item

A matrix of type intgemm8 holds one signed byte per weight and, behind them, one float32 by which they were multiplied
before rounding (marian-nmt, src/common/binary.cpp and src/tensors/cpu/expression_graph_packable.h).
"""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastewq.errors import InvalidCheckpoint

VERSION = 1
FLOAT32 = 0x404
INTGEMM8 = 0x4101
MAX_ITEMS = 100_000
MAX_DIMENSIONS = 8


def read_marian(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The float32 and the dequantized 8-bit tensors of a model, the latter as (inputs, outputs).

    Marian counts layers from 1 and keeps vectors as (1, n): `encoder_l1_ffn_b1` gives `encoder.0.ffn_b1` of shape (n,).
    The scales of activations (`_QuantMultA`) are left out.

    Raises InvalidCheckpoint, or struct.error or ValueError where the file ends too early.
    """
    data = path.read_bytes()
    version, items = struct.unpack_from("<QQ", data)
    if version != VERSION or items > MAX_ITEMS:
        raise InvalidCheckpoint(
            f"{path.name} has version {version} and {items} items; expected {VERSION} and at most {MAX_ITEMS}"
        )
    headers = list(struct.iter_unpack("<QQQQ", data[16 : 16 + 32 * items]))
    position = 16 + 32 * items
    names = []
    for length, *_ in headers:
        names.append(data[position : position + length].rstrip(b"\0").decode())
        position += length
    shapes = []
    for _, _, dimensions, _ in headers:
        if dimensions > MAX_DIMENSIONS:
            raise InvalidCheckpoint(f"{path.name}: a tensor has {dimensions} dimensions; expected {MAX_DIMENSIONS}")
        shapes.append(struct.unpack_from(f"<{dimensions}i", data, position))
        position += 4 * dimensions
    position += 8 + struct.unpack_from("<Q", data, position)[0]
    tensors = {}
    for (_, kind, _, size), name, shape in zip(headers, names, shapes, strict=True):
        name = re.sub(r"^(encoder|decoder)_l(\d+)_", lambda match: f"{match[1]}.{int(match[2]) - 1}.", name)
        shape = shape[1:] if shape[:1] == (1,) else shape
        count = math.prod(shape)
        if kind == FLOAT32 and not name.endswith("_QuantMultA"):
            tensors[name] = np.frombuffer(data, "<f4", count, position).reshape(shape)
        elif kind == INTGEMM8 and not name.endswith("_QuantMultA"):
            (multiplier,) = struct.unpack_from("<f", data, position + count)
            tensors[name] = np.frombuffer(data, np.int8, count, position).reshape(shape) / np.float32(multiplier)
        position += size
    if position != len(data):
        raise InvalidCheckpoint(f"{path.name} has {len(data)} bytes; its items end at byte {position}")
    return tensors
