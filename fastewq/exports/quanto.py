"""optimum-quanto: `quantize` once per precision, with the module names to include.

Names are shell patterns there; full names without wildcards stand for one module each.
"""

from __future__ import annotations

from typing import Final

from fastewq.exports.assignment import Assignment, Module, odd_outputs
from fastewq.exports.base import Parts, Tool, json_text, scripts

ROWS: Final = 16
PACKED_GROUP: Final = 128
"""In bfloat16 quanto packs int4 in groups of 128 for a kernel of PyTorch, which wants outputs in multiples of 16."""


def adapt(assignment: Assignment) -> Assignment:
    """Without the matrices at which that kernel fails."""

    def kept(module: Module) -> tuple[str, str] | None:
        if module.scheme is None or (module.scheme.bits, module.scheme.group) != (4, PACKED_GROUP):
            return None
        return odd_outputs(module, ROWS, "quanto")

    return assignment.changed(kept) if assignment.raw == "bf16" else assignment


def build(assignment: Assignment) -> Parts:
    passes: dict[str, list[str]] = {}
    for scheme, modules in assignment.by_scheme().items():
        passes.setdefault(f"qint{scheme.bits}", []).extend(module.path for module in modules)
    return Parts(
        {
            "quanto.json": json_text({"passes": [{"weights": w, "include": names} for w, names in passes.items()]}),
            **scripts("quanto.py"),
        },
        "python quantize.py MODEL OUT\n",
    )


TOOL = Tool("quanto", "quanto", "optimum-quanto 0.2.7", build, adapt)
