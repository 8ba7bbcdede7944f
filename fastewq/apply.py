"""Run a deployment tool on a plan and check what it wrote: every module at its precision, the size as predicted.

llama.cpp runs here, through the `gguf` package (extra `apply`). Every other tool runs as the exported `quantize.py` in
the Python environment where it is installed, which need not be this one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from fastewq.document import Plan
from fastewq.errors import CannotExport, MissingExtra, NotFound, StorageFailure, UnavailableError
from fastewq.exports import TOOLS, export
from fastewq.exports.assignment import Assignment, assign
from fastewq.exports.llama_cpp import gguf_names, outside_types, tensor_rules
from fastewq.exports.readback import READERS, Check, check
from fastewq.files import save, writable_folder
from fastewq.shown import shown

Progress = Callable[[int, int, str], None]


def apply(
    plan: Plan,
    tool: str,
    model: Path,
    out: Path,
    *,
    nearest: bool = False,
    python: Path | None = None,
    arguments: Sequence[str] = (),
    progress: Progress | None = None,
) -> Check:
    """Quantize `model` with `tool` into `out`, which must not exist, and compare the result with the plan.

    model       a folder in the transformers layout; for llama.cpp an unquantized GGUF file
    python      the interpreter that has the tool; this one where None
    arguments   further arguments of the tool's script, for instance calibration data
    progress    told (steps done, steps, what) where the tool runs here; other tools print to stderr

    `out` appears only when the tool has finished. Raises CannotExport, NotFound, StorageFailure, UnavailableError.
    """
    if not isinstance(tool, str) or tool not in READERS:
        raise CannotExport(f"tool is {shown(tool, 40)}; `apply` runs {', '.join(READERS)}")
    exported = export(plan, tool, nearest=nearest)
    if not model.exists():
        raise NotFound(f"{model} does not exist")
    if out.exists():
        raise StorageFailure(f"{out} exists; expected a new path", hint="Remove it or choose another one.")
    assignment = TOOLS[tool].adapt(assign(plan, TOOLS[tool].target))
    with tempfile.TemporaryDirectory(prefix=".fastewq-", dir=writable_folder(out.parent)) as work:
        result = Path(work) / "result"
        if tool == "llama.cpp":
            _write_gguf(assignment, model, result, progress)
        else:
            for name, text in exported.files.items():
                save(Path(work) / name, text.encode())
            _run(python or Path(sys.executable), Path(work) / "quantize.py", model, result, arguments)
        found = check(assignment, tool, result)
        shutil.move(result, out)
    return found


def _write_gguf(assignment: Assignment, model: Path, result: Path, progress: Progress | None) -> None:
    try:
        from fastewq.exports.gguf_file import write_mixed
    except ImportError:
        raise MissingExtra("the gguf package is not installed", hint="pip install 'fastewq[apply]'") from None
    embedding, head = outside_types(assignment)
    model_type, rules = assignment.plan.model["model_type"], tensor_rules(assignment, gguf_names(assignment))
    write_mixed(model, result, model_type, rules, embedding, head, progress)


def _run(python: Path, script: Path, model: Path, result: Path, arguments: Sequence[str]) -> None:
    # Not resolved: the interpreter of a virtual environment is a link, and found by it.
    command = [str(python), str(script.resolve()), str(model.resolve()), str(result.resolve()), *arguments]
    try:
        done = subprocess.run(command, stdout=sys.stderr, check=False)
    except OSError as error:
        raise UnavailableError(f"{python} cannot be run: {error.strerror}") from error
    if done.returncode or not result.exists():
        raise UnavailableError(
            f"{script.name} ended with code {done.returncode} and wrote {'a' if result.exists() else 'no'} result",
            hint="Its output above says why; the tool must be installed in that Python environment.",
        )
