"""Full analysis of a checkpoint: every weight read once, every block labelled. The document `fastewq.analysis/1`.

analysis = analyze("model/")            # reads the weights
analysis.as_dict()                      # the document
analysis.relabel(x=2.0)                 # other labels from the same readings, without the weights
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastewq.analysis.blocks import Label, StoredStack, block_entropy, cut, group_blocks, is_buffer
from fastewq.analysis.checkpoints import Checkpoint, is_packed, open_checkpoint, value_type_of
from fastewq.analysis.kernel import Reading, measure
from fastewq.analysis.tensors import TensorInfo
from fastewq.errors import InputError, InvalidCheckpoint

SCHEMA = "fastewq.analysis/1"

Progress = Callable[[int, int], None]
"""Called with (bytes read so far, bytes in all); from any thread."""


@dataclass(frozen=True, slots=True)
class TensorReading:
    """One tensor of a block: one reading, or one per expert of a stacked tensor."""

    info: TensorInfo
    readings: tuple[Reading, ...]

    @property
    def is_matrix(self) -> bool:
        return len(self.info.shape) >= 2

    def entropy(self, epsilon: float) -> float:
        """Mean over the experts, in nats; of an ordinary tensor its entropy."""
        return block_entropy((r.count, r.entropies[epsilon]) for r in self.readings)


@dataclass(frozen=True, slots=True)
class BlockAnalysis:
    """`parameters` counts all weights of the block; `entropy` is over the tensors that `include_vectors` selects."""

    index: int
    path: str
    parameters: int
    entropy: float
    label: Label
    tensors: tuple[TensorReading, ...]

    @property
    def quantized(self) -> bool:
        return self.label != "keep"


@dataclass(frozen=True, slots=True)
class StackAnalysis:
    """Mean and population standard deviation of the blocks' entropies (nats), and threshold = mean - x std."""

    name: str
    mean: float
    std: float
    threshold: float
    blocks: tuple[BlockAnalysis, ...]


@dataclass(frozen=True, slots=True)
class Analysis:
    """Labels and block entropies are for `epsilon`; `epsilons` are all for which the readings hold entropies."""

    model: str
    epsilon: float
    x: float
    include_vectors: bool
    epsilons: tuple[float, ...]
    stacks: tuple[StackAnalysis, ...]

    def relabel(
        self, *, epsilon: float | None = None, x: float | None = None, include_vectors: bool | None = None
    ) -> Analysis:
        """The same readings under another definition. Raises InputError for an epsilon that was not computed."""
        epsilon = self.epsilon if epsilon is None else epsilon
        x = self.x if x is None else x
        include_vectors = self.include_vectors if include_vectors is None else include_vectors
        if epsilon not in self.epsilons:
            raise InputError(f"epsilon {epsilon!r} was not computed; this analysis has {self.epsilons}")
        stacks = tuple(
            _label(stack.name, [(b.index, b.path, b.tensors) for b in stack.blocks], epsilon, x, include_vectors)
            for stack in self.stacks
        )
        return replace(self, epsilon=epsilon, x=x, include_vectors=include_vectors, stacks=stacks)

    def as_dict(self) -> dict[str, Any]:
        """The `fastewq.analysis/1` document. Entropies in nats; one entry per tensor, with all its readings."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "epsilon": self.epsilon,
            "x": self.x,
            "include_vectors": self.include_vectors,
            "stacks": [
                {
                    "name": s.name,
                    "mean": s.mean,
                    "std": s.std,
                    "threshold": s.threshold,
                    "blocks": [_block_dict(b, self.epsilon) for b in s.blocks],
                }
                for s in self.stacks
            ],
        }


def analyze(
    path: str | Path,
    *,
    epsilon: float = 0.01,
    x: float = 1.0,
    include_vectors: bool = False,
    more_epsilons: Sequence[float] = (),
    threads: int | None = None,
    progress: Progress | None = None,
) -> Analysis:
    """Read every weight of a local checkpoint and label its blocks.

    path           safetensors (file, index, folder), GGUF, torch `.bin`, CTranslate2
    epsilon        of the entropy; 0 is allowed
    x              standard deviations between the mean and the threshold
    more_epsilons  entropies to compute in the same reading, for `Analysis.relabel`

    Raises NotFound, StorageFailure, InvalidCheckpoint (malformed, or without blocks), NonFiniteWeights.
    """
    return analyze_checkpoint(
        open_checkpoint(path),
        epsilon=epsilon,
        x=x,
        include_vectors=include_vectors,
        more_epsilons=more_epsilons,
        threads=threads,
        progress=progress,
    )


def analyze_checkpoint(
    checkpoint: Checkpoint,
    *,
    epsilon: float = 0.01,
    x: float = 1.0,
    include_vectors: bool = False,
    more_epsilons: Sequence[float] = (),
    threads: int | None = None,
    progress: Progress | None = None,
) -> Analysis:
    """`analyze` for a checkpoint that is open already, wherever its bytes come from."""
    if not math.isfinite(x):
        raise InputError(f"x is {x!r}; expected a finite number of standard deviations")
    epsilons = tuple(dict.fromkeys(float(e) for e in (epsilon, *more_epsilons)))
    stacks = _stacks(checkpoint)
    if not stacks:
        raise InvalidCheckpoint(
            f"{checkpoint.name}: no numbered blocks (model.layers.N, blk.N, h.N ...) among the tensors",
            hint="Give the checkpoint of a transformer.",
        )
    readings = read_tensors(checkpoint, epsilons, threads=threads, progress=progress)
    labelled = []
    for stack in stacks:
        blocks = [
            (b.index, b.path, tuple(readings[t.name] for t in b.tensors if t.name in readings)) for b in stack.blocks
        ]
        labelled.append(_label(stack.name, blocks, float(epsilon), x, include_vectors))
    return Analysis(checkpoint.name, float(epsilon), x, include_vectors, epsilons, tuple(labelled))


def _stacks(checkpoint: Checkpoint) -> list[StoredStack]:
    return group_blocks(t for t in checkpoint.tensors if not checkpoint.is_scale(t))


def read_tensors(
    checkpoint: Checkpoint,
    epsilons: Sequence[float],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, TensorReading]:
    """Readings of every tensor of weights, inside and outside the blocks, so that a NaN anywhere is found.

    Left out: buffers, scales, empty tensors, counters and position tables. Packed integers inside blocks are refused.
    """
    in_blocks = {t.name for s in _stacks(checkpoint) for b in s.blocks for t in b.tensors}
    wanted = [
        t
        for t in checkpoint.tensors
        if t.parameters
        and not is_buffer(t)
        and not checkpoint.is_scale(t)
        and (value_type_of(t) is not None or (t.name in in_blocks and len(t.shape) >= 2 and is_packed(t)))
    ]
    total = sum(t.nbytes for t in wanted)
    done, lock = 0.0, threading.Lock()
    readings = {}
    for tensor in wanted:
        matrices = checkpoint.matrices(tensor)

        def advance(share: float, weight: float = tensor.nbytes / len(matrices)) -> None:
            nonlocal done
            with lock:
                done += share * weight
            if progress:
                progress(round(done), total)

        readings[tensor.name] = TensorReading(
            tensor, tuple(measure(m, epsilons, threads=threads, progress=advance) for m in matrices)
        )
    return readings


def _label(
    name: str,
    blocks: Sequence[tuple[int, str, tuple[TensorReading, ...]]],
    epsilon: float,
    x: float,
    include_vectors: bool,
) -> StackAnalysis:
    """One stack from its blocks' indices, paths and readings."""
    entropies = []
    for _, path, tensors in blocks:
        chosen = [r for t in tensors if include_vectors or t.is_matrix for r in t.readings]
        if not chosen:
            raise InvalidCheckpoint(f"block {path} holds no matrix of weights, so it has no entropy")
        entropies.append(block_entropy((r.count, r.entropies[epsilon]) for r in chosen))
    limits = cut(entropies, x)
    return StackAnalysis(
        name,
        limits.mean,
        limits.std,
        limits.threshold,
        tuple(
            BlockAnalysis(index, path, sum(t.info.parameters for t in tensors), entropy, limits.label(entropy), tensors)
            for (index, path, tensors), entropy in zip(blocks, entropies, strict=True)
        ),
    )


def _block_dict(block: BlockAnalysis, epsilon: float) -> dict[str, Any]:
    return {
        "index": block.index,
        "path": block.path,
        "parameters": block.parameters,
        "entropy": block.entropy,
        "label": block.label,
        "quantized": block.quantized,
        "tensors": [_tensor_dict(t, epsilon) for t in block.tensors],
    }


def _tensor_dict(tensor: TensorReading, epsilon: float) -> dict[str, Any]:
    return {
        "name": tensor.info.name,
        "shape": list(tensor.info.shape),
        "dtype": tensor.info.dtype,
        "entropy": tensor.entropy(epsilon),
        "readings": [_reading_dict(r) for r in tensor.readings],
    }


def _reading_dict(reading: Reading) -> dict[str, Any]:
    return {
        "entropies": _text_keys(reading.entropies),
        "minimum": reading.minimum,
        "maximum": reading.maximum,
        "mean": reading.mean,
        "variance": reading.variance,
        "kurtosis": reading.kurtosis,
        "zeros": reading.zeros,
        "rounding_error": _text_keys(reading.rounding_error),
        "rounding_rows": reading.rounding_rows,
    }


def _text_keys(values: Mapping[float, float] | Mapping[int, float]) -> dict[str, float]:
    return {f"{key:g}": value for key, value in values.items()}
