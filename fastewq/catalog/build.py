"""DIR/plans -> DIR/index.sqlite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fastewq.catalog.index import write_index
from fastewq.catalog.store import Store, damaged

ROWS_AT_ONCE = 5000


def build_index(store: Store) -> int:
    """Write the index of the newest plans; returns the number of entries. Raises NotFound, InvalidDataset."""
    version = store.newest_version()
    return write_index(store.index, _rows(store.files("models", version)), version.rpartition("+")[0])


def _rows(files: list[Path]) -> Iterator[dict[str, Any]]:
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(ROWS_AT_ONCE):
                    yield from batch.to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise damaged(path, error) from error
