"""Which class a config's `architectures` names, and what that changes."""

from __future__ import annotations

from typing import Any

import pytest

from fastewq.architectures.heads import ending
from fastewq.config import read_config
from fastewq.errors import InvalidConfig

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
