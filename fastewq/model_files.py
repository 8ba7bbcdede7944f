"""The files of one model, wherever they are; here those of a folder, in `fastewq.headers` those of a repository."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from fastewq.errors import InvalidCheckpoint, NotFound, StorageFailure


class Files(Protocol):
    """The files of one model."""

    name: str

    def names(self) -> Sequence[str]: ...

    def read(self, file: str, limit: int) -> bytes:
        """A whole file of at most `limit` bytes."""

    def range(self, file: str, start: int, stop: int) -> tuple[bytes, int]:
        """The bytes start <= i < stop, fewer only where the file ends, and the file's size."""


class FolderFiles:
    """The files of a local folder."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder

    def names(self) -> Sequence[str]:
        try:
            return sorted(entry.name for entry in self._folder.iterdir() if entry.is_file())
        except OSError as error:
            raise StorageFailure(f"{self._folder} cannot be read: {error.strerror}") from error

    def read(self, file: str, limit: int) -> bytes:
        text, size = self.range(file, 0, limit)
        if size > limit:
            raise InvalidCheckpoint(f"{file} has {size} bytes; expected at most {limit}")
        return text

    def range(self, file: str, start: int, stop: int) -> tuple[bytes, int]:
        path = self._folder / file
        try:
            with path.open("rb") as stream:
                stream.seek(start)
                return stream.read(stop - start), path.stat().st_size
        except FileNotFoundError:
            raise NotFound(f"{path} does not exist") from None
        except OSError as error:
            raise StorageFailure(f"{path} cannot be read: {error.strerror}") from error
