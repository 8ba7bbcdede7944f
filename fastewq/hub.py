"""The only module that talks to the Hugging Face Hub: configs, file lists, byte ranges of weights, and the listing.

URLs, tokens, the HTTP client, the error classes and the rules for names are huggingface_hub's. What is ours: every
answer is bounded in size and in time, a failure is retried with growing, jittered waits that respect Retry-After, and
every error ends as NotFound, AccessDenied or HubUnavailable in one place (`_translated`). No code of a repository is
ever run, and a revision is always turned into the commit it stands for, so that what was read can be named and read
again.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urljoin, urlsplit

import httpx2
import tenacity
from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    get_session,
    hf_raise_for_status,
    parse_ratelimit_headers,
    validate_repo_id,
)

from fastewq.errors import (
    AccessDenied,
    FastEWQError,
    HubUnavailable,
    InputError,
    InvalidCheckpoint,
    InvalidConfig,
    NotFound,
)
from fastewq.files import write_bytes
from fastewq.jsonio import MAX_CONFIG_BYTES, parse_config
from fastewq.shown import json_kind

DEFAULT_REVISION: Final = constants.DEFAULT_REVISION
COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_REVISION: Final = re.compile(r"[\w.][\w./+-]{0,254}", re.ASCII)
_CONTENT_RANGE: Final = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")

MAX_API_BYTES: Final = 64 * 2**20
"""The file list of the largest repositories (tens of thousands of files) is a few MB."""
PAGE_SIZE: Final = 1000
CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 15.0
"""Longest silence within an answer."""
BODY_SECONDS: Final = 60.0
"""Longest time for one whole answer; larger bodies get one more second per SLOWEST bytes."""
SLOWEST: Final = 256 * 2**10
ATTEMPTS_WITHOUT_ANSWER: Final = 3
LOST_REPOSITORIES: Final = 8
LOST_SECONDS: Final = 300.0
"""An answering Hub is lost when requests for so many repositories in a row failed, and none has succeeded for so long:
a router that restarts at night ends no run."""
RETRIED_STATUS: Final = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Patience:
    """How long a failing Hub is put up with.

    attempts       tries of one request
    longest_wait   seconds between two tries; a Retry-After above it is an error at once
    """

    attempts: int
    longest_wait: float


INTERACTIVE: Final = Patience(attempts=4, longest_wait=20.0)
BATCH: Final = Patience(attempts=8, longest_wait=360.0)
"""The Hub's rate limits count in windows of five minutes: https://huggingface.co/docs/hub/rate-limits"""


@dataclass(frozen=True)
class HubConfig:
    """A config.json. `warning` is set when the Hub could not be asked and a cached commit was taken."""

    config: dict[str, Any]
    text: bytes
    commit: str
    warning: str | None = None


@dataclass(frozen=True)
class ConfigText:
    """A config.json that is not parsed yet. `name` is what errors call it; `warning` as of `HubConfig`."""

    text: bytes
    commit: str
    name: str
    cached: bool = False
    warning: str | None = None


@dataclass(frozen=True)
class Listed:
    """One model of the Hub's listing. `sha` is the newest commit of its default branch."""

    id: str
    sha: str
    last_modified: str
    downloads: int
    task: str | None
    library: str | None
    gated: bool


@dataclass(frozen=True)
class Filters:
    """Which models to list: by author or organization, task, library, downloads, and change since an ISO 8601 time."""

    author: str | None = None
    task: str | None = None
    library: str | None = None
    min_downloads: int = 0
    since: str | None = None
    limit: int | None = None


def check_id(repo_id: str) -> str:
    """The id itself, or NotFound where it could not be one: it becomes part of URLs and file names."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        repo_id = f"{repo_id!r:.100}"
        raise NotFound(f"{repo_id} is not a Hub id; expected org/name of letters, digits, '-', '_', '.'") from None
    return repo_id


def check_revision(revision: str) -> str:
    """The revision itself (branch, tag, refs/pr/N or commit), or NotFound where it could not be one."""
    steps = revision.split("/")
    if not _REVISION.fullmatch(revision) or ".." in revision or "" in steps or any(s.startswith("-") for s in steps):
        raise NotFound(f"{revision!r:.100} is not a revision; expected a branch, a tag or a commit")
    return revision


def default_cache() -> Path:
    """Where configs are kept: `$XDG_CACHE_HOME/fastewq/hub`, by default under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastewq" / "hub"


class Hub:
    """One Hub, one token, one cache. Safe to use from several threads.

    endpoint   address; default HF_ENDPOINT or https://huggingface.co
    token      default: HF_TOKEN or the token of `hf auth login`
    cache      folder for configs, keyed by endpoint, repository and commit; None: `default_cache()`
    offline    answer from the cache alone; also when HF_HUB_OFFLINE is set
    answered   whether any request was answered, be it by an error
    lost       whether a run over many repositories had better stop: the Hub never answered, asks to wait longer than
               `patience` allows, or is silent (LOST_REPOSITORIES). Requests are then tried once; a success ends it
    """

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        token: str | None = None,
        cache: Path | None = None,
        offline: bool = False,
        patience: Patience = INTERACTIVE,
    ) -> None:
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self.offline = offline or constants.is_offline_mode()
        self.patience = patience
        self._token = token
        self._cache = (cache or default_cache()) / quote(urlsplit(self.endpoint).netloc, safe="")
        self._locations: dict[str, str] = {}
        self._open_at = 0.0
        self.answered = False
        self.lost = False
        self._unreached: set[str] = set()
        self._reached_at = time.monotonic()
        self._lock = threading.Lock()

    # ---- configs ----

    def config(self, repo_id: str, revision: str = DEFAULT_REVISION) -> HubConfig:
        """The config.json of a model at a revision.

        A commit that is in the cache costs no request, anything else one. If the Hub cannot be reached, the commit
        the revision stood for when it was last read is used, with a warning. Raises NotFound, AccessDenied,
        HubUnavailable, InvalidConfig.
        """
        found = self.config_text(repo_id, revision)
        return HubConfig(self.parsed(repo_id, revision, found), found.text, found.commit, found.warning)

    def config_text(self, repo_id: str, revision: str = DEFAULT_REVISION) -> ConfigText:
        """What `config` would parse: a text of some MB can take twenty times as much. Raises as `config`."""
        check_id(repo_id), check_revision(revision)
        where = f"{repo_id}@{revision}"
        cached = self._cached(repo_id, revision)
        if cached and (self.offline or COMMIT.fullmatch(revision)):
            return self._from_cache(cached, where, None)
        if self.offline:
            raise HubUnavailable(
                f"{where}: offline, and no config.json of it is in the cache",
                hint="Run it once with a network, or give a config.json or a model folder.",
            )
        try:
            text, commit = self.fetch_config(repo_id, revision)
        except HubUnavailable as error:
            if cached is None:
                raise
            return self._from_cache(cached, where, error.message)
        return ConfigText(text, commit, f"{where}: config.json")

    def parsed(self, repo_id: str, revision: str, found: ConfigText) -> dict[str, Any]:
        """The config in a text that was found for this revision, which the cache then has. Raises InvalidConfig."""
        config = parse_config(found.text, found.name)
        if not found.cached:
            self._remember(repo_id, revision, found.commit, found.text)
        return config

    def fetch_config(self, repo_id: str, revision: str) -> tuple[bytes, str]:
        """config.json as bytes and the commit it belongs to, never from the cache. Raises as `config`."""
        try:
            return self.read(repo_id, revision, constants.CONFIG_NAME, limit=MAX_CONFIG_BYTES)
        except InvalidCheckpoint as error:
            raise InvalidConfig(error.message) from None

    def _cached(self, repo_id: str, revision: str) -> tuple[Path, str] | None:
        """A cached config.json and its commit: from our cache, else from huggingface_hub's."""
        folder = self._cache / repo_id.replace("/", "--")
        commit = revision
        if not COMMIT.fullmatch(revision):
            try:
                commit = (folder / "refs" / quote(revision, safe="")).read_text("ascii").strip()
            except (OSError, UnicodeDecodeError):
                commit = ""
        if COMMIT.fullmatch(commit) and (folder / commit / constants.CONFIG_NAME).is_file():
            return folder / commit / constants.CONFIG_NAME, commit
        theirs = try_to_load_from_cache(repo_id, constants.CONFIG_NAME, revision=revision)
        if isinstance(theirs, str) and COMMIT.fullmatch(Path(theirs).parent.name):
            return Path(theirs), Path(theirs).parent.name
        return None

    def _from_cache(self, cached: tuple[Path, str], where: str, problem: str | None) -> ConfigText:
        path, commit = cached
        with path.open("rb") as stream:
            text = stream.read(MAX_CONFIG_BYTES + 1)
        warning = f"{problem}; using the cached commit {commit}" if problem else None
        return ConfigText(text, commit, f"{where} (cached): config.json", cached=True, warning=warning)

    def _remember(self, repo_id: str, revision: str, commit: str, text: bytes) -> None:
        folder = self._cache / repo_id.replace("/", "--")
        try:
            _keep(folder / commit / constants.CONFIG_NAME, text)
            if revision != commit:
                _keep(folder / "refs" / quote(revision, safe=""), commit.encode())
        except OSError:
            # A cache that cannot be written (a full disk, a read-only home) costs a request next time, nothing else.
            return

    # ---- files ----

    def files(self, repo_id: str, revision: str = DEFAULT_REVISION) -> tuple[tuple[str, ...], str]:
        """The names of all files of a repository at a revision, and its commit."""
        check_id(repo_id), check_revision(revision)
        url = f"{self.endpoint}/api/models/{repo_id}/revision/{quote(revision, safe='')}"
        info = self._json(url, f"{repo_id}@{revision}")
        try:
            commit, names = info["sha"], [entry["rfilename"] for entry in info["siblings"]]
        except (KeyError, TypeError):
            raise HubUnavailable(f"{url} did not answer with a model's sha and siblings; is it a Hub?") from None
        if not isinstance(commit, str) or not COMMIT.fullmatch(commit) or not all(isinstance(n, str) for n in names):
            raise HubUnavailable(f"{url} answered with sha {commit!r:.100}; expected a commit")
        return tuple(names), commit

    def read(self, repo_id: str, revision: str, file: str, *, limit: int) -> tuple[bytes, str]:
        """A whole small file and its commit. More than `limit` bytes is InvalidCheckpoint."""
        check_id(repo_id), check_revision(revision)
        what = f"{repo_id}@{revision}: {file}"
        url = hf_hub_url(repo_id, file, revision=revision, endpoint=self.endpoint)
        answer = self._get(url, what, limit=limit)
        commit = revision if COMMIT.fullmatch(revision) else answer.commit
        if commit is None or not COMMIT.fullmatch(commit):
            raise HubUnavailable(f"{what}: the answer names no commit (X-Repo-Commit); is {self.endpoint} a Hub?")
        return bytes(answer.body), commit

    def read_range(self, repo_id: str, commit: str, file: str, start: int, stop: int) -> tuple[memoryview, int]:
        """The bytes start <= i < stop of a file, fewer only where the file ends, and the file's size.

        Raises InvalidCheckpoint if the file ends before `start`, HubUnavailable if the server ignores ranges, and
        InputError for a range of no bytes, which HTTP cannot ask for.
        """
        check_id(repo_id), check_revision(commit)
        if not 0 <= start < stop:
            raise InputError(f"the range is {start} to {stop}; expected 0 <= start < stop")
        what = f"{repo_id}@{commit[:12]}: {file}"
        url = hf_hub_url(repo_id, file, revision=commit, endpoint=self.endpoint)
        return self._get(url, what, limit=stop - start, span=(start, stop)).range()

    # ---- the listing ----

    def models(self, filters: Filters) -> Iterator[Listed]:
        """The models of the Hub that pass the filters, page after page, the most recent or most downloaded first.

        Ids are as listed: of a name that no repository should have, asking for a file says so (`check_id`).
        Raises InputError, HubUnavailable.
        """
        since = _utc(filters.since) if filters.since else ""
        query: list[tuple[str, str]] = [("limit", str(PAGE_SIZE))]
        query += [("sort", "lastModified" if since else "downloads")]
        query += [("author", filters.author)] if filters.author else []
        query += [("filter", tag) for tag in (filters.task, filters.library) if tag]
        properties = ("sha", "lastModified", "downloads", "pipeline_tag", "library_name", "gated")
        query += [("expand", name) for name in properties]
        url: str | None = f"{self.endpoint}/api/models?{urlencode(query)}"
        count = 0
        while url is not None:
            page, url = self._page(url)
            for entry in page:
                listed = _listed(entry)
                # The listing is sorted by what is bounded, so the first model out of bounds ends it.
                if listed.last_modified < since:
                    return
                if listed.downloads < filters.min_downloads:
                    if since:
                        continue
                    return
                yield listed
                count += 1
                if filters.limit is not None and count >= filters.limit:
                    return

    def _page(self, url: str) -> tuple[list[Any], str | None]:
        answer = self._get(url, "the listing of models", limit=MAX_API_BYTES)
        page = _json_value(answer.body, "the listing of models")
        if not isinstance(page, list):
            raise HubUnavailable(f"{url} answered with {json_kind(page)}; expected a list of models")
        if answer.next_page is None:
            return page, None
        following = urljoin(url, answer.next_page)
        if urlsplit(following)[:2] != urlsplit(self.endpoint)[:2]:
            raise HubUnavailable(f"the listing continues at {following}, outside {self.endpoint}; not followed")
        return page, following

    def _json(self, url: str, what: str) -> Mapping[str, Any]:
        value = _json_value(self._get(url, what, limit=MAX_API_BYTES).body, what)
        if not isinstance(value, dict):
            raise HubUnavailable(f"{url} answered with {json_kind(value)}; expected an object")
        return value

    # ---- one request ----

    def _get(self, url: str, what: str, *, limit: int, span: tuple[int, int] | None = None) -> _Answer:
        """GET with retries. The body has at most `limit` bytes; with a span it is exactly that range."""
        try:
            answer = self._persist(url, what, limit, span)
        except HubUnavailable:
            self._note_unreached(what)
            raise
        except FastEWQError:
            self._note_reached()
            raise
        self._note_reached()
        return answer

    def _persist(self, url: str, what: str, limit: int, span: tuple[int, int] | None) -> _Answer:
        if self.offline:
            raise HubUnavailable(f"{what}: not asked, since offline mode is on")
        retrying = tenacity.Retrying(
            stop=lambda state: state.attempt_number >= self._attempts(),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=min(self.patience.longest_wait, 30.0)),
            retry=tenacity.retry_if_exception(_is_transient),
            reraise=True,
        )
        try:
            return retrying(self._try, url, what, limit, span)
        except (httpx2.HTTPError, httpx2.InvalidURL, OfflineModeIsEnabled) as error:
            raise _translated(error, what, self.endpoint) from error

    def _note_reached(self) -> None:
        with self._lock:
            self._unreached.clear()
            self._reached_at, self.lost = time.monotonic(), False

    def _note_unreached(self, what: str) -> None:
        with self._lock:
            self._unreached.add(what.partition("@")[0])  # the files of one repository count once
            silent = time.monotonic() - self._reached_at >= LOST_SECONDS
            self.lost = self.lost or not self.answered or (silent and len(self._unreached) >= LOST_REPOSITORIES)

    def _attempts(self) -> int:
        """Where no answer ever came there is probably no network, and nothing to be patient with."""
        if self.lost:
            return 1
        return self.patience.attempts if self.answered else min(self.patience.attempts, ATTEMPTS_WITHOUT_ANSWER)

    def _try(self, url: str, what: str, limit: int, span: tuple[int, int] | None) -> _Answer:
        self._wait_until_open()
        headers = {**build_hf_headers(token=self._token, library_name="fastewq"), "Accept-Encoding": "identity"}
        address = url
        if span:
            headers["Range"] = f"bytes={span[0]}-{span[1] - 1}"
            # The redirect to the CDN is signed for hours: asking the Hub once per file spares its rate limit.
            address = self._locations.get(url, url)
        if address != url:
            headers.pop("authorization", None)
        timeout = httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        deadline = time.monotonic() + BODY_SECONDS + limit / SLOWEST
        with get_session().stream("GET", address, headers=headers, timeout=timeout, follow_redirects=True) as response:
            self.answered = True
            self._note_limits(response, what)
            if address != url and response.status_code in (401, 403, 404, 410):
                # The signature ran out: the next try asks the Hub for another.
                self._locations.pop(url, None)
                raise httpx2.RemoteProtocolError(f"{what}: the signed address expired ({response.status_code})")
            if response.status_code == 416:
                match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
                size = f"{match[3]} bytes" if match else "fewer bytes"
                raise InvalidCheckpoint(f"{what} has {size}; expected more than {span[0] if span else 0}")
            if response.is_error:
                # A copy without the body: huggingface_hub would read all of it, however long it is.
                names = ("X-Error-Code", "X-Error-Message")
                kept = {name: response.headers[name] for name in names if name in response.headers}
                hf_raise_for_status(httpx2.Response(response.status_code, headers=kept, request=response.request))
            if span:
                _check_range(response, span, what)
                self._locations[url] = str(response.url)
            return _Answer.read(response, what, limit, span, deadline)

    def _note_limits(self, response: httpx2.Response, what: str) -> None:
        """Hold back every thread for as long as a 429 or 503 asks."""
        if response.status_code not in (429, 503):
            return
        seconds = _retry_after(response.headers)
        if seconds is None:
            return
        if seconds > self.patience.longest_wait:
            with self._lock:
                self.lost = True
            raise HubUnavailable(
                f"{what}: the Hub answered {response.status_code} and asks to wait {seconds:.0f} s; "
                f"this command waits at most {self.patience.longest_wait:.0f} s",
                hint="Try again later, or set HF_TOKEN: the limits of signed-in users are higher.",
            )
        with self._lock:
            self._open_at = max(self._open_at, time.monotonic() + seconds)

    def _wait_until_open(self) -> None:
        wait = self._open_at - time.monotonic()
        if wait > 0:
            time.sleep(wait)


@dataclass(frozen=True)
class _Answer:
    body: memoryview
    commit: str | None
    next_page: str | None
    size: int

    def range(self) -> tuple[memoryview, int]:
        return self.body, self.size

    @classmethod
    def read(
        cls, response: httpx2.Response, what: str, limit: int, span: tuple[int, int] | None, deadline: float
    ) -> _Answer:
        # Pages of their own, given back as a whole: in malloc's heap, ranges of several threads leave twice their size.
        pages = memoryview(mmap.mmap(-1, max(limit, 1)))  # which may be 0
        size = 0
        for piece in response.iter_bytes():
            if size + len(piece) > limit:
                raise InvalidCheckpoint(f"{what} has more than {limit} bytes; expected at most {limit}")
            pages[size : size + len(piece)] = piece
            size += len(piece)
            if time.monotonic() > deadline:
                raise httpx2.ReadTimeout(f"{size} bytes in {BODY_SECONDS + limit / SLOWEST:.0f} s is too slow")
        body = pages[:size]
        if span:
            match = _CONTENT_RANGE.fullmatch(response.headers["Content-Range"])
            assert match is not None, "checked by _check_range"
            size = int(match[3])
            if len(body) != min(span[1], size) - span[0]:
                raise httpx2.RemoteProtocolError(f"{len(body)} bytes for the range {span[0]}-{span[1] - 1} of {size}")
        # A redirect to the CDN loses the Hub's own headers, so the first answer of the chain is asked as well.
        commits = (r.headers.get("X-Repo-Commit") for r in (response, *response.history))
        return cls(body, next(filter(None, commits), None), response.links.get("next", {}).get("url"), size)


def _check_range(response: httpx2.Response, span: tuple[int, int], what: str) -> None:
    if response.status_code != 206:
        raise HubUnavailable(
            f"{what}: the server answered {response.status_code} to a range request; expected 206",
            hint="The server does not support range requests; use another endpoint or download the files.",
        )
    given = response.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(given)
    if match is None or match[1] is None or int(match[1]) != span[0] or int(match[2]) + 1 > span[1]:
        raise httpx2.RemoteProtocolError(f"Content-Range is {given!r:.100}; asked for bytes {span[0]}-{span[1] - 1}")


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in RETRIED_STATUS
    return isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.UnsupportedProtocol)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from Retry-After (a number or a date) or from the RateLimit header that the Hub sends.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after, https://huggingface.co/docs/hub/rate-limits
    """
    value = headers.get("Retry-After", "").strip()
    if value.isdigit() and len(value) < 10:
        return float(value)
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _translated(error: Exception, what: str, endpoint: str) -> FastEWQError:
    """The one place where a failure of the Hub becomes an error of ours."""
    if isinstance(error, GatedRepoError):
        return AccessDenied(f"{what}: the repository is gated, and the Hub refused this token or its absence")
    if isinstance(error, DisabledRepoError):
        return AccessDenied(f"{what}: the repository is disabled by the Hub", hint="")
    if isinstance(error, RepositoryNotFoundError):
        hint = "Check the spelling; the Hub gives the same answer for a private repository without a valid HF_TOKEN."
        return NotFound(f"{what}: no such repository on {endpoint}", hint=hint)
    if isinstance(error, RevisionNotFoundError):
        return NotFound(f"{what}: no such revision")
    if isinstance(error, RemoteEntryNotFoundError):
        return NotFound(f"{what}: the repository has no such file")
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return AccessDenied(f"{what}: the Hub answered {status}")
        if status in (404, 410):
            return NotFound(f"{what}: the Hub answered {status}")
        return HubUnavailable(f"{what}: {endpoint} answered {status}")
    if isinstance(error, OfflineModeIsEnabled):
        return HubUnavailable(f"{what}: not asked, since HF_HUB_OFFLINE is set")
    reason = str(error).split("\n")[0][:200] or type(error).__name__
    return HubUnavailable(f"{what}: {endpoint} cannot be reached: {reason}")


def _json_value(text: memoryview, what: str) -> Any:
    try:
        return json.loads(bytes(text))
    except (ValueError, RecursionError):
        raise HubUnavailable(f"{what}: the Hub's answer is not JSON") from None


def _listed(entry: Any) -> Listed:
    try:
        listed = Listed(
            id=str(entry["id"]),
            sha=str(entry["sha"]),
            last_modified=str(entry.get("lastModified") or ""),
            downloads=int(entry.get("downloads") or 0),
            task=_text(entry.get("pipeline_tag")),
            library=_text(entry.get("library_name")),
            gated=bool(entry.get("gated")),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise HubUnavailable(f"the listing holds {entry!r:.200}; expected a model with id and sha") from None
    return listed


def _utc(since: str) -> str:
    """An ISO 8601 date or time as the listing writes its own, in UTC, but for fractions of a second."""
    try:
        time = datetime.fromisoformat(since)
    except ValueError:
        raise InputError(f"since is {since!r:.60}; expected a date such as 2026-01-31") from None
    return (time if time.tzinfo is None else time.astimezone(UTC)).strftime("%Y-%m-%dT%H:%M:%S")


def _text(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) and value else None


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
