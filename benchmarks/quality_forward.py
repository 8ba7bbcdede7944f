"""Quantize chosen blocks of a loaded model and measure how far its outputs move. Needs torch (extra `quality`).

An assignment has one character per block, in execution order: `r` raw, or the bits `8`, `4`, `3` of symmetric
round-to-nearest in groups of 64 along the inputs, the scheme of `fastewq.analysis.kernel.rounding_errors`. Only the
matrices of the block are rounded, not its norms and biases. Computation is float32 throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

GROUP: Final = 64
RAW: Final = "r"


def rounded(weight: Tensor, bits: int) -> Tensor:
    """`weight`, shape (outputs, inputs), after symmetric round-to-nearest in groups of GROUP inputs."""
    columns = weight.shape[-1]
    short = -columns % GROUP
    groups = nn.functional.pad(weight, (0, short)).unflatten(-1, (-1, GROUP))
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    scale = groups.abs().amax(-1, keepdim=True) / (high + 0.5)
    scale = torch.where(scale > 0, scale, 1.0)
    whole = (groups / scale).round().clamp(low, high) * scale
    return whole.flatten(-2)[..., :columns].contiguous()


@dataclass(frozen=True)
class Chunk:
    """One piece of text as the model's keyword arguments (batch of one), and the output positions that are measured.

    targets   the token that follows each measured position, shape (positions,); None where there is no such thing
    """

    number: int
    inputs: Mapping[str, Tensor]
    positions: Tensor
    targets: Tensor | None = None


@dataclass(frozen=True)
class Measurement:
    """Means over a chunk's measured positions.

    divergence   language models: KL(unquantized || quantized) in nats; others: ||h - h0||^2 / ||h0||^2 of the final
                 hidden states
    loss         language models: negative log-likelihood of the text in nats a token; others: 1 - cosine of the mean
                 hidden states
    """

    divergence: float
    loss: float


@dataclass
class Subject:
    """A loaded model: its blocks in execution order and how to compute the outputs at a chunk's positions.

    outputs   (model, inputs, positions) -> logits, shape (positions, vocabulary), or hidden states, (positions, width)
    """

    model: nn.Module
    blocks: Sequence[nn.Module]
    outputs: Callable[[nn.Module, Mapping[str, Tensor], Tensor], Tensor]
    logits: bool
    _references: dict[int, Tensor] = field(default_factory=dict)
    _hidden: dict[int, list[Any]] = field(default_factory=dict)

    @torch.inference_mode()
    def prepare(self, chunk: Chunk) -> None:
        """Run the unquantized model once; keep its outputs and what every block returned."""
        if chunk.number in self._references:
            return
        kept: list[Any] = [None] * len(self.blocks)

        def keeper(index: int) -> Callable[..., None]:
            def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
                kept[index] = output

            return keep

        hooks = [block.register_forward_hook(keeper(index)) for index, block in enumerate(self.blocks)]
        try:
            found = self.outputs(self.model, chunk.inputs, chunk.positions)
        finally:
            for hook in hooks:
                hook.remove()
        self._references[chunk.number] = torch.log_softmax(found, -1) if self.logits else found
        self._hidden[chunk.number] = kept

    @torch.inference_mode()
    def measure(self, assignment: str, chunks: Sequence[Chunk]) -> Iterator[tuple[int, Measurement]]:
        """(chunk number, measurement) for each chunk under one assignment."""
        for chunk in chunks:
            self.prepare(chunk)
        with self._quantized(assignment):
            first = next((i for i, level in enumerate(assignment) if level != RAW), len(assignment) - 1)
            for chunk in chunks:
                with self._replayed(first, chunk.number):
                    found = self.outputs(self.model, chunk.inputs, chunk.positions)
                yield chunk.number, self._compare(chunk, found)

    def round_all(self, level: str) -> None:
        """Round every block and forget it, to see how long that takes."""
        with torch.inference_mode(), self._quantized(level * len(self.blocks)):
            pass

    def _compare(self, chunk: Chunk, found: Tensor) -> Measurement:
        reference = self._references[chunk.number]
        if not self.logits:
            moved = ((found - reference) ** 2).sum(-1) / (reference**2).sum(-1)
            cosine = nn.functional.cosine_similarity(found.double().mean(0), reference.double().mean(0), dim=0)
            return Measurement(moved.mean().item(), 1 - cosine.item())
        found = torch.log_softmax(found, -1)
        divergence = (reference.exp() * (reference - found)).sum(-1, dtype=torch.float64).mean().item()
        loss = nn.functional.nll_loss(found, chunk.targets).item() if chunk.targets is not None else float("nan")
        return Measurement(divergence, loss)

    @contextmanager
    def _quantized(self, assignment: str) -> Iterator[None]:
        if len(assignment) != len(self.blocks):
            raise ValueError(f"assignment has {len(assignment)} blocks; the model has {len(self.blocks)}")
        raw: list[tuple[nn.Parameter, Tensor]] = []
        try:
            for block, level in zip(self.blocks, assignment, strict=True):
                if level == RAW:
                    continue
                for module in block.modules():
                    if isinstance(module, nn.Linear | Conv1D):
                        raw.append((module.weight, module.weight.data))
                        # Conv1D stores (inputs, outputs).
                        weight = module.weight.data.T if isinstance(module, Conv1D) else module.weight.data
                        new = rounded(weight, int(level))
                        module.weight.data = new.T.contiguous() if isinstance(module, Conv1D) else new
            yield
        finally:
            for parameter, weight in raw:
                parameter.data = weight

    @contextmanager
    def _replayed(self, first: int, chunk: int) -> Iterator[None]:
        """Blocks before `first` return what they returned in the unquantized run instead of computing it again."""
        hidden = self._hidden[chunk]
        try:
            for index, block in enumerate(self.blocks[:first]):
                block.forward = lambda *_args, _kept=hidden[index], **_kwargs: _kept  # type: ignore[method-assign]
            yield
        finally:
            for block in self.blocks[:first]:
                del block.forward
