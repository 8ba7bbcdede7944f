"""fastewq.hub against real servers on loopback, healthy and failing in every way the front can provoke."""

from __future__ import annotations

import json

import pytest

from fastewq import hub as hub_module
from fastewq.errors import AccessDenied, HubUnavailable, InputError, InvalidCheckpoint, InvalidConfig, NotFound
from fastewq.hub import Filters, Hub, Patience
from hub.loopback import GOOD_TOKEN, Fault, LoopbackHub

CONFIG = b'{"model_type": "llama", "note": "\xc3\xa9"}'
IMPATIENT = Patience(attempts=3, longest_wait=2.0)


@pytest.fixture(scope="module")
def repositories(loopback: LoopbackHub) -> dict[str, str]:
    weights = bytes(range(256)) * 40
    return {
        name: loopback.add(f"unit/{name}", files, **listing)
        for name, files, listing in (
            ("plain", {"config.json": CONFIG, "model.safetensors": weights}, {}),
            ("empty", {"README.md": b"nothing here"}, {}),
            ("gated", {"config.json": CONFIG}, {"gated": "manual"}),
            ("huge", {"config.json": b'{"a": "' + b"x" * (9 << 20) + b'"}'}, {}),
            ("broken", {"config.json": b"{not json"}, {}),
        )
    }


@pytest.fixture
def client(loopback, repositories, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    return Hub(endpoint=loopback.endpoint, cache=tmp_path / "cache", patience=IMPATIENT)


def offline(client, loopback) -> Hub:
    return Hub(endpoint=loopback.endpoint, cache=client._cache.parent, offline=True)


def test_a_config_by_branch_and_by_commit(client, repositories):
    for revision in ("main", repositories["plain"]):
        found = client.config("unit/plain", revision)
        assert found.config == {"model_type": "llama", "note": "é"}
        assert (found.text, found.commit, found.warning) == (CONFIG, repositories["plain"], None)


def test_a_commit_in_the_cache_costs_no_request_and_a_branch_costs_one(client, loopback, repositories):
    with loopback.injecting():
        client.config("unit/plain")
        client.config("unit/plain", repositories["plain"])
        client.config("unit/plain")
        assert len(loopback.requests) == 2


def test_offline_answers_from_the_cache_and_asks_nothing(client, loopback, repositories):
    client.config("unit/plain")
    with loopback.injecting():
        found = offline(client, loopback).config("unit/plain")
        assert (found.text, found.commit) == (CONFIG, repositories["plain"])
        with pytest.raises(HubUnavailable, match="unit/broken@main: offline"):
            offline(client, loopback).config("unit/broken")
        with pytest.raises(HubUnavailable, match="offline"):
            offline(client, loopback).files("unit/plain")
        assert loopback.requests == []


def test_an_unreachable_hub_falls_back_to_the_cache_and_says_so(client, loopback, repositories):
    client.config("unit/plain")
    with loopback.injecting(Fault("reset")):
        found = client.config("unit/plain")
        assert found.commit == repositories["plain"]
        assert "cannot be reached" in found.warning
        with pytest.raises(HubUnavailable, match="unit/gated@main"):
            client.config("unit/gated")


@pytest.mark.parametrize(
    ("name", "revision", "error", "words"),
    [
        ("unit/nowhere", "main", NotFound, "no such repository"),
        ("unit/plain", "v9", NotFound, "no such revision"),
        ("unit/empty", "main", NotFound, "no such file"),
        ("unit/gated", "main", AccessDenied, "gated"),
        ("unit/huge", "main", InvalidConfig, "more than"),
        ("unit/broken", "main", InvalidConfig, "not JSON"),
        ("unit/../plain", "main", NotFound, "not a Hub id"),
        ("../../etc", "main", NotFound, "not a Hub id"),
        ("http://evil.example/x", "main", NotFound, "not a Hub id"),
        ("unit/plain?x=", "main", NotFound, "not a Hub id"),
        ("únit/plain", "main", NotFound, "not a Hub id"),
        ("unit/plain", "../../x", NotFound, "not a revision"),
        ("unit/plain", "a//b", NotFound, "not a revision"),
        ("unit/plain", "/etc/passwd", NotFound, "not a revision"),
        ("unit/plain", "x\r\nHost: y", NotFound, "not a revision"),
        ("unit/plain", "", NotFound, "not a revision"),
    ],
)
def test_refusals(client, name, revision, error, words):
    with pytest.raises(error, match=words):
        client.config(name, revision)


def test_a_token_opens_a_gated_repository_and_a_wrong_one_is_named(loopback, repositories, tmp_path):
    good = Hub(endpoint=loopback.endpoint, token=GOOD_TOKEN, cache=tmp_path)
    assert good.config("unit/gated").text == CONFIG
    wrong = Hub(endpoint=loopback.endpoint, token="hf_wrong", cache=tmp_path / "other", patience=IMPATIENT)
    with pytest.raises(AccessDenied, match="401"):
        wrong.config("unit/plain")


def test_the_token_does_not_follow_the_redirect_to_the_cdn(loopback, repositories, tmp_path):
    client = Hub(endpoint=loopback.endpoint, token=GOOD_TOKEN, cache=tmp_path)
    with loopback.injecting():
        client.read_range("unit/plain", repositories["plain"], "model.safetensors", 0, 10)
        client.read_range("unit/plain", repositories["plain"], "model.safetensors", 10, 20)
        seen = [(r.path.split("/")[1], r.token) for r in loopback.requests]
    assert seen == [("unit", GOOD_TOKEN), ("cdn", None), ("cdn", None)]


def test_files_and_ranges(client, repositories):
    commit = repositories["plain"]
    assert client.files("unit/plain") == (("config.json", "model.safetensors"), commit)
    weights = bytes(range(256)) * 40
    read = lambda a, b: client.read_range("unit/plain", commit, "model.safetensors", a, b)  # noqa: E731
    assert read(0, 8) == (weights[:8], 10240)
    assert read(255, 1000) == (weights[255:1000], 10240)
    assert read(10000, 20000) == (weights[10000:], 10240)
    with pytest.raises(InvalidCheckpoint, match="10240 bytes"):
        read(10240, 10250)


TRANSIENT = [
    Fault("status", times=1, status=500),
    Fault("status", times=1, status=503, headers={"Retry-After": "1"}),
    Fault("status", times=2, status=429, headers={"Retry-After": "0"}),
    Fault("reset", times=1),
    Fault("truncate", times=1),
]


@pytest.mark.parametrize("fault", TRANSIENT, ids=lambda f: f"{f.kind}-{f.status}")
def test_transient_failures_are_retried(client, loopback, repositories, fault):
    with loopback.injecting(Fault(**fault.__dict__)):
        assert client.config("unit/plain").warning is None
        seen = [r.fault for r in loopback.requests]
    assert seen == [fault.kind] * fault.times + [None]


@pytest.mark.parametrize("fault", [*TRANSIENT, Fault("wrong_range", path="cdn", times=1)], ids=lambda f: f.kind)
def test_transient_failures_of_a_range_are_retried(client, loopback, repositories, fault):
    with loopback.injecting(Fault(**{**fault.__dict__, "path": "cdn"})):
        piece, size = client.read_range("unit/plain", repositories["plain"], "model.safetensors", 100, 300)
    assert (piece, size) == ((bytes(range(256)) * 40)[100:300], 10240)


@pytest.mark.parametrize("headers", [{"Retry-After": "1"}, {"RateLimit": '"api";r=0;t=1'}], ids=lambda h: next(iter(h)))
def test_the_wait_a_429_asks_for_is_kept(client, loopback, repositories, headers):
    with loopback.injecting(Fault("status", times=1, status=429, headers=headers)):
        client.config("unit/plain")
        first, second = loopback.requests
    assert second.at - first.at >= 1.0


@pytest.mark.parametrize("value", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_retry_after_beyond_our_patience_is_an_error_at_once(client, loopback, repositories, value):
    with loopback.injecting(Fault("status", status=429, headers={"Retry-After": value})):
        with pytest.raises(HubUnavailable, match="asks to wait"):
            client.config("unit/plain")
        assert len(loopback.requests) == 1


def test_lasting_failures_end_after_the_given_attempts(client, loopback, repositories):
    with loopback.injecting(Fault("status", status=502)):
        with pytest.raises(HubUnavailable, match=r"unit/plain@main.*answered 502"):
            client.config("unit/plain")
        assert len(loopback.requests) == IMPATIENT.attempts


def test_a_stalled_answer_is_given_up(client, loopback, repositories, monkeypatch):
    monkeypatch.setattr(hub_module, "READ_SECONDS", 0.2)
    with loopback.injecting(Fault("stall")), pytest.raises(HubUnavailable, match="cannot be reached"):
        client.config("unit/plain")


def test_a_dripping_answer_is_given_up(client, loopback, repositories, monkeypatch):
    monkeypatch.setattr(hub_module, "BODY_SECONDS", -31.8)  # plus 32 s for the 8 MiB a config may have: 0.2 s
    with loopback.injecting(Fault("drip")), pytest.raises(HubUnavailable, match="too slow"):
        client.config("unit/plain")


def test_a_server_that_ignores_ranges_is_named_and_not_downloaded(client, loopback, repositories):
    with loopback.injecting(Fault("ignore_range", path="cdn")), pytest.raises(HubUnavailable, match="expected 206"):
        client.read_range("unit/plain", repositories["plain"], "model.safetensors", 0, 8)


def test_an_expired_cdn_address_is_asked_for_again(client, loopback, repositories):
    read = lambda: client.read_range("unit/plain", repositories["plain"], "model.safetensors", 0, 8)[0]  # noqa: E731
    read()
    with loopback.injecting(Fault("status", path="cdn", times=1, status=403)):
        assert read() == bytes(range(8))
        assert [r.path.split("/")[1] for r in loopback.requests] == ["cdn", "unit", "cdn"]


def test_an_error_page_of_any_size_or_form_is_not_read(client, loopback, repositories):
    fault = Fault("status", status=404, headers={"Content-Length": "999999999999"})
    with loopback.injecting(fault), pytest.raises(NotFound, match="404"):
        client.config("unit/plain")


def test_nothing_listens(tmp_path):
    client = Hub(endpoint="http://127.0.0.1:9", cache=tmp_path, patience=IMPATIENT)
    with pytest.raises(HubUnavailable, match=r"unit/plain@main.*127\.0\.0\.1:9 cannot be reached"):
        client.config("unit/plain")


def test_without_a_network_even_a_patient_client_gives_up_soon(tmp_path):
    client = Hub(endpoint="http://127.0.0.1:9", cache=tmp_path, patience=Patience(attempts=1000, longest_wait=0.1))
    with pytest.raises(HubUnavailable, match="cannot be reached"):
        client.files("unit/plain")


def test_the_listing_pages_filters_and_stops(loopback, tmp_path, monkeypatch):
    monkeypatch.setattr(loopback, "page_size", 25)
    for index in range(60):
        task = "text-generation" if index % 2 else "fill-mask"
        loopback.add(f"listed/m{index:03}", {"config.json": b"{}"}, downloads=index, pipeline_tag=task)
    client = Hub(endpoint=loopback.endpoint, cache=tmp_path)
    with loopback.injecting():
        everything = list(client.models(Filters(author="listed")))
        assert len(loopback.requests) == 3
    assert [m.downloads for m in everything] == list(range(59, -1, -1))
    assert everything[0].id == "listed/m059"
    assert everything[0].sha == loopback.repositories["listed/m059"].commits[-1]
    chosen = Filters(author="listed", task="text-generation", min_downloads=10, limit=20)
    assert [m.downloads for m in client.models(chosen)] == list(range(59, 19, -2))
    assert len(list(client.models(Filters(author="listed", min_downloads=10)))) == 50
    assert list(client.models(Filters(author="listed", since="2027-01-01"))) == []
    loopback.add("listed/late", {"config.json": b"{}"}, lastModified="2026-03-01T12:00:00.000Z", library_name="gguf")
    assert [m.id for m in client.models(Filters(author="listed", library="gguf"))] == ["listed/late"]
    for since in ("2026-01-31", "2026-03-01T12:00", "2026-03-01T13:00+01:00"):
        assert [m.id for m in client.models(Filters(author="listed", since=since))] == ["listed/late"]
    for since in ("2026-03-02", "2026-03-01T12:00-01:00"):
        assert list(client.models(Filters(author="listed", since=since))) == []
    with pytest.raises(InputError, match="since is 'yesterday'; expected a date"):
        list(client.models(Filters(since="yesterday")))


def test_a_listing_that_leads_elsewhere_is_not_followed(client, loopback, repositories, monkeypatch):
    monkeypatch.setattr(loopback, "page_size", 1)
    page = loopback.listing_page

    def elsewhere(query):
        monkeypatch.setattr(loopback, "endpoint", "http://127.0.0.1:9")
        return page(query)

    monkeypatch.setattr(loopback, "listing_page", elsewhere)
    with pytest.raises(HubUnavailable, match="not followed"):
        list(client.models(Filters(author="unit")))


def test_the_cache_is_healed_and_never_half_written(client, loopback, repositories):
    client.config("unit/plain")
    reference = next(client._cache.rglob("refs/main"))
    reference.write_text("../../outside")
    with pytest.raises(HubUnavailable, match="offline"):
        offline(client, loopback).config("unit/plain")
    assert client.config("unit/plain").commit == repositories["plain"]
    assert reference.read_text() == repositories["plain"]
    assert not list(client._cache.rglob(".*"))


def test_a_config_downloaded_by_huggingface_hub_is_found_offline(client, loopback, repositories, tmp_path, monkeypatch):
    from huggingface_hub import hf_hub_download

    folder = tmp_path / "theirs"
    hf_hub_download("unit/plain", "config.json", endpoint=loopback.endpoint, cache_dir=folder, token=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    found = offline(client, loopback).config("unit/plain")
    assert (json.loads(found.text), found.commit) == (found.config, repositories["plain"])


def test_ranges_of_no_bytes_are_refused_by_name_and_files_of_none_are_read(client, loopback, repositories):
    commit = repositories["plain"]
    with loopback.injecting():
        for start, stop in ((5, 5), (5, 4), (-1, 4)):
            with pytest.raises(InputError, match=f"the range is {start} to {stop}; expected"):
                client.read_range("unit/plain", commit, "model.safetensors", start, stop)
        assert loopback.requests == []
    loopback.add("unit/nothing", {"config.json": b""})
    assert client.read("unit/nothing", "main", "config.json", limit=0)[0] == b""
    with pytest.raises(InvalidCheckpoint, match="more than 0 bytes"):
        client.read("unit/plain", "main", "config.json", limit=0)
