"""Long work of the service."""

from __future__ import annotations

import asyncio
import threading

import pytest
from fastewq.api.errors import OutOfTime
from fastewq.api.schemas import PlanRequest
from fastewq.api.service import LONG_BODY, Service
from fastewq.api.settings import Settings
from fastewq.api.threads import Threads


def test_work_that_is_given_up_keeps_its_thread():
    """Otherwise clients that ask for long work again and again would each get a thread more."""
    end, begun = threading.Event(), []

    def work() -> None:
        begun.append(1)
        end.wait()

    async def ask() -> None:
        threads = Threads(2, seconds=0.05)

        async def give_up() -> None:
            with pytest.raises(OutOfTime):
                await threads.run(work)

        for _ in range(1000):  # what a busy machine has not begun by then never is
            await give_up()
            if len(begun) == 2:
                break
        for _ in range(3):
            await give_up()
        assert len(begun) == 2
        end.set()
        assert await Threads(1, seconds=60).run(lambda: "done") == "done"

    asyncio.run(ask())
    assert len(begun) == 2


def test_work_that_raises_what_no_future_takes_ends_its_wait():
    def work() -> None:
        next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(Threads(1, seconds=60).run(work))


def test_a_long_body_is_read_beside_the_others(monkeypatch):
    """Reading ten megabytes takes a second, in which nobody else would be answered."""
    service, found = Service(Settings()), []
    service.load()
    monkeypatch.setattr(service.planner, "read", lambda *_: found.append(threading.current_thread().name))

    async def ask() -> None:
        for size in (100, LONG_BODY + 1):
            await service.read(b" " * size, PlanRequest)

    asyncio.run(ask())
    assert found[0] == threading.main_thread().name != found[1]
