"""The readings of every tensor in a checkpoint's blocks, each kept in the cache as soon as it is finished.

A log has one JSON line per matrix or vector, in the order in which they were finished. A run that is killed leaves
whole lines and at most one broken one, which is dropped; the next run takes what the log holds and measures only the
rest. Floats are written as Python's shortest exact representation, so a logged reading equals the measured one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastewq.analysis import checkpoints, format_gguf, kernel
from fastewq.analysis.blocks import is_buffer
from fastewq.analysis.checkpoints import Checkpoint
from fastewq.analysis.kernel import Reading, measure
from fastewq.analysis.tensors import TensorInfo
from fastewq.errors import InvalidCheckpoint, StorageFailure
from fastewq.training.sources import Source

EPSILONS = (0.0, 1e-12, 1e-4, 0.01)
"""Every reading has the entropy for each of these, so that labels can be recomputed under another one."""

Progress = Callable[[int, int], None]
"""Called with (bytes of the source finished, bytes in all)."""


@dataclass(frozen=True, slots=True)
class TensorReading:
    """One matrix or vector of a block; `part` counts the matrices of a stacked tensor (experts), 0 for any other."""

    stack: str
    exec_index: int
    tensor: str
    part: int
    shape: tuple[int, ...]
    dtype: str
    reading: Reading

    @property
    def is_matrix(self) -> bool:
        return len(self.shape) > 1


def read_blocks(
    checkpoint: Checkpoint, source: Source, log: Path, *, resume: bool, progress: Progress | None = None
) -> list[TensorReading]:
    """The readings of all block tensors, ordered by stack, block and the checkpoint's own order.

    log      file that keeps finished readings
    resume   take what the log holds for this checkpoint instead of measuring it again

    Raises InvalidCheckpoint if a block is missing, empty or unannounced, NonFiniteWeights, StorageFailure.
    """
    located = _locate(checkpoint, source)
    total = sum(tensor.nbytes for _, _, tensor in located)
    read = 0
    finished = _Log(log, source.sha256, resume)
    readings = []
    for stack, block, tensor in located:
        for part, matrix in enumerate(checkpoint.matrices(tensor)):
            reading = finished.get(tensor.name, part)
            if reading is None:
                reading = measure(matrix, EPSILONS)
                finished.add(tensor.name, part, reading)
            readings.append(TensorReading(stack, block, tensor.name, part, matrix.shape, tensor.dtype, reading))
        read += tensor.nbytes
        if progress:
            progress(read, total)
    return readings


def _locate(checkpoint: Checkpoint, source: Source) -> list[tuple[str, int, TensorInfo]]:
    """(stack, block, tensor) of every block tensor. Each stack has exactly the announced blocks, none of them empty."""
    located = []
    for order, stack in enumerate(source.stacks):
        for position, tensor in enumerate(checkpoint.tensors):
            match = re.search(stack.pattern, tensor.name)
            if match and tensor.parameters and not is_buffer(tensor):
                located.append((order, int(match[1]), position, tensor))
        found = {block for stack_order, block, _, _ in located if stack_order == order}
        if found != set(range(stack.blocks)):
            raise InvalidCheckpoint(
                f"{source.name}: stack {stack.name} has {len(found)} blocks, numbered {min(found, default=None)} to "
                f"{max(found, default=None)}; expected {stack.blocks}, numbered from 0"
            )
    names = [tensor.name for *_, tensor in located]
    if len(set(names)) < len(names):
        raise InvalidCheckpoint(
            f"{source.name}: a tensor belongs to two stacks; expected patterns that exclude each other"
        )
    located.sort(key=lambda item: item[:3])
    return [(source.stacks[order].name, block, tensor) for order, block, _, tensor in located]


class _Log:
    """Finished readings of one checkpoint. A log of another checkpoint, other eps values or other code starts empty."""

    def __init__(self, path: Path, sha256: str, resume: bool) -> None:
        self.path = path
        self.header = {"sha256": sha256, "epsilons": list(EPSILONS), "code": _code_digest()}
        self.readings: dict[tuple[str, int], Reading] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = self._load(path.read_bytes()) if resume and path.is_file() else 0
            with path.open("ab") as stream:
                stream.truncate(kept)
            if not kept:
                self._write(self.header)
        except OSError as error:
            raise StorageFailure(f"cannot keep readings in {path}: {error}") from error

    def get(self, tensor: str, part: int) -> Reading | None:
        return self.readings.get((tensor, part))

    def add(self, tensor: str, part: int, reading: Reading) -> None:
        try:
            self._write({"tensor": tensor, "part": part, **asdict(reading)})
        except OSError as error:
            raise StorageFailure(f"cannot keep readings in {self.path}: {error}") from error
        self.readings[tensor, part] = reading

    def _write(self, record: Mapping[str, Any]) -> None:
        with self.path.open("ab") as stream:
            stream.write(_line(record))

    def _load(self, content: bytes) -> int:
        """Take the log's whole lines; return how many bytes they have."""
        lines = content.splitlines(keepends=True)
        if not lines or lines[0] != _line(self.header):
            return 0
        kept = len(lines[0])
        for line in lines[1:]:
            try:
                tensor, part, reading = _parse(line)
            except (ValueError, KeyError, TypeError, AttributeError):
                return kept
            self.readings[tensor, part] = reading
            kept += len(line)
        return kept


def _code_digest() -> str:
    """SHA-256 of the modules that make a reading: two versions, equal but for the last bit, must not share a table."""
    sources = (Path(str(module.__file__)).read_bytes() for module in (kernel, checkpoints, format_gguf))
    return hashlib.sha256(b"".join(sources)).hexdigest()


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _parse(line: bytes) -> tuple[str, int, Reading]:
    """Tensor, part and reading of one line. JSON has only text keys; eps values and bits become numbers again."""
    if not line.endswith(b"\n"):
        raise ValueError("the line is not whole")
    record = json.loads(line)
    tensor, part = record.pop("tensor"), record.pop("part")
    entropies = {float(eps): entropy for eps, entropy in record.pop("entropies").items()}
    rounding_error = {int(bits): error for bits, error in record.pop("rounding_error").items()}
    return tensor, part, Reading(entropies=entropies, rounding_error=rounding_error, **record)
