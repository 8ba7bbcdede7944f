"""Keep, 8 bits or 4 bits: which rule for the lower precision agrees best with the full analysis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, f1_score

from fastewq.policy import quantized_blocks
from fastewq.training.evaluation import Booster, Fold
from fastewq.training.table import Blocks

Rule = Callable[[NDArray[np.float64], NDArray[np.float64], list[int], int], list[int]]
"""(p quantized, p aggressive, quantized blocks ascending, how many) -> which of them get the lower precision."""


def _highest_index(_: NDArray[np.float64], __: NDArray[np.float64], quantized: list[int], count: int) -> list[int]:
    return quantized[len(quantized) - count :]


def _most_probable(p: NDArray[np.float64], _: NDArray[np.float64], quantized: list[int], count: int) -> list[int]:
    return sorted(quantized, key=lambda index: (-p[index], -index))[:count]


def _own_classifier(_: NDArray[np.float64], p: NDArray[np.float64], quantized: list[int], count: int) -> list[int]:
    return sorted(quantized, key=lambda index: (-p[index], -index))[:count]


RULES: Final[dict[str, Rule]] = {
    "highest_exec_index": _highest_index,
    "most_probable": _most_probable,
    "own_classifier": _own_classifier,
}
"""The paper's rule; rank by the probability of being quantized; rank by a booster trained on the aggressive label."""


def aggressive_share(blocks: Blocks, rows: NDArray[np.intp] | slice = slice(None)) -> float:
    """The share of the quantized blocks that the full analysis sends to the lower precision."""
    return float(np.mean(blocks.levels[rows][blocks.labels[rows] == 1] == "aggressive"))


def compare_rules(blocks: Blocks, folds: Sequence[Fold]) -> dict[str, Any]:
    """Agreement of each rule with the three labels, over held-out blocks: accuracy, balanced accuracy, F1 of 4-bit."""
    booster = Booster()
    aggressive = replace(
        blocks,
        objective=replace(blocks.objective, graded=False),
        labels=(blocks.levels == "aggressive").astype(int),
    )
    found = {name: np.full(len(blocks), "keep", dtype="U10") for name in RULES}
    for train, held_out in folds:
        p, p_aggressive = booster(blocks, train, held_out), booster(aggressive, train, held_out)
        share = aggressive_share(blocks, train)
        for stack in np.unique(blocks.stacks[held_out]):
            members = np.flatnonzero(blocks.stacks[held_out] == stack)
            quantized = sorted(quantized_blocks(p[members].tolist()))
            count = round(share * len(quantized))
            for name, rule in RULES.items():
                levels = found[name]
                levels[held_out[members[quantized]]] = "8-bit"
                chosen = rule(p[members], p_aggressive[members], quantized, count)
                levels[held_out[members[chosen]]] = "aggressive"
    return {
        name: {
            "accuracy": float(np.mean(levels == blocks.levels)),
            "balanced_accuracy": float(balanced_accuracy_score(blocks.levels, levels)),
            "f1_aggressive": float(f1_score(blocks.levels == "aggressive", levels == "aggressive")),
        }
        for name, levels in found.items()
    }
