"""The options that shape a plan, and the commands that bring one to a deployment tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fastewq.cli.common import Json, need_extra, print_json
from fastewq.document import Plan, read_plan
from fastewq.errors import InvalidConfig, InvalidPlan, NotFound
from fastewq.files import save, writable_folder
from fastewq.jsonio import load_config, read_stdin

POLICY = "Policy"
MEMORY = "Memory"

Threshold = Annotated[
    float | None, typer.Option(help="Quantize from this probability on, 0 to 1.", rich_help_panel=POLICY)
]
KeepEnds = Annotated[
    bool | None,
    typer.Option("--keep-ends/--no-keep-ends", help="Keep the first and last block.", rich_help_panel=POLICY),
]
Embeddings = Annotated[
    str | None, typer.Option(help="Precision of the token embeddings; raw unless set.", rich_help_panel=POLICY)
]
LmHead = Annotated[str | None, typer.Option(help="Precision of the head; raw unless set.", rich_help_panel=POLICY)]
Routers = Annotated[bool, typer.Option("--routers", help="Quantize expert routers too.", rich_help_panel=POLICY)]
Vision = Annotated[bool, typer.Option("--vision", help="Quantize vision towers too.", rich_help_panel=POLICY)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--override",
        metavar="PATTERN=PRECISION",
        help="Blocks (3, 0-3) or module paths (*.mlp.down_proj) with raw, int8, int4 or ternary; repeatable.",
        rich_help_panel=POLICY,
    ),
]
Target = Annotated[
    str, typer.Option(help="Count bytes in this tool's format, for instance gguf or mlx.", rich_help_panel=POLICY)
]
MemoryLimit = Annotated[
    str | None, typer.Option("--memory", help="What must fit: 6GiB, 80GB, or bytes.", rich_help_panel=MEMORY)
]
Devices = Annotated[
    list[str] | None,
    typer.Option("--device", help="Memory of a device, in pipeline order; repeatable.", rich_help_panel=MEMORY),
]
Context = Annotated[
    int, typer.Option(help="Tokens per sequence whose KV cache must fit; 0 leaves it out.", rich_help_panel=MEMORY)
]
Batch = Annotated[int, typer.Option(help="Sequences at once, for the KV cache.", rich_help_panel=MEMORY)]
CacheBits = Annotated[int, typer.Option(help="Bits per element of the KV cache.", rich_help_panel=MEMORY)]
Reserve = Annotated[str, typer.Option(help="Memory kept free on every device.", rich_help_panel=MEMORY)]

PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="The output of `fastewq plan --json`, or - for stdin.")]
Tool = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="TOOL",
        help="llama.cpp, llm-compressor, mlx, bitsandbytes, torchao, autoround, gptqmodel, openvino or quanto; "
        "`export` takes ignore-list and devices as well.",
    ),
]
Nearest = Annotated[
    bool, typer.Option("--nearest", help="Where the tool cannot express the plan, take the nearest plan it can.")
]


def policy_object(name: str, overrides: list[str] | None, **fields: Any) -> dict[str, Any]:
    """The policy for `fastewq.plan`: its name and the options that were given (None and False are the default)."""
    given = {key: value for key, value in fields.items() if value is not None and value is not False}
    if fields.get("keep_ends") is False:
        given["keep_ends"] = False
    return {"name": name, **given, **({"overrides": overrides} if overrides else {})}


def export(
    plan: PlanFile,
    to: Tool,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the files; made if missing.")
    ] = None,
    nearest: Nearest = False,
    as_json: Json = False,
) -> None:
    """Write a plan in the form a deployment tool takes."""
    from fastewq.exports import export as make_export

    made = make_export(_plan(plan), to, nearest=nearest)
    if output is not None:
        writable_folder(output)
        for name, text in made.files.items():
            save(output / name, text.encode())
    if as_json:
        print_json(made.as_dict())
    elif output is None:
        for name, text in made.files.items():
            if not name.endswith(".py"):
                typer.echo(f"# {name}", err=True)
                typer.echo(text, nl=False)
    if not as_json:
        for difference in made.differences:
            change = f"{difference.planned} -> {difference.exported}"
            typer.echo(f"differs: {difference.path} {change}: {difference.reason}", err=True)
        for warning in made.warnings:
            typer.echo(f"warning: {warning}", err=True)
        typer.echo(f"{made.usage}predicted: {made.bytes} bytes of tensors; checked with {made.verified}", err=True)


def apply(
    plan: PlanFile,
    model: Annotated[Path, typer.Argument(help="The model: a transformers folder; for llama.cpp a raw GGUF file.")],
    out: Annotated[Path, typer.Argument(help="Where the quantized model goes; must not exist.")],
    to: Tool,
    nearest: Nearest = False,
    python: Annotated[
        Path | None, typer.Option(help="The Python interpreter that has the tool; this one unless set.")
    ] = None,
    extra: Annotated[list[str] | None, typer.Option("--arg", help="Passed to the tool's script; repeatable.")] = None,
    as_json: Json = False,
) -> None:
    """Run a deployment tool on a plan, and check every module's precision and the size of what it wrote."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with need_extra("apply"), Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        from fastewq.apply import apply as run

        task = bar.add_task("quantizing", total=None)
        found = run(
            _plan(plan),
            to,
            model,
            out,
            nearest=nearest,
            python=python,
            arguments=extra or [],
            progress=lambda done, total, name: bar.update(task, completed=done, total=total, description=name),
        )
    if as_json:
        print_json(found.as_dict())
    else:
        for path, expected, got in found.wrong:
            typer.echo(f"wrong: {path} has {got or 16} bits, planned {expected or 16}", err=True)
        typer.echo(
            f"{found.modules - len(found.wrong)} of {found.modules} modules as planned; "
            f"{found.written.bytes} bytes of tensors, predicted {found.predicted_bytes} ({found.size_error:+.3%})"
        )
    if found.wrong:
        raise typer.Exit(5)


def _plan(path: Path) -> Plan:
    try:
        if str(path) == "-":
            return read_plan(read_stdin())
        if not path.exists():
            raise NotFound(f"{path} does not exist", hint="Give the output of `fastewq plan SOURCE --json`.")
        document = {} if path.is_dir() else load_config(path)
    except InvalidConfig as error:
        raise InvalidPlan(error.message) from error
    if path.is_dir() or document.keys() & {"config", "hidden_size", "model_type"}:
        raise InvalidPlan(f"{path} is a model, not a plan", hint=f"fastewq plan {path} --json > plan.json")
    return read_plan(document)
