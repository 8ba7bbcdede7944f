"""What a request must pass before a route sees it, and how long the route may take."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import OutOfTime, Overloaded
from .settings import Settings

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/metrics"})
"""Answered even when the service is full: whoever watches it must be able to."""


class Guard:
    """ASGI middleware inside the envelope, which turns the errors raised here into answers."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self._in_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        if self._in_work >= self.settings.max_concurrency:
            raise Overloaded(f"{self._in_work} requests are in work; expected at most that many at a time")
        self._in_work += 1
        try:
            async with asyncio.timeout(self.settings.request_seconds):
                await self.app(scope, receive, send)
        except TimeoutError:
            raise OutOfTime(f"the answer took longer than {self.settings.request_seconds:g} seconds") from None
        finally:
            self._in_work -= 1
