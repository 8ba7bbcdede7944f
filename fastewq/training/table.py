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

MAX_BLOCKS: Final = 10_000_000
IDENTITY: Final = ("model", "family", "modality", "stack")


def entropy_column(epsilon: float, vectors: bool = False) -> str:
    """The column that holds the block entropies (nats) for an eps, over matrices or over all tensors."""
    return f"entropy_{'vectors_' if vectors else ''}{epsilon:g}"


@dataclass(frozen=True)
class Blocks:
    """Labelled blocks, one entry per block in every array.

    columns    the facts of `fastewq.features.FACTS`
    stacks     "model/stack", the unit within which a label compares blocks
    entropies  block entropy in nats under the chosen definition
    labels     1 where the full analysis quantizes the block; levels   keep, 8-bit or aggressive
    """

    columns: Mapping[str, NDArray[Any]]
    families: NDArray[np.str_]
    modalities: NDArray[np.str_]
    stacks: NDArray[np.str_]
    entropies: NDArray[np.float64]
    labels: NDArray[np.int_]
    levels: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.labels)


def load_blocks(path: Path, *, epsilon: float = 0.01, vectors: bool = False, x: float = 1.0) -> Blocks:
    """Read a CSV or Parquet table and label its blocks: H <= mean of the stack means "quantize".

    Raises NotFound, and InvalidDataset where a column is missing, a value is impossible, a stack is incomplete, or
    there are fewer than two families (then nothing can be held out).
    """
    table = read_table(path)
    column = entropy_column(epsilon, vectors)
    _check(table, path, column)
    stacks = (table["model"] + "/" + table["stack"]).to_numpy(dtype=str)
    entropies = table[column].to_numpy(dtype=np.float64)
    levels = np.empty(len(table), dtype="U10")
    for stack in np.unique(stacks):
        rows = np.flatnonzero(stacks == stack)
        limits = cut(entropies[rows].tolist(), x)
        levels[rows] = [limits.label(entropy) for entropy in entropies[rows].tolist()]
    return Blocks(
        columns={name: table[name].to_numpy(dtype=str if name == "kind" else np.float64) for name in FACTS},
        families=table["family"].to_numpy(dtype=str),
        modalities=table["modality"].to_numpy(dtype=str),
        stacks=stacks,
        entropies=entropies,
        labels=(levels != "keep").astype(int),
        levels=levels,
    )


def read_table(path: Path) -> pd.DataFrame:
    """The table as written, unchecked. Raises NotFound, InvalidDataset."""
    if not path.is_file():
        raise NotFound(f"{path} does not exist", hint="Build it with `fastewq dataset build`, or pass --data.")
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, engine="pyarrow")
    except (ValueError, OSError) as error:
        raise InvalidDataset(f"{path} cannot be read as a table: {error}") from error


def _check(table: pd.DataFrame, path: Path, entropy: str) -> None:
    missing = [name for name in (*IDENTITY, *FACTS, entropy) if name not in table.columns]
    if missing:
        raise InvalidDataset(f"{path} lacks the columns {', '.join(missing)}")
    if not 0 < len(table) <= MAX_BLOCKS:
        raise InvalidDataset(f"{path} has {len(table)} rows; expected 1 to {MAX_BLOCKS}")
    numbers = [name for name in (*FACTS, entropy) if name != "kind"]
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
