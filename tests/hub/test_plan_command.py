"""`fastewq plan` pointed at a Hub, as a user runs it."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from math import prod

import numpy as np
import pytest
from safetensors.numpy import save

from fastewq import read_config
from fastewq.analysis.tensors import BITS
from fastewq.errors import InputError, NotFound
from fastewq.names import is_hub_id
from fastewq.source import read_source
from hub.loopback import Fault


@pytest.fixture
def fastewq(loopback, tmp_path):
    """Runs the command with a home of its own; returns (exit code, stdout, stderr)."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": loopback.endpoint,
        "XDG_CACHE_HOME": str(tmp_path),
        "HF_HOME": str(tmp_path),
    }

    def run(*arguments: str) -> tuple[int, str, str]:
        command = [sys.executable, "-c", "from fastewq.cli import main; main()", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, input="{}")
        return done.returncode, done.stdout, done.stderr

    return run


def test_a_plan_by_hub_id_then_offline_then_without_the_hub(fastewq, loopback, llama):
    commit = loopback.add("cli/llama", {"config.json": json.dumps(llama).encode()})
    code, online, errors = fastewq("plan", "cli/llama", "--json")
    assert (code, errors) == (0, "")
    assert (json.loads(online)["model"]["id"], json.loads(online)["model"]["revision"]) == ("cli/llama", commit)
    with loopback.injecting(Fault("reset")):
        assert fastewq("plan", "cli/llama", "--json", "--offline") == (0, online, "")
        assert loopback.requests == []
        assert fastewq("plan", "cli/llama", "--json", "--revision", commit) == (0, online, "")
        assert loopback.requests == []


def test_exact_says_whether_headers_and_config_agree(fastewq, loopback, llama):
    small = {**llama, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 100}
    small |= {"torch_dtype": "float16", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    architecture = read_config(small)
    tensors = {f"{b.path}.{t.name}": t.shape for b in architecture.stacks[0].blocks for t in b.layout.tensors}
    tensors |= {f"{g.path}.{t.name}": t.shape for g in architecture.outside for t in g.tensors}
    weights = save({name: np.zeros(shape, np.float16) for name, shape in tensors.items()})
    loopback.add("cli/exact", {"config.json": json.dumps(small).encode(), "model.safetensors": weights})
    loopback.add(
        "cli/lies", {"config.json": json.dumps({**small, "vocab_size": 90}).encode(), "model.safetensors": weights}
    )
    code, output, _ = fastewq("plan", "cli/exact", "--exact", "--json")
    assert (code, json.loads(output)["model"]["headers"]["agree"]) == (0, True)
    assert json.loads(output)["model"]["headers"]["parameters"] == architecture.parameters
    code, output, _ = fastewq("plan", "cli/lies", "--exact", "--json")
    document = json.loads(output)
    assert (code, document["model"]["headers"]["agree"]) == (0, False)
    assert document["warnings"][0].startswith("outside the blocks: ")
    assert document["model"]["parameters"] == architecture.parameters
    code, _, _ = fastewq("plan", "-", "--exact")
    assert code == 3


def empty_weights(tensors: dict[str, tuple[str, list[int]]]) -> bytes:
    """A safetensors file of zeros: {name: (dtype, shape)}."""
    header, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


def test_exact_reads_how_nvidias_older_checkpoints_are_quantized(fastewq, loopback, root):
    """Their config does not say it; a file beside it does."""
    written = json.loads((root / "tests" / "data" / "stored_formats.json").read_text("utf-8"))
    case = written["modelopt FP8_DEFAULT_CFG"]
    said = case["config"].pop("quantization_config")
    files = {
        "config.json": json.dumps(case["config"]).encode(),
        "hf_quant_config.json": json.dumps(
            {"quantization": {"quant_algo": "FP8", "exclude_modules": said["ignore"]}}
        ).encode(),
        "model.safetensors": empty_weights(case["tensors"]),
    }
    loopback.add("cli/modelopt", files)
    code, output, _ = fastewq("plan", "cli/modelopt", "--exact", "--json")
    document = json.loads(output)
    assert (code, document["model"]["headers"]["agree"], document["model"]["quantization"]) == (0, True, "modelopt")
    assert document["totals"]["raw_bytes"] == document["model"]["headers"]["bytes"]


@pytest.mark.parametrize(
    ("arguments", "code", "name"),
    [
        (("cli/nowhere",), 4, "not_found"),
        (("cli/llama-2", "--offline"), 5, "hub_unavailable"),
        (("cli/llama-2", "--revision", "../x"), 4, "not_found"),
    ],
)
def test_errors_have_their_exit_code_and_one_json_object(fastewq, arguments, code, name):
    found, output, errors = fastewq("plan", *arguments, "--json")
    assert (found, output) == (code, "")
    assert json.loads(errors)["error"]["code"] == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/name", True),
        ("Qwen/Qwen2.5-0.5B", True),
        ("name", False),
        ("./org/name", False),
        ("a/b/c", False),
        ("a/config.json", False),
        ("../name", False),
        ("a/", False),
        ("http://x", False),
    ],
)
def test_what_looks_like_a_hub_id(text, expected):
    assert is_hub_id(text) is expected


def test_a_path_wins_over_a_hub_id_and_has_no_revision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    (tmp_path / "org" / "name" / "config.json").write_text('{"model_type": "x"}')
    assert read_source("org/name").config == {"model_type": "x"}
    with pytest.raises(InputError, match="--revision is 'main'"):
        read_source("org/name", revision="main")
    with pytest.raises(NotFound, match=r"missing\.json does not exist"):
        read_source("org/missing.json")
