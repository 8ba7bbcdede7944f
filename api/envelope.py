"""The outermost layer: every answer, good or bad, leaves with an id, safe headers, one error shape and a log line."""

from __future__ import annotations

import re
import time
from random import getrandbits
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastewq.errors import FastEWQError

from . import metrics
from .errors import ClientGone, InternalError, error_response
from .logs import AccessLog
from .service import Service

log = structlog.get_logger()

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
"""Ids of other shapes are replaced, not escaped: they go into logs and headers."""

CONTENT_POLICY: Final = (
    b"default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFE_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", CONTENT_POLICY),
)
DOCS_POLICY: Final = CONTENT_POLICY + b"; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'"
"""Swagger UI starts from a script inside its page, and sets styles on elements."""
DOCS_HEADERS: Final = (*SAFE_HEADERS[:-1], (b"content-security-policy", DOCS_POLICY))
MAX_LOGGED_PATH: Final = 1000
"""Characters: what carries logs cuts long lines (Docker at 16 KiB), and half a line is no JSON."""
CLIENT_GONE: Final = 499
"""Status in logs and metrics of a request whose client left before an answer (nginx's convention)."""


class Envelope:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, service: Service, access_log: AccessLog) -> None:
        self.app = app
        self.service = service
        self.access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method = scope["method"]
        if method == "HEAD":
            scope = {**scope, "method": "GET"}  # of whose answer the server then sends the head alone
        exchange = Exchange(scope, send, self.service.version, self.access_log, method)
        try:
            await self.app(scope, receive, exchange.send)
        except ClientGone:
            exchange.status = CLIENT_GONE
        except FastEWQError as error:
            await exchange.refuse(error)
        except Exception:
            log.exception("unhandled error", request_id=exchange.request_id)
            await exchange.refuse(InternalError("the request could not be answered"))
        finally:
            exchange.record()


class Exchange:
    """One request and what has been answered to it."""

    __slots__ = ("_access_log", "_send", "_version", "method", "request_id", "scope", "started", "status")

    def __init__(self, scope: Scope, send: Send, version: str, access_log: AccessLog, method: str) -> None:
        self.scope = scope
        self.method = method
        self.started = time.perf_counter()
        self.request_id = _request_id(scope)
        self.status = 0
        self._send = send
        self._version = version
        self._access_log = access_log
        scope.setdefault("state", {})["request_id"] = self.request_id
        metrics.IN_PROGRESS.inc()

    async def send(self, message: Message) -> None:
        """Send to the client, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [
                *message["headers"],
                *(DOCS_HEADERS if self.scope["path"] == "/docs" else SAFE_HEADERS),
                (b"x-request-id", self.request_id.encode()),
                (b"x-predictor-version", self._version.encode()),
            ]
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, error: FastEWQError) -> None:
        """Answer with an error, unless an answer has begun: then the connection breaks off, as it must."""
        if self.status == 0:
            await error_response(error, self.request_id)(self.scope, _no_body, self.send)

    def record(self) -> None:
        """One log line and the metrics of this exchange."""
        seconds = time.perf_counter() - self.started
        method, path = self.method, self.scope["path"]
        route = getattr(self.scope.get("route"), "path", "other")
        metrics.IN_PROGRESS.dec()
        metrics.observe_request(route, method, self.status, seconds)
        line = {
            "request_id": self.request_id,
            "method": method,
            "path": path[:MAX_LOGGED_PATH],
            "route": route,
            "status": self.status,
            "seconds": round(seconds * 1e6) / 1e6,
        }
        if key := self.scope["state"].get("key"):
            line["key"] = key
        self._access_log.write(line)


async def _no_body() -> Message:
    return {"type": "http.disconnect"}


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return new_request_id()


def new_request_id() -> str:
    """An id that no other request has. It is no secret, and the system's randomness would take a call of the system."""
    return f"{getrandbits(128):032x}"
