"""Figures for predicted probabilities against labels, and their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

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


def area_under_curve(labels: NDArray[np.int_], probabilities: NDArray[np.float64]) -> float:
    """The share of pairs of a quantized and a kept block that the probabilities order rightly; ties count half."""
    ones = int(labels.sum())
    ranks = rankdata(probabilities)[labels == 1].sum()
    return float((ranks - ones * (ones + 1) / 2) / (ones * (len(labels) - ones)))


def spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's rank correlation along the last axis; equal values share a rank. NaN where all of one are equal."""
    ranks = [rankdata(values, axis=-1) for values in (one, other)]
    first, second = (found - found.mean(axis=-1, keepdims=True) for found in ranks)
    with np.errstate(invalid="ignore"):
        product = (first * second).sum(axis=-1)
        return np.asarray(product / np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1)))


def average_precision(labels: NDArray[np.int_], probabilities: NDArray[np.float64]) -> float:
    """Precision at each distinct probability as the threshold, weighted by the recall gained there."""
    order = np.argsort(-probabilities, kind="stable")
    last = np.flatnonzero(np.append(np.diff(probabilities[order]) != 0, True))  # where a run of equal ones ends
    found = np.cumsum(labels[order])[last]
    gained = np.diff(found, prepend=0) / labels.sum()
    return float(np.sum(gained * found / (last + 1)))


def figures(
    labels: NDArray[np.int_], probabilities: NDArray[np.float64], decisions: NDArray[np.bool_]
) -> dict[str, float]:
    """Every figure of the protocol, as scikit-learn defines it; those that need both labels are NaN without.

    Written out because the intervals compute them thousands of times: scikit-learn's checks of its arguments would be
    nine tenths of the time that training takes. `decisions` are the blocks called "quantize".
    """
    ones, called = labels == 1, decisions.astype(bool)
    tp, tn, fp, fn = (float(np.sum(x)) for x in (ones & called, ~ones & ~called, ~ones & called, ones & ~called))
    both = bool(ones.any() and not ones.all())
    margins = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return {
        "accuracy": (tp + tn) / len(labels),
        "balanced_accuracy": (tp / (tp + fn) + tn / (tn + fp)) / 2 if both else float("nan"),
        "matthews": ((tp * tn - fp * fn) / margins**0.5 if margins else 0.0) if both else float("nan"),
        "auc": area_under_curve(labels, probabilities) if both else float("nan"),
        "average_precision": average_precision(labels, probabilities) if both else float("nan"),
        "brier": float(np.mean((probabilities - labels) ** 2)),
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
    for _ in range(BOOTSTRAP_ROUNDS):
        chosen = np.concatenate([rows[i] for i in generator.integers(len(rows), size=len(rows))])
        if len(np.unique(labels[chosen])) == 2:
            draws.append(figures(labels[chosen], probabilities[chosen], decisions[chosen]))
    return {name: tuple(np.quantile([draw[name] for draw in draws], [0.025, 0.975]).tolist()) for name in draws[0]}
