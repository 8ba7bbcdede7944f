"""What a service keeps between requests takes as much memory as its settings say, whatever clients send."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import subprocess
import sys
import tracemalloc
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastewq.api import access
from fastewq.api.access import Access, network
from fastewq.api.errors import InvalidRequest, InvalidSettings, RateLimited
from fastewq.api.lookup import KEPT_BYTES, Lookup
from fastewq.api.reading import parse_model
from fastewq.api.schemas import PlanRequest
from fastewq.api.settings import Settings, load_settings

from fastewq.hub import ConfigText

from .server import Server, assert_error, wait_until

FILL = """
from pathlib import Path
import orjson
from fastewq import load_predictor, plan
from fastewq.api.answers import Answer
from fastewq.api.planner import Planner
from fastewq.api.settings import Settings

def resident():
    return 1024 * int(Path("/proc/self/status").read_text("utf-8").partition("VmRSS:")[2].split()[0])

limit = 16 * 2**20
planner = Planner(load_predictor(), Settings(plan_cache_bytes=limit))
document = plan({"model_type": "llama", "num_hidden_layers": 1}).as_dict()
before = resident()
for number in range(2 * limit // len(orjson.dumps(document))):
    document["totals"]["bytes"] = number
    planner.keep(b"%d" % number, Answer(orjson.dumps(document)))
print((resident() - before) / limit)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the size of a process is read as Linux shows it")
def test_small_plans_fill_no_more_than_the_setting():
    run = subprocess.run([sys.executable, "-c", FILL], check=True, capture_output=True, text=True)
    assert 0.5 < float(run.stdout) < 1.3


@pytest.mark.parametrize(
    "document",
    [
        {"config": {}, "devices": [None] * 400_000},
        {"config": {}, "devices": [{}] * 400_000},
        {"config": {}, **{f"field{i}": 1 for i in range(200_000)}},
    ],
    ids=["devices of no kind", "devices that are objects", "unknown fields"],
)
def test_a_request_wrong_all_over_is_refused_in_little_memory(document):
    """A plan takes less than this, and what is wrong with each value took a gigabyte and seconds."""
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest):
            parse_model(PlanRequest, document)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


BODY = b" " * 2**20


def test_large_bodies_hold_so_much_memory_together_and_keep_no_small_one_out(llama):
    head = b"POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    settings = {"max_held_bytes": 6 * 2**20, "max_batch_body_bytes": 4 * 2**20, "drain_seconds": 0, "body_seconds": 600}
    with Server(**settings) as server, server.client() as client, ExitStack() as stack:
        host, port = server.url.removeprefix("http://").split(":")
        connections = [stack.enter_context(socket.create_connection((host, int(port)), timeout=60)) for _ in range(9)]
        for connection in connections:  # each says that there will be a byte more
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % (len(BODY) + 1) + BODY)
        refused, _, _ = select.select(connections, [], [], 60)
        assert refused[0].recv(64).startswith(b"HTTP/1.1 503 ")
        assert client.post("/v1/plans", json={"config": llama}).status_code == 200
        large = {"config": {**llama, "unread": [1] * 60_000}}
        response = client.post("/v1/plans", json=large)
        assert_error(response, 503, "overloaded")
        assert response.headers["retry-after"]
        stack.close()
        # Once the service has noticed that they left.
        wait_until(lambda: client.post("/v1/plans", json=large).status_code == 200)


def test_what_no_memory_would_hold_is_refused_for_good(llama):
    batch = {"requests": [{"config": {**llama, "num_hidden_layers": 500}}] * 50}
    settings = dict.fromkeys(("max_held_bytes", "max_body_bytes", "max_batch_body_bytes"), 2**20)
    with Server(**settings, drain_seconds=0) as server, server.client() as client:
        refused = client.post("/v1/plans/batch", json=batch)
        assert_error(refused, 413, "answer_too_large")
        many_values = {"config": {**llama, "unread": [1] * 60_000}}
        assert_error(client.post("/v1/plans", json=many_values), 413, "body_too_large")
        assert "retry-after" not in refused.headers
        # An answer of the framework is refused when its head has been handed over already.
        assert_error(client.get("/docs/static/swagger-ui-bundle.js"), 413, "answer_too_large")
        batch["requests"] = batch["requests"][:5]
        assert client.post("/v1/plans/batch", json=batch).status_code == 200


def test_a_body_that_may_be_sent_can_be_held():
    load_settings(max_held_bytes=16 * 2**20)
    for given in ({"max_held_bytes": 16 * 2**20 - 1}, {"max_body_bytes": 2**30}):
        with pytest.raises(InvalidSettings, match=r"FASTEWQ_MAX_HELD_BYTES is .*; expected at least FASTEWQ_MAX_"):
            load_settings(**given)


def test_an_answer_holds_memory_until_it_is_read(llama):
    body = json.dumps({"requests": [{"config": {**llama, "num_hidden_layers": 500}}] * 100}).encode()
    head = b"POST /v1/plans/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    settings = {"max_held_bytes": 12 * 2**20, "max_batch_body_bytes": 4 * 2**20, "drain_seconds": 0}
    with Server(**settings) as server, server.client() as client:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1000)
            connection.settimeout(60)
            connection.connect((host, int(port)))
            connection.sendall(request)
            assert connection.recv(300).startswith(b"HTTP/1.1 200 ")
            json_type = {"Content-Type": "application/json"}
            assert_error(client.post("/v1/plans/batch", content=body, headers=json_type), 503, "overloaded")
            assert client.post("/v1/plans", json={"config": llama}).status_code == 200


class HubOfLargeConfigs:
    def __init__(self) -> None:
        self.asked = 0

    def config_text(self, model: str, revision: str) -> ConfigText:
        self.asked += 1
        return ConfigText(b'{"model_type": "llama", "a": [' + b"[]," * 2**18 + b"0]}", "0" * 40, model)

    def parsed(self, model: str, revision: str, found: ConfigText) -> dict[str, str]:
        return {"model_type": "llama"}


def test_configs_of_the_hub_are_kept_up_to_so_many_bytes():
    lookup, hub = Lookup(Settings()), HubOfLargeConfigs()

    async def ask(model: str) -> None:
        assert (await lookup._from_hub(hub, model, "main")).config["model_type"] == "llama"

    async def ask_all() -> None:
        for number in range(30):
            await ask(f"large/{number}")
            assert lookup._kept.currsize <= KEPT_BYTES
        await ask("large/29")

    asyncio.run(ask_all())
    assert hub.asked == 30
    assert 10 < len(lookup._kept) < 30


@pytest.mark.parametrize(
    ("client", "counted"),
    [
        (("192.0.2.1", 5), "192.0.2.1"),
        (("::ffff:192.0.2.1", 5), "192.0.2.1"),
        (("2001:db8:0:1:2:3:4:5", 5), "20010db800000001"),
        (("2001:db8:0:1:ffff::", 5), "20010db800000001"),
        (("x" * 60_000, 0), "unknown"),
        (None, "unknown"),
    ],
)
def test_a_rate_is_that_of_a_network(client, counted):
    assert network({"client": client}) == counted


def test_whose_requests_are_counted_is_bounded(monkeypatch):
    monkeypatch.setattr(access, "MAX_COUNTS", 100)
    door = Access(Settings(rate_limit="2/day"))

    def admit(number: int) -> None:
        door.admit({"client": (f"10.0.{number // 250}.{number % 250}", 1), "headers": [], "state": {}})

    for number in range(1000):
        admit(number)
        assert len(door._counted.storage) <= 100
    admit(1000)  # for whom all others were forgotten
    admit(1000)
    with pytest.raises(RateLimited):
        admit(1000)
