"""What every checkpoint format is reduced to: where each tensor lies, with the checks common to all formats. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fastewq.errors import InvalidCheckpoint

MAX_DIMENSIONS = 8
MAX_TENSORS = 1_000_000

BITS: Mapping[str, int] = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "U16": 16,
    "I16": 16,
    "U32": 32,
    "I32": 32,
    "U64": 64,
    "I64": 64,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
    "F16": 16,
    "BF16": 16,
    "F32": 32,
    "F64": 64,
    "C64": 64,
}
"""Bits per value of the types that store each value on its own, by their safetensors names. Block types (Q4_K ...) are
named as in GGUF and not listed here."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One stored tensor: `nbytes` bytes at `offset` of `file` hold its values in row-major order, little-endian.

    A tensor that a torch file stores transposed is listed with its dimensions in the order of storage.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: str
    offset: int
    nbytes: int

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)


def check_names(file: str, names: Iterable[str]) -> None:
    """Raise InvalidCheckpoint where a name is no text: JSON and pickles can hold half of a character."""
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        raise InvalidCheckpoint(f"{file}: a name is not Unicode text: {error.reason}") from None


def check_layout(file: str, tensors: Iterable[TensorInfo], begin: int, end: int) -> None:
    """Raise InvalidCheckpoint unless every tensor lies between the bytes `begin` and `end` and no two share a byte."""
    position, previous = begin, "the header"
    for t in sorted(tensors, key=lambda t: (t.offset, t.nbytes)):
        if t.offset < position:
            raise InvalidCheckpoint(
                f"{file}: tensor {t.name} starts at byte {t.offset}, inside {previous}, which ends at {position}"
            )
        if t.offset + t.nbytes > end:
            raise InvalidCheckpoint(
                f"{file}: tensor {t.name} ends at byte {t.offset + t.nbytes}, but the file has {end} bytes"
            )
        if t.nbytes:
            position, previous = t.offset + t.nbytes, f"tensor {t.name}"


def stored_bytes(file: str, name: str, shape: tuple[int, ...], dtype: str) -> int:
    """Bytes that a tensor of this shape and type (one of BITS) takes."""
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidCheckpoint(f"{file}: tensor {name} has {len(shape)} dimensions; expected at most {MAX_DIMENSIONS}")
    if dtype not in BITS:
        raise InvalidCheckpoint(
            f"{file}: tensor {name} has the unknown type {dtype!r}; expected one of {', '.join(BITS)}"
        )
    bits = math.prod(shape) * BITS[dtype]
    if bits % 8:
        raise InvalidCheckpoint(f"{file}: tensor {name} of type {dtype} and shape {shape} does not fill whole bytes")
    return bits // 8
