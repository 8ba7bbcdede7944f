"""Where a DataFrame of Daft runs: in this process, in several of this machine, or on a Ray cluster.

    engine = Engine("ray", address="head:6379")
    workers = engine.start()
    function = worker_class(Kernel, workers)(arguments)     # one instance per worker
    frame.with_column("result", function(col("input")))

The same DataFrame gives the same rows on every engine; only who computes them differs.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, Final

# Neither engine may report home, and progress is shown by the commands themselves, on a terminal alone.
os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
# Worker processes import the FastEWQ that started them, not one that the working directory happens to hold.
os.environ.setdefault("PYTHONSAFEPATH", "1")

import daft
import pyarrow as pa
from daft.exceptions import DaftCoreException
from daft.execution import udf

import fastewq
from fastewq.errors import FastEWQError, InputError, MissingExtra, StorageFailure, UnavailableError

CONNECT_SECONDS: Final = 10.0
START_SECONDS: Final = 120.0
"""For a worker process to import what it needs, on a machine where many start at once."""

# What Daft logs of an error it raises as well; a handler keeps it from stderr where the program has set up no logging.
logging.getLogger("daft_local_execution").addHandler(logging.NullHandler())


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

    def check(self) -> None:
        """What can be known before there is work to do.

        Raises InputError for an address without Ray and for a working directory that Ray cannot be used in,
        MissingExtra, and UnavailableError where no cluster answers at the address.
        """
        if self.name == "ray":
            _check_working_directory()
            if find_spec("ray") is None:
                raise MissingExtra("the package ray is not installed", hint="pip install 'fastewq[cluster]'")
            if address := self._cluster():
                _reach(address)
        elif self.address:
            raise InputError(f"address is {self.address!r:.100}, but the engine is {self.name}; expected engine ray")

    def _cluster(self) -> str | None:
        """The address of a running Ray cluster."""
        return self.address or os.environ.get("RAY_ADDRESS")

    def start(self) -> int:
        """Choose Daft's runner, which a process can do once; returns the number of workers. Raises as `check`."""
        self.check()
        workers = self.workers or os.cpu_count() or 1
        if self.name == "ray":
            if self._cluster() is None:
                _start_ray(workers)
            try:
                daft.set_runner_ray(self.address, noop_if_initialized=True)
            except ConnectionError as error:
                raise UnavailableError(f"the Ray cluster at {self._cluster()} refuses: {error}"[:500]) from error
        else:
            # Left to itself, Daft loads Ray wherever that is installed, and takes it inside a job of Ray.
            with suppress(DaftCoreException):  # a runner was chosen before
                daft.set_runner_native()
        return workers


def _check_working_directory() -> None:
    """Ray puts the working directory before everything that is installed, in every worker."""
    other = Path("fastewq", "__init__.py")
    if other.exists() and not other.samefile(fastewq.__file__):
        raise InputError(
            f"{other.parent.absolute()} is not the FastEWQ that runs, but Ray's workers would import it",
            hint="Run the command in another folder.",
        )


def _reach(address: str) -> None:
    """Ray itself would try for minutes. An address that is no HOST:PORT, such as `auto`, is left to it."""
    match = re.fullmatch(r"(?:ray://)?([^/]+):(\d{1,5})", address)
    if match:
        try:
            socket.create_connection((match[1].strip("[]"), int(match[2])), CONNECT_SECONDS).close()
        except (OSError, OverflowError, UnicodeError) as error:
            raise UnavailableError(f"the Ray cluster at {address} cannot be reached: {error}") from error


def _start_ray(workers: int) -> None:
    """A cluster of this machine with what the work needs: no dashboard, and no more processes than workers."""
    import ray

    os.environ.setdefault("RAY_DISABLE_DASHBOARD", "1")  # for Daft, which would ask for its address
    if not ray.is_initialized():
        ray.init(address="local", num_cpus=workers, include_dashboard=False)


class _BoundedListener(Listener):
    """Where a worker process calls in. Daft waits for it without end, even if it was killed before it could."""

    def accept(self) -> Connection[Any, Any]:
        called = threading.Event()
        threading.Thread(target=self._give_up, args=(called,), daemon=True).start()
        try:
            return super().accept()
        except (OSError, EOFError) as error:
            raise RuntimeError(f"a worker process died or did not start within {START_SECONDS:.0f} s") from error
        finally:
            called.set()

    def _give_up(self, called: threading.Event) -> None:
        if not called.wait(START_SECONDS):
            Client(self.address).close()  # a caller that says nothing ends the wait


udf.Listener = _BoundedListener  # type: ignore[attr-defined]


def worker_class(cls: type, workers: int) -> Any:
    """A class with a `daft.method`, to be instantiated once in each of so many workers."""
    return daft.cls(cls, max_concurrency=workers, use_process=workers > 1 or None)


@contextmanager
def stopping(work: str) -> Iterator[None]:
    """Around what runs a DataFrame: raises StorageFailure where its engine fails or the disk does."""
    ray = sys.modules.get("ray")
    of_ray = (ray.exceptions.RayError,) if ray else ()
    try:
        yield
    except FastEWQError:
        raise
    except (RuntimeError, OSError, pa.ArrowException, *of_ray) as error:
        # The last line, as those before are a traceback; of a StorageFailure its message.
        line = (str(error).strip() or type(error).__name__).splitlines()[-1]
        reason = line.rpartition(f"{StorageFailure.__name__}: ")[2][:300]
        hint = "Memory or /dev/shm may be too small for so many --workers." if " process " in reason else ""
        raise StorageFailure(f"{work} stopped: {reason}", hint=hint) from error
