"""The arrows of the design: the core imports neither the network, nor servers, nor trainers, and starts light."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CORE = (
    "fastewq",
    "fastewq.architecture",
    "fastewq.architectures",
    "fastewq.config",
    "fastewq.errors",
    "fastewq.features",
    "fastewq.plan",
    "fastewq.predictor",
    "fastewq.quantized",
    "fastewq.schemes",
)
FORBIDDEN = {
    "fastewq.analysis",
    "fastewq.api",
    "fastewq.catalog",
    "fastewq.hub",
    "fastewq.training",
    "daft",
    "fastapi",
    "huggingface_hub",
    "numba",
    "pandas",
    "pydantic",
    "rich",
    "scipy",
    "sklearn",
    "torch",
    "transformers",
    "typer",
    "xgboost",
}


def modules_after(statement: str) -> set[str]:
    code = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", CORE)
def test_the_core_imports_nothing_heavy(module):
    assert not FORBIDDEN & modules_after(f"import {module}")


def test_a_plan_needs_nothing_heavy_either(root):
    config = root / "examples" / "llama-3.1-8b.json"
    loaded = modules_after(f"import json, fastewq; fastewq.plan(json.load(open({str(config)!r})))")
    assert not FORBIDDEN & loaded
    # Nor what only other models need: the families not asked for, and a part of numpy that one careless call loads.
    assert not {"fastewq.architectures.text", "fastewq.architectures.assembly", "numpy.ma"} & loaded
