"""A service of several workers."""

from __future__ import annotations

import os
import re
import signal
import threading

import httpx
import pytest
import uvicorn
from fastewq.api.server import Worker

from .server import Server, wait_until

STARTED = re.compile(r"Started server process \[(\d+)\]")


def workers_of(server: Server) -> set[int]:
    return {int(found[1]) for line in list(server.logs) if (found := STARTED.match(line["message"]))}


@pytest.fixture
def two_workers():
    with Server(workers=2, drain_seconds=0) as server:
        # The parent says where it runs, and workers that they have started, before any of them listens.
        wait_until(lambda: len(workers_of(server)) == 2 and answers(server))
        yield server


def answers(server: Server) -> bool:
    try:
        with server.client() as client:
            return client.get("/livez").status_code == 200
    except httpx.ConnectError:
        return False


def counted(server: Server, name: str) -> float:
    """A sum over the workers. What one has answered, another may not find counted for another moment."""
    with server.client() as client:
        metrics = client.get("/metrics").text
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(name))


def test_metrics_are_those_of_all_workers(two_workers):
    for _ in range(20):
        with two_workers.client() as client:
            assert client.get("/readyz").status_code == 200
    wait_until(lambda: counted(two_workers, 'fastewq_http_requests_total{method="GET",route="/readyz"') == 20)
    wait_until(lambda: counted(two_workers, "fastewq_http_requests_in_progress") == 1)


def test_a_worker_that_dies_when_it_was_asked_for_a_sign_of_life_is_not_waited_for():
    worker = Worker(uvicorn.Config("fastewq.api.app:create_app", factory=True), [])
    worker.start()
    os.kill(worker.pid, signal.SIGSTOP)  # so that it cannot answer
    asking = threading.Thread(target=worker.ping, args=(3600,), daemon=True)
    asking.start()
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    asking.join(60)
    assert not asking.is_alive()
    assert not worker.is_alive()


def test_a_worker_that_is_killed_under_load_is_replaced(two_workers, llama):
    statuses: list[int] = []
    lost: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                with two_workers.client() as client:
                    statuses.append(client.post("/v1/plans", json={"config": llama}).status_code)
            except httpx.TransportError as error:
                lost.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    before = workers_of(two_workers)
    victim = max(before)
    os.kill(victim, signal.SIGKILL)
    try:
        wait_until(lambda: len(workers_of(two_workers)) == 3)
        answered = len(statuses)
        wait_until(lambda: len(statuses) >= answered + 20)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}
    assert len(lost) <= 2, lost
    wait_until(lambda: counted(two_workers, "fastewq_http_requests_in_progress") == 1)
    assert two_workers.stop() in (0, -signal.SIGTERM)
