"""What a request must pass before a route sees it."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from .access import Access
from .errors import Overloaded

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/metrics"})
"""Answered even when the service is full: whoever watches it must be able to."""
KEYED: Final = "/v1/"
"""Only what is below needs a key and counts towards the rate: the pages around it say nothing that is not public."""


class Places:
    """A context that so many may be in at a time; for one more it raises Overloaded."""

    def __init__(self, count: int, what: str) -> None:
        self._count, self._what = count, what
        self._taken = 0

    def __enter__(self) -> None:
        if self._taken >= self._count:
            raise Overloaded(f"{self._taken} {self._what} are in work; expected at most that many at a time")
        self._taken += 1

    def __exit__(self, *_: object) -> None:
        self._taken -= 1


class Guard:
    """ASGI middleware inside the envelope, which turns the errors raised here into answers.

    There is no timer here: a plan is made in one go, so a timer could not interrupt it. What can wait has limits of
    its own: reading a body, a batch, a look-up at the Hub.
    """

    def __init__(self, app: ASGIApp, access: Access, max_concurrency: int) -> None:
        self.app = app
        self.access = access
        self._places = Places(max_concurrency, "requests")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        with self._places:
            if scope["path"].startswith(KEYED):
                self.access.admit(scope)
            await self.app(scope, receive, send)
