"""optimum-quanto: `quantize` once per precision, with the module names to include.

Names are shell patterns there; full names without wildcards stand for one module each.
"""

from __future__ import annotations

from fastewq.exports.assignment import Assignment
from fastewq.exports.base import Parts, Tool, json_text, scripts


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


TOOL = Tool("quanto", "quanto", "optimum-quanto 0.2.7", build)
