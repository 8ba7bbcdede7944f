"""DIR/configs -> DIR/plans/VERSION: one Daft DataFrame from configs to plans, in-process or on a Ray cluster.

    configs  --filter-->  those without a plan  --plan (batches, one booster call)-->  sink

The sink writes each batch of results as two files of the same name, blocks first and models second, each under a
temporary name and then renamed. A models file is therefore the mark that its rows are finished: whatever kills a run,
the next one keeps every finished batch (the filter leaves its rows out), removes what lacks the mark, and repeats
nothing else. Plans of another predictor or another FastEWQ live in another folder, so a new one re-plans everything
without fetching anything.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastewq.engine import Engine, stopping, worker_class  # before daft: it decides what daft does on import

# isort: split
import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from daft import DataType, col
from daft.io import DataSink
from daft.io.sink import WriteResult
from daft.recordbatch import MicroPartition
from daft.schema import Schema
from numpy.typing import NDArray

from fastewq import __version__
from fastewq.catalog.schema import BLOCKS, CONFIGS, MODELS, PLAN
from fastewq.catalog.store import Store, write_table
from fastewq.errors import StorageFailure
from fastewq.predictor import load_predictor

BATCH_ROWS: Final = 1000
"""Models planned and written together: about 40,000 blocks, and what a killed run repeats at most per worker."""


@dataclass(frozen=True)
class Predicted:
    """Rows planned or refused in this run, rows kept from earlier runs, and the folder of the plans."""

    new: int
    kept: int
    folder: Path


def predict(
    store: Store,
    *,
    artefact: Path | None = None,
    engine: Engine | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Predicted:
    """Plan every row of the store that has no plan by this predictor yet.

    Raises InvalidArtefact, StorageFailure. `progress(done, total)` is called as batches arrive.
    """
    version = plans_version(artefact)
    folder = store.plans(version)
    _remove_unfinished(folder)
    kept, total = store.rows("models", version), store.rows("configs")
    if total == kept:
        store.forget_other_plans(version)
        return Predicted(0, kept, folder)
    _give_back_memory()
    workers = (engine or Engine()).start()
    # Absolute paths, since the workers of a cluster run in another folder.
    frame = daft.read_parquet(str(store.configs.absolute() / "*.parquet"))
    if kept:
        planned: Any = daft.cls(_Planned)(*_runs(store.sequences(version)))
        frame = frame.where(planned.lacks(col("sequence")))
    planner = worker_class(_Planner, workers)
    ready = planner(artefact and str(artefact.absolute()), version)
    frame = frame.with_column("plan", ready(col("config"), col("headers")))
    sink = _Sink(folder.absolute(), progress, total - kept)
    with stopping("planning"):
        new = int(frame.write_sink(sink).to_pydict()["rows"][0])
    store.forget_other_plans(version)
    return Predicted(new, kept, folder)


def plans_version(artefact: Path | None = None) -> str:
    """What plans depend on besides their configs: the predictor, and the FastEWQ that reads the configs."""
    return f"{load_predictor(artefact).version}+{__version__}"


def _give_back_memory() -> None:
    """What collecting used and needs no longer, which this process would otherwise hold while its workers plan."""
    gc.collect()  # its lists of free objects keep pieces of memory that are free otherwise
    pa.default_memory_pool().release_unused()


class _Planned:
    """Which rows are planned already, as the first and last of each run of consecutive numbers: batches are written
    whole, so runs are few. A join would move every config to where its number is compared; these go to the configs.
    """

    def __init__(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> None:
        self._first, self._last = first, last

    @daft.method.batch(return_dtype=DataType.bool())
    def lacks(self, sequence: daft.Series) -> daft.Series:
        numbers = sequence.to_arrow().to_numpy()
        run = np.searchsorted(self._first, numbers, "right") - 1
        return daft.Series.from_numpy((run < 0) | (numbers > self._last[run]))


def _runs(numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ordered = np.sort(numbers)
    gaps = np.flatnonzero(np.diff(ordered) > 1)
    return ordered[[0, *(gaps + 1)]], ordered[[*gaps, -1]]


class _Planner:
    """One worker: loads the predictor once, then plans batches."""

    def __init__(self, artefact: str | None, version: str) -> None:
        """Raises StorageFailure where this machine of a cluster has another version than the command's."""
        from fastewq.catalog.batch import Batch

        folder = Path(artefact) if artefact else None
        if (found := plans_version(folder)) != version:
            raise StorageFailure(
                f"a worker has {found}, the command {version}; expected the same predictor and FastEWQ on every machine"
            )
        self._batch = Batch(load_predictor(folder))

    @daft.method.batch(return_dtype=DataType.from_arrow_type(PLAN), batch_size=BATCH_ROWS)
    def __call__(self, config: daft.Series, headers: daft.Series) -> pa.StructArray:
        return self._batch.plan(config.to_pylist(), headers.to_pylist())


class _Sink(DataSink[int]):
    """Writes batches of planned rows as models and blocks files."""

    def __init__(self, folder: Path, progress: Callable[[int, int], None] | None, total: int) -> None:
        self._folder = folder
        self._progress, self._total, self._done = progress, total, 0

    def __getstate__(self) -> dict[str, Any]:
        # Workers on other machines write; only the driver's own process can show progress.
        return {**self.__dict__, "_progress": None}

    def name(self) -> str:
        return "catalog"

    def schema(self) -> Schema:
        return Schema.from_pyarrow_schema(pa.schema([("rows", pa.int64())]))

    def write(self, micropartitions: Iterator[MicroPartition]) -> Iterator[WriteResult[int]]:
        for part in micropartitions:
            table = part.to_arrow()
            if len(table):
                size = write_batch(self._folder, table)
                self._done += len(table)
                if self._progress:
                    self._progress(self._done, self._total)
                yield WriteResult(result=len(table), bytes_written=size, rows_written=len(table))

    def finalize(self, write_results: list[WriteResult[int]]) -> MicroPartition:
        return MicroPartition.from_pydict({"rows": [sum(result.result for result in write_results)]})


def write_batch(folder: Path, table: pa.Table) -> int:
    """Write rows of CONFIGS with a `plan` column as a blocks file and then a models file; returns the bytes written.

    The name is a hash of the rows' keys.
    """
    table = table.combine_chunks()
    plan = pa.concat_arrays(table["plan"].chunks) if table["plan"].num_chunks else pa.array([], PLAN)
    keys = ",".join(map(str, table["sequence"].to_pylist()))
    name = hashlib.sha256(keys.encode()).hexdigest()[:32] + ".parquet"
    models = {field.name: table[field.name] for field in CONFIGS if not field.name.startswith("error_")}
    for field in ("error_code", "error_message"):
        models[field] = pc.coalesce(table[field], plan.field(field))
    models |= {field.name: plan.field(field.name) for field in MODELS if field.name not in models}
    lists = plan.field("blocks")
    rows, blocks = pc.list_parent_indices(lists), pc.list_flatten(lists)
    flat = {"id": table["id"].take(rows), "revision": table["revision"].take(rows)}
    flat |= {field.name: blocks.field(field.name) for field in BLOCKS if field.name not in flat}
    size = write_table(folder / "blocks" / name, pa.table(flat, BLOCKS))
    return size + write_table(folder / "models" / name, pa.table({n: models[n] for n in MODELS.names}, MODELS))


def _remove_unfinished(folder: Path) -> None:
    """Delete what an interrupted run left: temporary files, and blocks whose models were never written; and models
    whose blocks somebody deleted, so that they are planned again."""
    try:
        for kind in ("models", "blocks"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            for path in (folder / kind).iterdir():
                if path.suffix != ".parquet" or path.name.startswith("."):
                    path.unlink(missing_ok=True)
        names = [{path.name for path in (folder / kind).iterdir()} for kind in ("models", "blocks")]
        for name in names[0] ^ names[1]:
            for kind in ("models", "blocks"):
                (folder / kind / name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageFailure(f"{folder} cannot be prepared: {error.strerror}") from error
