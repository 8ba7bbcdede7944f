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
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

TILE = 1 << 16
"""Values per tile: the unit of work whose sums are rounded on their own."""

RUN = 512
"""Values added without compensation."""

POWERS = 8
"""Sums of exp(w - m)**k are kept for k = 1 to POWERS."""

MAXIMUM, MINIMUM, TIES, ZEROS, SUM, SECOND, THIRD, FOURTH, ENERGY, INVERSE, POWER = range(11)
"""Columns of `scan_tiles`; POWER is the first of POWERS columns."""

BATCH = {"BF16": 20_480, "F16": 163_840}
"""Words of 16-bit patterns counted in bytes: of normally distributed weights no pattern is then expected more than 160
times (x f(x) is at most 1/4 for their density f; a binade has 128 or 1,024 patterns of each sign)."""

RANGE = 4096
"""Counters of a byte that are moved together."""

LARGEST_GAP = 708.0
"""exp(-708) is about 3e-308: values further below the maximum weigh nothing in float64."""

Array = npt.NDArray[Any]
F = TypeVar("F", bound=Callable[..., Any])


def compiled(*fastmath: str) -> Callable[[F], F]:
    """numba's njit without the GIL and with IEEE division; `fastmath` names the freedoms LLVM may take."""
    wrap = njit(nogil=True, cache=True, error_model="numpy", fastmath=set(fastmath) or False)
    return cast(Callable[[F], F], wrap)


# --- counting ---------------------------------------------------------------------------------------------------------


def _prefetch_line(_: Any, array: Any, index: Any) -> Any:  # noqa: ARG001 - its type is always intp
    """Ask for the cache line of array[index], which may lie beyond the end: LLVM's prefetch, to be read, all levels."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        flag = ir.IntType(32)
        insert: Any = cgutils.get_or_insert_function
        kind = ir.FunctionType(ir.VoidType(), [address.type, flag, flag, flag])
        function = insert(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(function, [address, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


_prefetch: Any = intrinsic(_prefetch_line)


@compiled()
def increment_words16(words: Array, counters: Array) -> None:
    """Count the four 16-bit patterns of every 64-bit word into counters[65536], of any width.

    One load and shifts, rather than four loads, leave the processor's load ports to the counters; of four words at a
    time the same places are counted one after another, so that a shift is done before it is needed. The processor's
    own prefetching ends at every page: 2 KiB ahead is asked for as well.
    """
    low, one, bits = np.uint64(0xFFFF), counters.dtype.type(1), np.uint64(16)
    fours = words.size // 4 * 4
    for i in range(0, fours, 4):
        a, b, c, d = words[i], words[i + 1], words[i + 2], words[i + 3]
        _prefetch(words, i + 256)
        for _ in range(4):
            counters[a & low] += one
            counters[b & low] += one
            counters[c & low] += one
            counters[d & low] += one
            a, b, c, d = a >> bits, b >> bits, c >> bits, d >> bits
    for i in range(fours, words.size):
        word = words[i]
        for _ in range(4):
            counters[word & low] += one
            word >>= bits


@compiled()
def _bits(words: Array) -> np.uint64:
    """All bits that are set in any of the words."""
    found = np.uint64(0)
    for i in range(words.size):
        found |= words[i]
    return found


@compiled()
def _move(narrow: Array, histogram: Array) -> np.uint32:
    """Add counters of a byte to wider ones, and return their sum."""
    total = np.uint32(0)
    for i in range(narrow.size):
        count = np.uint32(narrow[i])
        histogram[i] += count
        total += count
    narrow[:] = 0
    return total


@compiled()
def _move_all(narrow: Array, histogram: Array) -> np.uint64:
    """`_move` for all patterns. Most are no weight's, and whole ranges of them are passed over."""
    words, total = narrow.view(np.uint64), np.uint64(0)
    for start in range(0, narrow.size, RANGE):
        stop = start + RANGE
        if _bits(words[start // 8 : stop // 8]):
            total += _move(narrow[start:stop], histogram[start:stop])
    return total


@compiled()
def count_words16(words: Array, histogram: Array, size: int) -> None:
    """Count the four 16-bit patterns of every 64-bit word into histogram[65536].

    A core that can write twice a cycle can do so to one cache line, not to two. So batches of `size` words are
    counted in bytes, of which those of most weights lie on few lines. A byte overflows where one pattern is very
    frequent: then the sum is too small, a second count in wide counters finds the multiples of 256 that were lost, and
    the words after it are counted in those at once.
    """
    narrow = np.zeros(histogram.size, np.uint8)
    for start in range(0, words.size, size):
        batch = words[start : start + size]
        increment_words16(batch, narrow)
        if _move_all(narrow, histogram) != 4 * batch.size:
            again = np.zeros(histogram.size, np.uint32)
            increment_words16(batch, again)
            for i in range(again.size):
                histogram[i] += again[i] & np.uint32(0xFFFFFF00)
            increment_words16(words[start + batch.size :], histogram)
            break


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
def _exponential_run(values: Array, top: float, out: Array) -> None:
    """Sums over the values w below top: out[0]: exp(w - top) (top - w), [1]: exp(top - w), [1 + k]: exp(w - top)**k."""
    energy = inverse = s1 = s2 = s3 = s4 = s5 = s6 = s7 = s8 = 0.0
    for i in range(values.size):
        below = top - np.float64(values[i])
        inside = 0.0 < below < LARGEST_GAP
        e = exp(-below) if inside else 0.0
        e2 = e * e
        e3, e4 = e2 * e, e2 * e2
        energy += e * min(below, LARGEST_GAP)
        inverse += 1.0 / e if inside else 0.0
        s1 += e
        s2 += e2
        s3 += e3
        s4 += e4
        s5 += e4 * e
        s6 += e4 * e2
        s7 += e4 * e3
        s8 += e4 * e4
    out[0], out[1] = energy, inverse
    out[2], out[3], out[4], out[5], out[6], out[7], out[8], out[9] = s1, s2, s3, s4, s5, s6, s7, s8


@compiled("reassoc", "nsz")
def _sum_run(values: Array) -> float:
    total = 0.0
    for i in range(values.size):
        total += np.float64(values[i])
    return total


@compiled("reassoc", "nsz")
def _moments_run(values: Array, mean: float) -> tuple[float, float, float]:
    second = third = fourth = 0.0
    for i in range(values.size):
        deviation = np.float64(values[i]) - mean
        square = deviation * deviation
        second += square
        third += square * deviation
        fourth += square * square
    return second, third, fourth


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

    MAXIMUM                 the tile's largest value m, from `maxima`
    TIES, ZEROS             how many values equal m; how many equal 0
    SUM                     sum of w
    SECOND, THIRD, FOURTH   sums of powers of w - mean, the mean being the tile's
    ENERGY                  sum of exp(w - m) (m - w)
    INVERSE                 sum of exp(m - w) over all values but one maximum, those further than LARGEST_GAP left out
    POWER + k - 1           sum of exp(w - m)**k over all values but one maximum
    """
    width = out.shape[1]
    sums, lost, run_sums = np.empty(width), np.empty(width), np.empty(2 + POWERS)
    for tile in range(maxima.size):
        part = values[tile * TILE : (tile + 1) * TILE]
        top = maxima[tile]
        sums[:] = 0.0
        lost[:] = 0.0
        for begin in range(0, part.size, RUN):
            run = part[begin : begin + RUN]
            _add(sums, lost, SUM, _sum_run(run))
            _exponential_run(run, np.float64(top), run_sums)
            for k in range(run_sums.size):
                _add(sums, lost, ENERGY + k, run_sums[k])
        mean = (sums[SUM] + lost[SUM]) / part.size
        for begin in range(0, part.size, RUN):
            second, third, fourth = _moments_run(part[begin : begin + RUN], mean)
            _add(sums, lost, SECOND, second)
            _add(sums, lost, THIRD, third)
            _add(sums, lost, FOURTH, fourth)
        zeros, ties = _count_equal(part, top)
        for k in range(SUM, width):
            out[tile, k] = sums[k] + lost[k] + (ties - 1 if k >= INVERSE else 0)
        out[tile, MAXIMUM] = top
        out[tile, TIES] = ties
        out[tile, ZEROS] = zeros


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


@compiled()
def excess_tiles(values: Array, top: float, z: float, epsilons: Array, out: Array) -> None:
    """The second reading. out: one row per tile: for each eps, all positive, the sum of p log1p(p / eps) with
    p = exp(w - top) / z over the values below top."""
    sums, lost, softmax = np.empty(epsilons.size), np.empty(epsilons.size), np.empty(RUN)
    for tile in range((values.size + TILE - 1) // TILE):
        part = values[tile * TILE : (tile + 1) * TILE]
        sums[:] = 0.0
        lost[:] = 0.0
        for begin in range(0, part.size, RUN):
            run = part[begin : begin + RUN]
            _softmax_run(run, top, 1.0 / z, softmax)
            for k in range(epsilons.size):
                _add(sums, lost, k, _excess_run(softmax[: run.size], 1.0 / epsilons[k]))
        for k in range(epsilons.size):
            out[tile, k] = sums[k] + lost[k]


# --- rounding ---------------------------------------------------------------------------------------------------------


@compiled("reassoc", "nsz")
def _rounded(part: Array, peak: float, half: float) -> float:
    """The sum of squares of what one group loses; `half` is half the number of codes, `peak` the largest magnitude."""
    scale, lost = peak / (half - 0.5), 0.0
    if scale == 0.0:
        return lost
    for i in range(part.size):
        code = min(max(np.rint(part[i] / scale), -half), half - 1.0)
        lost += (part[i] - code * scale) ** 2
    return lost


@compiled("reassoc", "nsz")
def rounding(rows: Array, group: int, bits: Array) -> tuple[Array, float]:
    """Sums of squares of what symmetric rounding in groups loses at each of `bits`, and of the weights; rows: (rows,
    columns)."""
    lost, norm = np.zeros(bits.size), 0.0
    for r in range(rows.shape[0]):
        for begin in range(0, rows.shape[1], group):
            part = rows[r, begin : begin + group]
            peak = 0.0
            for i in range(part.size):
                peak = max(peak, abs(part[i]))
                norm += part[i] ** 2
            for k in range(bits.size):
                lost[k] += _rounded(part, peak, 2.0 ** (bits[k] - 1))
    return lost, norm
