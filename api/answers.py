"""Answers as they are sent: JSON bytes with their entity tag and headers encoded once."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response


class Answer:
    """A JSON document that can be sent many times."""

    __slots__ = ("body", "etag", "headers")

    def __init__(self, document: Any) -> None:
        self.body = orjson.dumps(document)
        self.etag = f'"{hashlib.blake2b(self.body, digest_size=16).hexdigest()}"'
        self.headers: list[tuple[bytes, bytes]] = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(self.body)).encode()),
            (b"etag", self.etag.encode()),
            # Caches must ask again: another predictor gives another plan.
            (b"cache-control", b"no-cache"),
        ]

    def to(self, request: Request) -> Response:
        """The response to this request: the document, or 304 where If-None-Match names it."""
        wanted = dict(request.scope["headers"]).get(b"if-none-match")
        if wanted is not None and self._is_one_of(wanted.decode("latin-1")):
            return Prepared(304, b"", self.headers[2:])
        return Prepared(200, self.body, self.headers)

    def _is_one_of(self, if_none_match: str) -> bool:
        """The weak comparison of RFC 9110, section 13.1.2."""
        tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
        return self.etag in tags or tags == ["*"]


class Prepared(Response):
    """A response whose headers are encoded already."""

    def __init__(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code, self.body, self.raw_headers, self.background = status, body, headers, None
