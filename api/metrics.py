"""Prometheus metrics of the service, in the order an operator asks: is it used, is it fast, what does it serve."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, multiprocess
from prometheus_client.exposition import generate_latest

REQUESTS = Counter("fastewq_http_requests_total", "Requests answered.", ["route", "method", "status"])
SECONDS = Histogram(
    "fastewq_http_request_seconds",
    "Time from the request's headers to the last byte of the answer.",
    ["route"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
IN_PROGRESS = Gauge(
    "fastewq_http_requests_in_progress", "Requests in work or sending a body.", multiprocess_mode="livesum"
)
PLAN_BLOCKS = Histogram(
    "fastewq_plan_blocks", "Blocks per plan.", buckets=(8, 16, 24, 32, 48, 64, 96, 128, 256, 1024, 4096)
)
CACHE = Counter("fastewq_plan_cache_total", "Plans looked up in the cache.", ["result"])
CACHE_HIT, CACHE_MISS = CACHE.labels("hit"), CACHE.labels("miss")
PREDICTOR = Gauge("fastewq_predictor_info", "1 for the predictor in use.", ["version"], multiprocess_mode="livemax")
INDEX = Gauge("fastewq_index_info", "1 for the catalog's index in use.", ["version"], multiprocess_mode="livemax")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def observe_request(route: str, method: str, status: int, seconds: float) -> None:
    count, duration = _series(route, method if method in METHODS else "other", status)
    count.inc()
    duration.observe(seconds)


_indexes: set[str] = set()


def show_index(version: str) -> None:
    """Note which index is in use."""
    _indexes.add(version)
    for known in _indexes:
        INDEX.labels(known).set(known == version)


@lru_cache(maxsize=1024)
def _series(route: str, method: str, status: int) -> tuple[Counter, Histogram]:
    """The series of these labels. Routes, methods and statuses are few and ours, so series cannot be made at will."""
    return REQUESTS.labels(route, method, str(status)), SECONDS.labels(route)


def exposition() -> tuple[bytes, str]:
    """All metrics in Prometheus text, and its media type. With several workers, the sum over all of them."""
    registry, folder = REGISTRY, os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is not None:
        _forget_dead_workers(Path(folder))
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST


def _forget_dead_workers(folder: Path) -> None:
    """Drop what workers that ended were doing at that moment; what they had counted stays."""
    for pid in {int(path.stem.rpartition("_")[2]) for path in folder.glob("gauge_live*.db")}:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
