"""A plan in the making: the precision of every block and outside group, and what each choice weighs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import islice, repeat
from typing import Final

from fastewq.architecture import Architecture, Layout, Outside, Role, Tensor
from fastewq.document import PlannedBlock, PlannedGroup, PlannedStack
from fastewq.errors import InvalidPolicy
from fastewq.modules import TOKEN_HEADS, fused, module_name, modules
from fastewq.policy import KEEP, Pattern, Policy
from fastewq.schemes import MATRICES, OUTSIDE_MATRICES, Target, follows, raw_precision

NO_EXCEPTIONS: Final[dict[str, str]] = {}


def followed(policy: Policy, architecture: Architecture, probabilities: Sequence[float]) -> tuple[list[str], set[int]]:
    """The precision of every block under a policy, before its overrides, and the blocks that a budget must not move."""
    precisions: list[str] = []
    pinned: set[int] = set()
    several = any(stack.role != "vision" for stack in architecture.stacks)
    for stack in architecture.stacks:
        start, count = len(precisions), len(stack.blocks)
        if stack.role == "vision" and several and not policy.vision:
            precisions += [KEEP] * count
            pinned.update(range(start, start + count))
            continue
        precisions += policy.precisions(probabilities[start : start + count])
        if policy.keep_ends and count:
            pinned |= {start, start + count - 1}
    return precisions, pinned


class Draft:
    """Precisions by block number, counted over all stacks in execution order; "raw" stands for the stored precision.

    paths, layouts, indices, precisions   of each block;  pinned: the blocks a budget must not move
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
        self.paths = [path for stack in architecture.stacks for path in stack.blocks.paths]
        self.layouts = [layout for stack in architecture.stacks for layout in stack.blocks.layouts]
        self.indices = [index for stack in architecture.stacks for index in range(len(stack.blocks))]
        self.warnings: list[str] = []
        self.precisions, self.pinned = followed(policy, architecture, probabilities)
        self.exceptions: dict[int, dict[str, str]] = {}
        self.groups = [self._group_precision(group) for group in architecture.outside]
        self._sizes: dict[tuple[int, str], int] = {}
        self._named_alike: dict[tuple[int, str], tuple[str, dict[str, str]]] = {}
        if policy.overrides:
            self._override()
        self._check_formats()

    def _check_formats(self) -> None:
        """Raises InvalidPolicy where the target has no format for a precision in use."""
        used = {*self.precisions, *self.groups, *(p for found in self.exceptions.values() for p in found.values())}
        missing = used - {KEEP} - self.target.schemes.keys()
        if missing:
            raise InvalidPolicy(
                f"the policy {self.policy.name} uses {', '.join(sorted(missing))}, which the target {self.target.name} "
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
        return self.policy.lm_head if group.path.rpartition(".")[2] in TOKEN_HEADS else KEEP

    def _override(self) -> None:
        """Overrides apply in order, so a later one wins. Raises InvalidPolicy where one names nothing quantizable."""
        for text, precision in self.policy.overrides:
            pattern = Pattern(text)
            named = [self._override_block(number, pattern, precision) for number in range(len(self.paths))]
            named += [self._override_group(number, pattern, precision) for number in range(len(self.groups))]
            if not any(named):
                raise InvalidPolicy(
                    f"policy.overrides: {text!r} names no block and no module that can be quantized",
                    hint="Name blocks by index (0-3) or path (model.layers.3), modules by path (*.mlp.down_proj).",
                )

    def _override_block(self, number: int, pattern: Pattern, precision: str) -> bool:
        path = self.paths[number]
        if pattern.names_block(self.indices[number], path):
            self.precisions[number] = precision
            self.pinned.add(number)
            self.exceptions.pop(number, None)
            return True
        everything = modules(self.layouts[number], self.roles)
        named = {name for name in everything if pattern.names_module(f"{path}.{name}")}
        shared = {fused(name) for name in named}
        changed = [name for name in everything if fused(name) in shared]
        if len(changed) > len(named):
            self.warnings.append(
                f"{path}: {', '.join(sorted(set(changed) - named))} follows {', '.join(sorted(named))}, since "
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
        layout = self.layouts[number]
        exceptions = self.exceptions.get(number)
        if not exceptions:
            return self._layout_bytes(layout, precision)
        return sum(self._tensor_bytes(t, exceptions.get(module_name(t.name), precision)) for t in layout.tensors)

    def _layout_bytes(self, layout: Layout, precision: str) -> int:
        key = (id(layout), precision)
        size = self._sizes.get(key)
        if size is None:
            size = self._sizes[key] = self.target.layout_bytes(layout, precision, self.raw_bytes, self.roles)
        return size

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

    def group_bytes(self, number: int) -> int:
        return self.target.outside_bytes(self.architecture.outside[number], self.groups[number], self.raw_bytes)

    def total(self) -> int:
        """Bytes of all weights."""
        special = sum(self.block_bytes(number, self.precisions[number]) for number in self.exceptions)
        usual = sum(
            self._layout_bytes(layout, precision)
            for number, (layout, precision) in enumerate(zip(self.layouts, self.precisions, strict=True))
            if number not in self.exceptions
        )
        return special + usual + sum(map(self.group_bytes, range(len(self.groups))))

    def document(self) -> tuple[tuple[PlannedStack, ...], tuple[PlannedGroup, ...], tuple[tuple[Tensor, ...], ...]]:
        """The planned stacks and outside groups, and the distinct layouts they refer to by number."""
        outside = self.architecture.outside
        layouts = self.architecture.layouts
        planned = self._planned()
        for number in self.exceptions:
            size = self.block_bytes(number, self.precisions[number])
            planned[number] = planned[number]._replace(bytes=size, modules=self._exceptions(number))
        if self.architecture.quantization is not None:
            planned = [self._as_stored(number, block) for number, block in enumerate(planned)]
        remaining = iter(planned)
        stacks = tuple(
            PlannedStack(stack.name, tuple(islice(remaining, len(stack.blocks)))) for stack in self.architecture.stacks
        )
        other = tuple(
            PlannedGroup(group.path, group.parameters, self._group_named(i), self.group_bytes(i), len(layouts) + i)
            for i, group in enumerate(outside)
        )
        return stacks, other, (*(layout.tensors for layout in layouts), *(group.tensors for group in outside))

    def _planned(self) -> list[PlannedBlock]:
        """Every block as if it had no exceptions, made column by column."""
        if not self.paths:
            return []
        keys = [*zip(map(id, self.layouts), self.precisions, strict=True)]
        distinct = {id(layout): (layout, number) for number, layout in enumerate(self.architecture.layouts)}
        alike = {key: self._alike(*distinct[key[0]], key[1]) for key in {*keys}}
        kinds, parameters, names, sizes, references = zip(*map(alike.__getitem__, keys), strict=True)
        rows = zip(
            self.indices,
            self.paths,
            kinds,
            parameters,
            self.probabilities,
            names,
            sizes,
            references,
            repeat(NO_EXCEPTIONS),
        )
        return [*map(partial(tuple.__new__, PlannedBlock), rows)]  # a call of PlannedBlock takes several times as long

    def _alike(self, layout: Layout, number: int, precision: str) -> tuple[str, int, str, int, int]:
        """What blocks of one layout and precision have in common: kind to layout of a `PlannedBlock`."""
        size = self._layout_bytes(layout, precision)
        return layout.kind, layout.parameters, self._named(precision), size, number

    def names(self) -> list[str]:
        """The precision of every block, by its name in a plan."""
        if self.architecture.quantization is None:
            return [self.raw if precision == KEEP else precision for precision in self.precisions]
        return [self._found(number)[0] for number in range(len(self.paths))]

    def _as_stored(self, number: int, block: PlannedBlock) -> PlannedBlock:
        precision, exceptions = self._found(number)
        return block._replace(precision=precision, modules=exceptions)

    def _found(self, number: int) -> tuple[str, dict[str, str]]:
        """A block's precision and the modules that differ, where the checkpoint holds matrices quantized.

        Such a matrix keeps what it has where that is no more bits than its block gets. The block is named by what most
        of its weights have then.
        """
        layout, exceptions = self.layouts[number], self.exceptions.get(number)
        key = (id(layout), self.precisions[number])
        if exceptions is None and key in self._named_alike:
            return self._named_alike[key]
        weights: Counter[str] = Counter()
        found = {}
        for tensor in layout.tensors:
            if tensor.role in self.roles:
                module = module_name(tensor.name)
                found[module] = self._precision_of(tensor, (exceptions or {}).get(module, key[1]))
                weights[found[module]] += tensor.parameters
        usual = max(weights, key=weights.__getitem__, default=self._named(key[1]))
        named = usual, {module: precision for module, precision in found.items() if precision != usual}
        if exceptions is None:
            self._named_alike[key] = named
        return named

    def _precision_of(self, tensor: Tensor, asked: str) -> str:
        if tensor.stored is not None and (asked == KEEP or not follows(tensor, asked)):
            return tensor.stored.precision
        return self._named(asked)

    def _group_named(self, number: int) -> str:
        """The precision of an outside group: that of most of its weights."""
        asked = self.groups[number]
        if self.architecture.quantization is None:
            return self._named(asked)
        weights: Counter[str] = Counter()
        for tensor in self.architecture.outside[number].tensors:
            weights[self._precision_of(tensor, asked)] += tensor.parameters
        return max(weights, key=weights.__getitem__, default=self._named(asked))

    def _named(self, precision: str) -> str:
        return self.raw if precision == KEEP else precision

    def _exceptions(self, number: int) -> dict[str, str]:
        usual = self.precisions[number]
        return {name: self._named(p) for name, p in self.exceptions[number].items() if p != usual}
