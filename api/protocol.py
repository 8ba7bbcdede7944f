"""uvicorn's HTTP protocol, with bounds on what happens before a request and after its answer.

The application bounds bodies and work. It never sees a request line that does not end, or an answer that is not read;
without bounds on these, idle clients could hold connections and memory for ever. Nor does it see what is not HTTP: that
is refused here, in the one error shape, and after the answers to the requests before it.
"""

from __future__ import annotations

import asyncio
import math
import re
from http import HTTPStatus
from typing import Final

import httptools
import structlog
from uvicorn._types import ASGI3Application, ASGISendEvent, HTTPResponseBodyEvent, HTTPResponseStartEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from . import metrics
from .envelope import SAFE_HEADERS, new_request_id
from .errors import CodingNotSupported, MalformedRequest, ServiceError, VersionNotSupported, error_response
from .reading import BODY_IS_HERE
from .service import SERVICE

log = structlog.get_logger()

MAX_HEAD_BYTES: Final = 64 * 2**10
"""Request line and headers together; also what may come after a body's last chunk."""
HEAD_SECONDS: Final = 10.0
"""Time to send a request line and headers, from the opening of the connection or the last answer."""
READ_SECONDS: Final = 60.0
MAX_READS: Final = 5
"""A client that leaves an answer waiting must take some of it in every READ_SECONDS, and all of it in so many. Less
would not do: of a steady slow client, too, the buffers on the way empty in lumps."""
TOO_LONG: Final = f"the head of the request has more than {MAX_HEAD_BYTES} bytes"
CONNECTION_FIELDS: Final = frozenset({b"connection", b"transfer-encoding"})
"""Fields of an answer that say how it is sent."""
OTHER_VERSION: Final = ("Invalid HTTP version", "Pause on PRI/Upgrade")
"""What the parser says of a version it does not know, and of how HTTP/2 begins; as such it knows 0.9 and 2.0."""

HOST: Final = re.compile(rb"(\[[\w.:~!$&'()*+,;=-]+\]|[\w.~!$&'()*+,;=%-]*)(:\d*)?")
"""RFC 3986, section 3.2: a name or address, and a port."""
ABSOLUTE: Final = re.compile(rb"[A-Za-z]+://[^/?#]+([^#]*).*")
"""RFC 9112, section 3.2.2: a target that repeats scheme and host, as sent to a proxy, before path and query."""


def not_http(reason: str) -> MalformedRequest:
    return MalformedRequest(reason, hint="Send HTTP/1.1 as RFC 9112 has it.")


class Cycle(RequestResponseCycle):
    """One request and its answer, of which head and body are sent as one where the body is there at once.

    The server would send them by themselves, each with a system call and a packet that wakes the client, and look for
    line ends in every field alone: together that takes as long as reading a config.
    """

    _head = b""
    """Of the answer, while it waits for the body."""

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start" and not self.response_started:
            self._head = self._head_of(message)
            if self._head:
                self.response_started, self.waiting_for_100_continue = True, False
                return
        elif self._head and not self.disconnected:
            head, self._head = self._head, b""
            if message["type"] == "http.response.body" and self._is_whole(message):
                self.transport.write(head + message["body"])
                self._complete()
                return
            self.transport.write(head)
        await super().send(message)

    def _head_of(self, message: HTTPResponseStartEvent) -> bytes:
        """The head of an answer whose length is known; empty where the server has to see to it."""
        fields = [*self.default_headers, *message["headers"]]
        known = dict(fields)
        usual = b"".join(known).islower() and known.keys().isdisjoint(CONNECTION_FIELDS)
        if not usual or b"content-length" not in known:
            return b""
        lines = b"\r\n".join(map(b": ".join, fields))
        if not lines.count(b"\r") == lines.count(b"\n") == len(fields) - 1:  # a field with a line end
            return b""
        self.expected_content_length, self.chunked_encoding = int(known[b"content-length"]), False
        end = b"\r\n\r\n" if self.keep_alive else b"\r\nconnection: close\r\n\r\n"
        return STATUS_LINE[message["status"]] + lines + end

    def _is_whole(self, message: HTTPResponseBodyEvent) -> bool:
        """Whether this is all of an answer that can be written now."""
        sent = len(message["body"]) == self.expected_content_length and not message.get("more_body", False)
        return sent and self.scope["method"] != "HEAD" and not self.flow.write_paused

    def _complete(self) -> None:
        self.expected_content_length, self.response_complete = 0, True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class Protocol(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_head = True
        self._head_bytes = 0  # received since the parser last came to the end of a head, part of a body, or a body
        self._refusal: ServiceError | None = None
        self._in_work: RequestResponseCycle | None = None
        self._unread = 0
        self._reads_left = MAX_READS
        self._expect_head()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._check_head)
        self._read_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        self._stop_watching()
        if self._in_work is not None:  # which the server tells only of the latest request, that may still be waiting
            self._leave(self._in_work)
        super().connection_lost(exc)

    # ---- requests ----

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._refusal is not None:
            return
        self._head_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            cause = error.__context__ or error
            if isinstance(cause, ServiceError):
                self._refuse(cause)
            elif str(cause) in OTHER_VERSION:
                self._refuse(VersionNotSupported("the request is of an unknown version of HTTP; expected HTTP/1.1"))
            elif isinstance(cause, httptools.HttpParserError):
                self._refuse(not_http(str(cause)[:200]))
            else:  # our own fault, met while parsing
                log.error("unhandled error", exc_info=cause)
                self._refuse(not_http("the request could not be read"))
        else:
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(not_http(TOO_LONG))

    def _parse(self, data: bytes) -> None:
        """Feed the parser. Raises HttpParserError.

        A server may go on in HTTP/1.1 where a client offers another protocol (RFC 9110, section 7.8), as Java's does
        with every first request. The parser will not: it skips the body. So it is fed the head again without the offer.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                rest = data[upgrade.args[0] :]
                data = self._head_without_offer() + rest if self._offers_upgrade() else rest
            else:
                return

    def _offers_upgrade(self) -> bool:
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_headers_complete(self) -> None:
        if self._offers_upgrade():
            return
        if self._head_bytes > MAX_HEAD_BYTES:  # in one piece, perhaps with a body
            self._check_size()
        self._check_version()
        self._check_host()
        self._check_coding()
        if not self.url.startswith(b"/") and (absolute := ABSOLUTE.fullmatch(self.url)):
            self.url = absolute[1] if absolute[1].startswith(b"/") else b"/" + absolute[1]
        super().on_headers_complete()
        self.headers = []  # a field after the last chunk must not pass for one of the head, which the request has now
        self._in_head = False
        self._head_bytes = 0
        self._head_until = math.inf

    def _check_size(self) -> None:
        """Raises MalformedRequest."""
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES:
            raise not_http(TOO_LONG)

    def _check_version(self) -> None:
        """RFC 9110, section 15.6.6. Raises VersionNotSupported."""
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise VersionNotSupported(f"the request is HTTP/{version}; expected HTTP/1.1")

    def _check_host(self) -> None:
        """RFC 9112, section 3.2. Raises MalformedRequest."""
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) != 1 and (hosts or self.parser.get_http_version() != "1.0"):
            raise not_http(f"the request has {len(hosts)} Host headers; expected one")
        if hosts and HOST.fullmatch(hosts[0].strip(b" \t")) is None:
            raise not_http(
                f"Host is {hosts[0][:80].decode('latin-1')!r}; expected a name or address, perhaps with a port"
            )

    def _check_coding(self) -> None:
        """RFC 9112, section 6.1. That the last coding is "chunked", and no other, the parser sees to.

        Raises MalformedRequest, CodingNotSupported.
        """
        found = [value for name, value in self.headers if name == b"transfer-encoding"]
        if not found:
            return
        codings = b", ".join(found)
        if codings and self.parser.get_http_version() == "1.0":
            raise not_http("the request is HTTP/1.0 and has a Transfer-Encoding; expected a Content-Length")
        *others, last = codings.lower().split(b",")
        if others and last.strip() == b"chunked":
            raise CodingNotSupported(f"Transfer-Encoding is {codings[:80].decode('latin-1')!r}; expected 'chunked'")

    def _expect_head(self) -> None:
        self._head_until = self.loop.time() + HEAD_SECONDS

    def _check_head(self) -> None:
        """Give up where a head is late, else look again: a timer set for each request would take longer."""
        left = self._head_until - self.loop.time()
        if left > 0:
            self._head_timer = self.loop.call_later(min(left, HEAD_SECONDS), self._check_head)
        else:
            self._give_up()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._in_head:  # an offer of another protocol, of which the head will come again
            return
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()
        self.scope["state"][BODY_IS_HERE] = True

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._in_work = cycle
        cycle.__class__ = Cycle  # the server itself names the class that it makes
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._in_work = None
        last = not self.pipeline
        super().on_response_complete()
        if last and not self.transport.is_closing():
            if self._refusal is not None:
                self._send_refusal(self._refusal)
            else:
                self._expect_head()

    # ---- what is not HTTP ----

    def _refuse(self, refusal: ServiceError) -> None:
        """Answer with the error in its turn, after the requests that came before, and close."""
        if self._refusal is not None or self.transport.is_closing():
            return
        self._refusal = refusal
        if not self._in_head and self.pipeline:  # the fault is in the body of a request that waits
            self.pipeline.popleft()
        elif not self._in_head:  # in that of the one request in work, to which its client is then gone
            self._leave(self.cycle)
            if self.cycle.response_started:
                self._give_up()
            else:
                self._send_refusal(refusal)
        elif self.cycle is None or self.cycle.response_complete:
            self._send_refusal(refusal)

    def _leave(self, cycle: RequestResponseCycle) -> None:
        """Tell the application that nobody waits for its answer to this request."""
        cycle.disconnected = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()

    def _send_refusal(self, refusal: ServiceError) -> None:
        request_id = new_request_id()
        response = error_response(refusal, request_id)
        status = HTTPStatus(response.status_code)
        log.warning("not HTTP", request_id=request_id, status=status, reason=refusal.message)
        metrics.observe_request("other", "other", status, seconds=0)
        headers = [
            *self.server_state.default_headers,
            *response.raw_headers,
            *SAFE_HEADERS,
            (b"x-request-id", request_id.encode()),
            (b"x-predictor-version", self.app_state[SERVICE].version.encode()),
            (b"connection", b"close"),
        ]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        start = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
        self.transport.write(start + head + b"\r\n" + bytes(response.body))
        # Read on for a while: closed with data unread, the connection would be reset, and the answer perhaps lost.
        self.transport.write_eof()
        self._expect_head()

    # ---- an answer that is not read ----

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reads_left = MAX_READS
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
        self._reads_left -= 1
        if self._reads_left == 0 or self.transport.get_write_buffer_size() >= self._unread:
            self.transport.abort()
        else:
            self._watch()

    def _stop_watching(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
