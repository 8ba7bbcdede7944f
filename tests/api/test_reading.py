"""Bodies whose client is slow, and bodies whose service is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from fastewq.api.errors import SlowRequest
from fastewq.api.reading import read_body
from starlette.requests import Request

PIECES = 8


def read(arrival: Callable[[], Awaitable[object]]) -> bytes:
    """The body of a request, of which each piece arrives once `arrival` is over; a hundredth of a second is given."""
    left = PIECES

    async def receive() -> dict[str, object]:
        nonlocal left
        await arrival()
        left -= 1
        return {"type": "http.request", "body": b"x", "more_body": left > 0}

    scope = {"type": "http", "query_string": b"", "headers": [(b"content-type", b"application/json")], "state": {}}
    return asyncio.run(read_body(Request(scope, receive), limit=PIECES, seconds=0.01))


def test_a_body_that_was_sent_in_time_is_read_by_a_busy_service():
    """Which has work of its own between the pieces, so that all of them together take longer than a client may."""

    async def after_work() -> None:
        await asyncio.sleep(0)
        time.sleep(0.02)

    assert read(after_work) == b"x" * PIECES


def test_a_body_that_is_sent_slowly_is_given_up():
    with pytest.raises(SlowRequest, match=r"within 0\.01 seconds"):
        read(lambda: asyncio.sleep(0.02))
