"""The committed coverage table says what the registry and the golden tables say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_coverage_table_is_current(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, root / "tools" / "coverage.py", "--check"],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
