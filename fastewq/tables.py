"""Plans, statistics and evaluations as tables for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastewq.memory import MemoryReport
from fastewq.plan import Plan, PlannedBlock

if TYPE_CHECKING:
    from fastewq.analysis.report import Analysis


PIPE_WIDTH = 132
"""Columns of a table that goes to a file or a pipe, where there is no terminal to ask."""


def stdout() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def _table(*columns: str, right: Collection[str] = (), title: str | None = None) -> Table:
    """An empty table. Where a terminal is too narrow, cells go on in the next line: a figure cut short misleads."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def human_bytes(count: int) -> str:
    """Bytes in binary units, for instance `15.0 GiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.2f} {unit}"
        value /= 1024
    return f"{value:.2f} TiB"


def print_plan(plan: Plan) -> None:
    """The plan on stdout; runs of alike blocks share a row. Warnings follow on stderr."""
    console = stdout()
    name = plan.model.get("id") or plan.model["model_type"]
    console.print(f"{name}: {plan.model['parameters']:,} parameters, {plan.model['dtype']}, {plan.confidence}")
    if headers := plan.model.get("headers"):
        verdict = "agree with the config" if headers["agree"] else "differ from the config (see the warnings)"
        console.print(f"safetensors headers {verdict}: {headers['tensors']} tensors, {human_bytes(headers['bytes'])}")
    for stack in plan.stacks:
        left, right = ("blocks", "kind"), ("parameters each", "p(quantize)", "precision", "bytes")
        table = _table(*left, *right, right=right, title=f"{stack.name}: {len(stack.blocks)} blocks")
        for _, run in groupby(stack.blocks, key=lambda b: (b.kind, b.parameters, b.precision)):
            table.add_row(*_row(list(run)))
        console.print(table)
    outside = sum(group.bytes for group in plan.other)
    precisions = ", ".join(dict.fromkeys(group.precision for group in plan.other))
    console.print(f"outside blocks ({precisions}): {human_bytes(outside)}")
    totals = plan.totals
    console.print(
        f"total: {human_bytes(totals.bytes)} instead of {human_bytes(totals.raw_bytes)}"
        f" ({totals.saved_fraction:.1%} saved, {totals.bits_per_weight:.2f} bits per weight)"
    )
    if plan.memory:
        _print_memory(console, plan.memory)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    for warning in plan.warnings:
        errors.print(f"warning: {warning}", markup=False)


def _print_memory(console: Console, memory: MemoryReport) -> None:
    asked = memory.request
    if asked.context:
        console.print(f"KV cache: {human_bytes(memory.kv_cache)} for {asked.batch} x {asked.context:,} tokens")
    if memory.free is not None:
        reserve = f", {human_bytes(asked.reserve)} in reserve" if asked.reserve else ""
        proof = "least damage that fits" if memory.optimal else "fits; not proven to be of least damage"
        console.print(f"memory: {human_bytes(memory.free)} free{reserve} ({proof})")
    if memory.runs:
        columns = ("device", "blocks", "bytes", "capacity")
        table = _table(*columns, right=columns, title=f"{len(memory.runs)} of {len(asked.devices)} devices")
        for run in memory.runs:
            blocks, capacity = f"{run.start}-{run.end - 1}", human_bytes(asked.devices[run.device])
            table.add_row(str(run.device), blocks, human_bytes(run.bytes), capacity)
        console.print(table)


def _row(run: list[PlannedBlock]) -> tuple[str, ...]:
    first, last = run[0], run[-1]
    low, high = min(b.p_quantize for b in run), max(b.p_quantize for b in run)
    return (
        str(first.index) if first is last else f"{first.index}-{last.index}",
        first.kind,
        f"{first.parameters:,}",
        f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f}-{high:.2f}",
        first.precision,
        human_bytes(sum(b.bytes for b in run)),
    )


def print_settings(rows: list[tuple[str, str, str]]) -> None:
    """(environment variable, value, description) of every setting of the service."""
    table = _table("variable", "value", "description")
    for row in rows:
        table.add_row(*row)
    stdout().print(table, markup=False)


def print_analysis(analysis: Analysis) -> None:
    """Entropy and label of every block, stack by stack."""
    console = stdout()
    for stack in analysis.stacks:
        title = f"{analysis.model} {stack.name}: mean {stack.mean:.12f}, threshold {stack.threshold:.12f} nats"
        columns = ("block", "path", "parameters", "entropy", "label")
        table = _table(*columns, right=("block", "parameters", "entropy"), title=title)
        for block in stack.blocks:
            entropy = f"{block.entropy:.12f}"
            table.add_row(str(block.index), block.path, f"{block.parameters:,}", entropy, block.label)
        console.print(table)


def print_statistics(figures: Mapping[str, Any]) -> None:
    """What `fastewq.catalog.stats.statistics` found."""
    console = stdout()
    covered = ", ".join(f"{count:,} {kind}" for kind, count in figures["coverage"].items())
    console.print(f"{figures['models']:,} models: {covered}")
    columns = ("policy", "weights", "saved", "saved per model, mean")
    table = _table(*columns, right=columns[1:], title="memory by policy")
    table.add_row("as stored", human_bytes(figures["raw_bytes"]), "", "")
    for name, policy in figures["policies"].items():
        shares = [f"{policy[share]:.1%}" for share in ("saved_fraction", "mean_saved_fraction")]
        table.add_row(name, human_bytes(policy["bytes"]), *shares)
    console.print(table)
    columns = ("model type", "models", "as stored", "4bit-8bit-mixed")
    table = _table(*columns, right=columns[1:], title="models by family")
    for family in figures["families"]:
        sizes = [human_bytes(family[size]) for size in ("raw_bytes", "bytes")]
        table.add_row(Text(family["model_type"]), f"{family['models']:,}", *sizes)
    others = figures["other_families"]
    if others["models"]:
        table.add_row(f"{others['model_types']:,} other types", f"{others['models']:,}", "", "")
    console.print(table)
    by_code = ", ".join(f"{code} {count:,}" for code, count in figures["refused"].items())
    for kind, title in (("refused", f"refused, and why: {by_code}"), ("approximate", "approximate, and why")):
        reasons = figures["reasons"][kind]
        if reasons:
            table = _table("reason", "models", right=("models",), title=title)
            for row in reasons:
                table.add_row(Text(row["reason"]), f"{row['models']:,}")
            console.print(table)


FIGURES = ("accuracy", "balanced_accuracy", "matthews", "auc", "average_precision", "brier", "ece")


def print_evaluation(report: Mapping[str, Any]) -> None:
    """Every protocol, baseline and classifier as one row each."""
    console = stdout()
    headline = report["leave_one_family_out"]
    console.print(
        f"{headline['blocks']} blocks, {headline['stacks']} stacks, {headline['families']} families; "
        f"larger class {headline['larger_class']:.3f}"
    )
    table = _table("on held-out blocks", *(figure.replace("_", " ") for figure in FIGURES))
    for name in ("leave_one_family_out", "random_70_30", "leave_one_modality_out"):
        table.add_row(name, *(f"{report[name][figure]:.3f}" for figure in FIGURES))
    intervals = headline["intervals"]
    table.add_row("  95 % interval", *("{:.2f}-{:.2f}".format(*intervals[figure]) for figure in FIGURES))
    for group in ("baselines", "classifiers"):
        table.add_section()
        for name, figures in report[group].items():
            table.add_row(f"{group[:-1]} {name}", *(f"{figures[figure]:.3f}" for figure in FIGURES))
    console.print(table)
