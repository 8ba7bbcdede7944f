"""Other ways to use few blocks, under the headline protocol: another target, no constraint, other boosters.

    python benchmarks/targets.py [training_data/blocks.csv]

shipped        the classifier of fastewq/training/fit.py
unconstrained  the same, but its probability may also rise with the distance to the end
regression     the standardised entropy of the block within its stack, clipped to [-2, 1], as the target;
               the label follows from its sign, the probability from a logistic curve of slope 2
single trees   60 rounds of one tree each instead of 8 rounds of ten
deeper         trees of depth 5
platt          the shipped classifier with Platt scaling fitted on families held out inside the training families
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from fastewq.features import SELECTED, feature_matrix
from fastewq.training.evaluation import Booster, Predict, leave_one_out, score
from fastewq.training.fit import ROUNDS, parameters, stack_weights
from fastewq.training.table import Blocks, load_blocks

FIGURES = ("accuracy", "balanced_accuracy", "auc", "brier", "ece")


def boosted(rounds: int = ROUNDS, regression: bool = False, **changes: Any) -> Predict:
    def predict(blocks: Blocks, train: NDArray[np.intp], held_out: NDArray[np.intp]) -> NDArray[np.float64]:
        matrix = feature_matrix(blocks.columns, SELECTED)
        target = np.clip(blocks.standardised, -2, 1) if regression else blocks.labels
        chosen = {**parameters(blocks.objective, SELECTED), **changes}
        if regression:
            chosen |= {"objective": "reg:squarederror", "base_score": 0.0}
        data = xgb.DMatrix(matrix[train], target[train], weight=stack_weights(blocks.stacks[train]))
        found = xgb.train(chosen, data, rounds).predict(xgb.DMatrix(matrix[held_out])).astype(np.float64)
        return 1 / (1 + np.exp(2 * found)) if regression else found

    return predict


def main() -> None:
    table = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("training_data/blocks.csv")
    variants: dict[str, Predict] = {
        "shipped": boosted(),
        "unconstrained": boosted(monotone_constraints=()),
        "regression": boosted(regression=True, monotone_constraints=()),
        "single trees": boosted(60, num_parallel_tree=1, eta=0.1, subsample=0.8, colsample_bytree=1.0),
        "deeper": boosted(max_depth=5),
        "platt": Booster(calibrated=True),
    }
    for epsilon in (0.01, 0.0):
        blocks = load_blocks(table, epsilon=epsilon)
        folds = list(leave_one_out(blocks.families))
        print(f"\neps {epsilon:g}, {len(blocks)} blocks, {len(folds)} families, decisions by rank\n")
        print("| variant | " + " | ".join(FIGURES) + " |\n|---|" + "---|" * len(FIGURES))
        for name, predict in variants.items():
            found = score(predict, blocks, folds, threshold=None)
            print(f"| {name} | " + " | ".join(f"{found[figure]:.3f}" for figure in FIGURES) + " |", flush=True)


if __name__ == "__main__":
    main()
