"""mlx-lm: rules for the `quant_predicate` of `mlx_lm.convert`, which asks for every module of the model.

Whole blocks are matched by prefix, as mlx-lm splits stacked experts into modules of its own; routers are refused first.
"""

from __future__ import annotations

import re

from fastewq.errors import CannotExport
from fastewq.exports.assignment import Assignment, Module, regexes, whole_blocks
from fastewq.exports.base import Parts, Tool, json_text, script
from fastewq.exports.names import MLX


def build(assignment: Assignment) -> Parts:
    model_type = assignment.plan.model["model_type"]
    if model_type not in MLX:
        raise CannotExport(
            f"the module paths of model_type {model_type!r} in mlx-lm are not known here; known are {', '.join(MLX)}"
        )
    blocks = whole_blocks(assignment)
    rules: list[tuple[str, bool | dict[str, int | str]]] = [(r"^.*\.(gate|router)$", False)]
    for scheme, modules in assignment.by_scheme().items():
        arguments: dict[str, int | str] = {"group_size": scheme.group, "bits": scheme.bits, "mode": "affine"}
        rules += [(pattern, arguments) for pattern in regexes([m for m in modules if m.block not in blocks])]
        rules += [(pattern, arguments) for pattern in _prefixes([m for m in modules if m.block in blocks])]
    last = list(assignment.by_scheme())[-1:]
    document = {
        "q_bits": last[0].bits if last else 4,
        "q_group_size": min((scheme.group for scheme in assignment.by_scheme()), default=64),
        "rules": rules,
    }
    return Parts({"mlx.json": json_text(document), "quantize.py": script("mlx.py")}, "python quantize.py MODEL OUT\n")


def _prefixes(modules: list[Module]) -> list[str]:
    indices: dict[str, list[int]] = {}
    for module in modules:
        found = indices.setdefault(module.stack, [])
        if module.index not in found:
            found.append(module.index)
    return [rf"^{re.escape(stack)}\.({'|'.join(map(str, found))})\..*$" for stack, found in indices.items()]


TOOL = Tool("mlx", "mlx", "mlx-lm 0.32.2, mlx 0.32.4", build)
