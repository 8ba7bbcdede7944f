"""Probabilities and a policy -> a precision for every block, with exact bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastewq.architecture import Layout, Stack
from fastewq.config import read_config
from fastewq.errors import InvalidPolicy
from fastewq.features import block_columns
from fastewq.predictor import Predictor, load_predictor
from fastewq.schemes import layout_bytes, raw_precision

SCHEMA: Final = "fastewq.plan/1"
DEFAULT_POLICY: Final = "4bit-8bit-mixed"
KEPT_ROLES: Final = frozenset({"vision"})
"""Stacks that keep their precision: quantizing a vision tower saves little and serving tools leave it alone."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How probabilities become precisions.

    A block is quantized where its probability is at least `threshold`. Of the quantized blocks of a stack, the share
    `aggressive_share` with the highest execution index gets `aggressive` instead of `moderate` (paper: FastEWQ
    4-bit/8-bit mixed targets the last blocks).
    """

    name: str
    threshold: float
    aggressive_share: float
    moderate: str = "int8"
    aggressive: str = "int4"


def policy_named(name: str, predictor: Predictor) -> Policy:
    """A policy by name, with the threshold and share on the predictor's card. Raises InvalidPolicy."""
    threshold, share = float(predictor.card["threshold"]), float(predictor.card["aggressive_share"])
    policies = {
        "8bit-mixed": Policy("8bit-mixed", threshold, 0.0),
        "4bit-8bit-mixed": Policy("4bit-8bit-mixed", threshold, share),
    }
    try:
        return policies[name]
    except KeyError:
        raise InvalidPolicy(f"policy is {name[:40]!r}; expected one of {', '.join(policies)}") from None


@dataclass(frozen=True, slots=True)
class PlannedBlock:
    index: int
    path: str
    kind: str
    parameters: int
    p_quantize: float
    precision: str
    bytes: int


@dataclass(frozen=True, slots=True)
class PlannedStack:
    name: str
    blocks: tuple[PlannedBlock, ...]


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """Parameters outside every block, always raw."""

    path: str
    parameters: int
    precision: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Totals:
    """bytes: the model under the plan; raw_bytes: as stored; bits_per_weight: 8 * bytes / parameters."""

    bytes: int
    raw_bytes: int
    saved_fraction: float
    bits_per_weight: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan document of docs/contracts.md; `as_dict` is its JSON form, keys in the documented order."""

    model: dict[str, Any]
    predictor: dict[str, Any]
    policy: dict[str, Any]
    confidence: str
    stacks: tuple[PlannedStack, ...]
    other: tuple[PlannedGroup, ...]
    totals: Totals
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model,
            "predictor": self.predictor,
            "policy": self.policy,
            "confidence": self.confidence,
            "stacks": [{"name": s.name, "blocks": [_fields(block) for block in s.blocks]} for s in self.stacks],
            "other": [_fields(group) for group in self.other],
            "totals": _fields(self.totals),
            "warnings": list(self.warnings),
        }


def _fields(record: PlannedBlock | PlannedGroup | Totals) -> dict[str, Any]:
    """A flat record as a dict; `dataclasses.asdict` would deep-copy every number."""
    return {name: getattr(record, name) for name in record.__slots__}


def plan(
    config: Mapping[str, Any],
    *,
    policy: str = DEFAULT_POLICY,
    predictor: Predictor | None = None,
    model_id: str | None = None,
    revision: str | None = None,
) -> Plan:
    """The precision plan of the model a config describes.

    `model_id` and `revision` are carried into the document. Raises InvalidConfig, UnsupportedArchitecture,
    InvalidPolicy.
    """
    predictor = predictor or load_predictor()
    chosen = policy_named(policy, predictor)
    architecture = read_config(config)
    columns = block_columns(architecture)
    probabilities = predictor.probabilities(columns)
    outside = predictor.outside_domain(columns)
    raw_name, raw_bytes = raw_precision(architecture.dtype)

    stacks, start = [], 0
    for stack in architecture.stacks:
        end = start + len(stack.blocks)
        stacks.append(_plan_stack(stack, probabilities[start:end], chosen, raw_name, raw_bytes))
        start = end
    other = tuple(
        PlannedGroup(group.path, group.parameters, raw_name, group.parameters * raw_bytes)
        for group in architecture.outside
    )
    return Plan(
        model={
            **({"id": model_id} if model_id else {}),
            **({"revision": revision} if revision else {}),
            "model_type": architecture.model_type,
            "dtype": architecture.dtype,
            "parameters": architecture.parameters,
            "already_quantized": isinstance(config.get("quantization_config"), Mapping),
        },
        predictor={
            "version": predictor.version,
            "features": list(predictor.features),
            "trained_on": dict(predictor.card["trained_on"]),
        },
        policy=asdict(chosen),
        confidence="extrapolating" if outside else "in_domain",
        stacks=tuple(stacks),
        other=other,
        totals=_totals(stacks, other, architecture.parameters, raw_bytes),
        warnings=(*architecture.warnings, *outside),
    )


def _plan_stack(
    stack: Stack, probabilities: NDArray[np.float64], policy: Policy, raw_name: str, raw_bytes: int
) -> PlannedStack:
    precisions = (
        [raw_name] * len(stack.blocks) if stack.role in KEPT_ROLES else precisions_of(probabilities, policy, raw_name)
    )
    sizes: dict[tuple[int, str], int] = {}

    def size(layout: Layout, precision: str) -> int:
        key = (id(layout), precision)
        if key not in sizes:
            sizes[key] = layout_bytes(layout, precision, raw_bytes)
        return sizes[key]

    return PlannedStack(
        stack.name,
        tuple(
            PlannedBlock(
                block.index,
                block.path,
                block.layout.kind,
                block.layout.parameters,
                probability,
                precision,
                size(block.layout, precision),
            )
            for block, probability, precision in zip(
                stack.blocks, np.round(probabilities, 6).tolist(), precisions, strict=True
            )
        ),
    )


def precisions_of(probabilities: NDArray[np.float64], policy: Policy, raw_name: str) -> list[str]:
    """The precision of each block of one stack, in execution order."""
    quantized = np.flatnonzero(probabilities >= policy.threshold)
    aggressive = round(policy.aggressive_share * len(quantized))
    precisions = [raw_name] * len(probabilities)
    for rank, index in enumerate(quantized.tolist()):
        precisions[index] = policy.aggressive if rank >= len(quantized) - aggressive else policy.moderate
    return precisions


def _totals(stacks: Sequence[PlannedStack], other: Sequence[PlannedGroup], parameters: int, raw_bytes: int) -> Totals:
    planned = sum(b.bytes for s in stacks for b in s.blocks) + sum(g.bytes for g in other)
    raw = parameters * raw_bytes
    return Totals(
        bytes=planned,
        raw_bytes=raw,
        saved_fraction=round(1 - planned / raw, 6) if raw else 0.0,
        bits_per_weight=round(8 * planned / parameters, 6) if parameters else 0.0,
    )
