"""mlx-lm: rules for the `quant_predicate` of `mlx_lm.convert`, which asks for every module of the model.

Rules name the modules as mlx-lm does, and no other matches: what has no rule stays as it is. The folder holds the
language model: mlx-lm leaves towers out.
"""

from __future__ import annotations

from dataclasses import replace

from fastewq.errors import CannotExport
from fastewq.exports.assignment import LATENT, Assignment, Module, fitted_to_halves, regexes
from fastewq.exports.base import Parts, Tool, json_text, script
from fastewq.exports.names import MLX, mlx_paths
from fastewq.exports.text_part import text_part
from fastewq.shown import shown


def adapt(assignment: Assignment) -> Assignment:
    """The language model, checked to be one whose names in mlx-lm are known."""
    model_type = assignment.plan.model["model_type"]
    if model_type not in MLX:
        raise CannotExport(
            f"the module paths of model_type {shown(model_type)} in mlx-lm are not known here",
            hint=f"Known are {', '.join(sorted(MLX))}.",
        )
    text = text_part(assignment, "mlx-lm leaves towers out")
    return fitted_to_halves(text, "mlx-lm") if len(mlx_paths(model_type, "", LATENT)[1]) > 1 else text


def build(assignment: Assignment) -> Parts:
    schemes = assignment.by_scheme()
    rules = [
        (pattern, {"group_size": scheme.group, "bits": scheme.bits, "mode": "affine"})
        for scheme, modules in schemes.items()
        for pattern in regexes([part for module in modules for part in renamed(assignment, module)])
    ]
    document = {
        "q_bits": min((scheme.bits for scheme in schemes), default=4),
        "q_group_size": min((scheme.group for scheme in schemes), default=64),
        "rules": rules,
    }
    warnings = ("mlx-lm writes the language model alone; use mlx-vlm for pictures",) if assignment.part else ()
    files = {"mlx.json": json_text(document), "quantize.py": script("mlx.py")}
    return Parts(files, "python quantize.py MODEL OUT\n", warnings)


def renamed(assignment: Assignment, module: Module) -> list[Module]:
    """The modules of mlx-lm that a module becomes."""
    stack, names = mlx_paths(assignment.plan.model["model_type"], module.stack, module.name)
    return [replace(module, stack=stack, name=name, path=name) for name in names]


TOOL = Tool("mlx", "mlx", "mlx-lm 0.32.2, mlx 0.32.4", build, adapt)
