"""Blocks that a sources file's config states in plain facts."""

from __future__ import annotations

import copy

import pytest

from fastewq.errors import InvalidConfig
from fastewq.features import block_columns
from fastewq.training.source_described import read_described

MODEL = {
    "model_type": "piper",
    "dtype": "float32",
    "vocab_size": 256,
    "parameters": 1000,
    "stacks": [
        {
            "name": "encoder",
            "role": "encoder",
            "blocks": 3,
            "width": 4,
            "heads": 2,
            "head_dim": 2,
            "ffn_width": 8,
            "norm": "layer",
            "tensors": {"q": [4, 4], "conv_1": [8, 4, 3], "bias": [8]},
        }
    ],
}


def changed(**values):
    model = copy.deepcopy(MODEL)
    for name, value in values.items():
        (model if name in model else model["stacks"][0])[name] = value
    return model


def test_the_facts_are_those_stated():
    architecture = read_described(MODEL)
    assert architecture.parameters == 1000
    facts = block_columns(architecture)
    assert facts["num_parameters"].tolist() == [16 + 96 + 8] * 3
    assert [facts[name][0] for name in ("num_blocks", "ffn_width", "heads", "kv_heads", "causal")] == [3, 8, 2, 2, 0]
    assert [tensor.role for tensor in architecture.stacks[0].blocks[2].layout.tensors] == ["linear", "conv", "other"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"role": "reader"}, r"stacks\.0\.role"),
        ({"blocks": 0}, r"stacks\.0\.blocks"),
        ({"blocks": 10**9}, r"stacks\.0\.blocks"),
        ({"tensors": {"q": [4, -4]}}, r"stacks\.0\.tensors\.q\.1"),
        ({"tensors": {}}, r"stacks\.0\.tensors"),
        ({"parameters": 300}, "parameters is 300; the blocks alone have 360"),
        ({"colour": "red"}, r"stacks\.0\.colour"),
    ],
)
def test_impossible_facts_are_refused_by_name(changes, message):
    with pytest.raises(InvalidConfig, match=message):
        read_described(changed(**changes))


def test_a_missing_fact_is_named():
    model = changed()
    del model["stacks"][0]["heads"]
    with pytest.raises(InvalidConfig, match=r"stacks\.0\.heads: Field required"):
        read_described(model)
