"""Configs as they are found: missing fields, old spellings, nested levels, nulls, options of one layer."""

from __future__ import annotations

from typing import Any

import pytest

from fastewq.config import read_config
from fastewq.errors import InvalidConfig, UnsupportedArchitecture

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "vocab_size": 1000,
}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LLAMA, "float32"),
        (LLAMA | {"torch_dtype": "bfloat16"}, "bfloat16"),
        (LLAMA | {"dtype": "float16", "torch_dtype": "bfloat16"}, "float16"),
        (LLAMA | {"torch_dtype": None, "dtype": "torch.bfloat16"}, "bfloat16"),
        ({"model_type": "qwen3_vl", "text_config": {"dtype": "bfloat16"}}, "bfloat16"),
        (LLAMA | {"torch_dtype": "fp16"}, "float16"),
        (LLAMA | {"torch_dtype": "BF16"}, "bfloat16"),
    ],
)
def test_stored_precision(config: dict[str, Any], expected: str) -> None:
    assert read_config(config).dtype == expected


@pytest.mark.parametrize("named", ["auto", "float8_e4m3fn", "int8", ""])
def test_a_precision_that_no_plan_keeps_is_replaced_with_a_warning(named: str) -> None:
    found = read_config(LLAMA | {"torch_dtype": named})
    assert (found.dtype, found.exact) == ("bfloat16", True)
    assert repr(named) in found.warnings[-1]


def test_so_many_parameters_that_json_could_not_hold_their_bytes_are_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"the model has \d+ parameters; expected at most"):
        read_config(LLAMA | {"hidden_size": 2**30, "intermediate_size": 2**31 - 1})


def test_facts_the_predictor_reads() -> None:
    (stack,) = read_config(LLAMA).stacks
    facts = (stack.width, stack.heads, stack.kv_heads, stack.head_dim, stack.ffn_width, stack.experts, stack.norm)
    assert facts == (64, 4, 2, 16, 96, 0, "rms")
    assert (stack.name, stack.role) == ("decoder", "decoder")


def test_facts_of_a_mixture_are_those_of_its_typical_block() -> None:
    (stack,) = read_config({"model_type": "deepseek_v3"}).stacks
    assert (stack.ffn_width, stack.experts, stack.heads, stack.head_dim) == (2048, 256, 128, 192)
    assert [layout.kind for layout in stack.blocks.layouts[:4]] == ["attention+dense"] * 3 + ["attention+experts"]


def test_kinds_of_hybrids() -> None:
    pattern = {"model_type": "nemotron_h", "hybrid_override_pattern": "ME*-"}
    (stack,) = read_config(pattern).stacks
    assert [b.layout.kind for b in stack.blocks] == ["state_space", "experts", "attention", "dense"]
    (stack,) = read_config({"model_type": "qwen3_next"}).stacks
    assert [layout.mixer for layout in stack.blocks.layouts[:4]] == ["linear_attention"] * 3 + ["attention"]
    (stack,) = read_config({"model_type": "falcon_h1"}).stacks
    assert {b.layout.kind for b in stack.blocks} == {"hybrid+dense"}


def test_null_and_absent_key_value_heads() -> None:
    full = read_config(LLAMA | {"num_key_value_heads": 4}).parameters
    assert read_config(LLAMA | {"num_key_value_heads": None}).parameters == full
    assert read_config({k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}).parameters == full


def test_old_spellings() -> None:
    new = {"model_type": "gpt2", "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    old = {"model_type": "gpt2", "n_embd": 96, "n_layer": 2, "n_head": 4}
    assert read_config(new) == read_config(old)
    falcon = {"model_type": "falcon", "num_hidden_layers": 2, "num_attention_heads": 4}
    assert read_config(falcon | {"n_embed": 64}).parameters == read_config(falcon | {"hidden_size": 64}).parameters


def test_inner_width_of_mamba_may_be_given() -> None:
    """Falcon Mamba's config has an `expand` of 16 that its inner width does not follow."""
    mamba = {"model_type": "falcon_mamba", "hidden_size": 64, "num_hidden_layers": 1, "vocab_size": 100}
    given = read_config(mamba | {"expand": 16, "intermediate_size": 128})
    assert given.parameters == read_config(mamba | {"expand": 2}).parameters


def test_layers_may_differ() -> None:
    config = {"model_type": "gemma3n_text", "num_hidden_layers": 3, "num_kv_shared_layers": 0}
    (stack,) = read_config(config | {"intermediate_size": [8, 16, 8]}).stacks
    counts = [b.layout.parameters for b in stack.blocks]
    assert counts[0] == counts[2] < counts[1]
    assert stack.blocks[0].layout is stack.blocks[2].layout


@pytest.mark.parametrize(
    ("config", "absent"),
    [
        ({"model_type": "yolos", "num_hidden_layers": 1}, "mid_position_embeddings"),
        ({"model_type": "inkling_text", "n_shared_experts": 0, "num_hidden_layers": 3}, "shared_experts"),
        ({"model_type": "embedding_gemma2_text", "num_hidden_layers": 0}, "per_layer_model_projection"),
        ({"model_type": "qwen2_moe", "shared_expert_intermediate_size": 0, "num_hidden_layers": 1}, "shared_expert."),
        ({"model_type": "laguna", "shared_expert_intermediate_size": 0, "num_hidden_layers": 2}, "shared_expert"),
        ({"model_type": "qwen3_moe", "num_experts": 0, "num_hidden_layers": 1}, "experts"),
    ],
)
def test_what_there_are_none_of_is_left_out(config: dict[str, Any], absent: str) -> None:
    def names(config: dict[str, Any]) -> list[str]:
        found = read_config(config)
        inside = [t.name for stack in found.stacks for block in stack.blocks for t in block.layout.tensors]
        return inside + [f"{group.path}.{t.name}" for group in found.outside for t in group.tensors]

    count = next(name for name in config if name != "model_type")
    assert not any(absent in name for name in names(config))
    assert any(absent in name for name in names(config | {count: 2, "num_hidden_layers": 3}))


def test_skipped_halves_of_blocks() -> None:
    """Puzzle-searched models drop attention or feed-forward in some blocks."""
    blocks = [
        {"attention": {"n_heads_in_group": 4}, "ffn": {"ffn_mult": 1.0}},
        {"attention": {"no_op": True}, "ffn": {"ffn_mult": 1.0}},
        {"attention": {"replace_with_linear": True}, "ffn": {"no_op": True}},
    ]
    config = LLAMA | {"model_type": "nemotron-nas", "num_key_value_heads": None, "intermediate_size": None}
    (stack,) = read_config(config | {"block_configs": blocks}).stacks
    inner = 256  # 2/3 * 1.0 * 64 rounded up to a multiple of 256
    attention = 2 * 64 * 64 + 2 * 16 * 64
    assert [b.layout.parameters for b in stack.blocks] == [
        attention + 3 * 64 * inner + 2 * 64,
        3 * 64 * inner + 64,
        64 * 64 + 64,
    ]


def test_minimax_text_01_from_its_definition() -> None:
    """Published as a model of 456 billion parameters; the exact total is what its definition gives."""
    config = {
        "model_type": "minimax_text_01",
        "architectures": ["MiniMaxText01ForCausalLM"],
        "attn_type_list": ([0] * 7 + [1]) * 10,
        "hidden_size": 6144,
        "intermediate_size": 9216,
        "head_dim": 128,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "num_hidden_layers": 80,
        "num_local_experts": 32,
        "vocab_size": 200_064,
        "tie_word_embeddings": False,
    }
    architecture = read_config(config)
    assert round(architecture.parameters / 1e9) == 456
    assert [layout.mixer for layout in architecture.stacks[0].blocks.layouts[6:9]] == [
        "linear_attention",
        "attention",
        "linear_attention",
    ]


def test_a_structure_that_is_not_described_is_refused() -> None:
    with pytest.raises(UnsupportedArchitecture, match="per_layer_config"):
        read_config(LLAMA | {"per_layer_config": {"0": {"hidden_size": 3}}})


def test_missing_nested_config_beside_flat_sizes_is_said() -> None:
    architecture = read_config({"model_type": "llava", "hidden_size": 64, "num_hidden_layers": 2})
    assert not architecture.exact
    assert any("text_config is missing" in warning for warning in architecture.warnings)


def test_errors_name_field_value_and_expectation() -> None:
    with pytest.raises(InvalidConfig) as caught:
        read_config(LLAMA | {"hidden_size": -4096})
    assert caught.value.message == "hidden_size is -4096; expected an integer from 1 to 2147483647"
    assert caught.value.hint


def test_same_config_gives_equal_architectures() -> None:
    assert read_config(dict(LLAMA)) == read_config(dict(reversed(LLAMA.items())))


def test_a_precision_that_had_to_be_assumed_is_a_warning() -> None:
    plain, quantized = read_config(LLAMA), read_config(LLAMA | {"quantization_config": {"quant_method": "mxfp4"}})
    assert (plain.dtype, quantized.dtype) == ("float32", "bfloat16")
    assert plain.exact
    assert quantized.exact
    assert plain.warnings == ("the config names no dtype; float32 is assumed",)
    assert read_config(LLAMA | {"dtype": "float16"}).warnings == ()


@pytest.mark.parametrize(
    ("sent", "message", "hint"),
    [
        (
            {"peft_type": "LORA", "base_model_name_or_path": "a/b"},
            "the config of an adapter",
            "adapter changes, 'a/b'.",
        ),
        ({"peft_type": "LORA"}, "peft_type is 'LORA'", "the model that the adapter changes."),
        (
            {"_class_name": "Transformer2DModel", "hidden_size": 8},
            "a file of the diffusers library",
            "each text encoder",
        ),
        ({"weight_map": {}, "metadata": {}}, "the index of a sharded checkpoint", "config.json beside it"),
        ({"do_sample": True, "bos_token_id": 1}, "this is generation_config.json", "config.json beside it"),
        ({"tokenizer_class": "LlamaTokenizer"}, "this is tokenizer_config.json", "config.json beside it"),
        ({"model_type": "SentenceTransformer", "__version__": {}}, "config_sentence_transformers", "beside it"),
        ({"architecture": "resnet50", "pretrained_cfg": {}}, "a config of the timm library", "that config.json"),
        ({"model_cfg": {}, "preprocess_cfg": {}}, "this is open_clip_config.json", "that config.json"),
        ({"dim": 4096, "n_layers": 32, "norm_eps": 1e-5}, "params.json of another", "format of transformers"),
        ({"schema": "fastewq.plan/1"}, "a document of ours", "unmodified config.json"),
        ({"hidden_size": 768, "do_sample": False}, "model_type is missing", "lack it: add it. Otherwise"),
        ({"architectures": ["BertForMaskedLM"]}, "model_type is missing", "For 'BertForMaskedLM' it is 'bert'."),
        ({"architectures": ["LlamaForCausalLM"]}, "model_type is missing", "For 'LlamaForCausalLM' it is 'llama'."),
        ({"architectures": ["Qwen3_5ForCausalLM"], "quantization_config": {}}, "missing", "it is 'qwen3_5_text'."),
        ({"architectures": ["Qwen3_5ForCausalLM"], "text_config": {}}, "model_type is missing", "it is 'qwen3_5'."),
        ({"architectures": [None]}, "model_type is missing", "lack it: add it. Otherwise"),
        ({"model_type": None}, "model_type is null", "unmodified config.json"),
    ],
)
def test_what_has_no_model_type_is_called_by_its_name(sent: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        read_config(sent)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_config_without_any_size_is_planned_by_class_defaults_and_says_so() -> None:
    scales = {"model_type": "llama", "torch_dtype": "float16", "kv_cache": {"dtype": "float8_e4m3fn"}}
    expected = "none of hidden_size, num_hidden_layers is given; the class defaults of llama are assumed"
    assert read_config(scales).warnings == (expected,)
    assert read_config(scales).exact
    own_words = {"model_type": "bloom", "torch_dtype": "float16", "num_layers": 30, "hidden_dim": 4096}
    assert read_config(own_words).warnings[-1].startswith("none of hidden_size, n_layer is given")
    assert read_config(own_words | {"n_layer": 30, "hidden_size": 4096}).warnings == ()
    assert read_config(LLAMA | {"torch_dtype": "float16"}).warnings == ()


def test_sizes_under_names_that_the_class_ignores_are_not_silently_its_defaults() -> None:
    sent = {"model_type": "bloom", "torch_dtype": "float16", "num_layers": 30, "hidden_dim": 4096}
    told = "hidden_dim and num_layers of the config: not known for model_type bloom; the class defaults of "
    model = read_config(sent)
    assert not model.exact
    assert model.warnings[0] == told + "hidden_size and n_layer are assumed"
    half = read_config(sent | {"n_layer": 30})
    assert not half.exact
    assert half.warnings[0].endswith("the class defaults of hidden_size are assumed")
    # Given both, the class ignores the others; so it does where they say what it assumes.
    assert read_config(sent | {"n_layer": 30, "hidden_size": 4096}).exact
    assert read_config({"model_type": "bloom", "num_layers": 2, "hidden_dim": 64}).exact
