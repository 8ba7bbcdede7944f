"""A batch gives, for every model, exactly what a single plan gives."""

from __future__ import annotations

import gc
import hashlib
import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastewq
from fastewq.architecture import Role, Stored, nameless
from fastewq.catalog import batch as batch_module
from fastewq.catalog.batch import Batch, tensor_sizes
from fastewq.catalog.schema import BLOCK, POLICIES
from fastewq.errors import FastEWQError
from fastewq.jsonio import parse_config
from fastewq.predictor import load_predictor
from fastewq.schemes import MATRICES, PRECISIONS, target_named


def expected(text: str, predictor) -> dict:
    try:
        config = parse_config(text.encode(), "config.json")
        plans = {name: fastewq.plan(config, policy=name, predictor=predictor) for name in POLICIES}
    except FastEWQError as error:
        return {"error_code": error.code, "error_message": error.message, "blocks": []}
    plan = plans["4bit-8bit-mixed"]
    document = plan.as_dict()
    blocks = [
        {"stack": stack["name"], **{key: block[key] for key in BLOCK.names if key != "stack"}}
        for stack in document["stacks"]
        for block in stack["blocks"]
    ]
    return {
        "error_code": None,
        "error_message": None,
        **{key: plan.model[key] for key in ("model_type", "dtype", "parameters", "already_quantized")},
        "confidence": plan.confidence,
        "raw_bytes": plan.totals.raw_bytes,
        **{f"bytes_{name.replace('-', '_')}": plans[name].totals.bytes for name in POLICIES},
        "warnings": list(plan.warnings),
        "blocks": [{key: block[key] for key in BLOCK.names} for block in blocks],
    }


def test_every_row_is_byte_for_byte_the_single_plan(configs, artefact):
    predictor = load_predictor(artefact)
    configs = {**configs, "broken/empty": ""}
    rows = Batch(predictor).plan([*configs.values(), None]).to_pylist()
    refused = 0
    for (name, text), row in zip(configs.items(), rows, strict=False):
        wanted = expected(text, predictor)
        assert json.dumps({key: row[key] for key in wanted}) == json.dumps(wanted), name
        refused += row["error_code"] is not None
        assert row["config_hash"] == hashlib.sha256(text.encode()).hexdigest()
    assert rows[-1]["error_code"] is None
    assert rows[-1]["config_hash"] is None
    assert 6 <= refused < len(configs) / 2


def test_the_result_depends_neither_on_the_batch_nor_on_what_is_remembered(configs, artefact):
    predictor = load_predictor(artefact)
    texts = list(configs.values())
    whole = Batch(predictor).plan(texts)
    batch = Batch(predictor)
    for _ in range(2):
        pieces = [row for start in range(0, len(texts), 7) for row in batch.plan(texts[start : start + 7]).to_pylist()]
        assert pieces == whole.to_pylist()
    assert Batch(predictor).plan(texts[::-1]).to_pylist()[::-1] == whole.to_pylist()


def test_copies_of_a_config_are_planned_once(configs, artefact, monkeypatch):
    seen = []
    read = batch_module.read_model
    monkeypatch.setattr(batch_module, "read_model", lambda *found: seen.append(found) or read(*found))
    batch = Batch(load_predictor(artefact))
    one, two = configs["copy/one"], configs["copy/two"]
    first, second, third = batch.plan([one, two, configs["copy/quantized"]]).to_pylist()
    assert len(seen) == 2
    assert batch.plan([two]).to_pylist() == [second]
    assert len(seen) == 2
    assert first["config_hash"] != second["config_hash"]
    assert {k: v for k, v in first.items() if k != "config_hash"} == {
        k: v for k, v in second.items() if k != "config_hash"
    }
    assert third["already_quantized"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from((2, 4)),
            st.lists(st.integers(1, 3000), min_size=1, max_size=3).map(tuple),
            st.sampled_from(get_args(Role)),
            st.booleans(),
            st.sampled_from((None, Stored("stored-int4", 4, 77), Stored("fp8", 8, 999))),
        ),
        max_size=20,
    )
)
def test_tensors_weigh_together_what_each_weighs(tensors) -> None:
    plain = target_named("plain")
    tensors = [
        (raw, (shape, role, swapped and len(shape) > 1, stored)) for raw, shape, role, swapped, stored in tensors
    ]
    expected = [
        [plain.tensor_bytes(nameless(fields), level if fields[1] in MATRICES else "raw", raw) for level in PRECISIONS]
        for raw, fields in tensors
    ]
    assert tensor_sizes(tensors).tolist() == expected


def test_the_oldest_results_are_forgotten(configs, artefact, monkeypatch):
    monkeypatch.setattr(batch_module, "REMEMBERED", 5)
    predictor = load_predictor(artefact)
    texts = list(configs.values())
    whole = Batch(predictor).plan(texts).to_pylist()
    batch = Batch(predictor)
    for start in [*range(0, len(texts), 3), *range(0, len(texts), 4)]:
        assert batch.plan(texts[start : start + 4]).to_pylist() == whole[start : start + 4]
        assert len(batch._rows) == len(batch._results) <= 5


def test_a_model_beyond_any_size_is_refused_and_stops_nothing() -> None:
    model = {"model_type": "llama", "num_attention_heads": 8, "num_hidden_layers": 4, "vocab_size": 99}
    sizes = [{"hidden_size": 64, "intermediate_size": 64}, {"hidden_size": 2**30, "intermediate_size": 2**31 - 1}]
    small, huge = Batch(load_predictor()).plan([json.dumps(model | size) for size in sizes]).to_pylist()
    assert small["error_code"] is None
    assert huge["error_code"] == "invalid_config"
    assert "parameters" in huge["error_message"]


@pytest.mark.parametrize(
    "text", ["{not json", '{"model_type": "never_heard_of"}', '{"model_type": "llama", "vocab_size": -1}']
)
def test_a_refused_config_keeps_nothing_of_its_batch_in_memory(artefact, text):
    """A traceback's frames hold the batch, in a cycle with the error."""
    predictor = load_predictor(artefact)
    Batch(predictor).plan([text])  # loads modules and tables
    batch = Batch(predictor)
    gc.collect()
    gc.disable()
    try:
        batch.plan([text])
        assert gc.collect() == 0
    finally:
        gc.enable()
