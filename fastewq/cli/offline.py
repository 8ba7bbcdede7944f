"""The commands that need weights or a trainer: analyze, dataset build, train, evaluate."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastewq.cli.common import Address, EngineName, EngineOption, Json, need_extra, print_json, resumable
from fastewq.errors import InputError, exit_code

if TYPE_CHECKING:
    from fastewq.analysis.checkpoints import Checkpoint

TABLE = Path("training_data/blocks.csv")
Trained = Annotated[str, typer.Option("--objective", help="The label: entropy or sensitivity.")]


@contextmanager
def byte_progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yields progress(done, total) in bytes: a bar with rate and time left on a terminal's stderr, silent elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn(label), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def analyze(
    checkpoint: Annotated[
        Path, typer.Argument(help="A safetensors file, index or folder, a GGUF file, or a Hub id org/name.")
    ],
    epsilon: Annotated[float, typer.Option(help="eps of the entropy; 0 is allowed.")] = 0.01,
    x: Annotated[float, typer.Option(help="Standard deviations below the mean at which 4 bits begin.")] = 1.0,
    include_vectors: Annotated[bool, typer.Option(help="Count biases and norm vectors too.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a model on the Hub.")] = None,
    as_json: Json = False,
) -> None:
    """Read every weight of a checkpoint and label its blocks by their entropy (EWQ).

    The weights of a model on the Hub are streamed and not stored.
    """
    with need_extra("analysis"):
        from fastewq.analysis.report import analyze_checkpoint

    with _opened(checkpoint, revision) as opened, byte_progress(opened.name) as progress:
        analysis = analyze_checkpoint(opened, epsilon=epsilon, x=x, include_vectors=include_vectors, progress=progress)
    if as_json:
        print_json(analysis.as_dict())
    else:
        from fastewq.tables import print_analysis

        print_analysis(analysis)


def dataset_build(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Sources files such as training_data/sources.toml, checkpoints, folders of checkpoints, or Hub ids "
            "org/name[@revision]."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The table of blocks, CSV, or a folder for blocks.csv.")
    ] = Path("blocks.csv"),
    cache: Annotated[
        Path | None, typer.Option(help="Where downloads and readings are kept; ~/.cache/fastewq/sources unless set.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Take the readings that an earlier run finished.")
    ] = True,
    engine: EngineOption = EngineName.LOCAL,
    address: Address = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that read; local: this one unless set, ray: one per processor."),
    ] = None,
) -> None:
    """Read every weight of many checkpoints and write one row per block.

    Kill it whenever you like: the same command goes on where it was and repeats no finished tensor. A source that fails
    is reported and leaves no row; the others are written, and the exit code is that of the first failure. Packages are
    downloaded into the cache; weights on the Hub are streamed and not stored.
    """
    with need_extra("dataset"):
        from fastewq.engine import Engine
        from fastewq.training.dataset import build_dataset
        from fastewq.training.source_cache import default_cache

    with resumable(), byte_progress("reading") as progress:
        report = build_dataset(
            sources,
            output / "blocks.csv" if output.is_dir() or not output.suffix else output,
            cache or default_cache(),
            resume=resume,
            engine=Engine(engine.value, address, workers),
            opening=lambda name: typer.echo(f"opening {name}", err=True),
            progress=progress if sys.stderr.isatty() else None,
        )
    for source in report.sources:
        outcome = f"failed: {source.error.message}" if source.error else f"{source.blocks} blocks"
        typer.echo(f"{source.name}: {outcome}", err=source.error is not None)
    blocks = sum(source.blocks for source in report.sources)
    typer.echo(
        f"{report.blocks_file}: {blocks} blocks" if blocks else f"no blocks: {report.blocks_file} is not written"
    )
    if report.errors:
        raise typer.Exit(exit_code(report.errors[0]))


@contextmanager
def _opened(path: Path, revision: str | None) -> Iterator[Checkpoint]:
    """A local checkpoint, or a repository on the Hub where no such path exists."""
    from fastewq.analysis.checkpoints import open_checkpoint
    from fastewq.names import is_hub_id

    name = path.as_posix()
    if path.exists() or not is_hub_id(name):
        if revision is not None:
            raise InputError(f"--revision is {revision!r:.100}, but {name} is not a model on the Hub, so it has none")
        yield open_checkpoint(path)
        return
    from fastewq.analysis.remote import open_hub_checkpoint
    from fastewq.hub import BATCH, DEFAULT_REVISION, Hub

    revision = DEFAULT_REVISION if revision is None else revision
    with open_hub_checkpoint(Hub(patience=BATCH), name, revision) as checkpoint:
        yield checkpoint


def train(
    data: Annotated[Path, typer.Option(help="Labelled blocks, CSV or Parquet.")] = TABLE,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for booster.json and card.json; models/OBJECTIVE unless set."),
    ] = None,
    objective: Trained = "entropy",
    epsilon: Annotated[float, typer.Option(min=0.0, help="Label by the entropy with this eps.")] = 0.01,
) -> None:
    """Fit the predictor on labelled blocks, evaluate it and write the artefact."""
    with need_extra("train"):
        from fastewq.training.train import train as run

    output = output or Path("models") / objective
    card = run(data, output, objective=objective, epsilon=epsilon)
    figures = card["metrics"]["leave_one_family_out"]
    typer.echo(
        f"{output}: version {card['version']}, {figures['blocks']} blocks of {figures['families']} families; "
        f"leave-one-family-out accuracy {figures['accuracy']:.3f} (larger class {figures['larger_class']:.3f}), "
        f"balanced {figures['balanced_accuracy']:.3f}, AUC {figures['auc']:.3f}, ECE {figures['ece']:.3f}"
    )


def evaluate(
    data: Annotated[Path, typer.Option(help="Labelled blocks, CSV or Parquet.")] = TABLE,
    objective: Trained = "entropy",
    epsilon: Annotated[float, typer.Option(min=0.0, help="Label by the entropy with this eps.")] = 0.01,
    as_json: Json = False,
) -> None:
    """The whole evaluation protocol: held-out families, baselines, the six classifiers."""
    with need_extra("train"):
        from fastewq.training.evaluation import evaluate as run
        from fastewq.training.table import load_blocks

    report = run(load_blocks(data, objective=objective, epsilon=epsilon))
    if as_json:
        print_json(report)
    else:
        from fastewq.tables import print_evaluation

        print_evaluation(report)
