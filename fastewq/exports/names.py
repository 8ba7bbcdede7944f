"""The names that tools with names of their own give to modules: one table per tool, for all architectures.

A module's name within its block decides, whatever the model: the tables were traced with the tools themselves, by
`python tools/module_names.py`, for every model type listed here, and tests hold them to what it found.
"""

from __future__ import annotations

from typing import Final

_GGUF_TYPES: Final = """
    afmoe apertus arcee audioflamingo3 bamba bert bloom camembert cohere cohere2 cohere2_moe dbrx deepseek_v2
    deepseek_v3 deepseek_v32 distilbert dots1 dots_ocr Dream ernie4_5 ernie4_5_moe eurobert exaone4 exaone4_5 exaone_moe
    falcon falcon_h1 falcon_mamba gemma gemma2 gemma3 gemma3_text gemma3n_text gemma4 gemma4_text gemma4_unified glm
    glm4 glm4_moe glm4_moe_lite glm4v glm4v_moe glm5_next glm_moe_dsa glm_ocr gpt-sw3 gpt2 gpt_bigcode gpt_neox gpt_oss
    granite granite_swa granitemoe granitemoe_swa granitemoehybrid granitemoeshared hunyuan_v1_dense hunyuan_v1_moe
    hunyuan_vl hy_v3 idefics3 internlm2 internlm3 iquestcoder jais2 jamba jina_bert kimi_k2 kimi_linear kimi_vl laguna
    lfm2 lfm2_moe lfm2_vl llada llama llama4 llama4_text llava mamba mamba2 mellum mimo_v2_flash minicpm minicpm3
    minicpmv4_6 minimax_m2 minimax_m3_vl ministral3 mistral mistral3 mixtral modernbert mt5 muse_glimmer nemotron
    nemotron_h olmo olmo2 olmo3 olmoe openelm paddleocr_vl phi phi3 plamo2 qwen qwen2 qwen2_5_vl qwen2_audio qwen2_moe
    qwen2_vl qwen3 qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_asr qwen3_moe qwen3_next qwen3_omni_moe
    qwen3_vl qwen3_vl_moe qwen4_exp qwen4_exp_text roberta seed_oss smollm3 smolvlm solar_open stablelm stablelm_epoch
    starcoder2 step3p7 t5 umt5 voxtral xlm-roberta youtu
"""
GGUF: Final = frozenset(_GGUF_TYPES.split())
"""Model types that llama.cpp's converter turns into a GGUF file."""

GGUF_STACKS: Final = {"encoder.block": "enc.blk", "decoder.block": "dec.blk"}
"""Path of a stack -> what its GGUF blocks are called, where that is not `blk`."""

_GGUF_LEAVES: Final[dict[str, tuple[str, ...]]] = {
    "altup.correction_coefs": ("altup_correct_coef",),
    "altup.modality_router": ("altup_router",),
    "altup.prediction_coefs": ("altup_predict_coef",),
    "attention.dense": ("attn_output",),
    "attention.k_lin": ("attn_k",),
    "attention.out_lin": ("attn_output",),
    "attention.output.dense": ("attn_output",),
    "attention.q_lin": ("attn_q",),
    "attention.query_key_value": ("attn_qkv",),
    "attention.self.key": ("attn_k",),
    "attention.self.query": ("attn_q",),
    "attention.self.value": ("attn_v",),
    "attention.v_lin": ("attn_v",),
    "attention.wo": ("attn_output",),
    "attention.wqkv": ("attn_k", "attn_q", "attn_v"),
    "attn.Wo": ("attn_output",),
    "attn.Wqkv": ("attn_qkv",),
    "attn.c_attn": ("attn_qkv",),
    "attn.c_proj": ("attn_output",),
    "attn.out_proj": ("attn_output",),
    "attn.qkv_proj": ("attn_qkv",),
    "attn_hyper_connection.block_inject_weight": ("hc_attn_inject",),
    "attn_hyper_connection.input_mix_weight_down": ("hc_attn_down",),
    "attn_hyper_connection.input_mix_weight_up": ("hc_attn_up",),
    "attn_out": ("attn_output",),
    "block_sparse_moe.experts.down_proj": ("ffn_down_exps",),
    "block_sparse_moe.experts.gate_up_proj": ("ffn_gate_exps", "ffn_up_exps"),
    "block_sparse_moe.router": ("ffn_gate_inp",),
    "conv.in_proj": ("shortconv.in_proj",),
    "conv.out_proj": ("shortconv.out_proj",),
    "feed_forward.down_proj": ("ffn_down",),
    "feed_forward.experts.down_proj": ("ffn_down_exps",),
    "feed_forward.experts.gate_up_proj": ("ffn_gate_exps", "ffn_up_exps"),
    "feed_forward.gate": ("ffn_gate_inp",),
    "feed_forward.gate_proj": ("ffn_gate",),
    "feed_forward.router": ("ffn_gate_inp",),
    "feed_forward.shared_expert.down_proj": ("ffn_down_shexp",),
    "feed_forward.shared_expert.gate_proj": ("ffn_gate_shexp",),
    "feed_forward.shared_expert.up_proj": ("ffn_up_shexp",),
    "feed_forward.up_proj": ("ffn_up",),
    "feed_forward.w1": ("ffn_gate",),
    "feed_forward.w2": ("ffn_down",),
    "feed_forward.w3": ("ffn_up",),
    "ff_out": ("ffn_down",),
    "ff_proj": ("ffn_gate",),
    "ffn.experts.mlp.v1": ("ffn_up_exps",),
    "ffn.experts.mlp.w1": ("ffn_gate_exps",),
    "ffn.experts.mlp.w2": ("ffn_down_exps",),
    "ffn.lin1": ("ffn_up",),
    "ffn.lin2": ("ffn_down",),
    "ffn.proj_1": ("ffn_gate", "ffn_up"),
    "ffn.proj_2": ("ffn_down",),
    "ffn.router.layer": ("ffn_gate_inp",),
    "intermediate.dense": ("ffn_up",),
    "k_proj": ("attn_k",),
    "laurel.linear_left": ("laurel_l",),
    "laurel.linear_right": ("laurel_r",),
    "layer.0.SelfAttention.k": ("attn_k",),
    "layer.0.SelfAttention.o": ("attn_o",),
    "layer.0.SelfAttention.q": ("attn_q",),
    "layer.0.SelfAttention.v": ("attn_v",),
    "layer.1.DenseReluDense.wi": ("ffn_up",),
    "layer.1.DenseReluDense.wi_0": ("ffn_gate",),
    "layer.1.DenseReluDense.wi_1": ("ffn_up",),
    "layer.1.DenseReluDense.wo": ("ffn_down",),
    "layer.1.EncDecAttention.k": ("cross_attn_k",),
    "layer.1.EncDecAttention.o": ("cross_attn_o",),
    "layer.1.EncDecAttention.q": ("cross_attn_q",),
    "layer.1.EncDecAttention.v": ("cross_attn_v",),
    "layer.2.DenseReluDense.wi": ("ffn_up",),
    "layer.2.DenseReluDense.wi_0": ("ffn_gate",),
    "layer.2.DenseReluDense.wi_1": ("ffn_up",),
    "layer.2.DenseReluDense.wo": ("ffn_down",),
    "linear_attn.in_proj_a": ("ssm_alpha",),
    "linear_attn.in_proj_b": ("ssm_beta",),
    "linear_attn.in_proj_ba": ("ssm_ba",),
    "linear_attn.in_proj_qkv": ("attn_qkv",),
    "linear_attn.in_proj_qkvz": ("attn_gate", "attn_qkv"),
    "linear_attn.in_proj_z": ("attn_gate",),
    "linear_attn.out_proj": ("ssm_out",),
    "mamba.dt_proj": ("ssm_dt",),
    "mamba.in_proj": ("ssm_in",),
    "mamba.out_proj": ("ssm_out",),
    "mamba.x_proj": ("ssm_x",),
    "mixer.bcdt_proj": ("ssm_x",),
    "mixer.down_proj": ("ffn_down",),
    "mixer.dt_proj": ("ssm_dt",),
    "mixer.experts.down_proj": ("ffn_down_exps",),
    "mixer.experts.up_proj": ("ffn_up_exps",),
    "mixer.gate": ("ffn_gate_inp",),
    "mixer.in_proj": ("ssm_in",),
    "mixer.k_proj": ("attn_k",),
    "mixer.o_proj": ("attn_output",),
    "mixer.out_proj": ("ssm_out",),
    "mixer.q_proj": ("attn_q",),
    "mixer.qkv_proj": ("attn_qkv",),
    "mixer.shared_experts.down_proj": ("ffn_down_shexp",),
    "mixer.shared_experts.up_proj": ("ffn_up_shexp",),
    "mixer.up_proj": ("ffn_up",),
    "mixer.v_proj": ("attn_v",),
    "mixer.x_proj": ("ssm_x",),
    "mlp.Wi": ("ffn_up",),
    "mlp.Wo": ("ffn_down",),
    "mlp.c_fc": ("ffn_up",),
    "mlp.c_proj": ("ffn_down",),
    "mlp.dense_4h_to_h": ("ffn_down",),
    "mlp.dense_h_to_4h": ("ffn_up",),
    "mlp.down_layer": ("ffn_down",),
    "mlp.down_proj": ("ffn_down",),
    "mlp.experts.down_proj": ("ffn_down_exps",),
    "mlp.experts.gate_up_proj": ("ffn_gate_exps", "ffn_up_exps"),
    "mlp.fc1": ("ffn_up",),
    "mlp.fc2": ("ffn_down",),
    "mlp.gate": ("ffn_gate_inp",),
    "mlp.gate.wg": ("ffn_gate_inp",),
    "mlp.gate_proj": ("ffn_gate",),
    "mlp.gate_up_proj": ("ffn_up",),
    "mlp.gated_layers": ("ffn_up",),
    "mlp.router": ("ffn_gate_inp",),
    "mlp.router.gate": ("ffn_gate_inp",),
    "mlp.shared_expert.down_proj": ("ffn_down_shexp",),
    "mlp.shared_expert.gate_proj": ("ffn_gate_shexp",),
    "mlp.shared_expert.up_proj": ("ffn_up_shexp",),
    "mlp.shared_expert_gate": ("ffn_gate_inp_shexp",),
    "mlp.shared_experts.down_proj": ("ffn_down_shexp",),
    "mlp.shared_experts.gate_proj": ("ffn_gate_shexp",),
    "mlp.shared_experts.gate_up_proj": ("ffn_gate_shexp", "ffn_up_shexp"),
    "mlp.shared_experts.up_proj": ("ffn_up_shexp",),
    "mlp.shared_mlp.down_proj": ("ffn_down_shexp",),
    "mlp.shared_mlp.gate_proj": ("ffn_gate_shexp",),
    "mlp.shared_mlp.up_proj": ("ffn_up_shexp",),
    "mlp.up_gated_layer": ("ffn_up",),
    "mlp.up_proj": ("ffn_up",),
    "mlp.w1": ("ffn_up",),
    "mlp.w2": ("ffn_gate",),
    "mlp.wo": ("ffn_down",),
    "mlp_hyper_connection.block_inject_weight": ("hc_ffn_inject",),
    "mlp_hyper_connection.input_mix_weight_down": ("hc_ffn_down",),
    "mlp_hyper_connection.input_mix_weight_up": ("hc_ffn_up",),
    "norm_attn_norm.attn.Wqkv": ("attn_qkv",),
    "norm_attn_norm.attn.out_proj": ("attn_output",),
    "output.dense": ("ffn_down",),
    "per_layer_input_gate": ("inp_gate",),
    "per_layer_projection": ("proj",),
    "q_proj": ("attn_q",),
    "self_attention.dense": ("attn_output",),
    "self_attention.query_key_value": ("attn_qkv",),
    "self_attn.b_proj": ("ssm_beta",),
    "self_attn.dense": ("attn_output",),
    "self_attn.forget_gate.f_a_proj": ("ssm_f_a",),
    "self_attn.forget_gate.f_b_proj": ("ssm_f_b",),
    "self_attn.g_a_proj": ("ssm_g_a",),
    "self_attn.g_b_proj": ("ssm_g_b",),
    "self_attn.g_proj": ("attn_gate",),
    "self_attn.gate_proj": ("attn_gate",),
    "self_attn.indexer.index_qk_proj": ("indexer.k_proj", "indexer.q_proj"),
    "self_attn.indexer.k_proj": ("indexer.k_proj",),
    "self_attn.indexer.q_proj": ("indexer.q_proj",),
    "self_attn.indexer.weights_proj": ("indexer.proj",),
    "self_attn.indexer.wk": ("indexer.attn_k",),
    "self_attn.indexer.wq_b": ("indexer.attn_q_b",),
    "self_attn.k_proj": ("attn_k",),
    "self_attn.kv_a_proj_with_mqa": ("attn_kv_a_mqa",),
    "self_attn.kv_b_proj": ("attn_k_b", "attn_v_b"),
    "self_attn.o_proj": ("attn_output",),
    "self_attn.out_proj": ("attn_output",),
    "self_attn.q_a_proj": ("attn_q_a",),
    "self_attn.q_b_proj": ("attn_q_b",),
    "self_attn.q_proj": ("attn_q",),
    "self_attn.qkv_proj": ("attn_qkv",),
    "self_attn.v_proj": ("attn_v",),
    "shared_mlp.input_linear": ("ffn_gate_shexp", "ffn_up_shexp"),
    "shared_mlp.output_linear": ("ffn_down_shexp",),
    "up_proj": ("ffn_up",),
    "v_proj": ("attn_v",),
}
"""Module within a block -> its GGUF tensors within `blk.N`."""

_GGUF_OTHERWISE: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "granitemoe_swa": {"block_sparse_moe.experts.gate_up_proj": ("ffn_gate_up_exps",)},
    "minicpm3": {"self_attn.kv_b_proj": ("attn_kv_b",)},
    "minimax_m3_vl": {"mlp.gate_up_proj": ("ffn_gate", "ffn_up")},
}

_MLX_TYPES: Final = """
    afmoe apertus cohere cohere2 deepseek_v2 deepseek_v3 deepseek_v32 dots1 ernie4_5 ernie4_5_moe exaone4 exaone_moe
    falcon_h1 falcon_mamba gemma gemma2 gemma3 gemma3_text gemma4 gemma4_text glm glm4 glm4_moe glm4_moe_lite
    glm_moe_dsa gpt_neox gptj granite granitemoe granitemoehybrid helium hunyuan_v1_dense internlm3 iquestcoder jamba
    kimi_k2 laguna lfm2 lfm2_moe llama llama4 llava mamba mellum minimax_m2 minimax_m3_vl ministral3 mistral mistral3
    mistral4 mixtral nemotron nemotron_h olmo2 olmo3 olmoe phi phi3 qwen2 qwen2_5_vl qwen2_moe qwen2_vl qwen3 qwen3_5
    qwen3_moe qwen3_next qwen3_vl seed_oss smollm3 solar_open stablelm starcoder2
"""
MLX: Final = frozenset(_MLX_TYPES.split())
"""Model types that mlx-lm loads and whose names there are known."""

_MLX_STACKS: Final = {
    "model.language_model.layers": "language_model.model.layers",
    "gpt_neox.layers": "model.h",
    "transformer.h": "model.h",
}
_MLX_LEAVES: Final[dict[str, tuple[str, ...]]] = {
    "block_sparse_moe.experts.down_proj": ("block_sparse_moe.switch_mlp.down_proj",),
    "block_sparse_moe.experts.gate_up_proj": (
        "block_sparse_moe.switch_mlp.gate_proj",
        "block_sparse_moe.switch_mlp.up_proj",
    ),
    "feed_forward.experts.down_proj": ("feed_forward.switch_mlp.down_proj",),
    "feed_forward.experts.gate_up_proj": ("feed_forward.switch_mlp.gate_proj", "feed_forward.switch_mlp.up_proj"),
    "feed_forward.w1": ("feed_forward.gate_proj",),
    "feed_forward.w2": ("feed_forward.down_proj",),
    "feed_forward.w3": ("feed_forward.up_proj",),
    "mixer.experts.down_proj": ("mixer.switch_mlp.fc2",),
    "mixer.experts.up_proj": ("mixer.switch_mlp.fc1",),
    "mlp.experts.down_proj": ("mlp.switch_mlp.down_proj",),
    "mlp.experts.gate_up_proj": ("mlp.switch_mlp.gate_proj", "mlp.switch_mlp.up_proj"),
    "self_attn.kv_b_proj": ("self_attn.embed_q", "self_attn.unembed_out"),
    "model.language_model.embed_tokens": ("language_model.model.embed_tokens",),
    "model.language_model.embed_tokens_per_layer": ("language_model.model.embed_tokens_per_layer",),
    "model.language_model.per_layer_model_projection": ("language_model.model.per_layer_model_projection",),
    "gpt_neox.embed_in": ("model.embed_in",),
    "transformer.wte": ("model.wte",),
    "model.embeddings": ("backbone.embeddings",),
}
"""Module, within a block or outside all, -> its modules in mlx-lm; the same name where it is not listed."""

_UNSTACKED: Final[dict[str, tuple[str, ...]]] = {
    "mlp.experts.down_proj": ("mlp.experts.down_proj",),
    "mlp.experts.gate_up_proj": ("mlp.experts.gate_proj", "mlp.experts.up_proj"),
}
_HEAD: Final[dict[str, tuple[str, ...]]] = {"lm_head": ("language_model.lm_head",)}
_SPARSE: Final[dict[str, tuple[str, ...]]] = {
    "mlp.experts.down_proj": ("block_sparse_moe.switch_mlp.down_proj",),
    "mlp.experts.gate_up_proj": ("block_sparse_moe.switch_mlp.gate_proj", "block_sparse_moe.switch_mlp.up_proj"),
}
_MLX_OTHERWISE: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "afmoe": _UNSTACKED,
    "dots1": _UNSTACKED,
    "deepseek_v2": {"self_attn.kv_b_proj": ("self_attn.kv_b_proj",)},
    "gpt_neox": {"lm_head": ("model.embed_out",)},
    "laguna": {
        f"mlp.shared_experts.{name}": (f"mlp.shared_expert.{name}",) for name in ("gate_proj", "up_proj", "down_proj")
    },
    "lfm2": {f"feed_forward.{name}": (f"feed_forward.{name}",) for name in ("w1", "w2", "w3")},
    "llama4": {
        "feed_forward.experts.down_proj": ("feed_forward.experts.down_proj",),
        "feed_forward.experts.gate_up_proj": ("feed_forward.experts.gate_proj", "feed_forward.experts.up_proj"),
    },
    "llava": _HEAD,
    "minimax_m3_vl": _HEAD
    | _SPARSE
    | {
        "mlp.gate": ("block_sparse_moe.gate",),
        "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
        "mlp.shared_experts.down_proj": ("block_sparse_moe.shared_experts.down_proj",),
        "mlp.shared_experts.gate_up_proj": (
            "block_sparse_moe.shared_experts.gate_proj",
            "block_sparse_moe.shared_experts.up_proj",
        ),
        "self_attn.indexer.k_proj": ("self_attn.index_k_proj",),
        "self_attn.indexer.q_proj": ("self_attn.index_q_proj",),
    },
    "minimax_m2": _SPARSE | {"mlp.gate": ("block_sparse_moe.gate",)},
    "mistral3": _HEAD,
    "mixtral": _SPARSE,
    "qwen2_5_vl": _HEAD,
    "qwen2_vl": _HEAD,
    "qwen3_5": _HEAD,
    "qwen3_vl": _HEAD,
}

_GPTQMODEL_TYPES: Final = """
    afmoe apertus axk2 baichuan bailing_hybrid bailing_moe bloom chatglm codegen cohere cohere2 cohere2_moe
    cohere_compass dbrx deci deepseek_ocr2 deepseek_v2 deepseek_v3 deepseek_v32 deepseek_v4 deepseek_vl
    deepseek_vl_v2 diffusion_gemma dots1 ernie4_5 ernie4_5_moe ernie4_5_vl_moe exaone exaone4 exaone4_5 falcon
    falcon_h1 falcon_mamba gemma gemma2 gemma3 gemma3_text gemma3n gemma3n_text gemma4 gemma4_text gemma4_unified
    gemma4_unified_text glm glm4 glm4_moe glm4_moe_lite glm4v glm4v_moe glm4v_moe_text glm5_next glm_moe_dsa glm_ocr
    glmasr gpt2 gpt_bigcode gpt_neo gpt_neox gpt_oss gptj granite granitemoe granitemoehybrid hrm_text
    hunyuan_v1_dense hunyuan_v1_moe hunyuan_vl hy_v3 inkling_mm_model internlm internlm2 interns1 internvl
    internvl_chat jamba kimi_k2 kimi_k25 laguna lfm2 lfm2_moe lfm2_vl llada2_moe llama llama4 llama4_text llava
    locateanything longcat_flash mage_vl mimo minicpm minicpm3 minicpmo minicpmv minicpmv4_6 minimax minimax_m2
    minimax_m3_vl ministral3 mistral mistral3 mixtral mllama mllama_text_model mpt muse_glimmer nemotron-nas
    nemotron_h nemotron_labs_diffusion olmo2 olmo3 olmoe opt ouro ovis ovis2 ovis2_5 phi phi3 phi4mm phimoe qwen
    qwen2 qwen2_5_omni qwen2_5_vl qwen2_5_vl_text qwen2_audio qwen2_moe qwen2_vl qwen2_vl_text qwen3 qwen3_5
    qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next qwen3_omni_moe qwen3_vl qwen3_vl_moe qwen4_exp
    qwen4_exp_text seed_oss smollm3 smolvlm solar_open stablelm stablelm_epoch starcoder2 telechat voxtral xverse
    zamba zamba2
"""
GPTQMODEL: Final = frozenset(_GPTQMODEL_TYPES.split())
"""Model types that GPTQModel 7.7.0 has a definition of: `gptqmodel.models.auto.SUPPORTED_MODELS`."""

GPTQMODEL_LOSES: Final = frozenset(
    {"dbrx", "glmasr", "kimi_k25", "nemotron_h", "qwen2_5_omni", "qwen3_omni_moe", "voxtral"}
)
"""Those whose blocks the definition looks for elsewhere than transformers 5.23.0 has them, or not at all."""

_DENSE: Final = "mlp.gate_proj mlp.up_proj mlp.down_proj"
_GATES: Final = "linear_attn.in_proj_a linear_attn.in_proj_b"
_HYPER: Final = "attn_hyper_connection mlp_hyper_connection"
_GPTQMODEL_KEEPS: Final = {
    "afmoe": f"{_DENSE} mlp.shared_experts self_attn.gate_proj",
    "axk2": "input_layernorm.mlp post_attention_layernorm.mlp self_attn.indexer",
    "bailing_hybrid": (
        f"{_DENSE} self_attn.b_proj self_attn.forget_gate self_attn.g_proj self_attn.k_proj "
        "self_attn.kv_a_proj_with_mqa self_attn.kv_b_proj self_attn.o_proj self_attn.q_proj self_attn.v_proj"
    ),
    "cohere2_moe": "mlp.shared_experts",
    "deepseek_v32": "self_attn.indexer.weights_proj",
    "deepseek_v4": "self_attn.compressor self_attn.o_a_proj",
    "falcon_mamba": "mixer.dt_proj",
    "gemma3n_text": "altup laurel",
    "glm5_next": (
        "mlp.shared_experts self_attn.b_proj self_attn.forget_gate self_attn.g_a_proj self_attn.g_b_proj "
        "self_attn.indexer self_attn.kv_a_proj_with_mqa self_attn.q_a_proj"
    ),
    "glm_moe_dsa": "self_attn.indexer.weights_proj",
    "gpt2": "crossattention",
    "jamba": "mamba.dt_proj mamba.x_proj",
    "laguna": "self_attn.g_proj",
    "lfm2_moe": "self_attn.out_proj",
    **dict.fromkeys(("llama4", "llama4_text"), "feed_forward.gate_proj feed_forward.up_proj feed_forward.down_proj"),
    "minimax": "self_attn.out_proj self_attn.output_gate self_attn.qkv_proj",
    **dict.fromkeys(("minicpmv4_6", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text"), _GATES),
    "nemotron_h": "mixer.fc1_latent_proj mixer.fc2_latent_proj mixer.shared_experts",
    **dict.fromkeys(("qwen2_moe", "qwen3_moe", "qwen3_vl_moe"), _DENSE),
    "qwen3_next": f"{_DENSE} linear_attn.in_proj_ba",
    "qwen4_exp": f"{_GATES} {_HYPER} self_attn.indexer",
    "qwen4_exp_text": f"{_GATES} {_HYPER} self_attn.indexer ple",
    "zamba": "shared_transf",
    "zamba2": "shared_transformer",
}
GPTQMODEL_KEEPS: Final = {model_type: tuple(names.split()) for model_type, names in _GPTQMODEL_KEEPS.items()}
"""Model type -> modules in its blocks, each with all below it, that its definition in GPTQModel 7.7.0 does not list."""

_FALCON: Final = "self_attention.query_key_value self_attention.dense mlp.dense_h_to_4h mlp.dense_4h_to_h"
_OWN_LINEAR: Final = {
    "deepseek_v4": "self_attn.o_a_proj",
    **dict.fromkeys(("falcon", "RefinedWeb", "RefinedWebModel"), _FALCON),
}
OWN_LINEAR: Final = {model_type: tuple(names.split()) for model_type, names in _OWN_LINEAR.items()}
"""Model type -> modules in its blocks of a class made from PyTorch's linear one."""
NO_LINEAR: Final = frozenset({"ibert"})
"""Model types whose blocks have modules of their own in place of linear ones."""

_HEADS: Final = {
    "cls.predictions.decoder": (
        "bert big_bird blip_text_model deberta deberta-v2 ernie fnet layoutlm megatron-bert mobilebert mra nomic_bert "
        "nystromformer roc_bert roformer squeezebert tapas yoso"
    ),
    "decoder": "modernbert modernbert-decoder",
    "embed_out": "gpt_neox_japanese",
    "entity_predictions.decoder": "luke",
    "generator_lm_head": "convbert electra",
    "language_model.lm_head": "blip-2 instructblip instructblipvideo",
    "lm_head.decoder": (
        "camembert data2vec-text esm gte ibert jina_embeddings_v3 longformer mpnet roberta roberta-prelayernorm "
        "xlm-roberta xlm-roberta-xl xmod"
    ),
    "lm_head.out_proj": "t5gemma t5gemma2",
    "lm_loss": "xlnet",
    "mlm_score.decoder": "vilt",
    "output_projection": "biogpt trocr",
    "pred_layer.proj": "flaubert xlm",
    "predictions.decoder": "albert",
    "proj_out": "canary moonshine whisper",
    "text_decoder.cls.predictions.decoder": "blip",
    "text_model.lm_head": "kosmos-2 kosmos-2.5",
    "vocab_projector": "distilbert",
}
TIED_HEADS: Final = {model_type: path for path, types in _HEADS.items() for model_type in types.split()}
"""Model type -> the module of its head where that is the token embedding and is not called `lm_head`."""


def gguf_leaves(model_type: str) -> dict[str, tuple[str, ...]]:
    """Module within a block -> its GGUF tensors within `blk.N`, without `.weight`."""
    return _GGUF_LEAVES | _GGUF_OTHERWISE.get(model_type, {})


def mlx_paths(model_type: str, stack: str, name: str) -> tuple[str, tuple[str, ...]]:
    """Stack and modules in mlx-lm of a module `name` of `stack`, which is empty outside blocks."""
    leaves = _MLX_LEAVES | _MLX_OTHERWISE.get(model_type, {})
    renamed = "backbone.layers" if model_type == "nemotron_h" and stack else _MLX_STACKS.get(stack, stack)
    return renamed, leaves.get(name, (name,))
