"""The documentation: generated pages are current, every error is explained, every example runs, the site builds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fastewq.api.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS.parent / "tools"))

import reference  # noqa: E402

BLOCK = re.compile(r"^(?P<mark><!-- [^\n]*? -->\n)?```(?P<language>sh|python)\n(?P<code>.*?)^```$", re.M | re.S)
PAGES = ("quickstart.md", "service.md")
EXAMPLES = [
    pytest.param(page, found["mark"] or "", found["language"], found["code"], id=f"{page}-{number}")
    for page in PAGES
    for number, found in enumerate(BLOCK.finditer((DOCS / page).read_text("utf-8")))
]


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_is_current(name):
    written = (DOCS / "reference" / name).read_text("utf-8")
    assert written == reference.NOTE + reference.PAGES[name](), "run: python tools/reference.py"


def test_every_error_code_is_explained():
    explained = {
        code.strip()
        for line in (DOCS / "errors.md").read_text("utf-8").splitlines()
        if re.fullmatch(r"[a-z_]+(, [a-z_]+)*", line)
        for code in line.split(",")
    }
    assert explained == {cls.code for cls in reference._subclasses(reference.FastEWQError)}


def test_every_setting_named_in_the_documentation_exists():
    known = {f"FASTEWQ_{name.upper()}" for name in Settings.model_fields}
    for page in ("service.md", "deployment.md", "faq.md"):
        assert set(re.findall(r"FASTEWQ_[A-Z_]+", (DOCS / page).read_text("utf-8"))) <= known


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A folder with the examples of the project, in which the examples of the documentation run one after another."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(DOCS.parent / "examples", folder / "examples")
    return folder


@pytest.mark.parametrize(("page", "mark", "language", "code"), EXAMPLES)
def test_every_example_runs(workspace, docs_server, page, mark, language, code):
    if "needs the service" in mark:
        code = code.replace("http://127.0.0.1:8000", docs_server.url).replace("curl -s ", "curl -s --fail-with-body ")
    command = [sys.executable, "-c", code] if language == "python" else ["bash", "-euc", code]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(command, cwd=workspace, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert run.stdout


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("furo", reason="the extra [docs] is not installed")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "FastEWQ" in (tmp_path / "index.html").read_text("utf-8")
