"""Readers: what libraries of the formats write is read back, and what no library writes is refused by name."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from fastewq.analysis import checkpoints
from fastewq.analysis.checkpoints import Checkpoint, LocalFiles, open_checkpoint
from fastewq.analysis.dequantize import block_layout, dequantize
from fastewq.analysis.kernel import measure
from fastewq.analysis.weights import STORAGE, bit_values
from fastewq.errors import FastEWQError, InvalidCheckpoint, NotFound, StorageFailure

from .making import bits_of, numbers_of, small_model, write_raw_safetensors, write_safetensors


def values(checkpoint, name):
    """All matrices of a tensor as numbers, read in pieces."""
    tensor = next(t for t in checkpoint.tensors if t.name == name)
    found = []
    for matrix in checkpoint.matrices(tensor):
        count = int(np.prod(matrix.shape))
        pieces = []
        for start in range(0, count, matrix.chunk_size):
            with matrix.chunk(start, min(start + matrix.chunk_size, count)) as bits:
                pieces.append(numbers_of(bits, matrix.value_type))
        found.append(np.concatenate(pieces).reshape(matrix.shape))
    return found


# --- safetensors ------------------------------------------------------------------------------------------------------


def test_safetensors_file_and_folder(tmp_path):
    tensors = small_model()
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    for path in (tmp_path / "model.safetensors", tmp_path):
        checkpoint = open_checkpoint(path)
        assert {t.name: t.shape for t in checkpoint.tensors} == {name: t.shape for name, t in tensors.items()}
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(values(checkpoint, name)[0], tensor)
    assert open_checkpoint(tmp_path).name == tmp_path.name


@pytest.mark.parametrize("dtype", STORAGE)
def test_every_weight_type_of_safetensors(tmp_path, dtype):
    bits = bits_of(np.random.default_rng(0).standard_normal((5, 7)), dtype)
    write_safetensors(tmp_path / "m.safetensors", {"w": (dtype, (5, 7), bits.tobytes())})
    np.testing.assert_array_equal(values(open_checkpoint(tmp_path), "w")[0], numbers_of(bits, dtype))


def sharded(folder):
    tensors = small_model()
    names = list(tensors)
    for part, chosen in enumerate((names[::2], names[1::2]), 1):
        save_file({n: tensors[n] for n in chosen}, folder / f"model-{part:05d}-of-00002.safetensors")
    weight_map = {n: f"model-{1 + i % 2:05d}-of-00002.safetensors" for i, n in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return tensors, weight_map


def test_sharded_safetensors(tmp_path):
    tensors, _ = sharded(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    assert {t.name for t in checkpoint.tensors} == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(values(checkpoint, name)[0], tensor)


def test_shards_need_no_index(tmp_path):
    tensors, _ = sharded(tmp_path)
    indexed = open_checkpoint(tmp_path).tensors
    (tmp_path / "model.safetensors.index.json").unlink()
    shards = sorted(tmp_path.glob("*.safetensors"))
    for path in (tmp_path, *shards):
        assert set(open_checkpoint(path).tensors) == set(indexed)
    save_file(tensors, shards[1])
    with pytest.raises(
        InvalidCheckpoint, match=r"model-00002-of-00002.*: tensor .* is in model-00001-of-00002.*as well"
    ):
        open_checkpoint(tmp_path)
    shards[1].unlink()
    with pytest.raises(NotFound, match="model-00002-of-00002"):
        open_checkpoint(shards[0])


def test_a_part_of_a_torch_file_is_refused(tmp_path):
    (tmp_path / "pytorch_model-00001-of-00002.bin").touch()
    with pytest.raises(InvalidCheckpoint, match="one part of 2; expected the index file or the folder"):
        open_checkpoint(tmp_path / "pytorch_model-00001-of-00002.bin")


def test_of_a_tensor_in_two_shards_the_index_says_which_counts(tmp_path):
    _, weight_map = sharded(tmp_path)
    name, file = next(iter(weight_map.items()))
    (other,) = {*weight_map.values()} - {file}
    stale = {t.name: values(open_checkpoint(tmp_path), t.name)[0] for t in open_checkpoint(tmp_path).tensors}
    kept = {n: v for n, v in stale.items() if weight_map[n] == other}
    save_file(kept | {name: stale[name] + 1}, tmp_path / other)
    checkpoint = open_checkpoint(tmp_path)
    assert len(checkpoint.tensors) == len(weight_map)
    np.testing.assert_array_equal(values(checkpoint, name)[0], stale[name])


def test_a_file_cut_after_its_opening_is_refused(tmp_path):
    save_file({"a": np.ones((3, 3), np.float32), "b": np.ones((3, 3), np.float32)}, tmp_path / "m.safetensors")
    opened = open_checkpoint(tmp_path / "m.safetensors")
    size = (tmp_path / "m.safetensors").stat().st_size
    os.truncate(tmp_path / "m.safetensors", size - 4)
    (matrix,) = Checkpoint("m", opened.tensors, LocalFiles(tmp_path)).matrices(opened.tensors[-1])
    with pytest.raises(InvalidCheckpoint, match=rf"m\.safetensors: {size - 4} bytes; expected {size}"):
        measure(matrix)


CUT = """
import os, sys
from fastewq.analysis.checkpoints import open_checkpoint
from fastewq.analysis.kernel import measure
from fastewq.errors import InvalidCheckpoint

path = sys.argv[1]
checkpoint = open_checkpoint(path)
(matrix,) = checkpoint.matrices(checkpoint.tensors[0])
with matrix.chunk(0, 100) as values:
    os.truncate(path, 0)
    print(values.sum())
try:
    measure(matrix)
except InvalidCheckpoint as error:
    print(error)
"""


def test_a_file_that_is_cut_in_the_middle_of_a_chunk_ends_no_process(tmp_path):
    """In one of its own: from a memory map it would die of SIGBUS."""
    save_file({"w": np.ones((64, 4096), np.float32)}, tmp_path / "m.safetensors")
    command = [sys.executable, "-c", CUT, str(tmp_path / "m.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    total, error = done.stdout.splitlines()
    assert total == "100.0"
    assert error.startswith("m.safetensors: 0 bytes; expected ")


def test_a_file_that_is_replaced_is_read_to_its_end(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    save_file({"w": np.ones(3000, np.float32)}, path)
    opened = open_checkpoint(path)
    (matrix,) = opened.matrices(opened.tensors[0])
    with matrix.chunk(0, 10):
        pass
    save_file({"w": np.zeros(3000, np.float32)}, tmp_path / "new")
    (tmp_path / "new").replace(path)
    for system in ("this", "one without preadv"):
        if system != "this":
            monkeypatch.delattr(os, "preadv", raising=False)
        with matrix.chunk(0, 1500) as first, matrix.chunk(1500, 3000) as second:
            assert first.sum() == second.sum() == 1500


def test_a_disk_that_fails_is_named(tmp_path, monkeypatch):
    save_file({"w": np.ones(30, np.float32)}, tmp_path / "m.safetensors")
    opened = open_checkpoint(tmp_path / "m.safetensors")

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkpoints, "_read_at", fail)
    with pytest.raises(StorageFailure, match=r"m\.safetensors cannot be read: Input/output error"):
        measure(opened.matrices(opened.tensors[0])[0])


def test_a_pipe_is_no_checkpoint(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(NotFound, match="does not exist or is not a file"):
        open_checkpoint(tmp_path / "pipe.safetensors")


def test_a_shard_that_misses_a_tensor_or_is_missing(tmp_path):
    _, weight_map = sharded(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map | {"extra": "model-00002-of-00002.safetensors"}}))
    with pytest.raises(InvalidCheckpoint, match=r"tensor extra should be in model-00002-of-00002\.safetensors"):
        open_checkpoint(tmp_path)
    index.write_text(json.dumps({"weight_map": weight_map | {"extra": "model-00003-of-00003.safetensors"}}))
    with pytest.raises(NotFound, match=r"model-00003-of-00003\.safetensors does not exist"):
        open_checkpoint(index)


@pytest.mark.parametrize(
    "index",
    [
        b"[]",
        b"{",
        b"{}",
        b'{"weight_map": {}}',
        b'{"weight_map": {"a": 3}}',
        b'{"weight_map": {"a": "../model.safetensors"}}',
        b'{"weight_map": {"a": "/etc/passwd"}}',
        b'{"weight_map": {"a": ".."}}',
        b'{"weight_map": {"\\ud800": "a"}}',
        b'{"weight_map": {"a": "\\ud800"}}',
        b'{"weight_map": {"a": "c:\\\\x"}}',
        b"[" * 100_000,
    ],
)
def test_an_index_that_is_none(tmp_path, index):
    (tmp_path / "model.safetensors.index.json").write_bytes(index)
    with pytest.raises(InvalidCheckpoint, match=r"model\.safetensors\.index\.json: "):
        open_checkpoint(tmp_path)


def entry(dtype="F32", shape=(2, 2), offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


LYING_HEADERS = {
    "negative offset": ({"w": entry(offsets=(-16, 0))}, 16, r"tensor w has data_offsets \[-16, 0\]"),
    "reversed": ({"w": entry(offsets=(16, 0))}, 16, "tensor w has data_offsets"),
    "beyond the file": ({"w": entry(shape=(100,), offsets=(0, 400))}, 16, "tensor w ends at byte"),
    "fewer bytes than the shape takes": ({"w": entry(offsets=(0, 12))}, 12, "tensor w .* takes 16 bytes"),
    "more bytes than the shape takes": ({"w": entry(offsets=(0, 20))}, 20, "tensor w .* takes 16 bytes"),
    "overlap": ({"v": entry(), "w": entry(offsets=(8, 24))}, 24, "tensor w starts at byte .*, inside tensor v"),
    "gap at the end": ({"w": entry()}, 20, "describes 16 bytes of tensors; the file has 20"),
    "gap in the middle": ({"v": entry(), "w": entry(offsets=(20, 36))}, 36, "describes 32 bytes"),
    "truncated data": ({"w": entry()}, 15, "tensor w ends at byte"),
    "unknown type": ({"w": entry(dtype="F31")}, 16, "tensor w has the unknown type 'F31'"),
    "type is no text": ({"w": entry(dtype=["F32"])}, 16, "tensor w has dtype"),
    "fraction in the shape": ({"w": entry(shape=(1.5,))}, 16, "tensor w has shape"),
    "boolean in the shape": ({"w": entry(shape=(True, 4))}, 16, "tensor w has shape"),
    "negative shape": ({"w": entry(shape=(-2, -2))}, 16, "tensor w has shape"),
    "huge shape": ({"w": entry(shape=(2**62, 2**62))}, 16, "tensor w .* takes"),
    "shape beyond 64 bits": ({"w": entry(shape=(2**64, 0))}, 16, "tensor w has shape"),
    "too many dimensions": ({"w": entry(shape=(1,) * 9, offsets=(0, 4))}, 4, "tensor w has 9 dimensions"),
    "no offsets": ({"w": {"dtype": "F32", "shape": [1]}}, 4, "tensor w is described by"),
    "one more key": ({"w": entry() | {"x": 1}}, 16, "tensor w is described by"),
    "entry is a list": ({"w": [1]}, 16, "tensor w is described by"),
    "metadata is no object": ({"__metadata__": [], "w": entry()}, 16, "__metadata__"),
    "half a byte": ({"w": entry(dtype="F4", shape=(3,), offsets=(0, 1))}, 1, "does not fill whole bytes"),
    "a name twice": (b'{"w": 1, "w": 2}', 0, "'w' appears twice"),
    "a name twice among many": (
        b'{%s, "t0": 1}' % b",".join(b'"t%d":1' % n for n in range(400_000)),
        0,
        "'t0' appears twice",
    ),
    "half a character in a name": ({"\ud800": entry()}, 16, "a name is not Unicode text: surrogates not allowed"),
    "a list": (b"[1, 2, 3]", 0, "is a list; expected an object"),
    "no JSON": (b"{'w': 1}", 0, "not valid JSON"),
    "no UTF-8": (b'{"\xff": 1}', 0, "not valid JSON"),
    "deep nesting": (b'{"a":' * 100_000, 0, "not valid JSON"),
    "endless number": (b'{"a":' + b"9" * 10_000 + b"}", 0, "not valid JSON"),
}


@pytest.mark.parametrize("case", LYING_HEADERS)
def test_headers_that_lie_are_refused(tmp_path, case):
    header, data, message = LYING_HEADERS[case]
    write_raw_safetensors(tmp_path / "lie.safetensors", header, bytes(data))
    with pytest.raises(InvalidCheckpoint, match=rf"lie\.safetensors: .*{message}"):
        open_checkpoint(tmp_path / "lie.safetensors")


@pytest.mark.parametrize("length", [0, 1, 2**63, 2**64 - 1, 10_000, 40_000_000])
def test_header_lengths_that_lie_are_refused_before_anything_is_read(tmp_path, length):
    write_raw_safetensors(tmp_path / "lie.safetensors", {"w": entry()}, bytes(16), length=length)
    with pytest.raises(InvalidCheckpoint, match=f"the header length says {length} bytes"):
        open_checkpoint(tmp_path / "lie.safetensors")


def test_every_truncation_is_refused(tmp_path):
    save_file({"w": np.ones((3, 3), np.float32)}, tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        with pytest.raises(InvalidCheckpoint, match=r"cut\.safetensors"):
            open_checkpoint(tmp_path / "cut.safetensors")


def test_a_header_whose_length_looks_like_another_format(tmp_path):
    """The first byte of a pickle is 0x80; a header may have that length."""
    tensors = {"w" * 64: ("F32", (1,), bytes(4))}
    write_safetensors(tmp_path / "m.safetensors", tensors)
    assert (tmp_path / "m.safetensors").read_bytes()[0] == 0x80
    assert len(open_checkpoint(tmp_path / "m.safetensors").tensors) == 1


def test_missing_and_ambiguous_paths(tmp_path):
    with pytest.raises(NotFound, match=r"none\.safetensors does not exist"):
        open_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(NotFound, match="holds no checkpoint"):
        open_checkpoint(tmp_path)
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(InvalidCheckpoint, match=r"several checkpoints \(a\.gguf, b\.gguf\)"):
        open_checkpoint(tmp_path)
    with pytest.raises(InvalidCheckpoint, match=r"a\.gguf: the file is empty"):
        open_checkpoint(tmp_path / "a.gguf")
    (tmp_path / "text.bin").write_text("This is not a checkpoint at all.")
    with pytest.raises(InvalidCheckpoint, match=r"text\.bin: "):
        open_checkpoint(tmp_path / "text.bin")


# --- stacked experts, float8 scales, packed integers ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("model.layers.0.mlp.experts.gate_up_proj", 4),
        ("blk.0.ffn_up_exps.weight", 4),
        ("model.layers.0.block_sparse_moe.input_linear.weight", 4),
        ("encoder.conv.weight", 1),
    ],
)
def test_a_stacked_expert_tensor_is_one_matrix_per_expert(tmp_path, name, count):
    tensor = np.random.default_rng(0).standard_normal((4, 6, 5)).astype(np.float32)
    save_file({name: tensor}, tmp_path / "m.safetensors")
    found = values(open_checkpoint(tmp_path), name)
    assert len(found) == count
    np.testing.assert_array_equal(np.stack(found).reshape(tensor.shape), tensor)


@pytest.mark.parametrize(
    ("scale_shape", "suffix"),
    [
        ((), "_scale"),
        ((1,), "_scale"),
        ((300, 1), "_scale"),
        ((300,), "_scale"),
        ((3, 2), "_scale_inv"),
        ((1, 1), "_scale"),
    ],
)
@pytest.mark.parametrize("scale_type", ["F32", "BF16"])
def test_float8_weights_are_multiplied_by_their_scales(tmp_path, scale_shape, suffix, scale_type):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 0x7F, (300, 200)).astype(np.uint8)
    scale_bits = bits_of(rng.uniform(0.001, 0.01, scale_shape), scale_type)
    tensors = {
        "layers.0.weight": ("F8_E4M3", codes.shape, codes.tobytes()),
        f"layers.0.weight{suffix}": (scale_type, scale_shape, scale_bits.tobytes()),
    }
    write_safetensors(tmp_path / "m.safetensors", tensors)
    scales = numbers_of(scale_bits, scale_type)
    if scale_shape == (3, 2):
        scales = np.repeat(np.repeat(scales, 128, axis=0), 128, axis=1)[:300, :200]
    elif scale_shape == (300,):
        scales = scales[:, None]
    checkpoint = open_checkpoint(tmp_path)
    np.testing.assert_array_equal(values(checkpoint, "layers.0.weight")[0], bit_values("F8_E4M3")[codes] * scales)
    assert [checkpoint.is_scale(t) for t in checkpoint.tensors] == [False, True]


@pytest.mark.parametrize("scale_shape", [(7, 1), (3, 3), (299, 1), (2,), (0,), (0, 3), (3, 0)])
def test_scales_that_do_not_fit_are_refused(tmp_path, scale_shape):
    tensors = {
        "w": ("F8_E4M3", (300, 200), bytes(60_000)),
        "w_scale": ("F32", scale_shape, bytes(4 * int(np.prod(scale_shape)))),
    }
    write_safetensors(tmp_path / "m.safetensors", tensors)
    with pytest.raises(InvalidCheckpoint, match=r"m\.safetensors: .*w"):
        values(open_checkpoint(tmp_path), "w")


@pytest.mark.parametrize("dtype", ["I8", "U8", "I32", "I64", "BOOL"])
def test_integers_are_no_weights(tmp_path, dtype):
    size = {"I32": 4, "I64": 8}.get(dtype, 1)
    write_safetensors(tmp_path / "m.safetensors", {"w": (dtype, (2, 2), bytes(4 * size))})
    checkpoint = open_checkpoint(tmp_path)
    with pytest.raises(InvalidCheckpoint, match=f"tensor w is stored as {dtype}, which does not hold weights"):
        checkpoint.matrices(checkpoint.tensors[0])


# --- GGUF -------------------------------------------------------------------------------------------------------------


def random_blocks(dtype, shape, seed=0):
    """Random blocks of a GGUF type whose scales are finite: no byte is large enough for that in a float16."""
    per_block, size = block_layout(dtype)
    rows = (*shape[:-1], shape[-1] // per_block * size)
    return np.random.default_rng(seed).integers(0, 0x70, rows, dtype=np.uint8)


def write_gguf(path, tensors, **options):
    """tensors: name -> (type, array of numbers, or of raw blocks for block types)."""
    writer = GGUFWriter(path, "llama", **options)
    writer.add_uint32("llama.block_count", 2)
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "hello", "wörld"])
    writer.add_array("tokenizer.ggml.scores", [0.0, -1.0, -2.0])
    writer.add_bool("some.flag", True)
    for name, (dtype, array) in tensors.items():
        writer.add_tensor(name, array, raw_dtype=GGMLQuantizationType[dtype])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_tensors():
    rng = np.random.default_rng(0)
    plain = rng.standard_normal((6, 64)).astype(np.float32)
    return {
        "token_embd.weight": ("F32", plain),
        "blk.0.attn_norm.weight": ("F32", plain[0]),
        "blk.0.attn_q.weight": ("F16", plain.astype(np.float16)),
        **{
            f"blk.{i}.ffn.weight": (dtype, random_blocks(dtype, (5, 512), i))
            for i, dtype in enumerate(("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"))
        },
    }


def test_gguf_values_are_those_of_the_packages_own_reader(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", gguf_tensors())
    checkpoint = open_checkpoint(path)
    reader = gguf.GGUFReader(path)
    assert {t.name for t in checkpoint.tensors} == {t.name for t in reader.tensors}
    for tensor in reader.tensors:
        ours = next(t for t in checkpoint.tensors if t.name == tensor.name)
        assert ours.shape == tuple(int(n) for n in reversed(tensor.shape))
        assert (ours.dtype, ours.nbytes, ours.offset) == (tensor.tensor_type.name, tensor.n_bytes, tensor.data_offset)
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(values(checkpoint, tensor.name)[0], expected.reshape(ours.shape))


@pytest.mark.parametrize("dtype", ["Q4_1", "Q8_0", "Q4_K", "Q6_K", "Q5_0", "Q3_K"])
def test_gguf_entropy_in_pieces_is_that_of_the_whole_dequantized_tensor(tmp_path, dtype):
    """Three chunks and a rest; also through float64, which holds the same values."""
    raw = random_blocks(dtype, (3300, 1024))
    path = write_gguf(tmp_path / "m.gguf", {"blk.0.w": (dtype, raw)})
    (matrix,) = (c := open_checkpoint(path)).matrices(c.tensors[0])
    assert matrix.chunk_size * 3 < 3300 * 1024
    found = measure(matrix, (0, 0.01), threads=2)
    save_file({"w": dequantize(raw.reshape(-1), dtype).reshape(3300, 1024)}, tmp_path / "m.safetensors")
    (whole,) = (c := open_checkpoint(tmp_path / "m.safetensors")).matrices(c.tensors[0])
    assert measure(whole, (0, 0.01), threads=1) == found


def test_split_gguf(tmp_path):
    tensors = gguf_tensors()
    write_gguf(tmp_path / "m.gguf", tensors, split_max_tensors=5)
    parts = sorted(tmp_path.glob("*.gguf"))
    assert len(parts) == 3
    for path in (tmp_path, parts[0], parts[2]):
        assert {t.name for t in open_checkpoint(path).tensors} == set(tensors)
    parts[1].unlink()
    with pytest.raises(NotFound, match="00002-of-00003"):
        open_checkpoint(parts[0])


def test_every_truncation_of_a_gguf_is_refused(tmp_path):
    whole = write_gguf(tmp_path / "m.gguf", {"blk.0.w": ("Q8_0", random_blocks("Q8_0", (2, 32)))}).read_bytes()
    end = 2 * 34  # the file ends with padding, which may be missing
    data = len(whole) - -(-end // 32) * 32
    for length in range(data + end):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(InvalidCheckpoint, match=r"cut\.gguf"):
            open_checkpoint(tmp_path / "cut.gguf")


def test_a_gguf_cut_in_half_names_the_tensor(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", {f"blk.{i}.w": ("Q4_K", random_blocks("Q4_K", (64, 256))) for i in range(8)})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InvalidCheckpoint, match=r"m\.gguf: tensor blk\.[34]\.w ends at byte"):
        open_checkpoint(path)


def gguf_header(tensors=b"", count=0, entries=b"", entry_count=0, version=3, magic=b"GGUF"):
    return magic + struct.pack("<IQQ", version, count, entry_count) + entries + tensors


def gguf_string(text):
    return struct.pack("<Q", len(text)) + text


def gguf_tensor(name=b"w", dims=(32, 2), kind=8, offset=0):
    return gguf_string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


LYING_GGUF = {
    "version": (gguf_header(version=1), "GGUF version 1"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "GGUF version 50331648"),
    "tensor count": (gguf_header(count=2**60), "announces 1152921504606846976 tensors"),
    "more tensors than there are": (gguf_header(gguf_tensor(), count=2), "header"),
    "entry count": (gguf_header(entry_count=2**60), "metadata entries"),
    "name length": (gguf_header(struct.pack("<Q", 2**62), count=1), "bytes of a name"),
    "dimensions": (gguf_header(gguf_string(b"w") + struct.pack("<I", 2**31), count=1), "tensor w has 2147483648 dim"),
    "shape": (gguf_header(gguf_tensor(dims=(2**63, 32)), count=1), "tensor w has the impossible shape"),
    "row length": (gguf_header(gguf_tensor(dims=(33, 2)), count=1), "tensor w of type Q8_0 has rows of 33"),
    "type": (gguf_header(gguf_tensor(kind=999), count=1), "tensor w has the unknown GGUF type 999"),
    "offset": (gguf_header(gguf_tensor(offset=2**40), count=1), "tensor w ends at byte"),
    "odd offset": (gguf_header(gguf_tensor(offset=7), count=1), "tensor w is at offset 7"),
    "overlap": (
        gguf_header(gguf_tensor() + gguf_tensor(b"v", offset=32) + bytes(500), count=2),
        "tensor v starts at byte .*, inside tensor w",
    ),
    "a name twice": (
        gguf_header(gguf_tensor() + gguf_tensor(offset=96) + bytes(500), count=2),
        "two tensors have the same name",
    ),
    "array length": (
        gguf_header(entries=gguf_string(b"k") + struct.pack("<IIQ", 9, 4, 2**50), entry_count=1),
        "announces 1125899906842624 values in k",
    ),
    "array longer than the file": (
        gguf_header(entries=gguf_string(b"k") + struct.pack("<IIQ", 9, 10, 9_000_000), entry_count=1),
        "header is longer than the file",
    ),
    "array of arrays": (
        gguf_header(entries=gguf_string(b"k") + struct.pack("<IIQ", 9, 9, 3), entry_count=1),
        "array of the unknown value type 9",
    ),
    "string longer than the file": (
        gguf_header(entries=gguf_string(b"k") + struct.pack("<IIQ", 9, 8, 1) + struct.pack("<Q", 2**63), entry_count=1),
        "header is longer than the file",
    ),
    "value type": (gguf_header(entries=gguf_string(b"k") + struct.pack("<I", 77), entry_count=1), "value type 77"),
    "alignment": (
        gguf_header(entries=gguf_string(b"general.alignment") + struct.pack("<II", 4, 3), entry_count=1),
        "alignment is 3",
    ),
    "name is no text": (gguf_header(gguf_tensor(name=b"\xff\xfe"), count=1), "not UTF-8"),
}


@pytest.mark.parametrize("case", LYING_GGUF)
def test_gguf_files_that_lie_are_refused(tmp_path, case):
    data, message = LYING_GGUF[case]
    (tmp_path / "lie.gguf").write_bytes(data)
    with pytest.raises(InvalidCheckpoint, match=rf"lie\.gguf: .*{message}"):
        open_checkpoint(tmp_path / "lie.gguf")


# --- CTranslate2 ------------------------------------------------------------------------------------------------------


def ct2_string(text):
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def ct2_variable(name, array, kind):
    dims = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
    return ct2_string(name) + dims + struct.pack("<BI", kind, array.nbytes) + array.tobytes()


def ct2_file(*variables, version=6, count=None):
    head = struct.pack("<I", version) + ct2_string("WhisperSpec") + struct.pack("<I", 3)
    count = len(variables) if count is None else count
    return head + struct.pack("<I", count) + b"".join(variables) + struct.pack("<I", 0)


WEIGHT = np.random.default_rng(0).standard_normal((3, 5))


def test_ctranslate2(tmp_path):
    (tmp_path / "model.bin").write_bytes(
        ct2_file(
            ct2_variable("encoder/layer_0/a", WEIGHT.astype(np.float32), 0),
            ct2_variable("encoder/layer_0/b", WEIGHT.astype(np.float16), 4),
            ct2_variable("encoder/layer_0/c", bits_of(WEIGHT, "BF16"), 5),
            ct2_variable("num_heads", np.array(8, np.int16), 2),
        )
    )
    checkpoint = open_checkpoint(tmp_path)
    assert [(t.name, t.shape, t.dtype) for t in checkpoint.tensors] == [
        ("encoder/layer_0/a", (3, 5), "F32"),
        ("encoder/layer_0/b", (3, 5), "F16"),
        ("encoder/layer_0/c", (3, 5), "BF16"),
        ("num_heads", (), "I16"),
    ]
    np.testing.assert_array_equal(values(checkpoint, "encoder/layer_0/a")[0], WEIGHT.astype(np.float32))
    np.testing.assert_array_equal(values(checkpoint, "encoder/layer_0/b")[0], WEIGHT.astype(np.float16))
    np.testing.assert_array_equal(
        values(checkpoint, "encoder/layer_0/c")[0], numbers_of(bits_of(WEIGHT, "BF16"), "BF16")
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (ct2_file(ct2_variable("w", WEIGHT, 0)), "tensor w of type F32 .* takes 60 bytes; the header says 120"),
        (ct2_file(ct2_variable("w", WEIGHT, 17)), "tensor w has the unknown type 17"),
        (ct2_file(ct2_variable("w", WEIGHT.astype(np.float32), 0))[:-9], "tensor w ends at byte 104 of 99"),
        (ct2_file()[:-6], "ends at byte 24; expected 26 or more"),
        (ct2_file(count=5), "does not end with a zero byte"),
        (ct2_file(count=2**31), "announces 2147483648 variables"),
        (ct2_file(ct2_variable("w", np.zeros((1,) * 9, np.float32), 0)), "tensor w has 9 dimensions"),
        (ct2_file(*[ct2_variable("w", np.zeros(2, np.float32), 0)] * 2), "two variables have the same name"),
        (ct2_file().replace(b"Spec\0", b"Spec!"), "the string at byte 6 does not end with a zero byte"),
        (ct2_file().replace(b"Spec\0", b"Sp\xffc\0"), "the string at byte 6 is not UTF-8"),
    ],
)
def test_ctranslate2_files_that_lie_are_refused(tmp_path, data, message):
    (tmp_path / "model.bin").write_bytes(data)
    with pytest.raises(InvalidCheckpoint, match=rf"model\.bin: .*({message})"):
        open_checkpoint(tmp_path)


# --- damage anywhere --------------------------------------------------------------------------------------------------


def samples(folder: Path) -> dict[str, bytes]:
    save_file(small_model(1, 4), folder / "a.safetensors")
    write_gguf(folder / "a.gguf", {"blk.0.w": ("Q8_0", random_blocks("Q8_0", (2, 32)))})
    data = Path(__file__).parent / "data"
    return {
        "safetensors": (folder / "a.safetensors").read_bytes(),
        "gguf": (folder / "a.gguf").read_bytes(),
        "zip": (data / "state_dict_zip.bin").read_bytes(),
        "old": (data / "state_dict_old.bin").read_bytes(),
        "ct2": ct2_file(ct2_variable("encoder/layer_0/a", WEIGHT.astype(np.float32), 0)),
    }


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
    return samples(tmp_path_factory.mktemp("whole"))


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.sampled_from(["safetensors", "gguf", "zip", "old", "ct2"]),
    st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF])), max_size=4),
    st.one_of(st.none(), st.integers(0, 10_000)),
)
def test_damage_is_read_or_refused_and_never_anything_else(tmp_path, whole_files, kind, changes, length):
    data = bytearray(whole_files[kind])
    for position, byte in changes:
        data[position % len(data)] = byte
    path = tmp_path / "damaged.bin"
    path.write_bytes(data if length is None else data[: length % len(data)])
    try:
        checkpoint = open_checkpoint(path)
        for tensor in checkpoint.tensors:
            if tensor.parameters:
                for matrix in checkpoint.matrices(tensor):
                    measure(matrix, threads=1)
        message = ""
    except FastEWQError as error:
        message = error.message
    assert not message or "damaged.bin" in message
