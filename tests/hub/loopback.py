"""A Hub on loopback, for tests: real servers, and a thin proxy of ours in front that injects faults.

    client -> Front (this module) -> olah     a third-party Hub server, over local git repositories
                                  -> uvicorn  Starlette's file server in the role of the Hub's CDN

olah (https://github.com/vtuber-plan/olah) answers files, commits, trees and model info from bare git repositories. What
it cannot do without the real Hub behind it is done by the front, the way the real Hub does it: the listing, the default
revision of model info, "no such file" in a repository that exists, gated repositories, and the redirect of LFS files
(here: *.safetensors and *.gguf) to another host.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

START_SECONDS = 60
LFS_SUFFIXES = (".safetensors", ".gguf")
GOOD_TOKEN = "hf_good"
RESOLVE = re.compile(r"^/(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)$")
LISTENING = re.compile(r"Uvicorn running on http://127\.0\.0\.1:(\d+)\b.*\n")
MODEL_API = re.compile(r"^/api/models/(?P<id>[^/]+/[^/?]+)(?P<rest>/.*)?$")


def port_of(process: subprocess.Popen[bytes], log: Path) -> int:
    """The port that the system chose for a server, from its log: one chosen beforehand may be taken by its start."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        if found := LISTENING.search(log.read_text("utf-8")):
            return int(found[1])
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} did not listen within {START_SECONDS} s")


MOST_IN_A_ROW = 4


@dataclass
class Fault:
    """One way to misbehave, for requests whose path matches `path`, `times` times (None: always), with a probability.

    kind   status (answer `status` with `headers`), reset (RST before any answer), stall (accept and never answer),
           truncate (half of the body, then close), ignore_range (200 and the whole file), drip (a byte at a time),
           wrong_range (206 with other bytes than asked for)

    A fault by chance passes a request over that has just failed MOST_IN_A_ROW times: chance must not use up the tries
    of a client that is right to go on.
    """

    kind: str
    path: str = ".*"
    times: int | None = None
    probability: float = 1.0
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What the front saw: `at` in seconds of the monotonic clock; `fault` names the injected fault, if any."""

    method: str
    path: str
    range: str | None
    token: str | None
    host: str
    at: float
    fault: str | None


@dataclass
class Repository:
    id: str
    listing: dict[str, Any]
    commits: list[str] = field(default_factory=list)
    lfs: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    """(commit, file) -> (SHA-256, size)"""
    files: dict[str, set[str]] = field(default_factory=dict)
    """commit -> names"""

    def commit_of(self, revision: str) -> str | None:
        if revision == "main":
            return self.commits[-1]
        return revision if revision in self.commits else None


class LoopbackHub:
    """Servers, repositories and faults. Use as a context manager; `endpoint` is what HF_ENDPOINT would be."""

    def __init__(self, root: Path, *, page_size: int = 100) -> None:
        self.root = root
        self.page_size = page_size
        self.repositories: dict[str, Repository] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self._random = random.Random()
        self._in_a_row: Counter[tuple[str, str | None]] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._mirror, self._cdn = root / "mirror", root / "cdn"
        for folder in (self._mirror / "models", self._cdn):
            folder.mkdir(parents=True, exist_ok=True)
        self._template = root / "template.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(self._template)], check=True)
        shutil.rmtree(self._template / "hooks", ignore_errors=True)

    def __enter__(self) -> LoopbackHub:
        # Were olah to ask its upstream, it would find port 9 of loopback closed.
        (self.root / "olah.toml").write_text(
            f'[basic]\nhost = "127.0.0.1"\nport = 0\nrepos-path = "{self.root / "olah-cache"}"\n'
            f'mirrors-path = ["{self._mirror}"]\nhf-scheme = "http"\nhf-netloc = "127.0.0.1:9"\n'
            'hf-lfs-netloc = "127.0.0.1:9"\n[accessibility]\noffline = true\n'
        )
        olah = [sys.executable, "-c", "from olah.server import cli; cli()", "-c", str(self.root / "olah.toml")]
        cdn = [sys.executable, "-m", "uvicorn", "--factory", "cdn:app", "--app-dir", str(Path(__file__).parent)]
        self._olah_port = self._start("olah", [*olah, "--log-path", str(self.root / "olah-logs")])
        self._cdn_port = self._start("cdn", [*cdn, "--port", "0", "--no-access-log"])
        self._front = _Server(self)
        # A second name for the same front: a redirect there leaves the Hub's origin, as the real CDN does.
        self.endpoint = f"http://127.0.0.1:{self._front.server_port}"
        self.cdn_host = f"localhost:{self._front.server_port}"
        threading.Thread(target=self._front.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._front.shutdown()
        self._front.server_close()
        for process in self._processes:
            process.terminate()
            process.wait(60)

    def _start(self, name: str, command: list[str]) -> int:
        path = self.root / f"{name}.log"
        with path.open("wb") as log:
            environment = {"PATH": "/usr/bin:/bin", "CDN_FOLDER": str(self._cdn), "HOME": str(self.root)}
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=self.root)
        self._processes.append(process)
        return port_of(process, path)

    def add(self, repo_id: str, files: Mapping[str, bytes | Path], **listing: Any) -> str:
        """A commit on `main` of a repository with exactly these files; returns its hash. `listing`: pipeline_tag ..."""
        folder = self._mirror / "models" / repo_id
        if not folder.exists():
            shutil.copytree(self._template, folder)
        repository = self.repositories.setdefault(repo_id, Repository(repo_id, {}))
        repository.listing.update(listing)
        stored, lfs = {}, {}
        for name, content in files.items():
            if name.endswith(LFS_SUFFIXES):
                digest, size = lfs[name] = self._store_lfs(content)
                pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n"
                stored[name] = pointer.encode()
            else:
                stored[name] = content if isinstance(content, bytes) else content.read_bytes()
        commit = _commit(folder, stored, parent=bool(repository.commits))
        repository.commits.append(commit)
        repository.files[commit] = set(files)
        repository.lfs.update({(commit, name): value for name, value in lfs.items()})
        return commit

    def _store_lfs(self, content: bytes | Path) -> tuple[str, int]:
        if isinstance(content, Path):
            digest = hashlib.sha256(str(content).encode()).hexdigest()
            if not (self._cdn / digest).exists():
                (self._cdn / digest).hardlink_to(content)
            return digest, content.stat().st_size
        digest = hashlib.sha256(content).hexdigest()
        (self._cdn / digest).write_bytes(content)
        return digest, len(content)

    @contextlib.contextmanager
    def injecting(self, *faults: Fault) -> Iterator[None]:
        """These faults, and a fresh request log, for the duration of a with block. Its dice do not depend on how often
        they were thrown before, in other tests.
        """
        with self._lock:
            self._random.seed(0)
            self.faults, self.requests = list(faults), []
            self._in_a_row.clear()
        try:
            yield
        finally:
            with self._lock:
                self.faults = []

    def fault_for(self, path: str, span: str | None) -> Fault | None:
        """The fault that a request of this path and Range header meets, if any."""
        with self._lock:
            for fault in self.faults:
                if fault.times == 0 or not re.search(fault.path, path):
                    continue
                spared = fault.probability < 1 and self._in_a_row[path, span] >= MOST_IN_A_ROW
                if not spared and self._random.random() < fault.probability:
                    if fault.times is not None:
                        fault.times -= 1
                    self._in_a_row[path, span] += 1
                    return fault
            del self._in_a_row[path, span]
        return None

    def listing_page(self, query: Mapping[str, list[str]]) -> tuple[list[dict[str, Any]], str | None]:
        """GET /api/models: filters, sort order and cursor as https://huggingface.co/docs/hub/api describes them."""
        found = []
        for repository in list(self.repositories.values()):
            entry = {
                "id": repository.id,
                "modelId": repository.id,
                "author": repository.id.split("/")[0],
                "sha": repository.commits[-1],
                "lastModified": "2026-01-01T00:00:00.000Z",
                "downloads": 0,
                "gated": False,
                **repository.listing,
            }
            tags = {entry.get("pipeline_tag"), entry.get("library_name"), *entry.get("tags", [])}
            if query.get("author", [entry["author"]])[0] == entry["author"] and set(query.get("filter", [])) <= tags:
                found.append(entry)
        if key := query.get("sort", [None])[0]:
            found.sort(key=lambda entry: entry[key], reverse=True)
        start, size = int(query.get("cursor", ["0"])[0]), min(int(query.get("limit", ["1000"])[0]), self.page_size)
        following = start + size if start + size < len(found) else None
        return found[start : start + size], None if following is None else str(following)


def _commit(folder: Path, files: Mapping[str, bytes], *, parent: bool) -> str:
    """One commit written by `git fast-import`, which is one process however many files there are."""
    stream = [b"commit refs/heads/main\ncommitter Tests <tests@example.org> 1767225600 +0000\ndata 4\ntest\n"]
    stream.append(b"from refs/heads/main^0\ndeleteall\n" if parent else b"")
    for name, content in files.items():
        stream.append(f"M 100644 inline {name}\ndata {len(content)}\n".encode() + content + b"\n")
    subprocess.run(["git", "-C", str(folder), "fast-import", "--quiet", "--force"], input=b"".join(stream), check=True)
    return (folder / "refs" / "heads" / "main").read_text().strip()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: LoopbackHub) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is expected here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        hub = self.server.hub
        fault = hub.fault_for(self.path, self.headers.get("Range"))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        hub.requests.append(
            Request(
                self.command,
                self.path,
                self.headers.get("Range"),
                token,
                self.headers["Host"],
                time.monotonic(),
                fault.kind if fault else None,
            )
        )
        if fault and fault.kind == "status":
            return self._answer(fault.status, b'{"error": "injected"}', fault.headers)
        if fault and fault.kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return None
        if fault and fault.kind == "stall":
            hub._stopping.wait(60)
            self.close_connection = True
            return None
        return self._route(fault.kind if fault else None, token)

    do_HEAD = do_GET  # noqa: N815
    do_POST = do_GET  # noqa: N815

    def _route(self, fault: str | None, token: str | None) -> None:
        hub, url = self.server.hub, urlsplit(self.path)
        if token is not None and token != GOOD_TOKEN:
            message = "Invalid credentials in Authorization header"
            return self._answer(401, b"{}", {"X-Error-Message": message})
        if url.path == "/api/models":
            return self._listing(parse_qs(url.query), fault)
        if url.path.startswith("/cdn/"):
            return self._forward(hub._cdn_port, url.path.removeprefix("/cdn"), fault)
        match = RESOLVE.match(url.path) or MODEL_API.match(url.path)
        repository = hub.repositories.get(match["id"]) if match else None
        if match and repository and repository.listing.get("gated") and token != GOOD_TOKEN and "resolve" in url.path:
            message = f"Access to model {repository.id} is restricted."
            return self._answer(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": message})
        if match and repository and match.re is RESOLVE:
            return self._resolve(repository, match["revision"], match["file"], fault)
        if match and repository and match["rest"] in (None, "/"):
            return self._forward(hub._olah_port, f"{url.path}/revision/main", fault)
        path = re.sub(r"(/tree/[^/?]+)(?=\?|$)", r"\1/", self.path)  # olah wants a slash after the revision
        return self._forward(hub._olah_port, path, fault)

    def _resolve(self, repository: Repository, revision: str, file: str, fault: str | None) -> None:
        commit = repository.commit_of(revision)
        if commit is None:
            return self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if file not in repository.files[commit]:
            return self._answer(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        if (commit, file) in repository.lfs:
            digest, size = repository.lfs[commit, file]
            location = f"http://{self.server.hub.cdn_host}/cdn/{digest}?signed={quote(file)}"
            linked = {"X-Linked-Size": str(size), "X-Linked-ETag": f'"{digest}"', "X-Repo-Commit": commit}
            return self._answer(302, b"", {"Location": location, **linked})
        return self._forward(self.server.hub._olah_port, self.path, fault, {"X-Repo-Commit": commit})

    def _listing(self, query: Mapping[str, list[str]], fault: str | None) -> None:
        page, cursor = self.server.hub.listing_page(query)
        headers = {"Content-Type": "application/json"}
        if cursor is not None:
            rest = "&".join(f"{key}={quote(v)}" for key, values in query.items() if key != "cursor" for v in values)
            headers["Link"] = f'<{self.server.hub.endpoint}/api/models?{rest}&cursor={cursor}>; rel="next"'
        self._answer(200, json.dumps(page).encode(), headers, fault)

    def _forward(self, port: int, path: str, fault: str | None, extra: Mapping[str, str] | None = None) -> None:
        upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {name: self.headers[name] for name in ("Range", "Accept", "Content-Type") if name in self.headers}
        if fault == "ignore_range":
            headers.pop("Range", None)
        if fault == "wrong_range" and "Range" in headers:
            headers["Range"] = "bytes=" + "-".join(str(int(n) + 1) for n in headers["Range"][6:].split("-"))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        upstream.request(self.command, path, body=body or None, headers=headers)
        response = upstream.getresponse()
        kept = ("content-type", "content-range", "etag", "x-repo-commit", "x-error-code", "x-error-message")
        answer = {name.title(): value for name, value in response.getheaders() if name.lower() in kept}
        answer |= extra or {}
        content = response.read()
        if self.command == "HEAD" and response.getheader("content-length"):
            answer["Content-Length"] = str(response.getheader("content-length"))
        upstream.close()
        self._answer(response.status, content, answer, fault)

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str], fault: str | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == "truncate":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif fault == "drip":
            for index in range(len(body)):
                if self.server.hub._stopping.wait(0.05):
                    break
                self.wfile.write(body[index : index + 1])
                self.wfile.flush()
        else:
            self.wfile.write(body)
