"""Running the service with uvicorn, and an end that loses no request."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Final

import structlog
import uvicorn
from uvicorn.supervisors import multiprocess

from fastewq.errors import UnavailableError

from . import logs
from .protocol import Protocol
from .service import draining
from .settings import Settings, unknown

log = structlog.get_logger()

WORKER_SECONDS: Final = 60
"""Time in which a worker must give a sign of life to the process that started it."""


class Worker(multiprocess.Process):
    """A worker process whose death ends the wait for its sign of life.

    The server keeps the worker's end of the pipe open in the parent too, which would then wait for all WORKER_SECONDS
    on a worker that was killed after it was asked, and in that time replace none and hear no signal.
    """

    def start(self) -> None:
        super().start()
        self.child_conn.close()

    def ping(self, timeout: float = WORKER_SECONDS) -> bool:
        try:
            return super().ping(timeout)
        except (OSError, EOFError):  # of a pipe whose other end is gone: not every version of the server expects that
            return False


multiprocess.Process = Worker  # type: ignore[misc]


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Workers are new processes and read their settings from the environment.

    Raises UnavailableError where the server gives up, as with an address that it cannot have.
    """
    logs.configure(settings.log_level)
    for name in unknown():
        log.warning("no such setting", variable=name)
    os.environ.update(settings.as_environment())
    with ExitStack() as stack:
        if settings.workers > 1:  # they share their metrics through files; one worker needs no disk at all
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastewq-metrics-"))
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        try:
            uvicorn.run(
                "fastewq.api.app:create_app",
                factory=True,
                host=settings.host,
                port=settings.port,
                workers=settings.workers,
                log_config=logs.server_configuration(settings.log_level),
                access_log=False,
                server_header=False,
                http=Protocol,
                # By default the server would believe whatever a client on this machine says of its address.
                proxy_headers=settings.trusted_proxies is not None,
                forwarded_allow_ips=settings.trusted_proxies,
                ws="none",
                timeout_graceful_shutdown=settings.grace_seconds,
                # A busy machine takes longer to start a worker than the seconds after which it would be killed as hung.
                timeout_worker_healthcheck=WORKER_SECONDS,
            )
        except SystemExit as end:
            if end.code:
                where = f"{settings.host}:{settings.port}"
                raise UnavailableError(f"the service at {where} ended", hint="The log above says why.") from None


@contextmanager
def drained_before_exit(seconds: float) -> Iterator[None]:
    """On SIGTERM, be unready for `seconds` while requests are still taken, and only then let the server stop.

    Load balancers need that time to see /readyz turn 503; a second SIGTERM skips it. The server's own handler is kept
    and called afterwards; it refuses new connections and waits for running requests. Does nothing outside the main
    thread (as in tests).
    """
    try:
        stop = signal.getsignal(signal.SIGTERM)
        if not callable(stop):
            raise ValueError("nothing handles SIGTERM")
        loop = asyncio.get_running_loop()

        def drain(number: int, frame: FrameType | None) -> None:
            if draining.is_set():
                stop(number, frame)
            else:
                draining.set()
                loop.call_soon_threadsafe(loop.call_later, seconds, stop, number, frame)

        signal.signal(signal.SIGTERM, drain)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, stop)
