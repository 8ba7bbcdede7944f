from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.server import Server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def workspace(tmp_path_factory) -> Path:
    """A folder in which the examples of the documentation run one after another: with the examples of the project, the
    reader's `config.json`, and a catalog that has the models asked for."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "examples", folder / "examples")
    for place in (".", "models/org/name", "models/Qwen/Qwen3-8B"):
        (folder / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "examples" / "llama-3.1-8b.json", folder / place / "config.json")
    run = run_shell("fastewq catalog build models -o catalog", folder)
    assert run.returncode == 0, run.stderr
    return folder


def run_shell(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    return subprocess.run(["bash", "-euc", code], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="session")
def docs_server(workspace) -> Iterator[Server]:
    with Server(drain_seconds=0, catalog=workspace / "catalog") as running:
        yield running
