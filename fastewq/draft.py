"""A plan in the making: the precision of every block and outside group, and what each choice weighs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from math import prod
from typing import Final

from fastewq.architecture import Architecture, Block, Blocks, Layout, Outside, Role, Stored, Tensor, lazy
from fastewq.document import Common, Listed, PlannedBlocks, PlannedGroup, PlannedStack
from fastewq.errors import InvalidPolicy
from fastewq.modules import fused, is_token_head, module_name, modules
from fastewq.policy import Pattern, Policy, stack_precisions
from fastewq.schemes import BITS, KEEP, LEVELS, MATRICES, OUTSIDE_MATRICES, PRECISIONS, Target, follows, raw_precision

NO_EXCEPTIONS: Final[Mapping[str, str]] = {}


def kept_towers(architecture: Architecture) -> list[bool]:
    """Whether each stack is a vision tower beside others, which is kept unless a policy says otherwise."""
    towers = [stack.role == "vision" for stack in architecture.stacks]
    return [False] * len(towers) if all(towers) else towers


def followed(policies: tuple[Policy, ...], architecture: Architecture, probabilities: Sequence[float]) -> list[bytes]:
    """The precision of every block under each of the policies before their overrides, as indices into PRECISIONS."""
    found: list[tuple[bytes, ...]] = []
    end = 0
    for stack, tower in zip(architecture.stacks, kept_towers(architecture), strict=True):
        start, end = end, end + len(stack.blocks.paths)
        levels = stack_precisions(policies, of_stack(probabilities, start, end))
        if tower:
            kept = bytes(end - start)
            levels = tuple([own if policy.vision else kept for own, policy in zip(levels, policies, strict=True)])
        found.append(levels)
    return list(map(b"".join, zip(*found, strict=True))) if found else [b""] * len(policies)


def of_stack(probabilities: Sequence[float], start: int, end: int) -> tuple[float, ...]:
    """The probabilities of a stack out of those of all blocks: where it is the only one, the same object."""
    if start == 0 and end == len(probabilities) and isinstance(probabilities, tuple):
        return probabilities
    return tuple(probabilities[start:end])


def told_apart(keys: Sequence[Hashable]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The place of one example for each of the different keys, and for each key which of the examples it is like."""
    places = dict(zip(keys, range(len(keys)), strict=True))
    number = dict(zip(places, range(len(places)), strict=True))
    return tuple(places.values()), tuple(map(number.__getitem__, keys))


def pinned(policy: Policy, architecture: Architecture) -> set[int]:
    """The blocks that a budget must not move, before overrides."""
    found: set[int] = set()
    end = 0
    for stack, tower in zip(architecture.stacks, kept_towers(architecture), strict=True):
        start, end = end, end + len(stack.blocks)
        if tower and not policy.vision:
            found.update(range(start, end))
        elif policy.keep_ends and start < end:
            found |= {start, end - 1}
    return found


def precision_of(stored: Stored | None, asked: str, raw: str) -> str:
    """What a matrix gets by its name in a plan: what it is stored as where that is no more bits than asked for."""
    if stored is not None and (asked == KEEP or stored.bits <= BITS[asked]):
        return stored.precision
    return precision_name(asked, raw)


def precision_name(asked: str, raw: str) -> str:
    """The name of a precision in a plan."""
    return raw if asked == KEEP else asked


def usual(weights: Mapping[str, int], asked: str, raw: str) -> str:
    """The precision that most weights get, and what was asked for where there are none."""
    return max(weights, key=weights.__getitem__, default=precision_name(asked, raw))


def usual_precisions(layout: Layout, asked: Sequence[str], roles: frozenset[Role], raw: str) -> list[str]:
    """What most of a block's weights get, for each precision asked for: the precision that a plan says it has."""
    weights: dict[tuple[str, int] | None, int] = {}
    examples: dict[tuple[str, int] | None, Stored | None] = {}
    for (shape, role, _, stored), count in layout.alike.items():
        if role in roles:
            kind = stored and stored[:2]
            weights[kind] = weights.get(kind, 0) + count * prod(shape)
            examples[kind] = stored
    if len(examples) == 1:
        (stored,) = examples.values()
        return [precision_of(stored, precision, raw) for precision in asked]
    found = []
    for precision in asked:
        named: Counter[str] = Counter()
        for kind, number in weights.items():
            named[precision_of(examples[kind], precision, raw)] += number
        found.append(usual(named, precision, raw))
    return found


def mixed(
    layout: Layout, asked: str, exceptions: Mapping[str, str], roles: frozenset[Role], raw: str
) -> tuple[str, dict[str, str]]:
    """The precision of a block of which the checkpoint holds matrices quantized, and the modules that differ.

    The block is named by what most of its weights get. `exceptions`: what modules get in place of `asked`.
    """
    weights: Counter[str] = Counter()
    found = {}
    for tensor in layout.tensors:
        if tensor.role in roles:
            module = module_name(tensor.name)
            found[module] = precision_of(tensor.stored, exceptions.get(module, asked), raw)
            weights[found[module]] += tensor.parameters
    most = usual(weights, asked, raw)
    return most, {module: precision for module, precision in found.items() if precision != most}


def listed(layout: Layout) -> Listed:
    """The tensors of a layout, kept with it, since models share layouts."""
    found: Listed | None = layout.planned.get("listed")
    if found is None:
        found = layout.planned["listed"] = Listed(layout.tensors)
    return found


class Draft:
    """Precisions by block number, counted over all stacks in execution order; "raw" stands for the stored precision.

    layouts      of each block
    levels       what each block is to have, as an index into PRECISIONS
    exceptions   block number -> module -> precision, where overrides set one
    groups       precision of each outside group
    """

    def __init__(
        self, architecture: Architecture, probabilities: Sequence[float], policy: Policy, target: Target
    ) -> None:
        self.architecture = architecture
        self.probabilities = probabilities
        self.policy = policy
        self.target = target
        self.raw, self.raw_bytes = raw_precision(architecture.dtype)
        self.roles: frozenset[Role] = MATRICES | {"router"} if policy.routers else MATRICES
        self.warnings: list[str] = []
        # What is followed is remembered with its policy, and overrides can be long.
        plain = replace(policy, overrides=()) if policy.overrides else policy
        (followed_levels,) = followed((plain,), architecture, probabilities)
        self.levels = bytearray(followed_levels)
        self.exceptions: dict[int, dict[str, str]] = {}
        self.groups = [KEEP] * len(architecture.outside)
        if not policy.embeddings == policy.lm_head == KEEP:
            self.groups = [self._group_precision(group) for group in architecture.outside]
        if policy.overrides:
            self._override()
        self._check_formats()

    @property
    def precisions(self) -> list[str]:
        """What each block is to have; "raw" stands for the stored precision."""
        return [PRECISIONS[level] for level in self.levels]

    @cached_property
    def layouts(self) -> list[Layout]:
        return list(chain.from_iterable([stack.blocks.layouts for stack in self.architecture.stacks]))

    @cached_property
    def pinned(self) -> set[int]:
        """The blocks that a budget must not move; overrides add to them."""
        return pinned(self.policy, self.architecture)

    @cached_property
    def blocks(self) -> list[Block]:
        return [block for stack in self.architecture.stacks for block in stack.blocks]

    def uses(self, precision: str) -> bool:
        """Whether a precision is asked for anywhere."""
        return (
            PRECISIONS.index(precision) in self.levels
            or precision in self.groups
            or any(precision in found.values() for found in self.exceptions.values())
        )

    def _check_formats(self) -> None:
        """Raises InvalidPolicy where the target has no format for a precision in use."""
        missing = [level for level in sorted(LEVELS) if level not in self.target.schemes and self.uses(level)]
        if missing:
            raise InvalidPolicy(
                f"the policy {self.policy.name} uses {', '.join(missing)}, which the target {self.target.name} "
                f"does not have; it has {', '.join(self.target.schemes)}"
            )

    def _group_precision(self, group: Outside) -> str:
        tied = self.architecture.tied_embeddings
        if any(t.role == "embedding" and t.shape[0] == self.architecture.vocab_size for t in group.tensors):
            if tied and self.policy.lm_head not in (KEEP, self.policy.embeddings):
                raise InvalidPolicy(
                    f"policy.lm_head is {self.policy.lm_head!r}; this model's head is its token embedding, so expected "
                    f"the same as policy.embeddings, {self.policy.embeddings!r}"
                )
            return self.policy.embeddings
        return self.policy.lm_head if is_token_head(group.path) else KEEP

    def _override(self) -> None:
        """Overrides apply in order, so a later one wins. Raises InvalidPolicy where one names nothing quantizable."""
        for text, precision in self.policy.overrides:
            pattern = Pattern(text)
            named = [self._override_block(number, pattern, precision) for number in range(len(self.layouts))]
            named += [self._override_group(number, pattern, precision) for number in range(len(self.groups))]
            if not any(named):
                raise InvalidPolicy(
                    f"policy.overrides: {text!r} names no block and no module that can be quantized",
                    hint="Name blocks by index (0-3) or path (model.layers.3), modules by path (*.mlp.down_proj).",
                )

    def _override_block(self, number: int, pattern: Pattern, precision: str) -> bool:
        block = self.blocks[number]
        if pattern.names_block(block.index, block.path):
            self.levels[number] = PRECISIONS.index(precision)
            self.pinned.add(number)
            self.exceptions.pop(number, None)
            return True
        everything = modules(block.layout, self.roles)
        named = {name for name in everything if pattern.names_module(f"{block.path}.{name}")}
        shared = {fused(name) for name in named}
        changed = [name for name in everything if fused(name) in shared]
        if len(changed) > len(named):
            self.warnings.append(
                f"{block.path}: {', '.join(sorted(set(changed) - named))} follows {', '.join(sorted(named))}, since "
                "serving engines run them as one"
            )
        if changed:
            self.exceptions.setdefault(number, {}).update(dict.fromkeys(changed, precision))
        return bool(changed)

    def _override_group(self, number: int, pattern: Pattern, precision: str) -> bool:
        group = self.architecture.outside[number]
        named = pattern.names_module(group.path) and any(t.role in OUTSIDE_MATRICES for t in group.tensors)
        if named:
            self.groups[number] = precision
        return named

    def block_bytes(self, number: int, precision: str) -> int:
        """Bytes of a block at a precision, with the exceptions inside it."""
        return self._bytes(self.layouts[number], precision, self.exceptions.get(number, NO_EXCEPTIONS))

    def _bytes(self, layout: Layout, precision: str, exceptions: Mapping[str, str]) -> int:
        if exceptions:
            return sum(self._tensor_bytes(t, exceptions.get(module_name(t.name), precision)) for t in layout.tensors)
        return self.target.layout_sizes(layout, self.raw_bytes, self.roles)[PRECISIONS.index(precision)]

    def _tensor_bytes(self, tensor: Tensor, precision: str) -> int:
        return self.target.tensor_bytes(tensor, precision if tensor.role in self.roles else KEEP, self.raw_bytes)

    def quantized_parameters(self, number: int, level: str) -> int:
        """Parameters of a block that follow its precision to `level`: what a budget's damage is counted over."""
        exceptions = self.exceptions.get(number, {})
        return sum(
            t.parameters
            for t in self.layouts[number].tensors
            if t.role in self.roles and module_name(t.name) not in exceptions and (level == KEEP or follows(t, level))
        )

    @lazy
    def _plain(self) -> bool:
        """Whether what is kept takes the bytes of its type: neither checkpoint nor tool says otherwise."""
        return self.architecture.quantization is None and self.target.small_bytes is None

    def group_bytes(self, number: int) -> int:
        if self._plain and self.groups[number] == KEEP:
            return self.architecture.outside_parameters[number] * self.raw_bytes
        return self.target.outside_bytes(self.architecture.outside[number], self.groups[number], self.raw_bytes)

    def total(self) -> int:
        """Bytes of all weights."""
        blocks = sum([self.block_bytes(number, precision) for number, precision in enumerate(self.precisions)])
        return blocks + sum(map(self.group_bytes, range(len(self.groups))))

    def document(self) -> tuple[tuple[PlannedStack, ...], tuple[PlannedGroup, ...], tuple[tuple[Tensor, ...], ...]]:
        """The planned stacks and outside groups, and the distinct layouts they refer to by number."""
        outside = self.architecture.outside
        layouts, parameters = self.architecture.layouts, self.architecture.outside_parameters
        stacks, start = [], 0
        for stack in self.architecture.stacks:
            stacks.append(PlannedStack(stack.name, self._planned(stack.blocks, start)))
            start += len(stack.blocks.paths)
        other = [
            PlannedGroup(group.path, parameters[i], self._group_named(i), self.group_bytes(i), len(layouts) + i)
            for i, group in enumerate(outside)
        ]
        tensors = (*map(listed, layouts), *[group.tensors for group in outside])
        return tuple(stacks), tuple(other), tensors

    def _planned(self, blocks: Blocks, start: int) -> PlannedBlocks:
        """The blocks of a stack, of which the first has the number `start`."""
        end = start + len(blocks.paths)
        levels = bytes(self.levels[start:end])
        if self._varied:
            alike, which = self._told_apart(blocks.layouts, levels, start)
        else:
            alike, which = self._at_each_level(), levels
        return PlannedBlocks(blocks.paths, of_stack(self.probabilities, start, end), alike, which)

    @lazy
    def _varied(self) -> bool:
        """Whether blocks differ in more than their level."""
        one = len(self.architecture.layouts) == 1 and self.architecture.quantization is None
        return not one or bool(self.exceptions)

    def _at_each_level(self) -> tuple[Common, ...]:
        """What the blocks of the only layout have in common at each of PRECISIONS.

        Models share layouts, so it is kept with the layout, for the target and dtype that were asked for last.
        """
        (layout,) = self.architecture.layouts
        asked = (self.target, self.raw, self.roles)
        alike: tuple[Common, ...]
        kept, alike = layout.planned.get("alike", (None, ()))
        if kept != asked:
            alike = tuple([self._common(layout, precision, NO_EXCEPTIONS) for precision in PRECISIONS])
            layout.planned["alike"] = asked, alike
        return alike

    def _told_apart(
        self, layouts: Sequence[Layout], levels: bytes, start: int
    ) -> tuple[tuple[Common, ...], Sequence[int]]:
        """What those of a stack's blocks have in common that are alike in layout, level and exceptions, and which."""
        own = [number if number in self.exceptions else None for number in range(start, start + len(levels))]
        examples, which = told_apart([*zip(levels, layouts, own, strict=True)])
        alike = [
            self._common(layouts[i], PRECISIONS[levels[i]], self.exceptions.get(start + i, NO_EXCEPTIONS))
            for i in examples
        ]
        return tuple(alike), which

    def _common(self, layout: Layout, precision: str, exceptions: Mapping[str, str]) -> Common:
        """What the blocks of a layout, a precision and exceptions from it have in common."""
        named, modules = self._found(layout, precision, exceptions)
        size = self._bytes(layout, precision, exceptions)
        return Common(layout.kind, layout.parameters, named, size, self._numbers[layout], modules)

    @lazy
    def _numbers(self) -> dict[Layout, int]:
        """The place of each layout among those of the plan."""
        return {layout: number for number, layout in enumerate(self.architecture.layouts)}

    def _found(self, layout: Layout, precision: str, exceptions: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
        """A block's precision by its name in a plan, and the modules that differ."""
        if self.architecture.quantization is not None:
            return mixed(layout, precision, exceptions, self.roles, self.raw)
        if not exceptions:
            return self._named(precision), NO_EXCEPTIONS
        return self._named(precision), {name: self._named(p) for name, p in exceptions.items() if p != precision}

    def _group_named(self, number: int) -> str:
        """The precision of an outside group: that of most of its weights."""
        asked = self.groups[number]
        if self.architecture.quantization is None:
            return precision_name(asked, self.raw)
        weights: Counter[str] = Counter()
        for tensor in self.architecture.outside[number].tensors:
            weights[precision_of(tensor.stored, asked, self.raw)] += tensor.parameters
        return usual(weights, asked, self.raw)

    def _named(self, precision: str) -> str:
        return precision_name(precision, self.raw)
