from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from fastewq.features import FACTS
from fastewq.training.evaluation import (
    BASELINES,
    CLASSIFIERS,
    Booster,
    decide,
    leave_one_out,
    random_splits,
    score,
)
from fastewq.training.metrics import bootstrap_intervals, expected_calibration_error, figures
from fastewq.training.objectives import OBJECTIVES
from fastewq.training.table import Blocks

DEPTH = 12


def made_up(families: int, rule) -> Blocks:
    """Stacks of equal depth whose labels follow `rule(relative depth)`, one stack per family."""
    index = np.tile(np.arange(DEPTH), families)
    names = np.repeat([f"family{i}" for i in range(families)], DEPTH)
    labels = np.array([int(rule(i / (DEPTH - 1))) for i in index])
    columns = {name: np.ones(len(index)) for name in FACTS}
    columns |= {"exec_index": index, "num_blocks": np.full(len(index), DEPTH), "kind": np.full(len(index), "k")}
    return Blocks(
        columns=columns,
        families=names,
        modalities=names,
        stacks=names,
        objective=OBJECTIVES["entropy"],
        scores=1.0 - labels,
        labels=labels,
        levels=np.where(labels == 1, "8-bit", "keep"),
    )


def test_no_fold_trains_on_the_family_it_holds_out():
    families = np.array(["b", "a", "b", "c"])
    folds = list(leave_one_out(families))
    assert sorted(np.concatenate([held for _, held in folds]).tolist()) == [0, 1, 2, 3]
    for train, held_out in folds:
        assert not set(families[train]) & set(families[held_out])


def test_random_splits_are_70_30_and_the_same_each_time():
    labels = np.array([0, 1] * 50)
    one, two = list(random_splits(labels)), list(random_splits(labels))
    assert all(len(train) == 70 and len(held) == 30 for train, held in one)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(one, two, strict=True))


def test_a_law_that_holds_for_every_family_is_learned():
    blocks = made_up(6, lambda depth: depth > 0.6)
    found = score(Booster(), blocks, list(leave_one_out(blocks.families)), threshold=None)
    assert found["accuracy"] > 0.9
    assert found["families"] == 6
    assert found["blocks"] == 6 * DEPTH


def test_labels_without_a_law_are_not_learned():
    generator = np.random.default_rng(0)
    blocks = made_up(12, lambda depth: generator.random() < 0.5)
    found = score(Booster(), blocks, list(leave_one_out(blocks.families)), threshold=None)
    assert 0.3 < found["auc"] < 0.7


@pytest.mark.parametrize("name", [*BASELINES, *CLASSIFIERS])
def test_every_baseline_and_classifier_gives_probabilities(name):
    blocks = made_up(4, lambda depth: depth > 0.6)
    train, held_out = next(leave_one_out(blocks.families))
    probabilities = (BASELINES | CLASSIFIERS)[name](blocks, train, held_out)
    assert probabilities.shape == held_out.shape
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_the_last_blocks_baseline_is_perfect_where_the_last_blocks_are_quantized():
    blocks = made_up(4, lambda depth: depth > 0.6)
    folds = list(leave_one_out(blocks.families))
    assert score(BASELINES["last_blocks"], blocks, folds)["balanced_accuracy"] == 1.0
    assert score(BASELINES["first_blocks"], blocks, folds)["balanced_accuracy"] < 0.5


def test_decisions_follow_the_rule_of_plans_stack_by_stack():
    blocks = made_up(2, lambda depth: depth > 0.6)
    rows = np.arange(len(blocks))[::-1]
    probabilities = np.where(blocks.columns["exec_index"][rows] >= DEPTH - 3, 0.4, 0.2)
    chosen = rows[decide(blocks, rows, probabilities, None)]
    assert sorted(chosen.tolist()) == [9, 10, 11, 21, 22, 23]


def test_figures_on_known_numbers():
    labels = np.array([0, 0, 1, 1])
    found = figures(labels, np.array([0.1, 0.6, 0.4, 0.9]), np.array([False, True, False, True]))
    assert found["accuracy"] == 0.5
    assert found["auc"] == 0.75
    assert found["brier"] == pytest.approx((0.01 + 0.36 + 0.36 + 0.01) / 4)


@pytest.mark.parametrize("seed", range(20))
def test_figures_are_those_of_scikit_learn(seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, 60)
    probabilities = random.integers(0, 30, 60) / 30  # with ties
    decisions = probabilities > (0.5 if seed else 2)  # none is called "quantize" in the first
    found = figures(labels, probabilities, decisions)
    expected = {
        "accuracy": metrics.accuracy_score(labels, decisions),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, decisions),
        "matthews": metrics.matthews_corrcoef(labels, decisions),
        "auc": metrics.roc_auc_score(labels, probabilities),
        "average_precision": metrics.average_precision_score(labels, probabilities),
        "brier": metrics.brier_score_loss(labels, probabilities),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-14)


def test_figures_of_one_label_alone_leave_out_what_needs_both():
    found = figures(np.ones(4, int), np.array([0.1, 0.6, 0.4, 0.9]), np.array([False, True, False, True]))
    assert [name for name, value in found.items() if np.isnan(value)] == [
        "balanced_accuracy",
        "matthews",
        "auc",
        "average_precision",
    ]
    assert found["accuracy"] == 0.5


def test_expected_calibration_error_on_known_numbers():
    assert expected_calibration_error(np.array([0, 1]), np.array([0.0, 1.0])) == 0
    assert expected_calibration_error(np.array([1, 1]), np.array([0.75, 0.75])) == pytest.approx(0.25)


def test_intervals_resample_families_and_hold_the_estimate():
    blocks = made_up(8, lambda depth: depth > 0.6)
    probabilities = np.clip(blocks.labels * 0.4 + 0.3 + 0.1 * np.sin(np.arange(len(blocks))), 0, 1)
    intervals = bootstrap_intervals(blocks.labels, probabilities, probabilities > 0.5, blocks.families.tolist())
    low, high = intervals["accuracy"]
    assert low <= figures(blocks.labels, probabilities, probabilities > 0.5)["accuracy"] <= high
