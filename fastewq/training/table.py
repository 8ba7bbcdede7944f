"""The table of labelled blocks: read, checked and labelled under a chosen definition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fastewq.analysis.blocks import cut
from fastewq.errors import InvalidDataset, NotFound
from fastewq.features import FACTS
from fastewq.training.objectives import Objective, objective_named

MAX_BLOCKS: Final = 10_000_000
IDENTITY: Final = ("model", "family", "modality", "stack")
BLOCK: Final = ("model", "stack", "exec_index")
SENSITIVITIES: Final = "sensitivity.csv"
"""The table of measured sensitivities, beside the table of blocks; see `fastewq.training.sensitivity`."""


def entropy_column(epsilon: float, vectors: bool = False) -> str:
    """The column that holds the block entropies (nats) for an eps, over matrices or over all tensors."""
    return f"entropy_{'vectors_' if vectors else ''}{epsilon:g}"


@dataclass(frozen=True)
class Blocks:
    """Labelled blocks, one entry per block in every array.

    columns    the facts of `fastewq.features.FACTS`
    stacks     "model/stack", the unit within which a label compares blocks
    scores     what the objective scores a block by: its entropy in nats, or ln of its measured sensitivity
    labels     1 where the score is at most the mean of its stack; levels   keep, 8-bit or aggressive
    """

    objective: Objective

    columns: Mapping[str, NDArray[Any]]
    families: NDArray[np.str_]
    modalities: NDArray[np.str_]
    stacks: NDArray[np.str_]
    scores: NDArray[np.float64]
    labels: NDArray[np.int_]
    levels: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def standardised(self) -> NDArray[np.float64]:
        """(score - mean) / population standard deviation, within each stack."""
        found = np.empty(len(self))
        for stack in np.unique(self.stacks):
            rows = self.stacks == stack
            found[rows] = (self.scores[rows] - self.scores[rows].mean()) / (self.scores[rows].std() or 1.0)
        return found


def load_blocks(
    path: Path, *, objective: str = "entropy", epsilon: float = 0.01, vectors: bool = False, x: float = 1.0
) -> Blocks:
    """Read a CSV or Parquet table and label its blocks: a score of at most the mean of the stack means "quantize".

    The objective `sensitivity` takes its scores from `sensitivity.csv` beside the table, and has those stacks only that
    were measured. `epsilon` and `vectors` choose the entropy.

    Raises NotFound, and InvalidDataset where a column is missing, a value is impossible, a stack is incomplete, or
    there are fewer than two families (then nothing can be held out).
    """
    chosen = objective_named(objective)
    table = read_table(path)
    if chosen.name == "sensitivity":
        table = _with_sensitivities(table, path.with_name(SENSITIVITIES))
        column = "ln_divergence_4"
    else:
        column = entropy_column(epsilon, vectors)
    _check(table, path, column)
    stacks = (table["model"] + "/" + table["stack"]).to_numpy(dtype=str)
    scores = table[column].to_numpy(dtype=np.float64)
    levels = np.empty(len(table), dtype="U10")
    for stack in np.unique(stacks):
        rows = np.flatnonzero(stacks == stack)
        limits = cut(scores[rows].tolist(), x)
        levels[rows] = [limits.label(score) for score in scores[rows].tolist()]
    return Blocks(
        columns={name: table[name].to_numpy(dtype=str if name == "kind" else np.float64) for name in FACTS},
        families=table["family"].to_numpy(dtype=str),
        modalities=table["modality"].to_numpy(dtype=str),
        stacks=stacks,
        objective=chosen,
        scores=scores,
        labels=(levels != "keep").astype(int),
        levels=levels,
    )


def _with_sensitivities(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The rows of the stacks whose every block was measured, in the table's order, with ln of the divergence."""
    measured = read_table(path)
    missing = [name for name in (*BLOCK, "divergence_4") if name not in measured.columns]
    if missing:
        raise InvalidDataset(f"{path} lacks the columns {', '.join(missing)}")
    joined = table.merge(measured[[*BLOCK, "divergence_4"]], on=list(BLOCK), validate="one_to_one")
    whole = joined.groupby(["model", "stack"])["exec_index"].transform("size") == joined["num_blocks"]
    joined = joined[whole].reset_index(drop=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return joined.assign(ln_divergence_4=np.log(joined["divergence_4"].to_numpy(dtype=np.float64)))


def read_table(path: Path) -> pd.DataFrame:
    """The table as written, unchecked. Raises NotFound, InvalidDataset."""
    if not path.is_file():
        raise NotFound(
            f"{path} does not exist or is not a file", hint="Build it with `fastewq dataset build`, or pass --data."
        )
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, engine="pyarrow")
    except (ValueError, OSError) as error:
        raise InvalidDataset(f"{path} cannot be read as a table: {error}") from error


def _check(table: pd.DataFrame, path: Path, score: str) -> None:
    missing = [name for name in (*IDENTITY, *FACTS, score) if name not in table.columns]
    if missing:
        raise InvalidDataset(f"{path} lacks the columns {', '.join(missing)}")
    if not 0 < len(table) <= MAX_BLOCKS:
        raise InvalidDataset(f"{path} has {len(table)} rows; expected 1 to {MAX_BLOCKS}")
    numbers = [name for name in (*FACTS, score) if name != "kind"]
    for name in numbers:
        values = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise InvalidDataset(f"{path} row {row + 1}: {name} is {str(table[name].iloc[row])!r}; expected a number")
    for (model, stack), rows in table.groupby(["model", "stack"], sort=False):
        depth = int(rows["num_blocks"].iloc[0])
        if sorted(rows["exec_index"]) != list(range(depth)):
            raise InvalidDataset(f"{path}: {model}/{stack} does not have one row for each of its {depth} blocks")
    if table["family"].nunique() < 2:
        raise InvalidDataset(f"{path} has one family; expected at least two, so that one can be held out")
