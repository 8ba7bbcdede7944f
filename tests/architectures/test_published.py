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


def kimi_k3() -> dict[str, Any]:
    full = [*range(4, 93, 4), 93]
    text = {
        "model_type": "kimi_linear",
        "architectures": ["KimiLinearForCausalLM"],
        "vocab_size": 163840,
        "hidden_size": 7168,
        "intermediate_size": 33792,
        "moe_intermediate_size": 3072,
        "routed_expert_hidden_size": 3584,
        "latent_moe_use_norm": True,
        "num_hidden_layers": 93,
        "num_attention_heads": 96,
        "num_key_value_heads": 96,
        "num_experts": 896,
        "num_experts_per_token": 16,
        "num_shared_experts": 2,
        "first_k_dense_replace": 1,
        "moe_layer_freq": 1,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "mla_use_output_gate": True,
        "attn_res_block_size": 12,
        "linear_attn_config": {
            "num_heads": 96,
            "head_dim": 128,
            "short_conv_kernel_size": 4,
            "use_full_rank_gate": True,
            "full_attn_layers": full,
            "kda_layers": [i for i in range(1, 94) if i not in full],
        },
        "dtype": "bfloat16",
    }
    vision = {
        "patch_size": 14,
        "init_pos_emb_height": 64,
        "init_pos_emb_width": 64,
        "init_pos_emb_time": 4,
        "vt_hidden_size": 1024,
        "vt_intermediate_size": 4096,
        "vt_num_attention_heads": 12,
        "vt_num_hidden_layers": 27,
        "qkv_hidden_size": 1536,
        "norm_type": "rmsnorm",
        "attn_bias": False,
        "linear_bias": False,
        "patch_embed_proj_bias": False,
        "merge_kernel_size": [2, 2],
        "mm_hidden_size": 1024,
        "mm_projector_type": "patchmergerv2",
        "text_hidden_size": 7168,
    }
    named = {"model_type": "kimi_k3", "architectures": ["KimiK3ForConditionalGeneration"], "dtype": "bfloat16"}
    return named | {"text_config": text, "vision_config": vision}


def test_kimi_k3_has_what_its_files_have_without_their_padding() -> None:
    """Its page says 2,779,931,837,184: there `A_log` has 128 entries per layer, of which the 96 heads use 96."""
    architecture = read_config(kimi_k3())
    mixers = [block.layout.mixer for block in architecture.stacks[1].blocks]
    assert architecture.exact, architecture.warnings
    assert (mixers.count("linear_attention"), mixers.count("attention")) == (69, 24)
    assert architecture.parameters + 69 * (128 - 96) == 2_779_931_837_184


def test_text_model_of_kimi_k3_is_not_kimi_linear_whose_name_it_has() -> None:
    config = kimi_k3()
    whole, text = read_config(config), read_config(config["text_config"])
    blocks = [[b.layout.parameters for b in a.stacks[-1].blocks] for a in (whole, text)]
    assert blocks[0] == blocks[1]
    assert [group.path for group in text.outside if "attn_res" in group.path] == [
        "model.output_attn_res_norm",
        "model.output_attn_res_proj",
    ]


def test_longcat_flash_lite_is_half_n_gram_tables() -> None:
    """arXiv 2601.21204: 68.5B parameters, of them 31.4B in n-gram embeddings; the first figure is cut, not rounded."""
    sizes = {"hidden_size": 3072, "ffn_hidden_size": 6144, "expert_ffn_hidden_size": 1024, "num_layers": 14}
    sizes |= {"num_attention_heads": 32, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64}
    sizes |= {"qk_nope_head_dim": 128, "v_head_dim": 128, "n_routed_experts": 256, "zero_expert_num": 128}
    sizes |= {"vocab_size": 131072, "ngram_vocab_size_ratio": 78, "emb_neighbor_num": 4, "emb_split_num": 4}
    named = {"model_type": "longcat_flash_ngram", "architectures": ["LongcatFlashNgramForCausalLM"]}
    architecture = read_config(named | sizes | {"torch_dtype": "bfloat16"})
    tables = sum(t.parameters for group in architecture.outside if "embedders" in group.path for t in group.tensors)
    assert architecture.exact, architecture.warnings
    assert int(architecture.parameters / 1e8) == 685
    assert f"{tables / 1e9:.3g}" == "31.4"


def test_reward_model_of_internlm_has_one_score_instead_of_a_vocabulary() -> None:
    config = PUBLISHED["internlm2-1_8b"]["config"]
    body, judge = (read_config(config | {"architectures": [f"InternLM2{x}"]}) for x in ("Model", "ForRewardModel"))
    assert judge.exact
    assert judge.parameters - body.parameters == config["hidden_size"]
