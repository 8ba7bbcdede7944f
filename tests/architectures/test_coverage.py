"""The committed coverage table says what the registry and the golden tables say."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def coverage(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_table", root / "tools" / "coverage_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_coverage_table_is_current(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, root / "tools" / "coverage_table.py", "--check"],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_types_of_most_downloads_are_exact(coverage: ModuleType) -> None:
    popular = [name for names in coverage.POPULAR.values() for name in names.split()]
    tables = coverage.tables()
    assert len(popular) == len(set(popular)) >= 60
    assert [name for name in popular if name not in tables] == []
    assert [name for name in popular if tables[name]["agree"] < 50] == []
