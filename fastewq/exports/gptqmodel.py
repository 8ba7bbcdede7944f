"""GPTQModel: a quantize_config with `dynamic` rules.

Rules are matched from the start in order and the first decides; here they are disjoint, so order cannot matter. Fused
names are included for serving engines that read the same rules.
"""

from __future__ import annotations

from typing import Any

from fastewq.exports.assignment import Assignment, engine_names, head_regex, regexes, stacked_experts
from fastewq.exports.base import Parts, Tool, json_text, script


def build(assignment: Assignment) -> Parts:
    quantized = assignment.by_scheme()
    base = list(quantized)[-1] if quantized else None
    engines = engine_names(assignment)
    kept = regexes(assignment.kept, engines=engines) + head_regex(assignment)
    # GPTQModel makes linear modules of stacked experts and quantizes them unless it is told not to.
    kept += [pattern.removesuffix("$") + r"(\.|$)" for pattern in regexes(stacked_experts(assignment), engines=engines)]
    dynamic: dict[str, Any] = {f"-:{pattern}": {} for pattern in kept}
    for scheme, modules in quantized.items():
        if scheme is not base:
            for pattern in regexes(modules, engines=engines):
                dynamic[f"+:{pattern}"] = {"bits": scheme.bits, "group_size": scheme.group}
    config = {
        "bits": base.bits if base else 4,
        "group_size": base.group if base else 64,
        "sym": True,
        "desc_act": False,
        "dynamic": dynamic,
    }
    return Parts(
        {"quantize_config.json": json_text(config), "quantize.py": script("gptqmodel.py")},
        "python quantize.py MODEL OUT CALIBRATION.txt    # one text per line; load with GPTQModel.load or vLLM\n",
    )


TOOL = Tool("gptqmodel", "gptqmodel", "GPTQModel 7.7.0, transformers 5.23.0", build)
