"""The `fastewq` command. Results go to stdout, everything else to stderr; errors become exit codes in one place."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, cast

import typer

from fastewq import __version__
from fastewq.cli import catalog, exports, offline
from fastewq.cli.common import EndAtOnce, Json, ObjectiveOption, need_extra, print_error, print_json
from fastewq.errors import FastEWQError, StorageFailure, exit_code
from fastewq.shown import shown

app = typer.Typer(
    help="Which transformer blocks can be quantized, from the model's config alone.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(exports.export)
app.command()(exports.apply)
app.command()(offline.analyze)
dataset_app = typer.Typer(help="The training data.", no_args_is_help=True)
dataset_app.command("build")(offline.dataset_build)
app.add_typer(dataset_app, name="dataset")
app.command()(offline.train)
app.command()(offline.evaluate)
app.add_typer(catalog.app, name="catalog")


def _show_version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def plan(
    source: Annotated[str, typer.Argument(help="A config.json, a model folder, a Hub id org/name, or - for stdin.")],
    objective: ObjectiveOption = None,
    policy: Annotated[
        str, typer.Option(help="8bit-mixed, 4bit-8bit-mixed, ternary-mixed or keep-ends.")
    ] = "4bit-8bit-mixed",
    threshold: exports.Threshold = None,
    keep_ends: exports.KeepEnds = None,
    embeddings: exports.Embeddings = None,
    lm_head: exports.LmHead = None,
    routers: exports.Routers = False,
    vision: exports.Vision = False,
    override: exports.Overrides = None,
    target: exports.Target = "plain",
    memory: exports.MemoryLimit = None,
    device: exports.Devices = None,
    context: exports.Context = 0,
    batch: exports.Batch = 1,
    cache_bits: exports.CacheBits = 16,
    reserve: exports.Reserve = "0",
    artefact: Annotated[
        Path | None, typer.Option(envvar="FASTEWQ_ARTEFACT", help="A predictor trained by `fastewq train`.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a model on the Hub.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no Hub; use what is in the cache.")] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Read the safetensors headers too, and say where they differ.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The precision plan of a model: which blocks to quantize, to how many bits, and what that saves."""
    from fastewq import load_predictor
    from fastewq import plan as make_plan
    from fastewq.source import read_source

    found = read_source(source, revision=revision, offline=offline)
    if found.warning:
        typer.echo(f"warning: {found.warning}", err=True)
    headers = found.read_exact() if exact else None
    document = make_plan(
        found.config,
        policy=exports.policy_object(
            policy,
            override,
            threshold=threshold,
            keep_ends=keep_ends,
            embeddings=embeddings,
            lm_head=lm_head,
            routers=routers,
            vision=vision,
        ),
        target=target,
        memory=memory,
        devices=device or [],
        context=context,
        batch=batch,
        cache_bits=cache_bits,
        reserve=reserve,
        predictor=load_predictor(artefact, objective),
        architecture=headers.architecture if headers else None,
        model_id=found.model_id,
        revision=found.commit,
    )
    if headers:
        document = document._replace(model={**document.model, "headers": headers.as_dict()})
    if as_json:
        print_json(document.as_dict())
    else:
        from fastewq.tables import print_plan

        print_plan(document)


@app.command()
def architectures(as_json: Json = False) -> None:
    """The model types whose blocks are read exactly."""
    from fastewq.architectures import supported

    names = supported()
    if as_json:
        print_json({"architectures": names})
    else:
        typer.echo("\n".join(names))


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 unless set.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 8000 unless set.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; 1 unless set.")] = None,
    catalog: Annotated[Path | None, typer.Option(help="A catalog's folder, or its index.sqlite.")] = None,
    show_settings: Annotated[bool, typer.Option(help="Print every setting and its value, and exit.")] = False,
    new_key: Annotated[
        str | None, typer.Option(metavar="NAME", help="Print a fresh bearer key and its line for the key file.")
    ] = None,
) -> None:
    """The REST service. All settings are environment variables; `--show-settings` lists them."""
    with need_extra("api"):
        from fastewq.api.access import new_key as make_key
        from fastewq.api.server import serve as run_service
        from fastewq.api.settings import describe, load_settings

    if new_key is not None:
        typer.echo("\n".join(make_key(new_key)))
        return
    settings = load_settings(host=host, port=port, workers=workers, catalog=catalog)
    if show_settings:
        from fastewq.tables import print_settings

        print_settings(describe(settings))
    else:
        run_service(settings)


UsageError: Final = cast(type[typer.BadParameter], typer.BadParameter.__bases__[0])
"""What a wrong option or a missing argument raises; typer gives it no public name."""


def main() -> NoReturn:
    """The program: with --json an error is one JSON object on stderr, else one line and a hint.

    Ends the process at once where a command stopped Daft in its work. `app` never does, for callers within a process.
    """
    try:
        status = app(standalone_mode=False)
    except EndAtOnce as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code)
    except FastEWQError as error:
        _fail(error.as_dict(), exit_code(error))
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # what no module could say better: a full disk behind stdout, a folder closed to us
        failure = StorageFailure(f"{error.filename or 'the output'}: {error.strerror or error}")
        _fail(failure.as_dict(), exit_code(failure))
    except typer.Abort:
        sys.exit(130)
    except UsageError as error:
        _add_value(error)
        if "--json" in sys.argv:
            _fail({"code": "usage", "message": error.format_message(), "hint": "See --help."}, 2)
        from typer.rich_utils import rich_format_error

        rich_format_error(error)
        sys.exit(2)
    sys.exit(status)


def _add_value(error: Exception) -> None:
    """Say of an option what its value was: typer gives its name and its bounds."""
    from pydantic import ValidationError

    if isinstance(error, typer.BadParameter) and isinstance(error.__cause__, ValidationError):
        (problem,) = error.__cause__.errors()[:1]
        if problem["type"] != "value_error":  # which is typer's own, and has it
            error.message = f"{shown(problem['input'])}; {error.message[:1].lower()}{error.message[1:]}"


def _fail(error: Mapping[str, Any], status: int) -> NoReturn:
    print_error(error)
    sys.exit(status)
