"""A service with a catalog: look-ups, search, and an index that is replaced under load."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

import fastewq
from fastewq.catalog.index import COLUMNS, Catalog, write_index

from .server import Server, assert_error, wait_until


def write(
    path: Path, configs: dict[str, dict[str, Any]], built_by: str, revision: str, headers: str | None = None
) -> None:
    rows = []
    for number, (name, config) in enumerate(configs.items(), 1):
        plan = fastewq.plan(config)
        known = {
            "id": name,
            "revision": revision,
            "sequence": number,
            "config": json.dumps(config),
            "config_hash": f"hash of {name}",
            "model_type": plan.model["model_type"],
            "parameters": plan.model["parameters"],
            "raw_bytes": plan.totals.raw_bytes,
            "bytes_4bit_8bit_mixed": plan.totals.bytes,
            "predictor": built_by,
        }
        rows.append({**dict.fromkeys(COLUMNS), "headers": headers, **known})
    write_index(path, rows, built_by)


@pytest.fixture
def configs(llama) -> dict[str, dict[str, Any]]:
    return {f"made/m{blocks}": {**llama, "num_hidden_layers": blocks} for blocks in range(1, 31)}


def test_models_are_looked_up_and_searched(tmp_path, configs):
    write(tmp_path / "index.sqlite", configs, "v1", "r1")
    with Server(catalog=tmp_path) as server, server.client() as client:
        for name in ("made/m1", "made/m30"):
            expected = fastewq.plan(configs[name], model_id=name, revision="r1").as_dict()
            found = client.get(f"/v1/models/{name}/plan")
            assert found.json() == client.post("/v1/plans", json={"model": name}).json() == expected
            etag = {"If-None-Match": found.headers["etag"]}
            assert client.get(f"/v1/models/{name}/plan", headers=etag).status_code == 304
        for revision in ("main", "r1"):
            assert client.get("/v1/models/made/m2/plan", params={"revision": revision}).status_code == 200
        assert_error(client.get("/v1/models/made/m2/plan", params={"revision": "r2"}), 404, "not_found")
        assert "config" in assert_error(client.get("/v1/models/made/nope/plan"), 404, "not_found")["hint"]

        seen, cursor = [], {}
        while cursor is not None:
            page = client.get("/v1/catalog", params={"limit": 7, **cursor}).json()
            seen += [entry["id"] for entry in page["entries"]]
            cursor = {"cursor": page["cursor"]} if page["cursor"] else None
        assert seen == list(configs)
        found = client.get("/v1/catalog", params={"text": "M3", "max_parameters": 10**9}).json()
        assert [entry["id"] for entry in found["entries"]] == []
        assert_error(client.get("/v1/catalog", params={"cursor": "x"}), 422, "invalid_input")
        assert_error(client.get("/v1/catalog", params={"limit": 0}), 422, "invalid_request")
        assert_error(client.get("/v1/catalog?text=m%00"), 422, "invalid_input")
        empty = assert_error(client.get("/v1/models/made/m1/plan?memory="), 422, "invalid_policy")
        assert "memory is ''; expected bytes such as 6GiB" in empty["message"]
        assert 'fastewq_index_info{version="v1@' in client.get("/metrics").text


def test_a_model_is_planned_from_what_its_headers_say(tmp_path, llama):
    """As its row in the catalog was, and as `Catalog.plan` does."""
    architecture = fastewq.read_config({**llama, "intermediate_size": llama["intermediate_size"] // 2})
    parts = [(block.path, block.layout.tensors) for stack in architecture.stacks for block in stack.blocks]
    parts += [(group.path, group.tensors) for group in architecture.outside]
    stored = [(f"{path}.{tensor.name}", tensor.shape) for path, tensors in parts for tensor in tensors]
    index = tmp_path / "index.sqlite"
    write(index, {"made/m": llama}, "v1", "r1", headers=json.dumps({"BF16": stored}))
    catalog = Catalog(index)
    expected = catalog.plan(catalog.get("made/m")).as_dict()
    assert expected["model"]["parameters"] == architecture.parameters
    with Server(catalog=index) as server, server.client() as client:
        assert client.get("/v1/models/made/m/plan").json() == expected
        assert client.post("/v1/plans", json={"model": "made/m"}).json() == expected


def test_an_index_replaced_under_load_is_read_without_a_failure(tmp_path, configs):
    index = tmp_path / "index.sqlite"
    write(index, configs, "v1", "r1")
    with Server(catalog=index) as server:
        revisions: list[str] = []
        stop = threading.Event()

        def ask() -> None:
            with server.client() as client:
                while not stop.is_set():
                    response = client.get("/v1/models/made/m5/plan")
                    assert response.status_code == 200
                    revisions.append(response.json()["model"]["revision"])

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: revisions)
            for revision in ("r2", "r3"):
                write(index, configs, "v1", revision)
                wait_until(lambda revision=revision: revisions[-1] == revision)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert set(revisions) == {"r1", "r2", "r3"}


def test_a_catalog_that_cannot_be_read_keeps_the_service_unready(tmp_path):
    (tmp_path / "index.sqlite").write_bytes(b"not SQLite")
    with Server(catalog=tmp_path) as server, server.client() as client:
        assert client.get("/livez").status_code == 200
        assert_error(client.get("/readyz"), 503, "not_ready")
        assert_error(client.get("/v1/catalog"), 503, "not_ready")


def test_a_catalog_that_appears_later_makes_the_service_ready(tmp_path, configs):
    index = tmp_path / "index.sqlite"
    with Server(catalog=index) as server, server.client() as client:
        server.wait_for_log("no usable catalog", code="not_found")
        for path in ("/readyz", "/v1/catalog", "/v1/models/made/m1/plan"):
            error = assert_error(client.get(path), 503, "not_ready")
            assert error["message"] == "no usable catalog"
        write(index, configs, "v1", "r1")
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/v1/models/made/m1/plan").status_code == 200
        assert sum(line["message"] == "no usable catalog" for line in server.logs) == 1


def test_without_a_catalog_there_is_nothing_to_search(client: httpx.Client):
    assert "--catalog" in assert_error(client.get("/v1/catalog"), 404, "not_found")["hint"]
