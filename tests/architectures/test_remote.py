"""Models of repositories' own code, held to what the library has of the same parts, and to what is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastewq.architecture import Architecture
from fastewq.config import read_config
from fastewq.errors import UnsupportedArchitecture

PUBLISHED = json.loads((Path(__file__).parent / "configs" / "published.json").read_text("utf-8"))
TYPED = {"torch_dtype": "bfloat16"}
LLAMA = {"model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32}
LLAMA |= {"num_key_value_heads": 8, "num_hidden_layers": 16, "vocab_size": 128256, "tie_word_embeddings": True}
WHISPER = {"model_type": "whisper", "d_model": 1280, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120}
WHISPER |= {"encoder_layers": 32, "num_mel_bins": 128, "decoder_layers": 4, "decoder_attention_heads": 20}
SIGLIP = {"model_type": "siglip_vision_model", "hidden_size": 1152, "image_size": 384, "intermediate_size": 4304}
SIGLIP |= {"num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14}


def named(architecture: Architecture, prefix: str = "") -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors below a module path, by name."""
    found = {f"{b.path}.{t.name}": t.shape for s in architecture.stacks for b in s.blocks for t in b.layout.tensors}
    found |= {f"{g.path}.{t.name}".lstrip("."): t.shape for g in architecture.outside for t in g.tensors}
    return {name.removeprefix(prefix): shape for name, shape in found.items() if name.startswith(prefix)}


def ultravox(**changed: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 4096, "stack_factor": 8, "projector_act": "swiglu", "projector_ln_mid": True}
    config = {"model_type": "ultravox", "architectures": ["UltravoxModel"], **TYPED, **sizes}
    return config | {"text_config": LLAMA, "audio_config": WHISPER} | changed


def test_ultravox_is_whispers_encoder_a_projector_and_a_text_model() -> None:
    whole = read_config(ultravox())
    assert whole.exact, whole.warnings
    assert named(whole, "audio_tower.") == named(read_config(WHISPER), "model.encoder.")
    assert named(whole, "language_model.") == named(read_config(LLAMA))
    assert named(whole, "multi_modal_projector.") == {
        "ln_pre.weight": (10240,),
        "linear_1.weight": (4096, 10240),
        "ln_mid.weight": (2048,),
        "linear_2.weight": (2048, 2048),
    }
    plain = read_config(ultravox(projector_act="gelu", projector_ln_mid=False))
    assert named(plain, "multi_modal_projector.")["linear_2.weight"] == (2048, 4096)
    assert named(plain, "multi_modal_projector.")["ln_post.weight"] == (2048,)


def test_ultravox_says_which_repository_has_the_text_model() -> None:
    config = ultravox(text_model_id="meta-llama/Llama-3.2-1B-Instruct")
    del config["text_config"]
    with pytest.raises(UnsupportedArchitecture, match=r"text_config is missing.*'meta-llama/Llama-3.2-1B-Instruct'"):
        read_config(config)


def test_ultravox_with_adapters_is_refused() -> None:
    with pytest.raises(UnsupportedArchitecture, match="text_model_lora_config"):
        read_config(ultravox(text_model_lora_config={"r": 8}))


def test_minicpm_o_has_minicpm_v_and_what_hears_and_speaks() -> None:
    omni = PUBLISHED["MiniCPM-o-2_6"]["config"]
    seeing = {"model_type": "minicpmv", "architectures": ["MiniCPMV"], "version": 2.6}
    whole, eyes = read_config(omni), read_config(omni | seeing)
    assert named(eyes).items() <= named(whole).items()
    whisper = read_config(omni["audio_config"] | {"decoder_attention_heads": 16})
    assert named(whole, "apm.") == named(whisper, "model.encoder.")
    mute = read_config(omni | {"init_tts": False})
    assert {name for name in named(whole) if name.startswith("tts.")} == named(whole).keys() - named(mute).keys()
    assert [stack.name for stack in whole.stacks] == ["vision", "audio", "decoder", "voice"]


def test_minicpm_o_4_5_speaks_with_another_voice() -> None:
    speaks = {"llm_dim": 4096, "num_audio_tokens": 6562, "num_text_tokens": 152064, "num_vq": 1}
    later = PUBLISHED["MiniCPM-o-2_6"]["config"] | {"version": "4.5", "head_dim": 128, "tts_config": speaks}
    voice = named(read_config(later), "tts.")
    assert voice["head_code.0.parametrizations.weight.original1"] == (6562, 768)
    assert voice["projector_semantic.linear1.weight"] == voice["projector_spk.linear1.weight"] == (768, 4096)
    assert not any(name.startswith("dvae") for name in voice)
    with pytest.raises(UnsupportedArchitecture, match="version is 3"):
        read_config(later | {"version": 3})


def test_keye_is_siglip_with_more_positions_and_qwen3() -> None:
    text = {"hidden_size": 4096, "intermediate_size": 12288, "num_attention_heads": 32, "num_key_value_heads": 8}
    text |= {"num_hidden_layers": 36, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": False}
    keye = read_config({"model_type": "Keye", "vision_config": SIGLIP, **text, **TYPED})
    assert keye.exact, keye.warnings
    tower = named(keye, "visual.vision_model.")
    assert tower.pop("embeddings.packing_position_embedding.weight") == (32768, 1152)
    assert tower == named(read_config(SIGLIP))
    assert named(keye, "model.") == named(read_config({"model_type": "qwen3", **text}), "model.")


def test_pangu_embedded_is_llama_with_biases_in_attention() -> None:
    sizes = {"hidden_size": 4096, "intermediate_size": 12800, "num_attention_heads": 32, "num_key_value_heads": 8}
    sizes |= {"num_hidden_layers": 34, "vocab_size": 153376, "tie_word_embeddings": False}
    pangu = read_config({"model_type": "PanguEmbedded", "architectures": ["PanguEmbeddedForCausalLM"], **sizes})
    llama = read_config({"model_type": "llama", "attention_bias": True, **sizes})
    assert named(pangu) == named(llama)


def test_pangu_pro_activates_16_50_billion_of_71_99() -> None:
    """arXiv 2505.21411, table 1."""
    config = PUBLISHED["Pangu Pro MoE"]["config"]
    architecture = read_config(config)
    experts = sum(t.parameters for b in architecture.stacks[0].blocks for t in b.layout.tensors if t.role == "experts")
    assert f"{architecture.parameters / 1e9:.2f}" == "71.99"
    idle = experts * (config["num_experts"] - config["num_experts_per_tok"]) // config["num_experts"]
    assert f"{(architecture.parameters - idle) / 1e9:.2f}" == "16.50"
    with pytest.raises(UnsupportedArchitecture, match="param_sink_number"):  # openPangu-R-72B, under the same type
        read_config(config | {"param_sink_number": 128})


def test_pangu_ultra_is_deepseek_v3_with_norms_after_attention_and_feed_forward() -> None:
    old = {"attention_q_lora_dim": 1536, "attention_kv_lora_dim": 512, "attention_qk_dim": 128, "num_dense_layers": 3}
    old |= {"attention_qk_rope_dim": 64, "attention_v_dim": 128, "num_routed_experts": 256, "num_shared_experts": 1}
    new = {"q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "first_k_dense_replace": 3}
    new |= {"qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 256, "n_shared_experts": 1}
    sizes = {"hidden_size": 7680, "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61}
    sizes |= {"num_attention_heads": 128, "vocab_size": 153600, "tie_word_embeddings": False, **TYPED}
    kind = {"model_type": "pangu_ultra_moe", "architectures": ["PanguUltraMoEForCausalLM"], "sandwich_norm": True}
    first, later = read_config(kind | sizes | old), read_config(kind | sizes | new)
    deepseek = named(read_config({"model_type": "deepseek_v3", **sizes, **new}))
    added = named(first).keys() - deepseek.keys()
    assert named(first) == named(later)
    assert {name.split(".", 3)[3] for name in added} == {"pre_mlp_layernorm.weight", "post_mlp_layernorm.weight"}
    assert deepseek.keys() < named(first).keys()
