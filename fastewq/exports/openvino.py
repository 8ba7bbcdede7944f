"""OpenVINO: one pass of `nncf.compress_weights` per precision, each ignoring every module of the others.

Patterns are matched from the start against graph nodes, whose names are the module paths below `__module.`. A pass also
ignores what an earlier pass compressed, the embeddings and the head. A pattern that matches nothing passes silently, so
the script looks for the blocks first: optimum-intel needs an older transformers, where ViT's modules have other names.
"""

from __future__ import annotations

from fastewq.exports.assignment import Assignment, head_regex, regexes, stacked_experts
from fastewq.exports.base import Parts, Tool, json_text, script
from fastewq.schemes import Scheme


def build(assignment: Assignment) -> Parts:
    matrices = (*assignment.modules, *assignment.routers)
    # The product with stacked experts is a node of the module that holds them.
    always = regexes(stacked_experts(assignment)) + head_regex(assignment)
    passes = [
        {
            "mode": _mode(scheme),
            "group_size": scheme.group or -1,
            "ignored": [
                _node(pattern) for pattern in regexes([m for m in matrices if m.scheme is not scheme]) + always
            ],
        }
        for scheme in assignment.by_scheme()
    ]
    blocks = [_node(pattern) for pattern in regexes([module for module in matrices if module.block >= 0])]
    parts = len(assignment.plan.stacks)
    warning = f"OpenVINO keeps the {parts} stacks of this model in files of their own; quantize.py takes models of one"
    return Parts(
        {"nncf.json": json_text({"blocks": blocks, "passes": passes}), "quantize.py": script("openvino.py")},
        "python quantize.py MODEL OUT    # needs optimum-intel; OUT is an OpenVINO model\n",
        (warning,) if parts > 1 else (),
    )


def _mode(scheme: Scheme) -> str:
    return "INT8_SYM" if scheme.bits == 8 else "INT4_SYM"


def _node(pattern: str) -> str:
    """The pattern for the graph nodes of modules: a prefix, and any operation below the module."""
    return r"^__module\." + pattern.removeprefix("^").removesuffix("$") + r"(/.*|$)"


TOOL = Tool("openvino", "openvino", "NNCF 3.4.0, OpenVINO 2026.4", build)
