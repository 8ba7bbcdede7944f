"""GPTQModel: a quantize_config with `dynamic` rules.

Rules are matched from the start in order and the first decides; here they are disjoint, so order cannot matter. Fused
names are included for serving engines that read the same rules. Outside the blocks GPTQModel quantizes the head alone,
if it is told to, with 8 bits unless a rule says otherwise; in the blocks, what its definition of the model lists, and
towers are in no definition. Of some models it takes the `gate_up_proj` apart before it looks for modules.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any, Final

from fastewq.architecture import Tensor
from fastewq.exports.assignment import Assignment, Module, engine_names, expert_regexes, head_regex, regexes
from fastewq.exports.base import Parts, Tool, json_text, script
from fastewq.exports.names import GPTQMODEL, GPTQMODEL_KEEPS, GPTQMODEL_LOSES
from fastewq.exports.text_part import text_blocks
from fastewq.modules import FUSED, is_token_head, module_name
from fastewq.schemes import KEEP
from fastewq.shown import shown

WHOLE: Final = "gate_up_proj"
TAKEN_APART: Final = frozenset({"glm", "glm4", "glm4v", "glm_ocr", "phi3"})
"""Model types of which GPTQModel makes two modules of every `gate_up_proj`, with rules and tensors of their own."""
CROSS_ATTENTION: Final = {"mllama": "cross_attn.", "mllama_text_model": "cross_attn."}
"""Model type -> what there is in those of its blocks that GPTQModel leaves alone altogether."""


def adapt(assignment: Assignment) -> Assignment:
    """The blocks of the language model, as far as they are in GPTQModel's definition, and the head."""
    texts, model_type = text_blocks(assignment.plan), assignment.plan.model["model_type"]
    crossing = CROSS_ATTENTION.get(model_type)
    crossed = {m.block for m in assignment.modules if crossing and m.name.startswith(crossing)}

    def kept(module: Module) -> tuple[str, str] | None:
        if module.scheme is None or _is_head(module):
            return None
        if model_type in GPTQMODEL and module.block not in texts:
            return KEEP, "GPTQModel quantizes the blocks of the language model and the head alone"
        if module.block in crossed or leaves_out(model_type, module.name):
            return KEEP, f"GPTQModel's definition of {model_type} leaves it out"
        return None

    changed = assignment.changed(kept)
    return _taken_apart(changed) if model_type in TAKEN_APART else changed


def leaves_out(model_type: str, name: str) -> bool:
    """Whether GPTQModel knows models of this type, but not this module of their blocks."""
    return any(f"{name}.".startswith(f"{kept}.") for kept in GPTQMODEL_KEEPS.get(model_type, ()))


def _taken_apart(assignment: Assignment) -> Assignment:
    """With the two halves in place of every `gate_up_proj`."""

    def modules(module: Module) -> list[Module]:
        if module.block < 0:
            return [module]
        above = module.path.removesuffix(module.name)
        found = [(module_name(tensor.name), tensor) for tensor in _halves(module.tensor)]
        return [replace(module, path=above + name, name=name, tensor=tensor) for name, tensor in found]

    plan = assignment.plan
    layouts = tuple(tuple(chain.from_iterable(map(_halves, layout))) for layout in plan.layouts)
    found = tuple(chain.from_iterable(map(modules, assignment.modules)))
    return replace(assignment, plan=plan._replace(layouts=layouts), modules=found)


def _halves(tensor: Tensor) -> list[Tensor]:
    above, dot, last = module_name(tensor.name).rpartition(".")
    if tensor.role != "linear" or last != WHOLE:
        return [tensor]
    rows, *inputs = tensor.shape
    return [tensor._replace(name=f"{above}{dot}{half}.weight", shape=(rows // 2, *inputs)) for half in FUSED[WHOLE]]


def _is_head(module: Module) -> bool:
    return module.block < 0 and is_token_head(module.path)


def build(assignment: Assignment) -> Parts:
    quantized = assignment.by_scheme()
    base = list(quantized)[-1] if quantized else None
    engines = engine_names(assignment)
    kept = regexes(assignment.kept, engines=engines) + head_regex(assignment)
    # GPTQModel makes linear modules of stacked experts and quantizes them unless it is told not to.
    kept += expert_regexes(assignment, engines)
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
    return Parts(
        {"quantize_config.json": json_text(config), "quantize.py": script("gptqmodel.py")},
        "python quantize.py MODEL OUT CALIBRATION.txt    # one text per line; load with GPTQModel.load or vLLM\n",
        _warnings(assignment.plan.model["model_type"]),
    )


def _warnings(model_type: str) -> tuple[str, ...]:
    name = f"model_type {shown(model_type)}"
    if model_type in GPTQMODEL_LOSES:
        return (
            f"GPTQModel 7.7.0 looks for the blocks of {name} where transformers 5.23.0 does not have them, and fails",
        )
    if model_type not in GPTQMODEL:
        return (f"GPTQModel 7.7.0 has no definition of {name} and guesses where its blocks are",)
    return ()


TOOL = Tool("gptqmodel", "gptqmodel", "GPTQModel 7.7.0, transformers 5.23.0", build, adapt)
