"""The steps of the quality benchmark: measure what a log lacks, make the table of it, choose the plans to measure.

`LOGS/MODEL.csv` has a row per assignment of precisions and chunk of text. No torch here but for `measure`.
"""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastewq.training.plan_study import plans, rules, uniform
from fastewq.training.sensitivity import LOG_COLUMNS, read_log
from fastewq.training.sources import read_sources_file

if TYPE_CHECKING:
    from quality_forward import Subject
    from quality_models import Study

ROOT: Final = Path(__file__).resolve().parents[1]
LOGS: Final = ROOT / "training_data" / "quality"
"""The committed logs."""


class Log:
    """The rows measured so far of one model. A row is appended whole; a broken last line is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text() if path.is_file() else ""
        whole = text[: text.rfind("\n") + 1] or ",".join(LOG_COLUMNS) + "\n"
        if whole != text:
            path.write_text(whole)
        self.done = {(row["assignment"], int(row["chunk"])) for row in csv.DictReader(whole.splitlines())}

    def add(self, assignment: str, chunk: int, divergence: float, loss: float) -> None:
        with self.path.open("a") as stream:
            stream.write(f"{assignment},{chunk},{divergence:.6g},{loss:.6g}\n")
        self.done.add((assignment, chunk))


def alone(blocks: int, bits: Iterable[str]) -> list[str]:
    """One block at a time at each precision, after the unquantized model itself."""
    each = [("r" * i) + b + "r" * (blocks - i - 1) for b in bits for i in range(blocks)]
    return ["r" * blocks, *each]


def describe(study: Study, subject: Subject, logs: Path) -> None:
    """Write NAME.json beside the log: which blocks an assignment's characters stand for, and what was read."""
    about = {
        "stacks": stacks_of(study),
        "measure": "kl" if subject.logits else "states",
        "text": study.text.__name__,
    }
    (logs / f"{study.name}.json").write_text(json.dumps(about) + "\n")


def stacks_of(study: Study) -> list[tuple[str, str, int]]:
    """(model, stack, blocks) of a study, as the table of blocks names them."""
    sources = {source.name: source for source in read_sources_file(ROOT / "training_data" / "sources.toml").source}
    return [(name, stack.name, stack.blocks) for name in study.sources for stack in sources[name].stacks]


def measure(name: str, cache: Path, logs: Path, assignments: Sequence[str] | None, bits: Sequence[str]) -> None:
    """Measure what the log lacks: `assignments` on the plans' chunks, or each block alone on the others."""
    from quality_models import STUDIES

    study = STUDIES[name]
    start = time.monotonic()
    subject, chunks = study.load(study, cache)
    describe(study, subject, logs)
    print(f"{name}: {len(subject.blocks)} blocks, loaded in {time.monotonic() - start:.0f} s", flush=True)
    wanted = alone(len(subject.blocks), bits) if assignments is None else assignments
    chosen = study.chosen(len(chunks), single=assignments is None)
    log = Log(logs / f"{name}.csv")
    for assignment in wanted:
        left = [chunks[number] for number in chosen if (assignment, number) not in log.done]
        if not left:
            continue
        begin = time.monotonic()
        total = 0.0
        for number, found in subject.measure(assignment, left):
            log.add(assignment, number, found.divergence, found.loss)
            total += found.divergence
        print(f"{name} {assignment} {total / len(left):.3e} {time.monotonic() - begin:.1f} s", flush=True)


def blocks_table(logs: Path) -> Path:
    """The table of blocks, beside which sensitivity.csv is looked for: the committed one, or a copy in other logs."""
    committed = ROOT / "training_data" / "blocks.csv"
    if logs.resolve() == LOGS:
        return committed
    return Path(shutil.copyfile(committed, logs / committed.name))


def docs(logs: Path) -> Path:
    """Where tables and plots go."""
    return ROOT / "docs" if logs.resolve() == LOGS else logs


def table(logs: Path) -> None:
    """Write the table of sensitivities and, for every objective, the probabilities for blocks of families held out."""
    from fastewq.files import save_csv
    from fastewq.training.evaluation import Booster, leave_one_out
    from fastewq.training.objectives import OBJECTIVES
    from fastewq.training.sensitivity import write_sensitivities
    from fastewq.training.table import load_blocks

    data = blocks_table(logs)
    print(f"{write_sensitivities(logs, data.with_name('sensitivity.csv'))} blocks were measured")
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for name in OBJECTIVES:
        blocks = load_blocks(data, objective=name)
        for train, held_out in leave_one_out(blocks.families):
            for row, p in zip(held_out, Booster()(blocks, train, held_out), strict=True):
                model, stack = str(blocks.stacks[row]).rsplit("/", 1)
                key = (model, stack, str(int(blocks.columns["exec_index"][row])))
                rows.setdefault(key, {})[f"predicted {name}"] = round(float(p), 6)
    whole = [(key, found) for key, found in rows.items() if len(found) == len(OBJECTIVES)]
    identity = ("model", "stack", "exec_index")
    save_csv(logs / "predicted.csv", [dict(zip(identity, key, strict=True)) | found for key, found in whole])


def wanted_plans(name: str, logs: Path, mixes: Sequence[str]) -> list[str]:
    """The assignments of every plan to compare, each once, uniform ones first."""
    import pandas as pd

    log = read_log(logs, name)
    table = pd.read_csv(ROOT / "training_data" / "blocks.csv", engine="pyarrow")
    predicted_file = logs / "predicted.csv"
    predicted = {}
    if predicted_file.is_file():
        held_out = pd.read_csv(predicted_file, engine="pyarrow").set_index(["model", "stack", "exec_index"])
        predicted = {column: held_out[column] for column in held_out.columns}
    found = plans(log, rules(log, table, predicted), mixes)
    return list(dict.fromkeys([*uniform(log), *(a for rule in found.values() for a in rule.values())]))
