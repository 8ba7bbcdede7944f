"""Configs from a Hub, a folder, Parquet, JSONL or a list of ids -> DIR/configs.

What is new is written every few hundred models and at an interrupt, so a run that is killed loses at most the last of
them, and the next run asks only for what is missing or has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastewq.catalog.index import PASSING
from fastewq.catalog.schema import CONFIGS
from fastewq.catalog.store import Known, Store
from fastewq.errors import (
    FastEWQError,
    HubUnavailable,
    InputError,
    InvalidCheckpoint,
    InvalidConfig,
    InvalidDataset,
    NotFound,
    StorageFailure,
)
from fastewq.headers import HubFiles, read_headers
from fastewq.hub import BATCH, COMMIT, DEFAULT_REVISION, Filters, Hub, Listed, check_id, check_revision
from fastewq.jsonio import MAX_CONFIG_BYTES
from fastewq.shown import shown
from fastewq.stored import dump_tensors

IN_FLIGHT: Final = 16
"""Requests at once, far below what the Hub's rate limits allow; the waits they ask for hold all of them back."""
FLUSH_ROWS: Final = 500
FLUSH_SECONDS: Final = 20.0
IMPORT_ROWS: Final = 20_000
MAX_HEADERS: Final = 32 << 20
"""Characters of one model's list of tensors; a mixture of experts with 400,000 tensors stays below."""
REQUIRED: Final = ("id", "revision", "config")
ID: Final = r"^[^@\p{C}\p{Zl}\p{Zp}]{1,200}$"
"""What lines of output, `get ID@REVISION` and paths of the service can hold."""


@dataclass
class Counts:
    """What a collection did so far.

    found    all models seen;  total: how many there are at most, where that is known before all are seen
    failed   by error code
    stopped  why the Hub was not asked for the rest; None where it was
    """

    found: int = 0
    unchanged: int = 0
    added: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    total: int | None = None
    stopped: HubUnavailable | None = None

    @property
    def done(self) -> int:
        return self.unchanged + self.added + sum(self.failed.values())


Progress = Callable[[Counts], None]


def collect(
    store: Store,
    source: str,
    *,
    filters: Filters | None = None,
    hub: Hub | None = None,
    headers: bool = False,
    progress: Progress | None = None,
) -> Counts:
    """Collect from an INPUT: `hub://`, a folder of configs, a .parquet or .jsonl file, or a .txt file of ids.

    `filters` are for `hub://` alone, `headers` (read the safetensors headers as well) for it and lists of ids. A model
    that fails becomes a row with its error. Where the Hub cannot be reached, or its listing fails, what was fetched is
    kept and `Counts.stopped` says why. Raises NotFound, InputError, InvalidDataset, StorageFailure.
    """
    path = Path(source)
    report = progress or (lambda _: None)
    filters = filters or Filters()
    if source == "hub://":
        hub = hub or Hub(patience=BATCH)
        wanted = map(_Wanted.listed, hub.models(filters))
        return _from_hub(store, hub, wanted, Counts(total=filters.limit), report, headers)
    if filters != Filters():
        raise InputError(f"INPUT is {source}; author, task, library, downloads, since and limit filter hub:// alone")
    if headers and path.suffix != ".txt":
        raise InputError(f"INPUT is {source}; headers are read with hub:// and lists of ids alone")
    if path.is_dir():
        return _import(store, _folder_tables(path), report)
    if not path.is_file():
        raise NotFound(
            f"{source} does not exist", hint="Give hub://, a folder of configs, or a parquet, jsonl or txt file."
        )
    if path.suffix == ".parquet":
        return _import(store, _parquet_tables(path), report)
    if path.suffix == ".jsonl":
        return _import(store, _jsonl_tables(path), report)
    if path.suffix == ".txt":
        ids = dict.fromkeys(_wanted_ids(path))
        hub, counts = hub or Hub(patience=BATCH), Counts(total=len(ids))
        for named in (True, False):
            part = [model for model in ids if (model.revision != DEFAULT_REVISION) is named]
            if part and not counts.stopped:
                _from_hub(store, hub, part, counts, report, headers, named=named)
        return counts
    raise InvalidDataset(f"{source} has the suffix {path.suffix!r}; expected .parquet, .jsonl, .txt, or a folder")


# ---- from a Hub ----


@dataclass(frozen=True)
class _Wanted:
    """A model to fetch. `revision` is a commit, or a branch or tag to be resolved."""

    id: str
    revision: str
    task: str | None = None
    library: str | None = None
    downloads: int | None = None
    last_modified: str | None = None

    @classmethod
    def listed(cls, model: Listed) -> _Wanted:
        return cls(model.id, model.sha, model.task, model.library, model.downloads, model.last_modified)

    def row(self, revision: str, **rest: Any) -> dict[str, Any]:
        facts = {name: getattr(self, name) for name in ("task", "library", "downloads", "last_modified")}
        return {"id": self.id, "revision": revision, **facts, **rest}


def _wanted_ids(path: Path) -> Iterator[_Wanted]:
    """Lines of org/name or org/name@revision; blank lines and # comments are skipped."""
    for number, line in enumerate(_lines(path), 1):
        text = line.partition("#")[0].strip()
        if text:
            repo_id, _, revision = text.partition("@")
            try:
                yield _Wanted(check_id(repo_id), check_revision(revision or DEFAULT_REVISION))
            except NotFound as error:
                raise InvalidDataset(f"{path}, line {number}: {error.message}") from None


def _from_hub(
    store: Store,
    hub: Hub,
    wanted: Iterable[_Wanted],
    counts: Counts,
    progress: Progress,
    headers: bool,
    *,
    named: bool = False,
) -> Counts:
    """Fetch what is wanted but not known: of main branches the last that was collected counts, of revisions that a list
    named each by itself."""
    known = _Collected(store.revisions() if named else store.known(), named)
    buffer = _Buffer(store, named)
    models = iter(wanted)
    pending: set[Future[dict[str, Any]]] = set()
    pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="fastewq-collect")
    interrupted = False
    try:
        while True:
            before = counts.found
            for model in islice(models, 4 * IN_FLIGHT - len(pending)):
                counts.found += 1
                if known.holds(model):
                    counts.unchanged += 1
                else:
                    pending.add(pool.submit(_fetch, hub, model, headers))
            progress(counts)
            if not pending and counts.found == before:
                break
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                pending.remove(future)  # before it may raise: the others are taken in the end
                _take(future.result(), known, counts, buffer)
    except HubUnavailable as error:
        counts.stopped = error
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:
        # An interrupt ends what a Hub may hold back for minutes; anything else waits for the answers to come.
        pool.shutdown(wait=not interrupted, cancel_futures=True)
        for future in pending:
            if future.done() and not future.cancelled() and future.exception() is None:
                _take(future.result(), known, counts, buffer)
        buffer.flush()
    if counts.stopped and counts.done:
        counts.stopped = HubUnavailable(
            f"stopped after {counts.done:,} models: {counts.stopped.message}",
            hint="The same command goes on where it stopped, once the Hub can be reached.",
        )
    return counts


class _Collected:
    """What the store holds, by model or by revision."""

    def __init__(self, known: Mapping[Any, Known], by_revision: bool) -> None:
        self._known, self._by_revision = dict(known), by_revision

    def _key(self, repo_id: str, revision: str) -> Any:
        return (repo_id, revision) if self._by_revision else repo_id

    def holds(self, model: _Wanted) -> bool:
        """Whether asking again can bring nothing new. What a branch stands for, only the Hub knows."""
        last = self._known.get(self._key(model.id, model.revision))
        if last is None or not COMMIT.fullmatch(model.revision):
            return False
        return last.revision == model.revision and last.error_code not in PASSING

    def add(self, repo_id: str, found: Known) -> bool:
        """Whether that says anything new."""
        key = self._key(repo_id, found.revision)
        is_new = self._known.get(key) != found
        self._known[key] = found
        return is_new


def _fetch(hub: Hub, model: _Wanted, headers: bool) -> dict[str, Any]:
    """A row of CONFIGS: the config, or the error. Raised is an error on our own side, or of a Hub that is lost: what is
    wanted next would fail the same way."""
    try:
        data, commit = hub.fetch_config(model.id, model.revision)
        found = _headers(hub, model.id, commit) if headers else None
        return model.row(commit, config=_decoded(data, model.id), headers=found)
    except StorageFailure:
        raise
    except FastEWQError as error:
        if isinstance(error, HubUnavailable) and hub.lost:
            raise
        return model.row(model.revision, error_code=error.code, error_message=error.message)


def _headers(hub: Hub, repo_id: str, commit: str) -> str | None:
    """The tensors of a repository, or None where it has no safetensors files that can be read."""
    try:
        text = dump_tensors(read_headers(HubFiles(hub, repo_id, commit)))
    except (NotFound, InvalidCheckpoint):
        return None
    return text if len(text) <= MAX_HEADERS else None


def _decoded(data: bytes, repo_id: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidConfig(f"{repo_id}: config.json is not UTF-8 text: byte {error.start}") from None


def _take(row: dict[str, Any], known: _Collected, counts: Counts, buffer: _Buffer) -> None:
    """Count a row, and keep it if it says anything new: a branch may still stand for the commit that is known, and a
    listing names a model twice when it moves to another page meanwhile."""
    found = Known(row["revision"], row.get("error_code"))
    is_new = known.add(row["id"], found)
    if found.error_code:
        counts.failed[found.error_code] += 1
    elif is_new:
        counts.added += 1
    else:
        counts.unchanged += 1
    if is_new:
        buffer.add(row)


class _Buffer:
    """Rows on their way to a file."""

    def __init__(self, store: Store, named: bool) -> None:
        self._store, self._named = store, named
        self._rows: list[dict[str, Any]] = []
        self._since = time.monotonic()

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) >= FLUSH_ROWS or time.monotonic() - self._since > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        rows, self._rows, self._since = self._rows, [], time.monotonic()
        self._store.append(rows, named=self._named)


# ---- from files ----


def _import(store: Store, tables: Iterable[pa.Table], progress: Progress) -> Counts:
    """Add the rows whose (id, revision) the store does not have; a key that is twice in the input counts once."""
    seen = {key for key, known in store.revisions().items() if known.error_code is None}
    counts = Counts()
    for table in tables:
        ids, revisions = table["id"].to_pylist(), table["revision"].to_pylist()
        fresh = []
        for key in zip(ids, revisions, strict=True):
            fresh.append(key not in seen)
            seen.add(key)
        new = table.filter(pa.array(fresh, pa.bool_()))
        counts.found += len(table)
        counts.unchanged += len(table) - len(new)
        counts.added += store.append_table(new)
        progress(counts)
    return counts


def _parquet_tables(path: Path) -> Iterator[pa.Table]:
    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in REQUIRED if name not in file.schema_arrow.names]
            if missing:
                raise InvalidDataset(f"{path} lacks the column {missing[0]}; expected {', '.join(REQUIRED)}")
            names = [name for name in CONFIGS.names if name in file.schema_arrow.names]
            for batch in file.iter_batches(IMPORT_ROWS, columns=names):
                yield _conform(pa.Table.from_batches([batch]), str(path))
    except (OSError, pa.ArrowException) as error:
        raise InvalidDataset(f"{path} is not a Parquet file that can be read: {str(error)[:200]}") from error


def _jsonl_tables(path: Path) -> Iterator[pa.Table]:
    """One JSON object a line: id, config (text or object), and revision if there is one."""

    def rows() -> Iterator[dict[str, Any]]:
        for number, line in enumerate(_lines(path), 1):
            try:
                entry = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError):
                raise InvalidDataset(f"{path}, line {number}: not JSON") from None
            if entry is None:
                continue
            if not isinstance(entry, dict) or "id" not in entry or "config" not in entry:
                raise InvalidDataset(f"{path}, line {number}: expected an object with id, revision and config")
            for name in ("id", "revision"):
                if not isinstance(entry.setdefault(name), str | None):
                    raise InvalidDataset(f"{path}, line {number}: {name} is {shown(entry[name])}; expected a string")
            config = entry["config"]
            text = config if isinstance(config, str) else json.dumps(config)
            yield {"id": entry["id"], "revision": entry["revision"], "config": text}

    yield from _tables(rows(), str(path))


def _folder_tables(folder: Path) -> Iterator[pa.Table]:
    """NAME.json, where a double hyphen stands for the slash of an id, and ORG/NAME/config.json, beside and below which
    other files belong to the model."""

    def refuse(error: OSError) -> None:
        raise StorageFailure(f"{error.filename} cannot be read: {error.strerror}") from error

    walked = os.walk(folder, onerror=refuse)
    paths = sorted(Path(here, name) for here, _, names in walked for name in names if name.endswith(".json"))
    models = {path.parent for path in paths if path.name == "config.json"} - {folder}

    def is_config(path: Path) -> bool:
        own = path.parent if path.name == "config.json" else None
        return not any(parent in models and parent != own for parent in path.parents)

    paths = [path for path in paths if is_config(path)]
    if not paths:
        raise NotFound(f"{folder} holds no .json file", hint="Expected ORG/NAME/config.json or ORG--NAME.json.")

    def rows() -> Iterator[dict[str, Any]]:
        for path in paths:
            if path.name == "config.json" and path.parent != folder:
                repo_id = path.parent.relative_to(folder).as_posix()
            else:
                repo_id = path.relative_to(folder).as_posix().removesuffix(".json").replace("--", "/", 1)
            try:
                with path.open("rb") as stream:
                    data = stream.read(MAX_CONFIG_BYTES + 1)
            except OSError as error:
                raise StorageFailure(f"{path} cannot be read: {error.strerror}") from error
            yield {"id": repo_id, "revision": None, "config": data.decode(errors="replace")}

    yield from _tables(rows(), str(folder))


def _tables(rows: Iterator[dict[str, Any]], source: str) -> Iterator[pa.Table]:
    while chunk := list(islice(rows, IMPORT_ROWS)):
        try:
            table = pa.Table.from_pylist(chunk, CONFIGS)
        except UnicodeEncodeError as error:  # JSON can name half a character
            raise InvalidDataset(f"{source} holds text that is not Unicode: {error.reason}") from None
        yield _conform(table, source)


def _conform(table: pa.Table, source: str) -> pa.Table:
    """The table with exactly the columns of CONFIGS. A missing or empty revision becomes the hash of the config."""
    columns = {}
    for column in CONFIGS:
        if column.name in table.column_names and column.name not in (
            "sequence",
            "headers",
            "error_code",
            "error_message",
        ):
            try:
                columns[column.name] = table[column.name].cast(column.type)
            except pa.ArrowException as error:
                found = table[column.name].type
                raise InvalidDataset(f"{source}: column {column.name} is {found}; expected {column.type}") from error
        else:
            columns[column.name] = pa.nulls(len(table), column.type)
    for name in ("id", "config"):
        if columns[name].null_count:
            raise InvalidDataset(
                f"{source}: column {name} has {columns[name].null_count} missing values; expected none"
            )
    strange = columns["id"].filter(pc.invert(pc.match_substring_regex(columns["id"], ID)))
    if len(strange):
        first = shown(strange[0].as_py())
        raise InvalidDataset(f"{source}: an id is {first}; expected 1 to 200 characters of one line, without '@'")
    columns["revision"] = pc.if_else(pc.equal(columns["revision"], ""), None, columns["revision"])
    if columns["revision"].null_count:
        hashes = [hashlib.sha256(text.encode()).hexdigest()[:40] for text in columns["config"].to_pylist()]
        columns["revision"] = pc.coalesce(columns["revision"], pa.array(hashes, pa.string()))
    return pa.table(columns, CONFIGS)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            while line := stream.readline(MAX_CONFIG_BYTES * 2):
                yield line
    except OSError as error:
        raise StorageFailure(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidDataset(f"{path} cannot be read as UTF-8 text: {error}") from error
