"""How many bytes a tensor takes at each precision.

The schemes here are the plain ones that most tools share: symmetric integers with one float16 scale per group of
weights along a row. int8: one group per row (per output channel). int4: groups of 64. ternary: two bits per weight in
groups of 256. Rows are padded to whole bytes; the last group of a row may be short.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

from fastewq.architecture import Layout, Tensor
from fastewq.errors import InvalidConfig

SCALE_BYTES: Final = 2
QUANTIZED_ROLES: Final = frozenset({"linear", "experts"})

RAW_PRECISIONS: Final[dict[str, tuple[str, int]]] = {
    "bfloat16": ("bf16", 2),
    "float16": ("fp16", 2),
    "float32": ("fp32", 4),
}
"""Config dtype -> (precision in a plan, bytes per weight)."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """An integer format. `group` is the number of weights per scale along a row; 0 means the whole row."""

    bits: int
    group: int

    def tensor_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a matrix (..., rows, columns) with its scales."""
        rows, columns = prod(shape[:-1]), shape[-1]
        groups = -(-columns // self.group) if self.group else 1
        return rows * (-(-columns * self.bits // 8) + groups * SCALE_BYTES)


SCHEMES: Final[dict[str, Scheme]] = {
    "int8": Scheme(8, 0),
    "int4": Scheme(4, 64),
    "ternary": Scheme(2, 256),
}


def raw_precision(dtype: str) -> tuple[str, int]:
    """The plan's name and the bytes per weight of a config's dtype. Raises InvalidConfig for any other dtype."""
    try:
        return RAW_PRECISIONS[dtype]
    except KeyError:
        raise InvalidConfig(f"dtype is {dtype[:40]!r}; expected one of {', '.join(RAW_PRECISIONS)}") from None


def tensor_bytes(tensor: Tensor, precision: str, raw_bytes: int) -> int:
    """Bytes of one tensor when its block is at `precision`: norms, biases and routers stay raw."""
    if precision in SCHEMES and tensor.role in QUANTIZED_ROLES:
        return SCHEMES[precision].tensor_bytes(tensor.shape)
    return tensor.parameters * raw_bytes


def layout_bytes(layout: Layout, precision: str, raw_bytes: int) -> int:
    """Bytes of a whole block at `precision`."""
    return sum(tensor_bytes(tensor, precision, raw_bytes) for tensor in layout.tensors)
