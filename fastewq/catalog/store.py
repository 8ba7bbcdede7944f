"""The files of a catalog folder.

    DIR/configs/000007.parquet              what was collected, in the order of the numbers; never rewritten
    DIR/plans/VERSION/models/NAME.parquet   finished plans by PREDICTOR+FASTEWQ, their versions
    DIR/plans/VERSION/blocks/NAME.parquet   their blocks
    DIR/index.sqlite                        for lookups
    DIR/lock                                held while something is written

Every file appears under its name only when it is complete.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from fastewq.catalog.schema import CONFIGS
from fastewq.errors import InvalidDataset, NotFound, StorageFailure

ROW_GROUP: Final = 5000
"""Rows that a reader must hold at once."""
NAMED: Final = -(1 << 62)
"""Added to the `sequence` of a revision that a list named: whenever it was collected, main stays the newest."""
_VERSION: Final = re.compile(r"[\w.+-]{1,100}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{8,10}")


class Known(NamedTuple):
    """What the store holds last: a revision, and the error in place of its config."""

    revision: str
    error_code: str | None


class Store:
    """A catalog folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.configs = folder / "configs"
        self.index = folder / "index.sqlite"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for writing. Raises StorageFailure if another process does."""
        try:
            self.configs.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / "lock")
            lock.acquire(timeout=0)
        except Timeout:
            raise StorageFailure(f"{self.folder} is in use by another `fastewq catalog` command") from None
        except OSError as error:
            raise StorageFailure(f"{self.folder} cannot be written: {error.strerror}") from error
        try:
            # What killed commands left; indexes of a million models are large.
            for path in (*self.configs.glob(".*"), *self.folder.glob(f".{self.index.name}.*")):
                path.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def plans(self, version: str) -> Path:
        """The folder of the plans of a version."""
        if not _VERSION.fullmatch(version) or version.startswith("."):
            raise InvalidDataset(
                f"the predictor's version is {version!r:.100}; expected letters, digits, '.', '-', '_'"
            )
        return self.folder / "plans" / version

    def versions(self) -> list[str]:
        """Versions with plans, the most recently written last."""
        folder = self.folder / "plans"
        found = [path for path in folder.iterdir() if (path / "models").is_dir()] if folder.is_dir() else []
        return [path.name for path in sorted(found, key=lambda path: (path / "models").stat().st_mtime_ns)]

    def newest_version(self) -> str:
        """The version that wrote last. Raises NotFound where there are no plans."""
        versions = self.versions()
        if not versions:
            raise NotFound(f"{self.folder} has no plans", hint="`fastewq catalog build INPUT -o DIR` makes them.")
        return versions[-1]

    def forget_other_plans(self, version: str) -> None:
        """Remove the plans of every other version."""
        for other in self.versions():
            if other != version:
                shutil.rmtree(self.plans(other), ignore_errors=True)

    def files(self, kind: str, version: str | None = None) -> list[Path]:
        """The Parquet files of `configs`, or of the `models` or `blocks` of a version, in order of their names.

        Raises InvalidDataset for a file of `configs` that no command wrote: what it holds would count twice.
        """
        folder = self.configs if version is None else self.plans(version) / kind
        found = sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))
        strange = [path for path in found if version is None and not _NUMBER.fullmatch(path.stem)]
        if strange:
            raise InvalidDataset(
                f"{strange[0]} is no file of a catalog; expected names such as 00000007.parquet", hint="Move it away."
            )
        return found

    def rows(self, kind: str, version: str | None = None) -> int:
        """Rows of all files, from their footers."""
        return sum(_metadata(path).num_rows for path in self.files(kind, version))

    def sequences(self, version: str) -> NDArray[np.int64]:
        """The `sequence` of every finished plan of a version."""
        tables = [read_columns(path, ["sequence"]) for path in self.files("models", version)]
        found: NDArray[np.int64] = pa.concat_tables(tables)["sequence"].to_numpy()
        return found

    def known(self) -> dict[str, Known]:
        """id -> what was collected last of its main branch, or from files."""
        return {row_id: known for row_id, known, sequence in self._rows() if sequence >= 0}

    def revisions(self) -> dict[tuple[str, str], Known]:
        """(id, revision) -> what was collected last of it."""
        return {(row_id, known.revision): known for row_id, known, _ in self._rows()}

    def _rows(self) -> Iterator[tuple[str, Known, int]]:
        """id, what is known, and `sequence` of every row of `configs`."""
        for path in self.files("configs"):
            table = read_columns(path, ["id", "revision", "error_code", "sequence"])
            for row_id, *known, sequence in zip(*(column.to_pylist() for column in table.columns), strict=True):
                yield row_id, Known(*known), sequence

    def append(self, rows: Iterable[Mapping[str, Any]], *, named: bool = False) -> int:
        """Add rows of CONFIGS (without `sequence`, which counts up) as one new file; returns how many.

        named  they are of revisions that a list named, each of which may be older than what is known
        """
        table = pa.Table.from_pylist([dict(row) for row in rows], CONFIGS)
        return self.append_table(table, named=named)

    def append_table(self, table: pa.Table, *, named: bool = False) -> int:
        """`append` for rows that are a table already; `sequence` is filled in."""
        if not len(table):
            return 0
        files = self.files("configs")
        number = int(files[-1].stem) + 1 if files else 0
        start = (number << 24) + (NAMED if named else 0)
        sequence = pa.array(range(start, start + len(table)), pa.int64())
        position = table.schema.get_field_index("sequence")
        write_table(
            self.configs / f"{number:08}.parquet", table.set_column(position, CONFIGS.field("sequence"), sequence)
        )
        return len(table)


def read_columns(path: Path, columns: list[str]) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error) from error


def _metadata(path: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> InvalidDataset | StorageFailure:
    """A file of the folder that cannot be read, and, if that is its own fault, how to do without it."""
    if isinstance(error, OSError) and error.errno:
        return StorageFailure(f"{path} cannot be read: {os.strerror(error.errno)}")
    if path.parent.name in ("models", "blocks"):
        hint = "Delete it: the next build plans its models again."
    else:
        # Its numbers may be given to other rows then, and plans are found by them.
        plans = path.parent.parent / "plans"
        hint = f"Delete it and {plans}: the next build collects its models again, and plans all of them."
    return InvalidDataset(f"{path} cannot be read: {str(error).splitlines()[0][:200]}", hint=hint)


def write_table(path: Path, table: pa.Table) -> int:
    """Write a Parquet file under a temporary name, flush it, rename it, flush the name; returns its size in bytes.

    Whatever is written next can then count on the file, even if the power fails.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            pq.write_table(table, stream, compression="zstd", row_group_size=ROW_GROUP)
            stream.flush()
            os.fsync(stream.fileno())
        size = temporary.stat().st_size
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageFailure(f"{path} cannot be written: {error.strerror}") from error
    return size


def _flush_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows, which opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some mounts refuse it for folders; the file itself is flushed
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
