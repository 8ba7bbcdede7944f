"""Work beside the requests that are being answered: long work in threads, and what goes on as long as the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

from .errors import OutOfTime

T = TypeVar("T")


class Threads:
    """At most `count` threads. Work that nobody waits for any longer goes on in its thread, and keeps it until its end:
    giving up does not make room for more.
    """

    def __init__(self, count: int, seconds: float) -> None:
        self._pool = ThreadPoolExecutor(count)
        self._seconds = seconds

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """The result of the work. Raises OutOfTime where it is not there in time; work not begun by then never is."""
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.get_running_loop().run_in_executor(self._pool, partial(_done, work, *arguments))
        except TimeoutError:
            raise OutOfTime(f"the answer took longer than {self._seconds:g} seconds") from None


def _done(work: Callable[..., T], *arguments: object) -> T:
    """A defect that ends in StopIteration must end the wait too: no future takes that error."""
    try:
        return work(*arguments)
    except StopIteration as error:
        raise RuntimeError("the work raised StopIteration") from error


@asynccontextmanager
async def beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """While open, the work goes on; at the end it is cancelled."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
