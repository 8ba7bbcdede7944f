"""Weights straight from the Hub to the kernel: range requests, several in flight, nothing stored on disk.

    with open_hub_checkpoint(Hub(), "org/name") as checkpoint:
        analyze_checkpoint(checkpoint)

Files are fetched in segments. A reader that goes forward finds the next ones already on their way; a segment that
arrives broken is fetched again, so a failure costs one segment and not the run (`fastewq.hub` retries).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from fastewq.analysis.checkpoints import Bytes, Checkpoint
from fastewq.errors import InvalidCheckpoint
from fastewq.headers import HubFiles, read_headers
from fastewq.hub import DEFAULT_REVISION, Hub

SEGMENT = 8 << 20
"""Bytes of one request: a round trip is short beside it, and losing one is cheap."""
IN_FLIGHT = 4
KEPT = 12
"""Segments held in memory: 96 MiB. float32 tensors are read twice; one that fits in here is fetched once."""


class HubSource:
    """The byte ranges of a repository's files, a `checkpoints.ByteSource`. `close` ends its threads."""

    def __init__(self, files: HubFiles) -> None:
        self._files = files
        self._pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="fastewq-hub")
        self._segments: OrderedDict[tuple[str, int], Future[tuple[bytes, int]]] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()
        self.fetched = 0
        """Bytes that arrived so far, for a report of what was transferred."""

    @contextmanager
    def read(self, file: str, start: int, stop: int) -> Iterator[Bytes]:
        """Exactly the bytes start to stop. Raises what `Hub.read_range` raises, and InvalidCheckpoint past the end."""
        first, last = start // SEGMENT, max(start, stop - 1) // SEGMENT
        with self._lock:
            needed = [self._segment(file, number) for number in range(first, last + 1)]
            for number in range(last + 1, last + 1 + IN_FLIGHT):
                if number * SEGMENT < self._sizes.get(file, 0):
                    self._segment(file, number)
            while len(self._segments) > max(KEPT, last + 1 - first + IN_FLIGHT):
                self._segments.popitem(last=False)
        pieces = [memoryview(future.result()[0]) for future in needed]
        pieces[-1] = pieces[-1][: stop - last * SEGMENT]
        pieces[0] = pieces[0][start - first * SEGMENT :]
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if len(data) != stop - start:
            raise InvalidCheckpoint(f"{self._files.name}: {file} ended at byte {start + len(data)}; expected {stop}")
        yield np.frombuffer(data, np.uint8)

    def _segment(self, file: str, number: int) -> Future[tuple[bytes, int]]:
        """The segment, on its way or here; called with the lock held."""
        future = self._segments.get((file, number))
        if future is None or (future.done() and future.exception() is not None):
            future = self._pool.submit(self._fetch, file, number)
            self._segments[file, number] = future
        self._segments.move_to_end((file, number))
        return future

    def _fetch(self, file: str, number: int) -> tuple[bytes, int]:
        data, size = self._files.range(file, number * SEGMENT, (number + 1) * SEGMENT)
        with self._lock:
            self._sizes[file] = size
            self.fetched += len(data)
        return data, size

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def open_hub_checkpoint(hub: Hub, repo_id: str, revision: str = DEFAULT_REVISION) -> Iterator[Checkpoint]:
    """The safetensors checkpoint of a repository at the commit its revision stands for now.

    Raises NotFound, AccessDenied, HubUnavailable, InvalidCheckpoint; reading its tensors raises the same.
    """
    files = HubFiles(hub, repo_id, revision)
    source = HubSource(files)
    try:
        yield Checkpoint(files.name, tuple(read_headers(files)), source)
    finally:
        source.close()
