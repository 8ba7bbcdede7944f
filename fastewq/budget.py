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
dynamic programme over layouts with bounds from the linear relaxation finds the best combination. Where a level saves
more than the one before (int4 after int8, of blocks that are fp8 for the most part), a layout has every mixture of
levels to choose from instead. Should there be more than MAX_MIXTURES of these, or the table grow past MAX_STATES, the
rounded relaxation is returned: it is within one step of one block of the optimum.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement, pairwise
from math import comb
from typing import Final

import numpy as np
from numpy.typing import NDArray

DAMAGE: Final[dict[str, float]] = {"raw": 0.0, "int8": 2.9e-5, "int4": 7.4e-3, "ternary": 0.65}
MAX_STATES: Final = 200_000
MAX_MIXTURES: Final = 40_000
"""Those of 60 blocks at four levels."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Choices:
    """What blocks of equal sizes can do together: bytes saved and damage done, both rising, and for each level after
    raw how many blocks are there or further down."""

    saved: Ints
    damage: Floats
    reached: Ints

    def levels(self, choice: int, count: int) -> list[int]:
        """The level of each of `count` blocks, in the order in which they give up precision."""
        levels: list[int] = (self.reached[choice] > np.arange(count)[:, None]).sum(axis=1).tolist()
        return levels


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

    def path(self) -> Choices:
        """After 0, 1, 2 ... steps of one block along the levels worth taking."""
        count, route = len(self.blocks), convex_levels(self.sizes, self.damages)
        gains = -np.diff(np.array([self.sizes[level] for level in route], dtype=np.int64))
        added = np.diff(np.array([self.damages[level] for level in route]))
        saved = np.concatenate(([0], np.repeat(gains, count).cumsum()))
        damage = np.concatenate(([0.0], np.outer(added, np.array(self.sensitivities)).ravel().cumsum()))
        started = count * np.array([bisect_left(route, level) - 1 for level in range(1, len(self.sizes))])
        reached = np.minimum(np.maximum(np.arange(len(saved))[:, None] - started, 0), count)
        return Choices(saved, damage, reached)

    @property
    def count_of_mixtures(self) -> int:
        steps = len(self.sizes) - 1
        return comb(len(self.blocks) + steps, steps)

    def mixtures(self) -> Choices:
        """All mixtures of levels than which none saves more for as little damage.

        The first blocks in order, which are the least sensitive, go furthest.
        """
        count, steps = len(self.blocks), len(self.sizes) - 1
        reached: Ints = np.array(list(combinations_with_replacement(range(count, -1, -1), steps)), dtype=np.int64)
        sizes: Ints = np.array(self.sizes, dtype=np.int64)
        saved: Ints = reached @ (sizes[:-1] - sizes[1:])
        summed = np.concatenate(([0.0], np.cumsum(self.sensitivities)))
        damage: Floats = summed[reached] @ np.diff(np.array(self.damages))
        best = _undominated(saved, damage)
        return Choices(saved[best], damage[best], reached[best])

    def is_regular(self) -> bool:
        """Whether each further level saves no more bytes than the one before, for at least twice the added damage."""
        saved = [mild - strong for mild, strong in pairwise(self.sizes)]
        added = [strong - mild for mild, strong in pairwise(self.damages)]
        return all(a >= b for a, b in pairwise(saved)) and all(2 * a <= b for a, b in pairwise(added))


def falling_levels(sizes: Sequence[int]) -> list[int]:
    """The levels that save bytes, raw (0) first: not those that a tool cannot store for this layout."""
    kept = [0]
    for level in range(1, len(sizes)):
        if sizes[level] < sizes[kept[-1]]:
            kept.append(level)
    return kept


def convex_levels(sizes: Sequence[int], damages: Sequence[float]) -> list[int]:
    """The levels of the linear relaxation, raw (0) first: each saves bytes, at a price per byte that at least doubles.

    One that costs nearly as much as the next for less is passed over. The factor covers the spread of sensitivities, so
    that among blocks of one layout every step to a milder level comes before any step to the next.
    """
    kept = [0]
    for level in range(1, len(sizes)):
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


class Problem:
    """Classes of blocks that together have to save bytes. What holds for every number of bytes is found once."""

    def __init__(self, classes: Sequence[Movable]) -> None:
        self.classes = classes
        self.paths = [movable.path() for movable in classes]

    @cached_property
    def choices(self) -> list[Choices] | None:
        """All choices of each class that an optimum may need; None beyond MAX_MIXTURES."""
        mixed = [not movable.is_regular() for movable in self.classes]
        if sum(c.count_of_mixtures for c, is_mixed in zip(self.classes, mixed, strict=True) if is_mixed) > MAX_MIXTURES:
            return None
        each = zip(self.classes, mixed, self.paths, strict=True)
        return [movable.mixtures() if is_mixed else path for movable, is_mixed, path in each]

    def solve(self, need: int) -> Solution | None:
        """Levels of least damage that save at least `need` bytes against raw; None where even the last does not."""
        if need > sum(int(path.saved[-1]) for path in self.paths):
            return None
        if need <= 0:
            return self._solution(self.paths, [0] * len(self.paths), optimal=True)
        if len(self.classes) == 1 and self.choices is not None:  # of which each next one does more damage
            return self._solution(self.choices, [int(np.searchsorted(self.choices[0].saved, need))], optimal=True)
        rounded, slope = _relaxation(self.paths, need)
        known = sum(float(path.damage[taken]) for path, taken in zip(self.paths, rounded, strict=True))
        found = None if self.choices is None else _search(self.choices, need, known, slope)
        if self.choices is None or found is None:
            return self._solution(self.paths, rounded, optimal=False)
        return self._solution(self.choices, found, optimal=True)

    def _solution(self, choices: Sequence[Choices], taken: Sequence[int], optimal: bool) -> Solution:
        levels: dict[int, int] = {}
        for movable, choice, number in zip(self.classes, choices, taken, strict=True):
            levels |= zip(movable.blocks, choice.levels(number, len(movable.blocks)), strict=True)
        return Solution(levels, optimal)


def _relaxation(paths: Sequence[Choices], need: int) -> tuple[list[int], float]:
    """Steps per class of the linear relaxation, its last fraction rounded up, and the damage per byte there.

    Paths are convex, so taking all steps in order of damage per byte is optimal for the relaxation.
    """
    owner = np.repeat(np.arange(len(paths)), [len(path.saved) - 1 for path in paths])
    gain = np.concatenate([np.diff(path.saved) for path in paths])
    price = np.concatenate([np.diff(path.damage) for path in paths]) / gain
    order = np.argsort(price, kind="stable")
    last = int(np.searchsorted(np.cumsum(gain[order]), need))
    taken = np.bincount(owner[order[: last + 1]], minlength=len(paths))
    return taken.tolist(), float(price[order[last]])


def _search(choices: Sequence[Choices], need: int, best: float, slope: float) -> list[int] | None:
    """The choice of each class for the least damage, by dynamic programming over classes; None past MAX_STATES.

    With damage priced at `slope` per byte saved, every class has a best choice, and their sum bounds any plan from
    below. A choice, or a partial plan, whose surplus over that bound exceeds that of a known plan, whose damage is
    `best`, cannot be improved to beat it and is dropped.
    """
    reduced = [choice.damage - slope * choice.saved for choice in choices]
    floor = sum(float(r.min()) for r in reduced) + slope * need
    slack = (best - floor) * (1 + 1e-9) + 1e-12 * abs(best)

    kept = [np.flatnonzero(r - r.min() <= slack) for r in reduced]
    order = sorted(range(len(choices)), key=lambda k: -len(kept[k]))
    reach = np.array([int(choices[k].saved[kept[k][-1]]) for k in order])
    remaining = np.concatenate((np.cumsum(reach[::-1])[::-1][1:], [0]))

    saved, damage, surplus = np.zeros(1, np.int64), np.zeros(1), np.zeros(1)
    trail: list[tuple[Ints, Ints]] = []
    for place, k in enumerate(order):
        points = kept[k]
        if len(saved) * len(points) > MAX_STATES:
            return None
        extra = reduced[k][points] - reduced[k].min()
        sums = np.minimum((saved[:, None] + choices[k].saved[points][None, :]).ravel(), need)
        costs = (damage[:, None] + choices[k].damage[points][None, :]).ravel()
        over = (surplus[:, None] + extra[None, :]).ravel()
        alive = np.flatnonzero((over <= slack) & (sums + remaining[place] >= need))
        alive = alive[_undominated(sums[alive], costs[alive])]
        trail.append((alive // len(points), points[alive % len(points)]))
        saved, damage, surplus = sums[alive], costs[alive], over[alive]
    # Every state left saves `need`; the front keeps only the one of least damage.
    steps = [0] * len(choices)
    state = 0
    for k, (parents, points) in zip(reversed(order), reversed(trail), strict=True):
        steps[k] = int(points[state])
        state = int(parents[state])
    return steps


def _undominated(saved: Ints, damage: Floats) -> Ints:
    """Where no other saves at least as much for no more damage, by rising damage; of equal ones the first."""
    by_damage = np.lexsort((-saved, damage))
    front = np.maximum.accumulate(saved[by_damage])
    return by_damage[np.concatenate(([True], front[1:] > front[:-1]))]
