"""Weights and checkpoints for the tests, and the slow, obviously right entropy they are held to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt

from fastewq.analysis.numerics import TILE
from fastewq.analysis.weights import STORAGE, ValueType, bit_values

EPSILONS = (0.0, 1e-12, 1e-4, 0.01)


def exact_entropies(values: npt.ArrayLike, epsilons: Sequence[float]) -> list[mpmath.mpf]:
    """The definition, term by term, with 60 decimal digits; equal values are computed once."""
    with mpmath.workdps(60):
        distinct, counts = np.unique(np.ravel(values), return_counts=True)
        times = [int(n) for n in counts]
        e = [mpmath.exp(mpmath.mpf(float(w)) - mpmath.mpf(float(distinct[-1]))) for w in distinct]
        z = mpmath.fsum(n * x for n, x in zip(times, e, strict=True))
        p = [x / z for x in e]
        return [
            -mpmath.fsum(n * q * mpmath.log(q + mpmath.mpf(eps)) for n, q in zip(times, p, strict=True))
            for eps in epsilons
        ]


def bits_of(values: npt.ArrayLike, value_type: ValueType) -> npt.NDArray[Any]:
    """Numbers as the kernel wants them: rounded to the type, as its bit patterns where it is counted."""
    array = np.asarray(values)
    if value_type in ("F32", "F64"):
        return array.astype(STORAGE[value_type])
    if value_type == "F16":
        return array.astype(np.float16).view(np.uint16)
    if value_type == "BF16":
        return (array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    table = bit_values(value_type)
    finite = np.flatnonzero(np.isfinite(table))
    order = finite[np.argsort(table[finite], kind="stable")]
    nearest = np.searchsorted(table[order], array.ravel()).clip(0, len(order) - 1)
    return order[nearest].astype(np.uint8).reshape(array.shape)


def numbers_of(bits: npt.NDArray[Any], value_type: ValueType) -> npt.NDArray[np.float64]:
    """The inverse of `bits_of`, exact."""
    return bits.astype(np.float64) if bits.dtype.kind == "f" else bit_values(value_type)[bits]


@dataclass
class InMemory:
    """A matrix for the kernel."""

    array: npt.NDArray[Any]
    value_type: ValueType
    chunk_size: int = 16 * TILE
    name: str = "layers.0.weight"
    file: str = "model.safetensors"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @contextmanager
    def chunk(self, start: int, stop: int) -> Iterator[npt.NDArray[Any]]:
        yield self.array.reshape(-1)[start:stop]


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, Sequence[int], bytes]]) -> None:
    """A safetensors file written by hand, from name -> (dtype, shape, bytes): any dtype, no library in between."""
    header: dict[str, Any] = {}
    position = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + len(data)]}
        position += len(data)
    write_raw_safetensors(path, header, b"".join(data for _, _, data in tensors.values()))


def write_raw_safetensors(path: Path, header: Any, data: bytes, length: int | None = None) -> None:
    """Any header (JSON, or bytes as they are), any stated length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)


def small_model(blocks: int = 4, width: int = 32, seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """A llama-like state dict of float32 weights; later blocks are wider spread."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int, std: float = 0.02) -> npt.NDArray[np.float32]:
        return (rng.standard_normal(shape) * std).astype(np.float32)

    tensors = {"model.embed_tokens.weight": normal(64, width)}
    for n in range(blocks):
        prefix = f"model.layers.{n}"
        tensors[f"{prefix}.input_layernorm.weight"] = 1 + normal(width)
        tensors[f"{prefix}.self_attn.q_proj.weight"] = normal(width, width, std=0.02 * (n + 1))
        tensors[f"{prefix}.mlp.up_proj.weight"] = normal(3 * width, width, std=0.02 * (n + 1))
    tensors["model.norm.weight"] = 1 + normal(width)
    return tensors
