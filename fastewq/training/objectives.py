"""What a label means. An objective scores every block; the block is "quantized" where its score is at most the mean.

entropy       the score is the block's entropy: the paper's label
sensitivity   the score is ln of the divergence measured when that block alone has 4 bits

One rule (`fastewq.analysis.blocks.cut`) turns either score into labels within a stack, and one protocol judges both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastewq.features import SELECTED
from fastewq.predictor import known_objective


@dataclass(frozen=True, slots=True)
class Objective:
    """A named label, and how a booster learns it.

    features           what the booster reads;  falling: those along which its probability may only fall
    graded             whether it learns how far below the mean a score lies, not only on which side
    aggressive_order   which quantized blocks get the lower precision: those of highest `exec_index` (the paper), or of
                       highest `probability`
    """

    name: str
    definition: str
    features: tuple[str, ...]
    falling: tuple[str, ...]
    graded: bool
    aggressive_order: str


OBJECTIVES: Final = {
    objective.name: objective
    for objective in (
        Objective(
            name="entropy",
            definition="H_block <= mean of its stack (arXiv 2503.04704)",
            features=SELECTED,
            # In most families the blocks near the end have low entropy, and without the constraint small trees follow
            # the exceptions (benchmarks/targets.py).
            falling=("from_end",),
            graded=False,
            aggressive_order="exec_index",
        ),
        Objective(
            name="sensitivity",
            definition="ln of the divergence with that block alone at 4 bits <= mean of its stack",
            features=("edge_distance", "post_norm_depth"),
            falling=(),
            graded=True,
            aggressive_order="probability",
        ),
    )
}


def objective_named(name: str) -> Objective:
    """An objective by name. Raises InputError for any other name."""
    return OBJECTIVES[known_objective(name)]
