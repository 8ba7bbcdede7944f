"""transformers + torchao: one FqnToConfig for TorchAoConfig.

Patterns are disjoint and full, since config.json is written with sorted keys and the order of a dictionary is lost.
They end in `.weight`: a pattern for a module would quantize its bias too and fail, one for a whole block its norms.
"""

from __future__ import annotations

from fastewq.exports.assignment import Assignment, regexes
from fastewq.exports.base import Parts, Tool, json_text, scripts


def build(assignment: Assignment) -> Parts:
    rules = [
        {"pattern": pattern.removeprefix("^").removesuffix("$"), "bits": _bits(scheme.name), "group_size": scheme.group}
        for scheme, modules in assignment.by_scheme().items()
        for pattern in regexes(modules, suffix=".weight")
    ]
    return Parts(
        {"torchao.json": json_text({"rules": rules}), **scripts("torchao.py")},
        "python quantize.py MODEL OUT\n",
        ("on a CPU torchao keeps one weight per byte whatever its bits, so int4 saves no more bytes than int8",),
    )


def _bits(name: str) -> int:
    return 8 if name.startswith("Int8") else 4


TOOL = Tool("torchao", "torchao", "torchao 0.18.0, transformers 5.23.0", build)
