"""What several test modules need. Nothing here depends on files outside the checkout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub.loopback import LoopbackHub
from hypothesis import HealthCheck, settings

# How long an example takes, and how long it takes to draw a few, says how busy the machine is.
settings.register_profile("fastewq", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fastewq")

ROOT = Path(__file__).parent.parent
REAL_CONFIGS = ROOT.parent / "shared" / "configs"


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def real_configs() -> Path:
    """Published configs kept beside some checkouts; they are other people's files and not part of the project."""
    if not (REAL_CONFIGS / "expected.json").is_file():
        pytest.skip("no folder of real configs beside this checkout (../shared/configs)")
    return REAL_CONFIGS


@pytest.fixture
def llama() -> dict[str, Any]:
    """A config of the project's own, a fresh copy for each test."""
    return json.loads((ROOT / "examples" / "llama-3.1-8b.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    """A Hub on loopback, shared by all tests: each adds repositories of its own."""
    with LoopbackHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub
