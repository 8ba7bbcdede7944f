"""Figures for predicted probabilities against labels, and their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    matthews_corrcoef,
    roc_auc_score,
)

CALIBRATION_BINS = 10
BOOTSTRAP_ROUNDS = 500


def expected_calibration_error(labels: NDArray[np.int_], probabilities: NDArray[np.float64]) -> float:
    """Mean |observed rate - mean probability| over ten equal-width bins, weighted by their size.

    Source: Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015.
    """
    bins = np.minimum((probabilities * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = [
        np.sum(bins == b) * abs(labels[bins == b].mean() - probabilities[bins == b].mean()) for b in np.unique(bins)
    ]
    return float(np.sum(gaps) / len(labels))


def figures(
    labels: NDArray[np.int_], probabilities: NDArray[np.float64], decisions: NDArray[np.bool_]
) -> dict[str, float]:
    """Every figure of the protocol. `decisions` are the blocks called "quantize"."""
    both = len(np.unique(labels)) == 2
    return {
        "accuracy": float(accuracy_score(labels, decisions)),
        "balanced_accuracy": float(balanced_accuracy_score(labels, decisions)) if both else float("nan"),
        "matthews": float(matthews_corrcoef(labels, decisions)) if both else float("nan"),
        "auc": float(roc_auc_score(labels, probabilities)) if both else float("nan"),
        "average_precision": float(average_precision_score(labels, probabilities)) if both else float("nan"),
        "brier": float(brier_score_loss(labels, probabilities)),
        "ece": expected_calibration_error(labels, probabilities),
    }


def bootstrap_intervals(
    labels: NDArray[np.int_],
    probabilities: NDArray[np.float64],
    decisions: NDArray[np.bool_],
    families: Sequence[str],
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of `figures`, resampling whole families: blocks of one family are not independent."""
    generator = np.random.default_rng(seed)
    names = np.asarray(families)
    rows = [np.flatnonzero(names == family) for family in np.unique(names)]
    draws: list[dict[str, float]] = []
    with config_context(assume_finite=True, skip_parameter_validation=True):
        for _ in range(BOOTSTRAP_ROUNDS):
            chosen = np.concatenate([rows[i] for i in generator.integers(len(rows), size=len(rows))])
            if len(np.unique(labels[chosen])) == 2:
                draws.append(figures(labels[chosen], probabilities[chosen], decisions[chosen]))
    return {name: tuple(np.quantile([draw[name] for draw in draws], [0.025, 0.975]).tolist()) for name in draws[0]}
