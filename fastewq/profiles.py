"""The probabilities of whole stacks, without a walk over their blocks.

Where each feature of a predictor is either a matter of a block's place or common to all blocks of a stack, stacks of as
many blocks that lie between the same thresholds have the same probabilities. These are remembered.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastewq.architecture import Architecture, Stack, lazy
from fastewq.features import FEATURES, PLACE, STACK_FACTS, StackFacts, facts_of

REMEMBERED: Final = 256
"""Stacks whose probabilities are kept; the bounds of configs keep them short."""
DECIMALS: Final = 6
"""Of a probability in a plan."""


class Profile(tuple[float, ...]):
    """The probabilities of a stack, which are hashed once: what follows from them is kept under them."""

    @lazy
    def _hash(self) -> int:
        return super().__hash__()

    def __hash__(self) -> int:
        return self._hash


class Profiles:
    """Stacks -> the probabilities of their blocks, by a table.

    edges   per feature, its thresholds in ascending order
    table   the probability of each cell between thresholds, with an axis for each feature
    """

    def __init__(self, names: Sequence[str], edges: Sequence[NDArray[np.float32]], table: NDArray[np.float64]) -> None:
        self._table = table
        self._axes = [(FEATURES[name], facts_of(name) <= PLACE, edge) for name, edge in zip(names, edges, strict=True)]
        self._common = [(feature, edge.tolist()) for feature, of_place, edge in self._axes if not of_place]
        self._remembered = lru_cache(REMEMBERED)(self._find)

    @staticmethod
    def possible(names: Sequence[str]) -> bool:
        """Whether each of the features is a matter of place, or common to a stack."""
        return all(facts_of(name) <= PLACE or facts_of(name) <= STACK_FACTS.keys() for name in names)

    def __call__(self, model: Architecture, stack: Stack) -> tuple[float, ...]:
        """The probability of "quantize" for every block of a stack, rounded as in a plan."""
        if not stack.blocks.paths:  # of which some facts cannot be told
            return ()
        facts = StackFacts(model, stack)
        cells = [bisect_right(edges, float(np.float32(feature(facts)))) for feature, edges in self._common]
        return self._remembered(len(stack.blocks.paths), *cells)

    def _find(self, blocks: int, *cells: int) -> tuple[float, ...]:
        places = {"exec_index": np.arange(0.0, blocks), "num_blocks": np.full(blocks, float(blocks))}
        common = iter(cells)
        index = [
            edge.searchsorted(feature(places).astype(np.float32), "right") if of_place else next(common)
            for feature, of_place, edge in self._axes
        ]
        return Profile(np.broadcast_to(self._table[tuple(index)], blocks).round(DECIMALS).tolist())
