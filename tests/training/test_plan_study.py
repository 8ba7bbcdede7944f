from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fastewq.errors import InvalidDataset
from fastewq.training.metrics import spearman
from fastewq.training.plan_study import bootstrap, compare, correlation, plans, rules, uniform
from fastewq.training.sensitivity import QualityLog

ENTROPIES = [4.0, 1.0, 3.0, 2.0, 5.0, 6.0]


def log_of(divergences):
    blocks = tuple(("m", "decoder", i) for i in range(6))
    return QualityLog("m", blocks, "kl", "english", divergences, divergences)


def alone(values):
    return {"r" * i + "4" + "r" * (5 - i): {0: value} for i, value in enumerate(values)}


@pytest.fixture
def table():
    columns = {f"entropy_{eps}": ENTROPIES for eps in ("0.01", "0.0001", "0")}
    return pd.DataFrame(
        {
            "model": "m",
            "stack": "decoder",
            "exec_index": range(6),
            "matrix_parameters": 100,
            "rounding_error_4": ENTROPIES[::-1],
            **columns,
        }
    )


@pytest.fixture
def predicted():
    index = pd.MultiIndex.from_tuples([("m", "decoder", i) for i in range(6)])
    return {"predicted": pd.Series([0.1, 0.9, 0.2, 0.3, 0.8, 0.4], index=index)}


def test_each_rule_lowers_the_blocks_that_it_puts_first(table, predicted):
    log = log_of(alone([3, 2, 1, 6, 5, 4]))
    found = plans(log, rules(log, table, predicted), ("4/raw", "3/4"))
    assert found["4/raw"]["first"] == "44rrrr"
    assert found["4/raw"]["last"] == "rrrr44"
    assert found["4/raw"]["middle"] == "rr44rr"
    assert found["4/raw"]["ends"] == "4rrrr4"
    assert found["4/raw"]["entropy 0.01"] == "r4r4rr"
    assert found["4/raw"]["inverse entropy 0.01"] == "rrrr44"
    assert found["4/raw"]["rounding error"] == "rr4r4r"
    assert found["4/raw"]["predicted"] == "r4rr4r"
    assert found["4/raw"]["measured"] == "r44rrr"
    assert found["3/4"]["measured"] == "433444"


def test_all_plans_of_a_mix_lower_equally_many_blocks(table, predicted):
    log = log_of(alone([1] * 6))
    for mix in plans(log, rules(log, table, predicted)).values():
        assert len({tuple(sorted(assignment)) for assignment in mix.values()}) == 1
        assert len(mix) > 10


def test_blocks_of_unequal_size_have_no_plans_of_equal_bytes(table, predicted):
    with pytest.raises(InvalidDataset, match="expected equal ones"):
        rules(log_of({}), table.assign(matrix_parameters=range(1, 7)), predicted)


def test_without_a_measurement_of_every_block_there_is_no_measured_rule(table, predicted):
    assert "measured" not in rules(log_of({}), table, predicted)


def test_uniform_plans_have_one_precision():
    assert uniform(log_of({})) == ["rrrrrr", "888888", "444444", "333333"]


def test_rules_are_compared_on_the_chunks_that_all_were_measured_on():
    divergences = {
        "44rrrr": {1: 1.0, 2: 2.0, 4: 9.0},
        "rrrr44": {1: 3.0, 2: 5.0},
        "r4r4rr": {1: 2.0, 2: 2.0, 4: 1.0},
        "4r4rrr": {1: 1.0, 2: 1.0},
        "rr4r4r": {1: 7.0, 2: 7.0},
    }
    assignments = {
        "first": "44rrrr",
        "last": "rrrr44",
        "random 0": "r4r4rr",
        "random 1": "4r4rrr",
        "random 2": "rr4r4r",
    }
    found = compare(log_of(divergences), assignments, "first")
    assert set(found) == {"first", "last", "random"}
    assert found["first"]["divergence"] == 1.5
    assert found["random"]["divergence"] == 2.0
    assert found["last"]["difference"] == 2.5
    assert found["last"]["difference_low"] > 0
    assert found["first"]["difference_low"] == found["first"]["difference_high"] == 0
    assert compare(log_of(divergences), {**assignments, "middle": "rr44rr"}, "first") == {}


def test_the_interval_of_a_mean_covers_it_and_shrinks():
    values = np.random.default_rng(1).normal(size=400)
    low, high = bootstrap(values)
    assert low < values.mean() < high
    assert high - low < np.subtract(*bootstrap(values[:25])[::-1])
    assert np.isnan(bootstrap(values[:1])).all()


def test_rank_correlation():
    rising = np.arange(30.0)
    assert spearman(rising, np.exp(rising / 10)) == pytest.approx(1)
    assert np.isnan(spearman(rising, np.ones(30)))
    found = correlation(rising, -rising)
    assert [found.value, found.low, found.high] == pytest.approx([-1, -1, -1])
    assert found.p == pytest.approx(1 / 10_001)
    assert np.isnan(correlation(rising, np.ones(30)).p)


def test_four_blocks_in_perfect_order_prove_little():
    assert correlation(np.arange(4.0), np.arange(4.0)).p == pytest.approx(2 / 24)
    assert correlation(np.arange(4.0), np.array([0.0, 1, 3, 2])).p == pytest.approx(8 / 24)


def test_blocks_in_random_order_are_found_correlated_as_often_as_p_says():
    generator = np.random.default_rng(1)
    drawn = [correlation(generator.random(12), generator.random(12), rounds=100).p for _ in range(200)]
    assert 2 <= sum(p < 0.05 for p in drawn) <= 20
