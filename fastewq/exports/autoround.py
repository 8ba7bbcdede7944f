"""AutoRound: a `layer_config`.

Keys are exact module names. A key with any regular expression token has its bare dots escaped a second time, so an
escaped dot would match nothing and pass with a warning only; and a plain key is a substring, so a block needs its
trailing dot. Exact names avoid both. Every module is named, for three reasons: outside the blocks AutoRound quantizes
what is named alone, in the blocks it quantizes whatever is not, and it writes for the loaders no more than what departs
from the base, so that these would look for the rest under names of blocks that they cannot always find. Stacked experts
are taken apart into a linear module per expert and matrix.
"""

from __future__ import annotations

from typing import Any, Final

from fastewq.exports.assignment import Assignment, Module, odd_outputs, of_the_very_class, stacked_experts
from fastewq.exports.base import Parts, Tool, json_text, scripts

ROWS: Final = 32
"""AutoRound keeps a matrix whose inputs or outputs are no multiple of this. Of the inputs the groups, which are
multiples of it, allow nothing else."""


def adapt(assignment: Assignment) -> Assignment:
    """Without the matrices that AutoRound keeps for their outputs or their class."""

    def kept(module: Module) -> tuple[str, str] | None:
        return None if module.scheme is None else odd_outputs(module, ROWS, "AutoRound")

    return of_the_very_class(assignment.changed(kept), "AutoRound")


def build(assignment: Assignment) -> Parts:
    layer_config: dict[str, dict[str, Any]] = {
        module.path: {"bits": 16} for module in assignment.kept if module.tensor.role in ("linear", "router")
    }
    layer_config |= {f"{module.path}.": {"bits": 16} for module in stacked_experts(assignment)}
    for scheme, modules in assignment.by_scheme().items():
        layer_config |= {module.path: {"bits": scheme.bits, "group_size": scheme.group} for module in modules}
    config = {
        "bits": 4,
        "group_size": 128,  # of no module, so that all depart from it
        "sym": True,
        "low_cpu_mem_usage": False,  # else AutoRound writes what is outside the blocks before it is packed
        "layer_config": layer_config,
    }
    return Parts(
        {"autoround.json": json_text(config), **scripts("autoround.py")},
        "python quantize.py MODEL OUT    # round to nearest; add --tune for AutoRound's own tuning\n",
    )


TOOL = Tool("autoround", "autoround", "auto-round 0.16.1", build, adapt)
