"""Weights straight from the Hub to the kernel: range requests, several in flight, nothing stored on disk.

    with open_hub_checkpoint(Hub(), "org/name") as checkpoint:
        analyze_checkpoint(checkpoint)

Files are fetched in segments. A reader that goes forward finds the next ones already on their way; a segment that
arrives broken is fetched again, so a failure costs one segment and not the run (`fastewq.hub` retries).
"""

from __future__ import annotations

import mmap
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

SEGMENT = 2 << 20
"""Bytes of one request: losing one is cheap, and those in flight hide its round trip."""
IN_FLIGHT = 8
KEPT = 16
"""Segments held in memory: 32 MiB. A float32 tensor that is read twice and fits in here is fetched once."""


class HubSource:
    """The byte ranges of a repository's files, a `checkpoints.ByteSource`. `close` ends its threads."""

    def __init__(self, files: HubFiles) -> None:
        self._files = files
        self._pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="fastewq-hub")
        self._segments: OrderedDict[tuple[str, int], Future[tuple[memoryview, int]]] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()
        self.fetched = 0
        """Bytes that arrived so far, for a report of what was transferred."""

    @contextmanager
    def read(self, file: str, start: int, stop: int) -> Iterator[Bytes]:
        """Exactly the bytes start to stop. Raises what `Hub.read_range` raises, and InvalidCheckpoint past the end."""
        if start == stop:
            yield np.empty(0, np.uint8)
            return
        first, last = start // SEGMENT, max(start, stop - 1) // SEGMENT
        with self._lock:
            needed = [self._segment(file, number) for number in range(first, last + 1)]
            for number in range(last + 1, last + 1 + IN_FLIGHT):
                if number * SEGMENT < self._sizes.get(file, 0):
                    self._segment(file, number)
            while len(self._segments) > max(KEPT, last + 1 - first + IN_FLIGHT):
                self._segments.popitem(last=False)
        joined, length = memoryview(mmap.mmap(-1, stop - start)), 0  # not malloc's, as in `Hub`: its heap would keep it
        for number, future in enumerate(needed, first):
            piece = future.result()[0][max(0, start - number * SEGMENT) : stop - number * SEGMENT]
            joined[length : length + len(piece)] = piece
            length += len(piece)
        if length != stop - start:
            raise InvalidCheckpoint(f"{self._files.name}: {file} ended at byte {start + length}; expected {stop}")
        yield np.frombuffer(joined, np.uint8)

    def _segment(self, file: str, number: int) -> Future[tuple[memoryview, int]]:
        """The segment, on its way or here; called with the lock held."""
        future = self._segments.get((file, number))
        if future is None or (future.done() and future.exception() is not None):
            future = self._pool.submit(self._fetch, file, number)
            self._segments[file, number] = future
        self._segments.move_to_end((file, number))
        return future

    def _fetch(self, file: str, number: int) -> tuple[memoryview, int]:
        data, size = self._files.segment(file, number * SEGMENT, (number + 1) * SEGMENT)
        with self._lock:
            self._sizes[file] = size
            self.fetched += len(data)
        return data, size

    def forget(self) -> None:
        """Drop the segments, for as long as another source is read."""
        with self._lock:
            self._segments.clear()

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
