"""What the model card shows beyond the evaluation: families, reliability, importance, levels, other definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastewq.features import feature_matrix
from fastewq.training.evaluation import Booster, decide, evaluate, leave_one_out, score
from fastewq.training.fit import SEED, fit_booster, margins
from fastewq.training.levels import compare_rules
from fastewq.training.metrics import CALIBRATION_BINS, area_under_curve, spearman
from fastewq.training.table import Blocks, load_blocks

EPSILONS: Final = (0.0, 1e-12, 0.01)
DEVIATIONS: Final = (0.5, 1.0, 1.5)
PERMUTATIONS: Final = 20


def study(data: Path, *, objective: str = "entropy", epsilon: float = 0.01) -> dict[str, Any]:
    """`evaluate` and what follows from the same held-out predictions. Raises NotFound, InvalidDataset."""
    blocks = load_blocks(data, objective=objective, epsilon=epsilon)
    folds = list(leave_one_out(blocks.families))
    probabilities = np.empty(len(blocks))
    for train, held_out in folds:
        probabilities[held_out] = Booster()(blocks, train, held_out)
    return {
        **evaluate(blocks),
        "families": per_family(blocks, probabilities),
        "reliability": reliability(blocks.labels, probabilities),
        "importance": importance(blocks),
        "three_levels": {
            f"x {x:g}": compare_rules(load_blocks(data, objective=objective, epsilon=epsilon, x=x), folds)
            for x in DEVIATIONS
        },
        "definitions": definitions(data) if objective == "entropy" else [],
    }


def per_family(blocks: Blocks, probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """Agreement on each family while it was held out, beside its own share of quantized blocks."""
    found = {}
    for family in np.unique(blocks.families):
        rows = np.flatnonzero(blocks.families == family)
        labels = blocks.labels[rows]
        found[str(family)] = {
            "blocks": len(rows),
            "quantized_share": float(labels.mean()),
            "predicted_share": float(probabilities[rows].mean()),
            "accuracy": float(np.mean(decide(blocks, rows, probabilities[rows], None) == labels)),
            "auc": area_under_curve(labels, probabilities[rows]) if len(np.unique(labels)) == 2 else None,
            "rank_correlation": rank_correlation(blocks, rows, probabilities[rows]),
        }
    return found


def rank_correlation(blocks: Blocks, rows: NDArray[np.intp], probabilities: NDArray[np.float64]) -> float:
    """Spearman's correlation of the probability with minus the score, within each stack; the mean over stacks.

    Where all of a stack have one probability or one score, nothing is ordered and the correlation is 0.
    """
    stacks = blocks.stacks[rows]
    members = [stacks == stack for stack in np.unique(stacks)]
    found = [spearman(probabilities[stack], -blocks.scores[rows[stack]]) for stack in members]
    return float(np.mean(np.nan_to_num(found)))


def reliability(labels: NDArray[np.int_], probabilities: NDArray[np.float64]) -> list[dict[str, float]]:
    """Mean probability and observed rate of each tenth of the probability range that has blocks."""
    bins = np.minimum((probabilities * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return [
        {
            "blocks": int(np.sum(bins == b)),
            "probability": float(probabilities[bins == b].mean()),
            "observed": float(labels[bins == b].mean()),
        }
        for b in np.unique(bins)
    ]


def importance(blocks: Blocks) -> dict[str, dict[str, float]]:
    """Per feature: the share of the booster's gain, and the fall in AUC when the feature is shuffled.

    The fall is measured on held-out families; below zero, the feature hurt.
    """
    names = blocks.objective.features
    matrix = feature_matrix(blocks.columns, names)
    whole = fit_booster(blocks)
    gain = {name: float(np.sum(value)) for name, value in whole.get_score(importance_type="total_gain").items()}
    total = sum(gain.values()) or 1.0
    generator = np.random.default_rng(SEED)
    models = [(fit_booster(blocks, train), held_out) for train, held_out in leave_one_out(blocks.families)]

    def auc(changed: NDArray[np.float32]) -> float:
        found = np.empty(len(blocks))
        for model, held_out in models:
            found[held_out] = margins(model, changed[held_out])
        return area_under_curve(blocks.labels, found)

    base = auc(matrix)
    falls = {}
    for column, name in enumerate(names):
        shuffled = []
        for _ in range(PERMUTATIONS):
            changed = matrix.copy()
            changed[:, column] = generator.permutation(changed[:, column])
            shuffled.append(base - auc(changed))
        falls[name] = float(np.mean(shuffled))
    return {name: {"gain": gain.get(name, 0.0) / total, "permutation": falls[name]} for name in names}


def definitions(data: Path) -> list[dict[str, Any]]:
    """The headline protocol under other definitions of the label: eps, with and without vectors."""
    found = []
    for epsilon in EPSILONS:
        for vectors in (False, True):
            blocks = load_blocks(data, epsilon=epsilon, vectors=vectors)
            figures = score(Booster(), blocks, list(leave_one_out(blocks.families)), threshold=None)
            found.append({"epsilon": epsilon, "vectors": vectors, **figures})
    return found
