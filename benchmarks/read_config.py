"""How long it takes to turn a config into blocks.

    python benchmarks/read_config.py [FOLDER_OR_CONFIG ...]      default: ../shared/configs, else examples/

Prints the median over repeated readings of each config, and the median over the configs. `tools/oracle.py config`
prints the time the transformers library takes to build the same models on the meta device.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from fastewq.config import read_config

ROOT = Path(__file__).parents[1]
REPEATS = 200


def configs(arguments: list[str]) -> dict[str, dict[str, Any]]:
    shared = ROOT.parent / "shared" / "configs"
    paths = [Path(a) for a in arguments] or [shared if shared.is_dir() else ROOT / "examples"]
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    documents = {file.stem: json.loads(file.read_text("utf-8")) for file in files}
    return {name: document for name, document in documents.items() if "model_type" in document}


def milliseconds(config: dict[str, Any]) -> float:
    """The median time of one reading; the first, which loads the class defaults, is left out."""
    blocks = sum(len(stack.blocks) for stack in read_config(config).stacks)
    if not blocks:
        raise SystemExit("a config without blocks measures nothing")
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        read_config(config)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def main() -> None:
    results = {name: milliseconds(config) for name, config in configs(sys.argv[1:]).items()}
    for name, value in sorted(results.items(), key=lambda item: item[1]):
        print(f"{value:8.3f} ms  {name}")
    print(f"{statistics.median(results.values()):8.3f} ms  median of {len(results)} configs")


if __name__ == "__main__":
    main()
