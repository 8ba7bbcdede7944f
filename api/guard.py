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


class Guard:
    """ASGI middleware inside the envelope, which turns the errors raised here into answers.

    There is no timer here: a plan is made in one go, so a timer could not interrupt it. What can wait has limits of
    its own: reading a body, a batch, a look-up at the Hub.
    """

    def __init__(self, app: ASGIApp, access: Access, max_concurrency: int) -> None:
        self.app = app
        self.access = access
        self.max_concurrency = max_concurrency
        self._in_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        if self._in_work >= self.max_concurrency:
            raise Overloaded(f"{self._in_work} requests are in work; expected at most that many at a time")
        if scope["path"].startswith(KEYED):
            self.access.admit(scope)
        self._in_work += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._in_work -= 1
