"""A tool's files that are not what it writes are an error in words."""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path

import pytest

from exports.conftest import LLAMA, LLAVA, Planner
from fastewq.errors import InvalidCheckpoint
from fastewq.exports import TOOLS
from fastewq.exports.assignment import assign
from fastewq.exports.readback import check


def safetensors(tensors: dict[str, list[int]], metadata: dict[str, str] | None = None) -> bytes:
    """A file of 32-bit integers."""
    entries, end = {"__metadata__": metadata or {}}, 0
    for name, shape in tensors.items():
        start, end = end, end + 4 * prod(shape)
        entries[name] = {"dtype": "I32", "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + bytes(end)


INT8 = {"model.layers.0.self_attn.q_proj.weight": json.dumps({"_type": "Intx", "_data": {}})}


@pytest.mark.parametrize(
    ("tool", "files"),
    [
        ("gptqmodel", {"model.safetensors": safetensors({"model.layers.1.self_attn.q_proj.qweight": []})}),
        ("torchao", {"model.safetensors": safetensors({"a": [1]}, INT8)}),
        ("quanto", {"model.safetensors": safetensors({"a": [1]}), "quanto_qmap.json": b'["model.layers.0"]'}),
        ("mlx", {"model.safetensors": safetensors({"lm_head.scales": [1]}), "config.json": b'{"quantization": {}}'}),
        ("quanto", {"model.safetensors": safetensors({"a": [1]}), "quanto_qmap.json": b"[" * 10**5}),
        ("torchao", {"model.safetensors": safetensors({"a": [1]}, {"a.weight": '{"a":' + "[" * 10**5})}),
        ("mlx", {"model.safetensors": safetensors({"lm_head.scales": [1]}), "config.json": b"[]"}),
        ("openvino", {"openvino_model.xml": b"<net><layers>", "openvino_model.bin": b""}),
        ("openvino", {"openvino_model.xml": b"<net/>"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_files_of_a_tool(planned: Planner, tool: str, files: dict[str, bytes], tmp_path: Path) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assignment = TOOLS[tool].adapt(assign(planned(LLAMA), TOOLS[tool].target))
    with pytest.raises(InvalidCheckpoint):
        check(assignment, tool, tmp_path)


def test_a_damaged_gguf_file(planned: Planner, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF\x03\0\0\0" + bytes(8))
    with pytest.raises(InvalidCheckpoint, match="is not what"):
        check(assign(planned(LLAMA), "gguf"), "llama.cpp", file)


@pytest.mark.parametrize("written", ["model.language_model.layers", "language_model.model.layers", "model.layers"])
def test_a_multimodal_model_saved_under_older_names(planned: Planner, written: str, tmp_path: Path) -> None:
    """The transformers library saves some with their outer modules the other way round."""
    plan = planned(LLAVA, ["model.language_model.layers.*=int4"])
    assignment = TOOLS["gptqmodel"].adapt(assign(plan, "gptqmodel"))
    modules = [module for module in assignment.modules if module.scheme is not None]
    names = {m.path: m.path.replace("model.language_model.layers", written) for m in modules}
    words = {names[m.path] + ".qweight": [m.tensor.oriented[-1] // 8, m.tensor.oriented[-2]] for m in modules}
    (tmp_path / "model.safetensors").write_bytes(safetensors(words))
    found = check(assignment, "gptqmodel", tmp_path)
    assert found.wrong == ()
    assert found.written.bytes == 4 * sum(prod(shape) for shape in words.values())


def test_a_vit_saved_under_older_names(planned: Planner, tmp_path: Path) -> None:
    """The transformers library renames the modules of a block when it saves."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 1}
    config = {"architectures": ["ViTForImageClassification"], "model_type": "vit", "image_size": 32, "patch_size": 8}
    assignment = TOOLS["autoround"].adapt(
        assign(planned({**config, **sizes, "dtype": "bfloat16"}, ["0=int4"]), "autoround")
    )
    block, linear = "vit.encoder.layer.0.", (8, 64)
    shapes = {
        **{f"attention.attention.{name}": linear for name in ("query", "key", "value")},
        "attention.output.dense": linear,
        "intermediate.dense": (8, 128),
        "output.dense": (16, 64),
    }
    words = {f"{block}{name}.qweight": list(shape) for name, shape in shapes.items()}
    (tmp_path / "model.safetensors").write_bytes(safetensors(words))
    found = check(assignment, "autoround", tmp_path)
    assert found.wrong == ()
    assert set(found.written.bits.values()) == {4}
    assert len(found.written.bits) == len(shapes)
