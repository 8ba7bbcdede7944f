"""POST /v1/plans and GET /v1/predictor of a running service."""

from __future__ import annotations

import json

import pytest

import fastewq
from fastewq.predictor import OBJECTIVES

from .server import assert_error


def post(client, document, **headers):
    return client.post(
        "/v1/plans", content=json.dumps(document), headers={"Content-Type": "application/json", **headers}
    )


def test_the_answer_is_the_plan_of_the_library(client, llama):
    response = post(client, {"config": llama, "model": "org/name", "revision": "main", "policy": "8bit-mixed"})
    assert response.status_code == 200
    expected = fastewq.plan(llama, policy="8bit-mixed", model_id="org/name", revision="main")
    assert response.json() == expected.as_dict()
    assert response.headers["x-predictor-version"] == fastewq.load_predictor().version


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_request_may_name_the_objective(client, llama, objective):
    response = post(client, {"config": llama, "objective": objective})
    assert response.json() == fastewq.plan(llama, objective=objective).as_dict()
    assert response.json()["predictor"]["objective"] == objective
    card = client.get("/v1/predictor", params={"objective": objective}).json()
    assert card["version"] == response.json()["predictor"]["version"]


def test_an_unknown_objective_is_refused(client, llama):
    assert (
        "objective"
        in assert_error(post(client, {"config": llama, "objective": "luck"}), 422, "invalid_request")["message"]
    )
    assert_error(client.get("/v1/predictor", params={"objective": "luck"}), 422, "invalid_request")


def test_every_real_config_gets_the_answer_of_the_library(client, real_configs):
    for path in sorted(real_configs.glob("*--*.json")):
        config = json.loads(path.read_bytes())
        response = post(client, {"config": config})
        if response.status_code == 200:
            assert response.json() == fastewq.plan(config).as_dict(), path.name
        else:
            with pytest.raises(fastewq.FastEWQError) as refused:
                fastewq.plan(config)
            assert assert_error(response, 422, refused.value.code)["message"] == refused.value.message


def test_sizes_beyond_what_json_can_hold_are_refused(client, llama):
    huge = {**llama, "hidden_size": 2**30, "intermediate_size": 2**31 - 1}
    error = assert_error(post(client, {"config": huge}), 422, "invalid_config")
    (result,) = client.post("/v1/plans/batch", json={"requests": [{"config": huge}]}).json()["results"]
    assert result["error"]["message"] == error["message"]


def test_the_same_request_gives_the_same_bytes(client, llama):
    first, second = post(client, {"config": llama}), post(client, {"config": llama})
    respelled = post(client, {"policy": "4bit-8bit-mixed", "config": dict(reversed(llama.items()))})
    assert first.content == second.content == respelled.content
    assert first.headers["etag"] == second.headers["etag"] == respelled.headers["etag"]


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_only_a_get_is_conditional(client, llama, form):
    """A POST selects nothing that could match (RFC 9110, section 13.1.2), so its answer is sent."""
    plan = post(client, {"config": llama})
    again = post(client, {"config": llama}, **{"If-None-Match": form.format(plan.headers["etag"])})
    assert (again.status_code, again.content, again.headers["etag"]) == (200, plan.content, plan.headers["etag"])
    etag = client.get("/v1/predictor").headers["etag"]
    known = client.get("/v1/predictor", headers={"If-None-Match": form.format(etag)})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)


def test_tags_may_come_in_several_headers(client):
    etag = client.get("/v1/predictor").headers["etag"]
    tags = [("If-None-Match", '"other"'), ("If-None-Match", etag)]
    assert client.get("/v1/predictor", headers=tags).status_code == 304


def test_another_answer_is_sent(client):
    assert client.get("/v1/predictor", headers={"If-None-Match": '"other"'}).status_code == 200


def test_infinity_in_a_field_that_does_not_matter_is_accepted(client, llama):
    response = post(client, {"config": {**llama, "time_step_limit": [0.0, float("inf")]}})
    assert response.json() == fastewq.plan(llama).as_dict()


def test_the_card_is_that_of_the_predictor(client):
    response = client.get("/v1/predictor")
    assert response.status_code == 200
    assert response.json() == fastewq.load_predictor().card


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"num_hidden_layers": 10**9}, "invalid_config", "num_hidden_layers"),
        ({"num_hidden_layers": -1}, "invalid_config", "num_hidden_layers"),
        ({"num_hidden_layers": 10**40}, "invalid_config", "num_hidden_layers"),
        ({"hidden_size": -4096}, "invalid_config", "hidden_size"),
        ({"hidden_size": float("nan")}, "invalid_config", "hidden_size"),
        ({"hidden_size": float("inf")}, "invalid_config", "hidden_size"),
        ({"hidden_size": "4096"}, "invalid_config", "hidden_size"),
        ({"hidden_size": None}, "invalid_config", "hidden_size"),
        ({"hidden_size": True}, "invalid_config", "hidden_size"),
        ({"vocab_size": [1]}, "invalid_config", "vocab_size"),
        ({"model_type": "unheard_of"}, "unsupported_architecture", "unheard_of"),
        ({"model_type": ["llama"]}, "invalid_config", "model_type"),
        ({"torch_dtype": 16, "dtype": 16}, "invalid_config", "dtype"),
    ],
)
def test_a_config_that_cannot_be_is_refused_by_field(client, llama, change, code, named):
    assert named in assert_error(post(client, {"config": {**llama, **change}}), 422, code)["message"]
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({}, "config"),
        ([], "the request"),
        ("config", "the request"),
        ({"config": []}, "config"),
        ({"config": {}, "modle": "a/b"}, "modle"),
        ({"config": {}, "model": "../../etc/passwd"}, "model"),
        ({"config": {}, "model": "a/b/c"}, "model"),
        ({"config": {}, "model": 1}, "model"),
        ({"config": {}, "revision": "a b"}, "revision"),
        ({"config": {}, "policy": 8}, "policy"),
    ],
)
def test_a_body_that_is_no_plan_request_is_refused_by_field(client, document, named):
    assert named in assert_error(post(client, document), 422, "invalid_request")["message"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"memory": 1.5}, "memory is 1.5; expected an integer or a string"),
        ({"memory": {"int": 1}}, "memory is object of 1; expected an integer or a string"),
        ({"devices": ["1GiB", None]}, "devices[1] is null; expected an integer or a string"),
        ({"devices": [1] * 257}, "devices is list of 257; expected at most 256 entries"),
        ({"policy": 8}, "policy is 8; expected a string or an object"),
        ({"target": None, "batch": True}, "target is null; expected a string; batch is true; expected an integer"),
        ({"context": "x" * 1000}, f"context is '{'x' * 56}...; expected an integer"),
        ({"objective": "luck"}, "objective is 'luck'; expected 'entropy' or 'sensitivity'"),
    ],
)
def test_a_field_of_a_wrong_type_is_named_as_it_was_written_with_its_value(client, fields, message):
    assert assert_error(post(client, {"config": {}, **fields}), 422, "invalid_request")["message"] == message


def test_unknown_fields_are_named_with_the_known_ones(client):
    message = assert_error(post(client, {"modle": "a/b", "memroy": 1}), 422, "invalid_request")["message"]
    assert message.startswith("the request has unknown fields: 'modle', 'memroy'; expected no others than config, ")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/catalog?limit=0", "limit is '0'; expected at least 1"),
        ("/v1/catalog?limit=many", "limit is 'many'; expected an integer"),
        (f"/v1/catalog?text={'x' * 201}", f"text is '{'x' * 56}...; expected at most 200 characters"),
        ("/v1/models/a%20b/c/plan", "org is 'a b'; expected a match of ^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"),
    ],
)
def test_a_parameter_of_a_wrong_type_is_named_with_its_value(client, path, message):
    assert assert_error(client.get(path), 422, "invalid_request")["message"] == message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "/v1/catalog?text=a&limti=5&famly=b",
            "the request has unknown parameters: 'limti', 'famly'; expected no others",
        ),
        (
            "/v1/models/a/b/plan?devices=8GiB",
            "the request has unknown parameters: 'devices'; expected no others than rev",
        ),
        ("/v1/catalog?limit=5&limit=%36", "limit is given 2 times; expected once"),
        ("/v1/exports?text=", "the request has unknown parameters: 'text'; expected none"),
    ],
)
def test_a_parameter_that_is_unknown_or_given_twice_is_refused_as_a_field_is(client, path, message):
    assert assert_error(client.get(path), 422, "invalid_request")["message"].startswith(message)


@pytest.mark.parametrize("path", ["/v1/plans", "/v1/plans/batch", "/v1/exports/mlx"])
def test_a_parameter_beside_a_body_is_refused(client, llama, path):
    error = assert_error(client.post(f"{path}?policy=8bit-mixed", json={"config": llama}), 422, "invalid_request")
    assert error["message"] == "the request has unknown parameters: 'policy'; expected none"


def test_an_unknown_policy_is_refused_with_the_known_ones(client, llama):
    error = assert_error(post(client, {"config": llama, "policy": "3bit"}), 422, "invalid_policy")
    assert "4bit-8bit-mixed" in error["message"]
