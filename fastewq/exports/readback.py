"""What a tool really wrote: bits per module and bytes of all tensors, read from its files without the tool.

Every reader maps module paths of the transformers library to bits per weight; modules that are not in the answer are
stored raw. Files come from a tool that ran on this machine; they are parsed with the checkpoint readers' checks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from fastewq.analysis.format_safetensors import header_length, parse_header
from fastewq.analysis.tensors import TensorInfo
from fastewq.errors import InvalidCheckpoint, NotFound, StorageFailure
from fastewq.exports.assignment import Assignment, Module
from fastewq.exports.llama_cpp import PER_LAYER
from fastewq.exports.mlx import renamed
from fastewq.exports.names import GGUF_STACKS, gguf_leaves
from fastewq.quantized.module_names import unwrapped


@dataclass(frozen=True, slots=True)
class Written:
    """bits: module path -> bits per weight of every quantized module; bytes: of all tensors; files: all bytes."""

    bits: dict[str, int]
    bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class Check:
    """An export held against what was written.

    wrong   (module path, bits expected, bits found), 0 standing for raw
    """

    modules: int
    wrong: tuple[tuple[str, int, int], ...]
    predicted_bytes: int
    written: Written

    @property
    def size_error(self) -> float:
        """Relative error of the predicted bytes of all tensors."""
        return self.predicted_bytes / self.written.bytes - 1

    def as_dict(self) -> dict[str, Any]:
        return {
            "modules": self.modules,
            "wrong": [{"path": path, "expected_bits": a, "found_bits": b} for path, a, b in self.wrong],
            "predicted_bytes": self.predicted_bytes,
            "written_bytes": self.written.bytes,
            "file_bytes": self.written.files,
            "size_error": round(self.size_error, 6),
        }


_DAMAGE: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, SyntaxError, TypeError, ValueError)
"""What readers raise where a tool's file is not as they expect: an XML error is a SyntaxError."""


def check(assignment: Assignment, tool: str, out: Path) -> Check:
    """Compare the files of `tool` at `out` with an assignment, module by module. Raises NotFound, InvalidCheckpoint."""
    if tool not in READERS:
        raise NotFound(f"the files of {tool} cannot be read back; expected one of {', '.join(READERS)}")
    try:
        written = READERS[tool](assignment, out)
    except (*_DAMAGE, OSError) as error:
        raise InvalidCheckpoint(f"{out} is not what {tool} writes: {str(error) or type(error).__name__}") from error
    wrong = tuple(
        (module.path, expected, found)
        for module in assignment.modules
        if (expected := stored_bits(module)) != (found := written.bits.get(module.path, 0))
    )
    return Check(len(assignment.modules), wrong, assignment.tensor_bytes(), written)


def stored_bits(module: Module) -> int:
    return 0 if module.scheme is None else NAMED_BITS.get(module.scheme.name.split(",")[0], module.scheme.bits)


NAMED_BITS: Final = {"IntxWeightOnly int4": 4}
"""Formats that store each weight wider than its values are."""


def safetensors(folder: Path) -> dict[str, TensorInfo]:
    """The tensors of every safetensors file in a folder."""
    found: dict[str, TensorInfo] = {}
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise NotFound(f"{folder} holds no safetensors file")
    for file in files:
        with file.open("rb") as stream:
            size = file.stat().st_size
            length = header_length(str(file), stream.read(8), size)
            found |= {tensor.name: tensor for tensor in parse_header(str(file), stream.read(length), size)}
    return found


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist") from None
    except OSError as error:
        raise StorageFailure(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidCheckpoint(f"{path} is not JSON: {error}") from None


Bits = Callable[[Assignment, Path, Mapping[str, TensorInfo]], dict[str, int]]


def _from_safetensors(bits: Bits) -> Callable[[Assignment, Path], Written]:
    def read(assignment: Assignment, folder: Path) -> Written:
        tensors = safetensors(folder)
        return Written(
            bits(assignment, folder, tensors), sum(tensor.nbytes for tensor in tensors.values()), _size(folder)
        )

    return read


OLDER_VIT: Final = (
    ("encoder.layer.", "layers."),
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
)
"""What the transformers library calls the modules of ViT and its kin in a checkpoint -> in a model."""


def _by_path(assignment: Assignment, tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """Tensors under the paths of the modules they belong to.

    The transformers library writes some models under older names: outer modules of multimodal ones, and OLDER_VIT.
    """
    paths = {unwrapped(module.path): module.path for module in assignment.modules}

    def known(name: str) -> str | None:
        own, rest = unwrapped(name), ""
        while own and own not in paths:
            own, _, last = own.rpartition(".")
            rest = f".{last}{rest}"
        return paths[own] + rest if own else None

    def renamed(name: str) -> str:
        for older, newer in OLDER_VIT:
            name = name.replace(older, newer)
        return name

    return {known(name) or known(renamed(name)) or name: tensor for name, tensor in tensors.items()}


def _bitsandbytes(assignment: Assignment, _: Path, tensors: Mapping[str, TensorInfo]) -> dict[str, int]:
    names = _by_path(assignment, tensors)
    found = {name.removesuffix(".weight.absmax"): 4 for name in names if name.endswith(".weight.absmax")}
    return found | {name.removesuffix(".SCB"): 8 for name in names if name.endswith(".SCB")}


def _packed(suffix: str, axis: int) -> Bits:
    """Packed 32-bit words: bits are 32 x words / inputs, the words counted along `axis`."""

    def bits(assignment: Assignment, _: Path, tensors: Mapping[str, TensorInfo]) -> dict[str, int]:
        named = _by_path(assignment, tensors)
        return {
            module.path: 32 * named[f"{module.path}.{suffix}"].shape[axis] // module.tensor.oriented[-1]
            for module in assignment.modules
            if f"{module.path}.{suffix}" in named
        }

    return bits


def _mlx(assignment: Assignment, folder: Path, tensors: Mapping[str, TensorInfo]) -> dict[str, int]:
    """A module that mlx-lm splits counts only where all parts have the same bits."""
    config = _json(folder / "config.json").get("quantization", {})
    paths = {name.removesuffix(".scales") for name in tensors if name.endswith(".scales")}
    found = {}
    for module in assignment.modules:
        parts = [
            f"{part.stack}.{part.index}.{part.name}" if part.stack else part.path
            for part in renamed(assignment, module)
        ]
        bits = {config.get(path, config)["bits"] if path in paths else 0 for path in parts}
        if len(bits) == 1:
            found[module.path] = bits.pop()
    return found


def _quanto(_: Assignment, folder: Path, __: Mapping[str, TensorInfo]) -> dict[str, int]:
    table = _json(folder / "quanto_qmap.json")
    return {path: int(entry["weights"].removeprefix("qint")) for path, entry in table.items()}


def _torchao(_: Assignment, folder: Path, __: Mapping[str, TensorInfo]) -> dict[str, int]:
    """The metadata of a file tells the subclass of every weight: Int8Tensor, or Intx... with its target type."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            length = header_length(str(file), stream.read(8), file.stat().st_size)
            metadata = json.loads(stream.read(length)).get("__metadata__", {})
        for name, text in metadata.items():
            entry = json.loads(text) if text.startswith("{") else {}
            kind = entry.get("_type", "")
            if kind.startswith("Int8"):
                found[name.removesuffix(".weight")] = 8
            elif kind.startswith("Intx"):
                target = entry["_data"]["target_dtype"]["_data"]
                found[name.removesuffix(".weight")] = int(target.removeprefix("int"))
    return found


def _openvino(assignment: Assignment, folder: Path) -> Written:
    """The element types of the constants that hold weights, by graph name."""
    xml = folder / "openvino_model.xml"
    try:
        root = ElementTree.parse(xml).getroot()
    except FileNotFoundError:
        raise NotFound(f"{xml} does not exist") from None
    kinds = {"i8": 8, "u8": 8, "i4": 4, "u4": 4}
    paths = {module.path for module in assignment.modules}
    found = {}
    for layer in root.iter("layer"):
        data = layer.find("data")
        name = re.sub(r"^(self|__module)\.|\.(_openvino_orig_)?weight$", "", layer.get("name", ""))
        if layer.get("type") == "Const" and data is not None and name in paths:
            kind = data.get("element_type", "")
            if kind in kinds:
                found[name] = kinds[kind]
    weights = (folder / "openvino_model.bin").stat().st_size
    return Written(found, weights, weights + xml.stat().st_size)


def gguf_outside(module: Module) -> str:
    """The GGUF tensor of a matrix outside the blocks."""
    if module.tensor.role != "embedding":
        return "output.weight"
    return f"{PER_LAYER if module.path.endswith('_per_layer') else 'token_embd'}.weight"


def _gguf(assignment: Assignment, file: Path) -> Written:
    """The tensor types of a GGUF file. A module of several tensors counts only where all have one type."""
    from gguf import GGUFReader

    reader = GGUFReader(file)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    bits = {"Q8_0": 8, "Q4_0": 4, "TQ2_0": 2}
    names = gguf_leaves(assignment.plan.model["model_type"])
    found = {}
    for module in assignment.modules:
        if module.block >= 0:
            prefix = GGUF_STACKS.get(module.stack, "blk")
            tensors = [f"{prefix}.{module.index}.{name}.weight" for name in names[module.name]]
        else:
            tensors = [gguf_outside(module)]
        types = {kinds.get(name, "missing") for name in tensors}
        if types <= bits.keys() and len(types) == 1:
            found[module.path] = bits[types.pop()]
    return Written(found, sum(int(t.n_bytes) for t in reader.tensors), file.stat().st_size)


READERS: Final[dict[str, Callable[[Assignment, Path], Written]]] = {
    "llama.cpp": _gguf,
    "bitsandbytes": _from_safetensors(_bitsandbytes),
    "torchao": _from_safetensors(_torchao),
    "llm-compressor": _from_safetensors(_packed("weight_packed", -1)),
    "gptqmodel": _from_safetensors(_packed("qweight", 0)),
    "autoround": _from_safetensors(_packed("qweight", 0)),
    "mlx": _from_safetensors(_mlx),
    "openvino": _openvino,
    "quanto": _from_safetensors(_quanto),
}
