"""What the quality benchmark costs: seconds measured once per model, times the passes that are left to do.

`quality.py time` measures training_data/quality/costs.csv; `quality.py full` reads it before it starts. All seconds are
CPU seconds of one thread. No torch here but for the timing.
"""

from __future__ import annotations

import csv
import heapq
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Final

from quality_steps import LOGS, Log, alone, stacks_of, table, wanted_plans

from fastewq.files import write_bytes
from fastewq.training.sensitivity import RAW

COSTS: Final = LOGS / "costs.csv"
TABLE: Final = "(table)"
"""The row of costs.csv for `quality.py table`, which runs no model."""


@dataclass(frozen=True)
class Cost:
    """One model's seconds.

    chunks     how many chunks of text there are
    load       reading weights and text
    whole      one pass over one chunk, its first block rounded
    last       one pass where all blocks but the last are replayed, the last one rounded
    rounding   rounding all blocks once
    """

    model: str
    chunks: int
    load: float
    whole: float = 0.0
    last: float = 0.0
    rounding: float = 0.0

    def seconds(self, left: Mapping[str, int], chunks: int) -> float:
        """Loading, `chunks` unquantized passes, and for each assignment its rounding and the passes it has `left`.

        A pass begins at the first quantized block; blocks count as equally slow.
        """
        total = self.load + chunks * self.whole
        for assignment, passes in left.items():
            blocks = len(assignment)
            quantized = [index for index, level in enumerate(assignment) if level != RAW] or [blocks - 1]
            share = (blocks - 1 - quantized[0]) / max(1, blocks - 1)
            total += self.rounding * len(quantized) / blocks + passes * (self.last + share * (self.whole - self.last))
        return total if left else 0.0


def read_costs(path: Path) -> dict[str, Cost]:
    """Model -> its cost; empty where nothing was timed."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        return {
            row["model"]: Cost(row["model"], int(row["chunks"]), *(float(row[f.name]) for f in fields(Cost)[2:]))
            for row in csv.DictReader(stream)
        }


def write_costs(path: Path, costs: Iterable[Cost]) -> None:
    head = ",".join(field.name for field in fields(Cost))
    ordered = sorted(costs, key=lambda cost: cost.model)
    rows = [",".join(f"{v:.4f}" if isinstance(v, float) else str(v) for v in astuple(cost)) for cost in ordered]
    write_bytes(path, ("\n".join([head, *rows]) + "\n").encode())


def elapsed(seconds: Sequence[float], workers: int) -> float:
    """Time until all jobs are done when `workers` take them in this order, each the next one as soon as it is free."""
    free = [0.0] * workers
    for job in seconds:
        heapq.heapreplace(free, free[0] + job)
    return max(free)


def time_models(names: Iterable[str], cache: Path) -> None:
    """Write costs.csv: one row per model, and one for the table."""
    costs = read_costs(COSTS)
    for name in names:
        costs[name] = _time_table() if name == TABLE else _time_model(name, cache)
        print(costs[name], flush=True)
        write_costs(COSTS, costs.values())


def _cpu_seconds(task: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = task()
    return time.process_time() - start, found


def _time_model(name: str, cache: Path) -> Cost:
    """Of two chunks, the one that took less."""
    from quality_models import STUDIES

    load, (subject, chunks) = _cpu_seconds(lambda: STUDIES[name].load(STUDIES[name], cache))
    blocks = len(subject.blocks)
    turns = []
    for chunk in chunks[:2]:
        subject.prepare(chunk)
        whole, _ = _cpu_seconds(lambda chunk=chunk: list(subject.measure("4" + RAW * (blocks - 1), [chunk])))
        last, _ = _cpu_seconds(lambda chunk=chunk: list(subject.measure(RAW * (blocks - 1) + "4", [chunk])))
        rounding, _ = _cpu_seconds(lambda: subject.round_all("4"))
        turns.append((whole, last, rounding))
    return Cost(name, len(chunks), load, *(min(one) for one in zip(*turns, strict=True)))


def _time_table() -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(LOGS, Path(folder) / "logs"))
        return Cost(TABLE, 0, _cpu_seconds(lambda: table(copy))[0])


def left(name: str, logs: Path, single: bool, quick: bool, chunks: int) -> dict[str, int]:
    """Assignment -> passes of the protocol that `logs` lack. The plans are taken to be those of the committed logs."""
    from quality_models import STUDIES

    study = STUDIES[name]
    bits, mixes = ("4", ("4/raw",)) if quick else (study.bits, study.mixes)
    blocks = sum(count for _, _, count in stacks_of(study))
    wanted = alone(blocks, bits) if single else wanted_plans(name, LOGS, mixes)
    path = logs / f"{name}.csv"
    done = Log(path).done if path.is_file() else set()
    passes = {a: sum((a, number) not in done for number in study.chosen(chunks, single)) for a in wanted}
    return {assignment: count for assignment, count in passes.items() if count}


def estimate(names: Sequence[str], logs: Path, quick: bool, workers: int) -> tuple[list[str], list[str]]:
    """Print what is left to do and its cost; the models to measure block by block and by plans, longest job first."""
    from quality_models import STUDIES

    costs = read_costs(COSTS)
    untimed = [name for name in (*names, *([] if quick else [TABLE])) if name not in costs]
    costs |= {name: Cost(name, STUDIES[name].chunks if name in STUDIES else 0, load=0.0) for name in untimed}
    total = until = 0.0 if quick else costs[TABLE].load
    orders = []
    for single in (True, False):
        seconds: dict[str, float] = {}
        for name in names:
            lacks = left(name, logs, single, quick, costs[name].chunks)
            kind = "blocks alone" if single else "plans"
            if lacks:
                seconds[name] = costs[name].seconds(lacks, len(STUDIES[name].chosen(costs[name].chunks, single)))
                print(f"{name}, {kind}: {sum(lacks.values())} passes, {seconds[name]:.0f} CPU seconds")
        orders.append(sorted(seconds, key=lambda name: -seconds[name]))
        total += sum(seconds.values())
        until += elapsed([seconds[name] for name in orders[-1]], workers)
    print(f"estimate: {total:.0f} CPU seconds, {until / 60:.0f} minutes on {workers} cores; downloads not counted")
    if untimed:
        print(f"not timed, so not in the estimate: {', '.join(untimed)}")
    return orders[0], orders[1]
