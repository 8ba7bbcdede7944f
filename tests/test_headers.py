"""Exact shapes from safetensors headers: the format's edges, packed weights, and config against headers."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import fastewq
from fastewq.analysis.tensors import BITS, TensorInfo
from fastewq.architecture import Architecture
from fastewq.errors import InvalidCheckpoint, NotFound
from fastewq.headers import FIRST_READ, read_exact, read_headers
from fastewq.model_files import FolderFiles
from fastewq.stored import logical_tensors

TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "vocab_size": 100,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
}


def own_tensors(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Name -> shape of everything the config describes."""
    inside = {
        f"{b.path}.{t.name}": t.shape for stack in architecture.stacks for b in stack.blocks for t in b.layout.tensors
    }
    return inside | {f"{group.path}.{t.name}": t.shape for group in architecture.outside for t in group.tensors}


def header_bytes(entries: dict[str, tuple[str, tuple[int, ...]]], *, pad_to: int | None = None) -> tuple[bytes, int]:
    """A safetensors header (with its length) for name -> (dtype, shape), and the bytes of values it announces."""
    offset, table = 0, {}
    for name, (dtype, shape) in entries.items():
        size = int(np.prod(shape, dtype=np.int64)) * BITS[dtype] // 8
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(table).encode()
    text = text.ljust(pad_to if pad_to is not None else len(text))
    return struct.pack("<Q", len(text)) + text, offset


def write(path: Path, entries: dict[str, tuple[str, tuple[int, ...]]], *, pad_to: int | None = None) -> None:
    """A safetensors file of the right size whose values are a hole."""
    header, values = header_bytes(entries, pad_to=pad_to)
    with path.open("wb") as stream:
        stream.write(header)
        stream.truncate(len(header) + values)


@pytest.fixture
def folder(tmp_path):
    """A tiny llama written by the safetensors library itself."""
    architecture = fastewq.read_config(TINY)
    save_file(
        {n: np.zeros(s, np.float16) for n, s in own_tensors(architecture).items()}, tmp_path / "model.safetensors"
    )
    return tmp_path


def test_config_and_headers_agree(folder):
    found = read_exact(TINY, FolderFiles(folder))
    assert found.agrees
    assert found.architecture == fastewq.read_config(TINY)
    assert found.parameters == found.architecture.parameters
    assert found.bytes == 2 * found.parameters


def test_every_dtype_of_the_format_is_read(tmp_path):
    write(tmp_path / "model.safetensors", {f"t.{dtype}": (dtype, (4, 8)) for dtype in BITS})
    assert {(t.dtype, t.parameters) for t in read_headers(FolderFiles(tmp_path))} == {(dtype, 32) for dtype in BITS}


@pytest.mark.parametrize("length", [FIRST_READ - 9, FIRST_READ - 8, FIRST_READ - 7, FIRST_READ, FIRST_READ * 3])
def test_header_lengths_around_the_first_read(tmp_path, length):
    write(tmp_path / "model.safetensors", {"a.weight": ("F16", (2, 3))}, pad_to=length)
    (tensor,) = read_headers(FolderFiles(tmp_path))
    assert (tensor.shape, tensor.offset) == ((2, 3), length + 8)


def test_a_header_length_beyond_the_cap_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", 10**12))
        stream.truncate(10**9)
    with pytest.raises(InvalidCheckpoint, match="header length says 1000000000000"):
        read_headers(FolderFiles(tmp_path))


def test_a_truncated_file_is_named(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-1])
    with pytest.raises(InvalidCheckpoint, match=r"model\.safetensors.*the file has"):
        read_headers(FolderFiles(folder))


def shard(folder: Path, *, index: bool = True) -> list[str]:
    """Split the tiny llama over three files."""
    tensors = own_tensors(fastewq.read_config(TINY))
    (folder / "model.safetensors").unlink()
    names = [f"model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)]
    weight_map = {name: names[i % 3] for i, name in enumerate(tensors)}
    for file in names:
        write(folder / file, {n: ("F16", s) for n, s in tensors.items() if weight_map[n] == file})
    if index:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return names


@pytest.mark.parametrize("index", [True, False])
def test_shards_with_and_without_an_index(folder, index):
    shard(folder, index=index)
    assert read_exact(TINY, FolderFiles(folder)).agrees


def test_an_index_that_lies_is_refused(folder):
    names = shard(folder)
    index = folder / "model.safetensors.index.json"
    good = json.loads(index.read_text())
    index.write_text(json.dumps({"weight_map": {**good["weight_map"], "ghost.weight": names[0]}}))
    with pytest.raises(InvalidCheckpoint, match=r"ghost\.weight should be in model-00001"):
        read_headers(FolderFiles(folder))
    index.write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))
    with pytest.raises(InvalidCheckpoint, match="expected a plain file name"):
        read_headers(FolderFiles(folder))
    index.write_text(json.dumps(good))
    (folder / names[1]).unlink()
    with pytest.raises(InvalidCheckpoint, match=f"names {names[1]}"):
        read_headers(FolderFiles(folder))


def test_a_part_is_not_taken_for_the_whole(folder):
    """Of a download that was interrupted, say. The last part alone was planned as if it were all there is."""
    names = shard(folder, index=False)
    for name in names[:2]:
        (folder / name).unlink()
        with pytest.raises(InvalidCheckpoint, match=r"neither one nor all parts of one: model-0000"):
            read_headers(FolderFiles(folder))


def test_no_headers_at_all(tmp_path):
    with pytest.raises(NotFound, match="no safetensors file"):
        read_headers(FolderFiles(tmp_path))


def test_a_differing_block_is_named_and_the_headers_win(folder):
    wrong = {**TINY, "intermediate_size": 96}
    found = read_exact(wrong, FolderFiles(folder))
    assert not found.agrees
    assert (
        "model.layers, blocks 0-2: 30,848 parameters each by the config, 36,992 in the files"
        in found.architecture.warnings
    )
    assert [b.layout.parameters for b in found.architecture.stacks[0].blocks] == [36_992] * 3
    assert found.architecture.parameters == fastewq.read_config(TINY).parameters


def test_missing_blocks_extra_tensors_and_dtypes_are_named(folder):
    tensors = {n: ("F32", s) for n, s in own_tensors(fastewq.read_config(TINY)).items()}
    write(folder / "model.safetensors", {**tensors, "score.weight": ("F32", (2, 64))})
    first, second = read_exact(TINY, FolderFiles(folder)).architecture.warnings
    assert "only in the files: score.weight" in first
    assert second == "dtype is float16 by the config; most weights are stored as float32"
    extra = {n.replace("layers.2", "layers.3"): v for n, v in tensors.items() if "layers.2" in n}
    write(folder / "model.safetensors", tensors | extra)
    found = read_exact({**TINY, "torch_dtype": "float32"}, FolderFiles(folder))
    assert found.architecture.warnings[0] == "model.layers: 3 blocks by the config, 4 in the files"
    write(folder / "model.safetensors", tensors | {"model.layers.1.self_attn.q_proj.bias": ("F32", (64,))})
    found = read_exact({**TINY, "torch_dtype": "float32"}, FolderFiles(folder))
    assert "blocks 1: " in found.architecture.warnings[0]
    assert "only in the files: self_attn.q_proj.bias" in found.architecture.warnings[0]


def test_constants_of_the_code_and_a_stored_copy_of_a_tied_head_are_no_difference(folder):
    config = {**TINY, "tie_word_embeddings": True}
    tensors = {n: ("F16", s) for n, s in own_tensors(fastewq.read_config(config)).items()}
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": ("F16", (8,)), "lm_head.weight": ("F16", (100, 64))}
    write(folder / "model.safetensors", tensors | extra)
    assert read_exact(config, FolderFiles(folder)).agrees


def test_an_unsupported_architecture_is_planned_from_its_headers(folder):
    config = {**TINY, "model_type": "new_and_unknown"}
    found = read_exact(config, FolderFiles(folder))
    (stack,) = found.architecture.stacks
    assert (len(stack.blocks), stack.blocks[1].path, stack.blocks[0].layout.kind) == (
        3,
        "model.layers.1",
        "attention+dense",
    )
    assert (stack.width, stack.heads, stack.kv_heads, stack.head_dim) == (64, 4, 2, 16)
    assert found.architecture.parameters == fastewq.read_config(TINY).parameters
    assert "new_and_unknown" in found.architecture.warnings[0]
    plan = fastewq.plan(config, architecture=found.architecture)
    assert plan.model["parameters"] == found.parameters


def test_experts_stored_one_by_one_become_one_tensor_each(tmp_path):
    entries = {f"model.layers.{i}.mlp.experts.{e}.up_proj.weight": ("BF16", (8, 4)) for i in range(2) for e in range(5)}
    entries |= {f"model.layers.{i}.self_attn.q_proj.weight": ("BF16", (4, 4)) for i in range(2)}
    write(tmp_path / "model.safetensors", entries)
    found = read_exact({"model_type": "new_moe"}, FolderFiles(tmp_path)).architecture
    layout = found.stacks[0].blocks[0].layout
    assert [(t.name, t.shape, t.role) for t in layout.tensors] == [
        ("mlp.experts.up_proj.weight", (5, 8, 4), "experts"),
        ("self_attn.q_proj.weight", (4, 4), "linear"),
    ]
    assert (layout.kind, found.stacks[0].experts) == ("attention+experts", 5)


def logical(
    entries: dict[str, tuple[str, tuple[int, ...]]], quantization: dict[str, object]
) -> dict[str, tuple[int, ...]]:
    stored = [TensorInfo(n, s, d, "f", 0, int(np.prod(s)) * BITS[d] // 8) for n, (d, s) in entries.items()]
    found = logical_tensors(stored, quantization)
    assert sum(t.nbytes for t in found) == sum(t.nbytes for t in stored)
    return {t.name: t.shape for t in found}


PACKED = {
    "gptq": (
        {
            "m.qweight": ("I32", (512, 256)),
            "m.qzeros": ("I32", (32, 32)),
            "m.scales": ("F16", (32, 256)),
            "m.g_idx": ("I32", (4096,)),
        },
        {"quant_method": "gptq", "bits": 4},
    ),
    "gptq-8": (
        {"m.qweight": ("I32", (1024, 256)), "m.qzeros": ("I32", (32, 64)), "m.scales": ("F16", (32, 256))},
        {"quant_method": "gptq", "bits": 8},
    ),
    "gptq-3": ({"m.qweight": ("I32", (384, 256)), "m.scales": ("F16", (32, 256))}, {"quant_method": "gptq", "bits": 3}),
    "awq": (
        {"m.qweight": ("I32", (4096, 32)), "m.qzeros": ("I32", (32, 32)), "m.scales": ("F16", (32, 256))},
        {"quant_method": "awq", "bits": 4},
    ),
    "compressed-tensors int4": (
        {
            "m.weight_packed": ("I32", (256, 512)),
            "m.weight_scale": ("BF16", (256, 32)),
            "m.weight_shape": ("I64", (2,)),
        },
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}},
    ),
    "compressed-tensors nvfp4": (
        {
            "m.weight_packed": ("U8", (256, 2048)),
            "m.weight_scale": ("F8_E4M3", (256, 256)),
            "m.weight_global_scale": ("F32", (1,)),
            "m.input_global_scale": ("F32", (1,)),
        },
        {"quant_method": "compressed-tensors"},
    ),
    "modelopt nvfp4": (
        {
            "m.weight": ("U8", (256, 2048)),
            "m.weight_scale": ("F8_E4M3", (256, 256)),
            "m.weight_scale_2": ("F32", ()),
            "m.input_scale": ("F32", ()),
        },
        {"quant_method": "modelopt"},
    ),
    "fp8": (
        {"m.weight": ("F8_E4M3", (256, 4096)), "m.weight_scale_inv": ("F32", (2, 32))},
        {"quant_method": "fp8"},
    ),
    "mlx": (
        {"m.weight": ("U32", (256, 512)), "m.scales": ("BF16", (256, 64)), "m.biases": ("BF16", (256, 64))},
        {"group_size": 64, "bits": 4},
    ),
    "mlx with a module of its own": (
        {"m.weight": ("U32", (256, 1024)), "m.scales": ("BF16", (256, 64)), "m.biases": ("BF16", (256, 64))},
        {"group_size": 64, "bits": 4, "m": {"group_size": 64, "bits": 8}},
    ),
    "bitsandbytes int8": (
        {"m.weight": ("I8", (256, 4096)), "m.SCB": ("F32", (256,))},
        {"quant_method": "bitsandbytes"},
    ),
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_weights_are_counted_by_the_weights_they_hold(name):
    entries, settings = PACKED[name]
    assert logical(entries, settings) == {"m.weight": (256, 4096)}


def test_bitsandbytes_4_bit_and_mxfp4():
    entries = {
        "m.weight": ("U8", (524288, 1)),
        "m.weight.absmax": ("F32", (16384,)),
        "m.weight.quant_map": ("F32", (16,)),
    }
    (shape,) = logical(entries, {"quant_method": "bitsandbytes"}).values()
    assert np.prod(shape) == 256 * 4096
    entries = {"e.down_proj_blocks": ("U8", (4, 256, 128, 16)), "e.down_proj_scales": ("U8", (4, 256, 128))}
    assert logical(entries, {"quant_method": "mxfp4"}) == {"e.down_proj": (4, 256, 4096)}


def test_parameters_that_are_called_scale_stay_parameters():
    entries = {"m.weight": ("F16", (8, 8)), "m.weight_scale": ("F16", (8,)), "logit_scale": ("F32", ())}
    assert logical(entries, {}) == {"m.weight": (8, 8), "m.weight_scale": (8,), "logit_scale": ()}


def test_absurd_bits_are_refused():
    with pytest.raises(InvalidCheckpoint, match="bits per weight; expected 1 to 8"):
        logical({"m.qweight": ("I32", (4, 4))}, {"bits": 10**9})
