"""The compiled loops of the kernel: counting, exp and log1p, sums over tiles, rounding. Flat contiguous arrays in.

Compiled by numba to vector code on first use and cached on disk. Rearranging sums (LLVM's `reassoc`) is allowed only in
the `_run` functions, which add at most RUN values in parallel lanes; everything between runs and inside exp and log1p
keeps its order, so the compensation in `_add` survives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

TILE = 1 << 16
"""Values per tile: the unit of work whose sums are rounded on their own."""

RUN = 512
"""Values added without compensation."""

MAXIMUM, MINIMUM, SUM, ZEROS, REST, ENERGY, TIES = range(7)
"""Columns of `scan_tiles`."""

LARGEST_GAP = 708.0
"""exp(-708) is about 3e-308: values further below the maximum weigh nothing in float64."""

Array = npt.NDArray[Any]
F = TypeVar("F", bound=Callable[..., Any])


def compiled(*fastmath: str) -> Callable[[F], F]:
    """numba's njit without the GIL and with IEEE division; `fastmath` names the freedoms LLVM may take."""
    wrap = njit(nogil=True, cache=True, error_model="numpy", fastmath=set(fastmath) or False)
    return cast(Callable[[F], F], wrap)


# --- counting ---------------------------------------------------------------------------------------------------------


@compiled()
def count_words16(words: Array, histogram: Array) -> None:
    """Count the four 16-bit patterns of every 64-bit word into histogram[65536].

    One load and shifts, rather than four loads, leave the processor's load ports to the counters.
    """
    low, one = np.uint64(0xFFFF), np.uint32(1)
    for i in range(words.size):
        word = words[i]
        histogram[word & low] += one
        histogram[(word >> np.uint64(16)) & low] += one
        histogram[(word >> np.uint64(32)) & low] += one
        histogram[word >> np.uint64(48)] += one


@compiled()
def count_words8(words: Array, histogram: Array) -> None:
    """Count the eight 8-bit patterns of every 64-bit word into histogram[256].

    Four tables: with so few counters an increment would otherwise wait for the one before it.
    """
    low, one = np.uint64(0xFF), np.uint32(1)
    tables = np.zeros((4, 256), np.uint32)
    for i in range(words.size):
        word = words[i]
        for k in range(8):
            tables[k & 3, (word >> np.uint64(8 * k)) & low] += one
    for k in range(4):
        for i in range(256):
            histogram[i] += tables[k, i]


# --- exp and log1p ----------------------------------------------------------------------------------------------------


@compiled("contract")
def exp(x: float) -> Any:
    """exp(x) for -708 <= x <= 0 within 2 u: x = n log 2 + r, a Taylor polynomial in r, n added to the exponent."""
    shifted = x * 1.4426950408889634 + 6755399441055744.0  # 1.5 * 2**52: leaves the nearest integer in the low bits
    n = shifted - 6755399441055744.0
    r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10
    p = 1.6059043836821613e-10  # 1/13!
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
    power = (np.float64(shifted).view(np.int64) << np.int64(52)) + np.int64(0x3FF0_0000_0000_0000)
    return p * np.int64(power).view(np.float64)


@compiled("contract")
def log1p(x: float) -> Any:
    """log(1 + x) for x >= 0 within 2 u: the method and coefficients of fdlibm's log1p, without branches."""
    u = 1.0 + x
    back = u - 1.0
    lost = ((1.0 - (u - back)) + (x - back)) / u
    bits = np.float64(u).view(np.uint64) + np.uint64(0x0009_5F62_0000_0000)
    exponent = (bits >> np.uint64(52)) | np.uint64(0x4330_0000_0000_0000)  # as the low bits of 2**52 + exponent
    k = np.uint64(exponent).view(np.float64) - (4503599627370496.0 + 1023.0)
    mantissa = (bits & np.uint64(0x000F_FFFF_FFFF_FFFF)) + np.uint64(0x3FE6_A09E_0000_0000)
    f = np.uint64(mantissa).view(np.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    p = 1.479819860511658591e-01
    p = p * z + 1.531383769920937332e-01
    p = p * z + 1.818357216161805012e-01
    p = p * z + 2.222219843214978396e-01
    p = p * z + 2.857142874366239149e-01
    p = p * z + 3.999999999940941908e-01
    p = p * z + 6.666666666666735130e-01
    half = 0.5 * f * f
    tail = s * (half + p * z) + (k * 1.90821492927058770002e-10 + lost)
    return k * 6.93147180369123816490e-01 - ((half - tail) - f)


# --- float32 and float64, tile by tile --------------------------------------------------------------------------------


@compiled()
def extreme_keys(bits: Array, flip: Any) -> tuple[Any, Any]:
    """Smallest and largest of the values whose bits, as signed integers, are given; flip is the largest such integer.

    The results are keys: integers in the order of the values they stand for (`key ^ flip` restores a negative one's
    bits). Unlike comparisons of floats these are exact for NaN, whose keys lie beyond those of the infinities.
    """
    low = high = bits[0] if bits[0] >= 0 else bits[0] ^ flip
    for i in range(bits.size):
        key = bits[i] if bits[i] >= 0 else bits[i] ^ flip
        low = min(low, key)
        high = max(high, key)
    return low, high


@compiled()
def _add(sums: Array, lost: Array, k: int, x: float) -> None:
    """Neumaier's compensated addition of x to sums[k]; what rounding loses gathers in lost[k]."""
    s = sums[k]
    t = s + x
    lost[k] += (s - t) + x if abs(s) >= abs(x) else (x - t) + s
    sums[k] = t


@compiled("reassoc", "nsz")
def _scan_run(values: Array, top: float) -> tuple[float, float, float]:
    total = rest = energy = 0.0
    for i in range(values.size):
        w = np.float64(values[i])
        below = top - w
        e = exp(-below) if 0.0 < below < LARGEST_GAP else 0.0
        total += w
        rest += e
        energy += e * min(below, LARGEST_GAP)
    return total, rest, energy


@compiled()
def _count_equal(values: Array, top: float) -> tuple[int, int]:
    zeros = ties = 0
    for i in range(values.size):
        zeros += values[i] == 0.0
        ties += values[i] == top
    return zeros, ties


@compiled()
def scan_tiles(values: Array, maxima: Array, out: Array) -> None:
    """The first reading. values: finite, any number; out: one row per tile of TILE values, filled except MINIMUM.

    maxima  the largest value of each tile, m below
    SUM     sum of w
    REST    sum of exp(w - m) over all values but one maximum
    ENERGY  sum of exp(w - m) (m - w)
    TIES    how many values equal m
    """
    sums, lost = np.empty(3), np.empty(3)
    for tile in range(maxima.size):
        part = values[tile * TILE : (tile + 1) * TILE]
        top = maxima[tile]
        sums[:] = 0.0
        lost[:] = 0.0
        for begin in range(0, part.size, RUN):
            total, rest, energy = _scan_run(part[begin : begin + RUN], np.float64(top))
            _add(sums, lost, 0, total)
            _add(sums, lost, 1, rest)
            _add(sums, lost, 2, energy)
        zeros, ties = _count_equal(part, top)
        out[tile, MAXIMUM] = top
        out[tile, SUM] = sums[0] + lost[0]
        out[tile, ZEROS] = zeros
        out[tile, REST] = (sums[1] + lost[1]) + (ties - 1)
        out[tile, ENERGY] = sums[2] + lost[2]
        out[tile, TIES] = ties


@compiled()
def _softmax_run(values: Array, top: float, scale: float, out: Array) -> None:
    """exp(w - top) * scale of each value, 0 for those equal to top."""
    for i in range(values.size):
        below = top - np.float64(values[i])
        out[i] = exp(-below) * scale if 0.0 < below < LARGEST_GAP else 0.0


@compiled("reassoc", "nsz")
def _excess_run(p: Array, scale: float) -> float:
    total = 0.0
    for i in range(p.size):
        total += p[i] * log1p(p[i] * scale)
    return total


@compiled("reassoc", "nsz")
def _moments_run(values: Array, mean: float) -> tuple[float, float]:
    second = fourth = 0.0
    for i in range(values.size):
        square = (np.float64(values[i]) - mean) ** 2
        second += square
        fourth += square * square
    return second, fourth


@compiled()
def finish_tiles(values: Array, top: float, z: float, mean: float, epsilons: Array, out: Array) -> None:
    """The second reading. out: one row per tile: the sums of (w - mean)^2 and (w - mean)^4, then for each eps, all
    positive, the sum of p log1p(p / eps) with p = exp(w - top) / z over the values below top."""
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


# --- rounding ---------------------------------------------------------------------------------------------------------


@compiled("reassoc", "nsz")
def rounding(rows: Array, group: int, bits: int) -> tuple[float, float]:
    """Sums of squares of what symmetric rounding in groups loses, and of the weights; rows: (rows, columns)."""
    half = 2.0 ** (bits - 1)
    lost = norm = 0.0
    for r in range(rows.shape[0]):
        for begin in range(0, rows.shape[1], group):
            part = rows[r, begin : begin + group]
            peak = 0.0
            for i in range(part.size):
                peak = max(peak, abs(part[i]))
            scale = peak / (half - 0.5)
            if scale == 0.0:
                continue
            for i in range(part.size):
                code = min(max(np.rint(part[i] / scale), -half), half - 1.0)
                lost += (part[i] - code * scale) ** 2
                norm += part[i] ** 2
    return lost, norm
