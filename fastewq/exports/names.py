"""Module names per architecture in the tools that do not use the transformers library's own."""

from __future__ import annotations

from typing import Final

LLAMA_LINE: Final[dict[str, tuple[str, ...]]] = {
    "self_attn.q_proj": ("attn_q",),
    "self_attn.k_proj": ("attn_k",),
    "self_attn.v_proj": ("attn_v",),
    "self_attn.o_proj": ("attn_output",),
    "self_attn.qkv_proj": ("attn_qkv",),
    "mlp.gate_proj": ("ffn_gate",),
    "mlp.up_proj": ("ffn_up",),
    "mlp.gate_up_proj": ("ffn_up",),
    "mlp.down_proj": ("ffn_down",),
    "mlp.experts.gate_up_proj": ("ffn_gate_exps", "ffn_up_exps"),
    "mlp.experts.down_proj": ("ffn_down_exps",),
    "block_sparse_moe.experts.gate_up_proj": ("ffn_gate_exps", "ffn_up_exps"),
    "block_sparse_moe.experts.down_proj": ("ffn_down_exps",),
    "mlp.c_fc": ("ffn_up",),
    "mlp.c_proj": ("ffn_down",),
}
"""Module within a block -> its GGUF tensors within `blk.N`."""

GPT2: Final[dict[str, tuple[str, ...]]] = {
    "attn.c_attn": ("attn_qkv",),
    "attn.c_proj": ("attn_output",),
    "mlp.c_fc": ("ffn_up",),
    "mlp.c_proj": ("ffn_down",),
}
BERT: Final[dict[str, tuple[str, ...]]] = {
    "attention.self.query": ("attn_q",),
    "attention.self.key": ("attn_k",),
    "attention.self.value": ("attn_v",),
    "attention.output.dense": ("attn_output",),
    "intermediate.dense": ("ffn_up",),
    "output.dense": ("ffn_down",),
}

GGUF: Final[dict[str, tuple[str, dict[str, tuple[str, ...]]]]] = {
    "llama": ("llama", LLAMA_LINE),
    "mistral": ("llama", LLAMA_LINE),
    "mixtral": ("llama", LLAMA_LINE),
    "qwen2": ("qwen2", LLAMA_LINE),
    "qwen3": ("qwen3", LLAMA_LINE),
    "qwen3_moe": ("qwen3moe", LLAMA_LINE),
    "gemma": ("gemma", LLAMA_LINE),
    "gemma2": ("gemma2", LLAMA_LINE),
    "gemma3_text": ("gemma3", LLAMA_LINE),
    "phi3": ("phi3", LLAMA_LINE),
    "olmo2": ("olmo2", LLAMA_LINE),
    "starcoder2": ("starcoder2", LLAMA_LINE),
    "smollm3": ("smollm3", LLAMA_LINE),
    "granite": ("granite", LLAMA_LINE),
    "gpt2": ("gpt2", GPT2),
    "bert": ("bert", BERT),
}
"""model_type -> GGUF architecture and module names. A test compares them with the `gguf` package's own."""

MLX: Final = frozenset(
    {"llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "phi3", "olmo2"}
)
"""Model types whose mlx-lm module paths are the transformers library's, experts under `switch_mlp` apart."""
