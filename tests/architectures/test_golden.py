"""Every described architecture against tables made with the transformers library (tools/oracle.py golden)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from fastewq.architecture import Architecture
from fastewq.architectures.fields import transformers_version
from fastewq.config import read_config
from fastewq.document import read_plan
from fastewq.plan import plan

TABLES = sorted((Path(__file__).parent / "golden").glob("*.json"))


def digest(architecture: Architecture) -> str:
    """Stands for every tensor's name and shape, as the oracle computes it."""
    shapes = {
        f"{block.path}.{t.name}": t.shape
        for stack in architecture.stacks
        for block in stack.blocks
        for t in block.layout.tensors
    }
    for group in architecture.outside:
        shapes |= {".".join(filter(None, (group.path, t.name))): t.shape for t in group.tensors}
    lines = "\n".join(f"{name} {','.join(map(str, shape))}" for name, shape in sorted(shapes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def run_lengths(architecture: Architecture) -> list[list[Any]]:
    """[[path of a stack, [[blocks, parameters of each], ...]], ...]"""
    stacks: dict[str, list[list[int]]] = {}
    for stack in architecture.stacks:
        for block in stack.blocks:
            runs = stacks.setdefault(block.path.rpartition(".")[0], [])
            if runs and runs[-1][1] == block.layout.parameters:
                runs[-1][0] += 1
            else:
                runs.append([1, block.layout.parameters])
    return [[path, runs] for path, runs in stacks.items()]


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_every_tensor_as_in_the_library(table: Path) -> None:
    document = json.loads(table.read_text("utf-8"))
    assert document["transformers"] == transformers_version()
    assert document["cases"]
    for case in document["cases"]:
        architecture = read_config(case["config"])
        assert architecture.parameters == case["total"], case["config"]
        assert run_lengths(architecture) == case["blocks"], case["config"]
        assert digest(architecture) == case["digest"], case["config"]


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_the_document_of_a_plan_is_read_back_as_it_is(table: Path) -> None:
    config = json.loads(table.read_text("utf-8"))["cases"][0]["config"]
    document = orjson.loads(orjson.dumps(plan(config).as_dict()))
    assert read_plan(document).as_dict() == document


def test_tables_exist_for_what_most_people_use() -> None:
    names = {path.stem for path in TABLES}
    assert {"llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma3_text", "phi3", "deepseek_v3"} <= names
    assert {"gpt2", "gpt_neox", "opt", "falcon", "gpt_oss", "mamba", "nemotron_h", "glm4_moe", "qwen3_next"} <= names
