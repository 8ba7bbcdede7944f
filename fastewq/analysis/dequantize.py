"""GGUF's block-quantized types as float32 values.

The formulas are ggml's (`ggml-quants.c`), rounded in the same order as in the `gguf` package's numpy code, so that the
values are the package's to the last bit. The common types are compiled here, ten times as fast or more; the rest goes
through the package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize as package_dequantize

from fastewq.analysis.numerics import compiled

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def block_layout(dtype: str) -> tuple[int, int]:
    """Values and bytes per block of a GGUF type, for instance (256, 144) for Q4_K. (1, 4) for F32."""
    values, size = GGML_QUANT_SIZES[GGMLQuantizationType[dtype]]
    return int(values), int(size)


def can_dequantize(dtype: str) -> bool:
    """Whether this is a block type that can be turned into numbers."""
    values, size = block_layout(dtype)
    if values == 1 or dtype in _COMPILED:
        return values > 1
    try:
        package_dequantize(np.zeros((1, size), np.uint8), GGMLQuantizationType[dtype])
    except NotImplementedError:
        return False
    return True


def dequantize(raw: Bytes, dtype: str) -> Floats:
    """The values of whole blocks; raw: their bytes, contiguous. Scales that are NaN or infinite give such values."""
    values, size = block_layout(dtype)
    blocks = raw.reshape(-1, size)
    if dtype not in _COMPILED:
        with np.errstate(invalid="ignore", over="ignore"):
            # As one row: the package splits rows into groups of 16 and would handle a few blocks at a time.
            return np.asarray(package_dequantize(blocks.reshape(1, -1), GGMLQuantizationType[dtype])).reshape(-1)
    out = np.empty((len(blocks), values), np.float32)
    _COMPILED[dtype](blocks, _half(blocks, _SCALE_AT[dtype]), _half(blocks, _OFFSET_AT.get(dtype, 0)), out)
    return out.reshape(-1)


def _half(blocks: Bytes, at: int) -> Floats:
    """The float16 at byte `at` of each block."""
    with np.errstate(invalid="ignore"):
        return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32).reshape(-1)


@compiled()
def _q8_0(blocks: Bytes, scale: Floats, _: Floats, out: Floats) -> None:
    for b in range(len(blocks)):
        for i in range(32):
            out[b, i] = scale[b] * np.float32(np.int8(blocks[b, 2 + i]))


@compiled()
def _q4_0(blocks: Bytes, scale: Floats, _: Floats, out: Floats) -> None:
    for b in range(len(blocks)):
        for i in range(16):
            q = blocks[b, 2 + i]
            out[b, i] = scale[b] * np.float32(np.int32(q & 15) - 8)
            out[b, 16 + i] = scale[b] * np.float32(np.int32(q >> 4) - 8)


@compiled()
def _q4_1(blocks: Bytes, scale: Floats, offset: Floats, out: Floats) -> None:
    for b in range(len(blocks)):
        for i in range(16):
            q = blocks[b, 4 + i]
            out[b, i] = scale[b] * np.float32(q & 15) + offset[b]
            out[b, 16 + i] = scale[b] * np.float32(q >> 4) + offset[b]


@compiled()
def _fifth_bits(blocks: Bytes, b: int, at: int) -> np.uint32:
    return (
        np.uint32(blocks[b, at])
        | np.uint32(blocks[b, at + 1]) << np.uint32(8)
        | np.uint32(blocks[b, at + 2]) << np.uint32(16)
        | np.uint32(blocks[b, at + 3]) << np.uint32(24)
    )


@compiled()
def _q5_0(blocks: Bytes, scale: Floats, _: Floats, out: Floats) -> None:
    for b in range(len(blocks)):
        high = _fifth_bits(blocks, b, 2)
        for i in range(16):
            q = np.uint32(blocks[b, 6 + i])
            low_q = (q & np.uint32(15)) | ((high >> np.uint32(i)) & np.uint32(1)) << np.uint32(4)
            high_q = (q >> np.uint32(4)) | ((high >> np.uint32(i + 16)) & np.uint32(1)) << np.uint32(4)
            out[b, i] = scale[b] * np.float32(np.int32(low_q) - np.int32(16))
            out[b, 16 + i] = scale[b] * np.float32(np.int32(high_q) - np.int32(16))


@compiled()
def _q5_1(blocks: Bytes, scale: Floats, offset: Floats, out: Floats) -> None:
    for b in range(len(blocks)):
        high = _fifth_bits(blocks, b, 4)
        for i in range(16):
            q = np.uint32(blocks[b, 8 + i])
            low_q = (q & np.uint32(15)) | ((high >> np.uint32(i)) & np.uint32(1)) << np.uint32(4)
            high_q = (q >> np.uint32(4)) | ((high >> np.uint32(i + 16)) & np.uint32(1)) << np.uint32(4)
            out[b, i] = scale[b] * np.float32(low_q) + offset[b]
            out[b, 16 + i] = scale[b] * np.float32(high_q) + offset[b]


@compiled()
def _scale_and_offset(blocks: Bytes, b: int, j: int) -> tuple[np.float32, np.float32]:
    """The j-th of eight 6-bit scales and 6-bit offsets, packed into bytes 4 to 15 of a Q4_K or Q5_K block."""
    if j < 4:
        scale = blocks[b, 4 + j] & 63
        offset = blocks[b, 8 + j] & 63
    else:
        scale = (blocks[b, 8 + j] & 15) | (blocks[b, j] >> 6) << 4
        offset = (blocks[b, 8 + j] >> 4) | (blocks[b, 4 + j] >> 6) << 4
    return np.float32(scale), np.float32(offset)


@compiled()
def _q4_k(blocks: Bytes, scale: Floats, offset: Floats, out: Floats) -> None:
    for b in range(len(blocks)):
        for j in range(4):
            scale1, offset1 = _scale_and_offset(blocks, b, 2 * j)
            scale2, offset2 = _scale_and_offset(blocks, b, 2 * j + 1)
            d1, m1 = scale[b] * scale1, offset[b] * offset1
            d2, m2 = scale[b] * scale2, offset[b] * offset2
            for i in range(32):
                q = blocks[b, 16 + 32 * j + i]
                out[b, 64 * j + i] = d1 * np.float32(q & 15) - m1
                out[b, 64 * j + 32 + i] = d2 * np.float32(q >> 4) - m2


@compiled()
def _q5_k(blocks: Bytes, scale: Floats, offset: Floats, out: Floats) -> None:
    for b in range(len(blocks)):
        for j in range(4):
            scale1, offset1 = _scale_and_offset(blocks, b, 2 * j)
            scale2, offset2 = _scale_and_offset(blocks, b, 2 * j + 1)
            d1, m1 = scale[b] * scale1, offset[b] * offset1
            d2, m2 = scale[b] * scale2, offset[b] * offset2
            for i in range(32):
                q, high = blocks[b, 48 + 32 * j + i], blocks[b, 16 + i] >> (2 * j)
                out[b, 64 * j + i] = d1 * np.float32((q & 15) | (high & 1) << 4) - m1
                out[b, 64 * j + 32 + i] = d2 * np.float32((q >> 4) | (high & 2) << 3) - m2


@compiled()
def _q6_k(blocks: Bytes, scale: Floats, _: Floats, out: Floats) -> None:
    for b in range(len(blocks)):
        for group in range(16):
            half, quarter, begin = group // 8, group // 2 % 4, group % 2 * 16
            d = scale[b] * np.float32(np.int8(blocks[b, 192 + group]))
            low = 64 * half + 32 * (quarter % 2) + begin
            for i in range(16):
                q = (blocks[b, low + i] >> (4 * (quarter // 2))) & 15
                high = (blocks[b, 128 + 32 * half + begin + i] >> (2 * quarter)) & 3
                out[b, 16 * group + i] = d * np.float32(np.int32(q | high << 4) - 32)


_COMPILED: Mapping[str, Callable[[Bytes, Floats, Floats, Floats], Any]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
_SCALE_AT = {"Q4_0": 0, "Q4_1": 0, "Q5_0": 0, "Q5_1": 0, "Q8_0": 0, "Q4_K": 0, "Q5_K": 0, "Q6_K": 208}
_OFFSET_AT = {"Q4_1": 2, "Q5_1": 2, "Q4_K": 2, "Q5_K": 2}
