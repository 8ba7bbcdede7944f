"""The safetensors format: an 8-byte header length, a JSON header, the values. https://github.com/huggingface/safetensors

Everything the header says is checked against the file before anything is allocated from it, as strictly as the format's
own library does: the tensors fill the file after the header, without gap or overlap.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from fastewq.analysis.tensors import TensorInfo, check_layout, check_names, stored_bytes
from fastewq.errors import InvalidCheckpoint
from fastewq.jsonio import repeated_key
from fastewq.shown import json_kind

HEADER_LIMIT = 25_000_000
"""Longest header accepted, in bytes: the limit of huggingface_hub, enough for 150,000 tensors."""

INDEX_LIMIT = 64_000_000


def header_length(file: str, first_bytes: bytes, file_size: int) -> int:
    """The length of the JSON header from the first 8 bytes of a file of `file_size` bytes, or InvalidCheckpoint."""
    if len(first_bytes) < 8:
        raise InvalidCheckpoint(f"{file}: {file_size} bytes; expected at least 8, the length of a safetensors header")
    length: int = struct.unpack("<Q", first_bytes[:8])[0]
    if not 2 <= length <= min(HEADER_LIMIT, file_size - 8):
        raise InvalidCheckpoint(
            f"{file}: the header length says {length} bytes; expected 2 to {min(HEADER_LIMIT, file_size - 8)} "
            f"in a file of {file_size} bytes"
        )
    return length


def parse_header(file: str, header: bytes, file_size: int) -> list[TensorInfo]:
    """The tensors that `header` (the JSON, without its length) describes in a file of `file_size` bytes.

    Raises InvalidCheckpoint, naming file and tensor, for anything that is not exactly a safetensors header.
    """
    entries = _json_object(file, "header", header)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise InvalidCheckpoint(f"{file}: __metadata__ is not an object of strings")
    check_names(file, entries)
    begin = 8 + len(header)
    tensors = [_tensor(file, name, entry, begin) for name, entry in entries.items()]
    check_layout(file, tensors, begin, file_size)
    described = sum(t.nbytes for t in tensors)
    if begin + described != file_size:
        raise InvalidCheckpoint(
            f"{file}: the header describes {described} bytes of tensors; the file has {file_size - begin}"
        )
    return tensors


def parse_index(file: str, text: bytes) -> dict[str, str]:
    """Tensor name -> file name of a `*.safetensors.index.json` (or of torch's `*.bin.index.json`)."""
    if len(text) > INDEX_LIMIT:
        raise InvalidCheckpoint(f"{file}: {len(text)} bytes; expected an index of at most {INDEX_LIMIT}")
    weight_map = _json_object(file, "index", text).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InvalidCheckpoint(f"{file}: weight_map is missing or empty; expected tensor names and file names")
    check_names(file, weight_map)
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str) or not shard or shard in (".", "..") or any(c in shard for c in "/\\:\0"):
            raise InvalidCheckpoint(f"{file}: tensor {tensor} is in {shard!r}; expected a plain file name")
    check_names(file, weight_map.values())
    return weight_map


def _json_object(file: str, what: str, text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InvalidCheckpoint(f"{file}: the {what} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidCheckpoint(f"{file}: the {what} is {json_kind(value)}; expected an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError(f"{repeated_key(pairs)!r} appears twice")
    return entries


def _tensor(file: str, name: str, entry: Any, begin: int) -> TensorInfo:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise InvalidCheckpoint(
            f"{file}: tensor {name} is described by {entry!r:.200}; expected dtype, shape, data_offsets"
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str):
        raise InvalidCheckpoint(f"{file}: tensor {name} has dtype {dtype!r:.200}; expected a string")
    if not _counts(shape):
        raise InvalidCheckpoint(
            f"{file}: tensor {name} has shape {shape!r:.200}; expected a list of whole numbers >= 0"
        )
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise InvalidCheckpoint(f"{file}: tensor {name} has data_offsets {offsets!r:.200}; expected [begin, end]")
    expected = stored_bytes(file, name, tuple(shape), dtype)
    if offsets[1] - offsets[0] != expected:
        raise InvalidCheckpoint(
            f"{file}: tensor {name} of type {dtype} and shape {shape} takes {expected} bytes; "
            f"its data_offsets {offsets} hold {offsets[1] - offsets[0]}"
        )
    return TensorInfo(name, tuple(shape), dtype, file, begin + offsets[0], expected)


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in value)
