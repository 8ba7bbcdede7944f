"""Placement against brute force, and the promises of its docstring."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastewq.placement import Load, Run, fits, place


def brute_force(load: Load, capacities: list[int]) -> tuple[int, float] | None:
    """(devices used, largest share) of the best placement, by trying all runs on all choices of devices."""
    count, best = len(load.blocks), None
    for used in range(1, len(capacities) + 1):
        for devices in combinations(range(len(capacities)), used):
            for cuts in combinations(range(1, count), used - 1):
                ends = (0, *cuts, count)
                sizes = [sum(load.blocks[a:b]) for a, b in pairwise(ends)]
                sizes[0] += load.first
                sizes[-1] += load.last + (load.tied if used > 1 else 0)
                if all(size <= capacities[d] for size, d in zip(sizes, devices, strict=True)):
                    share = max(size / max(capacities[d], 1) for size, d in zip(sizes, devices, strict=True))
                    best = min(best or (used, share), (used, share))
        if best:
            return best
    return None


@settings(max_examples=150)
@given(
    blocks=st.lists(st.integers(1, 30), min_size=1, max_size=7),
    ends=st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20)),
    capacities=st.lists(st.integers(0, 120), min_size=1, max_size=4),
)
def test_fewest_devices_then_balanced(blocks: list[int], ends: tuple[int, int, int], capacities: list[int]) -> None:
    first, last, tied = ends
    load = Load(tuple(blocks), first, last, min(tied, first))
    runs, expected = place(load, capacities), brute_force(load, capacities)
    assert fits(load, capacities) == (expected is not None)
    if expected is None:
        assert runs == ()
        return
    assert [runs[0].start, *[r.end for r in runs]] == [*[r.start for r in runs], len(blocks)]
    assert [r.device for r in runs] == sorted({r.device for r in runs})
    total = sum(blocks) + first + last + (load.tied if len(runs) > 1 else 0)
    assert sum(r.bytes for r in runs) == total
    assert all(r.bytes <= capacities[r.device] for r in runs)
    assert (len(runs), max(r.bytes / max(capacities[r.device], 1) for r in runs)) == pytest.approx(expected)


def test_one_device_is_enough_where_the_model_fits_it() -> None:
    assert place(Load((10, 10, 10), 5, 5, 5), [20, 50, 40]) == (Run(1, 0, 3, 40),)


def test_a_tied_embedding_counts_twice_on_two_devices() -> None:
    load = Load((10, 10), first=8, last=1, tied=8)
    assert place(load, [20, 18]) == ()
    assert place(load, [20, 19]) == (Run(0, 0, 1, 18), Run(1, 1, 2, 19))
    assert fits(load, [20, 19], most=37)
    assert not fits(load, [20, 19], most=36)


def test_hundreds_of_blocks_on_many_devices() -> None:
    load = Load(tuple(range(100, 500)), 1000, 1000, 0)
    runs = place(load, [9000] * 20)
    assert len(runs) == 14 == -(-sum(load.blocks) // 9000)
