"""A real service in its own process, for tests that talk to it over a socket."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx

COMMAND = [sys.executable, "-c", "from fastewq.cli import main; main()", "serve", "--port", "0"]
ADDRESS = re.compile(r"running on (http://\S+)")

T = TypeVar("T")


def wait_until(reached: Callable[[], T], pause: Callable[[], object] = lambda: time.sleep(0.02)) -> T:
    """What is reached, once it is true. The minute says nothing about how fast that should be: it ends a test that
    would otherwise wait for ever.
    """
    deadline = time.monotonic() + 60
    while not (found := reached()):
        assert time.monotonic() < deadline, "not reached within a minute"
        pause()
    return found


class Server:
    """`fastewq serve` on a free port with the settings given; a context manager that ends it."""

    def __init__(self, environment: Mapping[str, str] | None = None, **settings: object) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FASTEWQ_", "PROMETHEUS_"))}
        environment = inherited | {**(environment or {})}
        environment |= {f"FASTEWQ_{name.upper()}": str(value) for name, value in settings.items()}
        self.process = subprocess.Popen(COMMAND, env=environment, stderr=subprocess.PIPE, text=True)
        self.logs: list[dict[str, Any]] = []
        self.url = ""
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read_logs, daemon=True)
        self._reader.start()
        if not self._listening.wait(timeout=60) or not self.url:
            self.process.kill()
            self.ended()
            raise AssertionError(f"the service did not start: {self.logs}")

    def _read_logs(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.logs.append(json.loads(line) if line.startswith("{") else {"message": line})
            if found := ADDRESS.search(self.logs[-1]["message"]):
                self.url = found[1]
                self._listening.set()
        self.process.stderr.close()
        self._listening.set()

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)

    def wait_for_log(self, message: str, **fields: object) -> None:
        wanted = {"message": message, **fields}
        wait_until(lambda: any(wanted.items() <= line.items() for line in list(self.logs)))

    def log_of(self, request_id: str) -> dict[str, Any]:
        """The log line of a request, which may be written a moment after its answer has arrived."""
        wanted = {"message": "request", "request_id": request_id}
        return wait_until(lambda: next((line for line in list(self.logs) if wanted.items() <= line.items()), None))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Wait for the end of the process; its exit code."""
        code = self.process.wait(timeout=60)
        self._reader.join(timeout=10)
        return code

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()  # not kill: a parent must end its workers
        self.ended()


def assert_error(response: httpx.Response, status: int, code: str) -> Mapping[str, str]:
    """The answer has this status, the one error shape and the headers of every answer; its error."""
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert list(document) == ["error"]
    error = document["error"]
    assert list(error) == ["code", "message", "hint", "request_id"]
    assert error["code"] == code
    assert error["message"]
    assert error["request_id"] == response.headers["x-request-id"]
    assert response.headers["x-predictor-version"]
    assert "Traceback" not in response.text
    return error
