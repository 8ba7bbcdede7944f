"""How long a plan takes: in this process, and from the shell with nothing loaded.

    python benchmarks/plan.py [CONFIG ...]      default: Llama 3.1's sizes with 32, 80 and 126 blocks

Prints per config the median and the 99th percentile of `fastewq.plan`, and the median of whole runs of `fastewq plan`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service import SIZES, config

import fastewq

REPEATS = 2000
RUNS = 9


def times(action: Callable[[], Any], repeats: int) -> list[float]:
    """Milliseconds of each of so many calls, after one that is not counted."""
    action()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        found.append(1000 * (time.perf_counter() - start))
    return found


def cold(document: dict[str, Any]) -> float:
    """The median wall time of `fastewq plan FILE --json`, in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(document), "utf-8")
        command = [sys.executable, "-c", "from fastewq.cli import main; main()", "plan", str(path), "--json"]
        return statistics.median(times(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True), RUNS))


def main() -> None:
    documents = {Path(name).stem: json.loads(Path(name).read_text("utf-8")) for name in sys.argv[1:]}
    print("config        blocks   median ms      p99 ms   from the shell, ms")
    for name, document in (documents or {f"{blocks} blocks": config(blocks) for blocks in SIZES}).items():
        blocks = sum(len(stack.blocks) for stack in fastewq.plan(document).stacks)
        found = times(lambda document=document: fastewq.plan(document), REPEATS)
        p99 = statistics.quantiles(found, n=100)[98]
        print(f"{name:<12.12} {blocks:>7} {statistics.median(found):>11.3f} {p99:>11.3f} {cold(document):>20.0f}")


if __name__ == "__main__":
    main()
