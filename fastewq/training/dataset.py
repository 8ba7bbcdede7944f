"""Checkpoints -> the training data: one row per block, and one row per tensor behind it.

    report = build_dataset(Path("training_data/sources.toml"), Path("training_data/blocks.csv"), cache)

For each source in turn: fetch and verify the checkpoint, read its weights, compare its blocks with those its config
describes, and make its rows. A source that fails is one entry of the report; it leaves no row. The same sources give
the same bytes.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastewq.analysis.blocks import block_entropy, cut
from fastewq.analysis.checkpoints import open_checkpoint
from fastewq.analysis.kernel import ROUNDING_BITS
from fastewq.architecture import Architecture, Block
from fastewq.config import read_config
from fastewq.errors import FastEWQError, InvalidCheckpoint, InvalidConfig, NotFound, StorageFailure
from fastewq.features import block_columns
from fastewq.training.dataset_readings import EPSILONS, Progress, TensorReading, read_blocks
from fastewq.training.source_cache import fetch_checkpoint
from fastewq.training.source_convert import READERS, as_safetensors
from fastewq.training.source_described import read_described
from fastewq.training.sources import Source, read_sources

LABEL_EPSILON = 0.01
LABEL_X = 1.0
"""What the columns `label` and `quantized` mean: matrices only, with these. The entropies beside them allow others."""

MAX_CONFIG_BYTES = 1 << 20

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What became of one source: how many blocks it gave, or why none."""

    name: str
    blocks: int
    error: FastEWQError | None = None


@dataclass(frozen=True, slots=True)
class BuildReport:
    """One entry per source, in order, and the two tables."""

    sources: tuple[SourceReport, ...]
    blocks_file: Path
    tensors_file: Path

    @property
    def errors(self) -> list[FastEWQError]:
        return [source.error for source in self.sources if source.error is not None]


def build_dataset(
    sources: Path,
    output: Path,
    cache: Path,
    *,
    resume: bool = False,
    progress: Callable[[str], Progress] | None = None,
) -> BuildReport:
    """Write the rows of every source to `output` (CSV) and of every tensor beside it (`NAME.tensors.csv`).

    Where no source gave a row, nothing is written: files from an earlier run stay as they are.

    cache     folder that keeps wheels, checkpoints and finished readings
    resume    take the readings a former run left in the cache; without it only downloads are taken
    progress  called with a source's name when it starts; gives what is called as its bytes are read

    Raises NotFound or InvalidDataset if the sources file cannot be used, StorageFailure if the rows cannot be written.
    Whatever is wrong with one source is an entry of the report.
    """
    blocks: list[Row] = []
    tensors: list[Row] = []
    reports = []
    for source in read_sources(sources):
        try:
            architecture = _read_architecture(sources.parent / source.config)
            readings = _read_source(source, cache, resume, progress(source.name) if progress else None)
            rows = block_rows(source, architecture, readings)
        except FastEWQError as error:
            reports.append(SourceReport(source.name, 0, error))
            continue
        blocks += rows
        tensors += [tensor_row(source, reading) for reading in readings]
        reports.append(SourceReport(source.name, len(rows)))
    tensors_file = output.with_suffix(".tensors.csv")
    if blocks:
        write_csv(tensors_file, tensors)
        write_csv(output, blocks)
    return BuildReport(tuple(reports), output, tensors_file)


def _read_architecture(path: Path) -> Architecture:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise InvalidConfig(f"{path} has {path.stat().st_size} bytes; a config has at most {MAX_CONFIG_BYTES}")
        document = json.loads(path.read_bytes())
        described = isinstance(document, dict) and "stacks" in document
        return read_described(document) if described else read_config(document)
    except FileNotFoundError as error:
        raise NotFound(f"no config at {path}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(f"{path} is not JSON: {error}") from error


def _read_source(source: Source, cache: Path, resume: bool, progress: Progress | None) -> list[TensorReading]:
    path = fetch_checkpoint(source, cache)
    if source.format in READERS:
        path = as_safetensors(path, source.format)
    log = cache / "readings" / f"{source.name}-{source.sha256[:12]}.jsonl"
    return read_blocks(open_checkpoint(path), source, log, resume=resume, progress=progress)


# --- rows -------------------------------------------------------------------------------------------------------------


def block_rows(source: Source, architecture: Architecture, readings: Sequence[TensorReading]) -> list[Row]:
    """One row per block, in stack and execution order.

    Raises InvalidCheckpoint where the checkpoint's stacks, blocks or matrix parameters differ from the architecture's.
    """
    _require_same_blocks(source, architecture, readings)
    facts = block_columns(architecture)
    rows: list[Row] = []
    end = 0
    for stack in architecture.stacks:
        begin, end = end, end + len(stack.blocks)
        if stack.name not in {stored.name for stored in source.stacks}:
            continue
        of_block = [[r for r in readings if (r.stack, r.exec_index) == (stack.name, b.index)] for b in stack.blocks]
        matrices = [[r for r in members if r.is_matrix] for members in of_block]
        limits = cut([_entropy(members, LABEL_EPSILON) for members in matrices], LABEL_X)
        for position, members, only_matrices in zip(range(begin, end), of_block, matrices, strict=True):
            label = limits.label(_entropy(only_matrices, LABEL_EPSILON))
            rows.append(
                {
                    "model": source.name,
                    "family": source.family,
                    "modality": source.modality,
                    "model_type": architecture.model_type,
                    "stack": stack.name,
                    "role": stack.role,
                    **{name: _plain(values[position]) for name, values in facts.items()},
                    "dtype": architecture.dtype,
                    "matrix_parameters": sum(r.reading.count for r in only_matrices),
                    **{f"entropy_{eps:g}": _entropy(only_matrices, eps) for eps in EPSILONS},
                    **{f"entropy_vectors_{eps:g}": _entropy(members, eps) for eps in EPSILONS},
                    "label": label,
                    "quantized": int(label != "keep"),
                    **_mean_readings(only_matrices),
                    "stored": source.stored,
                    "licence": source.licence,
                    "source": _origin(source),
                    "sha256": source.sha256,
                }
            )
    return rows


def _origin(source: Source) -> str:
    """The first wheel of the source; the sources file has the others."""
    first, more = source.parts[0].requirement, len(source.parts) - 1
    return f"{first} and {more} more" if more else first


def tensor_row(source: Source, tensor: TensorReading) -> Row:
    """The readings of one matrix or vector; `part` counts the experts of a stacked tensor."""
    reading = tensor.reading
    return {
        "model": source.name,
        "stack": tensor.stack,
        "exec_index": tensor.exec_index,
        "tensor": tensor.tensor,
        "part": tensor.part,
        "shape": "x".join(str(size) for size in tensor.shape),
        "dtype": tensor.dtype,
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


def _require_same_blocks(source: Source, architecture: Architecture, readings: Iterable[TensorReading]) -> None:
    """Each stack of the source must have the config's blocks. A file may lack one, which another file has."""
    described = {stack.name: len(stack.blocks) for stack in architecture.stacks}
    stored = {stack.name: stack.blocks for stack in source.stacks}
    if any(described.get(name) != blocks for name, blocks in stored.items()):
        raise InvalidCheckpoint(
            f"{source.name}: the checkpoint has the stacks {stored}; its config describes {described}"
        )
    stacks = [stack for stack in architecture.stacks if stack.name in stored]
    found = {(stack.name, block.index): 0 for stack in stacks for block in stack.blocks}
    for tensor in readings:
        found[tensor.stack, tensor.exec_index] += tensor.reading.count if tensor.is_matrix else 0
    for stack in stacks:
        for block in stack.blocks:
            if found[stack.name, block.index] != _matrix_parameters(block):
                raise InvalidCheckpoint(
                    f"{source.name}: the matrices of block {block.index} of stack {stack.name} have "
                    f"{found[stack.name, block.index]} parameters; its config describes {_matrix_parameters(block)}"
                )


def _matrix_parameters(block: Block) -> int:
    return sum(tensor.parameters for tensor in block.layout.tensors if len(tensor.shape) > 1)


def _entropy(members: Iterable[TensorReading], eps: float) -> float:
    return block_entropy((r.reading.count, r.reading.entropies[eps]) for r in members)


def _mean_readings(matrices: Sequence[TensorReading]) -> Row:
    """Means over the block's matrices weighted by size, over those that have the reading; None where none has."""

    def mean(values: Iterable[float | None]) -> float | None:
        pairs = [(r.reading.count, value) for r, value in zip(matrices, values, strict=True) if value is not None]
        return math.fsum(size * value for size, value in pairs) / sum(size for size, _ in pairs) if pairs else None

    return {
        "variance": mean(r.reading.variance for r in matrices),
        "kurtosis": mean(r.reading.kurtosis for r in matrices),
        "zeros": mean(r.reading.zeros for r in matrices),
        **{
            f"rounding_error_{bits}": mean(r.reading.rounding_error.get(bits) for r in matrices)
            for bits in ROUNDING_BITS
        },
    }


def _plain(value: Any) -> int | float | str:
    """A fact as it is written: whole numbers without a fraction."""
    if isinstance(value, str):
        return str(value)
    number = float(value)
    return int(number) if number.is_integer() else number


# --- files ------------------------------------------------------------------------------------------------------------


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Rows as CSV, under a temporary name first. Floats are exact (shortest representation), None is nothing."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    partial = path.with_name(f".partial-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text.getvalue(), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise StorageFailure(f"cannot write {path}: {error}") from error
