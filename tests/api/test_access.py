"""Bearer keys and rate limits of a running service."""

from __future__ import annotations

import os

import pytest
from fastewq.api.access import Keyring, new_key
from fastewq.api.errors import InvalidSettings
from fastewq.api.settings import load_settings
from structlog.testing import capture_logs

from .server import Server, assert_error


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_keys_are_asked_for_rotated_and_logged_by_name(tmp_path, llama):
    path = tmp_path / "keys"
    (first, first_line), (second, second_line) = new_key("first"), new_key("second")
    path.write_text(f"# who may ask\n{first_line}  # until May\n", "utf-8")
    with Server(keys_file=path) as server, server.client() as client:
        for headers in (
            {},
            bearer(second),
            bearer(first + "x"),
            {"Authorization": "Bearer"},
            {"Authorization": f"Basic {first}"},
        ):
            response = client.post("/v1/plans", json={"config": llama}, headers=headers)
            assert_error(response, 401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
            assert first not in response.text
        assert_error(client.get("/v1/nope"), 401, "unauthorized")
        for path_without_key in ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json"):
            assert client.get(path_without_key).status_code == 200

        response = client.get("/v1/predictor", headers=bearer(first))
        assert response.status_code == 200
        assert server.log_of(response.headers["x-request-id"])["key"] == "first"

        path.write_text("not a key line\n", "utf-8")
        server.wait_for_log("keys not reloaded")
        assert client.get("/v1/predictor", headers=bearer(first)).status_code == 200

        path.write_text(second_line + "\n", "utf-8")
        server.wait_for_log("keys reloaded")
        assert client.get("/v1/predictor", headers=bearer(second)).status_code == 200
        assert_error(client.get("/v1/predictor", headers=bearer(first)), 401, "unauthorized")
        assert not any(key in str(line) for line in server.logs for key in (first, second))


@pytest.mark.parametrize("content", ["", "# nothing\n", "name\n", "name " + "g" * 64, "a b " + "0" * 64, "\x00"])
def test_a_key_file_that_cannot_be_used_is_refused(tmp_path, content):
    path = tmp_path / "keys"
    path.write_text(content, "utf-8")
    with pytest.raises(InvalidSettings):
        Keyring(path)


def test_a_key_file_that_is_gone_is_logged_once(tmp_path):
    """It is looked for every second."""
    path = tmp_path / "keys"
    path.write_text(new_key("a")[1], "utf-8")
    keys = Keyring(path)
    with capture_logs() as lines:
        for content in (None, new_key("a")[1], None):
            if content is None:
                path.unlink()
            else:
                path.write_text(content, "utf-8")
                os.utime(path, (1, 1))  # written within one tick of the clock, it could pass for the first file
            for _ in range(3):
                keys.reload()
    assert [line["event"] for line in lines] == ["keys not reloaded", "keys reloaded", "keys not reloaded"]


def test_a_missing_key_file_is_refused(tmp_path):
    with pytest.raises(InvalidSettings, match="No such file"):
        Keyring(tmp_path / "keys")


def test_a_service_without_its_key_file_does_not_start(tmp_path):
    with pytest.raises(AssertionError, match="did not start"):
        Server(keys_file=tmp_path / "missing")


def test_the_rate_is_limited_and_the_wait_is_told(llama):
    with Server(rate_limit="3/minute") as server, server.client() as client:
        for _ in range(3):
            assert client.post("/v1/plans", json={"config": llama}).status_code == 200
        response = client.post("/v1/plans", json={"config": llama})
        assert_error(response, 429, "rate_limited")
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert client.get("/readyz").status_code == 200


def test_each_key_has_its_own_rate(tmp_path):
    path = tmp_path / "keys"
    keys = [new_key(name) for name in ("a", "b")]
    path.write_text("\n".join(line for _, line in keys), "utf-8")
    with Server(keys_file=path, rate_limit="2/minute") as server, server.client() as client:
        statuses = [client.get("/v1/predictor", headers=bearer(key)).status_code for key, _ in keys for _ in range(3)]
    assert statuses == [200, 200, 429] * 2


@pytest.mark.parametrize(("trusted", "statuses"), [(None, [200, 429, 429]), ("127.0.0.0/8", [200, 200, 429])])
def test_only_a_trusted_proxy_says_whose_request_it_is(trusted, statuses):
    settings = {"trusted_proxies": trusted} if trusted else {}
    with Server(rate_limit="1/minute", **settings) as server, server.client() as client:
        found = [
            client.get("/v1/predictor", headers={"X-Forwarded-For": address}).status_code
            for address in ("192.0.2.1", "192.0.2.2", "192.0.2.2")
        ]
    assert found == statuses


def test_settings_come_from_the_environment_and_are_checked(monkeypatch):
    monkeypatch.setenv("FASTEWQ_PORT", "1234")
    monkeypatch.setenv("FASTEWQ_RATE_LIMIT", "5/second")
    assert (load_settings().port, load_settings(port=1).port) == (1234, 1)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PORT", "70000", "at most 65535"),
        ("HOST", "", "1 or more characters"),  # which the server would take for every address
        ("WORKERS", "0", "at least 1"),
        ("MAX_BODY_BYTES", "many", "an integer"),
        ("BODY_SECONDS", "0", "more than 0"),
        ("BODY_SECONDS", "soon", "a number"),
        ("HUB", "perhaps", "true or false"),
        ("LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        *[("RATE_LIMIT", rate, "one rate such as 600/minute") for rate in ("often", "0/minute", "9/day;1/second")],
        *[
            ("TRUSTED_PROXIES", proxies, "addresses or networks such as 10.0.0.0/8, separated by commas, or *")
            for proxies in ("proxy", "10.0.0.1/8", "10.0.0.1,*", "")
        ],
    ],
)
def test_a_setting_that_cannot_be_is_named_with_its_value_and_what_was_expected(monkeypatch, name, value, expected):
    monkeypatch.setenv(f"FASTEWQ_{name}", value)
    with pytest.raises(InvalidSettings) as refused:
        load_settings()
    assert refused.value.message == f"FASTEWQ_{name} is {value!r}; expected {expected}"


@pytest.mark.parametrize("proxies", ["*", "192.0.2.1", "2001:db8::/32, 10.0.0.0/8,::1"])
def test_proxies_are_addresses_and_networks(monkeypatch, proxies):
    monkeypatch.setenv("FASTEWQ_TRUSTED_PROXIES", proxies)
    assert load_settings().trusted_proxies == proxies


def test_a_misspelt_setting_is_named():
    with Server({"FASTEWQ_KEY_FILE": "keys"}, drain_seconds=0) as server:
        server.wait_for_log("no such setting", variable="FASTEWQ_KEY_FILE", level="warning")
        assert [line for line in server.logs if line["message"] == "no such setting"][1:] == []


def test_settings_survive_the_way_through_the_environment(monkeypatch, tmp_path):
    given = load_settings(port=1, keys_file=tmp_path, rate_limit="1/day", drain_seconds=0.5, hub=True)
    for name, value in given.as_environment().items():
        monkeypatch.setitem(os.environ, name, value)
    assert load_settings() == given
