"""Fit the booster: one place for its parameters, used by `train` and by every split of the evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from fastewq.features import feature_matrix
from fastewq.predictor import parse_booster
from fastewq.training.objectives import Objective
from fastewq.training.table import Blocks

SEED: Final = 20250304
ROUNDS: Final = 8
PARAMETERS: Final[dict[str, Any]] = {
    "objective": "binary:logistic",
    "base_score": 0.5,
    "max_depth": 3,
    "eta": 0.3,
    # Each round adds the mean of ten small trees on different rows and features: with a few hundred blocks, single
    # trees follow one family, and their probabilities are too sure of themselves.
    "num_parallel_tree": 10,
    "subsample": 0.6,
    "colsample_bytree": 0.7,
    "lambda": 1.0,
    "min_child_weight": 2.0,
    "tree_method": "exact",
    "nthread": 1,
    "seed": SEED,
}

GRADED_SLOPE: Final = 2.0
"""How steeply the target of a graded objective falls with the standardised score."""


def parameters(objective: Objective, names: tuple[str, ...]) -> dict[str, Any]:
    """XGBoost's parameters for a booster that reads these features."""
    # A graded target near one half carries a quarter of a block's weight in the Hessian sum that this limits.
    child = {"min_child_weight": PARAMETERS["min_child_weight"] / 4} if objective.graded else {}
    constraints = tuple(-1 if name in objective.falling else 0 for name in names)
    return {**PARAMETERS, **child, "monotone_constraints": constraints}


def target(blocks: Blocks) -> NDArray[np.float64]:
    """What the booster learns: the labels, or for a graded objective sigmoid(-slope x standardised score)."""
    if not blocks.objective.graded:
        return blocks.labels.astype(np.float64)
    return np.asarray(1 / (1 + np.exp(GRADED_SLOPE * blocks.standardised)))


def fit_booster(
    blocks: Blocks, rows: NDArray[np.intp] | slice = slice(None), names: tuple[str, ...] | None = None
) -> xgb.Booster:
    """Train on `rows`, each stack weighing the same whatever its depth. Deterministic: one thread, one seed."""
    names = names or blocks.objective.features
    matrix = feature_matrix(blocks.columns, names)[rows]
    weights = stack_weights(blocks.stacks[rows])
    data = xgb.DMatrix(matrix, target(blocks)[rows], weight=weights, feature_names=list(names))
    return xgb.train(parameters(blocks.objective, names), data, ROUNDS)


def stack_weights(stacks: NDArray[np.str_]) -> NDArray[np.float64]:
    """Weight per block, so that all stacks sum to the same and the mean weight is 1."""
    _, index, counts = np.unique(stacks, return_inverse=True, return_counts=True)
    return np.asarray(len(stacks) / (len(counts) * counts[index]))


def margins(booster: xgb.Booster, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-odds by the same tree walk that serves predictions."""
    trees, _ = parse_booster(bytes(booster.save_raw("json")))
    return trees.margins(matrix)


@dataclass(frozen=True)
class Calibration:
    """Platt scaling: probability = sigmoid(slope * margin + intercept).

    Source: Platt, "Probabilistic outputs for support vector machines", 1999.
    """

    slope: float
    intercept: float

    def __call__(self, margin: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        return np.asarray(1 / (1 + np.exp(-(self.slope * margin.astype(np.float64) + self.intercept))))


def fit_calibration(held_out_margins: NDArray[np.float32], labels: NDArray[np.int_]) -> Calibration:
    """Fit on margins of blocks whose family the booster had not seen. Lightly regularised, slope kept positive."""
    model = LogisticRegression(C=10.0).fit(held_out_margins.astype(np.float64)[:, None], labels)
    return Calibration(max(float(model.coef_[0, 0]), 1e-3), float(model.intercept_[0]))
