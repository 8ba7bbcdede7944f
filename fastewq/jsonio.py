"""Strict JSON from outside: bounded, no duplicate keys, and numbers that arithmetic can trust."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Final

from fastewq.errors import InvalidConfig, NotFound, StorageFailure

MAX_CONFIG_BYTES: Final = 8 * 2**20
"""The largest published config.json (with label maps) is below 2 MB."""
MAX_INTEGER_DIGITS: Final = 64


def parse_config(text: bytes, source: str, *, limit: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """A JSON object from at most `limit` bytes. `source` names it in errors. Raises InvalidConfig.

    Infinity and NaN are accepted, since published configs contain them in fields that do not matter here; a size
    field that holds one is refused where it is read.
    """
    if len(text) > limit:
        raise InvalidConfig(f"{source} has {len(text)} bytes; expected at most {limit}")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise InvalidConfig(f"{source}: the key {key[:80]!r} appears twice in one object; expected once")
        return found

    def integer(digits: str) -> int:
        if len(digits) > MAX_INTEGER_DIGITS:
            raise InvalidConfig(f"{source} holds an integer of {len(digits)} digits; at most {MAX_INTEGER_DIGITS}")
        return int(digits)

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_int=integer)
    except RecursionError:
        raise InvalidConfig(f"{source} is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise InvalidConfig(f"{source} is not UTF-8 text: byte {error.start} cannot be decoded") from None
    except json.JSONDecodeError as error:
        raise InvalidConfig(f"{source} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    if not isinstance(value, dict):
        raise InvalidConfig(f"{source} holds a JSON {type(value).__name__}; expected an object")
    return value


def load_config(path: Path) -> dict[str, Any]:
    """The config in a file, or in `config.json` of a model folder. Raises NotFound, StorageFailure, InvalidConfig."""
    file = path / "config.json" if path.is_dir() else path
    try:
        with file.open("rb") as stream:
            return parse_config(stream.read(MAX_CONFIG_BYTES + 1), str(file))
    except FileNotFoundError:
        raise NotFound(
            f"{file} does not exist", hint="Give a config.json, a model folder or a Hub id org/name."
        ) from None
    except OSError as error:
        raise StorageFailure(f"{file} cannot be read: {error.strerror}") from error
