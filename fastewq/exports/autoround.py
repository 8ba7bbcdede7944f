"""AutoRound: a `layer_config`.

Keys are exact module names. A key with any regular expression token has its bare dots escaped a second time, so an
escaped dot would match nothing and pass with a warning only; and a plain key is a substring, so a block needs its
trailing dot. Exact names avoid both. AutoRound leaves the towers of multimodal models as they are, and takes stacked
experts apart into a linear module per expert and matrix, which it quantizes unless it is told not to.
"""

from __future__ import annotations

from typing import Any

from fastewq.exports.assignment import Assignment, stacked_experts
from fastewq.exports.base import Parts, Tool, json_text, script
from fastewq.exports.text_part import is_text, towers
from fastewq.policy import KEEP


def adapt(assignment: Assignment) -> Assignment:
    """The towers kept."""
    if not towers(assignment.plan):
        return assignment
    reason = "AutoRound quantizes the language model alone"
    return assignment.changed(lambda m: (KEEP, reason) if m.scheme is not None and not is_text(m.path) else None)


def build(assignment: Assignment) -> Parts:
    quantized = assignment.by_scheme()
    base = list(quantized)[-1] if quantized else None
    layer_config: dict[str, dict[str, Any]] = {
        module.path: {"bits": 16} for module in assignment.kept if module.tensor.role in ("linear", "router")
    }
    layer_config |= {f"{module.path}.": {"bits": 16} for module in stacked_experts(assignment)}
    for scheme, modules in quantized.items():
        if scheme is not base:
            layer_config |= {module.path: {"bits": scheme.bits, "group_size": scheme.group} for module in modules}
    config = {
        "bits": base.bits if base else 4,
        "group_size": base.group if base else 64,
        "sym": True,
        "layer_config": layer_config,
    }
    return Parts(
        {"autoround.json": json_text(config), "quantize.py": script("autoround.py")},
        "python quantize.py MODEL OUT    # round to nearest; add --tune for AutoRound's own tuning\n",
    )


TOOL = Tool("autoround", "autoround", "auto-round 0.16.1", build, adapt)
