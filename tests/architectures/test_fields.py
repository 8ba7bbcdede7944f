"""Checked access to one config: defaults, other spellings, bounds, and messages that name the field."""

from __future__ import annotations

from typing import Any

import pytest

from fastewq.architectures.fields import MAX_LAYERS, Fields, config_class
from fastewq.errors import InvalidConfig, UnsupportedArchitecture


def test_absent_field_takes_the_class_default() -> None:
    assert Fields({}, "llama")["hidden_size"] == 4096
    assert Fields({"hidden_size": 8}, "llama")["hidden_size"] == 8


def test_null_stays_null() -> None:
    assert Fields({"num_key_value_heads": None}, "mistral").optional_size("num_key_value_heads") is None
    assert Fields({}, "mistral").optional_size("num_key_value_heads") == 8


def test_both_spellings_are_read_and_the_other_one_wins() -> None:
    assert Fields({"n_embd": 8}, "gpt2")["hidden_size"] == 8
    assert Fields({"hidden_size": 9}, "gpt2")["n_embd"] == 9
    assert Fields({"n_embd": 8, "hidden_size": 9}, "gpt2")["hidden_size"] == 9


def test_fields_are_named_as_the_config_spells_them() -> None:
    with pytest.raises(InvalidConfig, match=r"^n_embd is 0;"):
        Fields({"n_embd": 0}, "gpt2")["hidden_size"]
    old = Fields({"width": 0, "depth": 2}, "no_such_type").renamed({"width": "hidden_size", "depth": "layers"})
    with pytest.raises(InvalidConfig, match=r"^width is 0;"):
        old.replaced(layers=3)["hidden_size"]
    with pytest.raises(InvalidConfig, match=r"^hidden_size is -1;"):
        old.replaced(hidden_size=-1)["hidden_size"]


def test_a_replaced_field_counts_under_all_its_spellings() -> None:
    fields = Fields({"n_embd": 8}, "gpt2").replaced(hidden_size=9)
    assert fields["hidden_size"] == fields["n_embd"] == 9


def test_unknown_type_has_no_defaults() -> None:
    with pytest.raises(InvalidConfig, match="hidden_size is missing"):
        Fields({}, "no_such_type")["hidden_size"]


@pytest.mark.parametrize("value", [0, -1, 2**31, 1.5, float("nan"), float("inf"), True, "64", [64], {}, 10**100])
def test_sizes_are_positive_integers(value: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"hidden_size is .*; expected an integer from 1 to 2147483647"):
        Fields({"hidden_size": value}, "llama")["hidden_size"]


SIDES = {"image_size": 2, "sub": {"patch_size": 14}}


def per_side(f: Fields) -> int:
    return f["image_size"] // f["sub.patch_size"]


def test_functions_that_leave_nothing_are_refused_with_what_they_read() -> None:
    fields = Fields(SIDES, "no_such_type", "vision")
    fields.sub("sub", "")
    read = r"^vision\.image_size is 2, vision\.sub\.patch_size is 14; expected values that give"
    with pytest.raises(InvalidConfig, match=f"{read} a size of at least 1, not 0$"):
        fields[per_side]
    with pytest.raises(InvalidConfig, match=f"{read} a size of at least 1, not -1$"):
        fields[lambda f: per_side(f) - 1]


def test_amounts_may_be_none_but_not_too_many() -> None:
    fields = Fields({"image_size": 2}, "no_such_type")
    assert fields.amount(lambda f: f["image_size"] - 2) == 0
    assert fields.amount("image_size", 2) == fields.amount(2, 2) == 2
    with pytest.raises(InvalidConfig, match="image_size is 2; expected values that give a size of at most 7, not 8"):
        fields.amount(lambda f: f["image_size"] ** 3, 7)
    with pytest.raises(InvalidConfig, match="image_size is 2; expected values that give a size of at most 1"):
        fields.amount("image_size", 1)


def test_integral_floats_are_sizes() -> None:
    assert Fields({"hidden_size": 4096.0}, "llama")["hidden_size"] == 4096


@pytest.mark.parametrize("value", [1, 0, "true", [], 1.0])
def test_flags_are_booleans(value: Any) -> None:
    with pytest.raises(InvalidConfig, match="attention_bias"):
        Fields({"attention_bias": value}, "llama").flag("attention_bias")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, "2", True, None])
def test_numbers_are_finite(value: Any) -> None:
    with pytest.raises(InvalidConfig, match="expand"):
        Fields({"expand": value}, "mamba").number("expand")


def test_layers_are_bounded() -> None:
    assert Fields({"num_hidden_layers": MAX_LAYERS}, "llama").layers() == MAX_LAYERS
    with pytest.raises(InvalidConfig, match="num_hidden_layers is 100000"):
        Fields({"num_hidden_layers": 100_000}, "llama").layers()


def test_lists_are_cut_but_never_stretched() -> None:
    fields = Fields({"layer_types": ["a", "b", "c"]}, "qwen3_next")
    assert list(fields.per_layer("layer_types", 2)) == ["a", "b"]
    with pytest.raises(InvalidConfig, match="a list of 4 entries"):
        fields.per_layer("layer_types", 4)


def test_nested_config_of_a_fixed_class_ignores_its_own_type() -> None:
    fields = Fields({"vision_config": {"model_type": "qwen3_vl"}}, "qwen3_vl")
    assert fields.sub("vision_config").model_type == "qwen3_vl_vision"


def test_nested_config_that_names_its_class() -> None:
    fields = Fields({"text_config": {"model_type": "mistral"}}, "llava")
    assert fields.sub("text_config").model_type == "mistral"
    assert Fields({}, "llava").sub("text_config").model_type == "llama"


def test_nested_fields_are_named_with_their_path() -> None:
    fields = Fields({"text_config": {"hidden_size": 0}}, "qwen3_vl")
    with pytest.raises(InvalidConfig, match=r"text_config\.hidden_size is 0"):
        fields.sub("text_config")["hidden_size"]


def test_options_that_change_the_structure_are_refused_as_unsupported() -> None:
    with pytest.raises(UnsupportedArchitecture, match=r"add_cross_attention is true.*known are false"):
        Fields({"add_cross_attention": True}, "gpt2").require("add_cross_attention", (False,))


def test_table_has_the_library_types() -> None:
    assert config_class("llama").classes[0] == "LlamaForCausalLM"
    assert config_class("gpt2").aliases["hidden_size"] == "n_embd"
