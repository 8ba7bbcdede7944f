"""The language model within a multimodal one, for tools whose file holds nothing else."""

from __future__ import annotations

from dataclasses import replace

from fastewq.document import Plan
from fastewq.exports.assignment import Assignment
from fastewq.modules import is_token_head
from fastewq.policy import KEEP

TOWERS = ("vision", "audio")
TEXT = "language_model"


def towers(plan: Plan) -> list[str]:
    """The names of the stacks that read pictures or sound."""
    return [stack.name for stack in plan.stacks if stack.name.startswith(TOWERS)]


def tower_blocks(plan: Plan) -> set[int]:
    """The blocks of these stacks, counted over all stacks."""
    seeing = towers(plan)
    names = [stack.name for stack in plan.stacks for _ in stack.blocks.paths]
    return {number for number, name in enumerate(names) if name in seeing}


def text_part(assignment: Assignment, reason: str) -> Assignment:
    """The assignment of the language model alone; where a tower was to be quantized, differences with `reason`."""
    plan = assignment.plan
    if not towers(plan):
        return assignment
    kept = assignment.changed(lambda module: None if module.scheme is None or is_text(module.path) else (KEEP, reason))
    blocks = [(stack, block) for stack in plan.stacks for block in stack.blocks]
    texts = [number for number, (_, block) in enumerate(blocks) if is_text(block.path)]
    renumbered = {number: new for new, number in enumerate(texts)} | {-1: -1}
    return replace(
        kept,
        plan=plan._replace(
            stacks=tuple(stack for stack in plan.stacks if is_text(stack.blocks[0].path)),
            other=tuple(group for group in plan.other if is_text(group.path)),
        ),
        modules=tuple(replace(m, block=renumbered[m.block]) for m in kept.modules if is_text(m.path)),
    )


def is_text(path: str) -> bool:
    """Whether a module of a multimodal model belongs to its language model."""
    return TEXT in path.split(".") or is_token_head(path)
