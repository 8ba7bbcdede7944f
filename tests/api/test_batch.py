"""POST /v1/plans/batch of a running service."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fastewq.api import planner
from fastewq.api.planner import Planner
from fastewq.api.settings import Settings

import fastewq

from .server import Server, assert_error

BATCH = "/v1/plans/batch"


def test_a_batch_gives_each_request_what_it_gets_alone(client, llama):
    requests = [
        {"config": llama},
        {"config": {**llama, "num_hidden_layers": 3}, "model": "a/b", "policy": "8bit-mixed"},
        {"config": {**llama, "hidden_size": -1}},
        {"config": llama, "memory": "6GiB", "context": 1000},
        {"config": {"model_type": "unheard_of"}},
        {"conf": llama},
        "not a request",
    ]
    response = client.post(BATCH, json={"requests": requests})
    assert response.status_code == 200
    results = response.json()["results"]
    alone = [client.post("/v1/plans", json=request) for request in requests]
    for result, single in zip(results, alone, strict=True):
        if single.status_code == 200:
            assert result == {"plan": single.json()}
        else:
            problem = {**single.json()["error"], "request_id": response.headers["x-request-id"]}
            assert result == {"error": problem}
    assert ["plan" in result for result in results] == [True, True, False, True, False, False, False]


def test_a_cache_beyond_what_json_holds_is_refused_alone(client, llama):
    asked = {"config": llama, "context": 2**31 - 1, "batch": 2**20}
    assert_error(client.post("/v1/plans", json=asked), 422, "invalid_policy")
    results = client.post(BATCH, json={"requests": [asked, {"config": llama}]}).json()["results"]
    assert results[0]["error"]["code"] == "invalid_policy"
    assert "plan" in results[1]


def test_a_batch_of_a_thousand(client, llama):
    configs = [{**llama, "num_hidden_layers": 1 + i % 40} for i in range(1000)]
    results = client.post(BATCH, json={"requests": [{"config": config} for config in configs]}).json()["results"]
    assert [len(r["plan"]["stacks"][0]["blocks"]) for r in results] == [c["num_hidden_layers"] for c in configs]


class Counted:
    """An ensemble that counts how often it is asked."""

    def __init__(self, ensemble) -> None:
        self.ensemble, self.calls = ensemble, 0

    def margins(self, matrix):
        self.calls += 1
        return self.ensemble.margins(matrix)


def test_the_booster_is_called_once_for_a_batch(llama):
    predictor = fastewq.load_predictor()
    counted = Counted(predictor.ensemble)
    planner = Planner(replace(predictor, ensemble=counted), Settings())
    requests = [{"config": {**llama, "num_hidden_layers": 1 + i % 40}} for i in range(100)] + [{"config": {}}]
    results = json.loads(planner.batch(json.dumps({"requests": requests}).encode(), "id").body)["results"]
    assert counted.calls == 1
    assert [result["plan"] for result in results[:100]] == [fastewq.plan(r["config"]).as_dict() for r in requests[:100]]
    assert results[100]["error"]["code"] == "invalid_config"


def test_a_batch_of_very_deep_models_is_predicted_in_parts(llama, monkeypatch):
    monkeypatch.setattr(planner, "BLOCKS_AT_ONCE", 10)
    predictor = fastewq.load_predictor()
    counted = Counted(predictor.ensemble)
    requests = [{"config": {**llama, "num_hidden_layers": blocks}} for blocks in (4, 5, 6, 20, 3)]
    body = json.dumps({"requests": requests}).encode()
    results = json.loads(Planner(replace(predictor, ensemble=counted), Settings()).batch(body, "id").body)["results"]
    assert counted.calls == 3
    assert [result["plan"] for result in results] == [fastewq.plan(r["config"]).as_dict() for r in requests]


def test_a_batch_above_the_limit_is_refused(client):
    assert_error(client.post(BATCH, json={"requests": [{}] * 1001}), 413, "batch_too_large")


@pytest.mark.parametrize("document", [{}, [], {"requests": {}}, {"requests": []}, {"requests": [], "x": 1}])
def test_a_body_that_is_no_batch_is_refused(client, document):
    assert_error(client.post(BATCH, json=document), 422, "invalid_request")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({f"field{i}": 1 for i in range(100)}, "the request has 100 fields; expected no others than config, model, "),
        ([], "the request is list of 0; expected an object"),
        ({}, "the request names no model"),
    ],
)
def test_what_is_wrong_with_one_request_is_not_said_of_the_body(client, request_, words):
    result = client.post(BATCH, json={"requests": [request_]}).json()["results"][0]
    assert words in result["error"]["message"]


def test_a_model_named_without_a_config_is_not_looked_up_in_a_batch(client):
    result = client.post(BATCH, json={"requests": [{"model": "a/b"}]}).json()["results"][0]
    assert result["error"]["code"] == "invalid_request"


def test_plans_above_the_answers_size_become_errors(llama):
    single = {"config": llama}
    with Server(max_batch_answer_bytes=20_000) as server, server.client() as client:
        results = client.post(BATCH, json={"requests": [single] * 10}).json()["results"]
    assert "plan" in results[0]
    assert results[-1]["error"]["code"] == "answer_too_large"
    assert sum(len(json.dumps(result)) for result in results if "plan" in result) < 25_000


def test_a_batch_that_takes_too_long_is_given_up(llama):
    many = [{"config": {**llama, "num_hidden_layers": 400 + n}} for n in range(100)]
    with Server(work_seconds=0.001) as server, server.client() as client:
        response = client.post(BATCH, json={"requests": many})
        assert_error(response, 503, "out_of_time")
        assert response.headers["retry-after"]
        assert client.post("/v1/plans", json={"config": llama}).status_code == 200


def test_a_budget_that_takes_too_long_is_given_up_and_holds_up_nobody(llama):
    devices = [f"{100 + i}MiB" for i in range(256)]
    with Server(work_seconds=0.001) as server, server.client() as client:
        response = client.post("/v1/plans", json={"config": llama, "devices": devices, "context": 8192})
        assert_error(response, 503, "out_of_time")
        assert client.post("/v1/plans", json={"config": llama}).status_code == 200


def test_overrides_that_take_too_long_are_given_up_and_hold_up_nobody(llama):
    deep, overrides = {**llama, "num_hidden_layers": 512}, [["*_proj", "int4"]] * 256
    with Server(work_seconds=0.001) as server, server.client() as client:
        response = client.post("/v1/plans", json={"config": deep, "policy": {"overrides": overrides}})
        assert_error(response, 503, "out_of_time")
        assert client.post("/v1/plans", json={"config": llama}).status_code == 200
