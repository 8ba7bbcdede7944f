"""How far the predictor can be trusted: every figure is for blocks whose group was not trained on.

The headline is leave-one-family-out: all models of one family are held out together. The paper's protocol, a random
70:30 split of blocks, stands beside it; there, blocks of one model sit on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from fastewq.features import feature_matrix
from fastewq.policy import quantized_blocks
from fastewq.training.fit import SEED, Calibration, fit_booster, fit_calibration, margins
from fastewq.training.metrics import bootstrap_intervals, figures
from fastewq.training.table import Blocks

RANDOM_SPLITS: Final = 20
Fold = tuple[NDArray[np.intp], NDArray[np.intp]]
Predict = Callable[[Blocks, NDArray[np.intp], NDArray[np.intp]], NDArray[np.float64]]
"""(blocks, training rows, held-out rows) -> probability of "quantize" for the held-out rows."""


def leave_one_out(groups: NDArray[np.str_]) -> Iterator[Fold]:
    """One fold per distinct group, in sorted order."""
    for group in np.unique(groups):
        yield np.flatnonzero(groups != group), np.flatnonzero(groups == group)


def random_splits(labels: NDArray[np.int_]) -> Iterator[Fold]:
    """Stratified 70:30 splits of blocks, the paper's protocol repeated with fixed seeds."""
    splitter = StratifiedShuffleSplit(RANDOM_SPLITS, test_size=0.3, random_state=SEED)
    yield from splitter.split(labels, labels)


@dataclass(frozen=True)
class Booster:
    """The shipped procedure: XGBoost with its own probabilities; `calibrated` adds Platt scaling, for comparison."""

    features: tuple[str, ...] | None = None
    calibrated: bool = False

    def __call__(self, blocks: Blocks, train: NDArray[np.intp], held_out: NDArray[np.intp]) -> NDArray[np.float64]:
        booster = fit_booster(blocks, train, self.features)
        calibration = self.calibration(blocks, train) if self.calibrated else Calibration(1.0, 0.0)
        return calibration(margins(booster, self._matrix(blocks)[held_out]))

    def calibration(self, blocks: Blocks, train: NDArray[np.intp]) -> Calibration:
        """Platt scaling from a leave-one-family-out pass inside the training rows."""
        matrix = self._matrix(blocks)
        found = np.empty(len(train), dtype=np.float32)
        for inner, held_out in leave_one_out(blocks.families[train]):
            found[held_out] = margins(fit_booster(blocks, train[inner], self.features), matrix[train[held_out]])
        return fit_calibration(found, blocks.labels[train])

    def _matrix(self, blocks: Blocks) -> NDArray[np.float32]:
        return feature_matrix(blocks.columns, self.features or blocks.objective.features)


@dataclass(frozen=True)
class Classifier:
    """A scikit-learn classifier on standardised features."""

    make: Callable[[], ClassifierMixin]
    features: tuple[str, ...] | None = None

    def __call__(self, blocks: Blocks, train: NDArray[np.intp], held_out: NDArray[np.intp]) -> NDArray[np.float64]:
        matrix = feature_matrix(blocks.columns, self.features or blocks.objective.features)
        model = make_pipeline(StandardScaler(), self.make()).fit(matrix[train], blocks.labels[train])
        return np.asarray(model.predict_proba(matrix[held_out])[:, 1])


CLASSIFIERS: Final[dict[str, Predict]] = {
    "logistic_regression": Classifier(lambda: LogisticRegression(max_iter=1000)),
    "svm": Classifier(lambda: CalibratedClassifierCV(SVC(), cv=3, ensemble=False)),
    "random_forest": Classifier(lambda: RandomForestClassifier(300, min_samples_leaf=3, random_state=SEED)),
    "xgboost": Booster(),
    "k_nearest_neighbours": Classifier(lambda: KNeighborsClassifier(9)),
    "gaussian_naive_bayes": Classifier(lambda: GaussianNB()),
}
"""The six classifiers the paper compares."""


def _rate(blocks: Blocks, train: NDArray[np.intp]) -> float:
    """The share of quantized blocks, each stack weighing the same."""
    return float(
        np.mean([blocks.labels[train][blocks.stacks[train] == s].mean() for s in np.unique(blocks.stacks[train])])
    )


def _always_keep(_blocks: Blocks, _train: NDArray[np.intp], held_out: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.zeros(len(held_out))


def _training_rate(blocks: Blocks, train: NDArray[np.intp], held_out: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.full(len(held_out), _rate(blocks, train))


@dataclass(frozen=True)
class Positional:
    """Quantize the blocks of lowest `order` in each stack, as many as the training stacks do on average."""

    order: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    def __call__(self, blocks: Blocks, train: NDArray[np.intp], held_out: NDArray[np.intp]) -> NDArray[np.float64]:
        rate = _rate(blocks, train)
        found = np.zeros(len(held_out))
        for stack in np.unique(blocks.stacks[held_out]):
            rows = np.flatnonzero(blocks.stacks[held_out] == stack)
            index = blocks.columns["exec_index"][held_out][rows].astype(np.float64)
            rank = np.argsort(np.argsort(self.order(index / max(len(rows) - 1, 1)), kind="stable"))
            # A score that falls with rank and crosses one half at the rate, so that AUC means something too.
            found[rows] = np.clip(0.5 + rate - (rank + 0.5) / len(rows), 0, 1)
        return found


BASELINES: Final[dict[str, Predict]] = {
    "always_keep": _always_keep,
    "training_rate": _training_rate,
    "first_blocks": Positional(lambda depth: depth),
    "last_blocks": Positional(lambda depth: -depth),
    "middle_blocks": Positional(lambda depth: abs(depth - 0.5)),
    "logistic_on_depth": Classifier(lambda: LogisticRegression(), ("relative_depth",)),
}


def decide(
    blocks: Blocks, rows: NDArray[np.intp], probabilities: NDArray[np.float64], threshold: float | None
) -> NDArray[np.bool_]:
    """Which of the held-out rows are quantized, by the rule that plans use (`fastewq.policy.quantized_blocks`)."""
    found = np.zeros(len(rows), dtype=bool)
    for stack in np.unique(blocks.stacks[rows]):
        members = np.flatnonzero(blocks.stacks[rows] == stack)
        members = members[np.argsort(blocks.columns["exec_index"][rows[members]], kind="stable")]
        found[members[quantized_blocks(probabilities[members].tolist(), threshold)]] = True
    return found


def score(
    predict: Predict, blocks: Blocks, folds: Sequence[Fold], threshold: float | None = 0.5, intervals: bool = False
) -> dict[str, Any]:
    """All figures of one predictor under one protocol, over the held-out blocks of all folds together."""
    predicted = [(rows, predict(blocks, train, rows)) for train, rows in folds]
    rows = np.concatenate([rows for rows, _ in predicted])
    probabilities = np.concatenate([p for _, p in predicted])
    decisions = np.concatenate([decide(blocks, held_out, p, threshold) for held_out, p in predicted])
    labels = blocks.labels[rows]
    share = labels.mean()
    found: dict[str, Any] = {
        **figures(labels, probabilities, decisions),
        "larger_class": float(max(share, 1 - share)),
        "blocks": len(np.unique(rows)),
        "stacks": len(np.unique(blocks.stacks[rows])),
        "families": len(np.unique(blocks.families[rows])),
    }
    if intervals:
        found["intervals"] = bootstrap_intervals(labels, probabilities, decisions, blocks.families[rows].tolist())
    return found


def evaluate(blocks: Blocks) -> dict[str, Any]:
    """The document of `fastewq evaluate --json`."""
    by_family = list(leave_one_out(blocks.families))
    return {
        "leave_one_family_out": score(Booster(), blocks, by_family, threshold=None, intervals=True),
        "random_70_30": score(Booster(), blocks, list(random_splits(blocks.labels)), threshold=None),
        "leave_one_modality_out": score(Booster(), blocks, list(leave_one_out(blocks.modalities)), threshold=None),
        "baselines": {name: score(predict, blocks, by_family) for name, predict in BASELINES.items()},
        "classifiers": {name: score(predict, blocks, by_family) for name, predict in CLASSIFIERS.items()},
    }
