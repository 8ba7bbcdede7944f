"""docs/quality-tables.md and its plots from the committed logs; every number in them is computed here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from fastewq.files import write_bytes
from fastewq.training.plan_study import (
    EPSILONS,
    MIXES,
    POSITIONS,
    Correlation,
    compare,
    correlation,
    plans,
    rules,
    uniform,
)
from fastewq.training.rendering import markdown_table, svg
from fastewq.training.sensitivity import QualityLog, read_logs

REFERENCE: Final = "predicted sensitivity"
ORDER: Final = (
    "measured",
    REFERENCE,
    "predicted entropy",
    "entropy 0.01",
    "entropy 0.0001",
    "entropy 0",
    "inverse entropy 0.01",
    "rounding error",
    *POSITIONS,
    "random",
)
READINGS: Final = {
    **{f"entropy {epsilon:g}": f"entropy_{epsilon:g}" for epsilon in EPSILONS},
    "variance": "variance",
    "rounding error": "rounding_error_{bits}",
    "position": "exec_index",
}
"""What is correlated with measured sensitivity -> column of the table of blocks."""
BITS: Final = ("4", "3", "8")
SURE: Final = 0.05

Correlations = dict[tuple[str, str, int], dict[str, Correlation]]
"""(model, stack, blocks) -> reading -> its correlation with measured sensitivity."""
Comparison = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Mix -> model -> rule -> figures of `compare`."""


def report(root: Path, logs: Path, docs: Path) -> None:
    """Write the tables and the plots to `docs`."""
    found = read_logs(logs)
    table = pd.read_csv(root / "training_data" / "blocks.csv", engine="pyarrow")
    predicted_table = pd.read_csv(logs / "predicted.csv", engine="pyarrow").set_index(["model", "stack", "exec_index"])
    predicted = {column: predicted_table[column] for column in predicted_table.columns}
    known = {(model, stack) for model, stack, _ in predicted_table.index}
    whole = [log for log in found if set(log.stacks) <= known]
    comparison: Comparison = {mix: {} for mix in MIXES}
    for log in whole:
        for mix, assignments in plans(log, rules(log, table, predicted)).items():
            figures = compare(log, assignments, REFERENCE)
            if figures:
                comparison[mix][log.name] = figures
    families = dict(zip(table["model"], table["family"], strict=True))
    family = families | {log.name: families[log.blocks[0][0]] for log in found}
    correlations = {bits: stacks for bits in BITS if (stacks := correlate(whole, table, predicted, bits))}
    text = "\n\n".join(
        [
            "Written by `python benchmarks/quality.py report` from `training_data/quality/`.",
            "## All blocks at one precision",
            _uniform(found),
            *[part for mix in MIXES if comparison[mix] for part in (f"## {_title(mix)}", _plans(comparison[mix]))],
            "## Over all models",
            _summary(comparison, family),
            "## The goal",
            _goal(comparison),
            "## What goes with measured sensitivity",
            _correlations_summary(correlations, family),
            *[part for bits in correlations for part in (f"### At {bits} bits", _correlations(correlations[bits]))],
        ]
    )
    write_bytes(docs / "quality-tables.md", ("# Quality: the tables\n\n" + text + "\n").encode())
    images = docs / "images"
    images.mkdir(exist_ok=True)
    write_bytes(images / "quality-plans.svg", svg(_plans_plot(comparison, family)))
    write_bytes(images / "quality-profiles.svg", svg(_profiles_plot(whole)))


def _title(mix: str) -> str:
    low, high = MIXES[mix]
    return f"A third of the blocks at {low} bits, the others {'raw' if high == 'r' else f'at {high} bits'}"


def _uniform(logs: Sequence[QualityLog]) -> str:
    rows = []
    for log in logs:
        raw, *others = uniform(log)
        chunks = sorted(set.intersection(*(set(log.divergences.get(a, {})) for a in (raw, *others))))
        if not chunks:
            continue
        cells = [f"{np.mean([log.divergences[a][c] for c in chunks]):.3g}" for a in others]
        losses = [np.mean([log.losses[a][c] for c in chunks]) for a in (raw, *others)]
        perplexities = " / ".join(f"{math.exp(loss):.3g}" for loss in losses) if log.measure == "kl" else "-"
        rows.append((log.name, log.text, log.measure, len(chunks), *cells, perplexities))
    head = ("model", "text", "measure", "chunks", "8 bits", "4 bits", "3 bits", "perplexity raw / 8 / 4 / 3")
    return markdown_table(head, rows)


def _plans(models: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Divergence per model and rule; + or - where it is above or below REFERENCE's by more than the interval."""
    names = [name for name in ORDER if any(name in figures for figures in models.values())]
    rows = []
    for model, figures in models.items():
        best = min(f["divergence"] for name, f in figures.items() if name != "measured")
        cells = []
        for name in names:
            if name not in figures:
                cells.append("")
                continue
            f = figures[name]
            sign = " +" if f["difference_low"] > 0 else " -" if f["difference_high"] < 0 else ""
            value = f"{f['divergence']:.3g}"
            cells.append((f"**{value}**" if f["divergence"] == best else value) + sign)
        low, high = figures[REFERENCE]["low"], figures[REFERENCE]["high"]
        rows.append((model, *cells, f"{low:.3g} to {high:.3g}"))
    return markdown_table(("model", *names, f"interval of {REFERENCE}"), rows)


def _ratios(comparison: Comparison, family: Mapping[str, str], mix: str, name: str) -> dict[str, float]:
    """Family -> mean over its models of ln(divergence of the rule / of the random plan in the middle)."""
    found: dict[str, list[float]] = {}
    for model, figures in comparison[mix].items():
        if name in figures:
            ratio = math.log(figures[name]["divergence"] / figures["random"]["divergence"])
            found.setdefault(family[model], []).append(ratio)
    return {key: float(np.mean(values)) for key, values in found.items()}


def _summary(comparison: Comparison, family: Mapping[str, str]) -> str:
    rows = []
    mixes = [mix for mix in MIXES if comparison[mix]]
    for name in ORDER:
        cells = []
        for mix in mixes:
            values = list(_ratios(comparison, family, mix, name).values())
            mean, low, high = np.exp(_over_families(values)) if values else (math.nan,) * 3
            cells.append(f"{mean:.2f} ({low:.2f} to {high:.2f})" if values else "")
        rows.append((name, *cells))
    return markdown_table(("rule", *(f"{mix}, {len(comparison[mix])} models" for mix in mixes)), rows)


def _goal(comparison: Comparison) -> str:
    """On how many models a plan does no more damage than any position rule and the middle random plan."""
    rows = []
    for name in (REFERENCE, "predicted entropy", "entropy 0.01", *POSITIONS):
        for mix in MIXES:
            models = {m: f for m, f in comparison[mix].items() if name in f}
            if not models:
                continue
            rivals = [rule for rule in (*POSITIONS, "random") if rule != name]
            below = sum(all(f[name]["divergence"] <= f[r]["divergence"] for r in rivals) for f in models.values())
            under_random = sum(f[name]["divergence"] < f["random"]["divergence"] for f in models.values())
            surely = sum(all(f[r]["difference_low"] > 0 for r in rivals) for f in models.values())
            rows.append((name, mix, len(models), under_random, below, surely if name == REFERENCE else ""))
    head = (
        "rule",
        "mix",
        "models",
        "below random",
        "above no position rule and not random",
        "by more than the interval",
    )
    return markdown_table(head, rows)


def correlate(
    logs: Sequence[QualityLog], table: pd.DataFrame, predicted: Mapping[str, pd.Series], bits: str
) -> Correlations:
    """For every stack of which each block was measured alone at `bits`."""
    found: Correlations = {}
    for log in logs:
        for (model, stack), positions in log.stacks.items():
            alone = [list(log.alone(position, bits).values()) for position in positions]
            if not all(alone):
                continue
            measured = np.array([np.mean(values) for values in alone])
            members = table[(table["model"] == model) & (table["stack"] == stack)].sort_values("exec_index")
            readings = {
                name: members[column.format(bits=bits)].to_numpy(dtype=np.float64) for name, column in READINGS.items()
            }
            for name, p in predicted.items():
                readings[f"1 - {name}"] = np.array([1 - p[model, stack, i] for i in range(len(positions))])
            found[model, stack, len(positions)] = {
                name: correlation(reading, measured) for name, reading in readings.items()
            }
    return found


def _correlations(found: Correlations) -> str:
    """One row per stack; a star where p is below SURE."""
    names = list(next(iter(found.values()), {}))
    rows = [(*stack, *(_cell(figures[name]) for name in names)) for stack, figures in found.items()]
    return markdown_table(("model", "stack", "blocks", *names), rows)


def _cell(found: Correlation) -> str:
    if math.isnan(found.value):
        return "-"
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f}){' *' if found.p < SURE else ''}"


def _correlations_summary(found: Mapping[str, Correlations], family: Mapping[str, str]) -> str:
    """Per reading and bits: the mean over families, its interval, and how many stacks are surely above or below 0."""
    rows = []
    for name in next(iter(next(iter(found.values())).values())):
        cells: list[str | int] = []
        for stacks in found.values():
            per_family: dict[str, list[float]] = {}
            for (model, _, _), figures in stacks.items():
                if not math.isnan(figures[name].value):
                    per_family.setdefault(family[model], []).append(figures[name].value)
            mean, low, high = _over_families([float(np.mean(values)) for values in per_family.values()])
            above, below = (
                sum(sign * f[name].value > 0 and f[name].p < SURE for f in stacks.values()) for sign in (1, -1)
            )
            cells += [f"{mean:.2f} ({low:.2f} to {high:.2f})", f"{above} / {below}"]
        rows.append((name, *cells))
    head = ["reading"]
    for bits, stacks in found.items():
        head += [f"{bits} bits, {len(stacks)} stacks", "above / below 0"]
    return markdown_table(head, rows)


def _over_families(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval, resampling families."""
    array = np.array(values)
    draws = np.random.default_rng(0).integers(len(array), size=(2000, len(array)))
    low, high = np.quantile(array[draws].mean(axis=1), [0.025, 0.975])
    return float(array.mean()), float(low), float(high)


# --- plots ------------------------------------------------------------------------------------------------------------


def _plans_plot(comparison: Comparison, family: Mapping[str, str]) -> Figure:
    """Per rule and family, the divergence relative to the random plan in the middle."""
    mixes = [mix for mix in MIXES if comparison[mix]]
    figure = Figure(figsize=(4.2 * len(mixes), 4.6), facecolor="white")
    axes = np.ravel(figure.subplots(1, len(mixes), sharey=True, squeeze=False))
    names = [name for name in ORDER if name != "random"][::-1]
    for panel, mix in zip(axes, mixes, strict=True):
        panel.axvline(1, color="0.6", linewidth=1)
        for height, name in enumerate(names):
            ratios = np.exp(list(_ratios(comparison, family, mix, name).values()))
            if len(ratios):
                panel.scatter(ratios, np.full(len(ratios), height), s=14, color="C0", alpha=0.6)
                mean = math.exp(np.log(ratios).mean())
                panel.plot([mean, mean], [height - 0.3, height + 0.3], color="C3", linewidth=2)
        panel.set(xscale="log", title=_title(mix), xlabel="damage / damage of a random plan")
        panel.set_yticks(range(len(names)), names)
        panel.set_xticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.title.set_fontsize(8)
    figure.tight_layout()
    return figure


def _profiles_plot(logs: Sequence[QualityLog]) -> Figure:
    """ln of the measured sensitivity by relative depth, standardised within each stack."""
    figure = Figure(figsize=(9, 3.4), facecolor="white")
    panels = np.ravel(figure.subplots(1, 2, sharey=True, squeeze=False))
    for log in logs:
        for (model, stack), positions in log.stacks.items():
            values = np.log([np.mean(list(log.alone(position, "4").values())) for position in positions])
            panel = panels[0 if log.measure == "kl" else 1]
            label = model if len(log.stacks) == 1 or stack in model else f"{model} {stack}"
            depth = np.linspace(0, 1, len(values))
            panel.plot(depth, (values - values.mean()) / values.std(), marker=".", linewidth=1, label=label)
    for panel, title in zip(panels, ("KL divergence of the next token", "hidden states of encoders"), strict=True):
        panel.axhline(0, color="0.7", linewidth=1)
        panel.set(title=title, xlabel="relative depth")
        panel.legend(fontsize=5)
    panels[0].set_ylabel("ln sensitivity, standardised")
    figure.tight_layout()
    return figure
