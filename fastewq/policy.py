"""How probabilities become precisions: named policies, switches for what is kept by default, and overrides.

8bit-mixed        quantized blocks get int8 (paper)
4bit-8bit-mixed   of the quantized blocks, those with the highest execution index (paper) get int4, the others int8; a
                  predictor of measured sensitivity gives int4 to the most probable instead
ternary-mixed     the same with ternary in place of int4, for tools that have a ternary type
keep-ends         4bit-8bit-mixed, but the first and last block of every stack are kept

Embeddings, LM head, routers and vision towers are kept unless a switch says otherwise. Norms, biases and convolutions
have no switch: no tool here stores them below 16 bits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import translate
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, Final

from fastewq.errors import InvalidPolicy
from fastewq.schemes import KEEP, LEVELS, PRECISIONS
from fastewq.shown import json_kind, shown

DEFAULT_POLICY: Final = "4bit-8bit-mixed"
ORDERS: Final = ("exec_index", "probability")
MAX_OVERRIDES: Final = 256
MAX_PATTERN: Final = 200
USUAL_BLOCKS: Final = 512
"""Blocks of a stack up to which its precisions are remembered: longer ones are rare, and would fill the memory."""


@dataclass(frozen=True)
class Policy:
    """Which blocks are quantized, and how far.

    threshold             quantize where the probability is at least this; None: as many blocks of each stack as the
                          probabilities lead to expect, the most probable first (see `quantized_blocks`)
    aggressive_share      of the quantized blocks of a stack, the share that gets `aggressive` instead of `moderate`
    aggressive_order      which those are: of highest `exec_index` (paper), or of highest `probability`
    keep_ends             the first and last block of every stack stay raw
    embeddings, lm_head   the precision of token embeddings and output head, usually "raw"
    routers, vision       whether expert routers and vision towers take part
    overrides             (pattern, precision) pairs, applied in order; see `Pattern`
    """

    name: str
    threshold: float | None
    aggressive_share: float
    aggressive_order: str = ORDERS[0]
    moderate: str = "int8"
    aggressive: str = "int4"
    keep_ends: bool = False
    embeddings: str = KEEP
    lm_head: str = KEEP
    routers: bool = False
    vision: bool = False
    overrides: tuple[tuple[str, str], ...] = ()

    @property
    def ladder(self) -> tuple[str, ...]:
        """The quantized precisions a budget may use, from mild to aggressive."""
        return LEVELS[: LEVELS.index(self.aggressive) + 1]

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "overrides": [list(pair) for pair in self.overrides]}

    def precisions(self, blocks: int, quantized: Sequence[int]) -> bytes:
        """The precision of each block of one stack before overrides, as an index into PRECISIONS.

        `quantized`: what `quantized_blocks` says under this threshold.
        """
        if self.keep_ends:
            quantized = [index for index in quantized if 0 < index < blocks - 1]
        if self.aggressive_order != "probability":
            quantized = sorted(quantized)
        mild = len(quantized) - round(self.aggressive_share * len(quantized))
        moderate, aggressive = PRECISIONS.index(self.moderate), PRECISIONS.index(self.aggressive)
        found = bytearray(blocks)  # zero stands for KEEP
        for index in quantized[:mild]:
            found[index] = moderate
        for index in quantized[mild:]:
            found[index] = aggressive
        return bytes(found)


def quantized_blocks(probabilities: Sequence[float], threshold: float | None = None) -> list[int]:
    """The indices of the blocks of one stack to quantize, the most probable last.

    With a threshold, those at or above it. Without one, the k most probable, where k is the expected number of
    quantized blocks (the sum of the probabilities, rounded), at least one: a label compares a block with the mean of
    its own stack, so every stack has blocks below it, and a model unlike those trained on must not get an empty plan.
    Equal probabilities: the higher execution index is taken first, as the paper targets the last blocks.
    """
    likely = sorted(range(len(probabilities)), key=probabilities.__getitem__)  # stable: of equal ones the later is last
    if threshold is not None:
        return [index for index in likely if probabilities[index] >= threshold]
    return likely[-max(1, math.floor(math.fsum(probabilities) + 0.5)) :]


def stack_precisions(policies: tuple[Policy, ...], probabilities: tuple[float, ...]) -> tuple[bytes, ...]:
    """What `Policy.precisions` gives for one stack under each of the policies.

    Stacks of as many blocks mostly get the same probabilities, so those of usual length are remembered.
    """
    find = remembered_precisions if len(probabilities) <= USUAL_BLOCKS else remembered_precisions.__wrapped__
    return find(policies, probabilities)


@lru_cache(256)
def remembered_precisions(policies: tuple[Policy, ...], probabilities: tuple[float, ...]) -> tuple[bytes, ...]:
    """`stack_precisions`, with the latest answers kept."""
    quantized = {policy.threshold: quantized_blocks(probabilities, policy.threshold) for policy in policies}
    return tuple([policy.precisions(len(probabilities), quantized[policy.threshold]) for policy in policies])


@cache
def policies(
    threshold: float | None, aggressive_share: float, aggressive_order: str = ORDERS[0]
) -> Mapping[str, Policy]:
    """Every named policy, with the threshold, share and order that the predictor's card recommends."""
    default = Policy(DEFAULT_POLICY, threshold, aggressive_share, aggressive_order)
    named = (
        Policy("8bit-mixed", threshold, 0.0, aggressive_order, aggressive="int8"),
        default,
        replace(default, name="ternary-mixed", aggressive="ternary"),
        replace(default, name="keep-ends", keep_ends=True),
    )
    return MappingProxyType({policy.name: policy for policy in named})


def read_policy(value: str | Mapping[str, Any] | Policy, card: Mapping[str, Any]) -> Policy:
    """A policy from its name, or from an object with a `name` and the fields of `Policy` that are to differ.

    `overrides` in an object is a list of [pattern, precision] pairs or "PATTERN=PRECISION" strings. `card` is the
    predictor's. Raises InvalidPolicy, naming the field.
    """
    if isinstance(value, Policy):
        return value
    name: Any
    if isinstance(value, str):
        name, changes = value, {}
    elif isinstance(value, Mapping):
        name = value.get("name", DEFAULT_POLICY)
        changes = {key: entry for key, entry in value.items() if key != "name"}
    else:
        raise InvalidPolicy(f"policy is {json_kind(value)}; expected a name or an object")
    named = policies(card["threshold"], float(card["aggressive_share"]), card.get("aggressive_order", ORDERS[0]))
    if not isinstance(name, str) or name not in named:
        raise InvalidPolicy(f"policy is {shown(name)}; expected one of {', '.join(named)}")
    if not changes:
        return named[name]
    unknown = sorted(shown(key, 40) for key in changes if key not in _CHECKS)
    if unknown:
        raise InvalidPolicy(f"policy has the unknown field {unknown[0]}; expected {', '.join(_CHECKS)}")
    changed = {key: _CHECKS[key](key, entry) for key, entry in changes.items()}
    return replace(named[name], **changed)


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidPolicy(f"policy.{name} is {shown(value)}; expected a number from 0 to 1")
    return float(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidPolicy(f"policy.{name} is {shown(value)}; expected true or false")
    return value


def _precision(name: str, value: Any) -> str:
    if value not in PRECISIONS:
        raise InvalidPolicy(f"policy.{name} is {shown(value)}; expected one of {', '.join(PRECISIONS)}")
    return str(value)


def _order(name: str, value: Any) -> str:
    if value not in ORDERS:
        raise InvalidPolicy(f"policy.{name} is {shown(value)}; expected one of {', '.join(ORDERS)}")
    return str(value)


def _level(name: str, value: Any) -> str:
    if value not in LEVELS:
        raise InvalidPolicy(f"policy.{name} is {shown(value)}; expected one of {', '.join(LEVELS)}")
    return str(value)


def _overrides(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) > MAX_OVERRIDES:
        raise InvalidPolicy(f"policy.{name} must be a list of at most {MAX_OVERRIDES} PATTERN=PRECISION entries")
    return tuple(_override(name, entry) for entry in value)


def _override(name: str, entry: Any) -> tuple[str, str]:
    pair = entry.rsplit("=", 1) if isinstance(entry, str) else entry
    if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
        raise InvalidPolicy(f"policy.{name} has the entry {shown(entry, 80)}; expected PATTERN=PRECISION")
    pattern, precision = pair
    if not pattern or len(pattern) > MAX_PATTERN:
        raise InvalidPolicy(f"policy.{name} has a pattern of {len(pattern)} characters; expected 1 to {MAX_PATTERN}")
    return pattern, _precision(name, precision)


_CHECKS: Final[dict[str, Any]] = {
    "threshold": _share,
    "aggressive_share": _share,
    "aggressive_order": _order,
    "moderate": _level,
    "aggressive": _level,
    "keep_ends": _flag,
    "embeddings": _precision,
    "lm_head": _precision,
    "routers": _flag,
    "vision": _flag,
    "overrides": _overrides,
}


class Pattern:
    """What an override names: block indices (`3`, `0-3`), or a shell pattern over module paths.

    `model.layers.3` names a block, `model.layers.*.mlp.down_proj` a module inside blocks, `lm_head` a group outside.
    """

    def __init__(self, text: str) -> None:
        span = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text)
        self._span = range(int(span[1]), int(span[2] or span[1]) + 1) if span else None
        self._path = None if span else re.compile(translate(text))

    def names_block(self, index: int, path: str) -> bool:
        return index in self._span if self._span is not None else self.names_module(path)

    def names_module(self, path: str) -> bool:
        return self._path is not None and self._path.match(path) is not None
