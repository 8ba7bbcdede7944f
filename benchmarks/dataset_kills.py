"""Kill a dataset build at random moments, finish it, and compare its tables with those of an undisturbed one.

    python benchmarks/dataset_kills.py SOURCES... [--kills 10] [--seed 0] [--cache DIR] [--engine local|ray]

Runs the command `fastewq dataset build` itself, once undisturbed, then again with an empty log of readings. The second
one is killed with SIGKILL, with everything it started, as soon as its log holds a random number of readings and a
random part of a second has gone by; it is started again each time, and finally left to finish. `--cache` holds
downloads of an earlier build, so that they are not repeated. Prints what each kill left and exits with 1 unless the
tables are equal byte for byte and no tensor was read twice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

DOWNLOADS = ("wheels", "checkpoints")


def start(sources: Sequence[str], folder: Path, engine: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from fastewq.cli import main; main()", "dataset", "build", *sources]
    command += ["-o", str(folder), "--cache", str(folder / "cache"), "--engine", engine]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def prepare(folder: Path, downloads: Path | None) -> Path:
    (folder / "cache").mkdir(parents=True)
    for name in DOWNLOADS if downloads else ():
        (folder / "cache" / name).symlink_to((downloads / name).resolve())  # type: ignore[operator]
    return folder


def kill_session(leader: int) -> None:
    """SIGKILL for a process and everything it started: Ray's workers lead process groups of their own (Linux)."""
    members = [leader]
    while members:
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
        members = [pid for pid, state, session in processes() if session == leader and state != "Z"]


def processes() -> Iterator[tuple[int, str, int]]:
    """Id, state and session of every process of the machine."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session, *_ = path.read_text().rpartition(")")[2].split()
            yield int(path.parent.name), state, int(session)


def finished(folder: Path) -> list[str]:
    lines = [x for path in folder.glob("cache/readings/*/*.jsonl") for x in path.read_bytes().split(b"\n")[:-1]]
    return [json.loads(line)["key"] for line in lines]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="a cache whose downloads are used")
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="fastewq-kills-") as temporary:
        whole = prepare(Path(temporary, "undisturbed"), options.cache)
        began = time.perf_counter()
        if start(options.sources, whole, options.engine).wait():
            print((whole / "log").read_text())
            return 1
        seconds = time.perf_counter() - began
        expected = finished(whole)
        print(f"undisturbed: {seconds:.0f} s, {len(expected)} tensors")
        broken = prepare(Path(temporary, "killed"), options.cache)
        for kill, count in enumerate(sorted(chance.sample(range(len(expected)), options.kills)), 1):
            running = start(options.sources, broken, options.engine)
            while len(finished(broken)) < count and running.poll() is None:
                time.sleep(0.02)
            time.sleep(chance.uniform(0, 1))
            kill_session(running.pid)
            ended = running.wait()
            print(f"  kill {kill}: {len(finished(broken))} tensors finished, exit {ended}", flush=True)
        if start(options.sources, broken, options.engine).wait():
            print((broken / "log").read_text())
            return 1
        keys = finished(broken)
        same = all((broken / t.name).read_bytes() == t.read_bytes() for t in whole.glob("*.csv"))
        once = sorted(keys) == sorted(set(keys)) == sorted(expected)
        print(f"tables equal byte for byte: {same}; every tensor read exactly once: {once}")
        return 0 if same and once else 1


if __name__ == "__main__":
    sys.exit(main())
