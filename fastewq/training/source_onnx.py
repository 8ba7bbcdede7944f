"""The weights of ONNX graphs, under the names of their modules.

Exporters fold a linear layer's weight into an initializer called `onnx::MatMul_123`; the node that multiplies by it
still has its module path: `/encoder/layer.0/attention/self/query/MatMul` gives
`encoder.layer.0.attention.self.query.weight`. Weights quantized to 8 bits, which pass through a DequantizeLinear node
or are multiplied by a MatMulInteger node, are dequantized here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastewq.errors import InvalidCheckpoint, UnavailableError

Tensors = dict[str, npt.NDArray[Any]]


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
            for name in node.input[:2] if node.op_type in ("MatMulInteger", "Gather") else ():
                if name in constants and name.endswith("_quantized"):
                    constants[name.removesuffix("_quantized")] = _dequantize_by_name(name, constants)
    except (DecodeError, ValueError, TypeError, IndexError, KeyError, OSError) as error:
        raise InvalidCheckpoint(f"{path.name} is not a whole ONNX graph: {str(error)[:200]}") from error
    tensors = {name: values for name, values in constants.items() if not _is_folded(name) and values.dtype.kind == "f"}
    for node in graph.node:
        weights = [name for name in node.input[:2] if name in constants and _is_folded(name)]
        if node.op_type in ("MatMul", "Gemm", "MatMulInteger") and weights:
            path_of_node = node.name.removesuffix("_quant").removesuffix("/MatMul").removesuffix("/Gemm")
            module = path_of_node.strip("/").replace("/", ".")
            by_output = node.op_type == "Gemm" and _attribute(node, "transB", 0) == 1
            weight = constants[weights[0].removesuffix("_quantized") if node.op_type == "MatMulInteger" else weights[0]]
            tensors[f"{module}.weight"] = weight if by_output else weight.T
    return tensors


def _is_folded(name: str) -> bool:
    """Whether a constant's name says nothing about the module it belongs to, or it is a part of a quantized one."""
    return name.startswith("onnx::") or name.endswith(("_quantized", "_scale", "_zero_point", "_Output"))


def _attribute(node: Any, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)


def _dequantize_by_name(name: str, constants: Tensors) -> npt.NDArray[Any]:
    """A factor of a MatMulInteger node or a table: ONNX Runtime's quantizer keeps its scale beside it, by name."""
    original = name.removesuffix("_quantized")
    scale, zero_point = constants[f"{original}_scale"], constants[f"{original}_zero_point"]
    return _dequantize(constants[name], scale, zero_point, constants[name].ndim - 1)


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
