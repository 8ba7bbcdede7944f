"""What every command has in common: how an error ends it, and tables on narrow terminals."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastewq import plan
from fastewq.tables import print_plan

LLAMA = Path(__file__).parents[2] / "examples" / "llama-3.1-8b.json"
COMMANDS = [("plan", str(LLAMA)), ("plan", str(LLAMA), "--json"), ("architectures",), ("--help",)]


def fastewq(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from fastewq.cli import main; main()", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk without space")
@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_full_disk_behind_stdout_is_an_error(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = fastewq(*arguments, stdout=full)
    assert done.returncode == 5
    if "--json" in arguments:
        assert json.loads(done.stderr.splitlines()[-1])["error"]["code"] == "storage_failure"
    assert "the output: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_reader_that_leaves_is_no_error_to_speak_of(arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = fastewq(*arguments, stdout=writing)
    os.close(writing)
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr


@pytest.mark.parametrize("columns", ["40", "60", "80"])
def test_a_narrow_terminal_cuts_no_figure(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    print_plan(plan(json.loads(LLAMA.read_text())))
    shown = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= int(columns)
