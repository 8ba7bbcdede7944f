"""Exact softmax entropy of a weight matrix, read as fast as the bytes arrive.

With m = max w, e_i = exp(w_i - m) and Z = sum e_i, the softmax of a matrix is p_i = e_i / Z and

    H = - sum_i p_i log(p_i + eps)      (nats; arXiv 2503.04704v2)

One maximum is kept apart from the other values, so that nothing cancels when one outlier takes nearly all of the mass:

    Z = 1 + S,  S = sum of e_i over the others
    eps = 0:    H = log1p(S) + A / Z,   A = sum e_i (m - w_i)                             every term is positive
    eps > 0:    H = -log(1/Z + eps) / Z - (S / Z) log(eps) - sum over the others of p_i log1p(p_i / eps)

The values of bfloat16, float16 and float8 are counted first (at most 65,536 distinct ones) and the sums run over the
counts. Of float32 and float64 values a first reading takes the maximum, S, A and the sums of e**k for a few k. When all
p_i are small beside eps, or all large, the last term is a short series in these sums: log1p's, or with the 1/e_i

    log1p(p/eps) = log(p/eps) + eps/p - (eps/p)**2 / 2 + ...

A series is used where its remainder is proved to be below u/2 of H (u = 2**-53), as for nearly every large matrix;
otherwise a second reading computes the term weight by weight.

Error bound: with T the sum of the magnitudes of the terms, |error of H| <= 100 u T, about 1e-14 T. exp
and log1p are within 2 u; runs of 512 values are added in parallel lanes, runs with compensation (Neumaier), tiles of
65,536 values exactly (math.fsum), and counted values, at most 65,536 terms, pairwise (numpy.sum). T is at most a few
times H, unless eps is so large or one weight so heavy that log(p + eps) changes sign within the matrix. Terms below
exp(-708) of the largest are dropped.

Tiles start at multiples of their size whatever the chunks are, and counts are integers: the result does not depend on
chunk size, thread count or order of reading, not even in the last bit. The lanes are the processor's, so that another
kind of processor may give float32 and float64 matrices other last bits.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from fastewq.analysis import numerics
from fastewq.analysis.numerics import TILE
from fastewq.analysis.weights import Array, Chunks, Lanes, ValueType, Weights, bit_values
from fastewq.errors import InputError, InvalidCheckpoint, NonFiniteWeights

ROUNDING_BITS = (8, 4, 3)
ROUNDING_GROUP = 64
LARGEST_WEIGHT = 1e70
"""Magnitude beyond which fourth powers and their sums would leave the range of float64. No float32 comes near it."""

COUNTER_LIMIT = (1 << 32) - 1
"""Values that one histogram of 32-bit counters, which are the faster ones, may hold."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one matrix holds.

    entropies       eps -> H in nats
    variance        population variance
    kurtosis        fourth central moment over the squared variance (3 for a normal distribution); None if constant
    zeros           share of values equal to 0 or -0
    rounding_error  bits -> ||W - rtn(W)|| / ||W|| (Frobenius), as in `rounding_errors`; empty for vectors
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

    epsilons  each 0, or between 1e-100 and 1e100
    threads   all processors unless given; the result is the same to the last bit
    progress  called, from any thread, with the share of the work (0 to 1) finished since its last call

    Raises NonFiniteWeights when a value is NaN or infinite, InputError for an impossible eps or an empty matrix.
    """
    for eps in epsilons:
        if not (eps == 0 or 1e-100 <= eps <= 1e100):
            raise InputError(f"epsilon is {eps!r}; expected 0 or a number between 1e-100 and 1e100")
    lanes = Lanes(weights, threads or os.cpu_count() or 1, progress or (lambda _: None))
    sums = (_sum_floats if weights.value_type in ("F32", "F64") else _sum_counts)(lanes, epsilons)
    sample = lanes.sample if lanes.sample.dtype.kind == "f" else bit_values(weights.value_type)[lanes.sample]
    return Reading(
        count=lanes.count,
        entropies={float(eps): sums.partition.entropy(eps, sums.excess.get(float(eps), 0.0)) for eps in epsilons},
        minimum=sums.minimum,
        maximum=sums.partition.maximum,
        mean=sums.mean,
        variance=sums.second / lanes.count,
        kurtosis=_kurtosis(sums.second / lanes.count, sums.fourth / lanes.count),
        zeros=sums.zeros / lanes.count,
        rounding_error=rounding_errors(sample) if len(sample) else {},
        rounding_rows=len(sample),
    )


def rounding_errors(rows: Array) -> dict[int, float]:
    """Relative Frobenius error of round-to-nearest for each of ROUNDING_BITS; `rows` has shape (rows, columns).

    The scheme is the symmetric one of GPTQ and compressed-tensors: ROUNDING_GROUP consecutive weights of a row (fewer
    at its end) share the scale max|w| / (2**(bits-1) - 1/2), and integers run from -2**(bits-1) to 2**(bits-1) - 1.
    Scales are not rounded themselves. 0 for a matrix of zeros.
    """
    matrix = np.ascontiguousarray(rows, np.float64)
    lost, norm = numerics.rounding(matrix, ROUNDING_GROUP, np.array(ROUNDING_BITS))
    return {bits: math.sqrt(loss / norm) if norm else 0.0 for bits, loss in zip(ROUNDING_BITS, lost, strict=True)}


# --- from sums to entropy ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Partition:
    """`rest` is S, the sum of exp(w - maximum) over all values but one maximum; `energy` is A."""

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
        p, others = 1.0 / self.z, self.rest / self.z
        log = math.log1p(eps - others) if others < 0.5 else math.log(eps) + math.log1p(p / eps)
        return math.fsum([-p * log, -others * math.log(eps), -excess])


@dataclass(frozen=True, slots=True)
class _Sums:
    """Everything that is summed over one matrix; `second` and `fourth` are sums of powers of w - mean."""

    partition: _Partition
    excess: Mapping[float, float]
    minimum: float
    mean: float
    second: float
    fourth: float
    zeros: float


def _non_finite(lanes: Lanes, found: int) -> NonFiniteWeights:
    w = lanes.weights
    return NonFiniteWeights(f"{w.file}: tensor {w.name} holds {found} NaN or infinite of {lanes.count} values")


def _too_large(lanes: Lanes, found: float) -> InvalidCheckpoint:
    w = lanes.weights
    return InvalidCheckpoint(f"{w.file}: tensor {w.name} holds {found:g}; expected weights up to {LARGEST_WEIGHT:g}")


def _kurtosis(variance: float, fourth: float) -> float | None:
    kurtosis = fourth / variance**2 if variance**2 > 0 else math.nan
    return kurtosis if math.isfinite(kurtosis) else None


# --- counted types ----------------------------------------------------------------------------------------------------


def _sum_counts(lanes: Lanes, epsilons: Sequence[float]) -> _Sums:
    value_type = lanes.weights.value_type
    table = bit_values(value_type)
    found = lanes.run(lambda c: _count(c, value_type), share=1.0, keep_sample=True)
    counts = np.stack([*chain.from_iterable(found)]).sum(axis=0, dtype=np.uint64)
    present = np.flatnonzero(counts)
    values, counts = table[present], counts[present].astype(np.float64)
    if not np.isfinite(values).all():
        raise _non_finite(lanes, int(counts[~np.isfinite(values)].sum()))

    top = int(values.argmax())
    below = values[top] - values
    others = counts.copy()
    others[top] -= 1  # one maximum stays apart
    e = np.exp(-below)
    partition = _Partition(float(values[top]), float((others * e).sum()), float((others * e * below).sum()))
    p = e / partition.z
    mean = float((counts * values).sum()) / lanes.count
    squares = (values - mean) ** 2
    return _Sums(
        partition,
        excess={float(eps): float((others * p * np.log1p(p / eps)).sum()) for eps in epsilons if eps > 0},
        minimum=float(values.min()),
        mean=mean,
        second=float((counts * squares).sum()),
        fourth=float((counts * squares * squares).sum()),
        zeros=float(counts[values == 0].sum()),
    )


def _count(chunks: Chunks, value_type: ValueType) -> list[npt.NDArray[np.uint32]]:
    """How often each bit pattern occurs, in as many histograms as it takes for no counter to overflow."""
    patterns, batch = len(bit_values(value_type)), numerics.BATCH.get(value_type)
    histograms, pending = [np.zeros(patterns, np.uint32)], 0
    for _, values in chunks:
        if pending + len(values) > COUNTER_LIMIT:
            histograms.append(np.zeros(patterns, np.uint32))
            pending = 0
        pending += len(values)
        words = _aligned(values, 8)[: values.nbytes // 8 * 8 // values.itemsize].view(np.uint64)
        if batch is None:
            numerics.count_words8(words, histograms[-1])
        else:
            numerics.count_words16(words, histograms[-1], batch)
        np.add.at(histograms[-1], values[words.nbytes // values.itemsize :], np.uint32(1))
    return histograms


def _aligned(values: Array, alignment: int) -> Array:
    return values if values.ctypes.data % alignment == 0 else values.copy()


# --- float32 and float64 ----------------------------------------------------------------------------------------------


def _sum_floats(lanes: Lanes, epsilons: Sequence[float]) -> _Sums:
    tiles = np.empty((-(-lanes.count // TILE), numerics.POWER + numerics.POWERS))
    if bad := sum(lanes.run(lambda c: _scan(c, tiles), share=0.5, keep_sample=True)):
        raise _non_finite(lanes, bad)
    largest = max(-tiles[:, numerics.MINIMUM].min(), tiles[:, numerics.MAXIMUM].max())
    if largest > LARGEST_WEIGHT:
        raise _too_large(lanes, largest)
    scan = _merge(tiles, lanes.count)
    excess, unsettled = {}, []
    for eps in (float(eps) for eps in epsilons if eps > 0):
        excess[eps], remainder = min(scan.small_series(eps), scan.large_series(eps), key=lambda pair: pair[1])
        if not remainder <= 2.0**-54 * abs(scan.partition.entropy(eps, excess[eps])):
            unsettled.append(eps)
    if unsettled:
        excess |= _excess(lanes, scan, unsettled)
    else:
        lanes.progress(0.5)
    return _Sums(scan.partition, excess, scan.minimum, scan.mean, scan.second, scan.fourth, scan.zeros)


def _scan(chunks: Chunks, out: Array) -> int:
    """Fill the rows of `out` (`numerics.scan_tiles`) for these chunks' tiles; how many values are not finite."""
    bad = 0
    for start, values in chunks:
        values = _aligned(values, 8)
        low, high = _tile_extremes(values)
        if np.isfinite(low).all() and np.isfinite(high).all():
            rows = out[start // TILE :]
            numerics.scan_tiles(values, high, rows)
            rows[: len(low), numerics.MINIMUM] = low
        else:
            bad += int(np.count_nonzero(~np.isfinite(values)))
    return bad


def _tile_extremes(values: Array) -> tuple[Array, Array]:
    """Smallest and largest value of each tile, by comparing bits: one that is not finite is always seen."""
    bits = values.view(np.int32 if values.itemsize == 4 else np.int64)
    flip = bits.dtype.type(0x7FFFFFFF if values.itemsize == 4 else 0x7FFFFFFFFFFFFFFF)
    keys = np.array([numerics.extreme_keys(bits[i : i + TILE], flip) for i in range(0, len(bits), TILE)], bits.dtype)
    found = np.where(keys < 0, keys ^ flip, keys).view(values.dtype)
    return found[:, 0], found[:, 1].copy()


def _excess(lanes: Lanes, scan: _Scan, epsilons: Sequence[float]) -> dict[float, float]:
    """The second reading: the sum of p log1p(p / eps) over all values but one maximum, for each eps."""
    top, z = scan.partition.maximum, scan.partition.z
    tiles = np.empty((-(-lanes.count // TILE), len(epsilons)))

    def lane(chunks: Chunks) -> None:
        for start, values in chunks:
            numerics.excess_tiles(_aligned(values, 8), top, z, np.array(epsilons), tiles[start // TILE :])

    lanes.run(lane, share=0.5)
    tied = [(scan.ties - 1) / z * math.log1p(1 / z / eps) for eps in epsilons]
    return {eps: math.fsum([*tiles[:, k], tied[k]]) for k, eps in enumerate(epsilons)}


@dataclass(frozen=True, slots=True)
class _Scan:
    """The first reading of a whole matrix. Over all values but one maximum, `powers[k]` is the sum of e**(k+1) and
    `inverse` that of 1/e; `ties` is how many values equal the maximum."""

    partition: _Partition
    count: int
    ties: float
    zeros: float
    minimum: float
    mean: float
    second: float
    fourth: float
    inverse: float
    powers: tuple[float, ...]

    def small_series(self, eps: float) -> tuple[float, float]:
        """The sum of p log1p(p / eps) over all values but one maximum, each p small beside eps; a bound of its error.

        The terms alternate and fall, so the error is below the first one left out, and that is below the last one taken
        times the largest p / eps. The largest e in the sum is at most 1, and at most any sum of e**k to the power 1/k.
        """
        z = self.partition.z
        largest = min(1.0, self.powers[0], self.powers[-1] ** (1 / numerics.POWERS)) / z / eps
        if not largest < 0.1 or eps < 1e-30:  # powers of a smaller eps leave the range of float64
            return 0.0, math.inf
        scale, series = 1 / z, []
        for k in range(1, numerics.POWERS):
            scale /= -z * eps
            series.append(-self.powers[k] * scale / k)
        return math.fsum(series), largest * abs(series[-1])

    def large_series(self, eps: float) -> tuple[float, float]:
        """The same for p large beside eps."""
        z, others = self.partition.z, self.count - 1
        gap = self.partition.maximum - self.minimum
        smallest = math.exp(-gap) / z / eps if gap < numerics.LARGEST_GAP else 0.0
        if not smallest > 10:
            return 0.0, math.inf
        logs = -self.partition.energy / z - self.partition.rest / z * (math.log(z) + math.log(eps))
        series = [logs, eps * others, -(eps**2) * z * self.inverse / 2]
        return math.fsum(series), eps * others / smallest**2 / 3


def _merge(tiles: Array, count: int) -> _Scan:
    """The sums of all tiles: each tile's are moved from its own maximum and mean to the common ones."""
    sizes = np.full(len(tiles), float(TILE))
    sizes[-1] = count - TILE * (len(tiles) - 1)
    maximum = float(tiles[:, numerics.MAXIMUM].max())
    below = np.minimum(maximum - tiles[:, numerics.MAXIMUM], 800.0)  # exp(-800) is 0
    home = int(below.argmin())  # the tile whose maximum is the one kept apart
    apart = (np.arange(len(tiles)) != home).astype(np.float64)

    powers = tuple(
        math.fsum(np.exp(-below * (k + 1)) * (tiles[:, numerics.POWER + k] + apart)) for k in range(numerics.POWERS)
    )
    energy = np.exp(-below) * (tiles[:, numerics.ENERGY] + below * (1.0 + tiles[:, numerics.POWER]))
    with np.errstate(over="ignore"):
        inverse = float((np.exp(below) * (tiles[:, numerics.INVERSE] + apart)).sum())

    mean = math.fsum(tiles[:, numerics.SUM]) / count
    shift = tiles[:, numerics.SUM] / sizes - mean
    second, third, fourth = (tiles[:, column] for column in (numerics.SECOND, numerics.THIRD, numerics.FOURTH))
    return _Scan(
        partition=_Partition(maximum, powers[0], math.fsum(energy)),
        count=count,
        ties=float(tiles[below == 0, numerics.TIES].sum()),
        zeros=float(tiles[:, numerics.ZEROS].sum()),
        minimum=float(tiles[:, numerics.MINIMUM].min()),
        mean=mean,
        second=math.fsum(second + sizes * shift**2),
        fourth=math.fsum(fourth + 4 * shift * third + 6 * shift**2 * second + sizes * shift**4),
        inverse=inverse,
        powers=powers,
    )
