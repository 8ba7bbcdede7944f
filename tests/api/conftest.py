from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from .server import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One service with default settings, shared by the tests that do not end or overload it."""
    with Server(drain_seconds=0) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client
