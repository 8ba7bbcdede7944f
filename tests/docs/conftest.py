from __future__ import annotations

from collections.abc import Iterator

import pytest

from api.server import Server


@pytest.fixture(scope="session")
def docs_server() -> Iterator[Server]:
    with Server(drain_seconds=0) as running:
        yield running
