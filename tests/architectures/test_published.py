"""Totals that the publishers' own checkpoints have, for configs written from published sizes.

`source` says where a total is published, if not on the page of the model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastewq.config import read_config

PUBLISHED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "configs" / "published.json").read_text("utf-8")
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_total_is_the_published_one(name: str) -> None:
    architecture = read_config(PUBLISHED[name]["config"])
    if "billions" in PUBLISHED[name]:  # the three digits on the page of the model
        assert f"{architecture.parameters / 1e9:.3g}" == f"{PUBLISHED[name]['billions']:.3g}"
    else:
        assert architecture.parameters == PUBLISHED[name]["parameters"]
    assert architecture.exact, architecture.warnings


def test_quantization_and_remote_code_do_not_change_counts() -> None:
    entry = PUBLISHED["Qwen2.5-7B"]
    extra = {
        "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128},
        "auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"},
    }
    assert read_config(entry["config"] | extra).parameters == entry["parameters"]


def test_arctic_is_ten_billion_beside_experts_of_3_66() -> None:
    """Snowflake's announcement: "a 10B dense transformer with a residual 128x3.66B MoE MLP"."""
    config = {"hidden_size": 7168, "intermediate_size": 4864, "num_hidden_layers": 35, "vocab_size": 32000}
    config |= {"num_attention_heads": 56, "num_key_value_heads": 8, "num_local_experts": 128}
    switches = {"moe_layer_frequency": 1, "parallel_attn_mlp_res": True, "torch_dtype": "bfloat16"}
    named = {"model_type": "arctic", "architectures": ["ArcticForCausalLM"]}
    architecture = read_config(named | config | switches)
    blocks = architecture.stacks[0].blocks
    experts = sum(t.parameters for block in blocks for t in block.layout.tensors if t.role == "experts")
    assert architecture.exact
    assert f"{experts / 128 / 1e9:.3g}" == "3.66"
    assert f"{(architecture.parameters - experts) / 1e9:.3g}" == "10"


def test_grok_2_is_not_git_whose_model_type_it_names() -> None:
    grok = read_config(PUBLISHED["grok-2"]["config"])
    assert grok.model_type == "grok"
    assert [stack.blocks[63].path for stack in grok.stacks] == ["model.layers.63"]
    assert read_config({"model_type": "git"}).model_type == "git"


def test_ovis_is_what_the_library_converts_it_to() -> None:
    """The library has Ovis 2 as `ovis2`, with other names for the same tensors."""
    ovis = PUBLISHED["Ovis2-8B"]["config"]
    tokenizer = ovis["visual_tokenizer_config"]
    tower = {name: value for name, value in tokenizer["backbone_config"].items() if name != "model_type"}
    tower |= {name: tokenizer[name] for name in ("vocab_size", "hidden_stride")}
    language = ovis["llm_config"]
    converted = {"model_type": "ovis2", "vision_config": tower, "text_config": language, "tie_word_embeddings": False}
    sizes = {name: language[name] for name in ("hidden_size", "vocab_size")}
    assert read_config(converted | sizes).parameters == read_config(ovis).parameters
