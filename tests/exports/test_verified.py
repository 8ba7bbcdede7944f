"""The committed table of real runs says what the kept rows say, and the rows are good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastewq.exports import TOOLS

ROOT = Path(__file__).parents[2]
ROWS: dict[str, Any] = json.loads((ROOT / "benchmarks" / "exports_results.json").read_text("utf-8"))
FAMILIES: dict[str, Any] = json.loads((ROOT / "benchmarks" / "exports_models.json").read_text("utf-8"))
RESOLVED: dict[str, Any] = json.loads((ROOT / "benchmarks" / "exports_resolved.json").read_text("utf-8"))
PAGE = (ROOT / "docs" / "exports-verified.md").read_text("utf-8")


@pytest.mark.parametrize("tool", ROWS)
def test_rows_are_on_the_page(tool: str) -> None:
    row = ROWS[tool]
    right = row["modules"] - len(row["wrong"])
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {tool} |"))
    assert f"{right} of {row['modules']}" in line
    assert f"{row['predicted_bytes']:,} / {row['written_bytes']:,}" in line
    assert row["versions"] in line


@pytest.mark.parametrize("tool", ROWS)
def test_rows_hold_what_the_exports_promise(tool: str) -> None:
    row = ROWS[tool]
    assert row["wrong"] == []
    assert abs(row["size_error"]) < 0.005
    assert abs(row.get("file_error", 0)) < 0.005
    assert row["generated"]


@pytest.mark.parametrize(("tool", "model"), [(tool, model) for tool in FAMILIES for model in FAMILIES[tool]["models"]])
def test_families_are_on_the_page_and_as_planned(tool: str, model: str) -> None:
    row = FAMILIES[tool]["models"][model]
    lines = [line for line in PAGE.splitlines() if line.startswith(f"| {tool} | {model} | ")]
    if "modules" not in row:
        assert row.get("refused") or row["not_exported"]
        assert lines == []
        return
    assert row["wrong"] == []
    assert abs(row["size_error"]) < 0.01  # small models, of which graphs and scalars are a part
    (line,) = lines
    assert f"{row['modules']} of {row['modules']} | {row['predicted_bytes']:,} / {row['written_bytes']:,} |" in line


def test_every_tool_names_what_it_was_verified_with() -> None:
    for tool in ROWS:
        if tool in TOOLS:
            for part in TOOLS[tool].verified.split(", "):
                name, _, version = part.rpartition(" ")
                assert version in ROWS[tool]["versions"], (tool, name, version)


def test_engines_resolve_every_module_as_planned() -> None:
    placements = {f"{engine} placement" for engine in ("llama.cpp", "transformers", "vllm")}
    assert set(RESOLVED) == {"vllm", "sglang"} | placements
    for engine, row in RESOLVED.items():
        assert engine in placements or set(row["formats"]) == {"compressed-tensors", "gptq"}
        for name, found in row["formats"].items():
            assert found["wrong"] == []
            count = f"{row['modules']} of {row['modules']}"
            assert f"| {engine} | {row['versions']} | {name} | {found['functions']} | {count} |" in PAGE
