"""Strict JSON from outside: bounded, no duplicate keys, and numbers that arithmetic can trust."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from fastewq.errors import InputError, InvalidConfig, NotFound, StorageFailure
from fastewq.shown import json_kind

MAX_CONFIG_BYTES: Final = 8 * 2**20
"""The largest config.json seen, which lists the format of every expert, has 2.4 MB."""
MAX_CONFIG_VALUES: Final = 1_000_000
"""Each takes far more time and memory than its text, and no other thread of the process runs while a text is read."""
MAX_INTEGER_DIGITS: Final = 64


def parse_config(text: bytes, source: str, *, limit: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """A JSON object from at most `limit` bytes. `source` names it in errors. Raises InvalidConfig."""
    if len(text) > limit:
        raise InvalidConfig(f"{source} has {len(text)} bytes; expected at most {limit}")
    if values := values_beyond(MAX_CONFIG_VALUES, text):
        raise InvalidConfig(f"{source} holds about {values} JSON values; expected at most {MAX_CONFIG_VALUES}")
    value = parse_json(text, source)
    if not isinstance(value, dict):
        raise InvalidConfig(f"{source} holds {json_kind(value)}; expected an object")
    return value


def values_in(text: bytes) -> int:
    """About how many values a JSON text holds: each but the first follows one of these."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def values_beyond(limit: int, text: bytes) -> int:
    """About how many values a JSON text holds where these are more than `limit`, else 0. It has no more than bytes."""
    values = values_in(text) if len(text) > limit else 0
    return values if values > limit else 0


def parse_json(text: bytes, source: str) -> Any:
    """A JSON value. `source` names it in errors. Raises InvalidConfig.

    orjson reads nearly all texts, several times as fast as the standard library. Read strictly instead are those that
    may name a key twice in one object, which orjson passes over, and those with Infinity or NaN, which JSON does not
    have but Python's writer puts into published configs, in fields that do not matter here; a size field that holds
    one is refused where it is read.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _parse_strictly(text, source)
    return _parse_strictly(text, source) if _may_repeat_a_key(text, value) else value


def _may_repeat_a_key(text: bytes, value: Any) -> bool:
    """Whether colons were lost between a text and its value: one goes with each key that is dropped.

    The count says nothing where a string spells a colon as an escape.
    """
    try:
        return text.count(b":") != orjson.dumps(value).count(b":") or b"\\u003" in text
    except orjson.JSONEncodeError:  # it reads deeper values than it writes
        return True


def repeated_key(pairs: Sequence[tuple[str, Any]]) -> str:
    """The first key that comes more than once, where one does."""
    return next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)


def _parse_strictly(text: bytes, source: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            key = repeated_key(pairs)
            raise InvalidConfig(f"{source}: the key {key[:80]!r} appears twice in one object; expected once")
        return found

    def integer(digits: str) -> int:
        if len(digits) > MAX_INTEGER_DIGITS:
            raise InvalidConfig(f"{source} holds an integer of {len(digits)} digits; at most {MAX_INTEGER_DIGITS}")
        return int(digits)

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_int=integer)
        json.dumps(value, ensure_ascii=False).encode()
        return value
    except RecursionError:
        raise InvalidConfig(f"{source} is nested too deeply") from None
    except UnicodeEncodeError:
        raise InvalidConfig(f"{source} holds half of a surrogate pair; expected Unicode text") from None
    except UnicodeDecodeError as error:
        raise InvalidConfig(f"{source} is not UTF-8 text: byte {error.start} cannot be decoded") from None
    except json.JSONDecodeError as error:
        raise InvalidConfig(f"{source} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None


def read_stdin() -> dict[str, Any]:
    """The JSON object on standard input. Raises InvalidConfig, and InputError where it is closed."""
    if sys.stdin is None:
        raise InputError("standard input is closed; expected a JSON object on it")
    return parse_config(sys.stdin.buffer.read(MAX_CONFIG_BYTES + 1), "standard input")


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
