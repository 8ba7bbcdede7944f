"""Plans of models named by their Hub id, against a Hub on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator

import httpx
import pytest
from fastewq.api import guard, lookup
from fastewq.api.access import Access
from fastewq.api.errors import Overloaded
from fastewq.api.settings import Settings
from hub.loopback import Fault, LoopbackHub

import fastewq
from fastewq.hub import ConfigText
from fastewq.jsonio import parse_config

from .server import Server, assert_error

ROUTE = "/v1/models/served/plain/plan"


@pytest.fixture(scope="module")
def commit(loopback: LoopbackHub, llama_text: bytes) -> str:
    loopback.add("served/gated", {"config.json": llama_text}, gated="manual")
    loopback.add("served/broken", {"config.json": b"{not json"})
    loopback.add("served/later", {"config.json": llama_text})
    return loopback.add("served/plain", {"config.json": llama_text})


@pytest.fixture(scope="module")
def llama_text(root) -> bytes:
    return (root / "examples" / "llama-3.1-8b.json").read_bytes()


@pytest.fixture(scope="module")
def environment(loopback, tmp_path_factory) -> dict[str, str]:
    """That in which a service asks the Hub on loopback."""
    cache = str(tmp_path_factory.mktemp("cache"))
    return {"HF_ENDPOINT": loopback.endpoint, "XDG_CACHE_HOME": cache, "HF_HOME": cache, "HF_TOKEN": ""}


@pytest.fixture(scope="module")
def asking(environment, commit) -> Iterator[httpx.Client]:
    """A client of a service that may ask the Hub on loopback."""
    with Server(environment, hub=True) as server, server.client() as client:
        yield client


def test_a_model_by_its_name_gets_the_plan_of_its_config(asking, commit, llama_text):
    expected = fastewq.plan(json.loads(llama_text), model_id="served/plain", revision=commit).as_dict()
    response = asking.get(ROUTE)
    assert response.json() == expected
    assert asking.post("/v1/plans", json={"model": "served/plain"}).json() == expected
    assert asking.get(ROUTE, params={"revision": commit}).json() == expected
    assert asking.get(ROUTE, headers={"If-None-Match": response.headers["etag"]}).status_code == 304


def test_a_config_that_is_kept_is_read_beside_the_requests(monkeypatch):
    """It may be large, and nobody would be answered meanwhile."""
    readers = []

    def read(text: bytes, source: str) -> dict[str, object]:
        readers.append(threading.current_thread())
        return parse_config(text, source)

    monkeypatch.setattr(lookup, "parse_config", read)
    looking = lookup.Lookup(Settings())
    looking._kept["a/b", "main"] = ConfigText(b'{"model_type": "llama"}', "0" * 40, "a/b")
    found = asyncio.run(looking._from_hub(None, "a/b", "main"))
    assert found.config == {"model_type": "llama"}
    assert readers
    assert threading.main_thread() not in readers


def test_policy_and_memory_of_a_lookup(asking, llama_text, commit):
    found = asking.get(ROUTE, params={"policy": "8bit-mixed", "memory": "9GiB"})
    expected = fastewq.plan(
        json.loads(llama_text), policy="8bit-mixed", memory="9GiB", model_id="served/plain", revision=commit
    )
    assert found.json() == expected.as_dict()


def test_a_config_is_not_fetched_again_for_a_while(asking, loopback):
    assert asking.get(ROUTE).status_code == 200
    with loopback.injecting():
        assert asking.get(ROUTE).status_code == 200
        assert not loopback.requests


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("served/missing", 404, "not_found"),
        ("served/gated", 403, "access_denied"),
        ("served/broken", 422, "invalid_config"),
        ("served/..", 404, "route_not_found"),
        ("served/a b", 422, "invalid_request"),
    ],
)
def test_models_that_cannot_be_had(asking, model, status, code):
    assert_error(asking.get(f"/v1/models/{model}/plan"), status, code)


def test_a_hub_that_fails_is_a_bad_gateway_and_harms_nothing_else(asking, loopback, llama_text):
    with loopback.injecting(Fault("status", path=".*later.*", status=500)):
        assert_error(asking.get("/v1/models/served/later/plan"), 502, "hub_unavailable")
    assert asking.get("/readyz").status_code == 200
    assert asking.get("/v1/models/served/later/plan").status_code == 200


def test_a_config_that_is_looked_up_is_counted_like_one_that_is_sent(environment, loopback, commit, llama_text):
    large = json.dumps({**json.loads(llama_text), "unread": [1] * 60_000}).encode()
    loopback.add("served/large", {"config.json": large})
    sizes = dict.fromkeys(("max_held_bytes", "max_body_bytes", "max_batch_body_bytes"), 2**20)
    with Server(environment, hub=True, **sizes) as server, server.client() as client:
        assert_error(client.get("/v1/models/served/large/plan"), 413, "body_too_large")
        assert client.get(ROUTE).status_code == 200
    with Server(environment, hub=True) as server, server.client() as client:
        for _ in range(2):  # asked for, then kept
            assert client.get("/v1/models/served/large/plan").status_code == 200


def test_configs_that_are_looked_up_at_once_hold_so_much_memory_together():
    async def ask() -> None:
        first_holds, done = asyncio.Event(), asyncio.Event()

        async def app(scope, receive, send):
            guard.hold(b"[" + b"1," * 60_000 + b"1]")
            first_holds.set()
            await done.wait()

        async def nothing(*_):
            pass

        guarded = guard.Guard(app, Access(Settings()), max_concurrency=9, max_held_bytes=8 * 2**20)
        scope = {"type": "http", "path": "/", "state": {}}
        first = asyncio.create_task(guarded(scope, nothing, nothing))
        await first_holds.wait()
        with pytest.raises(Overloaded):
            await guarded(scope, nothing, nothing)
        done.set()
        await first
        await guarded(scope, nothing, nothing)

    asyncio.run(ask())


def test_without_the_setting_no_hub_is_asked(client):
    for response in (client.get(ROUTE), client.post("/v1/plans", json={"model": "served/plain"})):
        assert "config" in assert_error(response, 404, "not_found")["hint"]
