"""The documentation: generated pages are current, every error is explained, every example runs, the site builds."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click import Group
from fastewq.api.settings import Settings
from typer.main import get_command

from fastewq.cli import app

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS.parent / "tools"))

import reference  # noqa: E402

from .conftest import run_shell  # noqa: E402

BLOCK = re.compile(r"^(?P<mark><!-- [^\n]*? -->\n)?```(?P<language>sh|python)\n(?P<code>.*?)^```$", re.M | re.S)
PAGES = sorted([DOCS.parent / "README.md", *DOCS.glob("*.md")])
BLOCKS = [
    (page.name, number, found) for page in PAGES for number, found in enumerate(BLOCK.finditer(page.read_text("utf-8")))
]
SHOWN_ALONE = {"README.md", "catalog.md", "quality.md"}
"""Pages whose commands take minutes, a network or files of the reader: other tests run what these do, and here they
must be ones that the command line takes. Their Python, and what asks the service, runs."""
EXAMPLES = [
    pytest.param(page, found["mark"] or "", found["language"], found["code"], id=f"{page}-{number}")
    for page, number, found in BLOCKS
    if page not in SHOWN_ALONE or found["mark"] or found["language"] == "python"
]
COMMAND = re.compile(r"^(?:[A-Z_]+=\S+ )?fastewq ([^#>|\n]+)", re.M)
COMMANDS = [
    pytest.param(shlex.split(command), id=f"{page}-{command}")
    for page, _, found in BLOCKS
    for command in map(str.strip, COMMAND.findall(found["code"]))
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


@pytest.mark.parametrize(("page", "mark", "language", "code"), EXAMPLES)
def test_every_example_runs(workspace, docs_server, page, mark, language, code):
    if "needs the service" in mark:
        code = code.replace("http://127.0.0.1:8000", docs_server.url).replace("curl -s ", "curl -s --fail-with-body ")
    if language == "python":
        code = f"python - <<'END'\n{code}END"
    run = run_shell(code, workspace)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert run.stdout


@pytest.mark.parametrize("arguments", COMMANDS)
def test_every_command_shown_is_one_that_the_command_line_takes(arguments):
    command = get_command(app)
    while isinstance(command, Group):
        name, *arguments = arguments
        assert name in command.commands
        command = command.commands[name]
    command.make_context(command.name, arguments)


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("furo", reason="the extra [docs] is not installed")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "FastEWQ" in (tmp_path / "index.html").read_text("utf-8")
