"""Checkpoints -> the training data: one row per block, and one row per tensor behind it.

    report = build_dataset(["training_data/sources.toml"], Path("training_data/blocks.csv"), cache)

Every source is opened (`dataset_sources`), all their tensors are read as one DataFrame (`dataset_readings`), and the
rows are made from the readings. A source that fails is one row of the report; it leaves no other row. The same sources
give the same bytes, whichever engine reads them and however often the run was killed in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastewq.analysis.blocks import block_entropy, cut
from fastewq.analysis.kernel import ROUNDING_BITS, Reading
from fastewq.engine import Engine
from fastewq.errors import FastEWQError
from fastewq.features import block_columns
from fastewq.files import save_csv, writable_folder
from fastewq.hub import BATCH, Hub
from fastewq.training.dataset_readings import EPSILONS, Log, Progress, read_sources
from fastewq.training.dataset_sources import MODALITIES, BlockTensor, OpenedSource, Wanted, find_sources

LABEL_EPSILON = 0.01
LABEL_X = 1.0
"""What the columns `label` and `quantized` mean: matrices only, with these. The entropies beside them allow others."""

Row = dict[str, Any]
Read = Sequence[tuple[BlockTensor, Reading]]
"""Tensors of a source in its order, with their readings."""


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What became of one source: what it gave, or why nothing."""

    name: str
    blocks: int = 0
    tensors: int = 0
    origin: str = ""
    error: FastEWQError | None = None

    def row(self) -> Row:
        error = self.error.as_dict() if self.error else {"code": None, "message": None}
        return {
            "model": self.name,
            "source": self.origin,
            "blocks": self.blocks,
            "tensors": self.tensors,
            "error_code": error["code"],
            "error_message": error["message"],
        }


@dataclass(frozen=True, slots=True)
class BuildReport:
    """One entry per source, in order, and the three tables."""

    sources: tuple[SourceReport, ...]
    blocks_file: Path
    tensors_file: Path
    sources_file: Path

    @property
    def errors(self) -> list[FastEWQError]:
        return [source.error for source in self.sources if source.error is not None]


def build_dataset(
    sources: Sequence[str],
    output: Path,
    cache: Path,
    *,
    resume: bool = True,
    engine: Engine | None = None,
    hub: Hub | None = None,
    opening: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Write the rows of every block to `output` (CSV), and beside it those of every tensor (`NAME.tensors.csv`) and
    every source (`NAME.sources.csv`).

    Where no source gave a row, nothing is written: files from an earlier run stay as they are.

    sources   sources files, checkpoints, folders of checkpoints, Hub ids (`dataset_sources.find_sources`)
    cache     folder that keeps wheels, checkpoints and finished readings; the workers of a cluster must share it
    resume    take the readings that a former run left in the cache; without it only downloads are taken
    opening   called with a source's name before it is opened; progress   with bytes read and bytes in all, after that

    Raises NotFound, InputError or InvalidDataset if SOURCES cannot be used, StorageFailure if readings or rows cannot
    be written, and what `Engine.check` raises. Whatever is wrong with one source is an entry of the report.
    """
    if engine:
        engine.check()  # before the sources are downloaded
    hub = hub or Hub(patience=BATCH)
    log = Log.of_this_code(cache / "readings")
    wanted = find_sources(sources, cache, hub)
    writable_folder(output.parent)
    if not resume:
        log.clear()
    opened, failed = _open_all(wanted, opening or (lambda _: None))
    read = read_sources(opened, log, hub=hub, engine=engine, progress=progress)
    blocks: list[Row] = []
    tensors: list[Row] = []
    reports = {name: SourceReport(name, error=error) for name, error in failed.items()}
    for number, source in enumerate(opened):
        found = {key: r for group, members in read.items() if group[0] == number for key, r in members.items()}
        readings = [(tensor, found[source.key(tensor)]) for tensor in source.tensors]
        whole = [(tensor, reading) for tensor, reading in readings if isinstance(reading, Reading)]
        if len(whole) < len(readings):
            error = next(reading for _, reading in readings if not isinstance(reading, Reading))
            reports[source.name] = SourceReport(source.name, origin=source.origin, error=error)
            continue
        rows = block_rows(source, whole)
        blocks += rows
        tensors += [tensor_row(source, tensor, reading) for tensor, reading in whole]
        reports[source.name] = SourceReport(source.name, len(rows), len(whole), source.origin)
    report = BuildReport(
        tuple(reports[source.name] for source in wanted),
        output,
        output.with_suffix(".tensors.csv"),
        output.with_suffix(".sources.csv"),
    )
    if blocks:
        save_csv(report.sources_file, [source.row() for source in report.sources])
        save_csv(report.tensors_file, tensors)
        save_csv(output, blocks)
    return report


def _open_all(
    wanted: Iterable[Wanted], opening: Callable[[str], None]
) -> tuple[list[OpenedSource], dict[str, FastEWQError]]:
    """The sources that can be opened, and why the others cannot."""
    opened, failed = [], {}
    for source in wanted:
        opening(source.name)
        try:
            opened.append(source.open())
        except FastEWQError as error:
            failed[source.name] = error
    return opened, failed


# --- rows -------------------------------------------------------------------------------------------------------------


def block_rows(source: OpenedSource, readings: Read) -> list[Row]:
    """One row per block, in stack and execution order."""
    architecture = source.architecture
    facts = block_columns(architecture)
    rows: list[Row] = []
    end = 0
    for stack in architecture.stacks:
        begin, end = end, end + len(stack.blocks)
        if stack.name not in source.stacks:
            continue
        of_block: list[list[tuple[BlockTensor, Reading]]] = [[] for _ in stack.blocks]
        for tensor, reading in readings:
            if tensor.stack == stack.name:
                of_block[tensor.exec_index].append((tensor, reading))
        matrices = [[(t, r) for t, r in members if t.is_matrix] for members in of_block]
        limits = cut([_entropy(members, LABEL_EPSILON) for members in matrices], LABEL_X)
        for position, members, only_matrices in zip(range(begin, end), of_block, matrices, strict=True):
            label = limits.label(_entropy(only_matrices, LABEL_EPSILON))
            rows.append(
                {
                    "model": source.name,
                    "family": source.family,
                    "modality": source.modality or MODALITIES[stack.role],
                    "model_type": architecture.model_type,
                    "stack": stack.name,
                    "role": stack.role,
                    **{name: _plain(values[position]) for name, values in facts.items()},
                    "dtype": architecture.dtype,
                    "matrix_parameters": sum(reading.count for _, reading in only_matrices),
                    **{f"entropy_{eps:g}": _entropy(only_matrices, eps) for eps in EPSILONS},
                    **{f"entropy_vectors_{eps:g}": _entropy(members, eps) for eps in EPSILONS},
                    "label": label,
                    "quantized": int(label != "keep"),
                    **_mean_readings([reading for _, reading in only_matrices]),
                    "stored": source.stored,
                    "licence": source.licence,
                    "source": source.origin,
                    "sha256": source.sha256,
                }
            )
    return rows


def tensor_row(source: OpenedSource, tensor: BlockTensor, reading: Reading) -> Row:
    """The readings of one matrix or vector; `part` counts the experts of a stacked tensor."""
    return {
        "model": source.name,
        "stack": tensor.stack,
        "exec_index": tensor.exec_index,
        "tensor": tensor.info.name,
        "part": tensor.part,
        "shape": "x".join(str(size) for size in tensor.shape),
        "dtype": tensor.info.dtype,
        "parameters": reading.count,
        **{f"entropy_{eps:g}": reading.entropies[eps] for eps in EPSILONS},
        "minimum": reading.minimum,
        "maximum": reading.maximum,
        "mean": reading.mean,
        "variance": reading.variance,
        "kurtosis": reading.kurtosis,
        "zeros": reading.zeros,
        **{f"rounding_error_{bits}": reading.rounding_error.get(bits) for bits in ROUNDING_BITS},
        "rounding_rows": reading.rounding_rows,
    }


def _entropy(members: Read, eps: float) -> float:
    return block_entropy((reading.count, reading.entropies[eps]) for _, reading in members)


def _mean_readings(matrices: Sequence[Reading]) -> Row:
    """Means over the block's matrices weighted by size, over those that have the reading; None where none has."""

    def mean(values: Iterable[float | None]) -> float | None:
        pairs = [(r.count, value) for r, value in zip(matrices, values, strict=True) if value is not None]
        return math.fsum(size * value for size, value in pairs) / sum(size for size, _ in pairs) if pairs else None

    return {
        "variance": mean(r.variance for r in matrices),
        "kurtosis": mean(r.kurtosis for r in matrices),
        "zeros": mean(r.zeros for r in matrices),
        **{f"rounding_error_{bits}": mean(r.rounding_error.get(bits) for r in matrices) for bits in ROUNDING_BITS},
    }


def _plain(value: Any) -> int | float | str:
    """A fact as it is written: whole numbers without a fraction."""
    if isinstance(value, str):
        return str(value)
    number = float(value)
    return int(number) if number.is_integer() else number
