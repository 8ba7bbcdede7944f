"""A model's blocks and their probabilities -> a precision for every block, with exact bytes.

`plan` goes from a config to the plan; `plan_architecture` does the second half for callers that predict many models in
one call, with identical results.

document.py   what a plan is, and its JSON form both ways
policy.py     probabilities -> precisions, switches, overrides
draft.py      a plan in the making: the precision of every block and outside group
fit.py        a draft -> a draft that fits a memory (budget.py) and devices (placement.py)
schemes.py    bytes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastewq.architecture import Architecture
from fastewq.budget import DAMAGE
from fastewq.config import read_config
from fastewq.document import Plan, PlannedBlock, PlannedGroup, PlannedStack, Totals
from fastewq.draft import Draft
from fastewq.fit import fit
from fastewq.kv_cache import cache_bytes
from fastewq.memory import Memory, read_memory
from fastewq.policy import DEFAULT_POLICY, Policy, read_policy
from fastewq.predictor import Predictor, load_predictor, rounded
from fastewq.quantized import dequantized
from fastewq.schemes import DEFAULT_TARGET, stored_bytes, target_named

__all__ = ["Plan", "PlannedBlock", "PlannedGroup", "PlannedStack", "Totals", "plan", "plan_architecture"]


def plan(
    config: Mapping[str, Any],
    *,
    objective: str | None = None,
    policy: str | Mapping[str, Any] | Policy = DEFAULT_POLICY,
    target: str = DEFAULT_TARGET,
    memory: int | str | None = None,
    devices: Sequence[int | str] = (),
    context: int = 0,
    batch: int = 1,
    cache_bits: int = 16,
    reserve: int | str = 0,
    predictor: Predictor | None = None,
    architecture: Architecture | None = None,
    probabilities: NDArray[np.float64] | None = None,
    model_id: str | None = None,
    revision: str | None = None,
) -> Plan:
    """The precision plan of the model a config describes.

    objective   `entropy` or `sensitivity`: which shipped predictor; not with a `predictor` of one's own
    policy      a name, a `Policy`, or an object for `fastewq.policy.read_policy`
    target      the tool whose file format counts the bytes, one of `fastewq.schemes.TARGETS`
    memory      bytes (6_000_000_000 or "6GiB") that weights, KV cache and reserve must fit; the plan is then the one of
                least damage that fits (`fastewq.budget`), whatever the threshold
    devices     memory of each device, in pipeline order: the blocks are placed in contiguous runs
    context, batch, cache_bits, reserve    see `fastewq.memory.Memory`
    architecture   the model's blocks, where they are known already, or better than from the config (`fastewq.headers`)
    probabilities  of these blocks, where the predictor was asked about many models at once

    `model_id` and `revision` are carried into the document. Raises InvalidConfig, UnsupportedArchitecture,
    InvalidPolicy, DoesNotFit.
    """
    predictor = predictor or load_predictor(objective=objective)
    wanted = read_memory(memory, devices, context, batch, cache_bits, reserve)
    architecture = architecture or read_config(config)
    return plan_architecture(
        architecture,
        predictor.of_model(architecture) if probabilities is None else probabilities,
        predictor=predictor,
        policy=policy,
        target=target,
        memory=wanted,
        cache=cache_bytes(config, architecture, context, batch, cache_bits) if context else None,
        model_id=model_id,
        revision=revision,
    )


def plan_architecture(
    architecture: Architecture,
    probabilities: Sequence[float] | NDArray[np.float64],
    *,
    predictor: Predictor,
    policy: str | Mapping[str, Any] | Policy = DEFAULT_POLICY,
    target: str = DEFAULT_TARGET,
    memory: Memory | None = None,
    cache: Sequence[int] | None = None,
    model_id: str | None = None,
    revision: str | None = None,
) -> Plan:
    """The plan for blocks whose probabilities are known.

    `probabilities` and `cache` (bytes of KV cache, see `fastewq.kv_cache`) hold one value per block, stack after stack.
    Raises InvalidConfig, InvalidPolicy, DoesNotFit.
    """
    chosen = read_policy(policy, predictor.card)
    start = starting_point(architecture, target)
    if isinstance(probabilities, np.ndarray):
        probabilities = rounded(probabilities)
    draft = Draft(start, probabilities, chosen, target_named(target))
    report = None if memory is None else fit(draft, memory, list(cache) if cache else [0] * len(draft.layouts))
    stacks, other, layouts = draft.document()
    outside_domain = predictor.outside_domain(architecture)
    weights = sum([stack.blocks.bytes for stack in stacks]) + sum([group.bytes for group in other])
    return Plan(
        model={
            **({"id": model_id} if model_id else {}),
            **({"revision": revision} if revision else {}),
            "model_type": architecture.model_type,
            "dtype": architecture.dtype,
            "parameters": architecture.parameters,
            "tied_embeddings": architecture.tied_embeddings,
            "already_quantized": architecture.quantization is not None,
            **({"quantization": architecture.quantization} if architecture.quantization else {}),
        },
        predictor=predictor.about,
        policy=chosen.as_dict(),
        target=target,
        confidence="extrapolating" if outside_domain else "in_domain",
        stacks=stacks,
        other=other,
        layouts=layouts,
        totals=_totals(weights, architecture.parameters, stored_bytes(architecture, draft.raw_bytes)),
        warnings=(
            *architecture.warnings,
            *quantized_warning(architecture, target),
            *outside_domain,
            *draft.warnings,
            *_ternary_warning(draft),
        ),
        memory=report,
    )


def _ternary_warning(draft: Draft) -> tuple[str, ...]:
    if draft.uses("ternary"):
        error = f"{DAMAGE['ternary']:.0%} of a matrix's energy"
        return (f"ternary rounding of a model not trained for it loses about {error}; see docs/plans.md",)
    return ()


def starting_point(architecture: Architecture, target: str) -> Architecture:
    """What a target's tool works on: the checkpoint as it is for "plain", unquantized weights for the others."""
    return architecture if target == DEFAULT_TARGET else dequantized(architecture)


def quantized_warning(architecture: Architecture, target: str) -> tuple[str, ...]:
    """What to know about a plan for a checkpoint that is already quantized by a method understood here."""
    method = architecture.quantization
    if method is None or not any(layout.quantized for layout in architecture.layouts):
        return ()
    words = f"the checkpoint is already quantized ({method}); raw_bytes are those it has now"
    if target == DEFAULT_TARGET:
        return (f"{words}, and what it holds in as few bits as its block would get is kept as stored",)
    return (
        f"{words}; {target} starts from weights without quantization, so convert them to {architecture.dtype} first",
    )


def _totals(planned: int, parameters: int, raw: int) -> Totals:
    return Totals(
        bytes=planned,
        raw_bytes=raw,
        saved_fraction=round(1 - planned / raw, 6) if raw else 0.0,
        bits_per_weight=round(8 * planned / parameters, 6) if parameters else 0.0,
    )
