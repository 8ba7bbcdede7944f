"""ONNX graphs, which only the dataset builder meets, rewritten once as safetensors that the analysis can read.

Exporters fold a linear layer's weight into an initializer called `onnx::MatMul_123`; the node that multiplies by it
still has its module path: `/encoder/layer.0/attention/self/query/MatMul` gives
`encoder.layer.0.attention.self.query.weight`. Weights quantized to 8 bits pass through a DequantizeLinear node first
and are dequantized here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastewq.errors import InvalidCheckpoint, StorageFailure, UnavailableError

VERSION = 1
"""Part of the copy's name; raised when `read_onnx` changes what it returns."""

Tensors = dict[str, npt.NDArray[Any]]


def as_safetensors(path: Path) -> Path:
    """The safetensors copy of an ONNX graph, beside it; made on the first call.

    Raises InvalidCheckpoint if the graph cannot be read, UnavailableError without the packages `onnx` and
    `safetensors`, StorageFailure if the copy cannot be written.
    """
    copy = path.with_name(f"{path.name}.v{VERSION}.safetensors")
    if copy.is_file():
        return copy
    tensors = read_onnx(path)
    if not tensors:
        raise InvalidCheckpoint(f"{path.name} holds no weights under the name of a module")
    from safetensors.numpy import save_file

    partial = copy.with_name(f".partial-{copy.name}")
    try:
        save_file({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}, partial)
        partial.replace(copy)
    except OSError as error:
        raise StorageFailure(f"cannot write {copy}: {error}") from error
    return copy


def read_onnx(path: Path) -> Tensors:
    """The named weights of a graph; those of linear layers as (outputs, inputs), as modules store them."""
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from onnx import numpy_helper
    except ImportError as error:
        raise UnavailableError(
            f"{path.name} is an ONNX graph and the package onnx is not installed",
            hint="Install onnx, or take this source out of the sources file.",
        ) from error
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
        constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
        for node in graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] in constants:
                quantized, scale, zero_point = (constants[name] for name in node.input)
                constants[node.output[0]] = _dequantize(quantized, scale, zero_point, _attribute(node, "axis", 1))
    except (DecodeError, ValueError, TypeError, IndexError, KeyError, OSError) as error:
        raise InvalidCheckpoint(f"{path.name} is not a whole ONNX graph: {str(error)[:200]}") from error
    tensors = {name: values for name, values in constants.items() if not _is_folded(name) and values.dtype.kind == "f"}
    for node in graph.node:
        weights = [name for name in node.input if name in constants and _is_folded(name)]
        if node.op_type in ("MatMul", "Gemm") and weights:
            module = node.name.removesuffix(f"/{node.op_type}").strip("/").replace("/", ".")
            by_output = node.op_type == "Gemm" and _attribute(node, "transB", 0) == 1
            weight = constants[weights[0]]
            tensors[f"{module}.weight"] = weight if by_output else weight.T
    return tensors


def _is_folded(name: str) -> bool:
    """Whether a constant's name says nothing about the module it belongs to, or it is a part of a quantized one."""
    return name.startswith("onnx::") or name.endswith(("_quantized", "_scale", "_zero_point", "_Output"))


def _attribute(node: Any, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)


def _dequantize(
    quantized: npt.NDArray[Any], scale: npt.NDArray[Any], zero_point: npt.NDArray[Any], axis: int
) -> npt.NDArray[Any]:
    """ONNX DequantizeLinear, (q - zero point) * scale: one scale for the tensor, or one per index along `axis`."""
    if scale.ndim:
        shape = [1] * quantized.ndim
        shape[axis] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    values: npt.NDArray[Any] = (quantized.astype(np.float32) - zero_point.astype(np.float32)) * scale
    return values
