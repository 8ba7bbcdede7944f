"""Values from outside are named in JSON's words."""

from __future__ import annotations

import json

import pytest

from fastewq.config import read_config
from fastewq.errors import InvalidConfig
from fastewq.jsonio import parse_config
from fastewq.shown import json_kind, shown

KINDS = [
    ("null", "null", "null"),
    ("true", "true", "true"),
    ("false", "false", "false"),
    ("1", "a number", "1"),
    ("0.5", "a number", "0.5"),
    ('"x"', "a string", "'x'"),
    ("[1, 2]", "a list", "list of 2"),
    ('{"a": 1}', "an object", "object of 1"),
]


@pytest.mark.parametrize(("text", "kind", "value"), KINDS)
def test_words(text: str, kind: str, value: str) -> None:
    assert (json_kind(json.loads(text)), shown(json.loads(text))) == (kind, value)


@pytest.mark.parametrize(("text", "kind"), [(text, kind) for text, kind, _ in KINDS if kind != "an object"])
def test_a_config_that_is_no_object(text: str, kind: str) -> None:
    with pytest.raises(InvalidConfig, match=f"the file holds {kind}; expected a"):
        parse_config(text.encode(), "the file")
    with pytest.raises(InvalidConfig, match=f"the config is {kind}; expected a"):
        read_config(json.loads(text))


def test_a_tuple_is_a_list_and_other_objects_keep_their_names() -> None:
    assert shown((1, 2)) == "list of 2"
    assert json_kind(object()) == "a Python object"


def test_long_values_are_cut() -> None:
    assert len(shown("x" * 10**6)) <= 60
    assert shown([[1]] * 10**6) == "list of 1000000"
    assert shown(10**100_000) == "an integer of 332193 bits"
