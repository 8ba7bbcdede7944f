"""What several groups of commands share."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer

from fastewq.errors import FastEWQError, MissingExtra, exit_code

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]


ObjectiveOption = Annotated[
    str | None,
    typer.Option(
        "--objective", help="What the predictor was trained to find: entropy or sensitivity; see docs/quality.md."
    ),
]


class EngineName(StrEnum):
    LOCAL = "local"
    RAY = "ray"


EngineOption = Annotated[EngineName, typer.Option("--engine", help="Where the work is done.")]
Address = Annotated[str | None, typer.Option(help="Of a running Ray cluster; without it one is started here.")]


def print_json(document: dict[str, Any]) -> None:
    """One JSON document on stdout. NaN (a figure that is undefined) becomes null."""
    typer.echo(json.dumps(_without_nan(document), indent=2, allow_nan=False))


def print_error(error: Mapping[str, Any]) -> None:
    """With --json one JSON object on stderr, else one line and a hint."""
    if "--json" in sys.argv:
        typer.echo(json.dumps({"error": error}), err=True)
        return
    typer.echo(f"error: {error['message']}", err=True)
    if error["hint"]:
        typer.echo(f"hint: {error['hint']}", err=True)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value


@contextmanager
def need_extra(name: str) -> Iterator[None]:
    """Turn a failed import of an optional dependency into the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("fastewq"):
            raise
        raise MissingExtra(
            f"the package {error.name} is not installed", hint=f"pip install 'fastewq[{name}]'"
        ) from None


class EndAtOnce(SystemExit):
    """Daft was stopped in its work. Its threads would abort the process while Python shuts down, so that the program
    (`fastewq.cli.main`) ends without that; whoever calls a command within a process of theirs gets this."""

    code: int


class Terminated(KeyboardInterrupt):
    """SIGTERM, of which a build makes an interrupt to keep what it has."""


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    def terminate(*_: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # no other may set what a signal does
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # None: of a program around this that is not in Python


@contextmanager
def resumable() -> Iterator[None]:
    """Around what runs Daft: an interrupt, which it explains, SIGTERM and an error end the command at once."""
    try:
        with _sigterm_interrupts():
            yield
    except FastEWQError as error:
        print_error(error.as_dict())
        raise EndAtOnce(exit_code(error)) from error
    except KeyboardInterrupt as end:
        typer.echo("interrupted: the same command goes on where it was", err=True)
        raise EndAtOnce(143 if isinstance(end, Terminated) else 130) from None
