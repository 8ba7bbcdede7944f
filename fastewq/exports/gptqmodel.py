"""GPTQModel: a quantize_config with `dynamic` rules.

Rules are matched from the start in order and the first decides; here they are disjoint, so order cannot matter. Fused
names are included for serving engines that read the same rules. Outside the blocks GPTQModel quantizes the head alone,
if it is told to, with 8 bits unless a rule says otherwise; towers are not in its definitions of multimodal models.
"""

from __future__ import annotations

from typing import Any

from fastewq.exports.assignment import Assignment, Module, engine_names, head_regex, regexes, stacked_experts
from fastewq.exports.base import Parts, Tool, json_text, script
from fastewq.exports.names import GPTQMODEL
from fastewq.exports.text_part import tower_blocks
from fastewq.modules import is_token_head
from fastewq.policy import KEEP


def adapt(assignment: Assignment) -> Assignment:
    """The blocks of the language model, and the head."""
    towers = tower_blocks(assignment.plan)

    def kept(module: Module) -> tuple[str, str] | None:
        in_text = module.block >= 0 and module.block not in towers
        if module.scheme is None or in_text or _is_head(module):
            return None
        return KEEP, "GPTQModel quantizes the blocks of the language model and the head alone"

    return assignment.changed(kept)


def _is_head(module: Module) -> bool:
    return module.block < 0 and is_token_head(module.path)


def build(assignment: Assignment) -> Parts:
    quantized = assignment.by_scheme()
    base = list(quantized)[-1] if quantized else None
    engines = engine_names(assignment)
    kept = regexes(assignment.kept, engines=engines) + head_regex(assignment)
    # GPTQModel makes linear modules of stacked experts and quantizes them unless it is told not to.
    kept += [pattern.removesuffix("$") + r"(\.|$)" for pattern in regexes(stacked_experts(assignment), engines=engines)]
    dynamic: dict[str, Any] = {f"-:{pattern}": {} for pattern in kept}
    for scheme, modules in quantized.items():
        named = modules if scheme is not base else [module for module in modules if _is_head(module)]
        for pattern in regexes(named, engines=engines):
            dynamic[f"+:{pattern}"] = {"bits": scheme.bits, "group_size": scheme.group}
    config = {
        "bits": base.bits if base else 4,
        "group_size": base.group if base else 64,
        "sym": True,
        "desc_act": False,
        "lm_head": any(_is_head(module) for modules in quantized.values() for module in modules),
        "dynamic": dynamic,
    }
    model_type = assignment.plan.model["model_type"]
    unknown = f"GPTQModel 7.7.0 has no definition of model_type {model_type!r} and guesses where its blocks are"
    return Parts(
        {"quantize_config.json": json_text(config), "quantize.py": script("gptqmodel.py")},
        "python quantize.py MODEL OUT CALIBRATION.txt    # one text per line; load with GPTQModel.load or vLLM\n",
        () if model_type in GPTQMODEL else (unknown,),
    )


TOOL = Tool("gptqmodel", "gptqmodel", "GPTQModel 7.7.0, transformers 5.23.0", build, adapt)
