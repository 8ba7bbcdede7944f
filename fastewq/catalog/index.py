"""A read-only SQLite file with one row per model revision: lookups in microseconds, search, and the plan itself.

Reading needs nothing but the standard library and fastewq's core. A new index is built under another name and renamed
over the old one; a `Catalog` notices and reads the new file from its next call on, so a service needs no restart and
nobody ever sees half an index.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastewq.errors import InputError, InvalidDataset, NotFound, StorageFailure
from fastewq.jsonio import parse_config
from fastewq.shown import shown

if TYPE_CHECKING:
    from fastewq.architecture import Architecture
    from fastewq.document import Plan
    from fastewq.predictor import Predictor

PASSING: Final = ("hub_unavailable", "access_denied")
"""Errors that may be over at the same revision: such models are asked for again. Others last until it changes."""
FORMAT: Final = 1
"""Raised whenever the tables or their meaning change; an index of another format is refused."""
CHECK_SECONDS: Final = 0.5
"""How often a reader looks whether the file was replaced."""
MAIN: Final = "main"
"""The branch that a revision stands for where none is named."""
MAX_PAGE: Final = 1000
MAX_INTEGER: Final = 2**63 - 1
"""The largest that SQLite holds."""
POLICY_COLUMNS: Final[Mapping[str, str]] = {
    "8bit-mixed": "bytes_8bit_mixed",
    "4bit-8bit-mixed": "bytes_4bit_8bit_mixed",
    "ternary-mixed": "bytes_ternary_mixed",
    "keep-ends": "bytes_keep_ends",
}

_SCHEMA: Final = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE configs (hash TEXT PRIMARY KEY, text BLOB NOT NULL, headers BLOB) WITHOUT ROWID;
CREATE TABLE models (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL, revision TEXT NOT NULL, newest INTEGER NOT NULL,
  error_code TEXT, error_message TEXT,
  task TEXT, library TEXT, downloads INTEGER, last_modified TEXT,
  model_type TEXT, dtype TEXT, parameters INTEGER, stacks INTEGER, num_blocks INTEGER,
  exact INTEGER, already_quantized INTEGER, headers_agree INTEGER, confidence TEXT, raw_bytes INTEGER,
  bytes_8bit_mixed INTEGER, bytes_4bit_8bit_mixed INTEGER, bytes_ternary_mixed INTEGER, bytes_keep_ends INTEGER,
  warnings TEXT, config_hash TEXT, predictor TEXT
);
"""
_INDEXES: Final = """
CREATE INDEX by_id ON models (id, newest DESC);
CREATE INDEX by_type ON models (model_type, number) WHERE newest;
CREATE INDEX by_task ON models (task, number) WHERE newest;
CREATE INDEX by_bytes ON models (bytes_4bit_8bit_mixed) WHERE newest;
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One model revision. Sizes in bytes; None where the config was refused (`error_code` says why)."""

    id: str
    revision: str
    newest: bool
    error_code: str | None
    error_message: str | None
    task: str | None
    library: str | None
    downloads: int | None
    last_modified: str | None
    model_type: str | None
    dtype: str | None
    parameters: int | None
    stacks: int | None
    num_blocks: int | None
    exact: bool | None
    already_quantized: bool | None
    headers_agree: bool | None
    confidence: str | None
    raw_bytes: int | None
    bytes_8bit_mixed: int | None
    bytes_4bit_8bit_mixed: int | None
    bytes_ternary_mixed: int | None
    bytes_keep_ends: int | None
    warnings: tuple[str, ...]
    config_hash: str | None
    predictor: str

    def as_dict(self) -> dict[str, Any]:
        document = {name: getattr(self, name) for name in COLUMNS}
        return {**document, "warnings": list(self.warnings)}


COLUMNS: Final = tuple(field.name for field in fields(Entry))
_SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM models"
_GET: Final = f"{_SELECT} WHERE id = ? ORDER BY newest DESC LIMIT 1"
_GET_REVISION: Final = f"{_SELECT} WHERE id = ? AND revision = ?"


def _entry(row: Sequence[Any]) -> Entry:
    values = list(row)
    for index in _FLAGS:
        values[index] = None if values[index] is None else bool(values[index])
    values[_WARNINGS] = tuple(json.loads(values[_WARNINGS])) if values[_WARNINGS] else ()
    return Entry(*values)


_FLAGS: Final = tuple(COLUMNS.index(name) for name in ("newest", "exact", "already_quantized", "headers_agree"))
_WARNINGS: Final = COLUMNS.index("warnings")


@dataclass(frozen=True)
class Page:
    """Part of a search. `cursor` asks for the next part; None at the end."""

    entries: tuple[Entry, ...]
    cursor: str | None


class Catalog:
    """An index opened for reading. Safe to use from several threads; every thread has a connection of its own."""

    def __init__(self, path: str | Path) -> None:
        """Raises NotFound, StorageFailure, and InvalidDataset for a file that is no index of this format."""
        self._path = Path(path)
        self._local = threading.local()
        self._connection()

    @property
    def version(self) -> str:
        """The predictor's version and the time of building; changes with every new index."""
        return f"{self.about['predictor']}@{self.about['built']}"

    @property
    def about(self) -> dict[str, str]:
        """predictor, built (ISO 8601, UTC), models, format"""
        return dict(self.query("SELECT key, value FROM about"))

    def get(self, repo_id: str, revision: str | None = None) -> Entry:
        """The newest revision of a model, which stands for its main branch, or the one named. Raises NotFound."""
        if revision is None or revision == MAIN:
            found = self.query(_GET, (repo_id,))
        else:
            found = self.query(_GET_REVISION, (repo_id, revision))
        if not found:
            name = repo_id if revision is None else f"{repo_id}@{revision}"
            hint = "`fastewq catalog search TEXT` finds parts of ids, `fastewq catalog build` adds models."
            raise NotFound(f"{name[:200]} is not in the catalog", hint=hint)
        return _entry(found[0])

    def config(self, entry: Entry) -> dict[str, Any]:
        """The config.json of an entry, as collected. Raises NotFound where there is none."""
        return self._inputs(entry)[0]

    def model(self, entry: Entry) -> tuple[dict[str, Any], Architecture | None]:
        """The config of an entry, and its blocks where safetensors headers were collected to correct what it says.

        Raises NotFound where there is none.
        """
        config, headers = self._inputs(entry)
        if headers is None:
            return config, None
        from fastewq.stored import dumped_architecture

        return config, dumped_architecture(config, headers)[0]

    def _inputs(self, entry: Entry) -> tuple[dict[str, Any], str | None]:
        """Config and, where they were collected, safetensors headers."""
        query = "SELECT text, headers FROM configs WHERE hash = ?"
        found = self.query(query, (entry.config_hash,))
        if not found:
            raise NotFound(f"{entry.id}: the catalog has no config of it: {entry.error_message or entry.error_code}")
        try:
            text, headers = [None if part is None else zlib.decompress(part) for part in found[0]]
        except zlib.error as error:
            raise _damaged(self._path, error) from error
        return parse_config(text or b"", f"{entry.id}: config.json"), None if headers is None else headers.decode()

    def plan(self, entry: Entry, *, predictor: Predictor | None = None, **options: Any) -> Plan:
        """The whole plan of an entry, made from its config by `fastewq.plan`, whose options these are."""
        from fastewq.plan import plan

        config, architecture = self.model(entry)
        options |= {"predictor": predictor, "architecture": architecture}
        return plan(config, model_id=entry.id, revision=entry.revision, **options)

    def search(
        self,
        *,
        text: str | None = None,
        model_type: str | None = None,
        task: str | None = None,
        min_parameters: int | None = None,
        max_parameters: int | None = None,
        max_bytes: int | None = None,
        policy: str = "4bit-8bit-mixed",
        error_code: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        """The newest revisions that fit all that is given, in a fixed order, `limit` at a time.

        text        part of the id, whatever its case
        max_bytes   of all weights under `policy`
        error_code  refused models with that error; without it, planned models only

        Raises InputError for a limit, cursor, policy or bound that cannot be.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InputError(f"limit is {limit}; expected 1 to {MAX_PAGE}")
        if text is not None and "\0" in text:  # at which SQLite would end the pattern, and find everything
            raise InputError(f"text is {shown(text)}; expected part of an id")
        if policy not in POLICY_COLUMNS:
            raise InputError(f"policy is {policy[:40]!r}; the catalog has {', '.join(POLICY_COLUMNS)}")
        bounds = {"min_parameters": min_parameters, "max_parameters": max_parameters, "max_bytes": max_bytes}
        for name, value in bounds.items():
            if value is not None and not 0 <= value <= MAX_INTEGER:
                raise InputError(f"{name} is {shown(value)}; expected 0 to {MAX_INTEGER}")
        conditions: list[tuple[str, Any]] = [
            ("number > ?", _after(cursor)),
            ("error_code IS ?", error_code),
            ("model_type = ?", model_type),
            ("task = ?", task),
            ("parameters >= ?", min_parameters),
            ("parameters <= ?", max_parameters),
            (f"{POLICY_COLUMNS[policy]} <= ?", max_bytes),
            ("id LIKE ? ESCAPE '\\'", None if text is None else f"%{_escaped(text)}%"),
        ]
        chosen = [(c, v) for c, v in conditions if v is not None or c == "error_code IS ?"]
        where = " AND ".join(["newest", *(condition for condition, _ in chosen)])
        query = f"SELECT number, {', '.join(COLUMNS)} FROM models WHERE {where} ORDER BY number LIMIT ?"
        rows = self.query(query, [*(value for _, value in chosen), limit + 1])
        following = str(rows[limit - 1][0]) if len(rows) > limit else None
        return Page(tuple(_entry(row[1:]) for row in rows[:limit]), following)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a SELECT. The file is opened read-only. Raises InvalidDataset where it is damaged."""
        try:
            return self._connection().execute(sql, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            raise _damaged(self._path, error) from error
        except UnicodeEncodeError:  # half a character, as a command's arguments can hold; no row does
            return []

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection to the file that has the index's name now."""
        local, now = self._local, time.monotonic()
        connection: sqlite3.Connection | None = getattr(local, "connection", None)
        if connection is not None and now - local.checked < CHECK_SECONDS:
            return connection
        try:
            found = self._path.stat()
        except FileNotFoundError:
            raise NotFound(f"{self._path} does not exist", hint="`fastewq catalog index DIR` builds it.") from None
        except OSError as error:
            raise StorageFailure(f"{self._path} cannot be read: {error.strerror}") from error
        identity = (found.st_dev, found.st_ino, found.st_mtime_ns)
        if connection is None or identity != local.identity:
            opened = _open(self._path)
            if connection is not None:
                connection.close()
            local.connection, local.identity = opened, identity
        local.checked = now
        return local.connection  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close this thread's connection."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            del self._local.connection


_REBUILD: Final = "`fastewq catalog index DIR` writes it anew."


def _damaged(path: Path, error: Exception) -> InvalidDataset:
    return InvalidDataset(f"{path} cannot be read: {error}", hint=_REBUILD)


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.open("rb").close()  # SQLite would not say why it cannot
    except OSError as error:
        raise StorageFailure(f"{path} cannot be read: {error.strerror}") from error
    try:
        # immutable: the file is never written in place, so no locks are needed and no journal is looked for.
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        connection = sqlite3.connect(uri, uri=True, check_same_thread=True, cached_statements=64)
        row = connection.execute("SELECT value FROM about WHERE key = 'format'").fetchone()
    except sqlite3.Error as error:
        raise InvalidDataset(f"{path} is not an index of a catalog: {error}", hint=_REBUILD) from error
    if row is None or row[0] != str(FORMAT):
        connection.close()
        raise InvalidDataset(f"{path} has format {row and row[0]}; this version of fastewq reads format {FORMAT}")
    return connection


def _after(cursor: str | None) -> int:
    if cursor is None:
        return -MAX_INTEGER
    if not re.fullmatch(r"-?[0-9]{1,19}", cursor) or abs(int(cursor)) > MAX_INTEGER:
        raise InputError(f"cursor is {cursor[:40]!r}; expected the cursor of the page before")
    return int(cursor)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


# ---- building ----


def write_index(path: Path, rows: Iterable[Mapping[str, Any]], predictor: str) -> int:
    """Write an index from rows of `schema.MODELS` and put it in place of an older one; returns the number of entries.

    A model's newest revision is the one with the highest `sequence`, and so is what counts of two rows for one
    revision. A failure that may pass (`PASSING`) hides nothing that is known of the model.
    Raises StorageFailure.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        connection = sqlite3.connect(temporary)
        try:
            count = _fill(connection, rows, predictor)
        finally:
            connection.close()
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except (OSError, sqlite3.Error) as error:
        raise StorageFailure(f"{path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _fill(connection: sqlite3.Connection, rows: Iterable[Mapping[str, Any]], predictor: str) -> int:
    # No journal and no waiting for the disk: an unfinished file is thrown away, and the finished one is flushed once.
    connection.executescript(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY;" + _SCHEMA
    )
    names = [name for name in COLUMNS if name != "newest"]
    insert = f"INSERT INTO models (number, newest, {', '.join(names)}) VALUES (?, 0{', ?' * len(names)})"
    with connection:
        connection.executemany(insert, _records(rows, names, connection))
        connection.execute("CREATE INDEX of_revision ON models (id, revision, number)")
        connection.execute(
            "DELETE FROM models AS m WHERE EXISTS (SELECT 1 FROM models AS n "
            "WHERE n.id = m.id AND n.revision = m.revision AND n.number > m.number)"
        )
        marks = ", ".join("?" * len(PASSING))
        connection.execute(
            f"DELETE FROM models AS m WHERE error_code IN ({marks}) AND EXISTS (SELECT 1 FROM models AS n "
            f"WHERE n.id = m.id AND n.number <> m.number AND (n.error_code IS NULL OR n.error_code NOT IN ({marks})))",
            (*PASSING, *PASSING),
        )
        connection.execute("UPDATE models SET newest = 1 WHERE number IN (SELECT max(number) FROM models GROUP BY id)")
        connection.execute("DROP INDEX of_revision")
        connection.executescript(_INDEXES)
        count = int(connection.execute("SELECT count(*) FROM models").fetchone()[0])
        built = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        about = {"format": str(FORMAT), "predictor": predictor, "built": built, "models": str(count)}
        connection.executemany("INSERT INTO about VALUES (?, ?)", about.items())
    connection.execute("ANALYZE")
    return count


def _records(
    rows: Iterable[Mapping[str, Any]], names: Sequence[str], connection: sqlite3.Connection
) -> Iterator[tuple[Any, ...]]:
    add_config = "INSERT OR IGNORE INTO configs VALUES (?, ?, ?)"
    seen: set[str] = set()
    for row in rows:
        digest = row["config_hash"]
        if digest is not None and digest not in seen:
            seen.add(digest)
            headers = row["headers"] and zlib.compress(row["headers"].encode(), 1)
            connection.execute(add_config, (digest, zlib.compress(row["config"].encode(), 1), headers))
        values = {**row, "warnings": json.dumps(row["warnings"]) if row["warnings"] else None}
        yield (row["sequence"], *(values[name] for name in names))
