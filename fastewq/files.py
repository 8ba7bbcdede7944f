"""Writing files whole."""

from __future__ import annotations

import os
import threading
from pathlib import Path


def write_bytes(path: Path, data: bytes) -> None:
    """Write under a temporary name, then rename: a reader sees the old file or the new one, never a part.

    Raises OSError. Processes and threads that write one path at once do not meet: the last one stays.
    """
    partial = path.with_name(f".partial-{os.getpid()}-{threading.get_ident()}-{path.name}")
    partial.write_bytes(data)
    partial.replace(path)
