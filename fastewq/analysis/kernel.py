"""Exact softmax entropy of a weight matrix, read as fast as the bytes arrive.

With m = max w, e_i = exp(w_i - m) and Z = sum e_i, the softmax of a matrix is p_i = e_i / Z and

    H = - sum_i p_i log(p_i + eps)      (nats; arXiv 2503.04704v2)

One maximum is kept apart from the other values, so that nothing cancels when one outlier takes nearly all of the mass:

    Z = 1 + S,  S = sum of e_i over the others
    eps = 0:    H = log1p(S) + A / Z,   A = sum e_i (m - w_i)                             every term is positive
    eps > 0:    H = -log(1/Z + eps) / Z - (S / Z) log(eps) - sum over the others of p_i log1p(p_i / eps)

The values of bfloat16, float16 and float8 are counted first (at most 65,536 distinct ones) and the sums run over the
counts. float32 and float64 are read twice: the maximum, S and A; then the eps terms, which need Z.

Error bound, with u = 2**-53 and T = the sum of the magnitudes of the terms above (T = H unless eps is so large that
log(p + eps) changes sign): |error of H| <= 100 u T, about 1e-14 T. exp and log1p are within 2 u each; values are summed
in runs of RUN over independent lanes, runs are compensated (Neumaier), and tiles of TILE values are added exactly
(math.fsum). Terms below exp(-708) of the largest are dropped. Tiles start at multiples of TILE whatever the chunks are, so the result does not
depend on chunk size, thread count or the order of shards: not even in the last bit.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

from fastewq.errors import InputError, NonFiniteWeights

TILE = 1 << 16
"""Values per tile: the unit of work whose sums are rounded on their own. Chunks are whole tiles, except the last."""

RUN = 512
"""Values added without compensation."""

GROUP = 64
"""Weights that share one scale in the rounding error."""

ROUNDING_BITS = (8, 4, 3)
SAMPLE = 1 << 17
"""Weights per matrix, at most, on which the rounding error is measured: rows evenly spaced from first to last (of a row
longer than this, its first SAMPLE weights)."""

ValueType = Literal["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"]
STORAGE: Mapping[str, npt.DTypeLike] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.uint16,
    "BF16": np.uint16,
    "F8_E4M3": np.uint8,
    "F8_E5M2": np.uint8,
}
"""The array type in which a chunk arrives: floats, or the bit patterns of the types that are counted."""

Array = npt.NDArray[Any]
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
        """Values per chunk: a multiple of TILE."""
        ...

    def chunk(self, start: int, stop: int) -> AbstractContextManager[Array]:
        """Values start to stop as a flat contiguous array of STORAGE[value_type], valid inside the context."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """What one matrix holds.

    entropies       eps -> H in nats
    variance        population variance; `kurtosis` is the fourth central moment over its square (3 for a normal
                    distribution), None for a constant matrix
    zeros           share of values equal to 0 or -0
    rounding_error  bits -> ||W - rtn(W)|| / ||W|| (Frobenius), see `rounding_errors`; empty for vectors
    rounding_rows   how many rows that was measured on
    """

    count: int
    entropies: Mapping[float, float]
    minimum: float
    maximum: float
    mean: float
    variance: float
    kurtosis: float | None
    zeros: float
    rounding_error: Mapping[int, float]
    rounding_rows: int


def measure(
    weights: Weights,
    epsilons: Sequence[float] = (0.01,),
    *,
    threads: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Reading:
    """The exact entropy of `weights` for each eps, with the other readings of the same pass.

    epsilons  0, or between 1e-100 and 1e100
    threads   all processors unless given; the result is the same to the last bit
    progress  called, from any thread, with the share of the work (0 to 1) finished since its last call

    Raises NonFiniteWeights when a value is NaN or infinite, InputError for an impossible eps.
    """
    for eps in epsilons:
        if not (eps == 0 or 1e-100 <= eps <= 1e100):
            raise InputError(f"epsilon is {eps!r}; expected 0 or a number between 1e-100 and 1e100")
    lanes = _Lanes(weights, threads or os.cpu_count() or 1, progress or (lambda _: None))
    if weights.value_type in ("F32", "F64"):
        return _measure_floats(lanes, epsilons)
    return _measure_counted(lanes, epsilons)


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a tensor seen as a matrix: the first dimension against all others."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


# --- reading in lanes -------------------------------------------------------------------------------------------------


class _Lanes:
    """Hands the chunks of one matrix to a few threads, and collects a sample of rows on the first reading."""

    def __init__(self, weights: Weights, threads: int, progress: Callable[[float], None]) -> None:
        self.weights = weights
        self.count = math.prod(weights.shape)
        if self.count == 0:
            raise InputError(
                f"{weights.file}: {weights.name} has shape {weights.shape}; an empty tensor has no entropy"
            )
        self.threads = max(1, min(threads, -(-self.count // weights.chunk_size)))
        self._progress = progress
        rows, self.columns = matrix_shape(weights.shape)
        sampled = 0 if len(weights.shape) < 2 else max(1, min(rows, SAMPLE // self.columns))
        self.rows = np.unique(np.linspace(0, rows - 1, sampled).astype(np.int64))
        self.sample = np.zeros((len(self.rows), min(self.columns, SAMPLE)), STORAGE[weights.value_type])

    def run(self, lane: Callable[[Iterator[tuple[int, Array]]], T], share: float, sample: bool = False) -> list[T]:
        """`lane` consumes (first value's index, chunk) pairs; each thread's lane takes the next chunk when free."""
        starts = iter(range(0, self.count, self.weights.chunk_size))

        def chunks() -> Iterator[tuple[int, Array]]:
            for start in starts:
                stop = min(start + self.weights.chunk_size, self.count)
                with self.weights.chunk(start, stop) as values:
                    if sample:
                        self._keep_rows(start, values)
                    yield start, values
                self._progress(share * (stop - start) / self.count)

        if self.threads == 1:
            return [lane(chunks())]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(lambda _: lane(chunks()), range(self.threads)))

    def _keep_rows(self, start: int, values: Array) -> None:
        stop = start + len(values)
        first = np.searchsorted(self.rows, start // self.columns)
        last = np.searchsorted(self.rows, (stop - 1) // self.columns, side="right")
        for i in range(int(first), int(last)):
            row = int(self.rows[i]) * self.columns
            begin, end = max(row, start), min(row + self.sample.shape[1], stop)
            if begin < end:
                self.sample[i, begin - row : end - row] = values[begin - start : end - start]

    def non_finite(self, how_many: int) -> NonFiniteWeights:
        w = self.weights
        return NonFiniteWeights(
            f"{w.file}: tensor {w.name} holds {how_many} NaN or infinite values of {self.count}; expected finite weights"
        )


# --- counted types ----------------------------------------------------------------------------------------------------


def bit_values(value_type: ValueType) -> npt.NDArray[np.float64]:
    """The number each bit pattern of a counted type stands for: shape (65536,) or (256,)."""
    with np.errstate(invalid="ignore"):  # signalling NaNs among the patterns
        if value_type == "BF16":
            return (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)
        if value_type == "F16":
            return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    exponent_bits = 4 if value_type == "F8_E4M3" else 5
    mantissa_bits = 7 - exponent_bits
    bits = np.arange(256)
    exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1)
    fraction = (bits & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    bias = (1 << (exponent_bits - 1)) - 1
    magnitude = np.where(exponent == 0, np.ldexp(fraction, 1 - bias), np.ldexp(1 + fraction, exponent - bias))
    values = np.where(bits < 128, magnitude, -magnitude)
    if value_type == "F8_E4M3":  # no infinities: only the last pattern of each sign is NaN
        values[[0x7F, 0xFF]] = np.nan
    else:
        values[exponent == 31] = np.nan
    return values


def _measure_counted(lanes: _Lanes, epsilons: Sequence[float]) -> Reading:
    table = bit_values(lanes.weights.value_type)

    def count(chunks: Iterator[tuple[int, Array]]) -> npt.NDArray[np.uint64]:
        histogram = np.zeros(len(table), np.uint64)
        for _, values in chunks:
            _count(values, histogram)
        return histogram

    counts = np.sum(lanes.run(count, share=1.0, sample=True), axis=0)
    present = np.flatnonzero(counts)
    values, counts = table[present], counts[present].astype(np.float64)
    if not np.isfinite(values).all():
        raise lanes.non_finite(int(counts[~np.isfinite(values)].sum()))
    return _reading_of_counts(values, counts, epsilons, lanes)


def _count(values: Array, histogram: npt.NDArray[np.uint64]) -> None:
    per_word = 8 // values.itemsize
    if values.ctypes.data % 8:
        values = values.copy()
    whole = len(values) // per_word * per_word
    words = values[:whole].view(np.uint64)
    (_count_words16 if per_word == 4 else _count_words8)(words, histogram)
    np.add.at(histogram, values[whole:], np.uint64(1))


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _count_words16(words: Array, histogram: Array) -> None:
    """Four bit patterns per 64-bit word: one load, then shifts, keeps the load ports free for the counters."""
    low, one = np.uint64(0xFFFF), np.uint64(1)
    for i in range(words.size):
        word = words[i]
        histogram[word & low] += one
        histogram[(word >> np.uint64(16)) & low] += one
        histogram[(word >> np.uint64(32)) & low] += one
        histogram[word >> np.uint64(48)] += one


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _count_words8(words: Array, histogram: Array) -> None:
    """Eight bit patterns per word, in four tables: so few counters would otherwise wait for their own last store."""
    low, one = np.uint64(0xFF), np.uint64(1)
    tables = np.zeros((4, 256), np.uint64)
    for i in range(words.size):
        word = words[i]
        for k in range(8):
            tables[k & 3, (word >> np.uint64(8 * k)) & low] += one
    for k in range(4):
        for i in range(256):
            histogram[i] += tables[k, i]


def _reading_of_counts(values: Array, counts: Array, epsilons: Sequence[float], lanes: _Lanes) -> Reading:
    total = lanes.count
    top = int(values.argmax())
    below = values[top] - values
    others = counts.copy()
    others[top] -= 1  # one maximum stays apart
    e = np.exp(-below) * others
    partition = _Partition(float(values[top]), math.fsum(e), math.fsum(e * below))
    p = np.exp(-below) / partition.z
    excess = {eps: math.fsum(others * p * np.log1p(p / eps)) for eps in epsilons if eps > 0}
    mean = math.fsum(values * counts) / total
    deviation = values - mean
    variance = math.fsum(counts * deviation**2) / total
    fourth = math.fsum(counts * deviation**4) / total
    return _reading(
        lanes,
        partition,
        excess,
        epsilons,
        minimum=float(values.min()),
        mean=mean,
        variance=variance,
        fourth=fourth,
        zeros=int(counts[values == 0].sum()),
    )


# --- float32 and float64 ----------------------------------------------------------------------------------------------

_MAX, _MIN, _SUM, _ZEROS, _REST, _ENERGY, _TIES = range(7)


def _measure_floats(lanes: _Lanes, epsilons: Sequence[float]) -> Reading:
    tiles = -(-lanes.count // TILE)
    first = np.empty((tiles, 7))

    def scan(chunks: Iterator[tuple[int, Array]]) -> int:
        bad = 0
        for start, values in chunks:
            non_finite = int(_count_non_finite(values))
            bad += non_finite
            if not non_finite:
                _scan_tiles(_aligned(values), first[start // TILE :])
        return bad

    bad = sum(lanes.run(scan, share=0.5, sample=True))
    if bad:
        raise lanes.non_finite(bad)
    partition = _merge(first)
    mean = math.fsum(first[:, _SUM]) / lanes.count
    ties = float(first[first[:, _MAX] == partition.maximum, _TIES].sum())

    positive = np.array([eps for eps in epsilons if eps > 0])
    second = np.empty((tiles, 2 + len(positive)))

    def finish(chunks: Iterator[tuple[int, Array]]) -> None:
        for start, values in chunks:
            _finish_tiles(_aligned(values), partition.maximum, partition.z, mean, positive, second[start // TILE :])

    lanes.run(finish, share=0.5)
    p = 1 / partition.z
    excess = {
        float(eps): math.fsum([*second[:, 2 + k], (ties - 1) * p * math.log1p(p / eps)])
        for k, eps in enumerate(positive)
    }
    return _reading(
        lanes,
        partition,
        excess,
        epsilons,
        minimum=float(first[:, _MIN].min()),
        mean=mean,
        variance=math.fsum(second[:, 0]) / lanes.count,
        fourth=math.fsum(second[:, 1]) / lanes.count,
        zeros=int(first[:, _ZEROS].sum()),
    )


def _aligned(values: Array) -> Array:
    return values if values.ctypes.data % values.itemsize == 0 else values.copy()


def _count_non_finite(values: Array) -> int:
    bits = values.view(np.uint32 if values.itemsize == 4 else np.uint64)
    exponent = 0x7F800000 if values.itemsize == 4 else 0x7FF0000000000000
    return int(_count_exponent(_aligned(bits), bits.dtype.type(exponent)))


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _count_exponent(bits: Array, exponent: Any) -> int:
    found = 0
    for i in range(bits.size):
        found += (bits[i] & exponent) == exponent
    return found


@njit(fastmath={"contract"})  # type: ignore[untyped-decorator]
def _exp(x: float) -> float:
    """exp(x) for -708 <= x <= 0 within 2 u: x = n log 2 + r, a Taylor polynomial of degree 13 in r, the exponent bits."""
    shifted = x * 1.4426950408889634 + 6755399441055744.0  # 1.5 * 2**52: rounds to an integer in the low bits
    n = shifted - 6755399441055744.0
    r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10
    p = 1.6059043836821613e-10
    p = p * r + 2.08767569878681e-09
    p = p * r + 2.505210838544172e-08
    p = p * r + 2.755731922398589e-07
    p = p * r + 2.7557319223985893e-06
    p = p * r + 2.48015873015873e-05
    p = p * r + 0.0001984126984126984
    p = p * r + 0.001388888888888889
    p = p * r + 0.008333333333333333
    p = p * r + 0.041666666666666664
    p = p * r + 0.16666666666666666
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    scale = (np.float64(shifted).view(np.int64) << np.int64(52)) + np.int64(0x3FF0000000000000)
    return p * np.int64(scale).view(np.float64)  # type: ignore[no-any-return]


@njit  # type: ignore[untyped-decorator]
def _log1p(x: float) -> float:
    """log(1 + x) for x >= 0 within 2 u: the method and coefficients of fdlibm's log1p, without branches."""
    u = 1.0 + x
    back = u - 1.0
    lost = (1.0 - (u - back)) + (x - back)
    bits = np.float64(u).view(np.int64) + np.int64(0x0009_5F62_0000_0000)
    k = np.float64((bits >> np.int64(52)) - np.int64(1023))
    mantissa = (bits & np.int64(0x000F_FFFF_FFFF_FFFF)) + np.int64(0x3FE6_A09E_0000_0000)
    f = np.int64(mantissa).view(np.float64) - 1.0
    lost = lost / u
    s = f / (2.0 + f)
    z = s * s
    poly = 1.479819860511658591e-01
    poly = poly * z + 1.531383769920937332e-01
    poly = poly * z + 1.818357216161805012e-01
    poly = poly * z + 2.222219843214978396e-01
    poly = poly * z + 2.857142874366239149e-01
    poly = poly * z + 3.999999999940941908e-01
    poly = poly * z + 6.666666666666735130e-01
    half = 0.5 * f * f
    tail = s * (half + poly * z) + (k * 1.90821492927058770002e-10 + lost)
    return k * 6.93147180369123816490e-01 - ((half - tail) - f)  # type: ignore[no-any-return]


@njit(fastmath={"nnan", "nsz"})  # type: ignore[untyped-decorator]
def _extremes(values: Array) -> tuple[float, float]:
    low = high = values[0]
    for i in range(values.size):
        low = min(low, values[i])
        high = max(high, values[i])
    return low, high


@njit(fastmath={"reassoc", "nsz"})  # type: ignore[untyped-decorator]
def _scan_run(values: Array, top: float) -> tuple[float, float, float]:
    """Over one run: sum w, sum of e over the values below the maximum, sum of e (m - w)."""
    total = rest = energy = 0.0
    for i in range(values.size):
        w = np.float64(values[i])
        below = top - w
        e = _exp(-below) if 0.0 < below < 708.0 else 0.0
        total += w
        rest += e
        energy += e * min(below, 708.0)
    return total, rest, energy


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _scan_tiles(values: Array, out: Array) -> None:
    """The first reading: one row of `out` per tile, sums relative to the tile's own maximum."""
    sums, lost = np.empty(3), np.empty(3)
    for tile in range((values.size + TILE - 1) // TILE):
        part = values[tile * TILE : (tile + 1) * TILE]
        low, high = _extremes(part)
        top = np.float64(high)
        sums[:] = 0.0
        lost[:] = 0.0
        for begin in range(0, part.size, RUN):
            run = part[begin : begin + RUN]
            total, rest, energy = _scan_run(run, top)
            _add(sums, lost, 0, total)
            _add(sums, lost, 1, rest)
            _add(sums, lost, 2, energy)
        zeros = ties = 0
        for i in range(part.size):
            zeros += part[i] == 0.0
            ties += part[i] == high
        out[tile, _MAX] = top
        out[tile, _MIN] = low
        out[tile, _SUM] = sums[0] + lost[0]
        out[tile, _ZEROS] = zeros
        out[tile, _REST] = (sums[1] + lost[1]) + (ties - 1)
        out[tile, _ENERGY] = sums[2] + lost[2]
        out[tile, _TIES] = ties


@njit  # type: ignore[untyped-decorator]
def _add(sums: Array, lost: Array, k: int, x: float) -> None:
    """Neumaier's compensated addition of x to sums[k]; what rounding loses gathers in lost[k]."""
    s = sums[k]
    t = s + x
    lost[k] += (s - t) + x if abs(s) >= abs(x) else (x - t) + s
    sums[k] = t


@njit  # type: ignore[untyped-decorator]
def _softmax_run(values: Array, top: float, scale: float, out: Array) -> None:
    """p of each value, 0 for the maxima."""
    for i in range(values.size):
        below = top - np.float64(values[i])
        out[i] = _exp(-below) * scale if 0.0 < below < 708.0 else 0.0


@njit(fastmath={"reassoc", "nsz"})  # type: ignore[untyped-decorator]
def _excess_run(p: Array, scale: float) -> float:
    """Sum of p log1p(p * scale)."""
    total = 0.0
    for i in range(p.size):
        total += p[i] * _log1p(p[i] * scale)
    return total


@njit(fastmath={"reassoc", "nsz"})  # type: ignore[untyped-decorator]
def _moments_run(values: Array, mean: float) -> tuple[float, float]:
    second = fourth = 0.0
    for i in range(values.size):
        square = (np.float64(values[i]) - mean) ** 2
        second += square
        fourth += square * square
    return second, fourth


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _finish_tiles(values: Array, top: float, z: float, mean: float, epsilons: Array, out: Array) -> None:
    """The second reading: central moments, and sum p log1p(p / eps) over the values below the maximum."""
    width = 2 + epsilons.size
    sums, lost, softmax = np.empty(width), np.empty(width), np.empty(RUN)
    for tile in range((values.size + TILE - 1) // TILE):
        part = values[tile * TILE : (tile + 1) * TILE]
        sums[:] = 0.0
        lost[:] = 0.0
        for begin in range(0, part.size, RUN):
            run = part[begin : begin + RUN]
            second, fourth = _moments_run(run, mean)
            _add(sums, lost, 0, second)
            _add(sums, lost, 1, fourth)
            _softmax_run(run, top, 1.0 / z, softmax)
            for k in range(epsilons.size):
                _add(sums, lost, 2 + k, _excess_run(softmax[: run.size], 1.0 / epsilons[k]))
        for k in range(width):
            out[tile, k] = sums[k] + lost[k]


def _merge(tiles: Array) -> _Partition:
    """One partition from the tiles': each tile's sums are moved from its own maximum to the common one."""
    maximum = float(tiles[:, _MAX].max())
    below = np.minimum(maximum - tiles[:, _MAX], 800.0)
    scale = np.exp(-below)
    home = int(below.argmin())  # the tile whose maximum is the one kept apart
    all_of = 1.0 + tiles[:, _REST]
    all_of[home] = tiles[home, _REST]
    energy = scale * (tiles[:, _ENERGY] + below * (1.0 + tiles[:, _REST]))
    return _Partition(maximum, math.fsum(scale * all_of), math.fsum(energy))


# --- from sums to entropy ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Partition:
    """`rest` is S, the sum of exp(w - maximum) over all values but one maximum; `energy` is sum e (maximum - w)."""

    maximum: float
    rest: float
    energy: float

    @property
    def z(self) -> float:
        return 1.0 + self.rest

    def entropy(self, eps: float, excess: float) -> float:
        """H for one eps; `excess` is the sum of p log1p(p / eps) over all values but one maximum."""
        if eps == 0:
            return math.log1p(self.rest) + self.energy / self.z
        share = self.rest / self.z
        p_top = 1.0 / self.z
        log_top = math.log1p(eps - share) if share < 0.5 else math.log(eps) + math.log1p(p_top / eps)
        return math.fsum([-p_top * log_top, -share * math.log(eps), -excess])


def _reading(
    lanes: _Lanes,
    partition: _Partition,
    excess: Mapping[float, float],
    epsilons: Sequence[float],
    *,
    minimum: float,
    mean: float,
    variance: float,
    fourth: float,
    zeros: int,
) -> Reading:
    sample = lanes.sample
    if sample.dtype.kind == "u":
        sample = bit_values(lanes.weights.value_type)[sample]
    return Reading(
        count=lanes.count,
        entropies={float(eps): partition.entropy(eps, excess.get(float(eps), 0.0)) for eps in epsilons},
        minimum=minimum,
        maximum=partition.maximum,
        mean=mean,
        variance=variance,
        kurtosis=fourth / variance**2 if variance**2 > 0 else None,
        zeros=zeros / lanes.count,
        rounding_error=rounding_errors(sample) if len(sample) else {},
        rounding_rows=len(sample),
    )


# --- rounding error ---------------------------------------------------------------------------------------------------


def rounding_errors(rows: Array) -> dict[int, float]:
    """Relative Frobenius error of symmetric round-to-nearest, for each of ROUNDING_BITS; `rows` has shape (rows, columns).

    The scheme is the symmetric one of GPTQ and compressed-tensors: every GROUP consecutive weights of a row (the last
    group may be shorter) share the scale 2 max|w| / (2**bits - 1), and the integers run from -2**(bits-1) to
    2**(bits-1) - 1. Scales are not rounded. 0 for a matrix of zeros.
    """
    matrix = np.ascontiguousarray(rows, np.float64)
    errors = {}
    for bits in ROUNDING_BITS:
        lost, norm = _rounding(matrix, 2.0**bits - 1, 2.0 ** (bits - 1))
        errors[bits] = math.sqrt(lost / norm) if norm else 0.0
    return errors


@njit(nogil=True, cache=True, fastmath={"reassoc", "nsz"})  # type: ignore[untyped-decorator]
def _rounding(rows: Array, levels: float, half: float) -> tuple[float, float]:
    lost = norm = 0.0
    for r in range(rows.shape[0]):
        for begin in range(0, rows.shape[1], GROUP):
            group = rows[r, begin : begin + GROUP]
            peak = 0.0
            for i in range(group.size):
                peak = max(peak, abs(group[i]))
            scale = 2.0 * peak / levels
            if scale == 0.0:
                continue
            for i in range(group.size):
                code = min(max(np.rint(group[i] / scale), -half), half - 1.0)
                lost += (group[i] - code * scale) ** 2
                norm += group[i] ** 2
    return lost, norm
