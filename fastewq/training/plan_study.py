"""Plans of equal bytes to compare on real text: which blocks give up precision first, by one rule after another.

A rule orders the blocks of each stack; a plan lowers the first SHARE of them. Blocks of one stack are equally large, so
two plans that lower equally many of them in every stack have equal bytes, which `plans` checks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fastewq.errors import InvalidDataset
from fastewq.training.metrics import spearman
from fastewq.training.sensitivity import RAW, QualityLog

MIXES: Final[dict[str, tuple[str, str]]] = {
    "4/raw": ("4", RAW),
    "3/4": ("3", "4"),
    "4/8": ("4", "8"),
    "8/raw": ("8", RAW),
}
"""Name -> precision of the lowered blocks, precision of the others."""
SHARE: Final = 1 / 3
EPSILONS: Final = (0.01, 1e-4, 0.0)
RANDOM_PLANS: Final = 5
POSITIONS: Final = ("first", "last", "middle", "ends")
"""Rules that look at positions only. Lowered first: the first blocks, the last, those nearest the middle, the ends."""
EXACT_BLOCKS: Final = 7
"""Of up to so many blocks, every order is tried (5040)."""

Order = NDArray[np.intp]
"""The blocks of one stack, those that give up precision first in front."""


def rules(log: QualityLog, table: pd.DataFrame, predicted: Mapping[str, pd.Series]) -> dict[str, list[Order]]:
    """Rule -> the order of each stack of a log.

    table       the table of blocks
    predicted   rule -> probability of "quantize", indexed by (model, stack, exec_index), by a booster that saw no
                block of the model's family
    """
    found: dict[str, list[Order]] = {}
    generator = np.random.default_rng(0)
    for (model, stack), positions in log.stacks.items():
        rows = table[(table["model"] == model) & (table["stack"] == stack)].sort_values("exec_index")
        _require_equal_sizes(rows, model, stack)
        depth = np.arange(len(positions))
        middle = np.abs(depth - (len(depth) - 1) / 2)
        scores: dict[str, Any] = {"first": depth, "last": -depth, "middle": middle, "ends": -middle}
        for epsilon in EPSILONS:
            scores[f"entropy {epsilon:g}"] = rows[f"entropy_{epsilon:g}"].to_numpy()
        scores["inverse entropy 0.01"] = -scores["entropy 0.01"]
        scores["rounding error"] = rows["rounding_error_4"].to_numpy()
        for name, series in predicted.items():
            scores[name] = [-series[model, stack, i] for i in depth]
        alone = [log.alone(position, "4") for position in positions]
        if all(alone):
            scores["measured"] = [np.mean(list(chunks.values())) for chunks in alone]
        for name, score in scores.items():
            # Equal scores: the later block first, as plans do.
            found.setdefault(name, []).append(np.lexsort((-depth, np.asarray(score, dtype=np.float64))))
        for number in range(RANDOM_PLANS):
            found.setdefault(f"random {number}", []).append(generator.permutation(len(depth)))
    return found


def _require_equal_sizes(rows: pd.DataFrame, model: str, stack: str) -> None:
    sizes = rows["matrix_parameters"]
    if len(rows) == 0 or sizes.max() - sizes.min() > 1e-3 * sizes.max():
        raise InvalidDataset(
            f"{model}/{stack}: blocks of {sizes.min()} to {sizes.max()} parameters; expected equal ones"
        )


def assignment(log: QualityLog, orders: Sequence[Order], low: str, high: str, share: float = SHARE) -> str:
    """One character per block: the first `share` of every stack's order at `low`, the others at `high`."""
    levels = [high] * len(log.blocks)
    for order, positions in zip(orders, log.stacks.values(), strict=True):
        for index in order[: max(1, round(share * len(order)))]:
            levels[positions[index]] = low
    return "".join(levels)


def plans(
    log: QualityLog, orders: Mapping[str, Sequence[Order]], mixes: Sequence[str] = tuple(MIXES)
) -> dict[str, dict[str, str]]:
    """Mix -> rule -> assignment."""
    return {mix: {name: assignment(log, order, *MIXES[mix]) for name, order in orders.items()} for mix in mixes}


def uniform(log: QualityLog) -> list[str]:
    """All blocks raw, at 8, at 4 and at 3 bits."""
    return [level * len(log.blocks) for level in (RAW, "8", "4", "3")]


def bootstrap(values: NDArray[np.float64], rounds: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of `values`, one per chunk of text."""
    if len(values) < 2:
        return math.nan, math.nan
    picks = np.random.default_rng(seed).integers(len(values), size=(rounds, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def per_chunk(log: QualityLog, assignment: str, chunks: Sequence[int]) -> NDArray[np.float64]:
    """The divergence of an assignment on each of `chunks`; NaN where it was not measured."""
    found = log.divergences.get(assignment, {})
    return np.array([found.get(chunk, math.nan) for chunk in chunks])


def compare(log: QualityLog, assignments: Mapping[str, str], reference: str) -> dict[str, dict[str, float]]:
    """Rule -> divergence, its interval, and its difference to the `reference` rule on the same chunks, with interval.

    Only chunks on which every plan was measured count. Empty where a plan was not measured at all. The rules
    `random N` are joined to one, `random`: the plan in the middle of them by its mean.
    """
    measured = [set(log.divergences.get(a, {})) for a in assignments.values()]
    chunks = sorted(set.intersection(*measured)) if measured else []
    if not chunks:
        return {}
    values = {name: per_chunk(log, a, chunks) for name, a in assignments.items()}
    random = [values.pop(name) for name in list(values) if name.startswith("random ")]
    if random:
        values["random"] = sorted(random, key=lambda found: float(found.mean()))[len(random) // 2]
    found = {}
    for name, divergences in values.items():
        low, high = bootstrap(divergences)
        difference = divergences - values[reference]
        least, most = bootstrap(difference)
        found[name] = {
            "divergence": float(divergences.mean()),
            "low": low,
            "high": high,
            "difference": float(difference.mean()),
            "difference_low": least,
            "difference_high": most,
        }
    return found


@dataclass(frozen=True)
class Correlation:
    """Spearman's correlation over the blocks of a stack.

    low, high   95 % interval, resampling blocks; of a handful of blocks it is too narrow
    p           probability of a correlation at least as far from 0 were the blocks in random order: exact up to seven
                blocks, else of random orders
    """

    value: float
    low: float
    high: float
    p: float


def correlation(one: NDArray[np.float64], other: NDArray[np.float64], rounds: int = 1000, seed: int = 0) -> Correlation:
    """NaN where all values of one side are equal."""
    value = float(spearman(one, other))
    if math.isnan(value):
        return Correlation(value, math.nan, math.nan, math.nan)
    generator = np.random.default_rng(seed)
    picks = generator.integers(len(one), size=(rounds, len(one)))
    low, high = np.nanquantile(spearman(one[picks], other[picks]), [0.025, 0.975])
    exact = len(one) <= EXACT_BLOCKS
    orders = list(permutations(one)) if exact else generator.permuted(np.tile(one, (10 * rounds, 1)), axis=1)
    as_far = np.abs(spearman(np.array(orders), other[np.newaxis])) >= abs(value) - 1e-9
    p = as_far.mean() if exact else (as_far.sum() + 1) / (len(as_far) + 1)
    return Correlation(value, float(low), float(high), float(p))
