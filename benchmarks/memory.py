"""Peak memory of an analysis, of a generated model larger than memory or of checkpoints that exist.

    python benchmarks/memory.py [--gigabytes 12] [--dtype BF16] [--folder DIR]
    python benchmarks/memory.py CHECKPOINT ...

Without checkpoints, a sharded safetensors model of llama-like shapes is written to a temporary folder (seeded, shard by
shard), analysed and removed. Each analysis runs in its own process, whose peak of resident memory, mapped file pages
included, is read from the kernel (VmHWM; Linux). Printed is what it exceeds that of a bare Python interpreter by. Exits
with 1 if that is more than LIMIT.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

LIMIT = 400 << 20
WIDTH, FFN, VOCABULARY = 4096, 14336, 32000
ITEM = {"BF16": 2, "F16": 2, "F32": 4}
PEAK = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
ANALYSIS = f"import sys; from fastewq.analysis.report import analyze; analyze(sys.argv[1]); {PEAK}"


def peak_memory(code: str, *arguments: str) -> int:
    """Peak resident memory, in bytes, of a Python process that runs `code` and prints its VmHWM."""
    return int(subprocess.check_output([sys.executable, "-c", code, *arguments], text=True)) * 1024


def shapes(blocks: int) -> Iterator[list[tuple[str, tuple[int, int]]]]:
    """The tensors of each shard: the embedding, then one block each."""
    yield [("model.embed_tokens.weight", (VOCABULARY, WIDTH))]
    for n in range(blocks):
        prefix = f"model.layers.{n}"
        yield [
            *((f"{prefix}.self_attn.{m}_proj.weight", (WIDTH, WIDTH)) for m in "qkvo"),
            *((f"{prefix}.mlp.{m}_proj.weight", (FFN, WIDTH)) for m in ("gate", "up")),
            (f"{prefix}.mlp.down_proj.weight", (WIDTH, FFN)),
        ]


def write_values(out: object, count: int, dtype: str, rng: np.random.Generator) -> None:
    """N(0, 0.02) weights, a few million at a time."""
    for start in range(0, count, 1 << 22):
        values = rng.standard_normal(min(1 << 22, count - start), dtype=np.float32) * np.float32(0.02)
        stored = {"F32": values, "F16": values.astype(np.float16), "BF16": (values.view(np.uint32) >> 16).astype("<u2")}
        out.write(stored[dtype].data)  # type: ignore[attr-defined]


def write_model(folder: Path, size: int, dtype: str) -> int:
    """Write shards until the model has about `size` bytes; returns the bytes written."""
    block = (4 * WIDTH * WIDTH + 3 * FFN * WIDTH) * ITEM[dtype]
    blocks = max(2, round((size - VOCABULARY * WIDTH * ITEM[dtype]) / block))
    rng, weight_map, written = np.random.default_rng(0), {}, 0
    for number, tensors in enumerate(shapes(blocks), 1):
        file = f"model-{number:05d}-of-{blocks + 1:05d}.safetensors"
        header, position = {}, 0
        for name, shape in tensors:
            end = position + shape[0] * shape[1] * ITEM[dtype]
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
            weight_map[name], position = file, end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / file).open("wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            for _, shape in tensors:
                write_values(out, shape[0] * shape[1], dtype, rng)
        written += position
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return written


def report(path: Path, size: int, baseline: int) -> bool:
    start = time.perf_counter()
    above = peak_memory(ANALYSIS, str(path)) - baseline
    seconds = time.perf_counter() - start
    print(
        f"| {path.name} | {size / 1e9:.2f} GB | {above / 2**20:.0f} MiB | {size / seconds / 1e9:.2f} GB/s |", flush=True
    )
    return above <= LIMIT


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="*")
    parser.add_argument("--gigabytes", type=float, default=12.0)
    parser.add_argument("--dtype", choices=ITEM, default="BF16")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where to write the model")
    options = parser.parse_args()
    baseline = peak_memory(PEAK)
    print(f"a bare interpreter has {baseline / 2**20:.0f} MiB; the limit above that is {LIMIT >> 20} MiB\n")
    print(
        "| checkpoint | size | peak above the interpreter | rate, import included |\n|---|---:|---:|---:|", flush=True
    )
    if options.checkpoints:
        sizes = (sum(f.stat().st_size for f in (p.iterdir() if p.is_dir() else [p])) for p in options.checkpoints)
        within = [report(p, s, baseline) for p, s in zip(options.checkpoints, sizes, strict=True)]
        return 0 if all(within) else 1
    size = int(options.gigabytes * 1e9)
    if shutil.disk_usage(options.folder).free < 1.1 * size + 1e9:
        parser.error(f"{options.folder} has not {size / 1e9:.1f} GB to spare")
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="fastewq-model-") as folder:
        return 0 if report(Path(folder), write_model(Path(folder), size, options.dtype), baseline) else 1


if __name__ == "__main__":
    sys.exit(main())
