"""The feature study: leave-one-family-out figures for sets of features, uncalibrated, for several eps.

    python benchmarks/features.py [training_data/blocks.csv]

Prints a table: position alone, the selected set, the selected set with one feature more or one less, and all features.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastewq.features import FEATURES, SELECTED
from fastewq.training.evaluation import Booster, leave_one_out, score
from fastewq.training.table import load_blocks

FIGURES = ("accuracy", "balanced_accuracy", "auc", "brier")


def feature_sets() -> dict[str, tuple[str, ...]]:
    others = [name for name in FEATURES if name not in SELECTED]
    return {
        "relative_depth alone": ("relative_depth",),
        "selected": SELECTED,
        **{f"  without {name}": tuple(n for n in SELECTED if n != name) for name in SELECTED},
        **{f"  with {name}": (*SELECTED, name) for name in others},
        "all": tuple(FEATURES),
    }


def main() -> None:
    table = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("training_data/blocks.csv")
    for epsilon in (0.01, 0.0):
        blocks = load_blocks(table, epsilon=epsilon)
        folds = list(leave_one_out(blocks.families))
        print(f"\neps {epsilon:g}, {len(blocks)} blocks, {len(folds)} families\n")
        print("| features | " + " | ".join(FIGURES) + " |\n|---|" + "---|" * len(FIGURES))
        for name, features in feature_sets().items():
            found = score(Booster(features, calibrated=False), blocks, folds)
            print(f"| {name} | " + " | ".join(f"{found[figure]:.3f}" for figure in FIGURES) + " |", flush=True)


if __name__ == "__main__":
    main()
