"""A `Scheme` applied to an architecture: every matrix marked with how it is stored. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import Any

from fastewq.architecture import Architecture, Blocks, Layout, Outside, Stack, Tensor, new_stored, new_tensor
from fastewq.architectures.fields import MAX_LAYOUTS
from fastewq.modules import TOKEN_HEADS, module_name
from fastewq.quantized.methods import MAX_RULES, METHODS, Config, NotUnderstood, method_of, quantization_of
from fastewq.quantized.module_names import MAX_TRIES, Modules, Pattern, TooMuch, indexed
from fastewq.quantized.packing import Packing, Scheme


def with_stored(architecture: Architecture, config: Config) -> Architecture:
    """The architecture with every matrix marked that the checkpoint stores quantized; the same object where none is.

    What is not understood leaves the matrices as before quantization, with a warning. Raises InvalidConfig for a
    malformed `quantization_config`.
    """
    q, nested = quantization_of(config)
    if q is None:
        return architecture
    method = method_of(q)
    try:
        if method not in METHODS:
            raise NotUnderstood(f"quant_method {method!r}")
        scheme = METHODS[method](q, config)
        scheme = scheme._replace(text=True) if nested else scheme
        return _Marking(scheme, sum(len(stack.blocks) for stack in architecture.stacks)).architecture(architecture)
    except (NotUnderstood, TooMuch) as reason:
        warning = f"quantization_config: {reason} is not understood; bytes and precisions are those before quantization"
        return replace(architecture, quantization=method, warnings=(*architecture.warnings, warning))


Key = tuple[Any, ...]
About = tuple[tuple[int, tuple[Pattern, ...]], ...]


class _Marking:
    """Marks the tensors of one model; blocks that are treated alike keep sharing a layout."""

    def __init__(self, scheme: Scheme, blocks: int) -> None:
        self.scheme = scheme
        if len(scheme.rules) > MAX_RULES:
            raise TooMuch(f"{len(scheme.rules)} different formats")
        self.rules = [rule for rule in scheme.rules if rule.modules is None or rule.modules]
        self.layouts: dict[Key, Layout] = {}
        self.packings: dict[Key, list[Packing | None]] = {}
        lists = [rule.modules for rule in self.rules if rule.modules]
        self.general = [i for i, rule in enumerate(self.rules) if rule.modules is None or rule.modules.general]
        self.named: dict[str, list[int]] = {}  # path of a block -> the rules that say something about it alone
        for i, rule in enumerate(self.rules):
            for path in rule.modules.by_block if rule.modules else ():
                self.named.setdefault(path, []).append(i)
        tries = blocks * sum([len(modules.floating) for modules in lists])
        if tries > MAX_TRIES:
            raise TooMuch(f"a list of {tries // blocks} patterns for any block")
        self.by_index = tries > 0
        self.by_block = self.by_index or bool(self.named)

    def architecture(self, architecture: Architecture) -> Architecture:
        warnings = architecture.warnings
        unknown = [
            text for rule in self.scheme.rules if rule.modules is not None for text in rule.modules.not_understood
        ]
        if unknown:
            listed = ", ".join(repr(text[:60]) for text in unknown[:3])
            warnings = (*warnings, f"quantization_config: the patterns {listed} are not understood and left out")
        return replace(
            architecture,
            stacks=tuple([self._stack(stack) for stack in architecture.stacks]),
            outside=tuple([self._outside(group) for group in architecture.outside]),
            quantization=self.scheme.method,
            warnings=warnings,
        )

    def _stack(self, stack: Stack) -> Stack:
        if self.scheme.text and stack.role != "decoder":
            return stack
        paths, layouts = stack.blocks.paths, stack.blocks.layouts
        if self.by_block:
            return stack._replace(blocks=Blocks(paths, tuple(map(self._layout, paths, layouts))))
        # Where nothing is said about single blocks, one of each layout stands for all.
        numbers = [*map(id, layouts)]
        examples = dict(zip(numbers, zip(paths, layouts, strict=True), strict=True))
        alike = {number: self._layout(*example) for number, example in examples.items()}
        return stack._replace(blocks=Blocks(paths, tuple([alike[number] for number in numbers])))

    def _layout(self, path: str, layout: Layout) -> Layout:
        own = self._about(path)
        place = path if self.by_index else path.rpartition(".")[0]
        key = (id(layout), own, place)
        found = self.layouts.get(key)
        if found is None:
            if len(self.layouts) >= MAX_LAYOUTS:
                raise TooMuch(f"a list that makes more than {MAX_LAYOUTS} blocks different")
            marked = map(mark, layout.tensors, self._packings(layout.tensors, path, place, own))
            found = self.layouts[key] = Layout(layout.mixer, layout.feed_forward, tuple(marked))
        return found

    def _about(self, path: str) -> About:
        """What rules say about one block alone: their numbers and patterns."""
        if not self.named:
            return ()
        numbers = {number for block in indexed(path) for number in self.named.get(block, ())}
        lists = [(number, self.rules[number].modules) for number in sorted(numbers)]
        return tuple([(number, modules.about(path)) for number, modules in lists if modules])

    def _outside(self, group: Outside) -> Outside:
        last = group.path.rpartition(".")[2]
        if (last in TOKEN_HEADS and not self.scheme.head) or (last not in TOKEN_HEADS and self.scheme.text):
            return group
        if not any(tensor.role in self.scheme.roles for tensor in group.tensors):
            return group
        packings = self._chosen(group.tensors, group.path, self._about(group.path))
        return group._replace(tensors=tuple(map(mark, group.tensors, packings)))

    def _packings(self, tensors: tuple[Tensor, ...], path: str, place: str, own: About) -> list[Packing | None]:
        """The format of each tensor of a block; the same for tensors of other sizes under the same names."""
        if len(self.rules) == 1:
            return self._chosen(tensors, path, own)
        key = (own, place, *[tensor.name for tensor in tensors])
        if key not in self.packings:
            self.packings[key] = self._chosen(tensors, path, own)
        return self.packings[key]

    def _chosen(self, tensors: Sequence[Tensor], path: str, own: About) -> list[Packing | None]:
        """The format of each tensor, by the first rule that names it; None where it is in the model's own type."""
        packings: list[Packing | None] = [None] * len(tensors)
        matrices = [i for i, tensor in enumerate(tensors) if tensor.role in self.scheme.roles]
        waiting: Collection[int] = range(len(matrices))
        modules = Modules([spellings(tensors[i].name) for i in matrices] if len(self.rules) > 1 else (), path)
        about = dict(own)
        for number in sorted({*self.general, *about}) if about else self.general:
            rule, said = self.rules[number], about.get(number, ())
            taken = waiting if rule.modules is None else set(rule.modules.chosen(modules, said)).intersection(waiting)
            for i in taken:
                packings[matrices[i]] = rule.packing
            waiting = [i for i in waiting if i not in taken]
        return packings


def mark(tensor: Tensor, packing: Packing | None) -> Tensor:
    """The tensor as stored in a format; None: in the model's own type.

    Gate and up projections of experts are two matrices in the files.
    """
    name, shape, role, transposed, _ = tensor
    if packing is None or len(shape) < 2:
        return tensor
    rows, columns = (shape[-1], shape[-2]) if transposed else (shape[-2], shape[-1])
    matrices = 1 if len(shape) == 2 else prod(shape[:-2])
    if role == "experts" and name.endswith("gate_up_proj") and rows % 2 == 0:
        matrices, rows = 2 * matrices, rows // 2
    stored = new_stored((packing.precision, packing.bits, matrices * packing.size(rows, columns)))
    return new_tensor((name, shape, role, transposed, stored))


@lru_cache(4096)
def spellings(tensor: str) -> Sequence[str]:
    """The names under which a checkpoint can know a matrix's module, by the name of the tensor: stacked experts are
    one module per expert and matrix, and a fused gate and up are two."""
    module = "" if tensor == "weight" else module_name(tensor)
    outer, stacked, last = module.rpartition("experts.")
    if not stacked or "." in last or outer.endswith("_"):
        return tuple(_others(module))
    parts = ("gate_proj", "up_proj", "w1", "w3") if last == "gate_up_proj" else (last, "w2")
    first = f"{outer}experts.0."
    return (module, *[first + part for part in parts], f"block_sparse_moe.experts.0.{parts[-1]}")


def _others(module: str) -> Iterable[str]:
    """A module's name, and those that the files of MiniMax-M3 have for it."""
    yield module
    if module.endswith("gate_up_proj"):
        yield module.removesuffix("gate_up_proj") + "gate_proj"
    if module.startswith("mlp.shared_experts."):
        yield f"block_sparse_moe.{module[4:].replace('gate_up', 'gate')}"
    if "indexer." in module:
        yield module.replace("indexer.", "index_")


def dequantized(architecture: Architecture) -> Architecture:
    """The model as it was before quantization, which is what tools that start from plain weights work on."""
    if architecture.quantization is None:
        return architecture
    plain: dict[tuple[str, tuple[Tensor, ...]], Layout] = {}

    def bare(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(tensor._replace(stored=None) for tensor in tensors)

    def layout(found: Layout) -> Layout:
        tensors = bare(found.tensors)
        return plain.setdefault((found.kind, tensors), replace(found, tensors=tensors))

    stacks = tuple(
        stack._replace(blocks=Blocks(stack.blocks.paths, tuple(map(layout, stack.blocks.layouts))))
        for stack in architecture.stacks
    )
    outside = tuple(group._replace(tensors=bare(group.tensors)) for group in architecture.outside)
    return replace(architecture, stacks=stacks, outside=outside)
