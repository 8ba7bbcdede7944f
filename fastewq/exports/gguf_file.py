"""A mixed-precision GGUF file from a raw one with the `gguf` package alone, as llama-quantize would write it.

Metadata is copied as it is; tensors go through one at a time. Rules are those of the exported tensor-type file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from gguf import (
    GGML_QUANT_SIZES,
    GGMLQuantizationType,
    GGUFEndian,
    GGUFReader,
    GGUFValueType,
    GGUFWriter,
    quant_shape_to_byte_shape,
)
from gguf.quants import dequantize, quantize

from fastewq.errors import CannotExport, InvalidCheckpoint, NotFound
from fastewq.exports.llama_cpp import never_quantized

RAW: Final = frozenset({"F32", "F16", "BF16"})


def write_mixed(
    source: Path,
    out: Path,
    model_type: str,
    rules: Sequence[tuple[str, str]],
    embedding: str,
    head: str,
    progress: Callable[[int, int, str], None] | None = None,
) -> None:
    """Write `out` from the unquantized GGUF file `source`; the first rule that matches a tensor's name gives its type.

    `progress` is told (tensors done, tensors, name). Raises NotFound, InvalidCheckpoint, CannotExport.
    """
    if not source.is_file():
        what = "is a folder" if source.is_dir() else "is no file"
        raise NotFound(f"{source} {what}; expected a GGUF file", hint="convert_hf_to_gguf.py makes one.")
    try:
        reader = GGUFReader(source)
    except (ValueError, OSError, IndexError) as error:
        raise InvalidCheckpoint(f"{source} is not a GGUF file: {error}") from error
    targets = [_target(tensor, model_type, rules, embedding, head) for tensor in reader.tensors]
    writer = GGUFWriter(out, str(reader.fields["general.architecture"].contents()), endianess=GGUFEndian.LITTLE)
    copy_metadata(reader, writer)
    for tensor, target in zip(reader.tensors, targets, strict=True):
        shape = quant_shape_to_byte_shape([int(n) for n in reversed(tensor.shape)], target)
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), int(np.prod(shape)), target)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for done, (tensor, target) in enumerate(zip(reader.tensors, targets, strict=True)):
        writer.write_tensor_data(_converted(tensor, target))
        if progress:
            progress(done + 1, len(targets), tensor.name)
    writer.close()


def _target(
    tensor: Any, model_type: str, rules: Sequence[tuple[str, str]], embedding: str, head: str
) -> GGMLQuantizationType:
    stored: GGMLQuantizationType = tensor.tensor_type
    if stored.name not in RAW:
        raise CannotExport(
            f"tensor {tensor.name} is stored as {stored.name}; expected a file in F32, F16 or BF16",
            hint="Convert the original model with convert_hf_to_gguf.py --outtype bf16.",
        )
    vector = all(n == 1 for n in tensor.shape[1:])  # as ggml counts dimensions: a gate of one output is one
    if vector or never_quantized(tensor.name, model_type):
        return stored
    if tensor.name == "token_embd.weight":
        kind: str | None = embedding
    elif tensor.name == "output.weight":
        kind = head
    else:
        kind = next((kind for pattern, kind in rules if re.search(pattern, tensor.name)), None)
    target = stored if kind is None else GGMLQuantizationType[kind.upper()]
    row, group = int(tensor.shape[0]), GGML_QUANT_SIZES[target][0]
    if row % group:
        raise CannotExport(
            f"the rows of tensor {tensor.name} have {row} values; {target.name} takes multiples of {group}",
            hint="Is MODEL the model of the plan?",
        )
    return target


def _converted(tensor: Any, target: GGMLQuantizationType) -> np.ndarray[Any, Any]:
    if tensor.tensor_type == target:
        return np.asarray(tensor.data).view(np.uint8)
    return np.asarray(quantize(dequantize(tensor.data, tensor.tensor_type), target)).view(np.uint8)


def copy_metadata(reader: GGUFReader, writer: GGUFWriter) -> None:
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, inner)
