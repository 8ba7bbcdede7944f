"""Write docs/reference/ from the code: command line, HTTP routes, settings, errors. A test holds the pages to the code.

python tools/reference.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from fastewq.api.access import Access
from fastewq.api.app import framework
from fastewq.api.errors import http_status
from fastewq.api.service import Service
from fastewq.api.settings import Settings, describe
from typer.cli import get_docs_for_click
from typer.main import get_command

from fastewq.cli import app
from fastewq.errors import EXIT_CODES, FastEWQError

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
NOTE = "<!-- Written by tools/reference.py from the code; do not edit. -->\n"


def cli() -> str:
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="fastewq", title="Command line")
    return text.replace("**Usage**:\n\n```console", "**Usage**:\n\n```text")


def http() -> str:
    settings = Settings()
    document = framework(Service(settings), Access(settings)).openapi()
    lines = [
        "# HTTP routes",
        "",
        "The OpenAPI document of a running service is at `/openapi.json`, its page at `/docs`.",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            lines += ["", f"## {method.upper()} {path}", "", operation.get("description", "")]
            lines += _parameters(operation) + _body(operation, document) + _answers(operation)
    for name, schema in document["components"]["schemas"].items():
        lines += ["", f"### {name}", "", schema.get("description", ""), *_fields(schema)]
    return "\n".join(lines) + "\n"


def _parameters(operation: dict[str, Any]) -> list[str]:
    found = operation.get("parameters", [])
    rows = [f"| `{p['name']}` | {p['in']} | {_kind(p['schema'])} | {p.get('description', '')} |" for p in found]
    return ["", "| parameter | in | type | |", "|---|---|---|---|", *rows] if rows else []


def _body(operation: dict[str, Any], document: dict[str, Any]) -> list[str]:
    if "requestBody" not in operation:
        return []
    name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return ["", f"Body: {name}", *_fields(document["components"]["schemas"][name])]


def _answers(operation: dict[str, Any]) -> list[str]:
    names = []
    for status, answer in sorted(operation["responses"].items()):
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        names.append(f"{status} {schema['$ref'].rpartition('/')[2]}" if "$ref" in schema else status)
    return ["", "Answers: " + ", ".join(names)]


def _fields(schema: dict[str, Any]) -> list[str]:
    required = schema.get("required", [])
    rows = [
        f"| `{name}`{'' if name in required else ' (optional)'} | {_kind(field)} | {field.get('description', '')} |"
        for name, field in schema.get("properties", {}).items()
    ]
    return ["", "| field | type | |", "|---|---|---|", *rows] if rows else []


def _kind(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(part) for part in schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def settings() -> str:
    lines = ["# Settings of the service", "", "Environment variables. Sizes are bytes, times are seconds.", ""]
    lines += ["| variable | default | |", "|---|---|---|"]
    defaults = Settings.model_construct()
    lines += [f"| `{name}` | {f'`{value}`' if value else ''} | {text} |" for name, value, text in describe(defaults)]
    return "\n".join(lines) + "\n"


def errors() -> str:
    lines = ["# Error codes", "", "| code | HTTP | exit | meaning |", "|---|---:|---:|---|"]
    for cls in _subclasses(FastEWQError):
        codes = [str(EXIT_CODES[base]) for base in cls.__mro__ if base in EXIT_CODES]
        meaning = " ".join((cls.__dict__.get("__doc__") or "").split())
        lines.append(f"| `{cls.code}` | {http_status_of(cls)} | {codes[0] if codes else ''} | {meaning} |")
    return "\n".join(lines) + "\n"


def http_status_of(cls: type[FastEWQError]) -> int:
    error = cls.__new__(cls)
    FastEWQError.__init__(error, "")
    return http_status(error)


def _subclasses(cls: type[FastEWQError]) -> Iterator[type[FastEWQError]]:
    for child in cls.__subclasses__():
        yield child
        yield from _subclasses(child)


PAGES = {"cli.md": cli, "http.md": http, "settings.md": settings, "errors.md": errors}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, write in PAGES.items():
        (FOLDER / name).write_text(NOTE + write(), "utf-8")


if __name__ == "__main__":
    main()
