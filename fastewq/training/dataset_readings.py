"""Tensors -> readings -> blocks: one Daft DataFrame with the entropy kernel as its function, in-process or on Ray.

    tensors  --measure, unless finished before-->  readings  --group by source, stack, block-->  blocks

Every worker appends each reading to a log of its own as soon as it has it: one JSON line, in a folder that all workers
share. Whatever kills a run leaves whole lines and at most one broken one per worker, which is dropped; the next run
takes what the logs hold and measures only the rest. The folder's name is a digest of all that decides the last bit of a
reading: the code, the packages that compile it, the processor that it is compiled for. Floats are written as Python's
shortest exact representation, so a logged reading equals the measured one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastewq.engine import Engine, stopping, worker_class  # before daft: it decides what daft does on import

# isort: split
import daft
import llvmlite.binding as llvm
import pyarrow as pa
from daft import DataType, col

from fastewq import analysis
from fastewq.analysis.checkpoints import ByteSource, Checkpoint, LocalFiles
from fastewq.analysis.kernel import ROUNDING_BITS, Reading, measure
from fastewq.analysis.remote import HubSource
from fastewq.analysis.tensors import TensorInfo
from fastewq.errors import FastEWQError, StorageFailure, error_of
from fastewq.headers import HubFiles
from fastewq.hub import Hub, Patience
from fastewq.training.dataset_sources import HUB, OpenedSource

EPSILONS = (0.0, 1e-12, 1e-4, 0.01)
"""Every reading has the entropy for each of these, so that labels can be recomputed under another one."""

BATCH = 16
"""Tensors that a worker is given at a time."""
PARTITIONS_PER_WORKER = 8
OPEN_SOURCES = 2
"""Sources that a worker keeps open; opening a repository of the Hub again costs a request."""
WATCH_SECONDS = 0.25

Progress = Callable[[int, int], None]
"""Called with (bytes of tensors finished, bytes in all)."""

STORED = pa.struct(
    [
        ("name", pa.string()),
        ("shape", pa.list_(pa.int64())),
        ("dtype", pa.string()),
        ("file", pa.string()),
        ("offset", pa.int64()),
        ("nbytes", pa.int64()),
    ]
)
READING = pa.struct(
    [
        ("key", pa.string()),
        ("count", pa.int64()),
        ("entropies", pa.list_(pa.float64())),
        ("minimum", pa.float64()),
        ("maximum", pa.float64()),
        ("mean", pa.float64()),
        ("variance", pa.float64()),
        ("kurtosis", pa.float64()),
        ("zeros", pa.float64()),
        ("rounding_error", pa.list_(pa.float64())),
        ("rounding_rows", pa.int64()),
        ("error_code", pa.string()),
        ("error_message", pa.string()),
    ]
)
"""A `kernel.Reading` by EPSILONS and ROUNDING_BITS, or the error in its place."""
TENSORS = pa.schema(
    [
        ("source", pa.int64()),
        ("stack", pa.string()),
        ("exec_index", pa.int64()),
        ("key", pa.string()),
        ("where", pa.string()),
        ("tensor", STORED),
        ("scale", STORED),
        ("part", pa.int64()),
        ("finished", READING),
    ]
)
"""One row per matrix or vector of a block; `finished` is its reading where an earlier run has it."""

Read = Mapping[str, Reading | FastEWQError]
"""Key of a tensor -> its reading, or why there is none."""


def read_sources(
    sources: Sequence[OpenedSource],
    log: Log,
    *,
    hub: Hub,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> dict[tuple[int, str, int], Read]:
    """The readings of every block: (number of the source, stack, block) -> its tensors'.

    A source that fails while it is read has errors among its tensors. Raises StorageFailure if readings cannot be kept.
    """
    if not sources:
        return {}
    engine = engine or Engine(workers=1)
    in_process = engine.name == "local" and engine.workers in (None, 1)
    workers = engine.start()
    if in_process:
        workers = 1
    finished = log.readings()
    table = _tensors(sources, finished)
    arguments = (str(log.folder.absolute()), max(1, (os.cpu_count() or 1) // workers), hub.endpoint, hub.patience)
    reader = daft.cls(_Reader, use_process=False) if in_process else worker_class(_Reader, workers)
    frame = daft.from_arrow(table)
    if engine.name == "ray":
        frame = frame.into_partitions(workers * PARTITIONS_PER_WORKER)
    columns = [col(name) for name in ("key", "source", "where", "tensor", "scale", "part", "finished")]
    frame = frame.with_column("reading", reader(*arguments)(*columns))
    blocks = frame.groupby("source", "stack", "exec_index").agg(col("reading").list_agg())
    sizes = {s.key(t): t.nbytes for s in sources for t in s.tensors}
    with _watching(log, sizes, set(finished), progress), stopping("reading"):
        rows = blocks.to_pylist()
    return {
        (row["source"], row["stack"], row["exec_index"]): {r["key"]: _reading_or_error(r) for r in row["reading"]}
        for row in rows
    }


def _tensors(sources: Sequence[OpenedSource], finished: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """Rows of TENSORS, each source's in the order of its files, so that a worker reads forward."""
    rows = []
    for number, source in enumerate(sources):
        for tensor in sorted(source.tensors, key=lambda t: (t.info.file, t.info.offset, t.part)):
            key = source.key(tensor)
            rows.append(
                {
                    "source": number,
                    "stack": tensor.stack,
                    "exec_index": tensor.exec_index,
                    "key": key,
                    "where": source.where,
                    "tensor": asdict(tensor.info),
                    "scale": asdict(tensor.scale) if tensor.scale else None,
                    "part": tensor.part,
                    "finished": finished.get(key),
                }
            )
    return pa.Table.from_pylist(rows, TENSORS)


# --- the function of the DataFrame ------------------------------------------------------------------------------------


class _Reader:
    """One worker: reads tensors one after another, with `threads` threads, and keeps every reading in its log."""

    def __init__(self, log: str, threads: int, endpoint: str, patience: Patience) -> None:
        self._log = Log(Path(log))
        self._threads = threads
        self._endpoint, self._patience = endpoint, patience
        self._sources: OrderedDict[str, LocalFiles | HubSource] = OrderedDict()
        self._failed: dict[int, FastEWQError] = {}
        self._lock = threading.Lock()  # in-process, Daft calls one reader from several threads

    @daft.method.batch(return_dtype=DataType.from_arrow_type(READING), batch_size=BATCH)
    def __call__(
        self,
        key: daft.Series,
        source: daft.Series,
        where: daft.Series,
        tensor: daft.Series,
        scale: daft.Series,
        part: daft.Series,
        finished: daft.Series,
    ) -> pa.StructArray:
        rows = zip(*(column.to_pylist() for column in (key, source, where, tensor, scale, part, finished)), strict=True)
        return pa.array([done if done and done["key"] else self._read(*row) for *row, done in rows], READING)

    def _read(
        self, key: str, source: int, where: str, tensor: Mapping[str, Any], scale: Any, part: int
    ) -> dict[str, Any]:
        with self._lock:
            try:
                if source in self._failed:  # the rest of it would be read in vain
                    raise self._failed[source]
                infos = [_info(stored) for stored in (tensor, scale) if stored]
                checkpoint = Checkpoint(where, tuple(infos), self._open(where))
                reading = measure(checkpoint.matrices(infos[0])[part], EPSILONS, threads=self._threads)
            except FastEWQError as error:
                self._failed[source] = error
                return {"key": key, "error_code": error.code, "error_message": error.message}
            row = _row(key, reading)
            self._log.add(row)
            return row

    def _open(self, where: str) -> ByteSource:
        if where not in self._sources:
            while len(self._sources) >= OPEN_SOURCES:
                _, oldest = self._sources.popitem(last=False)
                if isinstance(oldest, HubSource):
                    oldest.close()
            if where.startswith(HUB):
                repo_id, _, commit = where.removeprefix(HUB).partition("@")
                hub = Hub(endpoint=self._endpoint, patience=self._patience)
                self._sources[where] = HubSource(HubFiles(hub, repo_id, commit))
            else:
                self._sources[where] = LocalFiles(Path(where))
        self._sources.move_to_end(where)
        for other, source in self._sources.items():
            if other != where and isinstance(source, HubSource):
                source.forget()
        return self._sources[where]


def _info(stored: Mapping[str, Any]) -> TensorInfo:
    return TensorInfo(**{**stored, "shape": tuple(stored["shape"])})


def _row(key: str, reading: Reading) -> dict[str, Any]:
    """A reading as a row of READING."""
    fields = {name: getattr(reading, name) for name in Reading.__slots__}
    entropies = [reading.entropies[eps] for eps in EPSILONS]
    rounding = [reading.rounding_error[bits] for bits in ROUNDING_BITS if bits in reading.rounding_error]
    return {"key": key, **fields, "entropies": entropies, "rounding_error": rounding}


def _reading_or_error(row: Mapping[str, Any]) -> Reading | FastEWQError:
    if row.get("error_code"):
        return error_of(row["error_code"], row["error_message"])
    fields = {name: row[name] for name in Reading.__slots__}
    fields["entropies"] = dict(zip(EPSILONS, row["entropies"], strict=True))
    # Vectors have no rounding errors.
    fields["rounding_error"] = dict(zip(ROUNDING_BITS, row["rounding_error"] or [], strict=False))
    return Reading(**fields)


# --- what is kept -----------------------------------------------------------------------------------------------------


class Log:
    """A folder of finished readings: JSON Lines, a file per worker, each line appended by one write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own: Path | None = None

    @classmethod
    def of_this_code(cls, folder: Path) -> Log:
        """The log in the subfolder for readings made with EPSILONS by the code and on the processor as they are now."""
        code = b"".join(path.read_bytes() for path in sorted(Path(analysis.__path__[0]).glob("*.py")))
        compilers = [(name, version(name)) for name in ("numpy", "numba", "llvmlite", "gguf")]
        processor = (llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())  # sums run in its lanes
        digest = hashlib.sha256(code + repr((EPSILONS, READING, compilers, processor)).encode()).hexdigest()
        return cls(folder / digest[:16])

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a row of READING. Raises StorageFailure."""
        try:
            if self._own is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._own = self.folder / f"{uuid.uuid4().hex}.jsonl"
            with self._own.open("ab", buffering=0) as stream:
                stream.write(json.dumps(row).encode() + b"\n")
        except OSError as error:
            raise StorageFailure(f"cannot keep readings in {self.folder}: {error}") from error

    def readings(self) -> dict[str, dict[str, Any]]:
        """Key -> row of READING, from every whole line of every file. Raises StorageFailure."""
        found = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            try:
                content = path.read_bytes()
            except OSError as error:
                raise StorageFailure(f"cannot read {path}: {error}") from error
            for line in content.splitlines(keepends=True):
                row = _whole(line)
                if row is not None:
                    found[row["key"]] = row
        return found

    def clear(self) -> None:
        """Forget every reading."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _whole(line: bytes) -> dict[str, Any] | None:
    """The row of a line that was written to its end, None for any other."""
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
        whole = isinstance(row, dict) and isinstance(row["key"], str) and isinstance(_reading_or_error(row), Reading)
    except (ValueError, KeyError, TypeError):
        return None
    return row if whole else None


@contextmanager
def _watching(log: Log, sizes: Mapping[str, int], kept: set[str], progress: Progress | None) -> Iterator[None]:
    """Report the bytes of the tensors in the log, whichever process or machine adds them."""
    if progress is None:
        yield
        return
    total = sum(sizes.values())
    ended = threading.Event()

    positions = {path: path.stat().st_size for path in log.folder.glob("*.jsonl")}

    def watch() -> None:
        done = sum(sizes[key] for key in kept if key in sizes)
        while not ended.wait(WATCH_SECONDS):
            for path in log.folder.glob("*.jsonl"):
                with path.open("rb") as stream:
                    stream.seek(positions.get(path, 0))
                    lines = stream.read().rpartition(b"\n")[0]
                positions[path] = positions.get(path, 0) + (len(lines) + 1 if lines else 0)
                done += sum(sizes.get(json.loads(line)["key"], 0) for line in lines.splitlines())
            progress(min(done, total), total)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    progress(total, total)
