from __future__ import annotations

import sys

import pytest


@pytest.fixture
def quality_cost(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    yield pytest.importorskip("quality_cost")
    for name in ("quality_cost", "quality_steps"):
        sys.modules.pop(name, None)


def test_a_pass_costs_what_lies_behind_its_first_quantized_block(quality_cost):
    cost = quality_cost.Cost("m", chunks=3, load=100.0, whole=10.0, last=4.0, rounding=8.0)
    assert cost.seconds({"4rrr": 2}, chunks=0) == 100 + 8 / 4 + 2 * 10
    assert cost.seconds({"rrr4": 2}, chunks=0) == 100 + 8 / 4 + 2 * 4
    assert cost.seconds({"r44r": 1}, chunks=0) == 100 + 8 / 2 + 8
    assert cost.seconds({"rrrr": 1}, chunks=3) == 100 + 8 / 4 + 3 * 10 + 4
    assert cost.seconds({}, chunks=3) == 0


def test_jobs_are_taken_by_whoever_is_free(quality_cost):
    assert quality_cost.elapsed([5, 4, 3, 2, 1], 2) == 8
    assert quality_cost.elapsed([5, 4, 3, 2, 1], 1) == 15
    assert quality_cost.elapsed([], 2) == 0


def test_costs_are_read_as_written(quality_cost, tmp_path):
    costs = [quality_cost.Cost("b", 3, 1.5, 0.25, 0.125, 2.0), quality_cost.Cost("a", 0, 60.0)]
    quality_cost.write_costs(tmp_path / "costs.csv", costs)
    assert quality_cost.read_costs(tmp_path / "costs.csv") == {cost.model: cost for cost in costs}
    assert quality_cost.read_costs(tmp_path / "none.csv") == {}
