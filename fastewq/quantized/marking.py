"""A `Selection` applied to an architecture: every matrix marked with how it is stored. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import Any

from fastewq.architecture import Architecture, Blocks, Layout, Outside, Stack, Stored, Tensor, new_outside, new_tensor
from fastewq.architectures.fields import MAX_LAYOUTS
from fastewq.modules import TOKEN_HEADS
from fastewq.quantized.methods import Config, NotUnderstood, method_of, quantization_of
from fastewq.quantized.module_names import MAX_TRIES, TooMuch
from fastewq.quantized.packing import Packing
from fastewq.quantized.selection import Selection, selection


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
        return _Marking(selection(method, q, config, nested), architecture).marked()
    except (NotUnderstood, TooMuch) as reason:
        warning = f"quantization_config: {reason} is not understood; bytes and precisions are those before quantization"
        return replace(architecture, quantization=method, warnings=(*architecture.warnings, warning))


Key = tuple[Any, ...]


class _Marking:
    """Marks the tensors of one model; blocks that are treated alike keep sharing a layout."""

    def __init__(self, chosen: Selection, architecture: Architecture) -> None:
        self.selection = chosen
        self.architecture = architecture
        self.layouts: dict[Key, Layout] = {}
        tries = chosen.floating * sum(len(stack.blocks) for stack in architecture.stacks)
        if tries > MAX_TRIES:
            raise TooMuch(f"a list of {chosen.floating} patterns for any block")
        self.by_index = tries > 0
        self.by_block = self.by_index or bool(chosen.named)

    def marked(self) -> Architecture:
        warnings = self.architecture.warnings
        unknown = self.selection.not_understood
        if unknown:
            listed = ", ".join(repr(text[:60]) for text in unknown[:3])
            warnings = (*warnings, f"quantization_config: the patterns {listed} are not understood and left out")
        plain = self.architecture
        return Architecture(  # as `replace` would make it, which takes as long as marking a block
            model_type=plain.model_type,
            dtype=plain.dtype,
            stacks=tuple([self._stack(stack) for stack in plain.stacks]),
            outside=tuple([self._outside(group) for group in plain.outside]),
            vocab_size=plain.vocab_size,
            tied_embeddings=plain.tied_embeddings,
            initializer_range=plain.initializer_range,
            exact=plain.exact,
            warnings=warnings,
            quantization=self.selection.quantization.method,
        )

    def _stack(self, stack: Stack) -> Stack:
        if self.selection.quantization.text and stack.role != "decoder":
            return stack
        paths, layouts = stack.blocks.paths, stack.blocks.layouts
        if self.by_block:
            return stack._replace(blocks=Blocks(paths, tuple(map(self._layout, paths, layouts))))
        # Where nothing is said about single blocks, one of each layout stands for all.
        numbers = [*map(id, layouts)]
        examples = dict(zip(numbers, zip(paths, layouts, strict=True), strict=True))
        alike = {number: self._layout(*example) for number, example in examples.items()}
        return stack._replace(blocks=Blocks(paths, tuple(map(alike.__getitem__, numbers))))

    def _layout(self, path: str, layout: Layout) -> Layout:
        own = self.selection.about(path)
        place = path if self.by_index else path.rpartition(".")[0]
        key = (id(layout), own, place)
        found = self.layouts.get(key)
        if found is None:
            if len(self.layouts) >= MAX_LAYOUTS:
                raise TooMuch(f"a list that makes more than {MAX_LAYOUTS} blocks different")
            marked = marked_tensors(layout.tensors, self.selection.packings(layout.tensors, path, place, own))
            found = self.layouts[key] = Layout(layout.mixer, layout.feed_forward, marked)
        return found

    def _outside(self, group: Outside) -> Outside:
        found, last = self.selection.quantization, group.path.rpartition(".")[2]
        if (last in TOKEN_HEADS and not found.head) or (last not in TOKEN_HEADS and found.text):
            return group
        if not any(tensor.role in found.roles for tensor in group.tensors):
            return group
        own = self.selection.about(group.path)
        packings = self.selection.packings(group.tensors, group.path, group.path, own)
        return new_outside((group.path, marked_tensors(group.tensors, packings)))


def marked_tensors(tensors: Sequence[Tensor], packings: Sequence[Packing | None]) -> tuple[Tensor, ...]:
    """The tensors as stored in these formats; None: in the model's own type."""
    marked = []
    for tensor, packing in zip(tensors, packings, strict=True):
        name, shape, role, transposed, _ = tensor
        if packing is None or len(shape) < 2:
            marked.append(tensor)
        else:
            two = role == "experts" and name.endswith("gate_up_proj")
            marked.append(new_tensor((name, shape, role, transposed, stored_as(packing, shape, transposed, two))))
    return tuple(marked)


@lru_cache(4096)
def stored_as(packing: Packing, shape: tuple[int, ...], transposed: bool, two: bool) -> Stored:
    """A tensor of this shape in a format; `two`: gate and up projections of experts, which are two in the files.

    Few shapes make up most models, so those asked for last are remembered.
    """
    rows, columns = (shape[-1], shape[-2]) if transposed else (shape[-2], shape[-1])
    matrices = prod(shape[:-2])
    if two and rows % 2 == 0:
        matrices, rows = 2 * matrices, rows // 2
    return Stored(packing.precision, packing.bits, matrices * packing.size(rows, columns))


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
