"""Writing files whole."""

from __future__ import annotations

import csv
import io
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from fastewq.errors import StorageFailure


def write_bytes(path: Path, data: bytes) -> None:
    """Write under a temporary name, then rename: a reader sees the old file or the new one, never a part.

    Raises OSError, and leaves nothing behind. Processes and threads that write one path at once do not meet: the last
    one stays.
    """
    partial = path.with_name(f".partial-{os.getpid()}-{threading.get_ident()}-{path.name}")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def save(path: Path, data: bytes) -> None:
    """`write_bytes` for a file that was asked for. Raises StorageFailure, naming it."""
    try:
        write_bytes(path, data)
    except OSError as error:
        raise StorageFailure(f"{path} cannot be written: {error.strerror}") from error


def save_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """At least one row, its keys being the columns. Floats are exact (shortest representation), None is nothing.

    Raises StorageFailure.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    save(path, text.getvalue().encode())


def writable_folder(folder: Path) -> Path:
    """The folder, made where it is missing. Raises StorageFailure where nothing could be written to it.

    For commands that write only after long work, to say so before.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailure(f"the folder {folder} cannot be made: {error.strerror}") from error
    try:
        with TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise StorageFailure(f"the folder {folder} cannot be written to: {error.strerror}") from error
