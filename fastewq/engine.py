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
    address   of a running Ray cluster; None: that of RAY_ADDRESS, or else one is started on this machine
    workers   processes (actors) that compute; None: one per processor
    """

    name: str = "local"
    address: str | None = None
    workers: int | None = None

    def start(self) -> int:
        """Choose Daft's runner, which a process can do once; returns the number of workers."""
        workers = self.workers or os.cpu_count() or 1
        if self.name == "ray":
            if self.address is None and "RAY_ADDRESS" not in os.environ:
                _start_ray(workers)
            daft.set_runner_ray(self.address, noop_if_initialized=True)
        return workers


def _start_ray(workers: int) -> None:
    """A cluster of this machine with what the work needs: no dashboard, and no more processes than workers."""
    import ray

    os.environ.setdefault("RAY_DISABLE_DASHBOARD", "1")  # for Daft, which would ask for its address
    if not ray.is_initialized():
        ray.init(address="local", num_cpus=workers, include_dashboard=False)


def worker_class(cls: type, workers: int) -> Any:
    """A class with a `daft.method`, to be instantiated once in each of so many workers."""
    return daft.cls(cls, max_concurrency=workers, use_process=workers > 1 or None)


def first_line(error: BaseException) -> str:
    """What an engine's error says: its last line, the ones before being a traceback."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:300]
