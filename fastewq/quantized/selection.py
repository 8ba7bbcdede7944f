"""The rules of a quantized checkpoint -> the format of every matrix, by name and place. Pure.

To look for every name of a list in every module takes longer than the rest of reading a config, and many models share
both: those that one tool wrote of one family. So what a `quantization_config` says, and which modules it means, is
remembered.
"""

from __future__ import annotations

import marshal
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

from fastewq.architecture import Tensor
from fastewq.modules import module_name
from fastewq.quantized.methods import MAX_RULES, METHODS, MODEL_FIELDS, Config, NotUnderstood
from fastewq.quantized.module_names import MAX_LENGTH, Modules, Pattern, TooMuch, indexed
from fastewq.quantized.packing import Packing, Quantization

REMEMBERED: Final = 64
"""Selections that are kept."""
MAX_REMEMBERED_ENTRIES: Final = 2**10
"""Of a `quantization_config` that is kept; longer ones name every expert."""
MAX_REMEMBERED_BYTES: Final = 2**15
"""Of such a `quantization_config`, its names and texts above all; what is made of them grows with these."""
NUMBERS: Final = frozenset({bool, int, float, type(None)})
MAX_REMEMBERED_TENSORS: Final = 2**12
"""Whose formats one selection keeps."""

_what_is_chosen_by: Final = itemgetter(0, 2, 3)

About = tuple[tuple[int, tuple[Pattern, ...]], ...]


def selection(method: str, q: Config, config: Config, text: bool) -> Selection:
    """What a `quantization_config` says; `text`: of the text model alone.

    Raises NotUnderstood, TooMuch, InvalidConfig.
    """
    model = {name: config[name] for name in MODEL_FIELDS.get(method, ()) if name in config}
    said = [method, q, model, text]
    if _is_small(said):
        written = marshal.dumps(said, 2)  # version 2: the bytes depend on the values alone
        if len(written) <= MAX_REMEMBERED_BYTES:
            return _remembered(written)
    return _read(method, q, model, text)


def _is_small(document: list[Any]) -> bool:
    """Whether a document is one that JSON could hold, and short. Of what holds itself over and over, too, only so many
    entries are looked at."""
    entries, waiting = 0, [document]
    while waiting:
        inside: Any = waiting.pop()
        entries += len(inside)
        if entries > MAX_REMEMBERED_ENTRIES:
            return False
        if type(inside) is dict:
            if inside and not _are_short_texts(inside):
                return False
            inside = inside.values()
        elif _are_short_texts(inside):
            continue
        for value in inside:
            kind = type(value)
            if kind is dict or kind is list:
                waiting.append(value)
            elif kind is str:
                if len(value) > MAX_LENGTH:
                    return False
            elif kind not in NUMBERS:
                return False
    return True


def _are_short_texts(values: Collection[Any]) -> bool:
    return {*map(type, values)} == {str} and max(map(len, values)) <= MAX_LENGTH


@lru_cache(REMEMBERED)
def _remembered(written: bytes) -> Selection:
    return _read(*marshal.loads(written))


def _read(method: str, q: Config, model: Config, text: bool) -> Selection:
    if method not in METHODS:
        raise NotUnderstood(f"quant_method {method!r}")
    quantization = METHODS[method](q, model)
    return Selection(quantization._replace(text=True) if text else quantization)


class Selection:
    """Which format each matrix has.

    quantization   the rules it follows
    named          path of a block -> the numbers of the rules that say something about it alone
    floating       patterns with an index that could be in any block
    """

    def __init__(self, quantization: Quantization) -> None:
        self.quantization = quantization
        if len(quantization.rules) > MAX_RULES:
            raise TooMuch(f"{len(quantization.rules)} different formats")
        self._rules = [rule for rule in quantization.rules if rule.modules is None or rule.modules]
        self._general = [i for i, rule in enumerate(self._rules) if rule.modules is None or rule.modules.general]
        lists = [rule.modules for rule in self._rules if rule.modules]
        self.floating = sum([len(modules.floating) for modules in lists])
        self.named: dict[str, list[int]] = {}
        for i, rule in enumerate(self._rules):
            for path in rule.modules.by_block if rule.modules else ():
                self.named.setdefault(path, []).append(i)
        self._packings: dict[tuple[Any, ...], Sequence[Packing | None]] = {}
        self._tensors = 0

    @property
    def not_understood(self) -> list[str]:
        """The patterns that are left out."""
        return [
            text for rule in self.quantization.rules if rule.modules is not None for text in rule.modules.not_understood
        ]

    def about(self, path: str) -> About:
        """What rules say about one block alone: their numbers and patterns."""
        if not self.named:
            return ()
        numbers = {number for block in indexed(path) for number in self.named.get(block, ())}
        lists = [(number, self._rules[number].modules) for number in sorted(numbers)]
        return tuple([(number, modules.about(path)) for number, modules in lists if modules])

    def packings(self, tensors: Sequence[Tensor], path: str, place: str, own: About) -> Sequence[Packing | None]:
        """The format of each tensor of a block; the same for tensors of other sizes under the same names.

        `place` is what the rules can tell blocks apart by, and `own` what `about` gave for this one.
        """
        key = (own, place, *map(_what_is_chosen_by, tensors))
        found = self._packings.get(key)
        if found is None:
            self._tensors += len(tensors)
            if self._tensors > MAX_REMEMBERED_TENSORS:
                self._packings, self._tensors = {}, len(tensors)
            found = self._packings[key] = self._chosen(tensors, path, own)
        return found

    def _chosen(self, tensors: Sequence[Tensor], path: str, own: About) -> list[Packing | None]:
        """The format of each tensor, by the first rule that names it; None where it is in the model's own type."""
        packings: list[Packing | None] = [None] * len(tensors)
        roles, conv1d = self.quantization.roles, self.quantization.conv1d
        matrices = [
            i
            for i, (_, _, role, transposed, _) in enumerate(tensors)
            if role in roles and (conv1d or not transposed or role != "linear")
        ]
        waiting: Collection[int] = range(len(matrices))
        modules = Modules([spellings(tensors[i].name) for i in matrices] if len(self._rules) > 1 else (), path)
        about = dict(own)
        for number in sorted({*self._general, *about}) if about else self._general:
            rule, said = self._rules[number], about.get(number, ())
            taken = waiting if rule.modules is None else set(rule.modules.chosen(modules, said)).intersection(waiting)
            for i in taken:
                packings[matrices[i]] = rule.packing
            waiting = [i for i in waiting if i not in taken]
        return packings


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
