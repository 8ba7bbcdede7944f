"""Values from outside in the words of JSON, for error messages; long ones are cut before they are rendered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def json_kind(value: Any) -> str:
    """What JSON calls a value: null, true, false, a number, a string, a list or an object."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    return f"a Python {type(value).__name__}"


def shown(value: Any, limit: int = 60) -> str:
    """A value in at most `limit` characters, lists and objects by their number of entries."""
    if isinstance(value, list | tuple | Mapping):
        return f"{'object' if isinstance(value, Mapping) else 'list'} of {len(value)}"
    if value is None or isinstance(value, bool):
        return json_kind(value)
    if isinstance(value, int) and value.bit_length() > 256:  # its digits may be too many to print
        return f"an integer of {value.bit_length()} bits"
    text = repr(value[:limit] if isinstance(value, str) else value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
