"""Text encoders: what the class named in a config adds, and what sets relatives of BERT apart."""

from __future__ import annotations

from typing import Any

import pytest

from fastewq.architecture import Architecture
from fastewq.config import read_config
from fastewq.errors import InvalidConfig


def read(model_type: str, name: str, **fields: Any) -> Architecture:
    return read_config({"model_type": model_type, "architectures": [name], **fields})


def outside(architecture: Architecture) -> set[str]:
    return {group.path for group in architecture.outside}


@pytest.mark.parametrize(("name", "prefix"), [("BertModel", ""), ("BertForMaskedLM", "bert.")])
def test_path_of_a_block_follows_the_class(name: str, prefix: str) -> None:
    (stack,) = read("bert", name, num_hidden_layers=3).stacks
    assert [block.path for block in stack.blocks] == [f"{prefix}encoder.layer.{i}" for i in range(3)]
    assert (stack.name, stack.role, stack.norm) == ("encoder", "encoder", "layer")
    assert (stack.width, stack.heads, stack.kv_heads, stack.head_dim, stack.ffn_width) == (768, 12, 12, 64, 3072)


def test_published_size_of_bert_base() -> None:
    assert read("bert", "BertModel").parameters == 109_482_240


def test_pooler_only_where_the_class_has_one() -> None:
    assert "bert.pooler.dense" in outside(read("bert", "BertForSequenceClassification"))
    assert "bert.pooler.dense" not in outside(read("bert", "BertForTokenClassification"))


def test_head_is_the_embedding_unless_untied() -> None:
    tied = read("bert", "BertForMaskedLM")
    untied = read("bert", "BertForMaskedLM", tie_word_embeddings=False)
    assert untied.parameters - tied.parameters == 30522 * 768 + 30522


def test_labels_count_the_outputs() -> None:
    names = {str(i): f"L{i}" for i in range(9)}
    nine, two = (read("roberta", "RobertaForSequenceClassification", **f) for f in ({"id2label": names}, {}))
    assert nine.parameters - two.parameters == 7 * (768 + 1)


def test_shared_layers_of_albert_are_one_block() -> None:
    (stack,) = read("albert", "AlbertModel", num_hidden_layers=12).stacks
    assert [block.path for block in stack.blocks] == ["encoder.albert_layer_groups.0.albert_layers.0"]


def test_groups_of_albert_run_on() -> None:
    (stack,) = read("albert", "AlbertModel", num_hidden_groups=2, inner_group_num=2).stacks
    assert [block.index for block in stack.blocks] == [0, 1, 2, 3]


def test_first_block_of_modernbert_lacks_a_norm() -> None:
    (stack,) = read("modernbert", "ModernBertModel").stacks
    assert stack.blocks[1].layout.parameters - stack.blocks[0].layout.parameters == 768


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="hidden_size is 770; expected a multiple of the 12 attention heads"):
        read("bert", "BertModel", hidden_size=770)


def test_class_of_another_name_is_flagged() -> None:
    architecture = read("bert", "BertForSomethingElse")
    assert not architecture.exact
    assert "BertForSomethingElse" in architecture.warnings[0]
