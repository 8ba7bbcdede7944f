"""Configs that lie, overflow or make no sense: an answer whose parameters add up, or an error of our own."""

from __future__ import annotations

import copy
import json
import sys
import tracemalloc
from math import prod
from pathlib import Path
from typing import Any

import pytest
from costly import costly, heterogeneous
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastewq.architecture import Architecture
from fastewq.architectures import supported
from fastewq.architectures.fields import MAX_LAYERS, MAX_LAYOUTS, config_class
from fastewq.config import read_config
from fastewq.document import read_plan
from fastewq.errors import FastEWQError, InvalidConfig, UnsupportedArchitecture
from fastewq.plan import plan

PUBLISHED = json.loads((Path(__file__).parent / "configs" / "published.json").read_text("utf-8"))
SEEDS: list[dict[str, Any]] = [entry["config"] for entry in PUBLISHED.values()] + [
    {"model_type": name, **config_class(name).fields} for name in supported()
]


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"text_config": value, "a": [value]}
    return value


VALUES = [
    *(None, True, False, 0, -1, 1, 2, 3, 7, 1000, 2**31 - 1, 2**31, 10**30, -(10**30), 10**5000),
    *(0.5, -0.5, 1e308, float("nan"), float("inf"), float("-inf")),
    *("", "silu", "None", "x" * 10_000, "full_attention", b"bytes", object()),
    *([], [1], [0] * 5, [None], [[1]], [{}], ["full_attention"] * 100_000, ["dense"] * 3, [1.5], [10**30] * 2000),
    *({}, {"a": 1}, {"model_type": "llama"}, {"model_type": 3}, {1: 2}, nested(50)),
]
NASTY = st.sampled_from(VALUES).map(copy.deepcopy)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A config with a few fields replaced, removed or put at a place where they do not belong."""
    config = copy.deepcopy(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        level, names = config, sorted(k for k in config if k != "model_type")
        if not names:
            break
        name = draw(st.sampled_from(names))
        if isinstance(level[name], dict) and level[name] and draw(st.booleans()):
            level = level[name]
            name = draw(st.sampled_from(sorted(map(str, level))))
        known = sorted(config_class(str(config["model_type"])).fields) or ["hidden_size"]
        action = draw(st.sampled_from(["replace", "replace", "scale", "remove", "add"]))
        if action == "remove":
            level.pop(name, None)
        elif action == "add":
            level[draw(st.sampled_from(known))] = draw(NASTY)
        elif action == "scale" and type(level.get(name)) is int:
            level[name] = draw(st.sampled_from([level[name] * 2, level[name] + 1, level[name] // 2, -level[name]]))
        else:
            level[name] = draw(NASTY)
    return config


def attempt(config: dict[str, Any]) -> Architecture | FastEWQError:
    """Any other exception fails the test."""
    try:
        return read_config(config)
    except FastEWQError as error:
        return error


def check_sums(architecture: Architecture) -> None:
    tensors = [t for s in architecture.stacks for b in s.blocks for t in b.layout.tensors]
    tensors += [t for g in architecture.outside for t in g.tensors]
    assert architecture.parameters == sum(prod(t.shape) for t in tensors)
    assert all(type(n) is int and n >= 0 for t in tensors for n in t.shape)
    for stack in architecture.stacks:
        assert [b.index for b in stack.blocks] == list(range(len(stack.blocks)))
    assert architecture.exact or architecture.warnings


@settings(max_examples=600, derandomize=True, suppress_health_check=list(HealthCheck))
@given(mutated())
def test_mutated_configs_add_up_or_are_refused(config: dict[str, Any]) -> None:
    result = attempt(config)
    if isinstance(result, FastEWQError):
        assert 0 < len(result.message) < 500
    else:
        check_sums(result)
        document = plan(config).as_dict()
        assert read_plan(document).as_dict() == document


LEAVES_NOTHING: list[tuple[str, dict[str, Any]]] = [
    ("image_size is 1, patch_size is 16", {"model_type": "siglip_vision_model", "image_size": 1}),
    ("image_size is 8, patch_size is 16", {"model_type": "sam_vision_model", "image_size": 8}),
    ("num_mel_bins is 5", {"model_type": "audio-spectrogram-transformer", "num_mel_bins": 5}),
    ("vocab_size is 4, num_visual_indicator_tokens is 5", {"model_type": "ovis2_vision", "vocab_size": 4}),
    ("mlp_ratio is 0", {"model_type": "swin", "mlp_ratio": 0}),
    ("hidden_size is 7, num_attention_heads is 16", {"model_type": "zamba", "hidden_size": 7}),
    ("downsample_ratio is 2", {"model_type": "internvl", "downsample_ratio": 2}),
    ("adapter_reduction_factor is 1000", {"model_type": "xmod", "adapter_reduction_factor": 1000}),
    ("hidden_size is 4, num_hash_functions is 8", {"model_type": "canine", "hidden_size": 4, "num_attention_heads": 2}),
    ("image_size is 1", {"model_type": "pvt", "image_size": 1}),
    ("num_hidden_layers is 0", {"model_type": "yolos", "num_hidden_layers": 0}),
]


@pytest.mark.parametrize(("fields", "config"), LEAVES_NOTHING, ids=[fields for fields, _ in LEAVES_NOTHING])
def test_matrices_without_a_width_are_refused_with_the_fields_that_leave_none(
    fields: str, config: dict[str, Any]
) -> None:
    with pytest.raises(InvalidConfig, match=rf"{fields}\b.*; expected"):
        read_config(config)


INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}
QUANTIZATIONS: list[dict[str, Any]] = [
    {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head"]},
    {"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["model.layers.0"]},
    {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"-:.*down.*": {}, "+:.*up.*": {"bits": 8}}},
    {"quant_method": "awq", "bits": 4, "group_size": 128},
    {"quant_method": "auto-round", "bits": 4, "extra_config": {"model.layers.1.mlp.up_proj": {"bits": 8}}},
    {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True},
    {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]},
    {"quant_method": "bitnet"},
    {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["re:.*self_attn.*"]},
    {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {"model.layers.0.mlp.up_proj": {"quant_algo": "FP8"}},
    },
    {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "ignore": ["lm_head", "re:.*gate$"],
        "config_groups": {"a": {"targets": ["Linear"], "weights": INT4}},
    },
]
PATTERNS = [
    "re:(a+)+$",
    "re:" + "(a|b)" * 30,
    "re:" + "[0-9]" * 300,
    "re:[",
    "*" * 400,
    "re:.*" * 80,
    "lm_head",
    "a" * 401,
]
QUANTIZATION_VALUES: list[Any] = [
    *VALUES,
    *(-4, 0, 17, 2**20, [0, 0], [-1, 128], ["lm_head"] * 20_000, [f"model.layers.{i}.mlp" for i in range(3000)]),
    *([f"re:.*layers.{i}.*" for i in range(500)], PATTERNS, *([pattern] for pattern in PATTERNS)),
    {f"group_{i}": {"targets": [f"re:.*{i}.*"], "weights": INT4} for i in range(300)},
    {f"model.layers.{i}.mlp.up_proj": {"bits": i % 9, "quant_algo": "FP8"} for i in range(3000)},
]
QUANTIZATION_FIELDS = sorted({name for quantization in QUANTIZATIONS for name in quantization} | set(INT4))


@st.composite
def quantized(draw: st.DrawFn) -> dict[str, Any]:
    """A config whose word on quantization is broken in a few places, at any depth."""
    config = {
        **draw(st.sampled_from(SEEDS)),
        "quantization_config": copy.deepcopy(draw(st.sampled_from(QUANTIZATIONS))),
    }
    for _ in range(draw(st.integers(1, 3))):
        level = config["quantization_config"]
        while inner := [name for name in sorted(level, key=str) if isinstance(level[name], dict) and level[name]]:
            if draw(st.booleans()):
                break
            level = level[draw(st.sampled_from(inner))]
        name = draw(st.sampled_from(QUANTIZATION_FIELDS))
        level[name] = copy.deepcopy(draw(st.sampled_from(QUANTIZATION_VALUES)))
    return config


@settings(max_examples=300, derandomize=True, suppress_health_check=list(HealthCheck))
@given(quantized())
def test_mutated_quantization_adds_up_or_is_refused(config: dict[str, Any]) -> None:
    result = attempt(config)
    if isinstance(result, FastEWQError):
        assert 0 < len(result.message) < 500
        return
    check_sums(result)
    plain = read_config({**config, "quantization_config": None})
    assert result.parameters == plain.parameters
    for tensor in [t for layout in result.layouts for t in layout.tensors if t.stored is not None]:
        assert tensor.stored is not None
        assert 1 <= tensor.stored.bits <= 8
        assert 8 * tensor.stored.bytes >= tensor.stored.bits * prod(tensor.shape)


@settings(max_examples=200, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(supported()), st.dictionaries(st.text(max_size=12), NASTY, max_size=8))
def test_arbitrary_fields(model_type: str, fields: dict[str, Any]) -> None:
    result = attempt({**fields, "model_type": model_type})
    if isinstance(result, FastEWQError):
        assert 0 < len(result.message) < 500
    else:
        check_sums(result)


@pytest.mark.parametrize("config", [[], "llama", None, 3, [("model_type", "llama")]])
def test_not_an_object(config: Any) -> None:
    with pytest.raises(InvalidConfig, match="expected a JSON object"):
        read_config(config)


@pytest.mark.parametrize("model_type", [None, 3, [], {}, True])
def test_unusable_model_type(model_type: Any) -> None:
    with pytest.raises(InvalidConfig, match="model_type"):
        read_config({"model_type": model_type})


@pytest.mark.parametrize("model_type", ["", "no_such_model", "x" * 10**6, "transformers"])
def test_unknown_model_type(model_type: str) -> None:
    with pytest.raises(UnsupportedArchitecture) as caught:
        read_config({"model_type": model_type})
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("layers", [MAX_LAYERS + 1, 100_000, 10**9, 10**30])
def test_too_many_layers(layers: int) -> None:
    with pytest.raises(InvalidConfig, match="num_hidden_layers"):
        read_config({"model_type": "llama", "num_hidden_layers": layers})


@pytest.mark.parametrize(("name", "value"), [("ffn_mult", "1.0"), ("intermediate_size", [300])])
def test_sizes_of_a_layer_of_the_wrong_type_are_refused(name: str, value: Any) -> None:
    config = heterogeneous(2)
    config["block_configs"][1]["ffn"] = {name: value}
    with pytest.raises(InvalidConfig, match=rf"block_configs\.ffn\.{name} is .*; expected a number or null"):
        read_config(config)


@pytest.mark.parametrize(
    ("half", "option", "value"),
    [
        ("attention", "no_op", 1),
        ("attention", "replace_with_linear", "false"),
        ("attention", "num_key_value_heads", "8"),
        ("ffn", "no_op", []),
        ("ffn", "replace_with_linear", 0.0),
    ],
)
def test_options_of_a_layer_of_the_wrong_type_are_refused(half: str, option: str, value: Any) -> None:
    config = heterogeneous(2)
    config["block_configs"][1][half] = {option: value}
    with pytest.raises(InvalidConfig, match=rf"block_configs\.{half}\.{option} is .*; expected"):
        read_config(config)


def test_lists_of_the_wrong_length_are_refused() -> None:
    config = heterogeneous(8)
    with pytest.raises(InvalidConfig, match="block_configs is list of 7; expected a list of 8 entries"):
        read_config(config | {"block_configs": config["block_configs"][:-1]})


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "udop", "relative_bias_args": 5},
        {"model_type": "qwen2_5_omni_bigvgan", "resblock_dilation_sizes": [[1, 3, 5]]},
        {"model_type": "donut-swin", "num_heads": []},
        {"model_type": "swin", "num_heads": [], "depths": []},
    ],
    ids=str,
)
def test_values_that_are_no_lists_or_empty_ones_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig, match="expected a list"):
        read_config(config)


def test_keys_that_are_no_text_are_passed_over() -> None:
    config: dict[Any, Any] = {"model_type": "clip"}
    assert read_config(config | {5: 1}) == read_config(config)


def test_too_many_different_blocks() -> None:
    with pytest.raises(InvalidConfig, match=f"{MAX_LAYOUTS + 1} different blocks; expected at most {MAX_LAYOUTS}"):
        read_config(heterogeneous(MAX_LAYOUTS + 1))


COSTLY = {
    **costly(),
    "a norm per head": {
        "model_type": "stablelm",
        "qk_layernorm": True,
        "num_hidden_layers": MAX_LAYERS,
        "num_attention_heads": 1024,
    },
    "a long name": {"model_type": "llama", "architectures": ["For" * 10**6]},
    "a long list": {"model_type": "qwen3_next", "layer_types": ["full_attention"] * 10**6},
    "labels": {"model_type": "llama", "id2label": dict.fromkeys(range(10**5))},
    "indices": {"model_type": "qwen3_moe", "mlp_only_layers": list(range(10**6))},
    "copies": {"model_type": "gemma3n_text", "altup_num_inputs": 10**6},
    "stages beside many other fields": {
        "model_type": "convnext",
        "num_stages": 64,
        "depths": [1] * 64,
        "hidden_sizes": [32] * 64,
        **dict.fromkeys(map(str, range(10**4)), 0),
    },
}


@pytest.mark.parametrize("config", COSTLY.values(), ids=COSTLY)
def test_memory_stays_below_50_megabytes(config: dict[str, Any]) -> None:
    read_config({"model_type": "llama"})  # loads the table of defaults
    tracemalloc.start()
    try:
        attempt(config)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50e6


@pytest.mark.parametrize("config", COSTLY.values(), ids=COSTLY)
def test_work_is_bounded(config: dict[str, Any]) -> None:
    """Calls stand for time, which is what is bounded: `benchmarks/read_config.py hostile` measures that."""
    attempt(config)  # loads modules and tables
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        attempt(config)
    finally:
        sys.setprofile(None)
    assert calls < 250_000
