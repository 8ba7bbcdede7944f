"""The tables of the datasheet, from the data: `python -m fastewq.training.dataset_summary training_data/blocks.csv`."""

from __future__ import annotations

import csv
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path

Row = dict[str, str]


def summary(blocks: Path) -> str:
    """Totals, one line per stack and one per group of each kind, as Markdown."""
    with blocks.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    stacks = [list(members) for _, members in groupby(rows, lambda row: (row["model"], row["stack"]))]
    models, families = ({row[name] for row in rows} for name in ("model", "family"))
    return "\n".join(
        [
            f"{len(rows)} blocks of {len(stacks)} stacks, {len(models)} models, {len(families)} families; "
            f"{_share(rows)} of the blocks are quantized by the full analysis.",
            "",
            *_table(
                "model | stack | family | modality | stored | licence | blocks | quantized | aggressive "
                "| parameters of a block | mean entropy | standard deviation",
                (_stack_cells(members) for members in stacks),
            ),
            "",
            *_groups(rows, "modality", lambda row: row["modality"]),
            "",
            *_groups(rows, "stored as", lambda row: "8 bits or fewer" if "Q" in _types(row) else _types(row)),
            "",
            *_groups(rows, "kind", lambda row: row["kind"]),
        ]
    )


def _stack_cells(members: Sequence[Row]) -> list[str]:
    first = members[0]
    entropies = [float(row["entropy_0.01"]) for row in members]
    return [
        *(first[name] for name in ("model", "stack", "family", "modality", "stored", "licence")),
        str(len(members)),
        str(sum(int(row["quantized"]) for row in members)),
        str(sum(row["label"] == "aggressive" for row in members)),
        _range({int(row["num_parameters"]) for row in members}),
        f"{statistics.fmean(entropies):.6f}",
        f"{statistics.pstdev(entropies):.1e}",
    ]


def _groups(rows: Sequence[Row], name: str, key: Callable[[Row], str]) -> list[str]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return _table(
        f"{name} | blocks | quantized",
        ([value, str(len(members)), _share(members)] for value, members in groups.items()),
    )


def _types(row: Row) -> str:
    """`Q` for weights that were quantized and dequantized, else the floating-point type."""
    return "Q" if "Q" in row["stored"] or "INT8" in row["stored"] else row["stored"]


def _share(rows: Sequence[Row]) -> str:
    return f"{100 * statistics.fmean(int(row['quantized']) for row in rows):.1f} %"


def _range(values: set[int]) -> str:
    return f"{min(values):,}" if len(values) == 1 else f"{min(values):,} to {max(values):,}"


def _table(header: str, rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {header} |", "|" + " --- |" * (header.count("|") + 1), *(f"| {' | '.join(row)} |" for row in rows)]


if __name__ == "__main__":
    print(summary(Path(sys.argv[1])))
