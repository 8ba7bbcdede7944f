"""Plans to export: small models of several families with explicit precisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastewq import plan_architecture, read_config
from fastewq.document import Plan
from fastewq.predictor import load_predictor

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 12,
    "vocab_size": 128,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}
BERT: dict[str, Any] = {
    "architectures": ["BertForMaskedLM"],
    "model_type": "bert",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "vocab_size": 128,
    "dtype": "float32",
}
GPT2: dict[str, Any] = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "n_embd": 128,
    "n_head": 4,
    "n_layer": 3,
    "vocab_size": 128,
    "n_positions": 64,
    "dtype": "float32",
}
MOE: dict[str, Any] = {
    **LLAMA,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "num_hidden_layers": 2,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
    "head_dim": 64,
}
OPT: dict[str, Any] = {
    "architectures": ["OPTForCausalLM"],
    "model_type": "opt",
    "hidden_size": 64,
    "word_embed_proj_dim": 64,
    "ffn_dim": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 128,
    "max_position_embeddings": 64,
    "dtype": "float16",
}
LLAVA: dict[str, Any] = {
    "architectures": ["LlavaForConditionalGeneration"],
    "model_type": "llava",
    "text_config": {key: value for key, value in LLAMA.items() if key not in ("architectures", "dtype")},
    "vision_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "image_size": 28,
        "patch_size": 14,
    },
    "dtype": "bfloat16",
}
GEMMA3: dict[str, Any] = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "text_config": {**LLAVA["text_config"], "model_type": "gemma3_text", "head_dim": 64, "num_hidden_layers": 2},
    "vision_config": {**LLAVA["vision_config"], "model_type": "siglip_vision_model"},
    "dtype": "bfloat16",
}
LATENT: dict[str, Any] = {
    **LLAMA,
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "num_key_value_heads": 4,
    "num_hidden_layers": 3,
    "q_lora_rank": 128,
    "kv_lora_rank": 256,
    "qk_nope_head_dim": 96,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 128,
    "first_k_dense_replace": 3,
}
"""Multi-head latent attention, whose heads have 96 keys without positions: no multiple of 64, nor of 256."""
PLANNED = ["0-11=int4", "0=raw", "1=int8", "5=int8", "10=raw"]

Planner = Callable[..., Plan]


@pytest.fixture(scope="session")
def planned() -> Planner:
    """A plan whose precisions are the overrides'; block 0 and 10 raw, 1 and 5 int8, the others int4 by default."""

    def make(config: dict[str, Any] = LLAMA, overrides: list[str] = PLANNED, **changes: Any) -> Plan:
        policy = {"name": "4bit-8bit-mixed", "overrides": overrides, **changes.pop("policy", {})}
        options = {name: changes.pop(name) for name in ("target", "memory") if name in changes}
        architecture = read_config({**config, **changes})
        blocks = sum(len(stack.blocks) for stack in architecture.stacks)
        even = np.full(blocks, 0.5)
        return plan_architecture(architecture, even, predictor=load_predictor(), policy=policy, **options)

    return make
