"""What the service does with requests that are not well-behaved, and what every answer has."""

from __future__ import annotations

import json
import re
import socket
import threading
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import fastewq
from fastewq.errors import InvalidConfig
from fastewq.jsonio import parse_config

from .server import Server, assert_error, wait_until

JSON = {"Content-Type": "application/json"}
PLANS = "/v1/plans"


def test_live_and_ready(client):
    assert client.get("/livez").json() == {"status": "live"}
    assert client.get("/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize("path", ["/nope", "/v1", "/v1/plans/", "/docs/static/nope.js", "/%00", "/../etc/passwd"])
def test_unknown_paths(client, path):
    assert_error(client.get(path), 404, "route_not_found")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_unknown_methods(client, method):
    response = client.request(method, PLANS)
    assert_error(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'config': 1}",
        b'{"config": NaN',
        b"NaN and more",
        b'{"config": {"a": "\xff"}}',
        '{"config": {}}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b'{"config": {"a": Infinity, "b": "\\ud800"}}',
        b'{"config": {"a": NaN, "b": ' + b"9" * 5000 + b"}}",
        b"[" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"config":{"a":' + b"[" * 200 + b"]" * 200 + b"}}",
        b'{"config":{"b":NaN,"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}}",
        b"[" + b"{}," * 500_000 + b"{}]",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_bodies_that_are_not_json_within_bounds(client, body):
    assert_error(client.post(PLANS, content=body, headers=JSON), 400, "malformed_request")


@pytest.mark.parametrize(
    "body",
    [
        b'{"config": {"vocab_size": 1, "vocab_size": 2}}',
        b'{"config": {}, "config" : {}}',
        b'{"config": {"a": [{"b": 1, "c": 2, "b": null}]}}',
        rb'{"config": {"a": 1, "\u0061": 2}}',
        rb'{"config": {"a": 1, "a": "\u003a"}}',
        rb'{"config": {"a": 1, "a": "\u003A"}}',
        b'{"config": {"a": NaN, "a": 2}}',
    ],
)
def test_a_key_given_twice_is_refused_like_on_the_command_line(client, body):
    error = assert_error(client.post(PLANS, content=body, headers=JSON), 400, "malformed_request")
    with pytest.raises(InvalidConfig) as refused:
        parse_config(body, "the body")
    assert error["message"] == refused.value.message
    assert "appears twice" in error["message"]


def test_colons_in_texts_are_no_keys(client, llama):
    plan = client.post(PLANS, json={"config": llama}).json()
    for text in ("a:b", "\\u003a", ":::", '"a": 1, "a": 2'):
        body = json.dumps({"config": {**llama, "template": text, text: 1}})
        assert client.post(PLANS, content=body, headers=JSON).json() == plan
    escaped = json.dumps({"config": {**llama, "template": ":"}}).replace('":"', '"\\u003a"')
    assert client.post(PLANS, content=escaped, headers=JSON).json() == plan


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": ""},
        {**JSON, "Content-Encoding": "gzip"},
    ],
)
def test_bodies_not_declared_as_json(client, headers):
    assert_error(client.post(PLANS, content=b"{}", headers=headers), 415, "unsupported_media_type")


def test_the_charset_may_be_named(client, llama):
    headers = {"Content-Type": 'Application/JSON; charset="UTF-8"'}
    assert client.post(PLANS, content=json.dumps({"config": llama}), headers=headers).status_code == 200


def test_a_body_of_50_mb_is_refused(client):
    assert_error(client.post(PLANS, content=bytes(50_000_000), headers=JSON), 413, "body_too_large")


def test_a_body_of_50_mb_is_refused_when_its_length_is_not_declared(client):
    chunks = (bytes(100_000) for _ in range(500))
    assert_error(client.post(PLANS, content=chunks, headers=JSON), 413, "body_too_large")
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/docs", "/openapi.json", "/v1/predictor", "/v1/exports"])
def test_a_head_request_has_the_headers_of_the_answer_and_no_body(client, server, path):
    response = client.head(path, headers={"X-Request-ID": f"head{path.replace('/', '.')}"})
    whole = client.get(path)
    assert (response.status_code, response.content) == (200, b"")
    for name in ("content-length", "content-type", "etag"):
        assert response.headers.get(name) == whole.headers.get(name)
    assert server.log_of(response.headers["x-request-id"])["method"] == "HEAD"


def test_a_head_request_can_fail(client):
    for path, status in {"/nope": 404, "/v1/plans": 405, "/v1/models/a/b/plan": 404}.items():
        response = client.head(path)
        assert (response.status_code, response.content) == (status, b"")
    assert client.post("/livez").headers["allow"] == "GET, HEAD"


def test_a_request_id_is_echoed_and_logged(client, server):
    response = client.get("/livez", headers={"X-Request-ID": "my-id:1"})
    assert response.headers["x-request-id"] == "my-id:1"
    line = server.log_of("my-id:1")
    assert (line["method"], line["path"], line["status"]) == ("GET", "/livez", 200)


def test_a_long_path_makes_no_long_log_line(client, server):
    response = client.get("/" + "x" * 50_000)
    error = assert_error(response, 404, "route_not_found")
    assert len(error["message"]) < 500
    assert server.log_of(response.headers["x-request-id"])["path"] == "/" + "x" * 999


@pytest.mark.parametrize("sent", [None, "", "a b", "x" * 129, "ä", "{}"])
def test_a_request_id_is_made_where_none_can_be_used(client, sent):
    headers = {} if sent is None else {"X-Request-ID": sent.encode("utf-8")}
    made = client.get("/livez", headers=headers).headers["x-request-id"]
    assert made != sent
    assert len(made) == 32


@pytest.mark.parametrize("path", ["/livez", "/nope", "/docs", "/openapi.json", "/metrics"])
def test_every_answer_has_safe_headers_and_no_cors(client, path):
    headers = client.get(path, headers={"Origin": "https://example.org"}).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-predictor-version"]
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_the_documentation_needs_no_other_host(client):
    page = client.get("/docs").text
    assert "://" not in page.replace("http://www.w3.org", "")
    for asset in ("/docs/static/swagger-ui-bundle.js", "/docs/static/swagger-ui.css"):
        assert asset in page
        assert client.get(asset).status_code == 200


def send_raw(server: Server, data: bytes) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(data)
    return connection


def test_a_client_that_goes_away_before_its_body_is_complete(client, server):
    request = b"POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Request-ID: gone\r\n"
    send_raw(server, request + b'Content-Length: 1000\r\n\r\n{"config"').close()
    assert server.log_of("gone")["status"] == 499
    assert client.get("/readyz").status_code == 200


def test_a_slow_body_is_given_up():
    with Server(body_seconds=0.2) as server, server.client() as client:
        request = b"POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Request-ID: slow\r\n"
        with send_raw(server, request + b'Content-Length: 1000\r\n\r\n{"config"') as connection:
            assert connection.recv(64).startswith(b"HTTP/1.1 408 ")
        assert client.get("/readyz").status_code == 200


BATCH = "/v1/plans/batch"
PATIENT = {"body_seconds": 600, "drain_seconds": 0}
"""Settings under which a request that waits for its body keeps its place while a busy machine does something else."""


def refused(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """The first answer that is none: what takes the last place may not have arrived yet."""
    return wait_until(lambda: None if (response := ask()).is_success else response)


def test_more_batches_than_have_a_place_are_refused_and_single_plans_are_not(llama):
    waits = b"Host: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    batch = {"requests": [{"config": llama}]}
    with Server(max_batches=1, **PATIENT) as server, server.client() as client:
        with send_raw(server, f"POST {BATCH} HTTP/1.1\r\n".encode() + waits):
            response = refused(lambda: client.post(BATCH, json=batch))
            assert_error(response, 503, "overloaded")
            assert response.headers["retry-after"]
            assert client.post("/v1/plans", json={"config": llama}).status_code == 200
        # Its place is free again once the service has noticed that it left.
        wait_until(lambda: client.post(BATCH, json=batch).status_code == 200)


def test_more_requests_than_have_a_place_are_refused_and_probes_are_not(llama):
    waits = b"POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    with Server(max_concurrency=2, **PATIENT) as server, server.client() as client:
        with send_raw(server, waits), send_raw(server, waits):
            response = refused(lambda: client.get("/v1/predictor"))
            assert_error(response, 503, "overloaded")
            assert response.headers["retry-after"]
            assert [client.get(path).status_code for path in ("/livez", "/readyz", "/metrics")] == [200] * 3
        # Their places are free again once the service has noticed that they left.
        wait_until(lambda: client.post("/v1/plans", json={"config": llama}).status_code == 200)


def read_all(connection: socket.socket) -> bytes:
    """What the server sends before it closes the connection."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


LIVE = b"GET /livez HTTP/1.1\r\n"
LAST = b"Host: x\r\nConnection: close\r\n\r\n"


def answer_to(server: Server, data: bytes) -> tuple[list[bytes], dict[str, Any]]:
    """The lines of the head and the JSON document of the answer to raw bytes; the server closes the connection."""
    with send_raw(server, data) as connection:
        answer = read_all(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), json.loads(body)


@pytest.mark.parametrize(
    "data",
    [
        b"BREW /v1/plans HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /livez HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nX: " + b"y" * 100_000,
        b"GET /" + b"y" * 100_000,
        LIVE + b"\r\n",
        LIVE + b"Host: a\r\nHost: a\r\n\r\n",
        LIVE + b"Host: a, b\r\n\r\n",
        LIVE + b"Host: a/b\r\n\r\n",
        LIVE + b"Host: a:b\r\n\r\n",
        LIVE + b"Host: \xff\r\n\r\n",
        LIVE.replace(b" /", b" http://x/") + b"\r\n",
        LIVE + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        LIVE + b"Host: x\r\nX: folded\r\n value\r\n\r\n",
        LIVE + b"Host: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        LIVE + b"Host: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        LIVE + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n",
    ],
    ids=lambda data: repr(data[:60]),
)
def test_what_is_not_http_gets_the_error_shape(server, client, data):
    head, document = answer_to(server, data)
    assert head[0] == b"HTTP/1.1 400 Bad Request"
    assert f"x-predictor-version: {fastewq.load_predictor().version}".encode() in head
    assert b"x-content-type-options: nosniff" in head
    assert document["error"]["code"] == "malformed_request"
    assert f"x-request-id: {document['error']['request_id']}".encode() in head
    server.wait_for_log("not HTTP", request_id=document["error"]["request_id"])
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.0\r\n",
        LIVE + b"Host:\r\n",
        LIVE + b"Host: \t example.org:8000 \t\r\n",
        LIVE + b"Host: [::1]:8000\r\n",
        LIVE.replace(b" /", b" http://example.org/") + b"Host: example.org\r\n",
        LIVE + b"Host: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
    ],
)
def test_other_forms_of_a_request_that_http_allows(server, head):
    with send_raw(server, head + b"\r\n" + LIVE + LAST) as connection:
        assert read_all(connection).endswith(b'{"status":"live"}')


def test_a_target_may_name_the_host_alone(server):
    with send_raw(server, b"GET http://example.org HTTP/1.1\r\n" + LAST) as connection:
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_the_body_of_a_request_that_offers_another_protocol_is_read(server, llama):
    body = json.dumps({"config": llama}).encode()
    head = b"POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    with send_raw(server, (head + offer + body) * 2 + LIVE + LAST) as connection:
        answer = read_all(connection)
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert answer.count(b'"fastewq.plan/1"') == 2


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "3.0"])
def test_another_version_of_http_is_refused(server, version):
    head, document = answer_to(server, f"GET / HTTP/{version}\r\n".encode() + LAST + LIVE + LAST)
    assert head[0] == b"HTTP/1.1 505 HTTP Version Not Supported"
    assert document["error"]["code"] == "version_not_supported"
    server.wait_for_log("not HTTP", request_id=document["error"]["request_id"], status=505)


def test_the_beginning_of_http_2_is_refused_as_another_version(server):
    head, document = answer_to(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert head[0] == b"HTTP/1.1 505 HTTP Version Not Supported"
    assert document["error"]["code"] == "version_not_supported"


def test_a_request_line_without_a_version_is_refused(server):
    head, document = answer_to(server, b"GET /livez\r\n\r\n")
    assert head[0] == b"HTTP/1.1 505 HTTP Version Not Supported"
    assert "HTTP/0.9" in document["error"]["message"]


CHUNKED = b"Host: x\r\nContent-Type: application/json\r\nTransfer-Encoding: %s\r\n\r\n2\r\n{}\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "codings", [b"gzip, chunked", b"identity, chunked", b", chunked", b"gzip\r\nTransfer-Encoding: chunked"]
)
def test_a_transfer_coding_besides_chunked_is_not_supported(server, codings):
    head, document = answer_to(server, b"POST /v1/plans HTTP/1.1\r\n" + CHUNKED % codings + LIVE + LAST)
    assert head[0] == b"HTTP/1.1 501 Not Implemented"
    assert document["error"]["code"] == "coding_not_supported"


@pytest.mark.parametrize(
    ("version", "codings"),
    [
        (b"1.0", b"chunked"),
        (b"1.0", b"gzip, chunked"),
        *((b"1.1", codings) for codings in (b"chunked, chunked", b"chunked, gzip", b"identity", b"", b"chunked;x=y")),
    ],
)
def test_a_body_whose_end_cannot_be_known_is_refused(server, version, codings):
    head, document = answer_to(server, b"POST /v1/plans HTTP/%s\r\n" % version + CHUNKED % codings + LIVE + LAST)
    assert head[0] == b"HTTP/1.1 400 Bad Request"
    assert document["error"]["code"] == "malformed_request"


def test_chunked_may_be_written_in_capitals(server):
    with send_raw(server, b"POST /v1/plans HTTP/1.1\r\n" + CHUNKED % b"Chunked" + LIVE + LAST) as connection:
        assert re.findall(rb"HTTP/1.1 (\d+) ", read_all(connection)) == [b"422", b"200"]


def test_what_is_not_http_is_refused_after_the_answers_to_what_was(server):
    whole = LIVE + b"Host: x\r\n\r\n"
    chunked = LIVE + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for bad in (LIVE + b"\r\n", chunked + b"z\r\n", b"GET /" + b"x" * 100_000):
        with send_raw(server, whole * 3 + bad + whole) as connection:
            answer = read_all(connection)
        assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"200"] * 3 + [b"400"]
        assert b"connection: close" in answer.partition(b"HTTP/1.1 400 ")[2]


def test_a_field_after_the_last_chunk_is_no_header(server):
    head = LIVE + b"Host: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    with send_raw(server, head + b"0\r\nX-Request-ID: late\r\nHost: y\r\n\r\n") as connection:
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"late" not in answer


def test_fields_after_the_last_chunk_have_a_bound(server):
    head = b"POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    for fields in (b"a: b\r\n" * 100_000, b"a: " + b"b" * 500_000):
        with send_raw(server, head + b"0\r\n" + fields) as connection:
            assert connection.recv(64).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("range_", ["bytes=0-9", "bytes=999999999-", "bytes=z", "lines=1-2"])
@pytest.mark.parametrize("path", ["/", "/static/page.js", "/docs/static/swagger-ui.css"])
def test_files_are_sent_whole(client, path, range_):
    assert client.get(path, headers={"Range": range_}).content == client.get(path).content


def test_a_long_body_that_arrives_with_its_head_is_no_long_head(server, llama):
    body = json.dumps({"config": {**llama, "padding": "x" * 150_000}}).encode()
    head = b"POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    for first in (len(request), len(head) + 40, len(head) - 10):
        with send_raw(server, request[:first]) as connection:
            threading.Event().wait(0.05)
            connection.sendall(request[first:])
            assert connection.recv(64).startswith(b"HTTP/1.1 200 ")


def test_requests_sent_ahead_are_answered_in_order(server, llama):
    body = json.dumps({"config": llama}).encode()
    head = b"POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    last = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with send_raw(server, request * 3 + last) as connection:
        answer = read_all(connection)
    assert answer.count(b"HTTP/1.1 200 ") == 4
    assert answer.endswith(b'{"status":"live"}')


def test_every_error_of_the_openapi_document_has_the_one_shape(client):
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for operation in methods.values():
            refused = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
            assert all(answer["content"] == error for answer in refused.values()), path
            if path.startswith("/v1/"):  # where keys, rates, concurrency and unknown parameters are looked at
                assert {"401", "422", "429", "503"} <= refused.keys(), path


def test_every_field_and_parameter_that_can_be_sent_is_described(client):
    document = client.get("/openapi.json").json()
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    sent = {p["name"]: p for o in operations for p in o.get("parameters", []) if p["in"] == "query"}
    for request in ("PlanRequest", "ExportRequest", "BatchRequest"):
        sent |= document["components"]["schemas"][request]["properties"]
    assert [name for name, about in sent.items() if not about.get("description")] == []


def test_every_example_of_the_openapi_document_works_as_it_is(client):
    tried = []
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for body in [method["requestBody"] for method in methods.values() if "requestBody" in method]:
            tools = [tool["name"] for tool in client.get("/v1/exports").json()["tools"]] if "{tool}" in path else [""]
            for place in [path.replace("{tool}", tool) for tool in tools]:
                response = client.post(place, json=body["content"]["application/json"]["example"])
                assert response.status_code == 200, (place, response.text)
                assert not any("error" in result for result in response.json().get("results", []))
                tried.append(place)
    assert {"/v1/plans", "/v1/plans/batch", "/v1/exports/mlx"} <= {*tried}


def test_metrics_count_requests_by_route_and_status(client):
    client.get("/nope")
    text = client.get("/metrics").text
    assert 'fastewq_http_requests_total{method="GET",route="other",status="404"}' in text
    assert "fastewq_http_request_seconds_bucket" in text
    assert "fastewq_predictor_info{version=" in text


@pytest.mark.parametrize(
    ("again", "grows"),
    [
        (False, 'fastewq_plan_cache_total{result="miss"}'),
        (True, 'fastewq_plan_cache_total{result="hit"}'),
        (False, 'fastewq_plan_blocks_bucket{le="8.0"}'),
        (False, "fastewq_plan_blocks_sum"),
        (False, 'fastewq_http_requests_total{method="POST",route="/v1/plans",status="200"}'),
        (False, 'fastewq_http_request_seconds_count{route="/v1/plans"}'),
    ],
)
def test_metrics_tell_what_was_asked(client, llama, again, grows):
    def measured() -> dict[str, str]:
        lines = client.get("/metrics").text.splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))

    body = {"config": {**llama, "num_hidden_layers": 7, "unread": uuid.uuid4().hex}}
    if again:
        client.post("/v1/plans", json=body)
    before = float(measured().get(grows, 0))
    assert client.post("/v1/plans", json=body).status_code == 200
    after = measured()
    assert float(after[grows]) == before + (7 if grows.endswith("_sum") else 1)
    assert after["fastewq_http_requests_in_progress"] == "1.0"  # the one that asks
