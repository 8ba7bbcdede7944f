"""How many bytes a tensor takes at each precision, in the file formats that deployment tools write.

A `Target` is one tool's way to store a model: per precision a `Scheme` (bits, groups, scales, zero points, padding) and
what happens to the tensors that stay unquantized. The target "plain" belongs to no tool: symmetric integers with one
float16 scale per group along a row, the last group may be short. The formats were read off files that the tools wrote;
docs/exports-verified.md compares predicted and written sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import prod
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastewq.architecture import Architecture, Layout, Nameless, Outside, Role, Tensor, nameless, nameless_fields
from fastewq.errors import InvalidConfig, InvalidPolicy
from fastewq.shown import shown

Counts = TypeVar("Counts", int, NDArray[np.int64])

RAW_PRECISIONS: Final[dict[str, tuple[str, int]]] = {
    "bfloat16": ("bf16", 2),
    "float16": ("fp16", 2),
    "float32": ("fp32", 4),
}
"""Config dtype -> (precision in a plan, bytes per weight)."""

BITS: Final = {"int8": 8, "int4": 4, "ternary": 2}
LEVELS: Final = tuple(BITS)
"""The quantized precisions, from mild to aggressive, and the bits they take per weight."""
KEEP: Final = "raw"
PRECISIONS: Final = (KEEP, *LEVELS)
"""What can be asked for a matrix; the first is what it has."""

MATRICES: Final[frozenset[Role]] = frozenset({"linear", "experts"})
"""Roles that take their block's precision. Routers, norms, biases and convolutions stay raw."""

OUTSIDE_MATRICES: Final[frozenset[Role]] = frozenset({"linear", "embedding"})
"""Roles outside blocks that can be quantized on request: LM head and embeddings."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """One storage format of a matrix (..., rows, columns) whose rows are read along the columns (inputs).

    bits           per weight
    group          weights of a row that share a scale and zero point; 0 means the whole row
    group_bits     scale, zero point and the like, per group
    ragged         whether the last group of a row may be short; otherwise the group must divide the row
    row_multiple   packed weights of a row are padded to a multiple of this many bytes
    column_bytes   per column of the matrix, for instance GPTQ's group index
    matrix_bytes   per matrix, for instance a stored shape or a code book
    flat           groups run across rows over the whole matrix (bitsandbytes 4-bit)
    """

    name: str
    bits: int
    group: int
    group_bits: int = 16
    ragged: bool = False
    row_multiple: int = 1
    column_bytes: int = 0
    matrix_bytes: int = 0
    flat: bool = False

    def fits(self, columns: int) -> bool:
        """Whether rows of this many columns can be stored."""
        return self.ragged or self.flat or not self.group or columns % self.group == 0

    def size(self, shape: tuple[int, ...]) -> int:
        """Bytes of a tensor of this shape with all that belongs to it; leading dimensions are separate matrices."""
        rows, columns = shape[-2] if len(shape) > 1 else 1, shape[-1]
        return prod(shape[:-2]) * self.matrix_size(rows, columns)

    def matrix_size(self, rows: Counts, columns: Counts) -> Counts:
        """Bytes of a matrix with all that belongs to it; of each of many where rows and columns are arrays."""
        if self.flat:
            packed = -(-rows * columns * self.bits // 8)
            groups = -(-rows * columns // self.group)
        else:
            packed = rows * (-(-columns * self.bits // (8 * self.row_multiple)) * self.row_multiple)
            groups = rows * (-(-columns // self.group) if self.group else 1)
        return packed + -(-groups * self.group_bits // 8) + columns * self.column_bytes + self.matrix_bytes


@dataclass(frozen=True, eq=False)
class Target:
    """How one tool stores a model.

    schemes       precision -> formats in order of preference; the first that fits a row is used, else the tensor is raw
    small_bytes   bytes per weight of norms, biases, routers and other small tensors; None means as the raw weights
    large         the roles that are not small
    parameters    whether matrices that are no linear module's weight, such as stacked experts, can be quantized
    embeddings    whether embeddings can be quantized
    conv1d        whether matrices stored as (inputs, outputs), GPT-2's Conv1D, can be quantized
    routers       whether the routers of experts can be quantized
    """

    name: str
    schemes: Mapping[str, tuple[Scheme, ...]]
    small_bytes: int | None = None
    large: frozenset[Role] = MATRICES | {"embedding"}
    parameters: bool = True
    embeddings: bool = True
    conv1d: bool = True
    routers: bool = False
    small_embeddings: frozenset[str] = field(default=frozenset())
    """Last names of embedding modules that count as small: position and token type tables in GGUF."""

    @cached_property
    def _kept(self) -> frozenset[Role]:
        """Roles that the tool cannot quantize."""
        possible: dict[Role, bool] = {"experts": self.parameters, "embedding": self.embeddings, "router": self.routers}
        return frozenset(role for role, can in possible.items() if not can)

    def scheme(self, tensor: Tensor, precision: str) -> Scheme | None:
        """The format of a tensor that is to have `precision`; None where it stays as stored."""
        _, shape, role, transposed, stored = tensor
        if precision not in self.schemes or role in self._kept or (stored and not follows(tensor, precision)):
            return None
        if transposed and role == "linear" and not self.conv1d:
            return None
        columns = shape[-2] if transposed else shape[-1]
        for scheme in self.schemes[precision]:
            if scheme.fits(columns):
                return scheme
        return None

    def tensor_bytes(self, tensor: Tensor, precision: str, raw_bytes: int) -> int:
        """Bytes of a tensor that is stored at `precision`, one of PRECISIONS."""
        return _sizes(self, nameless_fields(tensor), raw_bytes, precision != KEEP)[PRECISIONS.index(precision)]

    def layout_sizes(self, layout: Layout, raw_bytes: int, roles: frozenset[Role]) -> tuple[int, ...]:
        """Bytes of a whole block at each of PRECISIONS, to which its tensors of `roles` go; others stay raw."""
        key = (self, raw_bytes, roles)
        found = layout.weights.get(key)
        if found is None:
            fields = map(nameless_fields, layout.tensors)
            sizes = [_sizes(self, of, raw_bytes, of[1] in roles) for of in fields]
            found = layout.weights[key] = tuple(map(sum, zip(*sizes, strict=True))) or (0,) * len(PRECISIONS)
        return found

    def outside_bytes(self, group: Outside, precision: str, raw_bytes: int) -> int:
        """Bytes of parameters outside every block whose matrices and embeddings are stored at `precision`."""
        if self.small_bytes is not None and group.path.rpartition(".")[2] in self.small_embeddings:
            return group.parameters * self.small_bytes
        level = PRECISIONS.index(precision)
        return sum(
            [
                _sizes(self, fields, raw_bytes, fields[1] in OUTSIDE_MATRICES)[level]
                for fields in map(nameless_fields, group.tensors)
            ]
        )


@lru_cache(4096)
def _sizes(target: Target, fields: Nameless, raw_bytes: int, quantizable: bool) -> tuple[int, ...]:
    """Bytes of a tensor at each of PRECISIONS, all the same unless it is `quantizable`.

    Few shapes make up most models, so those asked for last are remembered.
    """
    tensor = nameless(fields)
    if tensor.stored is not None:
        raw = tensor.stored.bytes
    elif target.small_bytes is not None and tensor.role not in target.large:
        raw = tensor.parameters * target.small_bytes
    else:
        raw = tensor.parameters * raw_bytes
    if not quantizable:
        return (raw,) * len(PRECISIONS)
    schemes = [target.scheme(tensor, level) for level in LEVELS]
    return (raw, *[raw if scheme is None else scheme.size(tensor.oriented) for scheme in schemes])


def _gguf(name: str, bits: int, block: int) -> Scheme:
    """A ggml block format: `block` weights and one float16 scale."""
    return Scheme(name, bits, block)


def _groups(name: str, bits: int, sizes: tuple[int, ...], group_bits: int, **details: Any) -> tuple[Scheme, ...]:
    """One format per group size, largest first."""
    return tuple(Scheme(f"{name}, groups of {size}", bits, size, group_bits, **details) for size in sizes)


# A float16 or bfloat16 scale takes 16 bits, a float32 scale 32, an int64 shape of two dimensions 16 bytes.
TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for target in (
        Target(
            "plain",
            {
                "int8": (Scheme("int8 per row", 8, 0),),
                "int4": (Scheme("int4, groups of 64", 4, 64, ragged=True),),
                "ternary": (Scheme("2 bits, groups of 256", 2, 256, ragged=True),),
            },
            routers=True,
        ),
        Target(
            "gguf",
            {
                "int8": (_gguf("Q8_0", 8, 32),),
                "int4": (_gguf("Q4_0", 4, 32),),
                "ternary": (_gguf("TQ2_0", 2, 256), _gguf("Q4_0", 4, 32)),
            },
            small_bytes=4,
            small_embeddings=frozenset({"wpe", "position_embeddings", "token_type_embeddings"}),
        ),
        Target(
            # A vector-wise int8 matrix has a float32 scale per row and one marker byte; a 4-bit one a float32 scale per
            # 64 weights, a code book of 16 float32 and a JSON description of 91 bytes, all without double quantization.
            "bitsandbytes",
            {
                "int8": (Scheme("LLM.int8", 8, 0, 32, matrix_bytes=1),),
                "int4": (Scheme("NF4", 4, 64, 32, matrix_bytes=64 + 91, flat=True),),
            },
            parameters=False,
            embeddings=False,
        ),
        Target(
            # torchao keeps one weight per byte on a CPU, whatever its bits; the scale of a row is float32.
            "torchao",
            {
                "int8": (Scheme("Int8WeightOnly", 8, 0, 32 + 8),),
                "int4": _groups("IntxWeightOnly int4", 8, (64, 32), 16 + 8),
            },
            parameters=False,
            embeddings=False,
            conv1d=False,
        ),
        Target(
            "compressed-tensors",
            {
                "int8": (Scheme("W8A16 per channel", 8, 0, row_multiple=4, matrix_bytes=16),),
                "int4": _groups("W4A16", 4, (64, 32), 16, row_multiple=4, matrix_bytes=16),
            },
            parameters=False,
            embeddings=False,
            conv1d=False,
        ),
        Target(
            # GPTQ: float16 scale and packed zero point per group, int32 group index per input.
            "gptqmodel",
            {
                "int8": _groups("8-bit", 8, (64, 32), 16 + 8, column_bytes=4),
                "int4": _groups("4-bit", 4, (64, 32), 16 + 4, column_bytes=4),
            },
            parameters=False,
            embeddings=False,
        ),
        Target(
            "autoround",
            {
                "int8": _groups("W8A16", 8, (64, 32), 16 + 8),
                "int4": _groups("W4A16", 4, (64, 32), 16 + 4),
            },
            parameters=False,
            embeddings=False,
        ),
        Target(
            # Affine: scale and bias per group in the model's 16-bit type.
            "mlx",
            {
                "int8": _groups("affine 8-bit", 8, (64, 32), 32),
                "int4": _groups("affine 4-bit", 4, (64, 32), 32),
            },
        ),
        Target(
            "openvino",
            {
                "int8": (Scheme("INT8_SYM", 8, 0),),
                "int4": _groups("INT4_SYM", 4, (64, 32), 16),
            },
            small_bytes=4,  # norms, and experts that stay, are constants in float32
            large=frozenset({"linear", "embedding", "bias"}),
            parameters=False,
            conv1d=False,
        ),
        Target(
            # quanto takes the largest of these groups that divides the row; scale and shift per group.
            "quanto",
            {
                "int8": (Scheme("qint8 per row", 8, 0),),
                "int4": _groups("qint4", 4, (128, 96, 64, 32), 32),
            },
            parameters=False,
            embeddings=False,
            conv1d=False,
        ),
    )
}


DEFAULT_TARGET: Final = "plain"


def target_named(name: str) -> Target:
    """A target by name. Raises InvalidPolicy for any other name."""
    if not isinstance(name, str) or name not in TARGETS:
        raise InvalidPolicy(f"target is {shown(name, 40)}; expected one of {', '.join(TARGETS)}")
    return TARGETS[name]


def follows(tensor: Tensor, precision: str) -> bool:
    """Whether a tensor can take one of LEVELS: not where the checkpoint holds it in as few bits already."""
    return tensor.stored is None or tensor.stored.bits > BITS[precision]


def stored_bytes(architecture: Architecture, raw_bytes: int) -> int:
    """Bytes of all weights as the checkpoint holds them; `raw_bytes` per weight that is not quantized."""
    total = architecture.parameters * raw_bytes
    if architecture.quantization is None:
        return total
    total -= sum(count * _saved(layout.tensors, raw_bytes) for layout, count in architecture.counts.items())
    return total - sum(_saved(group.tensors, raw_bytes) for group in architecture.outside)


def _saved(tensors: Sequence[Tensor], raw_bytes: int) -> int:
    return sum(t.parameters * raw_bytes - t.stored.bytes for t in tensors if t.stored is not None)


def raw_precision(dtype: str) -> tuple[str, int]:
    """The plan's name and the bytes per weight of a config's dtype. Raises InvalidConfig for any other dtype."""
    try:
        return RAW_PRECISIONS[dtype]
    except KeyError:
        raise InvalidConfig(f"dtype is {dtype[:40]!r}; expected one of {', '.join(RAW_PRECISIONS)}") from None
