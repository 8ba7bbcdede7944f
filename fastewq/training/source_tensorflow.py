"""The weights of a TensorFlow SavedModel in a zip file, without TensorFlow.

`variables.index` is a table in LevelDB's format: blocks of entries (varints of shared key bytes, own key bytes, value
bytes; then both), whose values are BundleEntryProto messages: type, shape, offset and size in `variables.data`. One
entry is a TrackableObjectGraph message, which has the name that each variable had in the model.
"""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastewq.errors import InvalidCheckpoint

INDEX = "variables/variables.index"
DATA = "variables/variables.data-00000-of-00001"
OBJECT_GRAPH = b"_CHECKPOINTABLE_OBJECT_GRAPH"
FOOTER_BYTES = 48
FLOAT32 = 1

MAX_INDEX_BYTES = 64 << 20
MAX_DATA_BYTES = 4 << 30


def read_saved_model(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The float32 variables by their names in the model, such as `decoder/decoder_layer_1/dense_9/kernel`.

    Keras gives the first layer of a kind no number, here it has 0; a dense layer that Keras named without the layer
    around it is put into that of the variable before it, for variables are listed layer by layer.

    Raises InvalidCheckpoint, or struct.error, ValueError, IndexError or KeyError where a part is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            index = _member(archive, INDEX, MAX_INDEX_BYTES)
            data = _member(archive, DATA, MAX_DATA_BYTES)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise InvalidCheckpoint(f"{path.name}: not a readable zip file of a SavedModel: {error}") from error
    entries = {key: _message(value) for key, value in _table(index)}
    names = _names(_content(entries[OBJECT_GRAPH], data))
    tensors: dict[str, npt.NDArray[Any]] = {}
    for key, name in zip(names, _complete(list(names.values())), strict=True):
        entry = entries[key]
        if entry.get(1) == [FLOAT32]:
            shape = [_message(size).get(1, [0])[0] for size in _message(entry[2][0]).get(2, [])] if 2 in entry else []
            tensors[name] = np.frombuffer(_content(entry, data), "<f4").reshape(shape)
    return tensors


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    found = [member for member in archive.infolist() if member.filename.endswith(name)]
    if len(found) != 1 or found[0].file_size > limit:
        raise InvalidCheckpoint(
            f"the SavedModel has {[m.file_size for m in found]} bytes of {name}; expected one member of at most {limit}"
        )
    with archive.open(found[0]) as stream:
        return stream.read(found[0].file_size)


def _complete(names: list[str]) -> list[str]:
    """Names with the number of a first layer and the scope of a dense layer filled in."""
    numbered = {name for name in "/".join(names).split("/") if re.search(r"_\d+$", name)}
    scope, completed = "", []
    for name in names:
        parts = [f"{part}_0" if f"{part}_1" in numbered else part for part in name.split("/")]
        if len(parts) > 2:
            scope = "/".join(parts[:2])
        completed.append("/".join(parts) if len(parts) > 2 else f"{scope}/{'/'.join(parts)}")
    return completed


def _names(graph: bytes) -> dict[bytes, str]:
    """Key in the table -> name in the model of every variable, in the order of the keys' numbers.

    The graph is a string tensor of one string: its length, a checksum of 4 bytes, the message. Field 1 is a node,
    field 2 of a node one of its attributes, with the full name in field 2 and the key in field 3.
    """
    length, position = _varint(graph, 0)
    message = _message(graph[position + 4 : position + 4 + length])
    attributes = (_message(attribute) for node in message.get(1, []) for attribute in _message(node).get(2, []))
    names = {a[3][0]: a[2][0].decode() for a in attributes if a.get(2) and a.get(3)}
    return dict(sorted(names.items(), key=lambda item: _by_number(item[0])))


def _by_number(key: bytes) -> tuple[bytes, list[int]]:
    return re.sub(rb"\d+", b"", key), [int(number) for number in re.findall(rb"\d+", key)]


def _content(entry: dict[int, list[Any]], data: bytes) -> bytes:
    begin, size = entry.get(4, [0])[0], entry[5][0]
    if begin + size > len(data):
        raise InvalidCheckpoint(f"a variable ends at byte {begin + size} of {DATA}, which has {len(data)}")
    return data[begin : begin + size]


def _table(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a table: its footer locates a block that locates the blocks of entries."""
    footer = index[-FOOTER_BYTES:]
    position = 0
    handles = []
    for _ in range(4):  # offset and size of a block of other indices, then of the index
        value, position = _varint(footer, position)
        handles.append(value)
    for _, handle in _block(index, *handles[2:]):
        offset, position = _varint(handle, 0)
        yield from _block(index, offset, _varint(handle, position)[0])


def _block(index: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The entries of one block, which must be uncompressed; it ends with its restart points and their number."""
    block = index[offset : offset + size]
    if len(block) < size or index[offset + size] != 0:
        raise InvalidCheckpoint(f"{INDEX}: the block at byte {offset} is cut or compressed")
    end = size - 4 - 4 * struct.unpack_from("<I", block, size - 4)[0]
    key, position = b"", 0
    while position < end:
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + own]
        yield key, block[position + own : position + own + length]
        position += own + length


def _message(content: bytes) -> dict[int, list[Any]]:
    """The fields of a protocol-buffer message: number -> values, bytes or int."""
    fields: dict[int, list[Any]] = {}
    position = 0
    while position < len(content):
        tag, position = _varint(content, position)
        value: Any
        if tag & 7 == 0:
            value, position = _varint(content, position)
        else:
            size, position = _varint(content, position) if tag & 7 == 2 else ({1: 8, 5: 4}[tag & 7], position)
            value, position = content[position : position + size], position + size
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        byte = content[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise InvalidCheckpoint("a number of more than 64 bits")
