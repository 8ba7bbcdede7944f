"""What an export is, and what every tool module provides."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from fastewq.exports.assignment import Assignment, Difference


@dataclass(frozen=True, slots=True)
class Parts:
    """What a tool module makes of an assignment: files by name, how to use them, and what the user should know."""

    files: dict[str, str]
    usage: str
    warnings: tuple[str, ...] = ()
    header_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Tool:
    """One deployment tool.

    target     whose formats count the bytes (`fastewq.schemes.TARGETS`)
    verified   the release that the export was checked with, or how else it was checked
    build      assignment -> files
    adapt      the nearest assignment that the tool can express, beyond what single modules allow
    """

    name: str
    target: str
    verified: str
    build: Callable[[Assignment], Parts]
    adapt: Callable[[Assignment], Assignment] = lambda assignment: assignment


@dataclass(frozen=True, slots=True)
class Export:
    """A plan in the form one tool takes.

    files         file name -> text
    usage         the command or steps that use them, MODEL and OUT standing for paths
    bytes         predicted bytes of all tensors in the tool's files, without headers and tokenizer
    header_bytes  estimated bytes of what the model file holds besides; 0 where the tokenizer has files of its own
    differences   where the export departs from the plan; empty unless the nearest plan was asked for
    """

    tool: str
    verified: str
    files: dict[str, str]
    usage: str
    bytes: int
    header_bytes: int
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "schema": "fastewq.export/1",
            "tool": self.tool,
            "verified": self.verified,
            "files": [{"name": name, "content": text} for name, text in self.files.items()],
            "usage": self.usage,
            "bytes": self.bytes,
            "header_bytes": self.header_bytes,
            "differences": [difference.as_dict() for difference in self.differences],
            "warnings": list(self.warnings),
        }


def json_text(document: Any) -> str:
    return json.dumps(document, indent=2) + "\n"


def script(name: str) -> str:
    """The text of one of the scripts in `exports/scripts`, which read the export beside them."""
    return files("fastewq.exports").joinpath("scripts", name).read_text("utf-8")


def scripts(name: str) -> dict[str, str]:
    """Those of a tool that takes models from the transformers library: quantize.py, and what it imports."""
    return {"quantize.py": script(name), "checkpoint.py": script("checkpoint.py")}
