"""What the transformers library keeps per layer, for tests/data/kv_cache.json: run it where torch and transformers are.

python tools/kv_cache_sizes.py > tests/data/kv_cache.json

Each case is a small config; the model is built with random weights and run over TOKENS tokens. Recorded per layer: the
elements per token of keys and values (of the source too, where there is cross attention), the tokens that were kept,
and the elements of convolution and recurrent states. Where blocks have several layers of the cache, or run several
times, each layer names its block.

Each run is a whole model that sees, hears or reads more than text, as it generates: the elements it keeps in all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from unittest import mock

import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM
from transformers.cache_utils import Cache, EncoderDecoderCache

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
WINDOWS = {**COMMON, "sliding_window": 8, "num_hidden_layers": 7}
T5GEMMA = {**WINDOWS, "head_dim": 16}
SMALL_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
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
    # Windows that the config class derives, each with enough layers to show its pattern:
    "afmoe": {**WINDOWS, **FEW},
    "afmoe with another period": {**WINDOWS, **FEW, "global_attn_every_n_layers": 3},
    "beam": {**WINDOWS, **FEW, "head_dim": 16, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 32},
    "cohere2 with another period": {**WINDOWS, "sliding_window_pattern": 3},
    "cohere2_moe": {**WINDOWS, **FEW, "first_k_dense_replace": 2, "sliding_window_pattern": 3, "head_dim": 16},
    "cwm": {**WINDOWS, "head_dim": 16},
    "exaone4 with another period": {**WINDOWS, "sliding_window_pattern": 3},
    "exaone_moe": {**WINDOWS, **EXPERTS, "n_group": 1, "topk_group": 1},
    "flint": {**WINDOWS, **EXPERTS, "head_dim": 16},
    "gemma2 whose period is not read": {**WINDOWS, "head_dim": 16, "sliding_window_pattern": 3},
    "gemma3_text with another period": {**WINDOWS, "head_dim": 16, "sliding_window_pattern": 3},
    "gemma3n_text": {
        **WINDOWS, "head_dim": 16, "num_kv_shared_layers": 2, "vocab_size_per_layer_input": 64,
        "hidden_size_per_layer_input": 8,
    },
    "gemma4_text": {
        **WINDOWS, "num_hidden_layers": 8, "head_dim": 16, "global_head_dim": 32, "num_kv_shared_layers": 2,
        "vocab_size_per_layer_input": 64, "hidden_size_per_layer_input": 8,
    },
    "gemma4_text whose last layer is full": {
        **COMMON, "sliding_window": 8, "head_dim": 16, "global_head_dim": 32, "hidden_size_per_layer_input": 0,
        "layer_types": ["full_attention", *["sliding_attention"] * 3],
    },
    "granite_swa": WINDOWS,
    "granitemoe_swa": {**WINDOWS, "num_local_experts": 2},
    "inkling2_text": {**WINDOWS, **FEW, "sliding_window_size": 8, "head_dim": 16, "n_routed_experts": 4},
    "inkling_text with listed layers": {
        **COMMON, **FEW, "sliding_window_size": 8, "head_dim": 16, "n_routed_experts": 4, "local_layer_ids": [0, 2],
    },
    "kolibri1": {**WINDOWS, **EXPERTS, "head_dim": 16},
    "lfm3": {**WINDOWS, **FEW},
    "llama4_text with another period": {
        **WINDOWS, "attention_chunk_size": 8, "head_dim": 16, "num_local_experts": 2, "intermediate_size_mlp": 96,
        "no_rope_layer_interval": 3,
    },
    "llama4_text with listed layers": {
        **COMMON, "attention_chunk_size": 8, "head_dim": 16, "num_local_experts": 2, "intermediate_size_mlp": 96,
        "no_rope_layers": [0, 1, 1, 0],
    },
    "mimo_v2_flash": {**WINDOWS, **EXPERTS, "head_dim": 24, "v_head_dim": 16, "n_routed_experts": 4, "n_group": 1},
    "mimo_v2_flash with its older name": {
        **WINDOWS, **EXPERTS, "head_dim": 24, "v_head_dim": 16, "n_routed_experts": 4, "n_group": 1,
        "sliding_window_size": 9,
    },
    "ministral": {**WINDOWS, "head_dim": 16},
    "modernbert-decoder": {**COMMON, "local_attention": 16, "num_hidden_layers": 7},
    "modernbert-decoder with another period": {**COMMON, "local_attention": 16, "global_attn_every_n_layers": 2},
    "muse_glimmer_text": {**WINDOWS, "head_dim": 16},
    "muse_spark_text": {**WINDOWS, **EXPERTS, "head_dim": 16},
    "qwen2_moe with windows": {**WINDOWS, **FEW, "use_sliding_window": True, "max_window_layers": 5},
    "qwen3_moe": {**WINDOWS, **EXPERTS, "use_sliding_window": True, "head_dim": 16},
    "qwen3 with a window that is off": {**WINDOWS, "max_window_layers": 2, "head_dim": 16},
    "smollm3 with windows": {**WINDOWS, "use_sliding_window": True, "no_rope_layer_interval": 3},
    "vaultgemma": {**WINDOWS, "head_dim": 16},
    "dots1": {**WINDOWS, **FEW, "n_routed_experts": 4, "n_shared_experts": 1, "head_dim": 16, "n_group": 1,
              "topk_group": 1, "use_sliding_window": True, "max_window_layers": 2},
    "qwen4_exp_text": {
        **COMMON, **DELTA, **EXPERTS, "shared_expert_intermediate_size": 32, "indexer_n_heads": 2,
        "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 16, "indexer_compress_ratio": 4,
        "layer_types": ["linear_attention", "indexed_attention"] * 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
    },
    # Keys of an indexer that pools them, two attentions in a block, and cross attention:
    "glm5_next_text": {
        **COMMON, **LATENT, **INDEXER, "n_routed_experts": 4, "index_topk": 16, "index_kpool": 4, "qk_rope_head_dim": 0,
        "layer_types": ["linear_attention", "indexed_attention"] * 2,
    },
    "longcat_flash": {
        **COMMON, **LATENT, "head_dim": 8, "num_layers": 2, "num_experts_per_tok": 2, "zero_expert_num": 2,
        "n_routed_experts": 4, "expert_ffn_hidden_size": 32,
    },
    "bart": {
        "d_model": 64, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "vocab_size": 64,
    },
    "t5": {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 3, "num_heads": 4, "vocab_size": 64},
    "prophetnet": {
        "hidden_size": 64, "num_encoder_layers": 3, "num_decoder_layers": 3, "num_encoder_attention_heads": 4,
        "num_decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "vocab_size": 64,
    },
    "t5gemma": {"encoder": T5GEMMA, "decoder": T5GEMMA, "vocab_size": 64},
    "t5gemma2": {"encoder": {"text_config": T5GEMMA, "vision_config": SMALL_VISION}, "decoder": T5GEMMA},
}  # fmt: skip


TEXT = torch.arange(3, 3 + TOKENS)[None]
DECODER = {**COMMON, "num_hidden_layers": 2}
BART = {
    "d_model": 64, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "vocab_size": 64,
}  # fmt: skip
WRITER = {
    "model_type": "trocr", "d_model": 64, "decoder_layers": 3, "decoder_attention_heads": 4, "decoder_ffn_dim": 96,
    "vocab_size": 64, "cross_attention_hidden_size": 64,
}  # fmt: skip
VIT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "patch_size": 16}
SWIN = {"model_type": "swin", "image_size": 144, "depths": [1, 1, 1], "num_heads": [2, 2, 2], "embed_dim": 16}
READS_SOUND = {
    **DECODER, "num_hidden_layers": 3, "feature_size": 64, "sliding_window": 30, "head_dim": 16, "num_mel_bins": 16,
}  # fmt: skip
MELODY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 96, "vocab_size": 64}
Run = tuple[str, str, dict[str, Any], dict[str, Any]]
RUNS: dict[str, Run] = {
    # name: model_type, class, config, inputs beside the tokens
    "whisper": (
        "whisper", "WhisperForConditionalGeneration", {**BART, "num_mel_bins": 16, "max_source_positions": 150},
        {"input_features": torch.zeros(1, 16, 300), "decoder_input_ids": TEXT},
    ),
    "ViT and TrOCR": (
        "vision-encoder-decoder", "VisionEncoderDecoderModel",
        {"encoder": {"model_type": "vit", **VIT, "image_size": [96, 64]}, "decoder": WRITER},
        {"pixel_values": torch.zeros(1, 3, 96, 64), "decoder_input_ids": TEXT},
    ),
    "Swin and TrOCR": (
        "vision-encoder-decoder", "VisionEncoderDecoderModel", {"encoder": SWIN, "decoder": WRITER},
        {"pixel_values": torch.zeros(1, 3, 144, 144), "decoder_input_ids": TEXT},
    ),
    "BLIP": (
        "blip", "BlipForConditionalGeneration",
        {
            "text_config": {**DECODER, "encoder_hidden_size": 64, "projection_dim": 64},
            "vision_config": {**VIT, "image_size": 96},
        },
        {"pixel_values": torch.zeros(1, 3, 96, 96), "input_ids": TEXT},
    ),
    "BART as a language model": ("bart", "BartForCausalLM", {**BART, "decoder_layers": 2}, {"input_ids": TEXT}),
    "Moonshine": (  # as much sound as it may write TOKENS for, 6.5 a second
        "moonshine", "MoonshineForConditionalGeneration",
        {"hidden_size": 64, "intermediate_size": 96, "encoder_num_hidden_layers": 2, "decoder_num_hidden_layers": 2,
         "encoder_num_attention_heads": 4, "decoder_num_attention_heads": 4, "vocab_size": 64},
        {"input_values": torch.zeros(1, int(16_000 * TOKENS / 6.5)), "decoder_input_ids": TEXT},
    ),
    "Llama 3.2 Vision": (
        "mllama", "MllamaForConditionalGeneration",
        {
            "text_config": {**COMMON, "cross_attention_layers": [1], "pad_token_id": 0},
            "vision_config": {"image_size": 56, "patch_size": 14, "max_num_tiles": 4, "num_hidden_layers": 1,
                              "num_global_layers": 1, "hidden_size": 32, "attention_heads": 2,
                              "intermediate_size": 48, "vision_output_dim": 64, "intermediate_layers_indices": [0]},
        },
        {"cross_attention_states": torch.zeros(1, 4 * (4 * 4 + 1), 64), "input_ids": TEXT},
    ),
    "RAG": (
        "rag", "RagTokenForGeneration",
        {
            "question_encoder": {"model_type": "dpr", **VIT, "vocab_size": 64},
            "generator": {"model_type": "bart", **BART}, "n_docs": 3,
        },
        {"context_input_ids": TEXT.expand(3, -1), "context_attention_mask": torch.ones(3, TOKENS),
         "doc_scores": torch.ones(1, 3), "decoder_input_ids": TEXT},
    ),
    "CPM-Ant": (
        "cpmant", "CpmAntForCausalLM",
        {"hidden_size": 64, "num_attention_heads": 4, "dim_head": 16, "dim_ff": 96, "num_hidden_layers": 2,
         "vocab_size": 64, "prompt_length": 8},
        {"input_ids": TEXT},
    ),
    "XLNet": (
        "xlnet", "XLNetLMHeadModel", {"d_model": 64, "n_layer": 3, "n_head": 4, "d_inner": 96, "vocab_size": 64},
        {"input_ids": TEXT},
    ),
    "Voxtral Realtime": (
        "voxtral_realtime", "VoxtralRealtimeForConditionalGeneration",
        {"audio_config": READS_SOUND, "text_config": {**DECODER, "head_dim": 16}, "hidden_size": 64},
        {"encoder_inputs_embeds": torch.zeros(1, 4 * TOKENS, 64), "num_delay_tokens": torch.tensor(6),
         "input_ids": TEXT},
    ),
    "MusicGen Melody": (  # guided by a second sequence
        "musicgen_melody", "MusicgenMelodyForConditionalGeneration",
        {
            "text_encoder": {"model_type": "t5", "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2,
                             "num_heads": 4, "vocab_size": 64},
            "audio_encoder": {"model_type": "encodec"},
            "decoder": {"model_type": "musicgen_melody_decoder", **MELODY},
            "chroma_length": 30,
        },
        {"input_ids": TEXT.expand(2, -1), "input_features": torch.zeros(2, 30, 12),
         "decoder_input_ids": TEXT.expand(2 * 4, -1)},
    ),
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


def layer_records(cache: Cache) -> list[dict[str, int]]:
    """Of each layer; with cross attention also the elements per token of the source."""
    if not isinstance(cache, EncoderDecoderCache):
        return [layer_record(layer) for layer in cache.layers]
    own, read = cache.self_attention_cache.layers, cache.cross_attention_cache.layers
    return [layer_record(a) | {"source": layer_record(b)["per_token"]} for a, b in zip(own, read, strict=False)]


@contextmanager
def writers(model: torch.nn.Module) -> Iterator[dict[int, str]]:
    """Layer of the cache -> module path of the block that writes to it, known after a run."""
    found: dict[int, str] = {}
    running = [""]
    update = Cache.update

    def noted(self: Cache, keys: torch.Tensor, values: torch.Tensor, layer: int, *rest: Any, **named: Any) -> Any:
        found[layer] = running[0]
        return update(self, keys, values, layer, *rest, **named)

    for path, module in model.named_modules():
        if path.rpartition(".")[2].isdecimal() and not any(part.isdecimal() for part in path.split(".")[:-1]):
            module.register_forward_pre_hook(lambda *_, path=path: running.__setitem__(0, path))
    with mock.patch.object(Cache, "update", noted):
        yield found


def kept(name: str, fields: dict[str, Any]) -> list[dict[str, Any]]:
    """What the model of a case keeps per layer; where a block has several layers of the cache, each names its block."""
    own = deepcopy(fields)  # the library changes lists in place
    config = AutoConfig.for_model(name.partition(" ")[0], **own, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    paired = config.is_encoder_decoder
    kind = next(k for k in (AutoModelForSeq2SeqLM, AutoModelForCausalLM, AutoModel) if type(config) in k._model_mapping)
    model = kind.from_config(config).eval()
    tokens = torch.arange(3, 3 + TOKENS)[None]
    with torch.no_grad(), writers(model) as blocks:
        answer = model(tokens, use_cache=True, **({"decoder_input_ids": tokens} if paired else {}))
    cache = getattr(answer, "past_key_values", None) or answer.cache_params
    layers = layer_records(cache)
    if len(set(blocks.values())) < len(blocks):
        return [layer | {"block": blocks[i]} for i, layer in enumerate(layers)]
    return layers


def elements(held: object) -> int:
    """Of all floating-point tensors in a cache, or in a list of what a model remembers."""
    if torch.is_tensor(held):
        return held.numel() if held.is_floating_point() else 0
    if isinstance(held, EncoderDecoderCache):
        return elements(held.self_attention_cache) + elements(held.cross_attention_cache)
    if isinstance(held, Cache):
        return sum(elements(vars(layer)[name]) for layer in held.layers for name in ("keys", "values"))
    return sum(map(elements, held)) if isinstance(held, list | tuple) else 0


def kept_in_all(run: Run) -> int:
    model_type, name, fields, inputs = run
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(model_type, **deepcopy(fields), **tokens, dtype="float32")
    config._attn_implementation = "eager"
    model = getattr(transformers, name)(config).eval()
    made = []
    with mock.patch.object(Cache, "__init__", noting(Cache.__init__, made)), torch.no_grad():
        answer = model(**inputs, use_cache=True)
    names = ("past_key_values", "encoder_past_key_values", "mems")
    found = sum(elements(getattr(answer, name, None)) for name in names)
    return found or sum(map(elements, made))  # BLIP does not hand out its cache


def noting(init: Any, made: list[Cache]) -> Any:
    def noted(self: Cache, *given: Any, **named: Any) -> None:
        init(self, *given, **named)
        made.append(self)

    return noted


def main() -> None:
    transformers.logging.set_verbosity_error()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    found = {name: {"config": fields, "layers": kept(name, fields)} for name, fields in CASES.items()}
    runs = {
        name: {"config": {"model_type": run[0], "architectures": [run[1]], **run[2]}, "elements": kept_in_all(run)}
        for name, run in RUNS.items()
    }
    print(f'{{"versions": {json.dumps(versions)}, "tokens": {TOKENS}, {lines("cases", found)}, {lines("runs", runs)}}}')


def lines(name: str, found: dict[str, Any]) -> str:
    """One line of JSON for each entry."""
    return f'"{name}": {{\n' + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in found.items()) + "\n}"


if __name__ == "__main__":
    main()
