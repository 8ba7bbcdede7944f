"""The plain list of module paths that keep their precision, one per line, for tools not covered here."""

from __future__ import annotations

from fastewq.exports.assignment import Assignment, tied_head
from fastewq.exports.base import Parts, Tool


def build(assignment: Assignment) -> Parts:
    paths = [*(module.path for module in assignment.kept), *tied_head(assignment)]
    return Parts(
        {"ignore.txt": "".join(f"{path}\n" for path in paths)},
        "ignore.txt lists every matrix that stays unquantized, by its path in the transformers library.\n",
    )


TOOL = Tool("ignore-list", "plain", "needs no tool", build)
