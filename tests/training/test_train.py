from __future__ import annotations

import hashlib
import json

import pandas as pd
import pytest

from fastewq.errors import StorageFailure
from fastewq.predictor import OBJECTIVES, load_predictor
from fastewq.training.card import render
from fastewq.training.table import load_blocks
from fastewq.training.train import train


@pytest.fixture(scope="module")
def table(root, tmp_path_factory):
    """Three models of three families from the project's own table: enough to train, quick to evaluate."""
    rows = pd.read_csv(root / "training_data" / "blocks.csv", engine="pyarrow")
    chosen = rows[rows["model"].isin(["rxnfp-pretrained", "gemma-3-270m", "whisper-base"])]
    path = tmp_path_factory.mktemp("table") / "blocks.csv"
    chosen.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def artefact(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("artefact")
    train(table, folder)
    return folder


def test_training_twice_gives_the_same_bytes(table, artefact, tmp_path):
    train(table, tmp_path)
    for name in ("booster.json", "card.json"):
        assert (tmp_path / name).read_bytes() == (artefact / name).read_bytes()


def test_the_artefact_loads_and_its_card_says_what_it_was_trained_on(table, artefact):
    card = load_predictor(artefact).card
    assert card["trained_on"]["sha256"] == hashlib.sha256(table.read_bytes()).hexdigest()
    assert card["trained_on"]["families"] == ["gemma3", "rxnfp", "whisper"]
    assert card["metrics"]["leave_one_family_out"]["families"] == 3
    assert set(card["metrics"]["classifiers"]) >= {"xgboost", "random_forest", "gaussian_naive_bayes"}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_shipped_card_is_about_the_shipped_table(root, objective):
    card = json.loads((root / "models" / objective / "card.json").read_text())
    data = root / "training_data" / "blocks.csv"
    assert card["objective"] == objective
    assert card["trained_on"]["sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    if objective == "sensitivity":
        measured = data.with_name("sensitivity.csv")
        assert card["trained_on"]["sensitivity_sha256"] == hashlib.sha256(measured.read_bytes()).hexdigest()
    blocks = load_blocks(data, objective=objective)
    assert card["trained_on"]["blocks"] == card["metrics"]["leave_one_family_out"]["blocks"] == len(blocks)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_shipped_model_card_is_that_of_the_shipped_artefact(root, objective):
    folder = root / "models" / objective
    assert (folder / "model-card.md").read_text() == render(json.loads((folder / "card.json").read_text()))


def test_where_nothing_can_be_written_nothing_is_fitted(table, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("fastewq.training.train.fit_booster", pytest.fail)
    with pytest.raises(StorageFailure, match=r"the folder .*file cannot be made"):
        train(table, tmp_path / "file")
