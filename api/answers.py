"""Answers as they are sent: JSON bytes with their entity tag and headers encoded once."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from xxhash import xxh3_128_hexdigest

from .guard import OWN_BYTES


class Prepared(Response):
    """A response that can be sent many times, its headers encoded already."""

    def __init__(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code, self.body, self.raw_headers, self.background = status, body, headers, None

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if len(self.body) > OWN_BYTES:
            # The server takes a body at once, however slowly the client reads, and waits for the client only before the
            # next piece. Until then this request has to hold the memory.
            await send({"type": "http.response.body", "body": self.body, "more_body": True})
            await send({"type": "http.response.body"})
        else:
            await send({"type": "http.response.body", "body": self.body})


class Answer(Prepared):
    """A JSON document and its entity tag."""

    def __init__(self, body: bytes) -> None:
        # The tag tells answers apart and guards nothing, so it need not be hard to find another body with it.
        self.etag = f'"{xxh3_128_hexdigest(body)}"'
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"etag", self.etag.encode()),
            # Caches must ask again: another predictor gives another plan.
            (b"cache-control", b"no-cache"),
        ]
        super().__init__(200, body, headers)

    def unless_known(self, request: Request) -> Response:
        """This answer to a GET, or 304 where If-None-Match names it.

        Not for POST: nothing at a path that takes POST alone could match, so RFC 9110, section 13.1.2, lets it pass.
        """
        if self._is_one_of(",".join(request.headers.getlist("if-none-match"))):
            return Prepared(304, b"", self.raw_headers[2:])
        return self

    def _is_one_of(self, if_none_match: str) -> bool:
        """The weak comparison of RFC 9110, section 13.1.2."""
        tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
        return self.etag in tags or tags == ["*"]
