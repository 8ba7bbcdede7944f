"""The logs of `benchmarks/quality.py` -> measured sensitivities, one row per block.

A log, `training_data/quality/NAME.csv`, has one row per assignment of precisions and chunk of text. `NAME.json` beside
it says which blocks the characters of an assignment stand for, what the divergence is and which text was read. The
sensitivity of a block is the mean divergence over chunks when that block alone is quantized.
"""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from fastewq.errors import InvalidDataset, NotFound
from fastewq.files import save_csv

RAW: Final = "r"
BITS: Final = ("8", "4", "3")
LOG_COLUMNS: Final = ("assignment", "chunk", "divergence", "loss")
MAX_LOG_BYTES: Final = 64 * 2**20


@dataclass(frozen=True)
class QualityLog:
    """What was measured of one model.

    blocks        (model, stack, exec_index) of every character of an assignment, as in the table of blocks
    measure       `kl`: KL(unquantized || quantized) in nats a token; `states`: ||h - h0||^2 / ||h0||^2 of the final
                  hidden states
    text          what was read
    divergences   assignment -> chunk -> divergence;  losses   the same for the loss (see benchmarks/quality_forward.py)
    """

    name: str
    blocks: tuple[tuple[str, str, int], ...]
    measure: str
    text: str
    divergences: Mapping[str, Mapping[int, float]]
    losses: Mapping[str, Mapping[int, float]]

    def alone(self, index: int, bits: str) -> Mapping[int, float]:
        """Divergence per chunk with only one block quantized; empty where that was not measured."""
        assignment = RAW * index + bits + RAW * (len(self.blocks) - index - 1)
        return self.divergences.get(assignment, {})

    @property
    def stacks(self) -> dict[tuple[str, str], list[int]]:
        """(model, stack) -> the positions of its blocks in an assignment, in execution order."""
        found: dict[tuple[str, str], list[int]] = defaultdict(list)
        for position, (model, stack, _) in enumerate(self.blocks):
            found[model, stack].append(position)
        return dict(found)


def read_logs(folder: Path) -> list[QualityLog]:
    """Every log of a folder, by name. Raises NotFound where there is none, InvalidDataset naming file and row."""
    names = sorted(path.stem for path in folder.glob("*.json") if path.with_suffix(".csv").is_file())
    if not names:
        raise NotFound(f"{folder} holds no measurements", hint="Make them with benchmarks/quality.py.")
    return [read_log(folder, name) for name in names]


def read_log(folder: Path, name: str) -> QualityLog:
    """One log. Raises InvalidDataset where a row is not a measurement of the blocks that are announced."""
    path = folder / f"{name}.csv"
    try:
        about = json.loads((folder / f"{name}.json").read_bytes())
        blocks = tuple((model, stack, i) for model, stack, count in about["stacks"] for i in range(count))
        if path.stat().st_size > MAX_LOG_BYTES:
            raise InvalidDataset(f"{path} has {path.stat().st_size} bytes; a log has at most {MAX_LOG_BYTES}")
        divergences: dict[str, dict[int, float]] = defaultdict(dict)
        losses: dict[str, dict[int, float]] = defaultdict(dict)
        for row in _rows(path):
            _check(row, len(blocks), path)
            divergences[row["assignment"]][int(row["chunk"])] = float(row["divergence"])
            losses[row["assignment"]][int(row["chunk"])] = float(row["loss"])
        return QualityLog(name, blocks, str(about["measure"]), str(about["text"]), dict(divergences), dict(losses))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidDataset(f"{path} and its description cannot be read: {error!r}") from error


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != LOG_COLUMNS:
            raise InvalidDataset(f"{path} has the columns {reader.fieldnames}; expected {', '.join(LOG_COLUMNS)}")
        yield from reader


def _check(row: Mapping[str, str], blocks: int, path: Path) -> None:
    assignment = row["assignment"]
    if len(assignment) != blocks or set(assignment) - {RAW, *BITS}:
        raise InvalidDataset(f"{path}: assignment {assignment[:80]!r}; expected {blocks} characters of r, 8, 4, 3")
    if not math.isfinite(float(row["divergence"])):
        raise InvalidDataset(f"{path}: divergence of {assignment} is {row['divergence']!r}; expected a number")


def sensitivity_rows(logs: Sequence[QualityLog]) -> list[dict[str, Any]]:
    """One row per block that was measured at 4 bits: mean divergence at each precision and its standard error."""
    rows = []
    for log in logs:
        for position, (model, stack, exec_index) in enumerate(log.blocks):
            if not log.alone(position, "4"):
                continue
            row: dict[str, Any] = {"model": model, "stack": stack, "exec_index": exec_index, "measure": log.measure}
            for bits in BITS:
                found = np.array(list(log.alone(position, bits).values()))
                row[f"divergence_{bits}"] = _rounded(found.mean()) if len(found) else None
                error = found.std(ddof=1) / math.sqrt(len(found)) if len(found) > 1 else None
                row[f"error_{bits}"] = None if error is None else _rounded(error)
            rows.append(row | {"chunks": len(log.alone(position, "4"))})
    return rows


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def write_sensitivities(folder: Path, output: Path) -> int:
    """Write the table of sensitivities of every log of a folder; how many blocks it has.

    Raises NotFound where no log measured a block alone, and StorageFailure.
    """
    rows = sensitivity_rows(read_logs(folder))
    if not rows:
        raise NotFound(f"{folder} holds no log in which a block was measured alone")
    save_csv(output, rows)
    return len(rows)
