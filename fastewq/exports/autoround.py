"""AutoRound: a `layer_config`.

Keys are exact module names. A key with any regular expression token has its bare dots escaped a second time, so an
escaped dot would match nothing and pass with a warning only; and a plain key is a substring, so a block needs its
trailing dot. Exact names avoid both.
"""

from __future__ import annotations

from typing import Any

from fastewq.exports.assignment import Assignment
from fastewq.exports.base import Parts, Tool, json_text, script


def build(assignment: Assignment) -> Parts:
    quantized = assignment.by_scheme()
    base = list(quantized)[-1] if quantized else None
    layer_config: dict[str, dict[str, Any]] = {
        module.path: {"bits": 16} for module in assignment.kept if module.tensor.role in ("linear", "router")
    }
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


TOOL = Tool("autoround", "autoround", "auto-round 0.16.1", build)
