"""POST /v1/exports/{tool} of a running service."""

from __future__ import annotations

import pytest

import fastewq
from fastewq.exports import TOOLS, export

from .server import assert_error


@pytest.mark.parametrize("tool", TOOLS)
def test_an_export_is_that_of_the_library(client, llama, tool):
    request = {"config": llama, "devices": ["12GiB", "12GiB"]}
    made = client.post(f"/v1/exports/{tool}", json={**request, "nearest": True})
    assert made.status_code == 200, made.text
    assert made.json() == export(fastewq.plan(llama, devices=["12GiB", "12GiB"]), tool, nearest=True).as_dict()
    plan = client.post("/v1/plans", json=request).json()
    assert client.post(f"/v1/exports/{tool}", json={"plan": plan, "nearest": True}).json() == made.json()


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
    assert_error(client.post("/v1/exports/mlx", json={}), 422, "invalid_request")
