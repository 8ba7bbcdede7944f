"""Which blocks give up precision so that a model fits a memory.

Objective. Every block that is free to move has a level: raw, then the policy's ladder (int8, int4, ternary). A plan's
damage is the sum over blocks of

    sensitivity x parameters x DAMAGE[level]

DAMAGE is the relative mean squared error of the precision on Gaussian weights (`python benchmarks/exports.py errors`).
Sensitivity grows evenly from 1 for the block that gives up precision first to 2 for the one that keeps it longest: the
predictor ranks blocks, it does not measure by how much they differ, so only its order is used. The order is by
probability, and where that is equal by execution index from the last (METHOD section 5). The plan is the one of least
damage among those that fit; no promotion can then fit any more, since each lowers the damage.

Solution. Blocks of one layout have equal sizes. Whenever each further level saves fewer bytes and at least doubles the
damage, blocks of one layout take at most two neighbouring levels in an optimum (otherwise raising the worst and
lowering the best of three levels fits as well and does less damage), and among those the first in order go first. So a
layout is a path: all raw, first block int8, ..., all int8, first block int4, ... One number per layout remains, and a
dynamic programme over layouts with bounds from the linear relaxation finds the best combination. Should its table grow
past MAX_STATES, the rounded relaxation is returned: it is within one step of one block of the optimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

DAMAGE: Final[dict[str, float]] = {"raw": 0.0, "int8": 2.9e-5, "int4": 7.4e-3, "ternary": 0.65}
MAX_STATES: Final = 200_000

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Movable:
    """Blocks of equal sizes, in the order in which they give up precision.

    sizes           bytes per level, raw first, strictly falling
    damages         damage per unit of sensitivity and level: parameters x DAMAGE, 0 first
    blocks          the caller's numbers for the blocks
    sensitivities   of the same blocks, rising
    """

    sizes: tuple[int, ...]
    damages: tuple[float, ...]
    blocks: tuple[int, ...]
    sensitivities: tuple[float, ...]

    def path(self) -> tuple[Ints, Floats]:
        """Bytes saved and damage done after 0, 1, 2 ... steps along the path."""
        count = len(self.blocks)
        saved = np.repeat(-np.diff(np.array(self.sizes, dtype=np.int64)), count)
        damage = np.outer(np.diff(np.array(self.damages)), np.array(self.sensitivities)).ravel()
        return np.concatenate(([0], np.cumsum(saved))), np.concatenate(([0.0], np.cumsum(damage)))


def convex_levels(sizes: Sequence[int], damages: Sequence[float]) -> list[int]:
    """The levels worth taking, raw (0) first: each saves bytes, at a price per byte that at least doubles.

    A level that a tool cannot store for this layout (its size does not fall) is passed over, and so is one that costs
    nearly as much as the next for less. The factor covers the spread of sensitivities, so that among blocks of one
    layout every step to a milder level comes before any step to the next.
    """
    kept = [0]
    for level in range(1, len(sizes)):
        if sizes[level] >= sizes[kept[-1]]:
            continue
        while len(kept) > 1 and _price(sizes, damages, kept[-1], level) < 2 * _price(
            sizes, damages, kept[-2], kept[-1]
        ):
            kept.pop()
        kept.append(level)
    return kept


def _price(sizes: Sequence[int], damages: Sequence[float], mild: int, strong: int) -> float:
    return (damages[strong] - damages[mild]) / (sizes[mild] - sizes[strong])


@dataclass(frozen=True, slots=True)
class Solution:
    """The level of every block by the caller's number; `optimal` is False where only the one-step bound holds."""

    levels: dict[int, int]
    optimal: bool


def sensitivities(count: int) -> list[float]:
    """The sensitivity by place in the order of giving up precision: 1 for the first, 2 for the last."""
    return [1 + place / max(count - 1, 1) for place in range(count)]


def solve(classes: Sequence[Movable], need: int) -> Solution | None:
    """Levels of least damage that save at least `need` bytes against raw; None where even the last level does not."""
    paths = [movable.path() for movable in classes]
    if need > sum(int(saved[-1]) for saved, _ in paths):
        return None
    if need <= 0:
        steps, optimal = [0] * len(classes), True
    elif len(classes) == 1:
        steps, optimal = [int(np.searchsorted(paths[0][0], need))], True
    else:
        rounded, slope = _relaxation(paths, need)
        found = _search(paths, need, rounded, slope)
        steps, optimal = (rounded, False) if found is None else (found, True)
    levels: dict[int, int] = {}
    for movable, taken in zip(classes, steps, strict=True):
        whole, rest = divmod(taken, len(movable.blocks))
        levels |= {block: whole + (place < rest) for place, block in enumerate(movable.blocks)}
    return Solution(levels, optimal)


def _relaxation(paths: Sequence[tuple[Ints, Floats]], need: int) -> tuple[list[int], float]:
    """Steps per class of the linear relaxation, its last fraction rounded up, and the damage per byte there.

    Paths are convex, so taking all steps in order of damage per byte is optimal for the relaxation.
    """
    owner = np.repeat(np.arange(len(paths)), [len(saved) - 1 for saved, _ in paths])
    gain = np.concatenate([np.diff(saved) for saved, _ in paths])
    price = np.concatenate([np.diff(damage) for _, damage in paths]) / gain
    order = np.argsort(price, kind="stable")
    last = int(np.searchsorted(np.cumsum(gain[order]), need))
    taken = np.bincount(owner[order[: last + 1]], minlength=len(paths))
    return taken.tolist(), float(price[order[last]])


def _search(paths: Sequence[tuple[Ints, Floats]], need: int, rounded: Sequence[int], slope: float) -> list[int] | None:
    """The steps per class of least damage, by dynamic programming over classes; None past MAX_STATES.

    With damage priced at `slope` per byte saved, every class has a best point, and their sum bounds any plan from
    below. A point, or a partial plan, whose surplus over that bound exceeds the known plan's cannot be improved to
    beat it and is dropped.
    """
    best = sum(float(damage[taken]) for (_, damage), taken in zip(paths, rounded, strict=True))
    reduced = [damage - slope * saved for saved, damage in paths]
    floor = sum(float(r.min()) for r in reduced) + slope * need
    slack = (best - floor) * (1 + 1e-9) + 1e-12 * abs(best)

    kept = [np.flatnonzero(r - r.min() <= slack) for r in reduced]
    order = sorted(range(len(paths)), key=lambda k: -len(kept[k]))
    reach = np.array([int(paths[k][0][kept[k][-1]]) for k in order])
    remaining = np.concatenate((np.cumsum(reach[::-1])[::-1][1:], [0]))

    saved, damage, surplus = np.zeros(1, np.int64), np.zeros(1), np.zeros(1)
    trail: list[tuple[Ints, Ints]] = []
    for place, k in enumerate(order):
        points = kept[k]
        if len(saved) * len(points) > MAX_STATES:
            return None
        extra = reduced[k][points] - reduced[k].min()
        sums = np.minimum((saved[:, None] + paths[k][0][points][None, :]).ravel(), need)
        costs = (damage[:, None] + paths[k][1][points][None, :]).ravel()
        over = (surplus[:, None] + extra[None, :]).ravel()
        alive = np.flatnonzero((over <= slack) & (sums + remaining[place] >= need))
        # Dominated: another state saves at least as much for no more damage. Equal states keep the first one made.
        by_damage = alive[np.lexsort((alive, -sums[alive], costs[alive]))]
        front = np.maximum.accumulate(sums[by_damage])
        alive = by_damage[np.concatenate(([True], front[1:] > front[:-1]))]
        trail.append((alive // len(points), points[alive % len(points)]))
        saved, damage, surplus = sums[alive], costs[alive], over[alive]
    # Every state left saves `need`; the front keeps only the one of least damage.
    steps = [0] * len(paths)
    state = 0
    for k, (parents, points) in zip(reversed(order), reversed(trail), strict=True):
        steps[k] = int(points[state])
        state = int(parents[state])
    return steps
