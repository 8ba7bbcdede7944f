"""State dicts as torch wrote them (data/make_torch_files.py), and files made to be refused."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fastewq.analysis import format_torch
from fastewq.analysis.checkpoints import open_checkpoint
from fastewq.errors import InvalidCheckpoint

from .making import numbers_of

DATA = Path(__file__).parent / "data"


def values(checkpoint, name):
    tensor = next(t for t in checkpoint.tensors if t.name == name)
    (matrix,) = checkpoint.matrices(tensor)
    with matrix.chunk(0, tensor.parameters) as bits:
        return numbers_of(bits, matrix.value_type).reshape(tensor.shape).tolist()


@pytest.mark.parametrize("file", ["state_dict_zip.bin", "state_dict_old.bin"])
def test_both_layouts_hold_what_torch_saved(file):
    checkpoint = open_checkpoint(DATA / file)
    expected = {
        "fc.weight": np.arange(12).reshape(3, 4).tolist(),
        "fc.bias": [1, 2, 3],
        "transposed": [[0, 1, 2], [3, 4, 5]],  # shape (3, 2) to torch, listed as it is stored
        "tied": np.arange(12).reshape(3, 4).tolist(),
        "part": np.arange(4, 12).reshape(2, 4).tolist(),
        "half": list(range(8)),
        "brain": list(range(8)),
        "double": list(range(4)),
        "scalar": 7,
    }
    assert {t.name for t in checkpoint.tensors} == {*expected, "position_ids"}
    assert {name: values(checkpoint, name) for name in expected} == expected
    assert [t.dtype for t in checkpoint.tensors if t.name in ("brain", "position_ids")] == ["I64", "BF16"]


def test_views_with_gaps_are_refused_by_name():
    with pytest.raises(InvalidCheckpoint, match=r"strided\.bin: tensor strided of shape \(6,\) has strides \(2,\)"):
        open_checkpoint(DATA / "strided.bin")


def test_pickled_objects_are_refused():
    with pytest.raises(InvalidCheckpoint, match="NEWOBJ, which a state dict does not need"):
        open_checkpoint(DATA / "whole_module.bin")


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def zipped(path, payload, **members):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        for name, data in members.items():
            archive.writestr(f"archive/{name}", data)
    return path


@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_is_ever_called(tmp_path, protocol):
    proof = tmp_path / "called"
    payload = pickle.dumps({"w": Calls(os.mkdir, str(proof))}, protocol)
    with pytest.raises(InvalidCheckpoint, match=r"bad\.bin: the pickle calls posix\.mkdir"):
        open_checkpoint(zipped(tmp_path / "bad.bin", payload))
    assert not proof.exists()


def nested(depth):
    return b"\x80\x02" + b")" + b"\x85" * depth + b"."


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "malformed pickle"),
        (b"\x80\x02}q\x00", "malformed pickle"),
        (b"\x80\x02.", "malformed pickle"),
        (b"\x80\x02}(K\x01u.", "malformed pickle"),
        (b"\x80\x02}(" + nested(3)[2:-1] + b"K\x01u.", "neither text nor a number"),
        (b"\x80\x02}h\x07.", "malformed pickle"),
        (b"\x80\x02]K\x01K\x02s.", "expected a dict"),
        (pickle.dumps([1, 2]), "holds a list; expected a state dict"),
        (pickle.dumps({"a": 1}), "holds no tensors by name"),
        (nested(100_000), "holds a tuple"),
        (b"\x80\x02" + b"0" * 10, "uses POP"),
    ],
)
def test_malformed_pickles_are_refused(tmp_path, payload, message):
    with pytest.raises(InvalidCheckpoint, match=message):
        open_checkpoint(zipped(tmp_path / "bad.bin", payload))


def test_endless_pickles_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(format_torch, "STEP_LIMIT", 1000)
    with pytest.raises(InvalidCheckpoint, match="more than 1000 steps"):
        open_checkpoint(zipped(tmp_path / "bad.bin", b"\x80\x02" + b"}" * 2000 + b"."))


def test_archives_that_are_no_state_dict_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as archive:
        archive.writestr("notes/readme.txt", "hello")
    with pytest.raises(InvalidCheckpoint, match=r"without notes/data\.pkl"):
        open_checkpoint(tmp_path / "plain.zip")
    with zipfile.ZipFile(tmp_path / "packed.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    with pytest.raises(InvalidCheckpoint, match="compressed or encrypted"):
        open_checkpoint(tmp_path / "packed.bin")
    with pytest.raises(InvalidCheckpoint, match="big-endian"):
        open_checkpoint(zipped(tmp_path / "big.bin", pickle.dumps({}), byteorder="big"))


@pytest.mark.parametrize("file", ["state_dict_zip.bin", "state_dict_old.bin"])
def test_storages_that_the_file_does_not_hold_are_refused(tmp_path, file):
    whole = (DATA / file).read_bytes()
    if file == "state_dict_zip.bin":
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(out, "w") as new:
            for member in old.infolist():
                if not member.filename.endswith("data/1"):
                    new.writestr(member.filename, old.read(member))
        whole = out.getvalue()
    else:
        whole = whole[:-40]
    (tmp_path / file).write_bytes(whole)
    with pytest.raises(InvalidCheckpoint, match=r"tensor fc\.weight is in storage '1'|inside the file|not a readable"):
        open_checkpoint(tmp_path / file)


def repacked(path, *names):
    """A training checkpoint: the stored file's state dict under each of `names`, beside a number."""
    with zipfile.ZipFile(DATA / "state_dict_zip.bin") as stored, zipfile.ZipFile(path, "w") as archive:
        for member in stored.infolist():
            content = stored.read(member)
            if member.filename.endswith("/data.pkl"):
                entries = b"".join(pickle.dumps(name, 2)[2:-1] + content[2:-1] for name in names)
                content = b"\x80\x02}(" + pickle.dumps("epoch", 2)[2:-1] + b"K\x03" + entries + b"u."
            archive.writestr(member.filename, content)
    return path


def test_names_that_are_no_text_are_refused(tmp_path):
    half = "\ud800".encode("utf-8", "surrogatepass")
    with (
        zipfile.ZipFile(DATA / "state_dict_zip.bin") as stored,
        zipfile.ZipFile(tmp_path / "half.bin", "w") as archive,
    ):
        for member in stored.infolist():
            archive.writestr(member.filename, stored.read(member).replace(b"fc.weight", half + b"weight"))
    with pytest.raises(InvalidCheckpoint, match=r"half\.bin: a name is not Unicode text"):
        open_checkpoint(tmp_path / "half.bin")


def test_the_state_dict_of_a_training_checkpoint_is_found(tmp_path):
    checkpoint = open_checkpoint(repacked(tmp_path / "model.pt", "model_state_dict"))
    assert values(checkpoint, "fc.bias") == [1, 2, 3]


def test_two_state_dicts_in_one_checkpoint_are_refused(tmp_path):
    with pytest.raises(InvalidCheckpoint, match="holds no tensors by name"):
        open_checkpoint(repacked(tmp_path / "model.pt", "model", "average"))
