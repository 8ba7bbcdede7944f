"""The language model within a larger one, for tools that take nothing else.

What its module is called differs (`language_model`, `text_model`, `thinker.model.language_model`; some have none of
their own), so it is known by what it holds: the token embedding. Of the embeddings outside the towers that is the one
nearest to the head, and of those the one with the most rows. Stacks of the language model are those that share the
longest path with it, its other modules those that share as much and are in no other part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import takewhile
from typing import Final

from fastewq.document import Plan, PlannedStack
from fastewq.exports.assignment import Assignment, Module, group_module
from fastewq.modules import is_token_head
from fastewq.schemes import KEEP

TOWERS: Final = ("vision", "audio")
"""How the names of most stacks begin that read pictures or sound."""
DEPTH: Final = 8
"""Parts of a path that are compared: those of no two parts of a model are alike as far as this."""


def text_stacks(plan: Plan) -> list[PlannedStack]:
    """The stacks of the language model: all of a model of text alone, none where there is no token embedding."""
    embedding = _above(_token_embeddings(plan))
    stacks = [s for s in plan.stacks if embedding and s.blocks.paths and not s.name.startswith(TOWERS)]
    near = [_shared(stack.blocks.paths[0], embedding) for stack in stacks]
    nearest = max(near, default=0)
    return [stack for stack, shared in zip(stacks, near, strict=True) if shared == nearest]


def text_blocks(plan: Plan) -> set[int]:
    """The blocks of these stacks, counted over all stacks."""
    texts = {id(stack) for stack in text_stacks(plan)}
    stacks = [id(stack) for stack in plan.stacks for _ in stack.blocks.paths]
    return {number for number, stack in enumerate(stacks) if stack in texts}


def text_part(assignment: Assignment, reason: str) -> Assignment:
    """The assignment of the language model alone; where another part was to be quantized, differences with `reason`."""
    plan = assignment.plan
    texts = text_stacks(plan)
    if len(texts) == len(plan.stacks):
        return assignment
    is_text = text_paths(plan)
    renumbered = {number: new for new, number in enumerate(sorted(text_blocks(plan)))}

    def within(module: Module) -> bool:
        return module.block in renumbered if module.block >= 0 else is_text(module.path)

    kept = assignment.changed(lambda module: None if module.scheme is None or within(module) else (KEEP, reason))
    return replace(
        kept,
        part=True,
        plan=plan._replace(
            stacks=tuple(texts),
            other=tuple(group for group in plan.other if is_text(group.path)),
        ),
        modules=tuple(replace(m, block=renumbered.get(m.block, -1)) for m in kept.modules if within(m)),
    )


def text_paths(plan: Plan) -> Callable[[str], bool]:
    """Whether a module, by its path, belongs to the language model."""
    texts = text_stacks(plan)
    rest = {id(stack) for stack in plan.stacks} - set(map(id, texts))
    others = _above(stack.blocks.paths[0] for stack in plan.stacks if stack.blocks.paths and id(stack) in rest)
    embedding = _above(_token_embeddings(plan))
    root = min((_shared(stack.blocks.paths[0], embedding) for stack in texts), default=0)

    def is_text(path: str) -> bool:
        shared = min(_shared(path, embedding), root)
        return (shared == root or is_token_head(path)) and _shared(path, others) <= shared

    return is_text


def _token_embeddings(plan: Plan) -> list[str]:
    """The paths of the token embeddings: an encoder and a decoder may each have one."""
    outer, inner = (
        _above(s.blocks.paths[0] for s in plan.stacks if s.blocks.paths and s.name.startswith(TOWERS) is tower)
        for tower in (True, False)
    )
    head = _above([next((group.path for group in plan.other if is_token_head(group.path)), "")])
    found = {
        path: (_shared(path, head), tensor.shape[0])
        for group in plan.other
        for tensor in plan.layouts[group.layout]
        if tensor.role == "embedding" and len(tensor.shape) == 2
        for path in [group_module(group.path, tensor)]
        if _shared(path, outer) <= _shared(path, inner)
    }
    first = max(found.values(), default=None)
    return [path for path, rank in found.items() if rank == first]


def _above(paths: Iterable[str]) -> set[str]:
    """Every beginning of these paths, up to DEPTH parts."""
    return {".".join(parts[:n]) for path in paths for parts in [path.split(".")] for n in range(1, DEPTH + 1)}


def _shared(path: str, beginnings: set[str]) -> int:
    """With how many parts the path begins as one of those does that `beginnings` (`_above`) is of."""
    parts = path.split(".")[:DEPTH]
    return sum(1 for _ in takewhile(lambda n: ".".join(parts[:n]) in beginnings, range(1, len(parts) + 1)))
