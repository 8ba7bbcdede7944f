"""Exact shapes and dtypes from safetensors headers, of a folder or of a repository on the Hub. No weight is read.

    read_headers(FolderFiles(path))                 every tensor of the model
    read_headers(HubFiles(hub, "org/name"))         the same by range requests, several in flight
    read_exact(config, files)                       the architecture that the headers and the config agree on

The format is an 8-byte length, a JSON header of that length, the values: https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Final

from fastewq.analysis.format_safetensors import INDEX_LIMIT, header_length, parse_header, parse_index
from fastewq.analysis.tensors import MAX_TENSORS, TensorInfo
from fastewq.architecture import Architecture
from fastewq.errors import InvalidCheckpoint, NotFound
from fastewq.hub import DEFAULT_REVISION, Hub
from fastewq.model_files import Files
from fastewq.stored import exact_architecture, logical_tensors

FIRST_READ: Final = 128 * 1024
"""Bytes of a file asked for at once. Most headers are shorter; a longer one costs a second read."""
IN_FLIGHT: Final = 8
MAX_SHARDS: Final = 2000
_SHARD: Final = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.safetensors")


class HubFiles:
    """The files of a repository on the Hub, at the commit that the revision stands for now."""

    def __init__(self, hub: Hub, repo_id: str, revision: str = DEFAULT_REVISION) -> None:
        self._hub, self._repo_id = hub, repo_id
        self._names, self.commit = hub.files(repo_id, revision)
        self.name = f"{repo_id}@{self.commit[:12]}"

    def names(self) -> Sequence[str]:
        return self._names

    def read(self, file: str, limit: int) -> bytes:
        return self._hub.read(self._repo_id, self.commit, file, limit=limit)[0]

    def range(self, file: str, start: int, stop: int) -> tuple[bytes, int]:
        data, size = self.segment(file, start, stop)
        return bytes(data), size

    def segment(self, file: str, start: int, stop: int) -> tuple[memoryview, int]:
        """`range` without a copy."""
        return self._hub.read_range(self._repo_id, self.commit, file, start, stop)


def read_headers(files: Files) -> list[TensorInfo]:
    """Every tensor of a model's safetensors files, shard after shard.

    Raises NotFound if there are none, and InvalidCheckpoint, naming file and tensor, for a header that is truncated,
    malformed or at odds with its file or with the index.
    """
    shards, weight_map = choose_shards(files)
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        found = [tensor for tensors in pool.map(lambda shard: read_header(files, shard), shards) for tensor in tensors]
    if len(found) > MAX_TENSORS:
        raise InvalidCheckpoint(f"{files.name} has {len(found)} tensors; expected at most {MAX_TENSORS}")
    if weight_map is not None:
        found = [tensor for tensor in found if weight_map.get(tensor.name) == tensor.file]
        if missing := weight_map.keys() - {tensor.name for tensor in found}:
            name = min(missing)
            raise InvalidCheckpoint(f"{files.name}: tensor {name} should be in {weight_map[name]}, which lacks it")
    repeated = len(found) - len({tensor.name for tensor in found})
    if repeated:
        raise InvalidCheckpoint(
            f"{files.name}: {repeated} tensor names are in more than one file ({', '.join(shards)})"
        )
    return found


def choose_shards(files: Files) -> tuple[list[str], dict[str, str] | None]:
    """The safetensors files that make up the model, and the index (tensor -> file) if there is one.

    The names the transformers library writes come first: model.safetensors.index.json, model.safetensors; then the
    only index, the only file, or the one complete set of NAME-0000i-of-0000n.safetensors.
    """
    names = [name for name in files.names() if "/" not in name]
    indexes = [name for name in names if name.endswith(".safetensors.index.json")]
    single = [name for name in names if name.endswith(".safetensors")]
    if "model.safetensors.index.json" in indexes:
        indexes = ["model.safetensors.index.json"]
    elif "model.safetensors" in single:
        return ["model.safetensors"], None
    if len(indexes) == 1:
        weight_map = parse_index(indexes[0], files.read(indexes[0], INDEX_LIMIT))
        shards = list(dict.fromkeys(weight_map.values()))
        if len(shards) > MAX_SHARDS:
            raise InvalidCheckpoint(f"{indexes[0]} names {len(shards)} files; expected at most {MAX_SHARDS}")
        if absent := set(shards) - set(names):
            raise InvalidCheckpoint(f"{indexes[0]} names {min(absent)}, which {files.name} does not have")
        return shards, weight_map
    if (len(single) == 1 and not _SHARD.fullmatch(single[0])) or _complete_set(single):
        return single, None
    if not single:
        raise NotFound(f"{files.name} has no safetensors file", hint="Plan from the config alone, without --exact.")
    raise InvalidCheckpoint(
        f"{files.name} has no index, and its safetensors files are neither one nor all parts of one: "
        f"{', '.join(single[:5])}"
    )


def _complete_set(names: Sequence[str]) -> bool:
    matches = [match for match in map(_SHARD.fullmatch, names) if match]
    sets = {(match[1], int(match[3])) for match in matches}
    return len(sets) == 1 and len(matches) == len(names) == next(iter(sets))[1] <= MAX_SHARDS


def read_header(files: Files, file: str) -> list[TensorInfo]:
    """The tensors of one safetensors file."""
    where = str(PurePosixPath(files.name) / file) if "@" not in files.name else f"{files.name}: {file}"
    start, size = files.range(file, 0, FIRST_READ)
    length = header_length(where, start[:8], size)
    header = start[8 : 8 + length]
    if len(header) < length:
        header += files.range(file, len(start), 8 + length)[0]
    if len(header) < length:
        raise InvalidCheckpoint(f"{where}: the header says {length} bytes; the file ended after {len(header)}")
    return [replace(tensor, file=file) for tensor in parse_header(where, header, size)]


@dataclass(frozen=True)
class Exact:
    """What the headers say beside what the config says.

    architecture   the config's where the two agree; else, and for an architecture the config reader does not know,
                   one made from the headers, with the reasons among its warnings
    tensors, parameters, bytes   of the model's own weights, packed values counted one by one, scales left out of
                   `parameters` but not out of `bytes`
    """

    architecture: Architecture
    agrees: bool
    tensors: int
    parameters: int
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """The `headers` entry of a plan's `model`."""
        return {"agree": self.agrees, "tensors": self.tensors, "parameters": self.parameters, "bytes": self.bytes}


def read_exact(config: Mapping[str, Any], files: Files) -> Exact:
    """The architecture of a model whose config and safetensors headers are both at hand.

    Raises InvalidConfig, and what `read_headers` raises.
    """
    tensors = logical_tensors(read_headers(files), config.get("quantization_config"))
    architecture, agrees = exact_architecture(config, tensors)
    return Exact(architecture, agrees, len(tensors), sum(t.parameters for t in tensors), sum(t.nbytes for t in tensors))
