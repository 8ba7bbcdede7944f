"""How fast and how exact the entropy kernel is, beside the ways it is usually computed, all in one run.

    python benchmarks/entropy.py [--weights 134217728] [--repeats 5] [--threads N]

Everything is computed from N(0, 0.02) weights with eps = 0.01, on arrays in memory that are larger than the caches,
with the same number of threads. Each method runs once to warm up; then all take turns, and the fastest turn of each
counts. The rows (a) and (b) need torch and are left out without it. The exact value has 50 digits for the types that
are counted and 64-bit mantissas for float32. GB/s counts each stored byte once.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mpmath
import numba
import numpy as np
import numpy.typing as npt

from fastewq.analysis.dequantize import block_layout, dequantize
from fastewq.analysis.kernel import measure
from fastewq.analysis.numerics import BATCH, TILE, count_words16, increment_words16
from fastewq.analysis.weights import ValueType, bit_values

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

EPS = 0.01
CHUNK = 32 * TILE
Array = npt.NDArray[Any]


@dataclass
class InMemory:
    """A matrix in memory as the kernel wants it; with `blocks`, of a GGUF type that is dequantized in chunks."""

    array: Array
    value_type: ValueType
    blocks: str = ""
    name: str = "weights"
    file: str = "memory"
    chunk_size: int = CHUNK

    @property
    def shape(self) -> tuple[int, ...]:
        if not self.blocks:
            return self.array.reshape(-1, 4096).shape
        values, size = block_layout(self.blocks)
        return (self.array.size // size * values // 4096, 4096)

    @contextmanager
    def chunk(self, start: int, stop: int) -> Iterator[Array]:
        if not self.blocks:
            yield self.array[start:stop]
        else:
            values, size = block_layout(self.blocks)
            yield dequantize(self.array[start // values * size : stop // values * size], self.blocks)


@dataclass
class Method:
    """A row of the table: `run` returns H, or None where it only reads."""

    name: str
    weights: int
    bytes: int
    run: Callable[[], float | None]
    exact: float | None = None
    best: float = float("inf")
    result: float | None = None

    def turn(self) -> None:
        start = time.perf_counter()
        self.result = self.run()
        self.best = min(self.best, time.perf_counter() - start)

    @property
    def rate(self) -> float:
        return self.weights / self.best


@numba.njit(nogil=True, fastmath={"reassoc"})  # not cached: this module has two names, run and imported
def read_words(words: Array) -> int:
    """Reads every byte and does the least that keeps the compiler from leaving it out."""
    total = np.uint64(0)
    for i in range(words.size):
        total ^= words[i]
    return total


def read_all(array: Array, threads: int, loop: Callable[[Array], Any] = read_words) -> None:
    parts = np.array_split(array.view(np.uint64), threads)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(loop, parts))


def count_loop(words: Array, value_type: ValueType = "BF16") -> None:
    """The kernel's counting and nothing else: what remains of the time is the rest of the kernel's."""
    count_words16(words, np.zeros(1 << 16, np.uint32), BATCH[value_type])


@numba.njit(nogil=True)
def increment_again(words: Array, times: int) -> None:
    counters = np.zeros(1 << 16, np.uint8)
    for _ in range(times):
        increment_words16(words, counters)


def count_in_cache(words: Array) -> None:
    """As many increments as `words` holds weights, for the first of them over and over: what is left of counting where
    reading costs nothing and counters are never emptied."""
    few = words[:2048]
    increment_again(few, words.size // few.size)


def counted_entropy(counts: Array, value_type: ValueType) -> float:
    """float64 over the counts, as someone with numpy.bincount would write it."""
    present = np.flatnonzero(counts)
    values, counts = bit_values(value_type)[present], counts[present]
    e = np.exp(values - values.max())
    p = e / (e * counts).sum()
    return float(-(counts * p * np.log(p + EPS)).sum())


def torch_entropy(weights: Any) -> float:
    """The straightforward implementation: softmax over the flattened weights, then the sum."""
    p = torch.softmax(weights.flatten(), dim=0)
    return float(-(p * torch.log(p + EPS)).sum())


def exact_of_counts(bits: Array, value_type: ValueType) -> float:
    counts = np.bincount(bits, minlength=1 << 16)
    present = np.flatnonzero(counts)
    with mpmath.workdps(50):
        e = [mpmath.exp(mpmath.mpf(float(v))) for v in bit_values(value_type)[present]]
        times = [int(n) for n in counts[present]]
        z = mpmath.fsum(n * x for n, x in zip(times, e, strict=True))
        terms = (n * x / z * mpmath.log(x / z + mpmath.mpf(EPS)) for n, x in zip(times, e, strict=True))
        return float(-mpmath.fsum(terms))


def exact_of_floats(chunks: Callable[[], Iterator[Array]]) -> float:
    """In 80-bit floats, sums of numpy's pairwise kind; good to about 1e-18."""
    z = sum((np.exp(c.astype(np.longdouble)).sum() for c in chunks()), np.longdouble(0))
    total = np.longdouble(0)
    for c in chunks():
        p = np.exp(c.astype(np.longdouble)) / z
        total -= (p * np.log(p + np.longdouble(EPS))).sum()
    return float(total)


def in_pieces(matrix: InMemory) -> Callable[[], Iterator[Array]]:
    count = matrix.shape[0] * matrix.shape[1]

    def chunks() -> Iterator[Array]:
        for start in range(0, count, CHUNK):
            with matrix.chunk(start, min(start + CHUNK, count)) as values:
                yield values

    return chunks


def normal_weights(count: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(0)
    weights = np.empty(count, np.float32)
    for start in range(0, count, CHUNK):
        part = weights[start : start + CHUNK]
        rng.standard_normal(dtype=np.float32, out=part)
        part *= np.float32(0.02)
    return weights


def q4_k_blocks(count: int) -> npt.NDArray[np.uint8]:
    """Blocks of Q4_K with weights of about the same size as the others: random codes, scales and offsets."""
    values, size = block_layout("Q4_K")
    blocks = np.random.default_rng(1).integers(0, 256, (count // values, size), dtype=np.uint8)
    blocks[:, 0:2] = np.array([1e-4], np.float16).view(np.uint8)
    blocks[:, 2:4] = np.array([8e-4], np.float16).view(np.uint8)
    return blocks.reshape(-1)


def methods_for(count: int, threads: int) -> list[Method]:
    f32 = normal_weights(count)
    f16 = f32.astype(np.float16).view(np.uint16)
    bf16 = (f32.view(np.uint32) >> 16).astype(np.uint16)
    q4 = q4_k_blocks(count)
    bf16_exact, f16_exact = exact_of_counts(bf16, "BF16"), exact_of_counts(f16, "F16")
    f32_exact = exact_of_floats(in_pieces(InMemory(f32, "F32")))
    q4_exact = exact_of_floats(in_pieces(InMemory(q4, "F32", "Q4_K")))

    def kernel(matrix: InMemory) -> Callable[[], float]:
        return lambda: measure(matrix, (EPS,), threads=threads).entropies[EPS]

    methods = [
        Method("fastewq bfloat16", count, 2 * count, kernel(InMemory(bf16, "BF16")), bf16_exact),
        Method("fastewq float16", count, 2 * count, kernel(InMemory(f16, "F16")), f16_exact),
        Method("fastewq float32", count, 4 * count, kernel(InMemory(f32, "F32")), f32_exact),
        Method("fastewq Q4_K", count, q4.size, kernel(InMemory(q4, "F32", "Q4_K")), q4_exact),
    ]
    if torch is not None:
        torch.set_num_threads(threads)
        stored, wide = torch.from_numpy(bf16.view(np.int16)).view(torch.bfloat16), torch.from_numpy(f32)
        methods += [
            Method(
                "(a) torch softmax in float32, of bfloat16",
                count,
                2 * count,
                lambda: torch_entropy(stored.float()),
                bf16_exact,
            ),
            Method(
                "(a) torch softmax in float32, of float32", count, 4 * count, lambda: torch_entropy(wide), f32_exact
            ),
            Method(
                "(b) torch softmax in float64, of float32",
                count,
                4 * count,
                lambda: torch_entropy(wide.double()),
                f32_exact,
            ),
        ]
    return [
        *methods,
        Method(
            "(c) numpy.bincount of bfloat16",
            count,
            2 * count,
            lambda: counted_entropy(np.bincount(bf16, minlength=1 << 16), "BF16"),
            bf16_exact,
        ),
        Method("(d) reading memory, bfloat16", count, 2 * count, lambda: read_all(bf16, threads)),
        Method("(d) reading memory, float32", count, 4 * count, lambda: read_all(f32, threads)),
        Method("(d) reading memory, bfloat16, one thread", count, 2 * count, lambda: read_all(bf16, 1)),
        Method("(e) the counting loop alone, bfloat16", count, 2 * count, lambda: read_all(bf16, threads, count_loop)),
        Method("(e) the same, one thread", count, 2 * count, lambda: read_all(bf16, 1, count_loop)),
        Method(
            "(e) the counting loop alone, float16",
            count,
            2 * count,
            lambda: read_all(f16, threads, partial(count_loop, value_type="F16")),
        ),
        Method("(f) counting with nothing to read", count, 2 * count, lambda: read_all(bf16, threads, count_in_cache)),
        Method("(f) the same, one thread", count, 2 * count, lambda: read_all(bf16, 1, count_in_cache)),
    ]


def compile_times() -> tuple[float, float]:
    """Seconds to import the kernel and measure one matrix of each kind: with an empty numba cache, then a full one."""
    code = (
        "import numpy as np, time; start = time.perf_counter();"
        "from benchmarks.entropy import InMemory, measure;"
        "[measure(InMemory(np.zeros(8192, d), t)) for d, t in ((np.uint16, 'BF16'), (np.float32, 'F32'))];"
        "measure(InMemory(np.zeros(4608, np.uint8), 'F32', 'Q4_K'));"
        "print(time.perf_counter() - start)"
    )
    root = str(Path(__file__).resolve().parent.parent)
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache, "PYTHONPATH": root}
        seconds = [
            float(subprocess.check_output([sys.executable, "-c", code], env=environment, cwd=root, text=True))
            for _ in range(2)
        ]
    return seconds[0], seconds[1]


def table(methods: list[Method]) -> str:
    read = next(m for m in methods if m.name.startswith("(d) reading memory, bfloat16"))
    bandwidth = read.bytes / read.best
    lines = [
        "| method | million weights/s | GB/s | share of (d) | error of H |",
        "|---|---:|---:|---:|---:|",
    ]
    for m in methods:
        speed = m.bytes / m.best
        error = "" if m.result is None or m.exact is None else f"{abs(m.result - m.exact):.1e}"
        lines.append(f"| {m.name} | {m.rate / 1e6:,.0f} | {speed / 1e9:.2f} | {speed / bandwidth:.0%} | {error} |")
    return "\n".join(lines)


def ratios(methods: list[Method]) -> list[str]:
    rate = {m.name: m.rate for m in methods}
    speed = {m.name: m.bytes / m.best for m in methods}
    share = speed["fastewq bfloat16"] / speed["(d) reading memory, bfloat16"]
    limit = speed["(f) counting with nothing to read"] / speed["(d) reading memory, bfloat16"]
    lines = [
        f"bfloat16 runs at {share:.0%} of the memory's read bandwidth",
        f"were reading free, counting alone would run at {limit:.0%} of it",
    ]
    if torch is not None:
        a = rate["fastewq bfloat16"] / rate["(a) torch softmax in float32, of bfloat16"]
        b = rate["fastewq float32"] / rate["(b) torch softmax in float64, of float32"]
        lines += [f"bfloat16 is {a:.0f} times (a)", f"float32 is {b:.1f} times (b)"]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=int, default=1 << 27, help="a multiple of 2,097,152 (default 134217728)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.weights <= 0 or options.weights % CHUNK:
        parser.error(f"--weights is {options.weights}; expected a multiple of {CHUNK}")

    cold, warm = compile_times()
    methods = methods_for(options.weights, options.threads)
    for method in methods:
        method.run()
    for _ in range(options.repeats):
        for method in methods:
            method.turn()

    print(f"{options.weights:,} weights, {options.threads} threads, best of {options.repeats}; {platform.processor()}")
    print(
        f"python {platform.python_version()}, numpy {np.__version__}, torch {getattr(torch, '__version__', 'absent')}"
    )
    print(f"import and first use, not counted below: {cold:.1f} s compiling, {warm:.1f} s from numba's cache\n")
    print(table(methods))
    print()
    print("\n".join(ratios(methods)))


if __name__ == "__main__":
    main()
