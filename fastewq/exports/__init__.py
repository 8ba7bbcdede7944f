"""A plan -> what a deployment tool loads. One module per tool; `names.py` has the module names of tools with their own.

export(plan, "llama.cpp")                 files, usage and predicted bytes
export(plan, "mlx", nearest=True)         the nearest plan the tool can express, differences listed
"""

from __future__ import annotations

from itertools import groupby
from typing import Final

from fastewq.document import Plan
from fastewq.errors import CannotExport, InvalidPlan
from fastewq.exports import (
    autoround,
    bitsandbytes,
    compressed_tensors,
    devices,
    gptqmodel,
    ignore_list,
    llama_cpp,
    mlx,
    openvino,
    quanto,
    torchao,
)
from fastewq.exports.assignment import Difference, assign
from fastewq.exports.base import Export, Tool
from fastewq.memory import MAX_BYTES
from fastewq.schemes import DEFAULT_TARGET
from fastewq.shown import shown

__all__ = ["TOOLS", "Export", "export", "tool_named"]

TOOLS: Final[dict[str, Tool]] = {
    tool.name: tool
    for tool in (
        llama_cpp.TOOL,
        bitsandbytes.TOOL,
        torchao.TOOL,
        compressed_tensors.TOOL,
        gptqmodel.TOOL,
        autoround.TOOL,
        mlx.TOOL,
        openvino.TOOL,
        quanto.TOOL,
        ignore_list.TOOL,
        devices.TOOL,
    )
}


def tool_named(name: str) -> Tool:
    """Raises CannotExport."""
    if not isinstance(name, str) or name not in TOOLS:
        raise CannotExport(
            f"tool is {shown(name, 40)}; expected one of {', '.join(TOOLS)}",
            hint="vLLM and SGLang load what llm-compressor, gptqmodel and autoround write.",
        )
    return TOOLS[name]


def export(plan: Plan, tool: str, *, nearest: bool = False) -> Export:
    """The plan in the form `tool` takes.

    Raises CannotExport where the tool is unknown, does not cover the model, or cannot express the plan; with `nearest`
    the last of these gives the nearest plan it can express instead, its differences listed. Raises InvalidPlan for one
    whose tensors no memory can hold.
    """
    chosen = tool_named(tool)
    if chosen.target != DEFAULT_TARGET and any(tensor.stored for layout in plan.layouts for tensor in layout):
        method = shown(plan.model.get("quantization"))
        raise CannotExport(
            f"{tool} does not start from a checkpoint that is already quantized ({method})",
            hint=f"Convert it to {plan.model['dtype']} weights first, and plan for the target {chosen.target}.",
        )
    assignment = chosen.adapt(assign(plan, chosen.target))
    if assignment.differences and not nearest:
        raise CannotExport(
            f"{tool} cannot express this plan: {summary(assignment.differences)}",
            hint="Ask for the nearest plan it can express (--nearest, or 'nearest': true over HTTP), "
            "or plan with a policy and target it has.",
        )
    size = assignment.tensor_bytes()
    if size > MAX_BYTES:
        raise InvalidPlan(f"the tensors of the plan take {size} bytes; expected at most {MAX_BYTES}")
    parts = chosen.build(assignment)
    return Export(
        tool=tool,
        verified=chosen.verified,
        files=parts.files,
        usage=parts.usage,
        bytes=size,
        header_bytes=parts.header_bytes,
        differences=assignment.differences,
        warnings=(*parts.warnings, *_over_budget(plan, size + parts.header_bytes, chosen)),
    )


def _over_budget(plan: Plan, size: int, tool: Tool) -> tuple[str, ...]:
    """A plan that fits in one tool's format need not fit in another's."""
    available = plan.memory.request.available if plan.memory else None
    if plan.memory is None or available is None or size + plan.memory.kv_cache <= available:
        return ()
    over = size + plan.memory.kv_cache - available
    return (
        f"{over} bytes more than the plan's memory: it was made for the target {plan.target:.40}; "
        f"plan with {tool.target}",
    )


def summary(differences: tuple[Difference, ...]) -> str:
    """The differences by reason, each with its number and first module."""
    by_reason = sorted(differences, key=lambda d: (d.reason, d.planned, d.exported))
    texts = []
    for (reason, planned, exported), group in groupby(by_reason, key=lambda d: (d.reason, d.planned, d.exported)):
        first, *more = [difference.path for difference in group]
        modules = f"{len(more) + 1} modules ({first} ...)" if more else first
        texts.append(f"{reason}, so {modules} would be {exported}, not {planned}")
    return "; ".join(texts)
