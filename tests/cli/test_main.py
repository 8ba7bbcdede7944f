"""What every command has in common: how an error ends it, and tables on narrow terminals."""

from __future__ import annotations

import json
import os
import re
import socket
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


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("plan",), "Missing argument"),
        (("plan", str(LLAMA), "--context", "many"), "'--context': 'many'; input should be a valid integer"),
        (("plan", str(LLAMA), "--threshold", "x" * 999), f"'--threshold': '{'x' * 56}...; input should be"),
        (("catalog", "build", ".", "-o", "made", "--workers", "0"), "'--workers': '0'; input should be greater than"),
        (("catalog", "build", ".", "-o", "made", "--engine", "x"), "'--engine': Value error, 'x' is not one of"),
        (("plan", str(LLAMA), "--speed", "9"), "No such option"),
        (("fly",), "No such command"),
    ],
)
def test_wrong_usage_is_an_error_like_any_other(arguments: tuple[str, ...], problem: str) -> None:
    words, document = fastewq(*arguments), fastewq(*arguments, "--json")
    assert (words.returncode, document.returncode) == (2, 2)
    assert problem in " ".join(words.stderr.replace("│", "").split())  # which lies in a box
    error = json.loads(document.stderr)["error"]
    assert error["code"] == "usage"
    assert problem in error["message"]


def test_a_plan_is_no_config(tmp_path: Path) -> None:
    made = tmp_path / "plan.json"
    made.write_text(json.dumps(plan(json.loads(LLAMA.read_text())).as_dict()), "utf-8")
    done = fastewq("plan", str(made))
    assert done.returncode == 3
    assert "'fastewq.plan/1', so this is a document of ours; expected a model's config" in done.stderr


def test_a_port_in_use_is_an_io_failure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = fastewq("serve", "--port", str(port), timeout=60)
    assert done.returncode == 5
    assert "address already in use" in done.stderr
    assert f"error: the service at 127.0.0.1:{port} ended" in done.stderr


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


def test_an_error_leaves_a_process_alone_that_has_imported_daft_itself() -> None:
    pytest.importorskip("daft")
    code = "import sys, daft\nfrom fastewq.cli import main\ntry: main()\nexcept SystemExit as end: print('left', end)"
    result = subprocess.run([sys.executable, "-c", code, "plan", "no.json"], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "left 4\n")
    assert result.stderr.startswith("error: ")


def test_a_build_that_fails_within_a_process_leaves_it_alive(tmp_path: Path) -> None:
    pytest.importorskip("daft")
    code = (
        "import sys\nfrom fastewq.cli import app\nfor build in sys.argv[1:]:\n"
        "    try: app(build.split())\n    except SystemExit as end: print('left', end)"
    )
    builds = [f"catalog build {tmp_path}/no.parquet -o {tmp_path}/c", f"dataset build {tmp_path}/no.toml -o {tmp_path}"]
    result = subprocess.run([sys.executable, "-c", code, *builds], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout) == (0, "left 4\nleft 4\n"), result.stderr
