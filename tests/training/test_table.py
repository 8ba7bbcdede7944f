from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastewq.errors import InvalidDataset, NotFound
from fastewq.features import FACTS
from fastewq.training.table import load_blocks


def rows(model: str, family: str, entropies: list[float]) -> pd.DataFrame:
    table = pd.DataFrame({name: [1.0] * len(entropies) for name in FACTS})
    return table.assign(
        kind="attention+dense",
        exec_index=range(len(entropies)),
        num_blocks=len(entropies),
        model=model,
        family=family,
        modality="text decoder",
        stack="decoder",
        **{"entropy_0.01": entropies},
    )


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.concat([rows("a", "x", [1.0, 2.0, 3.0, 4.0]), rows("b", "y", [5.0, 1.0])], ignore_index=True)


def save(table: pd.DataFrame, folder: Path, name: str = "blocks.csv") -> Path:
    path = folder / name
    table.to_parquet(path) if name.endswith(".parquet") else table.to_csv(path, index=False)
    return path


def test_labels_compare_a_block_with_the_mean_of_its_own_stack(table, tmp_path):
    blocks = load_blocks(save(table, tmp_path))
    assert blocks.labels.tolist() == [1, 1, 0, 0, 0, 1]
    assert blocks.levels.tolist() == ["aggressive", "8-bit", "keep", "keep", "keep", "aggressive"]
    assert load_blocks(save(table, tmp_path), x=2.0).levels.tolist()[0] == "8-bit"


def test_csv_and_parquet_give_the_same_blocks(table, tmp_path):
    table["entropy_0.01"] = table["entropy_0.01"] + 1e-16 + 1 / 3
    one, two = load_blocks(save(table, tmp_path)), load_blocks(save(table, tmp_path, "blocks.parquet"))
    np.testing.assert_array_equal(one.scores, two.scores)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda t: t.drop(columns="width"), "lacks the columns width"),
        (lambda t: t.drop(columns="entropy_0.01"), "lacks the columns entropy_0.01"),
        (lambda t: t.assign(width="wide"), "row 1: width is 'wide'"),
        (lambda t: t.assign(**{"entropy_0.01": [np.inf] + [1.0] * 5}), "row 1: entropy_0.01 is 'inf'"),
        (lambda t: t.drop(index=1), "a/decoder does not have one row for each of its 4 blocks"),
        (lambda t: pd.concat([t, t.tail(1)]), "b/decoder does not have one row"),
        (lambda t: t.assign(family="x"), "one family"),
        (lambda t: t.head(0), "0 rows"),
    ],
)
def test_a_bad_table_is_refused_with_its_reason(table, tmp_path, damage, words):
    with pytest.raises(InvalidDataset, match=words):
        load_blocks(save(damage(table), tmp_path))


def test_a_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "blocks.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(InvalidDataset, match="cannot be read"):
        load_blocks(tmp_path / "blocks.parquet")
    with pytest.raises(NotFound):
        load_blocks(tmp_path / "nowhere.csv")
