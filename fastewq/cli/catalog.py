"""The commands `fastewq catalog ...`: build, index, get, search, stats."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fastewq.cli.common import (
    Address,
    EngineName,
    EngineOption,
    Json,
    ObjectiveOption,
    need_extra,
    print_json,
    resumable,
)
from fastewq.files import save

if TYPE_CHECKING:
    from fastewq.catalog.collect import Counts
    from fastewq.catalog.index import Catalog, Entry

app = typer.Typer(help="Plans for many models: build, look up, search, count.", no_args_is_help=True)

LOG_SECONDS: Final = 60.0
"""Between two lines of progress where there is no terminal."""
Where = Annotated[
    Path, typer.Option("--catalog", envvar="FASTEWQ_CATALOG", help="A catalog's folder, or its index.sqlite.")
]


@app.command()
def build(
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="hub://, a folder of configs, or a .parquet, .jsonl or .txt file.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The catalog's folder.")],
    author: Annotated[str | None, typer.Option(help="hub://: only this user or organization.")] = None,
    task: Annotated[str | None, typer.Option(help="hub://: only this task, such as text-generation.")] = None,
    library: Annotated[str | None, typer.Option(help="hub://: only this library, such as transformers.")] = None,
    min_downloads: Annotated[int, typer.Option(min=0, help="hub://: at least so many downloads.")] = 0,
    since: Annotated[str | None, typer.Option(help="hub://: changed since this date, such as 2026-01-31.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="hub://: at most so many models.")] = None,
    headers: Annotated[
        bool, typer.Option("--headers", help="hub://, .txt: read the safetensors headers too, for exact shapes.")
    ] = False,
    engine: EngineOption = EngineName.LOCAL,
    address: Address = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that plan; one per processor unless set.")
    ] = None,
    objective: ObjectiveOption = None,
    artefact: Annotated[
        Path | None, typer.Option(envvar="FASTEWQ_ARTEFACT", help="A predictor trained by `fastewq train`.")
    ] = None,
    collect_only: Annotated[bool, typer.Option("--collect-only", help="Fetch configs, make no plans.")] = False,
    as_json: Json = False,
) -> None:
    """Collect configs, plan every model that has no plan yet, and write the index.

    Interrupt it whenever you like: the same command goes on where it was. Run again later, it fetches only models that
    are new or changed, and plans everything anew when the predictor changed. Where the Hub cannot be reached, it plans
    what was collected before, says so and exits with 5.
    """
    with need_extra("catalog"):
        from fastewq.catalog.build import build_index
        from fastewq.catalog.collect import collect
        from fastewq.catalog.index import Catalog
        from fastewq.catalog.predict import plans_version, predict
        from fastewq.catalog.store import Store
        from fastewq.engine import Engine
        from fastewq.hub import Filters
        from fastewq.predictor import shipped_folder

    store = Store(output)
    filters = Filters(author, task, library, min_downloads, since, limit)
    chosen = Engine(engine.value, address, workers)
    folder = shipped_folder(objective) if objective and artefact is None else artefact
    if not collect_only:  # before what may take all night
        chosen.check()
        plans_version(folder)
    with resumable(), store.locked():
        with _status("collecting", as_json) as show:
            counts = collect(store, source, filters=filters, headers=headers, progress=_counted(show))
        if counts.stopped and not store.files("configs"):
            raise counts.stopped
        document: dict[str, Any] = {
            "found": counts.found,
            "added": counts.added,
            "unchanged": counts.unchanged,
            "failed": dict(sorted(counts.failed.items())),
        }
        if not collect_only:
            with _status("planning", as_json) as show:
                plans = predict(store, artefact=folder, engine=chosen, progress=_rate(show))
            with _status("writing the index", as_json):
                entries = build_index(store)
            refused = Catalog(store.index).query("SELECT count(*) FROM models WHERE error_code IS NOT NULL")[0][0]
            document |= {"planned": plans.new, "kept": plans.kept, "entries": entries, "refused": refused}
    if as_json:
        print_json(document)
    else:
        failed = ", ".join(f"{code} {n}" for code, n in document["failed"].items()) or "none"
        typer.echo(f"found {counts.found}: {counts.added} added, {counts.unchanged} unchanged, failed: {failed}")
        if not collect_only:
            typer.echo(
                f"{plans.new} planned, {plans.kept} kept; {entries} entries in the index, {refused} without a plan"
            )
    if counts.stopped:
        raise counts.stopped


@app.command()
def index(folder: Annotated[Path, typer.Argument(help="The catalog's folder.")]) -> None:
    """Write DIR/index.sqlite from the plans in DIR. Readers see the old index until the new one is whole."""
    with need_extra("catalog"):
        from fastewq.catalog.build import build_index
        from fastewq.catalog.store import Store

    store = Store(folder)
    store.newest_version()  # before the lock, which makes a folder of anything
    with store.locked():
        typer.echo(f"{store.index}: {build_index(store)} entries")


@app.command()
def get(
    name: Annotated[str, typer.Argument(metavar="ID", help="org/name or org/name@revision.")],
    catalog: Where,
    plan: Annotated[bool, typer.Option("--plan", help="The whole plan, block by block.")] = False,
    policy: Annotated[str, typer.Option(help="The policy of --plan.")] = "4bit-8bit-mixed",
    as_json: Json = False,
) -> None:
    """What the catalog knows of a model."""
    opened = _open(catalog)
    repo_id, _, revision = name.partition("@")
    entry = opened.get(repo_id, revision or None)
    if plan:
        document = opened.plan(entry, policy=policy)
        if as_json:
            print_json(document.as_dict())
        else:
            from fastewq.tables import print_plan

            print_plan(document)
    elif as_json:
        print_json(entry.as_dict())
    else:
        for key, value in entry.as_dict().items():
            if value not in (None, []):
                typer.echo(f"{key:24}{'; '.join(value) if isinstance(value, list) else value}")


@app.command()
def search(
    catalog: Where,
    text: Annotated[str | None, typer.Argument(help="Part of the id.")] = None,
    family: Annotated[str | None, typer.Option(help="The config's model_type, such as llama.")] = None,
    task: Annotated[str | None, typer.Option(help="Such as text-generation.")] = None,
    min_parameters: Annotated[int | None, typer.Option(help="At least so many parameters.")] = None,
    max_parameters: Annotated[int | None, typer.Option(help="At most so many parameters.")] = None,
    memory: Annotated[str | None, typer.Option(help="Weights under the policy fit this, such as 24GiB.")] = None,
    policy: Annotated[str, typer.Option(help="The policy of --memory.")] = "4bit-8bit-mixed",
    refused: Annotated[str | None, typer.Option(help="Refused models with this error code instead.")] = None,
    limit: Annotated[int, typer.Option(help="Entries per page, at most 1000.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="The cursor that the page before gave.")] = None,
    as_json: Json = False,
) -> None:
    """Models by family, size, memory after the plan, task or name, a page at a time."""
    from fastewq.catalog.index import POLICY_COLUMNS
    from fastewq.memory import parse_bytes
    from fastewq.tables import human_bytes

    page = _open(catalog).search(
        text=text,
        model_type=family,
        task=task,
        min_parameters=min_parameters,
        max_parameters=max_parameters,
        max_bytes=None if memory is None else parse_bytes(memory),
        policy=policy,
        error_code=refused,
        limit=limit,
        cursor=cursor,
    )
    if as_json:
        print_json({"entries": [entry.as_dict() for entry in page.entries], "cursor": page.cursor})
        return

    def line(entry: Entry) -> str:
        if entry.raw_bytes is None:
            return f"{entry.id}  {entry.error_code}: {entry.error_message}"
        after = getattr(entry, POLICY_COLUMNS[policy])
        return f"{entry.id}  {entry.model_type}  {human_bytes(entry.raw_bytes)} -> {human_bytes(after)}"

    for entry in page.entries:
        typer.echo(line(entry))
    if page.cursor:
        typer.echo(f"more: --cursor {page.cursor}", err=True)


@app.command()
def stats(
    catalog: Where,
    html: Annotated[Path | None, typer.Option(help="Write a self-contained page with plots to this file.")] = None,
    as_json: Json = False,
) -> None:
    """What the catalog holds: families, coverage, refusals, memory saved by policy."""
    from fastewq.catalog.stats import page, statistics
    from fastewq.tables import print_statistics

    figures = statistics(_open(catalog))
    if html is not None:
        save(html, page(figures).encode())
    if as_json:
        print_json(figures)
        return
    print_statistics(figures)


def _open(path: Path) -> Catalog:
    from fastewq.catalog.index import Catalog

    return Catalog(path / "index.sqlite" if path.is_dir() else path)


@contextmanager
def _status(what: str, silent: bool) -> Iterator[Callable[[str], None]]:
    """Yields show(text): a line that is rewritten in place on a terminal; elsewhere, as in the log of a nightly run, a
    line every LOG_SECONDS. Silent with --json, which promises that an error is the one object on stderr."""
    if silent:
        yield lambda _: None
        return
    from rich.console import Console

    if sys.stderr.isatty():
        with Console(stderr=True).status(what) as status:
            yield lambda text: status.update(f"{what}: {text}")
        return
    said = time.monotonic()

    def say(text: str) -> None:
        nonlocal said
        if time.monotonic() - said >= LOG_SECONDS:
            said = time.monotonic()
            typer.echo(f"{what}: {text}", err=True)

    yield say


def _counted(show: Callable[[str], None]) -> Callable[[Counts], None]:
    """progress(counts) with the rate, failures by kind, and the time left where the number of models is known."""
    pace = _pace()

    def progress(counts: Counts) -> None:
        failed = ", ".join(f"{code} {n}" for code, n in sorted(counts.failed.items()))
        show(f"{pace(counts.done, counts.total)}; {counts.added:,} new, failed: {failed or 'none'}")

    return progress


def _rate(show: Callable[[str], None]) -> Callable[[int, int], None]:
    """progress(done, total) with the rate and the time left."""
    pace = _pace()
    return lambda done, total: show(pace(done, total))


def _pace() -> Callable[[int, int | None], str]:
    """pace(done, total): counts, rate since now, and the time left."""
    start = time.monotonic()

    def pace(done: int, total: int | None) -> str:
        rate = done / max(time.monotonic() - start, 1e-9)
        if total is None or not done:
            return f"{done:,} models, {rate:,.0f} a second"
        left = timedelta(seconds=round((total - done) / rate))
        return f"{done:,} of {total:,} models, {rate:,.0f} a second, {left} left"

    return pace
