"""Blocks on several devices: contiguous runs in execution order, with as few crossings as possible, then balanced.

The devices form a pipeline in the order given; a device may stay empty. Among all contiguous runs that fit, the fewest
devices are used, and among those runs the largest share of a device's memory in use is as small as possible. Token
embeddings go with the first block and the head with the last one; a tied embedding is needed at both ends, so it counts
twice as soon as these are on different devices.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

HALVINGS: Final = 50
"""Bisections of the largest share: beyond a double's precision there is nothing to balance."""


@dataclass(frozen=True, slots=True)
class Load:
    """What has to be placed, in bytes of weights and KV cache.

    blocks        one entry per block in execution order
    first, last   what stays with the first and with the last block, `first` including a tied embedding
    tied          bytes of the tied embedding that the last block's device needs again; 0 where nothing is tied
    """

    blocks: tuple[int, ...]
    first: int
    last: int
    tied: int


@dataclass(frozen=True, slots=True)
class Run:
    """Blocks `start` (included) to `end` (excluded) on one device, and all bytes there."""

    device: int
    start: int
    end: int
    bytes: int


def place(load: Load, capacities: Sequence[int]) -> tuple[Run, ...]:
    """The runs of a load on devices of these capacities (bytes); none where no contiguous runs fit."""
    best = _fewest(load, capacities)
    if len(best) < 2:
        return best
    # The largest share that still lets as many devices hold everything. Every share tried at `high` was feasible.
    ends, low, high = _ends(load), 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        runs = _furthest(ends, [int(size * middle) for size in capacities], len(best))[len(best)]
        if runs and runs[-1].end == len(load.blocks):
            best, high = runs, middle
        else:
            low = middle
    return best


def fits(load: Load, capacities: Sequence[int], most: int | None = None) -> bool:
    """Whether `place` finds runs, which it takes far longer to balance, of at most so many bytes on all devices."""
    runs = _fewest(load, capacities)
    return bool(runs) and (most is None or sum(run.bytes for run in runs) <= most)


def _fewest(load: Load, capacities: Sequence[int]) -> tuple[Run, ...]:
    """Runs on as few devices as possible; where one is enough, on that of which it takes the smallest share."""
    count = len(load.blocks)
    whole = sum(load.blocks) + load.first + load.last
    alone = [(whole / max(size, 1), device) for device, size in enumerate(capacities) if whole <= size]
    if alone:
        return (Run(min(alone)[1], 0, count, whole),)
    if not count:
        return ()
    reached = _furthest(_ends(load), capacities, len(capacities))
    return next((runs for runs in reached if runs and runs[-1].end == count), ())


def _ends(load: Load) -> list[int]:
    """Bytes of the first 0, 1, 2 ... blocks on several devices, with what stays with the first and the last."""
    items = list(load.blocks)
    items[0] += load.first
    items[-1] += load.last + load.tied
    return [0, *accumulate(items)]


def _furthest(ends: Sequence[int], rooms: Sequence[int], most: int) -> list[tuple[Run, ...]]:
    """For 0, 1 ... `most` devices used, the runs that place the longest beginning of the blocks; () where none.

    `ends[i]` is the size of the first i blocks. Placing more blocks on the same number of devices never hurts the
    devices that follow, so the longest beginning is all that has to be remembered.
    """
    reached: list[tuple[Run, ...]] = [()] * (most + 1)
    for device, room in enumerate(rooms):
        for used in range(min(most, device + 1), 0, -1):
            before = reached[used - 1]
            if used > 1 and not before:
                continue
            start = before[-1].end if before else 0
            end = bisect_right(ends, ends[start] + room) - 1
            if end > start and (not reached[used] or end > reached[used][-1].end):
                reached[used] = (*before, Run(device, start, end, ends[end] - ends[start]))
    return reached
