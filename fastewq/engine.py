"""Where a DataFrame of Daft runs: in this process, in several of this machine, or on a Ray cluster.

    engine = Engine("ray", address="head:6379")
    workers = engine.start()
    function = worker_class(Kernel, workers)(arguments)     # one instance per worker
    frame.with_column("result", function(col("input")))

The same DataFrame gives the same rows on every engine; only who computes them differs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

# Neither engine may report home, and progress is shown by the commands themselves, on a terminal alone.
os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")

import daft


@dataclass(frozen=True)
class Engine:
    """Where a DataFrame runs.

    name      local or ray
    address   of a running Ray cluster; None starts one on this machine
    workers   processes (actors) that compute; None: one per processor
    """

    name: str = "local"
    address: str | None = None
    workers: int | None = None

    def start(self) -> int:
        """Choose Daft's runner, which a process can do once; returns the number of workers."""
        if self.name == "ray":
            daft.set_runner_ray(self.address, noop_if_initialized=True)
        return self.workers or os.cpu_count() or 1


def worker_class(cls: type, workers: int) -> Any:
    """A class with a `daft.method`, to be instantiated once in each of so many workers."""
    return daft.cls(cls, max_concurrency=workers, use_process=workers > 1 or None)


def first_line(error: BaseException) -> str:
    """What an engine's error says: its last line, the ones before being a traceback."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:300]
