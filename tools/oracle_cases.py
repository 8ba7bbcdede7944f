"""What tools/oracle.py tries beside single changes of a class's default config."""

from __future__ import annotations

from typing import Any

INDEXER = {
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 256,
    "indexer_budget": 2048,
    "indexer_compress_ratio": 16,
}

OMNI_TALKER = {
    "text_config": {"num_hidden_layers": 2, "shared_expert_intermediate_size": 56},
    "spatial_merge_size": 2,
}

GRANITE_SEES = {
    "vision_config": {"model_type": "clip_vision_model", "num_hidden_layers": 3},
    "text_config": {"model_type": "granite4_vision_text", "num_hidden_layers": 3},
    "downsample_rate": "4/8",
    "deepstack_layer_map": [[-1, 2], [-2, 1]],
}
PROJECTED = {
    "model_type": "parakeet_encoder",
    "num_hidden_layers": 2,
    "projection_hidden_size": 96,
    "projection_bias": False,
}
MINICPM = {"text_config": {"model_type": "qwen3_5_text", "num_hidden_layers": 4}}

LOOKS_AT_RESNET = {"model_type": "resnet", "out_features": ["stage2", "stage3", "stage4"], "depths": [1, 1, 2, 1]}

SEAMLESS = {
    "encoder_layers": 2,
    "decoder_layers": 3,
    "speech_encoder_layers": 2,
    "t2u_encoder_layers": 1,
    "t2u_decoder_layers": 2,
    "vocab_size": 99,
}

ROPE = {"rope_type": "default", "rope_theta": 10000.0}
COMPASS = {
    "num_hidden_layers": 3,
    "rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE},
}

ZOE_SEES = {"model_type": "beit", "num_hidden_layers": 3, "out_indices": [0, 1, 2, 3], "reshape_hidden_states": False}
ZOE_PLACES = {
    "bin_configurations": [
        {"name": "nyu", "n_bins": 64, "min_depth": 0.001, "max_depth": 10.0},
        {"name": "kitti", "n_bins": 48, "min_depth": 0.001, "max_depth": 80.0},
    ],
    "num_patch_transformer_layers": 2,
    "patch_transformer_hidden_size": 128,
    "patch_transformer_intermediate_size": 256,
    "patch_transformer_num_attention_heads": 4,
}
PRO_SEES = {"model_type": "dinov2", "num_hidden_layers": 2, "image_size": 384}
LW_SEES = {
    "model_type": "lw_detr_vit",
    "image_size": 64,
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "out_indices": [2, 4],
    "num_windows": 4,
}
RF_SEES = {"model_type": "rf_detr_dinov2", "num_hidden_layers": 4, "out_indices": [2, 4], "hidden_size": 96}
DIFFUSING = {"num_hidden_layers": 7, "num_experts": 4, "moe_intermediate_size": 96, "top_k_experts": 2}

FORECASTERS = ("time_series_transformer", "informer", "autoformer")

GPT2S = [{"model_type": "gpt2", "n_layer": 3, **change} for change in ({}, {"n_embd": 96, "n_head": 4})]
WRITES = {"model_type": "bert", "num_hidden_layers": 3, "is_decoder": True, "add_cross_attention": True}

PYRAMID = {"num_hidden_layers": 4, "pyramid_num_routed": [-1, -1, 4, 8]}
NOTE_TEXT = {"num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 8, "n_routed_experts": 4}
NOTE_SIDES = {
    "vision_config": {"model_type": "dots3_note_vision_encoder", **PYRAMID},
    "audio_config": {"model_type": "dots3_note_audio_encoder", "num_hidden_layers": 2},
}
BASE: dict[str, dict[str, Any]] = {
    "dots3_note_text": NOTE_TEXT,
    "dots3_note_vision_encoder": PYRAMID,
    "dots3_note": {"text_config": {"model_type": "dots3_note_text", **NOTE_TEXT}, **NOTE_SIDES},
    "encoder-decoder": {"encoder": {"model_type": "bert", "num_hidden_layers": 2}, "decoder": WRITES},
    **{name: {"prediction_length": 6} for name in FORECASTERS},
    "cohere_compass_text": COMPASS,
    "cohere_compass": {
        "text_config": {"model_type": "cohere_compass_text", **COMPASS},
        "vision_config": {"model_type": "cohere_compass_vision", "depth": 3},
    },
    "chameleon": {"num_hidden_layers": 3, "vocabulary_map": {"<image>": 8711}},
    "emu3": {
        "vocabulary_map": {"<image>": 151851, "<|extra_200|>": 151846},
        "text_config": {"model_type": "emu3_text_model", "num_hidden_layers": 3},
    },
    **dict.fromkeys(("seamless_m4t", "seamless_m4t_v2"), SEAMLESS),
    "deformable_detr": {"encoder_layers": 2, "decoder_layers": 3, "backbone_config": LOOKS_AT_RESNET},
    "mask2former": {
        "encoder_layers": 2,
        "decoder_layers": 3,
        "backbone_config": {
            "model_type": "swin",
            "depths": [1, 1, 2, 1],
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
        },
    },
    "maskformer": {
        "backbone_config": {"model_type": "swin", "depths": [1, 1, 2, 1]},
        "decoder_config": {"model_type": "detr", "decoder_layers": 2},
    },
    "moonshine_streaming": {
        "num_hidden_layers": 3,
        "num_key_value_heads": 4,
        "encoder_config": {"num_hidden_layers": 2, "sliding_windows": [[16, 4], [16, 0]]},
    },
    **{
        name: {
            "backbone_config": {
                "model_type": "dinov2",
                "num_hidden_layers": 3,
                "hidden_size": 96,
                "num_attention_heads": 4,
                "out_indices": [1, 2, 3],
                "reshape_hidden_states": False,
            }
        }
        for name in ("depth_anything", "prompt_depth_anything")
    },
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
    "qwen4_exp_text": {"num_hidden_layers": 5, **INDEXER},
    "qwen4_exp": {
        "vision_config": {"model_type": "qwen4_exp_vision", "depth": 5},
        "text_config": {"model_type": "qwen4_exp_text", "num_hidden_layers": 5, **INDEXER},
    },
    "qwen2_5_omni": {
        "thinker_config": {
            "text_config": {"model_type": "qwen2_5_omni_text", "num_hidden_layers": 2},
            "vision_config": {"model_type": "qwen2_5_omni_vision_encoder", "depth": 2},
            "audio_config": {"model_type": "qwen2_5_omni_audio_encoder", "encoder_layers": 2},
        },
        "talker_config": {"model_type": "qwen2_5_omni_talker", "num_hidden_layers": 2},
        "token2wav_config": {
            "dit_config": {"num_hidden_layers": 2},
            "bigvgan_config": {"upsample_rates": [5], "upsample_kernel_sizes": [11]},
        },
    },
    "qwen3_omni_moe": {
        "thinker_config": {
            "text_config": {"model_type": "qwen3_omni_moe_text", "num_hidden_layers": 2},
            "vision_config": {"model_type": "qwen3_omni_moe_vision_encoder", "depth": 2},
            "audio_config": {"model_type": "qwen3_omni_moe_audio_encoder", "encoder_layers": 2},
        },
        "talker_config": OMNI_TALKER,
    },
    "lw_detr": {"backbone_config": LW_SEES, "projector_scale_factors": [1.0]},
    "rf_detr": {"backbone_config": RF_SEES},
    "zoedepth": {"backbone_config": ZOE_SEES},
    "depth_pro": {f"{name}_model_config": PRO_SEES for name in ("image", "patch", "fov")},
    "diffusion_gemma_text": DIFFUSING,
    "diffusion_gemma": {
        "text_config": {"model_type": "diffusion_gemma_text", **DIFFUSING},
        "vision_config": {"model_type": "gemma4_vision", "num_hidden_layers": 3},
    },
    "qwen3_omni_moe_talker_text": {**OMNI_TALKER["text_config"]},
    "deepseek_ocr2": {
        "vision_config": {"sam_config": {"num_hidden_layers": 3}, "encoder_config": {"num_hidden_layers": 3}},
        "text_config": {"num_hidden_layers": 3, "mlp_layer_types": ["dense", "sparse", "sparse"]},
    },
    "deepseek_ocr2_text": {"num_hidden_layers": 3, "mlp_layer_types": ["dense", "sparse", "sparse"]},
    "hunyuan_vl_text": {"num_hidden_layers": 4, "head_dim": 128},
    "hunyuan_vl": {
        "vision_config": {"model_type": "hunyuan_vl_vision", "num_hidden_layers": 3},
        "text_config": {"model_type": "hunyuan_vl_text", "num_hidden_layers": 4, "head_dim": 128},
    },
    "granite4_vision": GRANITE_SEES,
    "molmo2": {
        "vision_config": {"model_type": "molmo2_vision", "num_hidden_layers": 3},
        "adapter_config": {"model_type": "molmo2_adapter", "vision_feature_layer": [2, 0]},
        "text_config": {"model_type": "molmo2_text", "num_hidden_layers": 3},
    },
    "nemotron_h_omni": {
        "vision_config": {"model_type": "radio", "num_hidden_layers": 3, "video_temporal_patch_size": 2},
        "text_config": {"model_type": "nemotron_h"},
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
DETECTORS = [
    {"encoder_layers": 2, "decoder_layers": 3, "backbone": "resnet18", "num_channels": 1},
    {"encoder_layers": 2, "decoder_layers": 3, "backbone": "resnet101", "dilation": True},
    {"encoder_layers": 2, "decoder_layers": 3, "use_timm_backbone": False, "num_labels": 7},
    {"encoder_layers": 2, "backbone_config": {"model_type": "resnet", "layer_type": "basic", "depths": [2, 1, 2, 1]}},
    {"encoder_layers": 2, "backbone_config": {"model_type": "timm_backbone", "backbone": "resnet34"}},
    {"encoder_layers": 2, "backbone_config": {"model_type": "resnet", "out_features": ["stage1", "stage3"]}},
    {"encoder_layers": 2, "backbone_config": {"model_type": "resnet", "out_indices": [2]}},
]
SHALLOW_DINO = {"model_type": "dinov2", "num_hidden_layers": 3, "out_indices": [1, 2], "reshape_hidden_states": False}
SAM2_TOWERS = [
    {
        "embed_dim_per_stage": [32, 64, 64],
        "blocks_per_stage": [2, 1, 3],
        "num_attention_heads_per_stage": [1, 2, 4],
        "window_size_per_stage": [4, 5, 6],
        "hidden_size": 32,
    },
    {"patch_kernel_size": [5, 3], "window_positional_embedding_background_size": [6, 8], "mlp_ratio": 2.3},
    {"blocks_per_stage": [1, 1, 2, 1], "window_size_per_stage": [3, 4, 5, 6], "hidden_size": 96},
]
RT_DETRS: list[dict[str, Any]] = [
    {"backbone_config": {"model_type": "rt_detr_resnet", **change}}
    for change in (
        {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512], "out_indices": [2, 3, 4]},
        {"layer_type": "basic", "downsample_in_first_stage": True, "out_indices": [1, 3, 4]},
        {"downsample_in_first_stage": True, "depths": [1, 2, 1, 3], "embedding_size": 32},
        {"embedding_size": 256, "out_features": ["stage1", "stage4"]},
    )
] + [
    {"num_feature_levels": 5, "decoder_n_levels": 5, "decoder_in_channels": [64, 96]},
    {"encode_proj_layers": [0, 2], "encoder_layers": 2, "hidden_expansion": 0.5},
    {"encoder_in_channels": [64, 96, 128, 256], "with_box_refine": False, "freeze_backbone_batch_norms": False},
]
DEFORMABLES: list[dict[str, Any]] = [
    {**BASE["deformable_detr"], "two_stage": two, "with_box_refine": refine, "tie_word_embeddings": ties, **change}
    for two, refine in ((False, False), (False, True), (True, True))
    for ties in (True, False)
    for change in ({}, {"num_feature_levels": 1}, {"num_feature_levels": 6})
]
SEES_SWIN: list[dict[str, Any]] = [
    {"backbone_config": {"model_type": "swin", **change}}
    for change in (
        {"embed_dim": 32, "num_heads": [1, 2, 4, 8], "depths": [1, 2, 1, 1], "out_indices": [2, 3, 4]},
        {"out_features": ["stage1", "stage2", "stage3", "stage4"], "window_size": 5, "depths": [1, 1, 1, 1]},
        {"out_indices": [1, 2, 3, 4], "mlp_ratio": 2.5, "depths": [1, 1, 2, 1], "use_absolute_embeddings": True},
    )
]
PYRAMIDS = [
    {"num_encoder_blocks": 3, "hidden_sizes": [16, 32, 64], "depths": [1, 2, 1], **change}
    for change in (
        {},
        {"num_attention_heads": [1, 2, 2, 8], "mlp_ratios": [3, 2, 5, 4], "qkv_bias": False},
        {"sequence_reduction_ratios": [4, 1, 2, 1], "sr_ratios": [4, 1, 2, 1], "num_attention_heads": [1, 2, 4, 8]},
        {"patch_sizes": [8, 3, 2, 2], "strides": [8, 2, 1, 2], "num_attention_heads": [1, 2, 4, 8]},
        {"linear_attention": True, "num_attention_heads": [1, 2, 4, 8], "num_channels": 1},
    )
]
SEES_RESNET = [
    {"backbone_config": {"model_type": "resnet", "depths": [1, 1, 2, 1], **change}}
    for change in (
        {"out_features": ["stage1", "stage2", "stage3", "stage4"]},
        {"layer_type": "basic", "hidden_sizes": [32, 64, 96, 128], "out_indices": [1, 2, 3, 4]},
    )
]
CODECS = [
    {"channel_multiplier": [1, 2, 2], "num_res_blocks": 1, "base_channels": 32},
    {"channel_multiplier": [2, 1, 3, 1], "base_channels": 64, "double_latent": True},
]
BRIDGES: dict[str, Any] = {
    "num_hidden_layers": 2,
    "contrastive_hidden_size": 96,
    "text_config": {"num_hidden_layers": 2},
    "vision_config": {"num_hidden_layers": 3},
}
EXTRA: dict[str, list[dict[str, Any]]] = {
    "dots3_note_text": [
        {**NOTE_TEXT, **change}
        for change in (
            {"use_dsa": False},
            {"use_sliding_window": False},
            {"layer_types": ["full_attention"] * 3 + ["sliding_attention"] * 3},
            {"layer_types": ["full_attention", "indexed_attention"] * 3, "use_dsa": False},
            {"layer_types": ["full_attention", "indexed_attention"] * 3, "per_layer_config": {"1": {"v_head_dim": 64}}},
            {"per_layer_config": {"2": {"kv_lora_rank": 256}}},
            {"first_k_dense_replace": 3, "moe_layer_freq": 2},
            {"moe_layer_freq": [0, 0, 1, 0, 1, 1]},
            {"moe_shared_expert_intermediate_size": 640, "n_shared_experts": 2},
            {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_q_lora_rank": 96},
            {"swa_kv_lora_rank": 64, "swa_v_head_dim": 96},
            {"swa_head_dim": 128, "swa_qk_nope_head_dim": 96},
            {"swa_head_dim": 160, "swa_qk_nope_head_dim": 96, "swa_qk_rope_head_dim": 64},
        )
    ],
    "dots3_note_vision_encoder": [
        {"num_hidden_layers": 42},
        {**PYRAMID, "embed_dim": 768, "num_heads": 12, "use_bias": True, "adapter_in_dim": 768},
        {"num_hidden_layers": 2, "mlp_layer_types": ["dense", "sparse"], "num_local_experts": 3},
        {
            "num_hidden_layers": 2,
            "mlp_layer_types": ["sparse", "sparse"],
            "per_layer_config": {"1": {"num_local_experts": 5}},
        },
        {**PYRAMID, "spatial_merge_size": 3, "adapter_merge_size": 3, "adapter_out_dim": 640},
    ],
    "dots3_note_audio_encoder": [
        {"whisper_config": {"d_model": 640, "encoder_layers": 2, "encoder_ffn_dim": 96}, "adapter_input_size": 640},
        {
            "num_hidden_layers": 5,
            "whisper_config": {"encoder_attention_heads": 10, "encoder_layers": 3, "num_mel_bins": 80},
            "whisper_adapter_out_dim": 96,
        },
        {"num_hidden_layers": 2, "adapter_output_size": 320, "downsample_hidden_size": 32},
    ],
    "dots3_note": [{**NOTE_TEXT, **NOTE_SIDES}, {**NOTE_TEXT, **NOTE_SIDES, "tie_word_embeddings": True}],
    "encoder-decoder": [
        {"encoder": {"model_type": reader, "num_hidden_layers": 2, **small}, "decoder": {**WRITES, **writer}}
        for reader in ("bert", "roberta", "xlm-roberta", "camembert")
        for small in ({}, {"hidden_size": 96, "num_attention_heads": 4})
        for writer in ({}, {"model_type": "roberta"}, {"tie_word_embeddings": False}, {"hidden_size": 384}, *GPT2S)
    ],
    "vitdet": [
        {**LAYERS, "use_relative_position_embeddings": True, "window_size": size, **change}
        for size in (0, 3)
        for change in (
            {"window_block_indices": [0, 2]},
            {"window_block_indices": [1], "residual_block_indices": [1, 3], "image_size": [64, 96]},
            {"residual_block_indices": [0], "pretrain_image_size": 64, "use_absolute_position_embeddings": False},
        )
    ],
    "resnet": [
        {"layer_type": "basic", "hidden_sizes": [16, 32, 64, 96], "depths": [1, 2, 1, 1]},
        {"downsample_in_first_stage": True, "embedding_size": 256, "num_channels": 1, "depths": [2, 1]},
        {
            "architectures": ["ResNetForImageClassification"],
            "num_labels": 9,
            "hidden_sizes": [32, 64],
            "depths": [1, 1],
        },
    ],
    **{
        name: [
            {"prediction_length": 6, "encoder_layers": 3, "distribution_output": output, **change}
            for output in ("student_t", "normal", "negative_binomial")
            for change in (
                {"context_length": 9, "lags_sequence": [1, 4], "input_size": 1},
                {"num_static_categorical_features": 2, "cardinality": [7, 200], "num_time_features": 3},
                {"num_static_categorical_features": 1, "cardinality": [7], "embedding_dimension": [5]},
                {"num_static_real_features": 2, "num_dynamic_real_features": 1, "distil": False},
            )
        ]
        for name in FORECASTERS
    },
    "hyperclovax_vision_v2": [
        {"text_config": LAYERS, "vision_config": {"model_type": name, "depth": 2, "hidden_size": 96, "num_heads": 4}}
        for name in ("qwen2_5_vl", "qwen2_5_vl_vision")
    ],
    "hrm_text": [
        {"num_hidden_layers": 9, "num_layers_per_stack": 3},
        {"num_hidden_layers": 2, "H_cycles": 3, "head_dim": 48, "num_key_value_heads": 2},
    ],
    "embedding_gemma2_text": [
        {**LAYERS, "layer_types": ["full_attention", "sliding_attention"] * 2},
        {"num_hidden_layers": 7, "global_head_dim": 96, "num_global_key_value_heads": 2},
        {"num_hidden_layers": 7, "sliding_window_pattern": 3},
        {**LAYERS, "per_layer_config": {"1": {"head_dim": 80}, "3": {"head_dim": 96, "num_key_value_heads": 1}}},
    ],
    "embedding_gemma2": [
        {
            "text_config": {"num_hidden_layers": 6},
            "vision_config": {"num_hidden_layers": 2},
            "audio_config": {"num_hidden_layers": 2},
        }
    ],
    "minicpm_ocr": [{**MINICPM, "merger_times": 2, "vision_config": {"num_hidden_layers": 2}}],
    **{
        name: [
            {"n_layers": 2, "architectures": [f"{prefix}{end}"], **change}
            for end in ("ForMultipleChoice", "ForSequenceClassification")
            for change in (
                {"summary_type": "mean", "num_labels": 5},
                {"summary_proj_to_labels": False},
                {"summary_use_proj": False},
            )
        ]
        + [{"n_layers": 2, "n_langs": 15, "use_lang_emb": use} for use in (True, False)]
        for name, prefix in (("xlm", "XLM"), ("flaubert", "Flaubert"))
    },
    "lxmert": [
        {"l_layers": 2, "r_layers": 1, "x_layers": 3, "architectures": ["LxmertForPreTraining"], **change}
        for change in (
            {"task_qa": False, "tie_word_embeddings": False},
            {"task_obj_predict": False},
            {"visual_feat_loss": False, "num_attr_labels": 7},
            {"visual_obj_loss": False, "visual_attr_loss": False},
        )
    ],
    "groupvit_vision_model": [
        {"depths": [2, 1, 1, 3], "num_group_tokens": [9, 7, 5, 0], "num_output_groups": [6, 5, 4, 3], **change}
        for change in ({}, {"assign_mlp_ratio": [1, 2.5]}, {"assign_mlp_ratio": [0.3, 3], "hidden_size": 96})
    ]
    + [{"depths": [1, 2], "num_group_tokens": [0, 5], "num_output_groups": [6, 5]}],
    "bridgetower": [
        {**BRIDGES, **change}
        for change in (
            {"architectures": ["BridgeTowerForContrastiveLearning"]},
            {"architectures": ["BridgeTowerForMaskedLM"], "tie_word_embeddings": True},
            {"link_tower_type": "scaled_add", "share_link_tower_layers": True},
            {"link_tower_type": "interpolate", "share_cross_modal_transformer_layers": False},
            {"vision_config": {"num_hidden_layers": 3, "remove_last_layer": True, "share_layernorm": False}},
            {"vision_config": {"num_hidden_layers": 1, "hidden_size": 128, "image_size": 64}},
        )
    ],
    "flava": [
        {"architectures": ["FlavaForPreTraining"], "image_codebook_config": {"hidden_size": 32, **change}, **outer}
        for change, outer in (
            ({}, {"tie_word_embeddings": False}),
            ({"num_blocks_per_group": 3, "input_channels": 1}, {"hidden_size": 64}),
            ({"vocab_size": 99}, {"init_codebook": False}),
        )
    ],
    "chameleon_vqgan": [
        *CODECS,
        {"attn_resolutions": [512, 64]},
        {"attn_resolutions": [512, 64], "attn_type": "none"},
        {"attn_resolutions": [128], "num_res_blocks": 3, "resolution": 256},
    ],
    "emu3_vqgan": [
        *CODECS,
        {"attn_resolutions": [0, 2]},
        {"attn_resolutions": [], "temporal_downsample_factor": 8},
    ],
    "janus_vqgan": CODECS,
    "mimi": [
        {"num_hidden_layers": 2, **change}
        for change in (
            {"upsampling_ratios": [4, 2]},
            {"upsampling_ratios": [7, 3], "num_residual_layers": 2, "use_conv_shortcut": True},
            {"frame_rate": 12.5},
            {"upsample_groups": 256, "vector_quantization_hidden_dimension": 512},
        )
    ],
    "csm": [
        {**LAYERS, "tie_codebooks_embeddings": ties, "depth_decoder_config": {"num_hidden_layers": 2, **change}}
        for ties, change in ((False, {}), (False, {"hidden_size": 512}), (True, {"hidden_size": 512, "vocab_size": 99}))
    ],
    "moshi": [
        {**LAYERS, "depth_decoder_config": {"num_hidden_layers": 2, **change}, **outer}
        for change, outer in (
            ({}, {"hidden_size": 512}),
            ({"hidden_size": 64, "num_codebooks": 3}, {"num_codebooks": 5, "vocab_size": 99}),
            ({"num_codebooks": 3}, {"audio_vocab_size": 77}),
            ({"audio_vocab_size": 55, "input_size": 77}, {"audio_encoder_config": {"codebook_size": 66}}),
            ({"ffn_dim": 88, "num_key_value_heads": 4}, {"num_codebooks": 1}),
        )
    ],
    "mask2former": SEES_SWIN
    + SEES_RESNET
    + [
        {"encoder_layers": 2, "decoder_layers": 3, **change}
        for change in (
            {"feature_size": 64, "mask_feature_size": 96},
            {"enforce_input_projection": True, "feature_strides": [4, 8, 16, 64]},
            {"common_stride": 2},
            {"feature_strides": [4, 4, 8, 16]},
        )
    ],
    "maskformer": SEES_SWIN
    + SEES_RESNET
    + [
        {"decoder_config": {"model_type": "detr", "decoder_layers": 2, "d_model": 64, "decoder_ffn_dim": 99}},
        {"decoder_config": {"decoder_layers": 2, "d_model": 1024, "num_queries": 7}, "mask_feature_size": 96},
        {"fpn_feature_size": 96, "decoder_config": {"decoder_layers": 1}},
    ],
    **dict.fromkeys(("pvt", "pvt_v2"), PYRAMIDS),
    "hiera": [
        {"depths": [1, 2, 1], "num_heads": [1, 2, 4], "embed_dim": 32, "architectures": [name], **change}
        for name in ("HieraModel", "HieraBackbone", "HieraForImageClassification")
        for change in (
            {"masked_unit_attention": [True, False, False]},
            {"masked_unit_attention": [True, False, False], "patch_size": [5, 3], "image_size": [64, 96]},
            {"masked_unit_attention": [True, False, False], "embed_dim_multiplier": 1.5, "out_features": ["stage1"]},
            {"masked_unit_attention": [True, False, False], "mlp_ratio": 2.3, "out_indices": [0, 2]},
        )
    ],
    "rt_detr": RT_DETRS,
    "rt_detr_v2": RT_DETRS,
    "deformable_detr": DEFORMABLES,
    "grounding-dino": SEES_SWIN
    + [
        {"encoder_layers": 2, "decoder_layers": 3, "decoder_bbox_embed_share": shared, "tie_word_embeddings": ties}
        for shared in (True, False)
        for ties in (True, False)
    ],
    "mm-grounding-dino": SEES_SWIN,
    "sam2_hiera_det_model": SAM2_TOWERS,
    "sam2_vision_model": [{"backbone_config": tower, "backbone_channel_list": [64, 48]} for tower in SAM2_TOWERS],
    **{
        name: [{"vision_config": {"backbone_config": tower, "fpn_hidden_size": 64}} for tower in SAM2_TOWERS]
        + [
            {"prompt_encoder_config": {"mask_input_channels": 24, "num_point_embeddings": 5, "hidden_size": 64}},
            {"mask_decoder_config": {"num_hidden_layers": 4, "attention_downsample_rate": 4, "mlp_dim": 99}},
            {"mask_decoder_config": {"num_multimask_outputs": 5, "iou_head_depth": 4, "iou_head_hidden_dim": 33}},
        ]
        for name in ("sam2", "sam2_video")
    },
    "vits": [
        {
            "num_hidden_layers": 2,
            "num_speakers": 4,
            "speaker_embedding_size": 16,
            "use_stochastic_duration_prediction": s,
        }
        for s in (True, False)
    ],
    "bark": [
        {"semantic_config": {"num_layers": 2, "hidden_size": 96, "num_heads": 4, "bias": False}},
        {"coarse_acoustics_config": {"num_layers": 3, "input_vocab_size": 77, "output_vocab_size": 66}},
        {"fine_acoustics_config": {"num_layers": 1, "hidden_size": 60, "bias": False, "block_size": 99}},
        {"fine_acoustics_config": {"n_codes_total": 5, "n_codes_given": 2}},
    ],
    "timesformer": [{"num_hidden_layers": 3, "attention_type": kind} for kind in ("space_only", "joint_space_time")],
    "dpt": [
        {"backbone_config": {**SHALLOW_DINO, "hidden_size": 96, "num_attention_heads": 4}, "readout_type": "ignore"},
        {"backbone_config": {**SHALLOW_DINO, "hidden_size": 96, "num_attention_heads": 4}},
        {"backbone_config": {"model_type": "beit", "num_hidden_layers": 3, "out_indices": [1, 2]}},
        {"backbone_config": {"model_type": "swinv2", "out_features": ["stage1", "stage2"]}, "add_projection": True},
        {"num_hidden_layers": 3, "use_batch_norm_in_fusion_residual": True, "reassemble_factors": [1, 2, 0.5, 8]},
    ],
    "depth_anything": [
        {"backbone_config": {"model_type": "dinov2_with_registers", "num_hidden_layers": 3, "out_indices": [1, 2]}}
    ],
    **dict.fromkeys(("detr", "table-transformer", "conditional_detr"), DETECTORS),
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
        for writer in ("trocr", "mbart", "bart", "roberta", "bert", "gpt2")
    ]
    + [
        {"encoder": {"model_type": name}, "decoder": {"model_type": "mbart", "decoder_layers": 2, "d_model": 1024}}
        for name in ("swin", "donut-swin")
    ]
    + [
        {
            "encoder": {"model_type": "donut-swin", "embed_dim": 64, "depths": [1, 2], "num_heads": [2, 4]},
            "decoder": {"model_type": "mbart", "decoder_layers": 2, "d_model": 1024, "add_cross_attention": True},
        }
    ],
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
    "lfm2": [
        {**LAYERS, "full_attn_idxs": [2], "block_ff_dim": 777},
        {**LAYERS, "layer_types": ["conv"] * 4},
        {**LAYERS, "tie_embedding": False},
    ],
    "lfm2_moe": [{**BASE["lfm2_moe"], "tie_embedding": False}],
    "videomae": [
        {**BASE["videomae"], "qkv_bias": False},
        {**BASE["videomae"], "qkv_bias": True, "qv_bias": False},
    ],
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
    **{
        f"{name}_ocr{end}": [
            {
                "vision_config": {"sam_config": sam, "encoder_config": {"num_hidden_layers": 2, **encoder}},
                "text_config": {"num_hidden_layers": 2, "mlp_layer_types": ["dense", "sparse"], **text},
            }
            for sam, encoder, text in (
                ({"mlp_dim": 99}, {"hidden_size": 768}, {"n_shared_experts": 3}),
                ({"downsample_channels": [12, 24, 36]}, {"intermediate_size": 99}, {"moe_intermediate_size": 55}),
                ({"window_size": 0, "mlp_ratio": 2.5}, {"num_attention_heads": 8}, {"mlp_bias": True}),
                ({"hidden_size": 384, "image_size": 512}, {"num_key_value_heads": 4}, {"head_dim": 24}),
                ({"global_attn_indexes": [1]}, {"head_dim": 24}, {"hidden_size": 640, "num_experts": 5}),
                ({"use_abs_pos": False, "qkv_bias": False}, {"patch_size": 28}, {"vocab_size": 99}),
                ({"use_rel_pos": False, "output_channels": 24}, {"image_size": 448}, {"num_key_value_heads": 2}),
            )
        ]
        for name, end in (("deepseek", "2"), ("unlimited", ""))
    },
    "unlimited_ocr_text": [{**LAYERS, "first_k_dense_replace": 0}, {**LAYERS, "first_k_dense_replace": 2}],
    "muse_spark": [
        {
            "text_config": {"num_hidden_layers": 2},
            "vision_config": {"num_hidden_layers": 2},
            "audio_config": {
                "num_hidden_layers": 2,
                "patch_sizes": [5, 3],
                "hidden_sizes": [64, 96],
                "depths": [1, 3],
                **change,
            },
        }
        for change in ({}, {"mlp_ratio": 2.3}, {"conv_kernel_size": 3}, {"depths": [2, 1]})
    ],
    "muse_spark_text": [{**LAYERS, "mlp_layer_types": ["dense", "sparse", "dense", "sparse"]}],
    "inkling2_text": [
        {**LAYERS, "layer_types": ["hybrid", "hybrid_sliding", "hybrid_sliding", "hybrid"], **change}
        for change in ({}, {"head_dim": 64}, {"swa_num_attention_heads": 24}, {"num_key_value_heads": 4, "d_rel": 8})
    ]
    + [{"num_hidden_layers": 7}],
    "inkling_text": [
        {**LAYERS, "layer_types": ["hybrid", "hybrid_sliding", "hybrid_sliding", "hybrid"]},
        {**LAYERS, "local_layer_ids": [1, 3], "dense_mlp_idx": 2},
        {**LAYERS, "local_layer_ids": [], "dense_mlp_idx": 1, "dense_intermediate_size": 99, "intermediate_size": 77},
        {**LAYERS, "mlp_layer_types": ["sparse", "dense", "dense", "sparse"], "n_shared_experts": 3},
        {**LAYERS, "n_shared_experts": 0},
    ],
    "inkling_vision": [
        {"patch_size": size, "temporal_patch_size": frames, "num_hidden_layers": layers, "num_channels": channels}
        for size in (40, 32, 16, 28, 14, 30, 64)
        for frames in (1, 2, 3)
        for layers in (1, 2, 3, 4, 5, 6, 8, 24)
        for channels in (3, 1)
    ],
    "hunyuan_vl": [
        {**LAYERS, "head_dim": 64, "num_attention_heads": 8, "hidden_size": 256},
        {**LAYERS, "head_dim": 64, "tie_word_embeddings": False, "vocab_size": 99},
        {**LAYERS, "attention_head_dim": 64, "vision_config": {"num_hidden_layers": 2, "head_dim": 48}},
        {"tie_word_embeddings": False, "text_config": {**LAYERS, "head_dim": 64}},
        {"tie_word_embeddings": False, "text_config": {**LAYERS, "head_dim": 64, "tie_word_embeddings": False}},
        {"tie_word_embeddings": True, "text_config": {**LAYERS, "head_dim": 64, "tie_word_embeddings": False}},
    ],
    "granite4_vision": [
        {**GRANITE_SEES, **change}
        for change in (
            {"downsample_rate": "3/5"},
            {"deepstack_layer_map": [[-1, 2]]},
            {"deepstack_layer_map": []},
            {"qformer_config": {"num_hidden_layers": 2}},
            {"qformer_config": {"num_hidden_layers": 3, "intermediate_size": 99, "cross_attention_frequency": 2}},
            {"qformer_config": {"num_hidden_layers": 2, "use_qformer_text_input": True, "hidden_size": 99}},
            {"vision_config": {"model_type": "siglip_vision_model", "num_hidden_layers": 2}},
        )
    ],
    "molmo2": [
        {"vit_config": {"num_hidden_layers": 5}, "adapter_config": {"vit_layers": [-2, -4]}, "text_config": LAYERS},
        {"vit_config": {"num_hidden_layers": 5, "image_num_pos": 99}, "adapter_config": {"vit_layers": [1]}},
        {"vision_config": {"image_default_input_size": [56, 70], "image_patch_size": 7}, "text_config": LAYERS},
        {"vision_config": {"image_size": [56, 70]}, "text_config": {**LAYERS, "qk_norm_type": "olmo"}},
        {"text_config": {**LAYERS, "additional_vocab_size": 0, "qkv_bias": True}},
        {"vision_config": {"num_hidden_layers": 26}, "vit_config": {"num_hidden_layers": 7}, "text_config": LAYERS},
    ],
    "nemotron_h_omni": [
        {"audio_config": {**PROJECTED, **change}, "text_config": {"layers_block_type": ["mamba", "moe"]}}
        for change in (
            {},
            {"hidden_size": 512, "projection_bias": True},
            {"attention_bias": True},
            {"num_mel_bins": 128},
        )
    ]
    + [
        {"sound_config": PROJECTED, "llm_config": {"layers_block_type": ["mlp"]}, "vit_hidden_size": 96},
        {"llm_config": {"layers_block_type": ["mlp"], "num_nextn_predict_layers": 1}},
        {"llm_config": {"layers_block_type": ["mlp"]}, "text_config": {"layers_block_type": ["moe"]}},
        {"vit_hidden_size": 96, "vision_hidden_size": 64, "downsample_ratio": 0.3},
        {"vision_config": {"num_hidden_layers": 2, "use_swiglu_ffn": True, "video_temporal_patch_size": 2}},
        {"vision_config": {"num_hidden_layers": 2, "head_dim": 24, "video_temporal_patch_size": 2}},
    ],
    "radio": [{"num_hidden_layers": 2, "use_swiglu_ffn": True, "mlp_ratio": 3.1}],
    "lfm3_vl_vision": [{**LAYERS, "layer_types": ["conv", "full_attention", "full_attention", "conv"]}],
    "ernie4_5_vl_moe_text": [
        {**LAYERS, "moe_intermediate_size": [99, 33]},
        {**LAYERS, "moe_intermediate_size": [99, 33], "moe_num_shared_experts": 3, "use_bias": True},
        {**LAYERS, "mlp_layer_types": ["sparse", "dense", "dense", "sparse"], "moe_num_shared_experts": 0},
    ],
    "minicpmv4_6": [
        {**MINICPM, "merger_times": times, "vision_config": {"num_hidden_layers": 2, "window_kernel_size": window}}
        for times, window in ((2, [2, 3]), (3, [3, 3]), (0, [1, 2]))
    ],
    "minicpmv4_7": [{**MINICPM, "merger_times": 2}],
    "granite_docling": [
        {"density_router_hidden_size": 48},
        {"vision_config": {"use_fine_route": False, "deepstack_visual_indexes": [2, 3]}},
        {"vision_config": {"scale_factor": 6, "deepstack_visual_indexes": []}},
    ],
    "qwen3_omni_moe": [
        {"talker_config": {**OMNI_TALKER, "thinker_hidden_size": 64, "num_code_groups": 3}},
        {"talker_config": {**OMNI_TALKER, "code_predictor_config": {"num_code_groups": 5, "hidden_size": 48}}},
        {"talker_config": {**OMNI_TALKER, "code_predictor_config": {"head_dim": 48, "num_hidden_layers": 2}}},
        {"talker_config": {**OMNI_TALKER, "code_predictor_config": {"attention_bias": True, "vocab_size": 99}}},
        {"talker_config": {**OMNI_TALKER, "code_predictor_config": {"tie_word_embeddings": True}}},
        {"talker_config": {**OMNI_TALKER, "tie_word_embeddings": True}},
        *(
            {"talker_config": {**OMNI_TALKER, "text_config": {**OMNI_TALKER["text_config"], **change}}}
            for change in (
                {"hidden_size": 96},
                {"head_dim": 96},
                {"num_experts": 3},
                {"num_local_experts": 3},
                {"moe_intermediate_size": 24},
                {"intermediate_size": 24},
                {"mlp_only_layers": [0]},
                {"decoder_sparse_step": 2},
                {"attention_bias": True},
                {"tie_word_embeddings": True},
                {"vocab_size": 77},
                {"num_key_value_heads": 4},
            )
        ),
        *(
            {"talker_config": OMNI_TALKER, "code2wav_config": change}
            for change in (
                {"codebook_size": 99},
                {"hidden_size": 96},
                {"num_attention_heads": 8},
                {"num_key_value_heads": 4},
                {"attention_bias": True},
                {"intermediate_size": 77},
                {"num_hidden_layers": 3},
                {"num_quantizers": 5},
                {"upsample_rates": [4, 3]},
                {"upsampling_ratios": [3]},
                {"decoder_dim": 1000},
                {"head_dim": 40},
            )
        ),
    ],
    "qwen2_5_omni": [
        {
            "token2wav_config": {
                "dit_config": change,
                "bigvgan_config": {"upsample_rates": [3], "upsample_kernel_sizes": [7]},
            }
        }
        for change in (
            {
                "num_hidden_layers": 3,
                "enc_channels": [64, 32, 48, 96],
                "enc_kernel_sizes": [5, 3, 7, 3],
                "enc_dilations": [1] * 4,
            },
            {"enc_res2net_scale": 4, "enc_se_channels": 16},
            {"mel_dim": 40, "enc_dim": 24},
            {"enc_emb_dim": 24, "emb_dim": 12, "num_embeds": 99},
            {"head_dim": 24, "num_attention_heads": 3},
            {"ff_mult": 3, "hidden_size": 48, "enc_attention_channels": 7},
        )
    ]
    + [
        {"token2wav_config": {"dit_config": {"num_hidden_layers": 1}, "bigvgan_config": change}}
        for change in (
            {"mel_dim": 40},
            {"upsample_initial_channel": 99},
            {"resblock_kernel_sizes": [3, 5], "resblock_dilation_sizes": [[1, 3, 5]] * 2},
            {"upsample_rates": [4, 2], "upsample_kernel_sizes": [9, 5]},
        )
    ]
    + [{"thinker_config": {"text_config": {"num_hidden_layers": 2, "hidden_size": 56}}}],
    "qwen4_exp_text": [
        {**LAYERS, **INDEXER, "ple_layer_ids": [1, 3], "eos_token_id": 7, "ngram_vocab_size_base": 1000, **change}
        for change in ({}, {"ngram_size": 2}, {"ple_embed_dim": 64, "heads_per_ngram": 4}, {"ple_conv_kernel_size": 3})
    ]
    + [
        {
            **LAYERS,
            **INDEXER,
            "ple_layer_ids": [4, 2, 2],
            "eos_token_id": [7],
            "layer_types": ["full_attention", "linear_attention", "indexed_attention", "linear_attention"],
            "make_ngram_vocab_size_divisible_by": 37,
        },
        {**LAYERS, **INDEXER, "full_attention_interval": 2},
        {**LAYERS, **INDEXER, "ple_layer_ids": [1], "eos_token_id": 7},
    ],
    "glm5_next_text": [
        {**LAYERS, "layer_types": ["full_attention", "linear_attention", "indexed_attention", "linear_attention"]},
        {**LAYERS, "layer_types": ["full_attention"] * 4, "index_topk_freq": 2},
        {**LAYERS, "layer_types": ["full_attention"] * 4, "index_topk_pattern": "FSSF"},
        {**LAYERS, "linear_attn_config": {"head_dim": 32, "num_heads": 5, "short_conv_kernel_size": 3}},
    ],
    "mistral_large4_text": [
        {**LAYERS, "no_rope_layers": [0, 1, 1, 0]},
        {**LAYERS, "no_rope_layer_interval": 2},
        {**LAYERS, "kv_source_layers": [0, 0, 2, 2]},
        {**LAYERS, "kv_source_layers": [0, 0, 0, 3], "indexer_types": ["full", "shared", "full", "shared"]},
        {**LAYERS, "index_topk_freq": 2, "num_experts": 6},
    ],
    "axk1": [{**LAYERS, "first_k_dense_replace": 2, "moe_layer_freq": 2}],
    "axk2": [{**LAYERS, "first_k_dense_replace": 2, "moe_layer_freq": 2}],
    "doge": [{**LAYERS, "is_moe": True, "num_experts": 144}],
    "flint": [{**LAYERS, "mlp_only_layers": [2]}],
    "zamba": [{**LAYERS, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"]}],
    "zoedepth": [
        {"backbone_config": ZOE_SEES, **ZOE_PLACES, **change}
        for change in (
            {},
            {"bin_centers_type": "normed"},
            {"bin_embedding_dim": 100},
            {"bottleneck_features": 200},
            {"patch_transformer_hidden_size": 64},
            {"num_patch_transformer_layers": 3},
            {"patch_transformer_intermediate_size": 99},
            {"num_relative_features": 20},
            {"num_attractors": [4, 2]},
        )
    ]
    + [{"backbone_config": ZOE_SEES, "bin_centers_type": "normed"}],
    "depth_pro": [
        {**{f"{name}_model_config": PRO_SEES for name in ("image", "patch", "fov")}, "use_fov_model": True, **change}
        for change in (
            {},
            {"num_fov_head_layers": 1},
            {"num_fov_head_layers": 3, "fusion_hidden_size": 100},
            {"fov_model_config": {**PRO_SEES, "hidden_size": 96}},
            {"image_model_config": {**PRO_SEES, "patch_size": 16}},
            {"patch_model_config": {**PRO_SEES, "hidden_size": 96}},
            {"intermediate_feature_dims": [256, 128]},
            {"intermediate_feature_dims": [64], "intermediate_hook_ids": [1]},
        )
    ],
    "rag": [
        {"question_encoder": {"num_hidden_layers": 2, **asked}, "generator": {"encoder_layers": 2, **said}}
        for asked, said in (
            ({}, {}),
            ({"hidden_size": 96}, {"decoder_layers": 2}),
            ({"projection_dim": 24}, {"d_model": 96}),
            ({"vocab_size": 99}, {"vocab_size": 77}),
            ({"intermediate_size": 99}, {"encoder_ffn_dim": 99, "decoder_ffn_dim": 77}),
            ({"model_type": "dpr"}, {"model_type": "bart", "tie_word_embeddings": False}),
        )
    ]
    + [{"question_encoder": {"num_hidden_layers": 2}}, {"generator": {"max_position_embeddings": 99}}],
    "lw_detr": [
        {"backbone_config": {**LW_SEES, **change}, "projector_scale_factors": scales}
        for change in ({}, {"hidden_size": 768}, {"out_indices": [1, 2, 3]}, {"out_features": ["stage1"]})
        for scales in ([2.0], [0.5, 1.0], [2.0, 1.0, 0.5], [])
    ],
    "rf_detr": [
        {"backbone_config": {**RF_SEES, **change}}
        for change in ({"out_indices": [1, 2, 3]}, {"use_swiglu_ffn": True}, {"num_attention_heads": 6})
    ]
    + [{}, {"num_labels": 7}, {"num_feature_levels": 2}],
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
    **dict.fromkeys(
        ("t5", "mt5", "umt5", "longt5", "switch_transformers", "pop2piano", "udop"), ("num_hidden_layers",)
    ),
}
"""Other spellings not to try, with the reason."""
