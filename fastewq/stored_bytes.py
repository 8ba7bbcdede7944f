"""An architecture of a quantized checkpoint beside its files: the bytes that matrices really have. Pure.

A config does not always say all that decides them: ModelOpt can leave out the size of its groups, MLX the modules that
it left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from fastewq.analysis.tensors import TensorInfo
from fastewq.architecture import Tensor
from fastewq.quantized.selection import spellings

NOTICED: Final = 1000
"""Differences below this fraction of a block are left alone: the text in bitsandbytes' matrices varies in length."""
DTYPES: Final[Mapping[str, str]] = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
}
"""safetensors dtype -> name in a config, of weights that are not quantized."""
EXPERT: Final = re.compile(r"(experts\.)\d+\.")
"""The number of an expert in a tensor's name."""


class Filed(NamedTuple):
    """What files hold of one matrix, or of all experts' matrices of one name."""

    bytes: int
    quantized: bool


def filed(tensors: Iterable[TensorInfo], prefix: str) -> dict[str, Filed]:
    """Name below a prefix -> what the files hold under it; experts count as the first."""
    found: dict[str, Filed] = {}
    for tensor in tensors:
        name = EXPERT.sub(r"\g<1>0.", tensor.name.removeprefix(prefix))
        before = found.get(name, Filed(0, False))
        found[name] = Filed(before.bytes + tensor.nbytes, before.quantized or tensor.dtype not in DTYPES)
    return found


def measured(tensors: Sequence[Tensor], files: Mapping[str, Filed]) -> tuple[Tensor, ...] | None:
    """The tensors of a block or group with the bytes that the files have; None where nothing noticeable changes."""
    changed, difference, total = [], 0, 0
    for tensor in tensors:
        if tensor.stored is None:
            changed.append(tensor)
            continue
        names = dict.fromkeys([tensor.name, *(f"{module}.weight" for module in spellings(tensor.name))])
        own = [files[name] for name in names if name in files]
        size = sum(one.bytes for one in own) if own else tensor.stored.bytes
        total += size
        difference += abs(size - tensor.stored.bytes)
        quantized = not own or any(one.quantized for one in own)
        changed.append(tensor._replace(stored=tensor.stored._replace(bytes=size) if quantized else None))
    return tuple(changed) if difference * NOTICED > total else None
