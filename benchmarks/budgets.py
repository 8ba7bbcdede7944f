"""What fits where, and how long the search takes.

python benchmarks/budgets.py table FOLDER   real configs against common GPU memories, as Markdown (with a KV cache of
                                            8,192 tokens and 1 GiB in reserve)
python benchmarks/budgets.py time           time of `plan_architecture` without and with a memory
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fastewq import load_predictor, plan, plan_architecture, read_config
from fastewq.errors import DoesNotFit, FastEWQError
from fastewq.memory import read_memory

GPUS = {"12 GB": "12GiB", "16 GB": "16GiB", "24 GB": "24GiB", "48 GB": "48GiB", "80 GB": "80GiB", "8 x 80 GB": "640GiB"}
MODELS = (
    "Qwen--Qwen3-8B",
    "meta-llama--Meta-Llama-3.1-8B",
    "openai--gpt-oss-20b",
    "Qwen--Qwen3.5-27B",
    "Qwen--Qwen3-30B-A3B",
    "mistralai--Mixtral-8x7B-v0.1",
    "nvidia--Nemotron-H-56B-Base-8K",
    "meta-llama--Llama-4-Scout-17B-16E-Instruct",
    "meta-llama--Meta-Llama-3.1-405B",
    "deepseek-ai--DeepSeek-V3",
)


def table(folder: Path) -> None:
    """Per model and memory: blocks at each precision and the bits per weight of the whole model."""
    print("| model | as stored | " + " | ".join(GPUS) + " |")
    print("|---" * (len(GPUS) + 2) + "|")
    for name in MODELS:
        config = json.loads((folder / f"{name}.json").read_text("utf-8"))
        raw = plan(config).totals.raw_bytes / 2**30
        cells = [_cell(config, memory) for memory in GPUS.values()]
        print(f"| {name.partition('--')[2]} | {raw:.1f} GiB | " + " | ".join(cells) + " |")


def _cell(config: dict[str, object], memory: str) -> str:
    try:
        found = plan(config, memory=memory, context=8192, reserve="1GiB")
    except DoesNotFit:
        return "no"
    except FastEWQError as error:
        return error.code
    kinds = [block.precision for stack in found.stacks for block in stack.blocks]
    order = sorted(set(kinds), key=lambda kind: (kind in ("int8", "int4"), kind != "int8", kind))
    counts = [f"{kinds.count(kind)} {kind}" for kind in order]
    proof = "" if found.memory and found.memory.optimal else " (within one step)"
    return f"{', '.join(counts)}; {found.totals.bits_per_weight:.1f} bits{proof}"


def timings() -> None:
    predictor = load_predictor()
    base = json.loads((Path(__file__).parent.parent / "examples" / "llama-3.1-8b.json").read_text("utf-8"))
    for blocks in (32, 80, 400):
        architecture = read_config({**base, "num_hidden_layers": blocks})
        probabilities = np.random.default_rng(0).random(blocks)
        raw = architecture.parameters * 2

        def without() -> object:
            return plan_architecture(architecture, probabilities, predictor=predictor)  # noqa: B023

        def fitted() -> object:
            memory = read_memory(int(raw * 0.4))  # noqa: B023
            return plan_architecture(architecture, probabilities, predictor=predictor, memory=memory)  # noqa: B023

        print(f"{blocks:4} blocks: plan {_times(without)}, with a memory {_times(fitted)}")


def _times(call: Callable[[], object], repeats: int = 200) -> str:
    """Median and least of the repeats: on a machine that does other work besides, only the least is the program's."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return f"median {statistics.median(times) * 1e3:.3f} ms, least {min(times) * 1e3:.3f} ms"


if __name__ == "__main__":
    if sys.argv[1:2] == ["table"]:
        table(Path(sys.argv[2]))
    else:
        timings()
