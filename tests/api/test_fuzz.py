"""Generated requests against a running service: none may get a 5xx, an answer off the schema, or end the service.

The `slow` tests are the same with far more cases: `pytest tests/api/test_fuzz.py -m slow`.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .server import Server, wait_until

SCHEMATHESIS = Path(__file__).with_name("schemathesis.toml")
CLIENTS = "2" if sys.version_info >= (3, 11, 8) else "1"
"""Threads of schemathesis. Before Python 3.11.8, threads that parse Python at once, as hypothesis does to describe a
lambda, can get a SystemError, "AST constructor recursion depth mismatch": python/cpython issue 106905."""
ROOT = Path(__file__).parents[2]
REAL = sorted((ROOT.parent / "shared" / "configs").glob("*--*.json"))
"""Published configs that lie beside some checkouts."""
EXAMPLES = [json.loads(file.read_text("utf-8")) for file in (*sorted((ROOT / "examples").glob("*.json")), *REAL)]
HOSTILE: list[Any] = [
    *(None, True, False, "", "x" * 5000, [], {}, [[]], {"a": {}}, "\x00", "\ud7ff", "4096", "bfloat16", "gelu"),
    *(0, -1, 1, 2, 3, 7, 64, 4096, 4097, 10**9, 2**31 - 1, 2**31, 2**63, 2**64, -(2**63), 10**40),
    *(0.0, -0.0, 0.5, 4096.0, 1e-320, 1e308, float("inf"), float("-inf"), float("nan")),
    *([0] * 5000, [1, "a", None], ["full_attention"] * 3, {"model_type": "llama"}, {"rope_type": "x"}),
]


def schemathesis(url: str, examples: int, report: Path) -> int:
    """The number of cases sent to the service. Fails where an answer is not as its OpenAPI document says, or a 5xx."""
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", SCHEMATHESIS]
    limits = ["--max-examples", str(examples), "--seed", "1", "--workers", CLIENTS, "--request-timeout", "60"]
    limits += ["--report-json-path", str(report)]
    run = subprocess.run([*command, "run", f"{url}/openapi.json", *limits], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    return json.loads(report.read_text("utf-8"))["test_cases"]["generated"]


@pytest.fixture
def patient() -> Iterator[Server]:
    """A generator on a busy machine may pause for longer than a client is given to send its body."""
    with Server(drain_seconds=0, body_seconds=600) as server:
        yield server


def test_every_route_keeps_to_its_schema(patient, tmp_path):
    assert schemathesis(patient.url, examples=10, report=tmp_path / "report.json") > 100
    with patient.client() as client:
        assert client.get("/readyz").status_code == 200


def test_a_5xx_is_found(tmp_path):
    """Of the tests above and below: they can fail."""
    app = FastAPI()
    app.add_api_route("/broken", lambda number: 1 // (int(number) % 2), methods=["GET"])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with pytest.raises(AssertionError, match="Server error"):
            schemathesis(f"http://127.0.0.1:{port}", examples=10, report=tmp_path / "report.json")
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.slow
def test_every_route_keeps_to_its_schema_over_ten_thousand_cases(patient, tmp_path):
    assert schemathesis(patient.url, examples=2500, report=tmp_path / "report.json") > 10_000
    with patient.client() as client:
        assert client.get("/readyz").status_code == 200


def paths_in(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The place of every value in a config, nested ones too."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, child in entries for found in [(*path, key), *paths_in(child, (*path, key))]]


@st.composite
def damaged_configs(draw: st.DrawFn) -> dict[str, Any]:
    """A real config in which a few fields hold what they should not, or are gone."""
    config = copy.deepcopy(draw(st.sampled_from(EXAMPLES)))
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from([*paths_in(config), ("quantization_config",), ("text_config",), ("layer_types",)]))
        place = config
        for key in path[:-1]:
            place = place[key] if isinstance(place, dict | list) else {}
        if draw(st.integers(0, 9)) == 0:
            place.pop(path[-1], None) if isinstance(place, dict) else None
        elif isinstance(place, dict):
            place[path[-1]] = copy.deepcopy(draw(st.sampled_from(HOSTILE) | st.integers() | st.text(max_size=20)))
    return config


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "policy": st.sampled_from(["8bit-mixed", "keep-ends", "ternary-mixed", "x", {}, {"name": "keep-ends"}, []])
        | st.fixed_dictionaries({"threshold": st.sampled_from(HOSTILE), "overrides": st.just([["*", "int4"]])}),
        "memory": st.sampled_from(["6GiB", "1KiB", "0", "1e9", "", -1, 0, 10**18, 2**70]),
        "devices": st.lists(st.sampled_from(["2GiB", "16GiB", "1KiB", 0, 10**12]), max_size=4),
        "context": st.sampled_from([0, 1, 4096, 2**31, -1]),
        "target": st.sampled_from(["plain", "llama.cpp", "mlx", "x", ""]),
    },
)


def damage_the_configs(client: httpx.Client, cases: int) -> None:
    @settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged_configs(), OPTIONS)
    def check(config: dict[str, Any], options: dict[str, Any]) -> None:
        body = json.dumps({"config": config, **options})
        response = client.post("/v1/plans", content=body, headers={"Content-Type": "application/json"})
        assert response.status_code in (200, 400, 422), (response.text[:500], body[:3000])
        document = response.json()
        if response.status_code != 200:
            assert list(document["error"]) == ["code", "message", "hint", "request_id"]
        else:
            blocks = [block for stack in document["stacks"] for block in stack["blocks"]]
            parameters = sum(part["parameters"] for part in [*blocks, *document["other"]])
            assert parameters == document["model"]["parameters"]

    check()
    assert client.get("/readyz").status_code == 200


def test_damaged_configs(client):
    damage_the_configs(client, cases=300)


@pytest.mark.slow
def test_ten_thousand_damaged_configs(client):
    damage_the_configs(client, cases=10_000)
