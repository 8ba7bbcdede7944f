"""A draft plan -> one that fits a memory, and a place on the devices for each of its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fastewq.architecture import Layout
from fastewq.budget import DAMAGE, Movable, Problem, falling_levels, sensitivities
from fastewq.draft import Draft
from fastewq.errors import DoesNotFit
from fastewq.memory import Memory, MemoryReport
from fastewq.modules import is_output
from fastewq.placement import Load, Run, fits, place
from fastewq.schemes import KEEP, LEVELS


def fit(draft: Draft, memory: Memory, cache: Sequence[int]) -> MemoryReport:
    """Set the draft's precisions to the plan of least damage that fits `memory`; `cache` has bytes per block.

    Raises DoesNotFit where nothing the policy allows fits, saying by how much and what would.
    """
    optimal = None
    runs: tuple[Run, ...] = ()
    kv_cache, available = sum(cache), memory.available
    if available is not None:
        fitting = Fitting(draft)
        optimal = fitting.apply(available - kv_cache)
        if optimal is None:
            raise _does_not_fit(fitting, memory, cache)
        if memory.devices:
            optimal, runs = _placed(fitting, memory, cache, optimal)
    weights = draft.total()
    used = sum(run.bytes for run in runs) if runs else weights + kv_cache
    return MemoryReport(
        request=memory,
        weights=weights,
        kv_cache=kv_cache,
        free=None if available is None else available - used,
        optimal=optimal,
        runs=runs,
    )


class Fitting:
    """The blocks of a draft that a budget may move, grouped by equal sizes, and the bytes of everything else."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.levels = (KEEP, *draft.policy.ladder)
        free = [number for number in range(len(draft.layouts)) if number not in draft.pinned]
        for number in free:
            draft.levels[number] = 0  # KEEP
        self.raw_total = draft.total()
        # Likely to be quantizable first; where the predictor makes no difference, from the end of the stack.
        order = sorted(free, key=lambda n: (-draft.probabilities[n], -draft.blocks[n].index, -n))
        weight = dict(zip(order, sensitivities(len(order)), strict=True))
        alike: dict[tuple[Layout, tuple[tuple[str, str], ...]], list[int]] = {}
        for number in order:
            special = draft.exceptions.get(number)
            key = (draft.layouts[number], tuple(sorted(special.items())) if special else ())
            alike.setdefault(key, []).append(number)
        self.classes: list[Movable] = []
        self.class_levels: list[list[int]] = []
        for numbers in alike.values():
            sizes = [draft.block_bytes(numbers[0], level) for level in self.levels]
            kept = falling_levels(sizes)
            if len(kept) > 1:
                damages = [DAMAGE[level] * draft.quantized_parameters(numbers[0], level) for level in self.levels]
                self.class_levels.append(kept)
                self.classes.append(
                    Movable(
                        tuple(sizes[level] for level in kept),
                        tuple(damages[level] for level in kept),
                        tuple(numbers),
                        tuple(weight[number] for number in numbers),
                    )
                )

        self.problem = Problem(self.classes)

    @property
    def least(self) -> int:
        """Bytes of all weights with every free block at the last level."""
        return self.raw_total - sum((c.sizes[0] - c.sizes[-1]) * len(c.blocks) for c in self.classes)

    def apply(self, limit: int) -> bool | None:
        """Give the draft the plan of least damage within `limit` bytes of weights.

        Returns whether it is proven optimal; None, leaving the draft alone, where nothing fits.
        """
        solution = self.problem.solve(self.raw_total - limit)
        if solution is None:
            return None
        for movable, kept in zip(self.classes, self.class_levels, strict=True):
            for number in movable.blocks:
                self.draft.levels[number] = kept[solution.levels[number]]
        return solution.optimal


def _placed(fitting: Fitting, memory: Memory, cache: Sequence[int], optimal: bool) -> tuple[bool, tuple[Run, ...]]:
    """The runs of the draft's blocks; where they do not fit in one piece each, of the largest plan that does.

    Found by bisection over the bytes of weights, so the plan is optimal only where the first one fits.
    """
    draft = fitting.draft
    capacities, available = memory.capacities(), memory.available or 0
    runs = place(_load(draft, cache), capacities)
    if runs and sum(run.bytes for run in runs) <= available:
        return optimal, runs
    high = draft.total()
    least = _least_load(fitting, cache)
    if not fits(least, capacities, available):
        raise DoesNotFit(
            f"no contiguous runs of blocks fit the {len(capacities)} devices, even at {fitting.levels[-1]}, although "
            f"together they need {draft.total() + sum(cache)} of {available} bytes",
            hint=_devices_that_would_do(least, memory),
        )
    low = draft.total()
    while high - low > 1:
        middle = (low + high) // 2
        fitting.apply(middle)
        if fits(_load(draft, cache), capacities, available):
            low = middle
        else:
            high = middle
    fitting.apply(low)
    return False, place(_load(draft, cache), capacities)


def _devices_that_would_do(least: Load, memory: Memory) -> str:
    """By how much each device has to be larger, and the limit, for the least plan to fit."""
    low, high = -1, sum(least.blocks) + least.first + least.last + memory.reserve  # which fits one device alone
    while high - low > 1:
        middle = (low + high) // 2
        if fits(least, memory.capacities(middle)):
            high = middle
        else:
            low = middle
    ways = [f"{high} bytes more on each device"] if high else []
    if memory.limit is not None:
        placed = sum(run.bytes for run in place(least, memory.capacities(high)))
        over = placed + memory.reserve * len(memory.devices) - memory.limit
        ways += [f"{over} bytes more memory"] if over > 0 else []
    return f"{' and '.join(ways)} would do. Fewer and larger devices, a smaller reserve or context may."


def _least_load(fitting: Fitting, cache: Sequence[int]) -> Load:
    """Of the smallest plan, which the draft then is."""
    fitting.apply(fitting.least)
    return _load(fitting.draft, cache)


def _load(draft: Draft, cache: Sequence[int]) -> Load:
    """Outside groups before the blocks stay with the first one; heads and what follows the blocks with the last."""
    outside = draft.architecture.outside
    sizes = list(map(draft.group_bytes, range(len(outside))))
    tokens = next(
        (i for i, group in enumerate(outside) if any(t.role == "embedding" for t in group.tensors)), len(outside)
    )
    after = {i for i, group in enumerate(outside) if is_output(group.path)}
    tied = sizes[tokens] if draft.architecture.tied_embeddings and tokens < len(outside) else 0
    return Load(
        blocks=tuple(draft.block_bytes(n, p) + cache[n] for n, p in enumerate(draft.precisions)),
        first=sum(size for i, size in enumerate(sizes) if i not in after),
        last=sum(size for i, size in enumerate(sizes) if i in after),
        tied=tied,
    )


def _does_not_fit(fitting: Fitting, memory: Memory, cache: Sequence[int]) -> DoesNotFit:
    available, least, kv_cache = memory.available or 0, fitting.least, sum(cache)
    over = least + kv_cache - available
    parts = [f"weights {least} with every free block at {fitting.levels[-1]}"]
    parts += [f"KV cache {kv_cache}"] if kv_cache else []
    there = f"available after the reserve of {memory.reserve}" if memory.reserve else "available"
    return DoesNotFit(
        f"the model needs {over} bytes more than there are: {', '.join(parts)}; {there}: {available}",
        hint=_devices_that_would_do(_least_load(fitting, cache), memory)
        if memory.devices
        else _what_would_fit(fitting, memory, kv_cache, over),
    )


def _what_would_fit(fitting: Fitting, memory: Memory, kv_cache: int, over: int) -> str:
    """Ways out, each sufficient alone: more memory, embeddings in int8, a further level, no pins.

    A shorter context need not be, as windows, states and sources do not shrink with it.
    """
    ways = [f"{over} bytes more memory"]
    ways += [f"{what} (saves {saved} bytes)" for what, saved in _further_savings(fitting) if saved >= over]
    listed = f"Any of these would do: {'; '.join(ways)}." if len(ways) > 1 else f"{ways[0]} would do."
    room = (memory.available or 0) - fitting.least
    tokens = memory.context * room // kv_cache if kv_cache else 0
    return (
        f"{listed} At most about {tokens} tokens of context instead of {memory.context} fit." if tokens > 0 else listed
    )


def _further_savings(fitting: Fitting) -> list[tuple[str, int]]:
    draft, saved = fitting.draft, []
    if "int8" in draft.target.schemes:
        policy = replace(draft.policy, embeddings="int8", lm_head="int8")
        other = Draft(draft.architecture, draft.probabilities, policy, draft.target)
        groups = range(len(draft.groups))
        saved.append(("embeddings and head in int8", sum(draft.group_bytes(i) - other.group_bytes(i) for i in groups)))
    last = fitting.levels[-1]
    for level in LEVELS[LEVELS.index(last) + 1 :]:
        free = [number for movable in fitting.classes for number in movable.blocks]
        bytes_ = sum(draft.block_bytes(n, last) - draft.block_bytes(n, level) for n in free)
        saved.append((f"a policy that allows {level}", bytes_))
    pinned = sum(max(draft.block_bytes(n, draft.precisions[n]) - draft.block_bytes(n, last), 0) for n in draft.pinned)
    saved.append((f"kept and overridden blocks at {last} as well", pinned))
    return saved
