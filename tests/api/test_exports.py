"""POST /v1/exports/{tool} of a running service."""

from __future__ import annotations

import pytest
from fastewq.api.schemas import Export

import fastewq
from fastewq.exports import TOOLS, export

from .server import assert_error


@pytest.mark.parametrize("tool", TOOLS)
def test_an_export_is_that_of_the_library(client, llama, tool):
    """Planned in the tool's own format, unless a target is named."""
    request = {"config": llama, "devices": ["12GiB", "12GiB"], "memory": "10GiB"}
    for target, named in ((TOOLS[tool].target, {}), ("plain", {"target": "plain"})):
        made = client.post(f"/v1/exports/{tool}", json={**request, **named, "nearest": True})
        assert made.status_code == 200, made.text
        assert made.json().keys() == {field.alias or name for name, field in Export.model_fields.items()}
        expected = fastewq.plan(llama, devices=["12GiB", "12GiB"], memory="10GiB", target=target)
        assert made.json() == export(expected, tool, nearest=True).as_dict()
        plan = client.post("/v1/plans", json={**request, "target": target}).json()
        assert client.post(f"/v1/exports/{tool}", json={"plan": plan, "nearest": True}).json() == made.json()


def test_a_quantized_checkpoint_is_planned_as_the_tool_takes_it(client, llama):
    """Which starts from weights without quantization, of which the target knows."""
    fp8 = {"config": {**llama, "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}}
    assert client.post("/v1/exports/mlx", json=fp8).status_code == 200
    assert_error(client.post("/v1/exports/mlx", json={**fp8, "target": "plain"}), 422, "cannot_export")


def test_a_plan_larger_than_any_number_in_json_is_refused(client, llama):
    plan = fastewq.plan(llama).as_dict()
    plan["layouts"][0][0]["shape"] = [2**30, 2**30]  # of which each block has one
    request = {"plan": plan, "nearest": True}
    for tool in TOOLS:
        error = assert_error(client.post(f"/v1/exports/{tool}", json=request), 422, "invalid_plan")
        assert "the tensors of the plan take" in error["message"]


def test_the_tools_are_listed(client):
    assert [tool["name"] for tool in client.get("/v1/exports").json()["tools"]] == list(TOOLS)


def test_an_unknown_tool_and_a_broken_plan_are_refused(client, llama):
    assert (
        "llama.cpp"
        in assert_error(client.post("/v1/exports/x", json={"config": llama}), 422, "cannot_export")["message"]
    )
    assert_error(client.post("/v1/exports/mlx", json={"plan": {"schema": 1}}), 422, "invalid_plan")
    error = assert_error(client.post("/v1/exports/mlx", json={}), 422, "invalid_request")
    assert error["message"] == "the request names no model; expected config or model or plan"


def test_a_policy_whose_precisions_the_tool_lacks_is_exported_from_a_plan_without_target(client, llama):
    request = {"config": llama, "policy": "ternary-mixed", "nearest": True}
    assert_error(client.post("/v1/exports/mlx", json=request), 422, "invalid_policy")
    made = client.post("/v1/exports/mlx", json={**request, "target": "plain"}).json()
    assert {change["planned"] for change in made["differences"]} == {"ternary"}


def test_a_plan_is_exported_as_it_was_made(client, llama):
    """Fields that plan would have no effect, so that they are refused; but for those that say what holds anyway."""
    request = {"plan": fastewq.plan(llama).as_dict(), "config": None, "devices": [], "policy": "4bit-8bit-mixed"}
    assert client.post("/v1/exports/mlx", json=request).status_code == 200
    request |= {"memory": "1GiB", "policy": "8bit-mixed"}
    error = assert_error(client.post("/v1/exports/mlx", json=request), 422, "invalid_request")
    assert error["message"] == "plan is exported as it was made; expected no policy and no memory beside it"
