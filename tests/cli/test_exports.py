"""`fastewq plan` with its options, `export` and `apply`, as a user calls them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fastewq import files
from fastewq.cli import main

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 256, "intermediate_size": 512,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 4, "vocab_size": 128, "dtype": "bfloat16",
    "tie_word_embeddings": False,
}  # fmt: skip


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def fastewq(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The command's entry point with these arguments, in this process."""

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["fastewq", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(int(ended.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return path


@pytest.fixture
def plan(config: Path, tmp_path: Path, fastewq: Command) -> Path:
    path = tmp_path / "plan.json"
    path.write_text(fastewq("plan", config, "--json", "--override", "0-3=int4", "--override", "0=raw").stdout)
    return path


def test_options_reach_the_plan(config: Path, fastewq: Command) -> None:
    done = fastewq(
        "plan", config, "--json", "--policy", "8bit-mixed", "--threshold", "0", "--keep-ends", "--embeddings", "int8",
        "--lm-head", "int4", "--override", "1=int4", "--target", "gguf", "--context", "64", "--batch", "2",
        "--cache-bits", "8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert [b["precision"] for b in document["stacks"][0]["blocks"]] == ["bf16", "int4", "int8", "bf16"]
    assert [g["precision"] for g in document["other"]] == ["int8", "bf16", "int4"]
    assert document["target"] == "gguf"
    assert document["policy"]["threshold"] == 0
    elements = 4 * 2 * 2 * 64 * 64 * 2
    assert document["memory"]["kv_cache"] == elements + elements // 32 * 2  # a 16-bit scale for every 32


def test_memory_is_shown_and_kept(config: Path, fastewq: Command) -> None:
    done = fastewq("plan", config, "--memory", "3MiB", "--device", "2MiB", "--device", "2MiB", "--reserve", "100kB")
    assert done.returncode == 0, done.stderr
    assert "of 2 devices" in done.stdout
    assert "free" in done.stdout
    too_little = fastewq("plan", config, "--memory", "100kB", "--json")
    assert too_little.returncode == 3
    error = json.loads(too_little.stderr)["error"]
    assert error["code"] == "does_not_fit"
    assert "bytes more memory" in error["hint"]


def test_export_prints_writes_and_answers_json(plan: Path, tmp_path: Path, fastewq: Command) -> None:
    printed = fastewq("export", plan, "--to", "llama.cpp")
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout == "^blk\\.(0)\\..*\\.weight$=bf16\n^blk\\.(1|2|3)\\..*\\.weight$=q4_0\n.*=bf16\n"
    assert "llama-quantize --tensor-type-file" in printed.stderr

    written = fastewq("export", plan, "--to", "mlx", "-o", tmp_path / "mlx")
    assert written.returncode == 0, written.stderr
    assert {p.name for p in (tmp_path / "mlx").iterdir()} == {"mlx.json", "quantize.py"}

    document = json.loads(fastewq("export", plan, "--to", "mlx", "--json").stdout)
    assert document["schema"] == "fastewq.export/1"
    assert {f["name"]: f["content"] for f in document["files"]}["mlx.json"] == (
        tmp_path / "mlx" / "mlx.json"
    ).read_text()


def test_what_cannot_be_exported_is_an_error_and_nearest_lists_differences(
    config: Path, tmp_path: Path, fastewq: Command
) -> None:
    plan = tmp_path / "ternary.json"
    plan.write_text(fastewq("plan", config, "--json", "--override", "0-3=ternary").stdout)
    refused = fastewq("export", plan, "--to", "mlx")
    assert refused.returncode == 3
    assert "has no ternary format" in refused.stderr
    nearest = fastewq("export", plan, "--to", "mlx", "--nearest")
    assert nearest.returncode == 0
    assert nearest.stderr.count("differs: model.layers.") == 4 * 7
    assert "ternary -> int4: mlx has no ternary format" in nearest.stderr


def test_a_model_is_not_a_plan(config: Path, fastewq: Command) -> None:
    for model in (config, config.parent):
        done = fastewq("export", model, "--to", "mlx")
        assert done.returncode == 3
        assert f"fastewq plan {model} --json" in done.stderr


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[]", b'{"schema": "fastewq.plan/1"}'])
def test_what_is_no_plan_is_refused_with_what_to_give(content: bytes, tmp_path: Path, fastewq: Command) -> None:
    (tmp_path / "x.json").write_bytes(content)
    done = fastewq("export", tmp_path / "x.json", "--to", "mlx", "--json")
    assert done.returncode == 3
    error = json.loads(done.stderr)["error"]
    assert error["code"] == "invalid_plan"
    assert error["hint"] == "Send the unmodified output of `fastewq plan --json`."


@pytest.mark.parametrize("value", ["2", "-1", "nan"])
def test_a_threshold_out_of_bounds_is_named_with_its_value(value: str, plan: Path, fastewq: Command) -> None:
    done = fastewq("plan", config_of(plan), "--threshold", value)
    problem = done.stderr.splitlines()[0]
    assert (done.returncode, problem.partition(";")[2]) == (3, " expected a number from 0 to 1")
    assert f"policy.threshold is {float(value)}" in done.stderr


@pytest.mark.parametrize("output", ["file", "file/below", "closed", "closed/below"])
def test_a_folder_that_cannot_be_written_is_one_line(
    output: str, plan: Path, tmp_path: Path, fastewq: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "closed").mkdir()
    closed = str(tmp_path / "closed")
    made, tried = os.mkdir, files.TemporaryFile  # closed to this process, whoever runs it: root may write everywhere

    def mkdir(path: str | Path, *rest: Any) -> None:
        if str(path).startswith(closed + "/"):
            raise PermissionError(13, "Permission denied", str(path))
        made(path, *rest)

    def temporary(dir: Path) -> Any:  # noqa: A002
        if str(dir) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return tried(dir=dir)

    monkeypatch.setattr(os, "mkdir", mkdir)
    monkeypatch.setattr(files, "TemporaryFile", temporary)
    done = fastewq("export", plan, "--to", "mlx", "-o", tmp_path / output)
    assert done.returncode == 5
    assert done.stderr.startswith(f"error: the folder {tmp_path / output} cannot be ")
    assert done.stderr.count("\n") == 1
    applied = fastewq("apply", plan, config_of(plan), tmp_path / output / "out", "--to", "mlx")
    assert applied.returncode == 5
    assert "the folder" in applied.stderr


def config_of(plan: Path) -> Path:
    return plan.with_name("config.json")


def test_apply_writes_and_checks_a_gguf_file(plan: Path, tmp_path: Path, fastewq: Command) -> None:
    from exports.test_gguf import write_source

    from fastewq.document import read_plan

    write_source(tmp_path / "raw.gguf", read_plan(json.loads(plan.read_text())))
    done = fastewq("apply", plan, tmp_path / "raw.gguf", tmp_path / "out.gguf", "--to", "llama.cpp", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["modules"] == 4 * 7 + 2
    assert found["wrong"] == []
    assert found["size_error"] == 0
    again = fastewq("apply", plan, tmp_path / "raw.gguf", tmp_path / "out.gguf", "--to", "llama.cpp")
    assert again.returncode == 5
    assert "exists; expected a new path" in again.stderr


def test_apply_reports_a_tool_that_fails(plan: Path, tmp_path: Path, fastewq: Command) -> None:
    (tmp_path / "model").mkdir()
    done = fastewq("apply", plan, tmp_path / "model", tmp_path / "out", "--to", "mlx")
    assert done.returncode == 5
    assert "quantize.py ended with code 1 and wrote no result" in done.stderr
    assert not (tmp_path / "out").exists()
    assert done.stdout == ""


TOOL = """
import sys
from pathlib import Path

model, out, given = sys.argv[1:]
assert Path(model, "config.json").is_file()
assert Path(given).read_text() == "texts"
Path(out).mkdir()
"""


def test_apply_takes_relative_paths(
    plan: Path, tmp_path: Path, fastewq: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of model, result, interpreter and arguments, as a user types them."""
    from fastewq.exports import quanto

    monkeypatch.setattr(quanto, "scripts", lambda name: {"quantize.py": TOOL})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "python").symlink_to(sys.executable)
    (tmp_path / "texts.txt").write_text("texts")
    done = fastewq("apply", plan.name, ".", "out", "--to", "quanto", "--python", "./python", "--arg", "texts.txt")
    assert "result holds no safetensors file" in done.stderr  # the script ran to its end, and what it wrote was read
