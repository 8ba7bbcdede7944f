"""uvicorn's HTTP protocol, with bounds on what happens before a request and after its answer.

The application bounds bodies and work. It never sees a request line that does not end, or an answer that is not read;
without bounds on these, idle clients could hold connections and memory for ever.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .errors import MalformedRequest, error_response
from .reading import BODY_IS_HERE

PREDICTOR_VERSION: Final = "predictor_version"
"""Where the application leaves its version for this module, in the state of its life cycle."""
MAX_HEAD_BYTES: Final = 64 * 2**10
"""Request line and headers together."""
HEAD_SECONDS: Final = 10.0
"""Time to send a request line and headers, from the opening of the connection or the last answer."""
READ_SECONDS: Final = 10.0
MIN_READ_BYTES: Final = 8 * 2**10
"""A client that leaves an answer waiting must take this much of it in every READ_SECONDS."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_head = True
        self._heads = 0
        self._head_bytes = 0
        self._unread = 0
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)
        self._read_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        self._stop_watching()
        super().connection_lost(exc)

    # ---- the head of a request ----

    def data_received(self, data: bytes) -> None:
        before = (self._in_head, self._heads)
        super().data_received(data)
        if before == (True, self._heads):  # the head had not ended before this data, nor has it now
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(f"the head of the request has more than {MAX_HEAD_BYTES} bytes")

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._heads += 1
        self._head_timer.cancel()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()
        self.scope["state"][BODY_IS_HERE] = True

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline and not self.transport.is_closing():
            self._head_timer.cancel()
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP gets the one error shape, too."""
        response = error_response(MalformedRequest(msg), request_id := os.urandom(16).hex())
        headers = [
            *response.raw_headers,
            (b"x-request-id", request_id.encode()),
            (b"x-predictor-version", self.app_state.get(PREDICTOR_VERSION, "none").encode()),
            (b"connection", b"close"),
        ]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + head + b"\r\n" + bytes(response.body))
        self._give_up()

    # ---- an answer that is not read ----

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_watching()

    def timeout_keep_alive_handler(self) -> None:
        self._give_up()

    def _give_up(self) -> None:
        """Close, at once where nothing waits to be sent, otherwise as long as the client goes on reading."""
        if not self.transport.is_closing():
            self.transport.close()
        self._watch()

    def _watch(self) -> None:
        self._unread = self.transport.get_write_buffer_size()
        if self._unread and self._read_timer is None:
            self._read_timer = self.loop.call_later(READ_SECONDS, self._check_reading)

    def _check_reading(self) -> None:
        self._read_timer = None
        if self._unread - self.transport.get_write_buffer_size() < MIN_READ_BYTES:
            self.transport.abort()
        else:
            self._watch()

    def _stop_watching(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
