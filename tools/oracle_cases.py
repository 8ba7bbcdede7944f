"""What tools/oracle.py tries beside single changes of a class's default config."""

from __future__ import annotations

from typing import Any

BASE: dict[str, dict[str, Any]] = {
    "vision-encoder-decoder": {
        "encoder": {"model_type": "vit", "num_hidden_layers": 3},
        "decoder": {"model_type": "trocr", "decoder_layers": 3, "d_model": 512, "cross_attention_hidden_size": 768},
    },
    "videomae": {
        "image_size": 32,
        "num_frames": 4,
        "hidden_size": 48,
        "num_attention_heads": 4,
        "intermediate_size": 56,
        "num_hidden_layers": 3,
        "decoder_hidden_size": 32,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 40,
        "decoder_num_hidden_layers": 2,
    },
    "aya_vision": {
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_attention_heads": 16,
            "num_hidden_layers": 5,
            "vision_use_head": False,
        },
        "text_config": {"model_type": "cohere2", "num_hidden_layers": 5},
    },
    "esm": {"num_hidden_layers": 5, "vocab_size": 33},
    "wav2vec2-bert": {"num_hidden_layers": 5, "vocab_size": 32},
    "wav2vec2-conformer": {"num_hidden_layers": 5, "vocab_size": 32},
    "gpt_neo": {"num_layers": 4, "attention_types": [[["global", "local"], 2]]},
    "lfm2_moe": {"num_hidden_layers": 5, "layer_types": ["conv", "full_attention", "conv", "conv", "full_attention"]},
    "zamba2": {
        "num_hidden_layers": 6,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid", "hybrid", "mamba"],
    },
    "zamba": {
        "num_hidden_layers": 7,
        "layers_block_type": [
            "linear_attention",
            "linear_attention",
            "hybrid",
            "linear_attention",
            "hybrid",
            "hybrid",
            "linear_attention",
        ],
    },
    "gemma3n_text": {"num_hidden_layers": 7, "num_kv_shared_layers": 1},
    "hunyuan_v1_dense": {"num_hidden_layers": 4, "head_dim": 128},
    "ministral": {"num_hidden_layers": 4, "head_dim": 128},
    "dbrx": {
        "n_layers": 4,
        "attn_config": {"kv_n_heads": 4, "rope_theta": 10000.0},
        "ffn_config": {"moe_num_experts": 6},
    },
    "dots1": {
        "num_hidden_layers": 4,
        "n_routed_experts": 6,
        "n_shared_experts": 2,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
    },
    "hunyuan_v1_moe": {"num_hidden_layers": 4, "head_dim": 128},
    "nemotron": {"num_hidden_layers": 4, "head_dim": 128, "num_key_value_heads": 8},
}
"""A shallow config to change, for types whose default config cannot be built or cannot be cut by its layer count."""

LAYERS = {"num_hidden_layers": 4}
EXTRA: dict[str, list[dict[str, Any]]] = {
    "vision-encoder-decoder": [
        {
            "encoder": {"model_type": name, "num_hidden_layers": 3, "hidden_size": 384, "num_attention_heads": 6},
            "decoder": {
                "model_type": writer,
                "decoder_layers": 3,
                "num_hidden_layers": 3,
                "add_cross_attention": True,
                "is_decoder": True,
            },
        }
        for name in ("vit", "deit", "beit", "dinov2")
        for writer in ("trocr", "mbart", "bart", "roberta", "bert")
    ]
    + [{"encoder": {"model_type": "swin"}, "decoder": {"model_type": "mbart", "decoder_layers": 2, "d_model": 1024}}],
    "gemma3n_text": [
        {"num_hidden_layers": 7, "num_kv_shared_layers": 2, "intermediate_size": [8, 9, 10, 11, 12, 13, 14]},
        {"num_hidden_layers": 12, "num_kv_shared_layers": 0, "altup_num_inputs": 2},
    ],
    "gemma4_text": [
        {**LAYERS, "layer_types": ["full_attention", "sliding_attention"] * 2},
        {**LAYERS, "layer_types": ["full_attention", "sliding_attention"] * 2, "global_head_dim": 96},
        {
            "num_hidden_layers": 12,
            "num_kv_shared_layers": 4,
            "use_double_wide_mlp": True,
            "attention_k_eq_v": True,
            "num_global_key_value_heads": 2,
        },
        {
            "num_hidden_layers": 12,
            "num_kv_shared_layers": 4,
            "use_double_wide_mlp": True,
            "enable_moe_block": True,
            "num_experts": 6,
            "top_k_experts": 2,
            "moe_intermediate_size": 77,
            "hidden_size_per_layer_input": 0,
        },
        {**LAYERS, "per_layer_config": {"1": {"head_dim": 80}, "3": {"head_dim": 96, "num_key_value_heads": 1}}},
        {**LAYERS, "num_global_key_value_heads": 1},
    ],
    "gemma4_unified_text": [
        {"num_hidden_layers": 12, "num_kv_shared_layers": 4, "use_double_wide_mlp": True, "attention_k_eq_v": True}
    ],
    "nemotron_h": [
        {"hybrid_override_pattern": "M*-E-M", "num_hidden_layers": 6},
        {"hybrid_override_pattern": "MEM*", "mamba_n_groups": 4, "mamba_d_conv": 7, "mamba_conv_bias": False},
        {"layers_block_type": ["mamba", "attention", "moe", "mlp", "mamba"]},
        {"layers_block_type": ["moe", "mlp"], "moe_latent_size": 96, "mlp_bias": True},
    ],
    "granitemoehybrid": [
        {**LAYERS, "layer_types": ["mamba", "attention", "mamba", "attention"]},
        {**LAYERS, "layers_block_type": ["mamba", "attention", "mamba", "attention"], "num_local_experts": 0},
    ],
    "bamba": [{**LAYERS, "attn_layer_indices": [1, 3]}],
    "jamba": [{**LAYERS, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 1}],
    "qwen3_next": [
        {**LAYERS, "layer_types": ["full_attention", "linear_attention", "linear_attention", "full_attention"]},
        {**LAYERS, "full_attention_interval": 2, "mlp_only_layers": [1]},
    ],
    "qwen3_5_text": [{**LAYERS, "full_attention_interval": 3}],
    "kimi_linear": [
        {
            **LAYERS,
            "linear_attn_config": {
                "full_attn_layers": [2],
                "kda_layers": [1, 3, 4],
                "head_dim": 96,
                "num_heads": 7,
                "short_conv_kernel_size": 3,
            },
            "first_k_dense_replace": 2,
        }
    ],
    "lfm2": [{**LAYERS, "full_attn_idxs": [2], "block_ff_dim": 777}, {**LAYERS, "layer_types": ["conv"] * 4}],
    "minimax": [{**LAYERS, "layer_types": ["linear_attention"] * 4}],
    "recurrent_gemma": [{**LAYERS, "block_types": ["attention", "recurrent"]}],
    "xlstm": [{**LAYERS, "weight_mode": "fused"}, {**LAYERS, "weight_mode": "fused", "use_bias": True}],
    "zamba2": [
        {
            "num_hidden_layers": 6,
            "layers_block_type": ["mamba", "hybrid", "hybrid", "hybrid", "hybrid", "hybrid"],
            "num_mem_blocks": 2,
            "use_shared_attention_adapter": True,
        }
    ],
    "axk1": [{**LAYERS, "first_k_dense_replace": 2, "moe_layer_freq": 2}],
    "doge": [{**LAYERS, "is_moe": True, "num_experts": 144}],
    "flint": [{**LAYERS, "mlp_only_layers": [2]}],
    "zamba": [{**LAYERS, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"]}],
    "dbrx": [
        {
            "n_layers": 3,
            "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4},
            "ffn_config": {"moe_num_experts": 3, "ffn_hidden_size": 77},
        }
    ],
}
"""Further configs: schedules and options that a change of one default cannot reach."""

SKIP: dict[str, tuple[str, ...]] = {
    "dbrx": ("hidden_size",),  # the library sizes the experts by d_model before it reads this spelling
    # the library derives the decoder's layers before it reads this spelling
    **dict.fromkeys(("t5", "mt5", "umt5", "longt5", "switch_transformers"), ("num_hidden_layers",)),
}
"""Other spellings not to try, with the reason."""
