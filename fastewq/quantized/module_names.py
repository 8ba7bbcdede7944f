"""Which modules of a model a list of names and patterns stands for, as quantized checkpoints write such lists.

    lm_head, mlp.gate                     a name, or some consecutive parts of one: the module and all below it
    model.layers.3.mlp                    the same with an index
    model.layers.*.self_attn, *lm_head*   shell wildcards
    re:.*mlp\\.(gate|up)_proj.*            a regular expression that must match from the start

Lists come from outside, and a regular expression can be made to run for ever. So only those are taken that amount to
shell wildcards once their alternatives are written out, as all published ones seen do; the others are `not_understood`.
Lists that would take too long to follow raise `TooMuch`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Final, Literal, NamedTuple

from fastewq.errors import InvalidConfig
from fastewq.shown import json_kind, shown

MAX_ENTRIES: Final = 16_384
MAX_REGEXES: Final = 128
MAX_LENGTH: Final = 400
MAX_ALTERNATIVES: Final = 512
MAX_WRITTEN_OUT: Final = 2**14
"""Characters of all alternatives of a regular expression."""
MAX_GROUPS: Final = 32
MAX_PATTERNS: Final = 1024
MAX_CHARACTERS: Final = 2**17
"""Of these patterns together."""
MAX_EVERYWHERE: Final = 96
"""Patterns that are tried on the modules of every kind of block."""
MAX_OF_ONE_BLOCK: Final = 64
MAX_TRIES: Final = 320
"""Patterns with an index that could be in any block, times blocks."""

WRAPPERS: Final = ("model.", "language_model.", "backbone.layers.", "backbone.embeddings")
"""How names begin whose outermost module libraries disagree about; it is dropped on both sides. The blocks of Mamba and
its relatives lie in the `backbone` of the files, which is no image encoder."""

_INDEX: Final = re.compile(r"(?:[A-Za-z_][^.]*\.)+?\d+(?=\.|$)")
_INDICES: Final = re.compile(r"(?<=\.)\d+(?=\.|$)")
_DIGIT: Final = re.compile(r"\d")
LATER_EXPERT: Final = re.compile(r"\.experts\.[1-9]")
"""Experts are stacked here, and the first one stands for all."""
_WILD: Final = re.compile(r"\\[dw]|\[(?:0-9|\\d|\^\.|\^\\\.|a-z|a-z_|a-zA-Z0-9_)\]|\.")


class TooMuch(Exception):
    """A list with more patterns than can be followed in time."""


@dataclass
class Room:
    """What the lists of one config may still hold, all of them together."""

    patterns: int = MAX_PATTERNS
    characters: int = MAX_CHARACTERS
    everywhere: int = MAX_EVERYWHERE
    regexes: int = MAX_REGEXES


class Pattern(NamedTuple):
    """Literal pieces with anything between them. `end`: what must follow the last one."""

    pieces: tuple[str, ...]
    end: Literal["end", "boundary", "anything"]

    def matches(self, path: str) -> bool:
        first, last = self.pieces[0], self.pieces[-1]
        if not path.startswith(first):
            return False
        if len(self.pieces) == 1:
            return self._ends(path, len(first))
        at = len(first)
        for piece in self.pieces[1:-1]:
            at = path.find(piece, at)
            if at < 0:
                return False
            at += len(piece)
        if self.end == "end":
            return path.endswith(last) and len(path) - len(last) >= at
        while (at := path.find(last, at)) >= 0:
            if self._ends(path, at + len(last)):
                return True
            at += 1
        return False

    def _ends(self, path: str, at: int) -> bool:
        return self.end == "anything" or at == len(path) or (self.end == "boundary" and path[at] == ".")


WHOLE_BLOCK: Final = Pattern(("",), "anything")


def unwrapped(path: str) -> str:
    """The path without outer modules whose names differ between libraries."""
    while path.startswith(WRAPPERS):
        path = path[path.index(".") + 1 :]
    return path


def indexed(block: str) -> list[str]:
    """The unwrapped path of a block, preceded by those of the blocks it lies in."""
    path = unwrapped(block)
    return [path[: index.end()] for index in _INDICES.finditer(path)] if _DIGIT.search(path) else []


class ModuleNames:
    """A list of entries, ready to be asked about modules.

    `parts` and `everywhere` hold for any block alike, `floating` has an index that could be any block's; `by_block` is
    what is said about single blocks: path of the block -> patterns relative to it.
    """

    def __init__(self, entries: Iterable[str], room: Room | None = None, *, regex: bool = False) -> None:
        """`room` is shared by the lists of a config; `regex`: entries are regular expressions without the mark `re:`.

        Raises TooMuch.
        """
        self.not_understood: list[str] = []
        self.parts: dict[str, None] = {}
        self.everywhere: dict[Pattern, None] = {}
        self.floating: dict[Pattern, None] = {}
        self.by_block: dict[str, list[Pattern]] = {}
        self._room = room = Room() if room is None else room
        if not regex:
            entries = [entry for entry in entries if entry.startswith("re:") or not LATER_EXPERT.search(entry)]
        for entry in entries:
            if regex or entry.startswith("re:"):
                room.regexes -= 1
                self._add_regex(entry.removeprefix("re:"))
            elif entry:
                self._add_name(entry.removesuffix(".weight"))
            if room.regexes < 0 or len(self.parts) + len(self.everywhere) > room.everywhere:
                raise TooMuch("a list of more patterns than are followed")
        room.everywhere -= len(self.parts) + len(self.everywhere)
        longest = max(map(len, self.by_block.values()), default=0)
        if longest > MAX_OF_ONE_BLOCK:
            raise TooMuch(f"a list of {longest} patterns for one block")

    def __bool__(self) -> bool:
        return bool(self.general or self.by_block)

    @property
    def general(self) -> bool:
        """Whether something is said about more than single blocks."""
        return bool(self.parts or self.everywhere or self.floating)

    def _add_name(self, name: str) -> None:
        if _DIGIT.search(name) or "*" in name:
            self._add(Pattern(tuple(unwrapped(name).split("*")), "boundary"))
        else:
            self.parts[f".{unwrapped(name)}."] = None

    def _add_regex(self, text: str) -> None:
        alternatives = written_out(text.removeprefix("^").removesuffix("$"))
        if alternatives is None:
            self.not_understood.append(text)
            return
        end: Literal["end", "anything"] = "end" if text.endswith("$") else "anything"
        for alternative in alternatives:
            self._add(Pattern(tuple(unwrapped(alternative).split("*")), end))

    def _add(self, pattern: Pattern) -> None:
        self._room.patterns -= 1
        self._room.characters -= sum(map(len, pattern.pieces))
        if self._room.patterns < 0 or self._room.characters < 0:
            raise TooMuch(f"a list of more than {MAX_PATTERNS} patterns or {MAX_CHARACTERS} characters")
        first, *others = pattern.pieces
        block = _INDEX.match(first)
        # What ends in an index and a wildcard goes on to match longer indices: layers.1 and layers.10.
        if block and (block.end() < len(first) or (pattern.end == "boundary" and not others)):
            inside = Pattern((first[block.end() + 1 :], *others), pattern.end)
            inside = WHOLE_BLOCK if inside.pieces == WHOLE_BLOCK.pieces else inside
            self.by_block.setdefault(block.group(), []).append(inside)
        elif any(map(_DIGIT.search, pattern.pieces)):
            self.floating[pattern] = None
        else:
            self.everywhere[pattern] = None

    def about(self, block: str) -> tuple[Pattern, ...]:
        """What is said about one block alone, relative to it: equal for blocks that are treated alike."""
        path = unwrapped(block)
        found = [*self.by_block.get(path, ())]
        for outer in indexed(block):
            if outer == path:
                continue
            inner = path[len(outer) + 1 :]  # of blocks that lie in other blocks
            for pattern in self.by_block.get(outer, ()):
                first = pattern.pieces[0]
                if first.startswith(inner):
                    found.append(Pattern((first[len(inner) :].removeprefix("."), *pattern.pieces[1:]), pattern.end))
                elif inner.startswith(first):
                    found.append(WHOLE_BLOCK)
        return tuple(found)

    def chosen(self, modules: Modules, own: Sequence[Pattern]) -> list[int]:
        """Which modules are named, by their place in the list; `own` is what `about` gave for their block.

        Most entries concern no module of a block, so each is first looked for in all its names at once.
        """
        if WHOLE_BLOCK in own:
            return list(range(len(modules.names)))
        parts = [part for part in self.parts if part in modules.text]
        patterns = list(filter(modules.may_match, (*self.everywhere, *self.floating)))
        own = list(filter(modules.may_match, own))
        found = []
        for i, names in enumerate(modules.names if parts or patterns or own else ()):
            for name in names:
                path = f"{modules.place}{name}." if name else modules.place
                if (
                    any([part in path for part in parts])  # noqa: C419  (there are few, and a list is faster)
                    or any([pattern.matches(path[1:-1]) for pattern in patterns])  # noqa: C419
                    or any([pattern.matches(name) for pattern in own])  # noqa: C419
                ):
                    found.append(i)
                    break
        return found


class Modules:
    """The modules of a block, or of a group outside all blocks, each under every name that it can have."""

    def __init__(self, names: Sequence[Sequence[str]], block: str) -> None:
        self.names = names
        self.place = f".{unwrapped(block)}." if block else "."
        self.text = "\n".join([f"{self.place}{name}." if name else self.place for several in names for name in several])

    def may_match(self, pattern: Pattern) -> bool:
        """Whether the ends of a pattern occur in any name at all."""
        return pattern.pieces[0] in self.text and pattern.pieces[-1] in self.text


def names(value: object, field: str) -> list[str]:
    """A list of names from a config; null counts as empty. Raises InvalidConfig."""
    if value is None:
        return []
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        raise InvalidConfig(f"quantization_config.{field} is {json_kind(value)}; expected a list of module names")
    if len(value) > MAX_ENTRIES:
        raise TooMuch(f"{field} with {len(value)} entries")
    for entry in value:
        if not isinstance(entry, str) or len(entry) > MAX_LENGTH:
            raise InvalidConfig(f"quantization_config.{field} has the entry {shown(entry)}; expected a module name")
    return list(value)


# -- regular expressions that amount to wildcards ---------------------------------------------------------------------


@lru_cache(64)
def written_out(regex: str) -> list[str] | None:
    """The alternatives of a regular expression as shell wildcards; None where it cannot be written that way.

    An unescaped dot stands for a dot, as its authors mean it; `\\d+` and the like for anything.
    """
    if regex.count("(") > MAX_GROUPS:
        return None
    try:
        found, at = _alternatives(regex, 0)
    except _CannotWriteOut:
        return None
    return found if at == len(regex) else None


class _CannotWriteOut(Exception):
    pass


def _alternatives(text: str, at: int) -> tuple[list[str], int]:
    """Everything up to the end of the text or of the group, alternatives separated by `|`."""
    found: list[str] = []
    sequence: list[list[str]] = []
    while at < len(text) and text[at] != ")":
        if text[at] == "|":
            found += _joined(sequence)
            sequence, at = [], at + 1
            continue
        choices, at = _atom(text, at)
        sequence.append(choices)
    return _bounded(found + _joined(sequence)), at


def _joined(sequence: list[list[str]]) -> list[str]:
    total = 1
    for choices in sequence:
        total *= len(choices)
        if total > MAX_ALTERNATIVES:
            raise _CannotWriteOut
    return ["".join(parts) for parts in product(*sequence)]


def _bounded(found: list[str]) -> list[str]:
    if len(found) > MAX_ALTERNATIVES or sum(map(len, found)) > MAX_WRITTEN_OUT:
        raise _CannotWriteOut
    return found


def _atom(text: str, at: int) -> tuple[list[str], int]:
    """One character, class or group, with the quantifier after it."""
    if text[at] == "(":
        at += 3 if text.startswith("(?:", at) else 1
        choices, at = _alternatives(text, at)
        if at >= len(text):
            raise _CannotWriteOut
        return _optional(choices, text, at + 1)
    wild = _WILD.match(text, at)
    if wild:
        at = wild.end()
        if at < len(text) and text[at] in "*+":
            return ["*"], at + 1 + text.startswith("?", at + 1)
        if wild.group() == ".":
            return _optional(["."], text, at)
        if wild.group() in (r"\d", "[0-9]", r"[\d]"):
            return _optional(list("0123456789"), text, at)
        raise _CannotWriteOut
    if text[at] == "[":
        return _class(text, at)
    if text[at] == "\\":
        at += 1
        if at >= len(text) or text[at].isalnum():
            raise _CannotWriteOut
    elif text[at] in "^$*+?{":
        raise _CannotWriteOut
    return _optional([text[at]], text, at + 1)


def _class(text: str, at: int) -> tuple[list[str], int]:
    """[0369], [2-7], [.]"""
    end = text.find("]", at)
    inside = text[at + 1 : end] if end > 0 else "^"
    if inside.startswith("^") or "\\" in inside or not inside:
        raise _CannotWriteOut
    span = re.fullmatch(r"(\d)-(\d)", inside)
    choices = [str(i) for i in range(int(span[1]), int(span[2]) + 1)] if span else list(inside)
    if not span and "-" in inside:
        raise _CannotWriteOut
    return _optional(choices, text, end + 1)


def _optional(choices: list[str], text: str, at: int) -> tuple[list[str], int]:
    if at < len(text) and text[at] in "*+{":
        raise _CannotWriteOut
    if at < len(text) and text[at] == "?":
        return ["", *choices], at + 1
    return choices, at
