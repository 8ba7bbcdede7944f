"""The arrows of the design: the core imports neither the network, nor servers, nor trainers, and starts light."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib

import pytest

from fastewq import architectures

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
ARCHITECTURES = "fastewq.architectures."
FOLDERS = [
    *("decoders", "encoders", "vision", "seq2seq", "dense_prediction", "audio"),
    *("vision_language", "audio_language", "remote"),
]


def imported(source: str) -> set[str]:
    """What a file imports, in functions as well: modules, and names in modules, which can be modules too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import fastewq.architectures.remote.kimi as kimi",
        "from fastewq.architectures.remote.kimi import REMOTE_KIMI",
        "from fastewq.architectures import errors, remote",
        "def late():\n    import json, fastewq.architectures.remote",
    ],
)
def test_every_form_of_import_is_seen(source):
    assert any(name.startswith(f"{ARCHITECTURES}remote") for name in imported(source))


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
    assert {name for name in loaded if name.startswith(ARCHITECTURES) and name.count(".") > 2} == {
        f"{ARCHITECTURES}decoders.dense"
    }


def test_folders_of_architectures_import_only_those_before_them(root):
    for path in (root / "fastewq" / "architectures").rglob("*.py"):
        folder = path.parent.name
        for name in imported(path.read_text("utf-8")):
            other = name.removeprefix(ARCHITECTURES).split(".")[0]
            if not name.startswith(ARCHITECTURES) or other not in FOLDERS:
                continue
            assert folder in FOLDERS or path.name == "text.py", f"{path} imports {name}"
            assert folder not in FOLDERS or FOLDERS.index(other) <= FOLDERS.index(folder), f"{path} imports {name}"


def test_the_folders_of_architectures_are_those_of_their_map(root):
    """In `FOLDERS`, in the docstring that a newcomer reads first, and on disk; every one is packaged."""
    folders = {path.parent.name for path in (root / "fastewq" / "architectures").glob("*/__init__.py")}
    assert folders == set(FOLDERS)
    assert re.findall(r"^    (\w+)/  ", architectures.__doc__ or "", re.M) == FOLDERS
    packages = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    written = {".".join(path.parent.relative_to(root).parts) for path in (root / "fastewq").rglob("__init__.py")}
    assert written <= set(packages)
