"""Which class a config's `architectures` names, and what that changes."""

from __future__ import annotations

from typing import Any

import pytest

from fastewq.architectures.heads import ending
from fastewq.config import read_config
from fastewq.errors import InvalidConfig, UnsupportedArchitecture

TINY: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "vocab_size": 1000,
    "tie_word_embeddings": False,
}
BODY = 3 * (4 * 64 * 64 + 3 * 64 * 96 + 2 * 64) + 1000 * 64 + 64


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LlamaForCausalLM", "ForCausalLM"),
        ("GPT2LMHeadModel", "LMHeadModel"),
        ("GPT2DoubleHeadsModel", "DoubleHeadsModel"),
        ("Gemma3TextModel", "Model"),
        ("Nonsense", ""),
    ],
)
def test_ending(name: str, expected: str) -> None:
    assert ending(name) == expected


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("LlamaForCausalLM", 1000 * 64),
        ("LlamaModel", 0),
        ("LlamaForSequenceClassification", 5 * 64),
        ("LlamaForTokenClassification", 5 * 64 + 5),
        ("LlamaForQuestionAnswering", 2 * 64 + 2),
    ],
)
def test_head_adds_its_own_tensors(name: str, extra: int) -> None:
    architecture = read_config(TINY | {"architectures": [name], "id2label": {str(i): "x" for i in range(5)}})
    assert architecture.parameters == BODY + extra
    assert architecture.exact


def test_paths_follow_the_class() -> None:
    causal, bare = read_config(TINY), read_config(TINY | {"architectures": ["LlamaModel"]})
    assert causal.stacks[0].blocks[0].path == "model.layers.0"
    assert bare.stacks[0].blocks[0].path == "layers.0"


def test_tied_head_is_counted_once() -> None:
    assert read_config(TINY | {"tie_word_embeddings": True}).parameters == BODY


@pytest.mark.parametrize(
    ("config", "ties"),
    [
        ({"model_type": "t5"}, True),
        ({"model_type": "t5", "tie_word_embeddings": False}, False),
        ({"model_type": "umt5"}, True),
        ({"model_type": "gpt2"}, True),
        (TINY, False),
        (TINY | {"tie_word_embeddings": True}, True),
        (TINY | {"tie_word_embeddings": True, "architectures": ["LlamaModel"]}, True),
        ({**TINY, "model_type": "internlm2", "num_key_value_heads": 4, "tie_word_embeddings": None}, False),
        ({**{k: v for k, v in TINY.items() if k != "tie_word_embeddings"}, "model_type": "internlm2"}, True),
    ],
)
def test_tied_embeddings_are_those_of_the_class_where_the_config_does_not_say(
    config: dict[str, Any], ties: bool
) -> None:
    assert read_config(config).tied_embeddings is ties


@pytest.mark.parametrize("named", [None, []])
def test_without_a_class_the_usual_one_is_assumed(named: Any) -> None:
    architecture = read_config(TINY | {"architectures": named})
    assert architecture.parameters == BODY + 1000 * 64
    assert architecture.exact


@pytest.mark.parametrize("name", ["MistralForCausalLM", "LlamaForVibes", "Whatever"])
def test_unknown_class_is_never_silent(name: str) -> None:
    architecture = read_config(TINY | {"architectures": [name]})
    assert not architecture.exact
    assert name in architecture.warnings[0]


@pytest.mark.parametrize("named", ["LlamaForCausalLM", [3], {}, ["x" * 1000]])
def test_unusable_architectures(named: Any) -> None:
    with pytest.raises(InvalidConfig, match="architectures"):
        read_config(TINY | {"architectures": named})


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("falcon", "RWForCausalLM"),
        ("mpt", "MPTForCausalLM"),
        ("phimoe", "PhiMoEForCausalLM"),
        ("exaone_moe", "ExaoneMoEForCausalLM"),
    ],
)
def test_names_that_repositories_have_for_classes_of_the_library(model_type: str, name: str) -> None:
    found = read_config({"model_type": model_type, "architectures": [name]})
    assert found.exact, found.warnings
    assert found.parameters == read_config({"model_type": model_type}).parameters


@pytest.mark.parametrize(
    ("model_type", "name", "meant"),
    [
        ("AXK1", "AXK1ForCausalLM", "axk1"),
        ("deepseek_ref", "DeepseekV4ForCausalLM", "deepseek_v4"),
    ],
)
def test_types_that_files_call_otherwise(model_type: str, name: str, meant: str) -> None:
    found = read_config({"model_type": model_type, "architectures": [name]})
    assert found == read_config({"model_type": meant, "architectures": [name]})


def test_types_that_files_call_otherwise_are_told_by_their_class() -> None:
    assert read_config({"model_type": "AXK1"}).model_type == "axk1"  # means nothing else
    with pytest.raises(UnsupportedArchitecture, match="deepseek_ref"):
        read_config({"model_type": "deepseek_ref"})


def test_code_of_the_repository_with_another_class_is_flagged() -> None:
    """As jinaai/jina-embeddings-v3 would be, were its adapters on RoBERTa."""
    auto_map = {"AutoModel": "modeling_lora.RobertaLoRA"}
    named = {"model_type": "roberta", "architectures": ["RobertaModel"]}
    found = read_config(named | {"auto_map": auto_map, "lora_adaptations": ["separation"]})
    assert not found.exact
    assert [text.split()[0] for text in found.warnings[:2]] == ["auto_map", "lora_adaptations"]
    assert read_config(named | {"auto_map": {"AutoModel": "modeling.RobertaModel"}}).exact
    assert read_config(named | {"auto_map": {"AutoModelForMaskedLM": "modeling.Another"}}).exact
    assert read_config(named | {"auto_map": ["no object"], "lora_adaptations": []}).exact


@pytest.mark.parametrize(
    "part",
    [
        {"visual": {"layers": 48}},
        {"vision_config": {"hidden_size": 8}},
        {"num_experts": 8},
        {"mm_vision_tower": "clip"},
        {"llm_config": {"hidden_size": 8}},
    ],
)
def test_parts_that_nothing_reads_are_flagged(part: dict[str, Any]) -> None:
    found = read_config(TINY | part)
    assert not found.exact
    assert f"{next(iter(part))} is not known" in found.warnings[0]
    assert read_config(TINY | dict.fromkeys(part)).exact
    assert read_config(TINY | {"num_experts": 1}).exact
    assert read_config({"model_type": "mixtral", "num_local_experts": 4, "num_experts": 4}).exact


def test_sizes_in_another_place_than_the_librarys_are_flagged() -> None:
    """Authors' first files have all in an object of another name, which the library's class does not read."""
    sizes = {"text_config": {"hidden_size": 2048}, "audio_config": {"d_model": 1024}}
    found = read_config({"model_type": "qwen3_asr", "dtype": "bfloat16", "talker_config": sizes})
    assert not found.exact
    assert "talker_config is not known" in found.warnings[0]
    assert read_config({"model_type": "qwen3_asr", "dtype": "bfloat16", **sizes}).exact


@pytest.mark.parametrize(("name", "scores"), [("Qwen2ForRewardModel", 1), ("Qwen2ForProcessRewardModel", 2)])
def test_two_matrices_of_qwens_reward_models(name: str, scores: int) -> None:
    qwen = {"model_type": "qwen2", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    body, judge = (read_config(qwen | {"architectures": [one]}) for one in ("Qwen2Model", name))
    assert judge.exact
    assert judge.parameters - body.parameters == 64 * 64 + 64 + scores * 64 + scores


def test_positions_that_todays_class_has_no_more_are_flagged() -> None:
    bert = {"model_type": "bert", "architectures": ["BertModel"]}
    assert read_config(bert | {"position_embedding_type": "absolute"}).exact
    assert "position_embedding_type" in read_config(bert | {"position_embedding_type": "relative_key"}).warnings[0]


def test_mpt_whose_heads_share_keys() -> None:
    """`Wqkv` of replit/replit-code-v1_5-3b: 24 heads and 8 pairs of keys and values."""
    config = {"model_type": "mpt", "architectures": ["MPTForCausalLM"], "d_model": 3072, "n_heads": 24, "n_layers": 2}
    shared = {"attn_config": {"attn_type": "grouped_query_attention", "kv_n_heads": 8}}
    architecture = read_config(config | shared)
    assert [t.shape for t in architecture.stacks[0].blocks[0].layout.tensors if "Wqkv" in t.name] == [(5120, 3072)]
    assert read_config(config | {"attn_config": {"attn_type": "multiquery_attention"}}).stacks[0].kv_heads == 1
    with pytest.raises(UnsupportedArchitecture, match="qk_ln"):
        read_config(config | {"attn_config": {"qk_ln": True}})
