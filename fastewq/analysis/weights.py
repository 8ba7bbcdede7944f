"""What the kernel reads: the values of one matrix, their types, and how threads share the reading."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from fastewq.errors import InputError

SAMPLE = 1 << 17
"""Weights per matrix, at most, on which the rounding error is measured: whole rows, evenly spaced from the first to the
last. Of a row longer than this, its first SAMPLE weights."""

ValueType = Literal["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"]
STORAGE: Mapping[str, npt.DTypeLike] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.uint16,
    "BF16": np.uint16,
    "F8_E4M3": np.uint8,
    "F8_E5M2": np.uint8,
    "F8_E4M3FNUZ": np.uint8,
    "F8_E5M2FNUZ": np.uint8,
}
"""The array type in which values arrive: numbers, or bit patterns for the types that are counted."""

Array = npt.NDArray[Any]
Chunks = Iterator[tuple[int, Array]]
T = TypeVar("T")


class Weights(Protocol):
    """The values of one matrix in row-major order. Chunks may be read again, in any order, from several threads."""

    @property
    def name(self) -> str: ...

    @property
    def file(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def value_type(self) -> ValueType: ...

    @property
    def chunk_size(self) -> int:
        """Values per chunk: a multiple of `numerics.TILE`."""
        ...

    def chunk(self, start: int, stop: int) -> AbstractContextManager[Array]:
        """Values start to stop as a flat array of type STORAGE[value_type], valid inside the context."""
        ...


@cache
def bit_values(value_type: ValueType) -> npt.NDArray[np.float64]:
    """The number that each bit pattern of a counted type stands for: shape (65536,) or (256,), read-only."""
    with np.errstate(invalid="ignore"):  # there are signalling NaNs among the patterns
        if value_type == "BF16":
            values = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)
        elif value_type == "F16":
            values = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
        else:
            values = _float8_values(int(value_type[4]), value_type.endswith("FNUZ"))
    values.setflags(write=False)
    return values


def _float8_values(exponent_bits: int, fnuz: bool) -> npt.NDArray[np.float64]:
    mantissa_bits = 7 - exponent_bits
    bits = np.arange(256)
    exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1)
    fraction = (bits & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    bias = (1 << (exponent_bits - 1)) - (0 if fnuz else 1)
    magnitude = np.where(exponent == 0, np.ldexp(fraction, 1 - bias), np.ldexp(1 + fraction, exponent - bias))
    # E4M3 has no infinities and one NaN per sign; E5M2 keeps the last exponent for both, as IEEE 754 does. FNUZ
    # (finite, NaN, unsigned zero) has one NaN in all, where the others have -0.
    if fnuz:
        magnitude[0x80] = np.nan
    else:
        magnitude[(bits & 0x7F) == 0x7F if exponent_bits == 4 else exponent == 31] = np.nan
    return np.where(bits < 128, magnitude, -magnitude)


class Lanes:
    """Hands the chunks of one matrix to a few threads, and keeps a sample of rows from one reading."""

    def __init__(self, weights: Weights, threads: int, progress: Callable[[float], None]) -> None:
        self.weights = weights
        self.count = math.prod(weights.shape)
        if self.count == 0:
            raise InputError(f"{weights.file}: tensor {weights.name} is empty (shape {weights.shape})")
        self.threads = max(1, min(threads, -(-self.count // weights.chunk_size)))
        self.progress = progress
        is_matrix = len(weights.shape) > 1
        self.columns = math.prod(weights.shape[1:]) if is_matrix else self.count
        sampled = max(1, min(weights.shape[0], SAMPLE // self.columns)) if is_matrix else 0
        self.rows = np.unique(np.linspace(0, self.count // self.columns - 1, sampled).astype(np.int64))
        self.sample = np.zeros((len(self.rows), min(self.columns, SAMPLE)), STORAGE[weights.value_type])

    def run(self, lane: Callable[[Chunks], T], *, share: float, keep_sample: bool = False) -> list[T]:
        """The results of `lane` in each thread. A lane consumes pairs (index of the first value, values); each thread
        takes the next chunk when it is free. `share` is this reading's part of the whole work."""
        starts = iter(range(0, self.count, self.weights.chunk_size))

        def chunks() -> Chunks:
            try:
                for start in starts:
                    stop = min(start + self.weights.chunk_size, self.count)
                    with self.weights.chunk(start, stop) as values:
                        if keep_sample:
                            self._keep_rows(start, values)
                        yield start, values
                    self.progress(share * (stop - start) / self.count)
            except BaseException:
                deque(starts, maxlen=0)  # nothing is left for the other lanes: they end too
                raise

        if self.threads == 1:
            return [lane(chunks())]
        with ThreadPoolExecutor(self.threads) as pool:
            try:
                return list(pool.map(lambda _: lane(chunks()), range(self.threads)))
            finally:
                deque(starts, maxlen=0)

    def _keep_rows(self, start: int, values: Array) -> None:
        """Copy what these values have of the sampled rows: the first and the last may be cut, the others are whole."""
        stop, columns, width = start + len(values), self.columns, self.sample.shape[1]
        first, last = bisect_left(self.rows, start // columns), bisect_right(self.rows, (stop - 1) // columns)
        for i in {first, last - 1} if first < last else ():
            row = int(self.rows[i]) * columns
            begin, end = max(row, start), min(row + width, stop)
            if begin < end:
                self.sample[i, begin - row : end - row] = values[begin - start : end - start]
        if last - first > 2:
            inner, whole = slice(first + 1, last - 1), -(-start // columns)
            rows = values[whole * columns - start : stop // columns * columns - start].reshape(-1, columns)
            self.sample[inner] = rows[self.rows[inner] - whole, :width]
