"""The budget solver against brute force, and what `plan(memory=...)` promises."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastewq.architecture import Architecture, Blocks, Layout, Outside, Stack, Tensor
from fastewq.architectures.body import numbered
from fastewq.budget import DAMAGE, Movable, Problem, convex_levels, falling_levels, sensitivities
from fastewq.draft import Draft
from fastewq.errors import DoesNotFit, InvalidPolicy
from fastewq.fit import Fitting, fit
from fastewq.memory import Memory, parse_bytes, read_memory
from fastewq.policy import Policy, read_policy
from fastewq.schemes import TARGETS

CARD = {"threshold": 0.5, "aggressive_share": 0.25}
LEVELS = ("raw", "int8", "int4", "ternary")


def architecture(widths: list[int]) -> Architecture:
    """Blocks of one square matrix and a norm each; equal widths share a layout."""
    layouts = {
        w: Layout("attention", "dense", (Tensor("m.q_proj.weight", (w, w), "linear"), Tensor("n.weight", (w,), "norm")))
        for w in set(widths)
    }
    blocks = Blocks(numbered("model.layers", len(widths)), tuple(layouts[w] for w in widths))
    embed = Outside("model.embed_tokens", (Tensor("weight", (100, 64), "embedding"),))
    return Architecture("llama", "bfloat16", (Stack("decoder", "decoder", blocks, 64),), (embed,), vocab_size=100)


def draft(widths: list[int], probabilities: list[float], policy: str | dict | Policy = "ternary-mixed") -> Draft:
    return Draft(architecture(widths), probabilities, read_policy(policy, CARD), TARGETS["plain"])


def damage(d: Draft, precisions: list[str]) -> float:
    """The objective as docs/plans.md states it."""
    order = sorted(range(len(precisions)), key=lambda n: (-d.probabilities[n], -d.blocks[n].index))
    weight = dict(zip(order, sensitivities(len(order)), strict=True))
    return sum(weight[n] * d.quantized_parameters(n, p) * DAMAGE[p] for n, p in enumerate(precisions))


def size(d: Draft, precisions: list[str]) -> int:
    return sum(d.block_bytes(n, p) for n, p in enumerate(precisions)) + sum(map(d.group_bytes, range(len(d.groups))))


def best_by_brute_force(d: Draft, limit: int) -> float | None:
    fitting = (list(p) for p in product(LEVELS, repeat=len(d.layouts)) if size(d, list(p)) <= limit)
    return min((damage(d, p) for p in fitting), default=None)


@settings(max_examples=80)
@given(
    widths=st.lists(st.sampled_from([64, 96, 128, 192, 320]), min_size=1, max_size=6),
    seed=st.lists(st.integers(0, 3), min_size=6, max_size=6),
    share=st.floats(0, 1),
)
def test_plan_is_the_best_of_all_assignments(widths: list[int], seed: list[int], share: float) -> None:
    probabilities = [0.1 + 0.2 * s for s in seed[: len(widths)]]
    d = draft(widths, probabilities)
    low, high = size(d, ["ternary"] * len(widths)), size(d, ["raw"] * len(widths))
    limit = int(low + share * (high - low) * 1.05) - 1
    expected = best_by_brute_force(d, limit)
    proven = Fitting(d).apply(limit)
    if expected is None:
        assert proven is None
    else:
        assert proven is True
        assert size(d, d.precisions) <= limit
        assert damage(d, d.precisions) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=60)
@given(
    steps=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50), st.integers(1, 4)), min_size=1, max_size=4),
    share=st.floats(0, 1),
)
def test_solver_on_arbitrary_sizes(steps: list[tuple[int, int, int]], share: float) -> None:
    """Two levels of free sizes per class, as exact damage per byte differs between layouts of mixed targets."""
    classes, number = [], 0
    for saved, price, count in steps:
        classes.append(
            Movable((saved, 0), (0.0, float(price)), tuple(range(number, number + count)), tuple(sensitivities(count)))
        )
        number += count
    need = int(share * sum(c.sizes[0] * len(c.blocks) for c in classes))
    solution = Problem(classes).solve(need)
    assert solution is not None
    assert solution.optimal

    def cost(taken: tuple[int, ...]) -> float:
        return sum(c.damages[1] * w * taken[b] for c in classes for b, w in zip(c.blocks, c.sensitivities, strict=True))

    def saves(taken: tuple[int, ...]) -> int:
        return sum(c.sizes[0] * taken[b] for c in classes for b in c.blocks)

    found = tuple(solution.levels[b] for b in range(number))
    assert saves(found) >= need
    assert cost(found) == pytest.approx(min(cost(t) for t in product((0, 1), repeat=number) if saves(t) >= need))


@settings(max_examples=150)
@given(
    classes=st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=3), st.integers(1, 3)
        ),
        min_size=1,
        max_size=2,
    ),
    share=st.floats(0, 1),
)
def test_solver_on_levels_of_any_sizes(classes: list[tuple[list[tuple[int, int]], int]], share: float) -> None:
    """A further level may save more than the one before, as int4 does after int8 where blocks are fp8 for most."""
    movable, number = [], 0
    for steps, count in classes:
        gains, prices = zip(*steps, strict=True)
        sizes = tuple(sum(gains[i:]) for i in range(len(gains) + 1))
        damages = tuple(float(sum(prices[:i])) for i in range(len(prices) + 1))
        movable.append(Movable(sizes, damages, tuple(range(number, number + count)), tuple(sensitivities(count))))
        number += count
    need = int(share * sum(c.sizes[0] * len(c.blocks) for c in movable))
    solution = Problem(movable).solve(need)
    assert solution is not None
    assert solution.optimal

    def total(taken: dict[int, int]) -> tuple[int, float]:
        each = [(c, w, taken[b]) for c in movable for b, w in zip(c.blocks, c.sensitivities, strict=True)]
        return sum(c.sizes[0] - c.sizes[n] for c, _, n in each), sum(w * c.damages[n] for c, w, n in each)

    ways = product(*(range(len(c.sizes)) for c in movable for _ in c.blocks))
    best = min(damage for saved, damage in (total(dict(enumerate(way))) for way in ways) if saved >= need)
    saved, damage = total(solution.levels)
    assert saved >= need
    assert damage == pytest.approx(best)


def test_more_mixtures_than_are_tried_leave_the_relaxation(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = Movable((100, 99, 0), (0.0, 1.0, 10.0), tuple(range(5)), tuple(sensitivities(5)))
    best = Problem([blocks]).solve(100)
    assert best is not None
    assert best.optimal
    assert sorted(best.levels.values()) == [0, 0, 0, 0, 2]
    monkeypatch.setattr("fastewq.budget.MAX_MIXTURES", 20)
    rounded = Problem([blocks]).solve(100)
    assert rounded is not None
    assert not rounded.optimal


def test_rounded_relaxation_is_within_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastewq.budget.MAX_STATES", 1)
    d = draft([64, 96, 128, 192, 320, 64], [0.3, 0.9, 0.5, 0.7, 0.1, 0.6])
    for limit in range(size(d, ["ternary"] * 6), size(d, ["raw"] * 6), 9973):
        proven = Fitting(d).apply(limit)
        best = best_by_brute_force(d, limit)
        step = max(2 * d.quantized_parameters(n, "ternary") * (DAMAGE["ternary"] - DAMAGE["int4"]) for n in range(6))
        assert size(d, d.precisions) <= limit
        assert damage(d, d.precisions) <= best + step
        if proven is False:
            break
    else:
        pytest.fail("the table was never refused, so the fallback was not tried")


def test_memory_gives_up_likely_blocks_first_and_later_ones_where_equal() -> None:
    d = draft([64] * 4, [0.2, 0.9, 0.2, 0.2])
    one_step = d.block_bytes(0, "raw") - d.block_bytes(0, "int8")
    raw = size(d, ["raw"] * 4)
    expected = [
        ["raw", "raw", "raw", "raw"],
        ["raw", "int8", "raw", "raw"],
        ["raw", "int8", "raw", "int8"],
        ["raw", "int8", "int8", "int8"],
        ["int8", "int8", "int8", "int8"],
    ]
    for given_up, precisions in enumerate(expected):
        assert Fitting(d).apply(raw - given_up * one_step)
        assert d.precisions == precisions
    assert Fitting(d).apply(raw - 4 * one_step - 1)
    assert d.precisions == ["int8", "int4", "int8", "int8"]


def test_probabilities_all_on_one_side_of_the_threshold_change_nothing() -> None:
    limit = 50_000
    plans = []
    for shift in (0.0, 0.6):
        d = draft([64] * 6, [0.10 + shift, 0.12 + shift, 0.11 + shift, 0.3 + shift, 0.2 + shift, 0.25 + shift])
        Fitting(d).apply(limit)
        plans.append(d.precisions)
    assert plans[0] == plans[1]
    assert len(set(plans[0])) == 2


def test_pinned_blocks_stay_and_no_promotion_fits_any_more() -> None:
    policy = {"name": "4bit-8bit-mixed", "keep_ends": True, "overrides": [["2", "int4"]]}
    d = draft([64, 96, 128, 96, 64, 192, 64], [0.5] * 7, policy)
    pins = {0: "raw", 2: "int4", 6: "raw"}
    limit = 130_000
    assert Fitting(d).apply(limit) is True
    assert {n: d.precisions[n] for n in pins} == pins
    ladder = ("raw", "int8", "int4")
    for n in set(range(7)) - set(pins):
        at = ladder.index(d.precisions[n])
        if at:
            promoted = [*d.precisions[:n], ladder[at - 1], *d.precisions[n + 1 :]]
            assert size(d, promoted) > limit


def test_policy_bounds_the_ladder() -> None:
    d = draft([64] * 3, [0.9] * 3, "8bit-mixed")
    assert Fitting(d).apply(size(d, ["int8"] * 3)) is True
    assert d.precisions == ["int8"] * 3
    assert Fitting(d).apply(size(d, ["int8"] * 3) - 1) is None


def test_refusal_says_by_how_much_and_what_would_do() -> None:
    d = draft([64] * 3, [0.9] * 3, "8bit-mixed")
    least = size(d, ["int8"] * 3)
    with pytest.raises(DoesNotFit, match="needs 1000 bytes more") as caught:
        fit(d, Memory(limit=least - 1000), [0, 0, 0])
    assert caught.value.hint.startswith("Any of these would do: 1000 bytes more memory; ")
    assert "a policy that allows int4" in caught.value.hint
    assert "embeddings and head in int8" in caught.value.hint


def test_a_single_way_out_is_no_choice() -> None:
    d = draft([64] * 3, [0.9] * 3, "8bit-mixed")
    with pytest.raises(DoesNotFit) as caught:
        fit(d, Memory(limit=0), [0, 0, 0])
    assert caught.value.hint == f"{size(d, ['int8'] * 3)} bytes more memory would do."


def test_cache_and_reserve_count_against_the_limit() -> None:
    d = draft([64] * 3, [0.9] * 3)
    raw = size(d, ["raw"] * 3)
    report = fit(d, Memory(limit=raw + 300 + 50, context=7, reserve=50), [100, 100, 100])
    assert (report.weights, report.kv_cache, report.free) == (raw, 300, 0)
    report = fit(d, Memory(limit=raw + 300 + 49, context=7, reserve=50), [100, 100, 100])
    assert report.weights < raw
    assert report.weights + report.kv_cache + 50 + report.free == raw + 300 + 49


def test_levels_that_save_nothing_or_too_little_are_passed_over() -> None:
    assert convex_levels((100, 50, 25, 13), (0, 1, 300, 9000)) == [0, 1, 2, 3]
    assert falling_levels((100, 50, 25, 25)) == [0, 1, 2]
    assert falling_levels((100, 100, 50)) == [0, 2]
    assert convex_levels((100, 99, 10), (0, 50, 60)) == [0, 2]


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_falling_steps(target: str) -> None:
    """The two-neighbouring-levels argument of fastewq.budget needs each further level to save fewer bytes."""
    tensor = Tensor("m.weight", (768, 3072), "linear")
    sizes = [
        TARGETS[target].tensor_bytes(tensor, level, 2) for level in LEVELS if level in ("raw", *TARGETS[target].schemes)
    ]
    saved = [a - b for a, b in pairwise(sizes) if a > b]
    assert saved == sorted(saved, reverse=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("6GiB", 6 * 2**30), ("80 GB", 80 * 10**9), ("1.5tib", 3 * 2**39), (123, 123), ("17", 17), ("512MiB", 2**29)],
)
def test_sizes_are_read(text: str | int, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    "text", ["", "six", "-1", -1, True, 1.5, "1e30", "9999999999TiB", "6Gi B", None, "6 XB", "\u0661GiB"]
)
def test_other_sizes_are_refused(text: object) -> None:
    with pytest.raises(InvalidPolicy, match="memory is"):
        parse_bytes(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"devices": "6GiB"}, "devices is '6GiB'; expected a list of at most 256 memory sizes"),
        ({"devices": None}, "devices is null; expected a list"),
        ({"devices": [1] * 257}, "devices is list of 257; expected a list of at most 256"),
        ({"devices": ["6GiB", -1]}, r"devices\[1\] is -1; expected bytes such as 6GiB"),
        ({"reserve": None}, "reserve is null; expected bytes such as 6GiB"),
        ({"context": 1.0}, "context is 1.0; expected an integer from 0"),
        ({"batch": 0}, "batch is 0; expected an integer from 1"),
        ({"batch": True}, "batch is true; expected an integer from 1"),
        ({"cache_bits": 16.0}, "cache_bits is 16.0; expected one of 4, 8, 16, 32"),
        ({"cache_bits": [16]}, "cache_bits is list of 1; expected one of 4, 8, 16, 32"),
    ],
)
def test_wrong_options_are_named_with_their_value_and_what_was_expected(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidPolicy, match=message):
        read_memory(**given)
