"""Start, readiness, and the end of a service."""

from __future__ import annotations

import json
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from fastewq.predictor import DEFAULT_OBJECTIVE, shipped_folder

from .server import Server, assert_error, wait_until

Damage = Callable[[Path], None]


def edit_card(**changes: object) -> Damage:
    def damage(folder: Path) -> None:
        card = json.loads((folder / "card.json").read_text("utf-8"))
        (folder / "card.json").write_text(json.dumps({**card, **changes}), "utf-8")

    return damage


def flip_a_byte(folder: Path) -> None:
    booster = bytearray((folder / "booster.json").read_bytes())
    booster[len(booster) // 2] ^= 1
    (folder / "booster.json").write_bytes(booster)


def cut_the_card(folder: Path) -> None:
    card = (folder / "card.json").read_bytes()
    (folder / "card.json").write_bytes(card[: len(card) // 2])


@pytest.mark.parametrize(
    "damage",
    [
        shutil.rmtree,
        flip_a_byte,
        cut_the_card,
        edit_card(format=10**6),
        edit_card(golden={"rows": [[0]], "margins": [0]}),
    ],
    ids=["missing", "corrupt", "cut", "of a newer format", "not reproducing its predictions"],
)
def test_without_a_verified_predictor_the_service_lives_but_is_not_ready(tmp_path, llama, damage):
    folder = tmp_path / "artefact"
    shutil.copytree(shipped_folder(DEFAULT_OBJECTIVE), folder)
    damage(folder)
    with Server(artefact=folder) as server, server.client() as client:
        assert client.get("/livez").status_code == 200
        for response in (
            client.get("/readyz"),
            client.get("/v1/predictor"),
            client.post("/v1/plans", json={"config": llama}),
        ):
            assert_error(response, 503, "not_ready")
            assert int(response.headers["retry-after"]) > 0
            assert response.headers["x-predictor-version"] == "none"
        assert any(line["message"] == "no usable predictor" for line in server.logs)


def test_after_sigterm_the_service_is_unready_but_answers_until_a_second_one(llama):
    with Server(drain_seconds=600) as server, server.client() as client:
        assert client.get("/readyz").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: client.get("/readyz").status_code != 200)
        assert_error(client.get("/readyz"), 503, "not_ready")
        assert client.get("/livez").status_code == 200
        assert client.post("/v1/plans", json={"config": llama}).status_code == 200
        assert server.stop() == -signal.SIGTERM


def test_some_time_after_sigterm_the_service_ends():
    with Server(drain_seconds=0.5) as server:
        assert server.stop() == -signal.SIGTERM


def test_a_request_that_is_running_at_sigterm_is_answered(llama):
    body = json.dumps({"config": llama}).encode()
    head = (
        f"POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with Server(drain_seconds=0, grace_seconds=60, body_seconds=60) as server, server.client() as client:
        host, _, port = server.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(head.encode() + body[:100])
            wait_until(lambda: "fastewq_http_requests_in_progress 2.0" in client.get("/metrics").text)
            client.close()
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: any(line["message"].startswith("Waiting for conn") for line in list(server.logs)))
            connection.sendall(body[100:])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"fastewq.plan/1"' in answer
        assert server.ended() == -signal.SIGTERM


def test_a_request_that_never_ends_does_not_hold_up_the_end():
    head = b"POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    with Server(drain_seconds=0, grace_seconds=1, body_seconds=600) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(head)
            assert server.stop() == -signal.SIGTERM
