"""Connections that are held open: the bounds of the protocol, shortened, in a server of this process."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from fastewq.api import logs, protocol
from fastewq.api.app import create_app
from fastewq.api.settings import Settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .server import wait_until


@pytest.fixture
def server(monkeypatch) -> Iterator[uvicorn.Server]:
    monkeypatch.setattr(logs, "configure", lambda level: None)  # would be the process's, and that of tests to come
    app = create_app(Settings(log_level="error"))
    config = uvicorn.Config(app, port=0, http=protocol.Protocol, ws="none", log_config=None, timeout_keep_alive=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    yield server
    server.should_exit = True
    thread.join()


@pytest.fixture
def little_time_for_a_head(monkeypatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)


@pytest.fixture
def little_time_to_read(monkeypatch) -> None:
    monkeypatch.setattr(protocol, "READ_SECONDS", 0.3)


@pytest.fixture
def address(server) -> tuple[str, int]:
    return server.servers[0].sockets[0].getsockname()


def ends(connection: socket.socket) -> bool:
    """Whether the server ends the connection before the time-out of the socket."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return True


@pytest.mark.usefixtures("little_time_for_a_head")
def test_a_client_that_sends_nothing_is_let_go(address):
    with socket.create_connection(address, timeout=30) as connection:
        assert ends(connection)


@pytest.mark.usefixtures("little_time_for_a_head")
def test_a_client_that_sends_its_head_byte_by_byte_is_let_go(address):
    with socket.create_connection(address, timeout=30) as connection:
        sender = threading.Thread(target=drip, args=(connection,))
        sender.start()
        assert ends(connection)
    sender.join()


def drip(connection: socket.socket, start: bytes = b"GET /livez HTTP/1.1\r\nX: ") -> None:
    """Send a head that never ends, until the connection does."""
    with contextlib.suppress(OSError):
        connection.sendall(start)
        while True:
            connection.sendall(b"x")
            threading.Event().wait(0.02)


def ask(address: tuple[str, int], *pieces: bytes, pause: float = 0) -> socket.socket:
    """A connection on which a request was sent in pieces and is being answered. A busy machine may send its head too
    late, a few times.
    """
    for _ in range(20):
        connection = socket.create_connection(address, timeout=60)
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            if connection.recv(1, socket.MSG_PEEK):
                return connection
        connection.close()
    raise AssertionError("let go 20 times")


@pytest.mark.usefixtures("little_time_for_a_head")
@pytest.mark.parametrize("sent", [b"", b"GET /li"])
def test_a_client_that_waits_between_requests_is_let_go(address, sent):
    with ask(address, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(sent)
        assert ends(connection)


@pytest.mark.usefixtures("little_time_for_a_head")
def test_a_body_may_take_longer_than_a_head(address, llama):
    body = json.dumps({"config": llama}).encode()
    head = b"POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
    with ask(address, head + b"Content-Length: %d\r\n\r\n" % len(body), body, pause=0.5) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_request_sent_ahead_may_take_longer_than_a_head(address, llama, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.05)
    body = json.dumps({"requests": [{"config": {**llama, "num_hidden_layers": 400 + n}} for n in range(100)]}).encode()
    head = b"POST /v1/plans/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
    batch = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with ask(address, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + batch) as connection:
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.count(b'"fastewq.plan/1"') == 100


@pytest.fixture
def asked_for_much(address, llama, little_time_to_read) -> Iterator[socket.socket]:
    """A connection on which an answer of eight megabytes begins."""
    llama["num_hidden_layers"] = 500
    body = json.dumps({"requests": [{"config": llama}] * 100}).encode()
    head = (
        f"POST /v1/plans/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1000)
        connection.settimeout(60)
        connection.connect(address)
        connection.sendall(head.encode() + b"\r\n" + body)
        assert connection.recv(1)
        yield connection


def test_a_client_that_reads_no_answer_is_let_go(server, asked_for_much):
    wait_until(lambda: not server.server_state.connections)


def test_a_client_that_reads_a_large_answer_in_drops_is_let_go(server, asked_for_much):
    """It takes some at any time, but would need far longer than a client is waited for."""
    taken = 0

    def take_a_drop() -> None:
        nonlocal taken
        time.sleep(0.1)
        taken += len(asked_for_much.recv(2**14))

    wait_until(lambda: not server.server_state.connections, take_a_drop)
    assert taken < 2**21


@pytest.mark.usefixtures("little_time_for_a_head")
def test_a_client_that_is_refused_is_let_go(address):
    with socket.create_connection(address, timeout=30) as connection:
        sender = threading.Thread(target=drip, args=(connection, b"BREW / HTTP/1.1\r\n"))
        sender.start()
        sender.join()


@pytest.mark.usefixtures("little_time_to_read")
def test_requests_sent_ahead_end_with_a_client_that_reads_no_answer(server, address, caplog):
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1000)
        connection.settimeout(60)
        connection.connect(address)
        connection.sendall(b"GET /docs/static/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        connection.recv(1)
        wait_until(lambda: not (server.server_state.connections or server.server_state.tasks))
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


HEAD_OF = {
    "/whole": [(b"content-length", b"2"), (b"X-Mixed", b"Case: colons")],
    "/pieces": [(b"content-length", b"2")],
    "/chunked": [],
    "/closed": [(b"content-length", b"2"), (b"Connection", b"close")],
    "/short": [(b"content-length", b"3")],
    "/line-end": [(b"content-length", b"2"), (b"x-split", b"a\r\nset-cookie: b")],
    "/bare-line-end": [(b"content-length", b"2"), (b"x-split", b"a\nb")],
}


async def answers(scope, receive, send):
    """An application that answers in every way that there is."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": HEAD_OF[scope["path"]]})
    if scope["path"] == "/pieces":
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        await send({"type": "http.response.body", "body": b"}"})
    else:
        await send({"type": "http.response.body", "body": b"{}"})


def answer_of(http: type, request: bytes) -> bytes:
    """What a server with this protocol sends until it closes the connection, without its date."""
    config = uvicorn.Config(answers, port=0, http=http, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    with socket.create_connection(server.servers[0].sockets[0].getsockname(), timeout=30) as connection:
        connection.sendall(request)
        sent = b"".join(iter(lambda: connection.recv(65536), b""))
    server.should_exit = True
    thread.join()
    return b"\r\n".join(line for line in sent.split(b"\r\n") if not line.startswith(b"date: "))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", HEAD_OF)
def test_answers_are_sent_as_the_server_itself_would(path, method):
    first = f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    last = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    sent = answer_of(protocol.Protocol, first + last).lower()
    assert sent == answer_of(HttpToolsProtocol, first + last).lower()
    assert b"set-cookie" not in sent
