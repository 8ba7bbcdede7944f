"""What the transformers library keeps per layer, for tests/data/kv_cache.json: run it where torch and transformers are.

python tools/kv_cache_sizes.py > tests/data/kv_cache.json

Each case is a small config; the model is built with random weights and run over TOKENS tokens. Recorded per layer: the
elements per token of keys and values, the tokens that were kept, and the elements of convolution and recurrent states.
"""

from __future__ import annotations

import json

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

TOKENS = 20
COMMON = {
    "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 4, "vocab_size": 64, "max_position_embeddings": 64,
}  # fmt: skip
GPT2 = {"n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 64, "vocab_size": 64}
DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4, "head_dim": 16,
}  # fmt: skip
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 32}
LATENT = {
    "kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16,
    "num_key_value_heads": 4, "num_experts_per_tok": 1, "moe_intermediate_size": 32, "n_group": 1,
    "num_expert_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
}  # fmt: skip
FEW = {"num_experts": 4, "num_experts_per_tok": 1}
INDEXER = {"index_head_dim": 16, "index_n_heads": 2, "index_topk": 8}
MIXED = ["full_attention", "linear_attention"] * 2
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}
CASES = {
    "llama": COMMON,
    "mistral": {**COMMON, "sliding_window": 8, "head_dim": 24},
    "mixtral": {**COMMON, "sliding_window": 8, "num_local_experts": 2},
    "qwen2": {**COMMON, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
    "qwen3": {**COMMON, "head_dim": 32},
    "gemma2": {**COMMON, "sliding_window": 8, "head_dim": 16},
    "gemma3_text": {**COMMON, "sliding_window": 8, "head_dim": 16, "num_hidden_layers": 7},
    "cohere2": {**COMMON, "sliding_window": 8},
    "gpt_oss": {**COMMON, "sliding_window": 8, "head_dim": 16, "num_local_experts": 2, "num_experts_per_tok": 1},
    "phi3": {**COMMON, "sliding_window": 8},
    "exaone4": {**COMMON, "sliding_window": 8},
    "olmo3": {**COMMON, "sliding_window": 8},
    "smollm3": COMMON,
    "starcoder2": {**COMMON, "sliding_window": 8},
    "gpt2": GPT2,
    "gpt_bigcode": {**GPT2, "multi_query": True},
    "falcon": {**COMMON, "multi_query": True, "new_decoder_architecture": False},
    "llama4_text": {
        **COMMON, "attention_chunk_size": 8, "head_dim": 16, "num_local_experts": 2, "intermediate_size_mlp": 96,
    },
    "qwen3_next": {**COMMON, **DELTA, **EXPERTS, "shared_expert_intermediate_size": 32},
    "qwen3_5_text": {**COMMON, **DELTA},
    "mamba": {**COMMON, "intermediate_size": 128, "state_size": 8},
    "mamba2": {**COMMON, "num_heads": 8, "head_dim": 16, "state_size": 8, "n_groups": 2, "expand": 2},
    "falcon_h1": {**COMMON, **MAMBA2, "mamba_d_ssm": 128, "head_dim": 16},
    "nemotron_h": {
        **COMMON, "hybrid_override_pattern": "M*M-", "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 8,
        "n_groups": 2, "head_dim": 16, "n_routed_experts": 2,
    },
    "jamba": {
        **COMMON, "mamba_d_state": 8, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2,
        "num_experts_per_tok": 1, "use_mamba_kernels": False,
    },
    "bamba": {**COMMON, **MAMBA2, "attn_layer_indices": [1]},
    "granitemoehybrid": {
        **COMMON, **MAMBA2, "layer_types": ["mamba", "attention", "mamba", "attention"], "num_local_experts": 2,
        "shared_intermediate_size": 32,
    },
    "lfm2": {**COMMON, "layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "bamba with derived heads": {**COMMON, **MAMBA2, "mamba_d_head": "auto", "attn_layer_indices": [1]},
    "zamba": {**COMMON, "layers_block_type": ["mamba", "hybrid"] * 2, "mamba_d_state": 8},
    "bailing_hybrid": {**COMMON, **LATENT, "layer_types": MIXED, **FEW},
    "kimi_linear": {**COMMON, **LATENT, "layer_types": MIXED, **FEW, "head_dim": 24},
    "olmo_hybrid": {**COMMON, "layer_types": MIXED},
    "zaya": {**COMMON, **FEW, "head_dim": 16},
    "inkling_text": {**COMMON, **FEW, "sliding_window_size": 8, "head_dim": 16, "n_routed_experts": 4},
    "doge": {**COMMON, "sliding_window": 8},
    "ministral3": {**COMMON, "sliding_window": 8, "head_dim": 16},
    "qwen2_moe": {**COMMON, "use_sliding_window": False, "sliding_window": 8, **FEW},
    "hrm_text": {**COMMON, "H_cycles": 2, "L_cycles": 3, "head_dim": 16},
    "deepseek_v3": {**COMMON, **LATENT, "n_routed_experts": 2},
    "deepseek_v32": {**COMMON, **LATENT, **INDEXER, "n_routed_experts": 2},
    "glm_moe_dsa": {**COMMON, **LATENT, **INDEXER, "n_routed_experts": 2},
    "deepseek_v4": {
        **COMMON, "head_dim": 16, "q_lora_rank": 24, "sliding_window": 8, "n_routed_experts": 2, "o_groups": 2,
        "o_lora_rank": 16, "num_experts_per_tok": 1, "moe_intermediate_size": 32, **INDEXER,
        "layer_types": [
            "sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention", "sliding_attention",
        ],
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8},
    },
    "minimax_m3_vl_text": {**COMMON, "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 1, **INDEXER},
}  # fmt: skip


def layer_record(layer: object) -> dict[str, int]:
    """An indexer's keys count with the keys; entries for several tokens are counted as elements kept after TOKENS."""
    fields = vars(layer)
    keys, values = fields.get("keys"), fields.get("values")
    attention = [t for t in (keys, values) if torch.is_tensor(t) and t.numel()]
    indexed = [t for t in [fields.get("indexer_keys")] if torch.is_tensor(t) and t.numel()]
    pooled = (fields.get("compressed_kv") or {}).values()
    states = [t for name in ("conv_states", "recurrent_states") for t in (fields.get(name) or {}).values()]
    return {
        "per_token": sum(t.numel() // t.shape[-2] for t in (*attention, *indexed)),
        "tokens": attention[0].shape[-2] if attention else 0,
        "pooled": sum(t.numel() for t in pooled if t is not None),
        "state": sum(t.numel() for t in states if torch.is_tensor(t)),
    }


def main() -> None:
    transformers.logging.set_verbosity_error()
    found = {}
    for name, fields in CASES.items():
        model_type = name.partition(" ")[0]
        config = AutoConfig.for_model(model_type, **fields, pad_token_id=0, bos_token_id=1, eos_token_id=2)
        model = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            answer = model(torch.arange(3, 3 + TOKENS)[None], use_cache=True)
        cache = getattr(answer, "past_key_values", None) or answer.cache_params
        found[name] = {"config": fields, "layers": [layer_record(layer) for layer in cache.layers]}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({"versions": versions, "tokens": TOKENS, "cases": found}, indent=1))


if __name__ == "__main__":
    main()
