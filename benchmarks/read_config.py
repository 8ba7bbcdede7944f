"""How long it takes to turn a config into blocks, beside the time the transformers library takes for the same.

    python benchmarks/read_config.py [--oracle PYTHON] [FOLDER_OR_CONFIG ...]
    python benchmarks/read_config.py hostile

Without arguments the configs are those of ../shared/configs, else of examples/. PYTHON is an interpreter with the
`oracle` extra; the library builds each model on the meta device, without memory for weights. Times are medians over
repeated readings. `hostile` times the configs that ask for the most work.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastewq.config import read_config
from fastewq.errors import FastEWQError

ROOT = Path(__file__).parents[1]
REPEATS = 200


def config_files(arguments: list[str]) -> dict[Path, dict[str, Any]]:
    shared = ROOT.parent / "shared" / "configs"
    paths = [Path(a) for a in arguments] or [shared if shared.is_dir() else ROOT / "examples"]
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    documents = {file: json.loads(file.read_text("utf-8")) for file in files}
    return {file: document for file, document in documents.items() if "model_type" in document}


def milliseconds(config: Mapping[str, Any], repeats: int = REPEATS) -> float:
    """The median time of one reading; the first, which loads the class defaults, is left out."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        with suppress(FastEWQError):  # a refusal takes time, too
            read_config(config)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:]) * 1000


def library_times(python: str, files: list[Path]) -> dict[str, float | None]:
    """Milliseconds per file, by `tools/oracle.py time` under another interpreter."""
    command = [python, str(ROOT / "tools" / "oracle.py"), "time", *map(str, files)]
    result = subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    found: dict[str, float | None] = json.loads(result.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle", metavar="PYTHON", help="an interpreter with torch and transformers")
    parser.add_argument("configs", nargs="*")
    options = parser.parse_args()
    if options.configs == ["hostile"]:
        sys.path.insert(0, str(ROOT / "tests" / "architectures"))
        from costly import costly

        for name, config in costly().items():
            print(f"{milliseconds(config, 9):8.1f} ms  {name}")
        return
    files = config_files(options.configs)
    results = {file: milliseconds(config) for file, config in files.items()}
    library = library_times(options.oracle, list(files)) if options.oracle else {}
    for file, value in sorted(results.items(), key=lambda item: item[1]):
        theirs = library.get(str(file))
        print(f"{value:8.3f} ms  {f'{theirs:8.0f} ms' if theirs else '':>11}  {file.stem}")
    print(f"{statistics.median(results.values()):8.3f} ms  median of {len(results)} configs")
    built = [theirs for theirs in library.values() if theirs is not None]
    if built:
        print(f"{statistics.median(built):8.0f} ms  median of the {len(built)} that the transformers library can build")


if __name__ == "__main__":
    main()
