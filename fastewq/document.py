"""What a plan is, and its JSON form: the document `fastewq.plan/1` of docs/contracts.md."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from fastewq.architecture import Tensor
from fastewq.memory import MemoryReport
from fastewq.schemes import raw_precision

SCHEMA: Final = "fastewq.plan/1"


class PlannedBlock(NamedTuple):
    """`modules` holds the modules of the block whose precision differs, from overrides; `layout` counts in layouts."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    path: str
    kind: str
    parameters: int
    p_quantize: float
    precision: str
    bytes: int
    layout: int
    modules: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        document = self._asdict()
        if not self.modules:
            del document["modules"]
        return document


class PlannedStack(NamedTuple):
    name: str
    blocks: tuple[PlannedBlock, ...]


class PlannedGroup(NamedTuple):
    """Parameters outside every block."""

    path: str
    parameters: int
    precision: str
    bytes: int
    layout: int


class Totals(NamedTuple):
    """bytes: the model under the plan; raw_bytes: as stored; bits_per_weight: 8 * bytes / parameters."""

    bytes: int
    raw_bytes: int
    saved_fraction: float
    bits_per_weight: float


class Plan(NamedTuple):
    """The plan document of docs/contracts.md; `as_dict` is its JSON form, keys in the documented order.

    layouts   the tensors of each distinct block and outside group, which exports need; `memory` is there on request
    """

    model: dict[str, Any]
    predictor: dict[str, Any]
    policy: dict[str, Any]
    target: str
    confidence: str
    stacks: tuple[PlannedStack, ...]
    other: tuple[PlannedGroup, ...]
    layouts: tuple[tuple[Tensor, ...], ...]
    totals: Totals
    warnings: tuple[str, ...]
    memory: MemoryReport | None = None

    @property
    def raw(self) -> str:
        """The precision of the model as stored: bf16, fp16 or fp32."""
        return raw_precision(self.model["dtype"])[0]

    def as_dict(self) -> dict[str, Any]:
        document = {
            "schema": SCHEMA,
            "model": self.model,
            "predictor": self.predictor,
            "policy": self.policy,
            "target": self.target,
            "confidence": self.confidence,
            "stacks": [{"name": s.name, "blocks": [block.as_dict() for block in s.blocks]} for s in self.stacks],
            "other": [group._asdict() for group in self.other],
            "layouts": [[_tensor(tensor) for tensor in layout] for layout in self.layouts],
            "totals": self.totals._asdict(),
            "warnings": list(self.warnings),
        }
        if self.memory is not None:
            document["memory"] = self.memory.as_dict()
        return document


def _tensor(tensor: Tensor) -> dict[str, Any]:
    document = {"name": tensor.name, "shape": list(tensor.shape), "role": tensor.role}
    return {**document, "transposed": True} if tensor.transposed else document
