from __future__ import annotations

import math

import pytest

from fastewq.errors import InvalidConfig, NotFound
from fastewq.jsonio import MAX_CONFIG_BYTES, MAX_CONFIG_VALUES, load_config, parse_config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not JSON"),
        (b"{", "line 1"),
        (b"[1]", "expected an object"),
        (b'"llama"', "expected an object"),
        (b'{"a": 1, "a": 2}', "'a' appears twice"),
        (b'{"b": {"a": 1, "a": 1}}', "'a' appears twice"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b'{"a": ' + b"9" * 5000 + b"}", "5000 digits"),
        (b'{"a": -' + b"9" * 5000 + b"}", "digits"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": 1, "\\u0061": 2}', "'a' appears twice"),
        (b'{"a": 1, "a": "\\u003a"}', "'a' appears twice"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b" " * (MAX_CONFIG_BYTES + 1), "bytes; expected at most"),
        (b'{"a": [' + b"1," * MAX_CONFIG_VALUES + b"1]}", "JSON values; expected at most"),
    ],
)
def test_hostile_text_is_an_invalid_config_that_names_the_source(text, words):
    with pytest.raises(InvalidConfig, match=words) as caught:
        parse_config(text, "config.json")
    assert caught.value.message.startswith("config.json")


def test_published_configs_may_hold_infinity():
    assert parse_config(b'{"time_step_limit": [0.0, Infinity]}', "x") == {"time_step_limit": [0.0, math.inf]}


def test_a_folder_means_its_config_json(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert load_config(tmp_path) == load_config(tmp_path / "config.json") == {"model_type": "llama"}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFound, match="nowhere"):
        load_config(tmp_path / "nowhere")
