"""What a user sees while weights stream by: memory that does not grow with the checkpoint, and a bar on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import runpy
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from .making import small_model

WIDTH = 8192
COMMAND = [sys.executable, "-c", "from fastewq.cli import main; main()"]
BUILD = """
import sys
from contextlib import suppress
from pathlib import Path
from fastewq.training.dataset import build_dataset
report = build_dataset(sys.argv[2:], Path(sys.argv[1], "blocks.csv"), Path(sys.argv[1], "cache"))
assert not report.errors, report.errors
"""

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="peaks of resident memory are read from /proc")


@pytest.fixture(scope="module")
def memory(root) -> dict:
    return runpy.run_path(str(root / "benchmarks" / "memory.py"))


@pytest.fixture(scope="module")
def bare(memory) -> int:
    return memory["peak_memory"](memory["PEAK"])


def write_zeros(folder: Path, shards: int, dtype: str, item: int) -> Path:
    """A model of zeros, which take no space on the disk: a shard per block, two matrices each."""
    folder.mkdir()
    size = WIDTH * WIDTH * item
    for n in range(shards):
        names = [f"model.layers.{n}.{part}.weight" for part in ("self_attn.q_proj", "mlp.up_proj")]
        entries = {
            name: {"dtype": dtype, "shape": [WIDTH, WIDTH], "data_offsets": [i * size, (i + 1) * size]}
            for i, name in enumerate(names)
        }
        header = json.dumps(entries).encode()
        with (folder / f"model-{n + 1:05}-of-{shards:05}.safetensors").open("wb") as stream:
            stream.write(len(header).to_bytes(8, "little") + header)
            stream.truncate(8 + len(header) + 2 * size)
    (folder / "config.json").write_text('{"model_type": "never_heard_of"}')
    return folder


@needs_linux
@pytest.mark.parametrize(("dtype", "item"), [("BF16", 2), ("F32", 4)])
def test_memory_does_not_grow_with_the_checkpoint(memory, bare, tmp_path, dtype, item):
    """`benchmarks/memory.py` does it with 12 GB of real numbers."""
    folder = write_zeros(tmp_path / "zeros", 8 // item, dtype, item)
    assert sum(path.stat().st_size for path in folder.iterdir()) > 2 * memory["LIMIT"]
    assert memory["peak_memory"](memory["ANALYSIS"], str(folder)) - bare < memory["LIMIT"]


@needs_linux
@pytest.mark.slow
def test_memory_of_a_build_from_the_hub_does_not_grow_either(memory, bare, loopback, tmp_path, monkeypatch):
    """Two repositories, so that what was fetched of the first must be given up for the second."""
    for name, dtype, item in (("one", "BF16", 2), ("two", "F32", 4)):
        folder = write_zeros(tmp_path / name, 4 // item, dtype, item)
        files = {p.name: p if p.suffix == ".safetensors" else p.read_bytes() for p in folder.iterdir()}
        loopback.add(f"zeros/{name}", files)
    monkeypatch.setenv("HF_ENDPOINT", loopback.endpoint)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    peak = memory["peak_memory"](BUILD + memory["PEAK"], str(tmp_path), "zeros/one", "zeros/two")
    assert peak - bare < memory["LIMIT"]


READING = """
import time
from fastewq.cli.offline import byte_progress
with byte_progress("some/model") as progress:
    for share in range(6):
        progress(share * 10**8, 10**9)
        time.sleep(0.15)
"""


def test_a_terminal_shows_a_bar_with_bytes_rate_and_time_left():
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    running = subprocess.Popen([sys.executable, "-c", READING], stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # Linux: the other end is closed
        while part := os.read(ours, 1 << 16):
            shown += part
    os.close(ours)
    assert running.wait() == 0
    text = re.sub(r"\x1b\[[\d;?]*\w", "", shown.decode())
    assert re.search(r"some/model +[━╺╸]+ +\d+\.\d/1\.0 GB +\d+\.\d [kMG]B/s +0:00:\d\d", text), text


def test_elsewhere_nothing_is_shown(tmp_path):
    save_file(small_model(), tmp_path / "m.safetensors")
    done = subprocess.run([*COMMAND, "analyze", str(tmp_path / "m.safetensors")], capture_output=True, check=True)
    assert done.stderr == b""
    assert b"\x1b" not in done.stdout
