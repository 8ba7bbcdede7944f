from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from fastewq.errors import InvalidDataset, NotFound
from fastewq.features import FACTS
from fastewq.training.sensitivity import read_log, read_logs, write_sensitivities
from fastewq.training.table import load_blocks

ABOUT = {"stacks": [["a", "decoder", 2], ["b", "encoder", 1]], "measure": "kl", "text": "english"}
ROWS = [
    ("rrr", 0, 0.0, 3.0),
    ("4rr", 0, 0.2, 3.1),
    ("4rr", 3, 0.4, 3.2),
    ("r4r", 0, 0.1, 3.1),
    ("3rr", 0, 2.0, 5.0),
    ("44r", 1, 0.5, 3.3),
]


def save(folder, rows=ROWS, about=ABOUT, name="study"):
    (folder / f"{name}.json").write_text(json.dumps(about))
    lines = ["assignment,chunk,divergence,loss", *(",".join(map(str, row)) for row in rows)]
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


def test_a_log_gives_the_divergences_of_each_block_alone(tmp_path):
    save(tmp_path)
    log = read_log(tmp_path, "study")
    assert log.blocks == (("a", "decoder", 0), ("a", "decoder", 1), ("b", "encoder", 0))
    assert log.stacks == {("a", "decoder"): [0, 1], ("b", "encoder"): [2]}
    assert log.alone(0, "4") == {0: 0.2, 3: 0.4}
    assert log.alone(0, "3") == {0: 2.0}
    assert log.alone(2, "4") == {}
    assert log.losses["r4r"] == {0: 3.1}


def test_the_sensitivity_of_a_block_is_the_mean_over_chunks(tmp_path):
    save(tmp_path)
    assert write_sensitivities(tmp_path, tmp_path / "sensitivity.csv") == 2
    table = pd.read_csv(tmp_path / "sensitivity.csv")
    assert table["divergence_4"].tolist() == [0.3, 0.1]
    assert table["chunks"].tolist() == [2, 1]
    assert table["error_4"][0] == pytest.approx(0.1)
    assert np.isnan(table["error_4"][1])
    assert table["divergence_3"][0] == 2.0
    assert table["divergence_8"].isna().all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("4r", 0, 0.1, 1.0)], "expected 3 characters"),
        ([("5rr", 0, 0.1, 1.0)], "expected 3 characters"),
        ([("4rr", 0, "nan", 1.0)], "expected a number"),
        ([("4rr", "x", 0.1, 1.0)], "cannot be read"),
    ],
)
def test_a_row_that_is_no_measurement_is_refused(tmp_path, rows, message):
    save(tmp_path, rows)
    with pytest.raises(InvalidDataset, match=message):
        read_log(tmp_path, "study")


def test_a_folder_without_logs_and_a_damaged_description_are_refused(tmp_path):
    with pytest.raises(NotFound):
        read_logs(tmp_path)
    save(tmp_path, about={"stacks": 3})
    with pytest.raises(InvalidDataset):
        read_logs(tmp_path)


def test_the_committed_table_follows_from_the_committed_logs(root, tmp_path):
    write_sensitivities(root / "training_data" / "quality", tmp_path / "sensitivity.csv")
    committed = root / "training_data" / "sensitivity.csv"
    assert (tmp_path / "sensitivity.csv").read_bytes() == committed.read_bytes()


def blocks_table(model: str, family: str, count: int) -> pd.DataFrame:
    table = pd.DataFrame({name: [1.0] * count for name in FACTS})
    return table.assign(
        kind="k",
        exec_index=range(count),
        num_blocks=count,
        model=model,
        family=family,
        modality="text decoder",
        stack="decoder",
    )


def test_labels_of_measured_sensitivity_are_for_whole_stacks_only(tmp_path):
    table = pd.concat([blocks_table("a", "x", 2), blocks_table("b", "y", 3), blocks_table("c", "z", 2)])
    table.to_csv(tmp_path / "blocks.csv", index=False)
    measured = [("a", 0, 0.1), ("a", 1, 0.3), ("b", 0, 0.1), ("c", 0, 0.5), ("c", 1, 0.5)]
    rows = pd.DataFrame(measured, columns=["model", "exec_index", "divergence_4"]).assign(stack="decoder")
    rows.to_csv(tmp_path / "sensitivity.csv", index=False)
    blocks = load_blocks(tmp_path / "blocks.csv", objective="sensitivity")
    assert set(blocks.stacks) == {"a/decoder", "c/decoder"}
    assert blocks.labels.tolist() == [1, 0, 1, 1]
    np.testing.assert_allclose(blocks.scores, np.log([0.1, 0.3, 0.5, 0.5]))
    np.testing.assert_allclose(blocks.standardised, [-1, 1, 0, 0])


def test_a_block_without_any_damage_has_no_logarithm_and_is_refused(tmp_path):
    table = pd.concat([blocks_table("a", "x", 2), blocks_table("b", "y", 2)])
    table.to_csv(tmp_path / "blocks.csv", index=False)
    rows = table[["model", "stack", "exec_index"]].assign(divergence_4=[0.0, 0.1, 0.1, 0.2])
    rows.to_csv(tmp_path / "sensitivity.csv", index=False)
    with pytest.raises(InvalidDataset, match="ln_divergence_4"):
        load_blocks(tmp_path / "blocks.csv", objective="sensitivity")
