"""Files are written whole or not at all, and what hinders it is said before long work, naming the path."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastewq import files
from fastewq.errors import StorageFailure
from fastewq.files import save, save_csv, writable_folder


def test_a_file_is_replaced_whole_and_nothing_else_stays(tmp_path: Path) -> None:
    save(tmp_path / "x", b"old")
    save(tmp_path / "x", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"new")]


def test_a_failed_write_leaves_the_old_file_and_no_partial_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "x", b"old")

    def full(path: Path, data: bytes) -> None:
        with path.open("wb") as stream:
            stream.write(data[:1])
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageFailure, match=r"x cannot be written: No space left on device$"):
        save(tmp_path / "x", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"old")]


def test_numbers_survive_a_table(tmp_path: Path) -> None:
    save_csv(tmp_path / "t.csv", [{"a": 0.1 + 0.2, "b": None}, {"a": 1e-300, "b": "x,y"}])
    assert (tmp_path / "t.csv").read_text() == 'a,b\n0.30000000000000004,\n1e-300,"x,y"\n'


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_file_in_the_way_of_a_folder(folder: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailure, match=f"the folder .*{folder} cannot be made"):
        writable_folder(tmp_path / folder)
    assert writable_folder(tmp_path / "new" / "below").is_dir()


def test_a_folder_says_why_nothing_can_be_written_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that is read-only, for instance, which permissions say nothing of."""

    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files, "TemporaryFile", refuse)
    with pytest.raises(StorageFailure, match=r"cannot be written to: Read-only file system$"):
        writable_folder(tmp_path)
