from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st

from fastewq.config import read_config
from fastewq.errors import InputError, InvalidArtefact
from fastewq.features import FEATURES, SELECTED, block_columns, feature_matrix
from fastewq.predictor import (
    DEFAULT_OBJECTIVE,
    OBJECTIVES,
    Grid,
    load_predictor,
    parse_booster,
    rounded,
    shipped_folder,
)
from fastewq.training.artefact import write_artefact

NAMES = SELECTED


def booster(depth: int, rounds: int, seed: int, **more: float) -> tuple[xgb.Booster, np.ndarray]:
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(300, len(NAMES))).astype(np.float32)
    labels = (matrix[:, 0] + generator.normal(size=300) > 0).astype(int)
    data = xgb.DMatrix(matrix, labels, feature_names=list(NAMES))
    parameters = {"objective": "binary:logistic", "max_depth": depth, "nthread": 1, "seed": seed, **more}
    return xgb.train(parameters, data, rounds), matrix


@settings(max_examples=25)
@given(depth=st.integers(1, 6), rounds=st.integers(1, 40), seed=st.integers(0, 1000), gamma=st.sampled_from([0, 3]))
def test_margins_are_those_of_xgboost_to_the_last_bit_in_any_batch(depth, rounds, seed, gamma):
    model, matrix = booster(depth, rounds, seed, gamma=gamma, base_score=0.5)
    trees, names = parse_booster(bytes(model.save_raw("json")))
    expected = model.predict(xgb.DMatrix(matrix, feature_names=list(NAMES)), output_margin=True)
    assert names == NAMES
    np.testing.assert_array_equal(trees.margins(matrix), expected)
    np.testing.assert_array_equal(np.concatenate([trees.margins(row[None]) for row in matrix[:20]]), expected[:20])


@settings(max_examples=25)
@given(depth=st.integers(1, 4), rounds=st.integers(1, 8), seed=st.integers(0, 1000))
def test_the_table_of_an_ensemble_gives_its_margins_to_the_last_bit(depth, rounds, seed):
    model, matrix = booster(depth, rounds, seed, max_bin=8)
    trees, _ = parse_booster(bytes(model.save_raw("json")))
    grid = Grid.of(trees, len(NAMES))
    assert grid is not None
    on_edges = np.stack([np.resize(np.append(edge, 0), 100) for edge in grid.edges], axis=1)
    for rows in (matrix, on_edges.astype(np.float32)):
        np.testing.assert_array_equal(grid.margins(rows), trees.margins(rows))


def test_an_ensemble_with_too_many_cells_is_walked():
    trees, _ = parse_booster(bytes(booster(6, 40, 0)[0].save_raw("json")))
    assert Grid.of(trees, len(NAMES)) is None


SHAPES = [
    {"model_type": "llama", "num_hidden_layers": 7},
    {"model_type": "llama", "num_hidden_layers": 7, "intermediate_size": 4096},
    {"model_type": "bert", "num_hidden_layers": 12},
    {"model_type": "t5", "num_layers": 3, "num_decoder_layers": 5},
    {"model_type": "deepseek_v3", "num_hidden_layers": 6},
    {"model_type": "llama", "num_hidden_layers": 0},
]


@pytest.mark.parametrize("config", SHAPES, ids=lambda config: config["model_type"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_probabilities_of_whole_stacks_are_those_of_their_blocks(objective, config):
    predictor, model = load_predictor(objective=objective), read_config(config)
    assert predictor.of_model(model) == rounded(predictor.probabilities(block_columns(model)))
    assert predictor.of_model(model) == predictor.of_model(model)


@pytest.mark.parametrize(
    "names",
    [("relative_depth", "kv_ratio"), ("exec_index", "post_norm"), ("exec_index", "log_parameters"), tuple(FEATURES)],
)
def test_any_features_give_a_model_the_probabilities_of_its_blocks(tmp_path, names):
    """Also features that differ from block to block, which no profile of a stack can hold."""
    model = read_config({"model_type": "deepseek_v3", "num_hidden_layers": 6})
    matrix = feature_matrix(block_columns(model), names)
    rows = np.concatenate([matrix + step for step in np.linspace(-0.5, 0.5, 40, dtype=np.float32)])
    data = xgb.DMatrix(rows, np.arange(len(rows)) % 2, feature_names=list(names))
    fitted = xgb.train({"objective": "binary:logistic", "max_depth": 2, "max_bin": 4, "nthread": 1}, data, 3)
    card = json.loads((shipped_folder(DEFAULT_OBJECTIVE) / "card.json").read_text("utf-8"))
    kept = {k: card[k] for k in card if k not in {"format", "version", "features", "booster_sha256", "golden"}}
    write_artefact(tmp_path / "own", fitted, rows, kept)
    predictor = load_predictor(tmp_path / "own")
    assert predictor.of_model(read_config(SHAPES[-1])) == ()
    assert predictor.of_model(model) == rounded(predictor.probabilities(block_columns(model)))


def test_another_base_score_moves_every_margin():
    model, matrix = booster(2, 5, 0, base_score=0.3)
    trees, _ = parse_booster(bytes(model.save_raw("json")))
    expected = model.predict(xgb.DMatrix(matrix, feature_names=list(NAMES)), output_margin=True)
    np.testing.assert_allclose(trees.margins(matrix), expected, rtol=1e-6, atol=1e-6)


def test_a_value_equal_to_a_threshold_goes_right_as_in_xgboost():
    matrix = np.repeat(np.arange(4, dtype=np.float32), 50)[:, None] * np.ones(len(NAMES), dtype=np.float32)
    data = xgb.DMatrix(matrix, (matrix[:, 0] >= 2).astype(int), feature_names=list(NAMES))
    model = xgb.train({"objective": "binary:logistic", "max_depth": 2, "tree_method": "exact"}, data, 3)
    trees, _ = parse_booster(bytes(model.save_raw("json")))
    edges = trees.thresholds[np.isfinite(trees.thresholds)][:, None] * np.ones(len(NAMES), dtype=np.float32)
    expected = model.predict(xgb.DMatrix(edges, feature_names=list(NAMES)), output_margin=True)
    np.testing.assert_allclose(trees.margins(edges), expected, rtol=2e-7)


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    model, matrix = booster(3, 20, 0)
    card = {
        "objective": "entropy",
        "threshold": 0.5,
        "aggressive_share": 0.3,
        "calibration": {"slope": 1.0, "intercept": 0.0},
        "domain": {"ranges": {}, "kinds": []},
        "trained_on": {"blocks": 300},
    }
    write_artefact(tmp_path / "a", model, matrix, card)
    return tmp_path / "a"


def test_a_written_artefact_loads(artefact):
    assert load_predictor(artefact).features == NAMES


def test_the_same_training_writes_the_same_bytes(artefact, tmp_path):
    model, matrix = booster(3, 20, 0)
    card = json.loads((artefact / "card.json").read_text())
    written = {k: card[k] for k in card if k not in {"format", "version", "features", "booster_sha256", "golden"}}
    write_artefact(tmp_path / "b", model, matrix, written)
    for name in ("booster.json", "card.json"):
        assert (tmp_path / "b" / name).read_bytes() == (artefact / name).read_bytes()


def edit_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **changes}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "booster.json").unlink(), "booster.json cannot be read"),
        (lambda folder: (folder / "card.json").unlink(), "card.json cannot be read"),
        (lambda folder: (folder / "card.json").write_text("{"), "card.json is damaged"),
        (lambda folder: (folder / "card.json").write_text("[]"), "card.json is damaged"),
        (lambda folder: edit_card(folder, format=2), "format 2; this version of fastewq reads format 1"),
        (lambda folder: (folder / "booster.json").write_bytes(b"{}"), "SHA-256"),
        (lambda folder: edit_card(folder, features=["exec_index"]), "lists features"),
        (lambda folder: edit_card(folder, golden={"rows": [[0] * len(NAMES)], "margins": [9.0]}), "golden"),
    ],
)
def test_a_damaged_artefact_is_refused_with_its_reason(artefact, damage, words):
    damage(artefact)
    with pytest.raises(InvalidArtefact, match=words):
        load_predictor(artefact)


def test_another_kind_of_model_is_refused():
    with pytest.raises(InvalidArtefact, match="binary:logistic"):
        parse_booster(b'{"learner": {"objective": {"name": "reg:squarederror"}}}')


def test_the_shipped_artefact_is_sound():
    assert load_predictor().features


def test_each_objective_has_a_predictor_of_its_own():
    found = {name: load_predictor(objective=name) for name in OBJECTIVES}
    assert [predictor.objective for predictor in found.values()] == list(OBJECTIVES)
    assert len({predictor.version for predictor in found.values()}) == len(OBJECTIVES)
    assert load_predictor() is found[DEFAULT_OBJECTIVE]


def test_a_folder_of_another_objective_and_an_unknown_one_are_refused():
    folder = shipped_folder("entropy")
    assert load_predictor(folder, "entropy").version == load_predictor(objective="entropy").version
    with pytest.raises(InputError, match="'sensitivity'; the predictor in"):
        load_predictor(folder, "sensitivity")
    with pytest.raises(InputError, match="expected one of entropy, sensitivity"):
        load_predictor(objective="luck")
    with pytest.raises(InputError, match="objective is an integer of 16610 bits"):
        load_predictor(objective=10**5000)
