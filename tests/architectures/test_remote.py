"""Models of repositories' own code, held to what the library has of the same parts, and to what is published."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest

from fastewq.architecture import Architecture
from fastewq.config import read_config
from fastewq.errors import InvalidConfig, UnsupportedArchitecture

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


@pytest.mark.parametrize(
    ("switch", "config", "parts"),
    [
        ("init_tts", "tts_config", ("tts",)),
        ("init_audio", "audio_config", ("apm", "audio_projection_layer")),
        ("init_vision", "vision_config", ("vpm", "resampler")),
    ],
)
def test_minicpm_o_needs_no_config_for_what_it_lacks(switch: str, config: str, parts: tuple[str, ...]) -> None:
    omni = PUBLISHED["MiniCPM-o-2_6"]["config"]
    without = {name: value for name, value in omni.items() if name != config} | {switch: False}
    others = {name for name in named(read_config(omni)) if not name.startswith(parts)}
    assert named(read_config(without)).keys() == others
    with pytest.raises(InvalidConfig, match=f"{config} is missing"):
        read_config(without | {switch: True})


def test_keye_is_siglip_with_more_positions_and_qwen3() -> None:
    text = {"hidden_size": 4096, "intermediate_size": 12288, "num_attention_heads": 32, "num_key_value_heads": 8}
    text |= {"num_hidden_layers": 36, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": False}
    keye = read_config({"model_type": "Keye", "vision_config": SIGLIP, **text, **TYPED})
    assert keye.exact, keye.warnings
    tower = named(keye, "visual.vision_model.")
    assert tower.pop("embeddings.packing_position_embedding.weight") == (32768, 1152)
    assert tower == named(read_config(SIGLIP))
    assert named(keye, "model.") == named(read_config({"model_type": "qwen3", **text}), "model.")


CLIP_L = {"model_type": "clip_vision_model", "hidden_size": 1024, "image_size": 336, "intermediate_size": 4096}
CLIP_L |= {"num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14}
SO400M = SIGLIP | {"num_hidden_layers": 26, "vision_use_head": False}
MISTRAL = {"model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32}
MISTRAL |= {"num_key_value_heads": 8, "num_hidden_layers": 32, "vocab_size": 32000, "tie_word_embeddings": False}
SEES = {"mm_vision_tower": "openai/clip-vit-large-patch14-336", "mm_hidden_size": 1024, **TYPED}
SEES |= {"mm_projector_type": "mlp2x_gelu", "mm_patch_merge_type": "spatial_unpad"}
UNTIED = {"tie_word_embeddings": False, "architectures": ["LlavaNextForConditionalGeneration"]}


@pytest.mark.parametrize(
    ("ours", "library"),
    [
        (
            MISTRAL | SEES | {"model_type": "llava_mistral", "architectures": ["LlavaMistralForCausalLM"]},
            UNTIED | {"model_type": "llava_next", "vision_config": CLIP_L, "text_config": MISTRAL},
        ),
        (
            MISTRAL | SEES | {"model_type": "llava", "architectures": ["LlavaMistralForCausalLM"]},
            UNTIED | {"model_type": "llava_next", "vision_config": CLIP_L, "text_config": MISTRAL},
        ),
        (
            {**MISTRAL, **SEES, "model_type": "llava_qwen", "architectures": ["LlavaQwenForCausalLM"]}
            | {"mm_vision_tower": "google/siglip-so400m-patch14-384", "mm_hidden_size": 1152},
            {"model_type": "llava_onevision", "architectures": ["LlavaOnevisionForConditionalGeneration"]}
            | {"vision_config": SO400M, "text_config": MISTRAL | {"model_type": "qwen2"}, "tie_word_embeddings": False},
        ),
    ],
)
def test_llava_of_a_repository_has_what_the_librarys_has(ours: dict[str, Any], library: dict[str, Any]) -> None:
    found = read_config(ours)
    assert found.exact, found.warnings
    assert found.parameters == read_config(library).parameters
    assert {"mm_projector.2.weight", "image_newline"} < named(found, "model.").keys()


def test_projectors_of_llava() -> None:
    kind = MISTRAL | SEES | {"model_type": "llava_mistral", "architectures": ["LlavaMistralForCausalLM"]}
    single = named(read_config(kind | {"mm_projector_type": "linear"}), "model.mm_projector.")
    assert single == {"weight": (4096, 1024), "bias": (4096,)}
    deeper = named(read_config(kind | {"mm_projector_type": "mlp3x_gelu"}), "model.mm_projector.")
    assert deeper["4.weight"] == (4096, 4096)
    with pytest.raises(InvalidConfig, match="mm_projector_type is 'pooler'"):
        read_config(kind | {"mm_projector_type": "pooler"})
    with pytest.raises(UnsupportedArchitecture, match="mm_vision_tower is 'imagebind_huge'"):
        read_config(kind | {"mm_vision_tower": "imagebind_huge"})
    with pytest.raises(UnsupportedArchitecture, match="mm_resampler_type"):
        read_config(kind | {"mm_resampler_type": "qformer"})


def test_bert_with_alibi_is_not_bert_whose_type_it_names() -> None:
    jina, mosaic = (PUBLISHED[name]["config"] for name in ("jina-embeddings-v2-base-en", "DNABERT-2-117M"))
    masked = [read_config(c | {"architectures": [c["architectures"][0][:-5] + "ForMaskedLM"]}) for c in (jina, mosaic)]
    assert [one.exact for one in masked] == [one.tied_embeddings for one in masked] == [True, True]
    assert named(masked[0], "cls.predictions.").keys() == {
        "bias",
        *(f"transform.{part}.{kind}" for part in ("dense", "LayerNorm") for kind in ("weight", "bias")),
    }
    assert not any("position" in name for one in masked for name in named(one))
    blocks = [named(one, "bert.encoder.layer.3.attention.self.") for one in masked]
    assert [len(block) for block in blocks] == [6, 2]
    plain = read_config(jina | {"architectures": ["BertModel"], "position_embedding_type": "absolute"})
    assert plain.model_type == "bert"


def test_step3_vl_is_the_librarys_tower_of_step_3_7_before_qwen3() -> None:
    sees = {"image_size": 28, "width": 48, "layers": 2, "heads": 4, "patch_size": 14, "mlp_ratio": 5.5}
    sees |= {"ls_init_value": 0.1, "use_cls_token": False, "use_ln_pre": True, "use_ln_post": False}
    sees |= {"use_abs_posemb": True, "use_rope2d": True}
    kind = {"model_type": "step_robotics", "architectures": ["StepVLForConditionalGeneration"], **TYPED}
    whole = read_config(kind | {"projector_bias": False, "vision_config": sees, "text_config": NANO})
    assert whole.exact, whole.warnings
    tower = named(whole, "vision_model.")
    assert sum(map(prod, tower.values())) == read_config({"model_type": "step3p5_vision", **sees}).parameters
    assert named(whole)["vit_large_projector.weight"] == (64, 4 * 48)
    marked = named(
        read_config(
            kind | {"projector_bias": True, "vision_config": sees | {"use_cls_token": True}} | {"text_config": NANO}
        )
    )
    assert marked["vision_model.positional_embedding"] == (5, 48)
    assert marked["vit_large_projector.bias"] == (64,)


def test_neo_bert_has_a_gate_two_thirds_as_wide() -> None:
    sizes = {"hidden_size": 768, "num_hidden_layers": 28, "num_attention_heads": 12, "intermediate_size": 3072}
    config = {"model_type": "neobert", "architectures": ["NeoBERTLMHead"], "vocab_size": 30522, **sizes, **TYPED}
    whole = read_config(config)
    assert whole.exact, whole.warnings
    assert named(whole, "model.transformer_encoder.27.")["ffn.w12.weight"] == (2 * 2048, 768)
    body = read_config(config | {"architectures": ["NeoBERT"]})
    assert whole.parameters - body.parameters == 30522 * 769
    uneven = named(read_config(config | {"intermediate_size": 100}), "model.transformer_encoder.0.")
    assert uneven["ffn.w3.weight"] == (768, 72)


def test_glm_4v_sees_by_a_tower_in_front_of_chatglm() -> None:
    config = PUBLISHED["glm-4v-9b"]["config"]
    blind = {name: value for name, value in config.items() if name != "vision_config"}
    whole, alone = named(read_config(config)), named(read_config(blind))
    assert alone.items() < whole.items()
    assert all(name.startswith("transformer.vision.") for name in whole.keys() - alone.keys())


def test_olmo_of_2024_is_the_librarys_with_fused_matrices() -> None:
    config = PUBLISHED["OLMo-7B of 2024"]["config"]
    sizes = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_hidden_layers": 32}
    library = read_config({"model_type": "olmo", "vocab_size": 50304, "tie_word_embeddings": False, **sizes})
    assert library.parameters == read_config(config).parameters
    assert read_config(config | {"weight_tying": True}).tied_embeddings
    grouped = named(read_config(config | {"n_kv_heads": 8}), "model.transformer.blocks.0.")
    assert grouped["att_proj.weight"] == (4096 + 2 * 8 * 128, 4096)
    with pytest.raises(InvalidConfig, match="layer_norm_with_affine"):
        read_config(config | {"layer_norm_with_affine": True})


def test_videollama_3_of_a_repository_has_what_the_librarys_has() -> None:
    config = PUBLISHED["VideoLLaMA3-7B"]["config"]
    text = {name: value for name, value in config.items() if name not in ("vision_encoder_config", "architectures")}
    sides = {"text_config": text | {"model_type": "qwen2"}, "vision_config": config["vision_encoder_config"]}
    library = read_config({"model_type": "video_llama_3", "tie_word_embeddings": False, **sides})
    assert library.parameters == read_config(config).parameters
    with pytest.raises(InvalidConfig, match="mm_projector_type"):
        read_config(config | {"mm_projector_type": "qformer"})


@pytest.mark.parametrize("name", ["Eagle2_5_VL", "Eagle3_VL"])
def test_eagle_is_a_tower_whose_pixels_are_shuffled_before_a_text_model(name: str) -> None:
    model_type = {"Eagle2_5_VL": "eagle_2_5_vl", "Eagle3_VL": "eagle_3_vl"}[name]
    config = {"model_type": model_type, "architectures": [f"{name}ForConditionalGeneration"], **TYPED}
    config |= {"mlp_connector_layers": 2, "downsample_ratio": 0.5, "text_config": NANO, "vision_config": SIGLIP}
    whole = read_config(config)
    assert whole.exact, whole.warnings
    assert named(whole, "language_model.") == named(read_config(NANO))
    assert named(whole, "vision_model.vision_model.") == named(read_config(SIGLIP))
    assert named(whole, "mlp1.")["1.weight"] == (64, 4 * 1152)
    with pytest.raises(UnsupportedArchitecture, match="use_llm_lora"):
        read_config(config | {"use_llm_lora": 64})


def test_ovis_2_6_is_ovis_2_5_before_any_text_model() -> None:
    config = PUBLISHED["Ovis2.5-2B"]["config"]
    kind = {"model_type": "ovis2_6_moe", "architectures": ["Ovis2_6_MoeForCausalLM"]}
    later = read_config(config | kind)
    assert later.exact, later.warnings
    assert named(later) == named(read_config(config))


def test_keye_1_5_normalizes_four_patches_at_once() -> None:
    text = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1, "vocab_size": 100}
    config = {"vision_config": SIGLIP, **text, **TYPED}
    first, later = (named(read_config({"model_type": name, **config})) for name in ("Keye", "KeyeVL1_5"))
    assert {name for name in first if first[name] != later[name]} == {"mlp_AR.pre_norm.weight", "mlp_AR.pre_norm.bias"}
    assert later["mlp_AR.pre_norm.weight"] == (4 * 1152,)


def test_ernie_vl_of_a_repository_is_the_librarys_with_its_text_model_at_the_top() -> None:
    config = PUBLISHED["ERNIE-4.5-VL-424B-A47B"]["config"]
    left = ("moe_num", "moe_layer", "architectures", "vision")
    text = {name: value for name, value in config.items() if not name.startswith(left)}
    text |= {"model_type": "ernie4_5_vl_moe_text", "moe_num_experts": 64, "moe_num_shared_experts": 0}
    text |= {"mlp_layer_types": ["dense"] * 3 + ["sparse"] * 51}
    ours = read_config(config)
    assert ours.exact, ours.warnings
    assert named(ours, "model.layers.") == named(read_config(text), "model.layers.")
    assert named(ours, "model.resampler_model.")["temporal_linear.fc1.weight"] == (5120, 10240)
    with pytest.raises(InvalidConfig, match="as many for images"):
        read_config(config | {"moe_num_experts": [64, 32]})


MIMO_PRO = {"model_type": "mimo_v2", "architectures": ["MiMoV2ForCausalLM"], "hidden_size": 6144, "vocab_size": 152576}
MIMO_PRO |= {"intermediate_size": 16384, "moe_intermediate_size": 2048, "n_routed_experts": 384, "head_dim": 192}
MIMO_PRO |= {"v_head_dim": 128, "num_attention_heads": 128, "num_key_value_heads": 8, "swa_num_attention_heads": 128}
MIMO_PRO |= {"swa_num_key_value_heads": 8, "swa_head_dim": 192, "swa_v_head_dim": 128, "num_hidden_layers": 70}
MIMO_PRO |= {"moe_layer_freq": [0] + [1] * 69, "add_swa_attention_sink_bias": True, **TYPED}
MIMO_PRO |= {"hybrid_layer_pattern": [int(i % 7 > 0) for i in range(70)]}


def test_mimo_v2_5_pro_activates_42_billion_of_1_02_trillion() -> None:
    """Its page: 1.02T parameters, 42B activated."""
    architecture = read_config(MIMO_PRO)
    assert architecture.exact, architecture.warnings
    experts = sum(t.parameters for b in architecture.stacks[0].blocks for t in b.layout.tensors if t.role == "experts")
    assert f"{architecture.parameters / 1e12:.2f}" == "1.02"
    assert f"{(architecture.parameters - experts * 376 // 384) / 1e9:.0f}" == "42"


def test_windows_of_mimo_v2_5_have_sizes_and_sinks_of_their_own() -> None:
    full, sliding = (
        named(read_config(MIMO_PRO | {"swa_num_key_value_heads": 4}), f"model.layers.{i}.self_attn.") for i in (7, 8)
    )
    assert sliding["k_proj.weight"] == (4 * 192, 6144)
    assert full["v_proj.weight"] == (8 * 128, 6144)
    assert sliding.keys() - full.keys() == {"attention_sink_bias"}
    seeing = read_config(MIMO_PRO | {"vision_config": {"depth": 28}})
    assert any("vision_config" in warning for warning in seeing.warnings)


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


NANO = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
NANO |= {"num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 100, "tie_word_embeddings": False}
TEACHERS = [{"name": "clip"}, {"name": "siglip"}, {"name": "dino_v2"}, {"name": "sam"}, {"name": "sam"}]
TRAINED = {"model": "vit_huge_patch16_224", "cpe_max_size": 2048, "register_multiple": 8, "teachers": TEACHERS}
TRAINED |= {"cls_token_per_teacher": True}


def nano_vl(model_type: str, **seen: Any) -> dict[str, Any]:
    vision = {"patch_size": 16, "args": TRAINED} | seen
    sizes = {"projector_hidden_size": 96, "vit_hidden_size": 1280, "downsample_ratio": 0.5}
    kind = {"model_type": model_type, "architectures": [model_type], **TYPED}
    return kind | sizes | {"llm_config": NANO, "vision_config": vision}


def test_radio_of_a_repository_is_the_librarys_without_layer_scales() -> None:
    sizes = {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16, "mlp_ratio": 4.0}
    tokens = {"num_cls_tokens": 4, "num_registers": 4, "max_img_size": 2048, "patch_size": 16}
    library = named(read_config({"model_type": "radio", **sizes, **tokens}))
    scales = [name for name in library if "layer_scale" in name]
    whole = read_config(nano_vl("NemotronH_Nano_VL_V2"))
    assert whole.exact, whole.warnings
    tower = named(whole, "vision_model.radio_model.model.")
    assert tower["patch_generator.cls_token.token"] == (8, 1280)
    assert sum(map(prod, tower.values())) == sum(map(prod, library.values())) - len(scales) * 1280
    assert named(whole, "language_model.") == named(read_config(NANO))


@pytest.mark.parametrize(("model_type", "extra"), [("Llama_Nemotron_Nano_VL", True), ("NemotronH_Nano_VL_V2", False)])
def test_projectors_of_nemotron_nano_vl(model_type: str, extra: bool) -> None:
    projector = named(read_config(nano_vl(model_type)), "mlp1.")
    assert projector["0.weight"] == (5120,)
    assert projector["1.weight"] == (96, 5120)
    assert projector["3.weight"] == (64, 96)
    assert ("1.bias" in projector) == ("0.bias" in projector) == ("3.bias" in projector) == extra


HEARS = {"model_type": "parakeet", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
HEARS |= {"intermediate_size": 96, "projection_hidden_size": 80, "projection_bias": False, "convolution_bias": False}


def test_nemotron_nano_omni_hears_as_parakeet_and_sees_two_frames_at_once() -> None:
    kind = "NemotronH_Nano_Omni_Reasoning_V3"
    config = nano_vl(kind, video_temporal_patch_size=2) | {"sound_config": HEARS}
    whole = read_config(config)
    assert whole.exact, whole.warnings
    heard = read_config(HEARS | {"model_type": "parakeet_encoder", "attention_bias": False})
    assert named(whole, "sound_encoder.encoder.") == named(heard)
    assert named(whole, "sound_projection.") == {
        "norm.weight": (64,),
        "linear1.weight": (80, 64),
        "linear2.weight": (64, 80),
    }
    tower = named(whole, "vision_model.radio_model.model.")
    seeing = named(read_config(nano_vl("NemotronH_Nano_VL_V2")), "vision_model.radio_model.model.")
    assert {name: shape for name, shape in tower.items() if name not in seeing} == {
        "patch_generator.video_embedder.weight": (1280, 2 * 3 * 16**2)
    }
    deaf = named(read_config({**config, "sound_config": None}))
    assert not any(name.startswith("sound") for name in deaf)
    with pytest.raises(UnsupportedArchitecture, match="video_temporal_patch_size"):
        read_config(config | {"video_temporal_patch_size": 4})
    with pytest.raises(UnsupportedArchitecture, match="num_nextn_predict_layers"):
        read_config(config | {"llm_config": NANO | {"num_nextn_predict_layers": 1}})


def test_radio_that_is_not_described_is_refused() -> None:
    extra = ({"video_temporal_patch_size": 2}, {"adaptor_names": 1}, {"adaptor_names": ["clip"]})
    for changed in ({"args": TRAINED | {"model": "vit_giant"}}, *extra):
        with pytest.raises(UnsupportedArchitecture):
            read_config(nano_vl("NemotronH_Nano_VL_V2", **changed))
    for teachers in ([], ["clip"], [{"name": 10**5000}], [{}]):
        with pytest.raises(InvalidConfig, match="teachers is list of"):
            read_config(nano_vl("NemotronH_Nano_VL_V2", args=TRAINED | {"teachers": teachers}))


def test_a_projector_of_nothing_is_refused() -> None:
    config = nano_vl("Llama_Nemotron_Nano_VL") | {"downsample_ratio": 2}
    with pytest.raises(InvalidConfig, match="vit_hidden_size is 1280, downsample_ratio is 2; expected"):
        read_config(config)


def test_qwen_vl_sees_with_1_9_billion_and_0_08_between() -> None:
    """arXiv 2308.12966, table 1: 1.9B see, 0.08B adapt, 7.7B speak; together 9.6B, cut rather than rounded."""
    text = PUBLISHED["Qwen-7B"]["config"]
    sizes = {"heads": 16, "image_size": 448, "layers": 48, "mlp_ratio": 4.9231, "output_dim": 4096, "patch_size": 14}
    whole = read_config(text | {"visual": sizes | {"width": 1664}})
    assert whole.exact, whole.warnings
    tower = {name: prod(shape) for name, shape in named(whole, "transformer.visual.").items()}
    adapts = sum(count for name, count in tower.items() if name.startswith("attn_pool."))
    assert f"{(sum(tower.values()) - adapts) / 1e9:.1f} {adapts / 1e9:.2f}" == "1.9 0.08"
    assert whole.parameters == PUBLISHED["Qwen-7B"]["parameters"] + sum(tower.values())
    assert int(whole.parameters / 1e8) == 96


def test_kimi_audio_has_blocks_of_qwen2_for_words_of_sound() -> None:
    config = PUBLISHED["Kimi-Audio-7B"]["config"]
    qwen2 = read_config({"model_type": "qwen2", **{name: config[name] for name in config if name != "model_type"}})
    whole = read_config(config)
    assert named(whole, "model.mimo_layers.5.") == named(whole, "model.layers.27.") == named(qwen2, "model.layers.0.")
    deaf = read_config(config | {"use_whisper_feature": False})
    assert named(whole).keys() - named(deaf).keys() == {
        f"model.vq_adaptor.layers.{i}.{kind}" for i in (0, 3, 4) for kind in ("weight", "bias")
    }


def test_minimax_vl_is_clip_without_its_last_norm_and_minimax_text() -> None:
    config = PUBLISHED["MiniMax-VL-01"]["config"]
    whole, clip = read_config(config), named(read_config(config["vision_config"]))
    tower = named(whole, "vision_tower.vision_model.")
    assert clip.keys() - tower.keys() == {"post_layernorm.weight", "post_layernorm.bias"}
    assert tower.items() <= clip.items()
    assert int(sum(map(prod, tower.values())) / 1e6) == 303  # arXiv 2501.08313, section 6
    assert named(whole, "language_model.") == named(read_config(config["text_config"]))
    between = {name: shape for name, shape in named(whole).items() if name.startswith(("image", "multi"))}
    assert sum(map(prod, between.values())) == 6144 + 1024 * 6144 + 6144 * 6144 + 2 * 6144


def test_opencua_is_qwen2_5_vl_without_a_projector_of_its_own() -> None:
    seen = {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4, "out_hidden_size": 48}
    text = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    text |= {"num_hidden_layers": 2, "vocab_size": 100, "tie_word_embeddings": False}
    cua = read_config({"model_type": "opencua", "vision_config": seen, "text_config": text, **TYPED})
    qwen = {"model_type": "qwen2_5_vl", "vision_config": seen, "text_config": text, "tie_word_embeddings": False}
    assert cua.exact, cua.warnings
    assert cua.parameters == read_config(qwen).parameters
    assert named(cua, "vision_tower.") == named(read_config(qwen), "model.visual.")


def test_mono_internvl_is_not_internvl_whose_types_it_names() -> None:
    """It has patches without a tower, and in every block a second feed-forward for them."""
    config = PUBLISHED["Mono-InternVL-2B"]["config"]
    mono, alone = read_config(config), read_config(config["llm_config"])
    assert [stack.role for stack in mono.stacks] == ["decoder"]
    assert alone.model_type == "internlm2_ve"
    assert named(mono, "language_model.") == named(alone)
    plain = named(read_config(config["llm_config"] | {"architectures": ["InternLM2ForCausalLM"]}))
    assert len(named(alone).keys() - plain.keys()) == 3 * 24
    assert plain.items() <= named(alone).items()


def test_isaac_is_siglip_2_and_qwen3_with_two_matrices_between() -> None:
    seen = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 2}
    seen |= {"num_patches": 16, "patch_size": 4}
    text = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    text |= {"num_hidden_layers": 2, "vocab_size": 100, "head_dim": 12, "tie_word_embeddings": False, **TYPED}
    isaac = read_config({"model_type": "isaac", "vision_config": seen | {"pixel_shuffle_scale_factor": 2}, **text})
    assert isaac.exact, isaac.warnings
    siglip = named(read_config({"model_type": "siglip2_vision_model", "vision_use_head": False, **seen}))
    assert named(isaac, "model.vision_embedding.0.") == siglip
    assert named(isaac, "model.vision_embedding.1.") == {"weight": (4 * 256, 256)}
    assert named(isaac, "model.vision_embedding.3.") == {"weight": (48, 4 * 256)}
    qwen3 = named(read_config({"model_type": "qwen3", **text}))
    assert {name: shape for name, shape in named(isaac).items() if "vision" not in name} == qwen3


def bagel(**changed: Any) -> dict[str, Any]:
    text = {"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28}
    text |= {"num_hidden_layers": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False}
    codes = {"vae_config": {"downsample": 8, "z_channels": 16}, "latent_patch_size": 2, "max_latent_size": 64}
    seen = SIGLIP | {"image_size": 980}
    return {"model_type": "bagel", "llm_config": text, "vit_config": seen, **codes, **TYPED} | changed


def test_bagel_has_qwen2_twice_and_siglip_without_its_last_block() -> None:
    config = bagel()
    whole = read_config(config)
    assert whole.exact, whole.warnings
    assert int(whole.parameters / 1e9) == 14  # arXiv 2505.14683: 14B, of which 7B are active
    qwen2 = named(read_config(config["llm_config"]))
    speaks = named(whole, "language_model.")
    drawn = {name.replace("_moe_gen", ""): shape for name, shape in speaks.items() if "_moe_gen" in name}
    assert qwen2.items() <= speaks.items()
    normed = {name: shape for name, shape in drawn.items() if "q_norm" not in name and "k_norm" not in name}
    assert normed == {name: shape for name, shape in qwen2.items() if "layers" in name or name == "model.norm.weight"}
    tower = named(read_config(config["vit_config"] | {"num_hidden_layers": 26, "vision_use_head": False}))
    seen = named(whole, "vit_model.vision_model.")
    assert seen.pop("embeddings.patch_embedding.weight") == (1152, 3 * 14 * 14)
    assert tower.pop("embeddings.patch_embedding.weight") == (1152, 3, 14, 14)
    assert seen == tower


@pytest.mark.parametrize("changed", [{"visual_gen": False}, {"vit_select_layer": -1}])
def test_bagel_of_other_parts_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedArchitecture):
        read_config(bagel(**changed))


def midashenglm(**heard: Any) -> dict[str, Any]:
    ears = {"embed_dim": 1280, "depth": 32, "num_heads": 16, "mlp_ratio": 4.0, "qkv_bias": True, "n_mels": 64}
    ears |= {"target_length": 1008, "patch_size": [64, 4], "patch_stride": [64, 4], "input_channels": 1}
    text = {"model_type": "qwen2_5_omni_text", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    text |= {"num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 100, "tie_word_embeddings": False}
    kind = {"model_type": "midashenglm", "architectures": ["MiDashengLMModel"], "subsample_factor": 5, **TYPED}
    return kind | {"audio_encoder_config": ears | heard, "text_config": text}


def test_midashenglm_hears_with_0_6_billion_parameters() -> None:
    """Dasheng 0.6B, arXiv 2406.06992: 630M parameters in 32 blocks as wide as 1280."""
    whole = read_config(midashenglm())
    assert whole.exact, whole.warnings
    ears = named(whole, "audio_encoder.")
    assert f"{sum(map(prod, ears.values())) / 1e6:.0f}" == "630"
    assert ears["time_pos_embed"] == (1, 1280, 1, 252)
    assert ears["freq_pos_embed"] == (1, 1280, 1, 1)
    assert named(whole, "audio_projector.net.0.") == {"weight": (64, 6400), "bias": (64,)}
    text = midashenglm()["text_config"] | {"model_type": "qwen2"}
    assert named(whole, "decoder.") == named(read_config(text))
    scaled = read_config(midashenglm(init_values=1e-5))
    assert scaled.parameters - whole.parameters == 32 * 2 * 1280


def test_spectra_of_fewer_rows_than_a_patch_are_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"config\.n_mels is 63, .*patch_stride is list of 2; expected"):
        read_config(midashenglm(n_mels=63))


@pytest.mark.parametrize("none", [None, 0])
def test_experts_of_deepseek_may_do_without_shared_ones(none: int | None) -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32, "num_hidden_layers": 3}
    sizes |= {"num_attention_heads": 4, "n_routed_experts": 8, "first_k_dense_replace": 1, "vocab_size": 100}
    for model_type in ("deepseek", "deepseek_v2", "deepseek_v3", "kimi_k2"):
        config = {"model_type": model_type, "num_key_value_heads": 4, **sizes}
        one, few = (named(read_config(config | {"n_shared_experts": count})) for count in (1, none))
        assert few.items() < one.items()
        assert sum(prod(one[name]) for name in one.keys() - few.keys()) == 2 * 3 * 64 * 32


def test_janus_of_its_repository_is_the_librarys_with_a_pooling_head() -> None:
    config = PUBLISHED["Janus-Pro-7B"]["config"]
    whole = read_config(config)
    text = {"model_type": "llama", "vocab_size": 102400, "num_hidden_layers": 30, "tie_word_embeddings": False}
    drawn = {"projection_dim": 4096, "image_token_embed_dim": 4096}
    seen = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 384, "depth": 2}
    library = {"model_type": "janus", "vision_config": seen | {"projection_dim": 4096, "mlp_ratio": 4.0}}
    converted = read_config(library | {"text_config": text, "vq_config": drawn, "tie_word_embeddings": False})
    pooling = named(whole, "vision_model.vision_tower.attn_pool.")
    assert pooling
    assert whole.parameters - sum(map(prod, pooling.values())) == converted.parameters
    names = named(whole, "gen_vision_model.")
    assert names["encoder.conv_blocks.4.attn.1.proj_out.weight"] == (512, 512, 1, 1)
    assert names["decoder.conv_blocks.0.upsample.conv.weight"] == (512, 512, 3, 3)
    assert names["decoder.mid.1.norm.weight"] == (512,)
    assert sorted(names.values()) == sorted(named(converted, "model.vqmodel.").values())


def test_deepseek_vl_is_janus_that_does_not_draw() -> None:
    config = PUBLISHED["Janus-Pro-7B"]["config"]
    blind = {name: value for name, value in config.items() if not name.startswith("gen_")}
    whole, mute = named(read_config(config)), named(read_config(blind))
    assert whole.keys() - mute.keys() == {name for name in whole if name.startswith("gen_")}
    hybrid = config["vision_config"] | {"cls": "HybridVisionTower"}
    with pytest.raises(InvalidConfig, match="HybridVisionTower"):
        read_config(blind | {"vision_config": hybrid})


def test_phixtral_has_experts_under_phis_name_too() -> None:
    config = PUBLISHED["phixtral-4x2_8"]["config"]
    phi = read_config({name: value for name, value in config.items() if name != "num_local_experts"})
    first = read_config(config | {"model_type": "phi-msft"})
    assert named(first) == named(read_config(config))
    assert {stack.experts for stack in first.stacks} == {4}
    mlp = sum(prod(shape) for name, shape in named(phi).items() if ".mlp." in name)
    assert first.parameters == phi.parameters + 3 * mlp + 32 * 4 * 2560


def test_baichuan_m1_has_other_heads_in_layers_with_a_window() -> None:
    sizes = {"hidden_size": 5120, "intermediate_size": 17408, "num_hidden_layers": 4, "vocab_size": 100}
    sizes |= {"num_attention_heads": 20, "num_key_value_heads": 2, "conv_window": 2, **TYPED}
    windows = {"num_swa_attention_heads": 40, "num_swa_key_value_heads": 8, "sliding_window_layers": [1, 3]}
    kind = {"model_type": "baichuan_m1", "architectures": ["BaichuanM1ForCausalLM"]}
    whole = named(read_config(kind | sizes | windows), "model.layers.")
    assert whole["0.self_attn.W_pack.weight"] == (5120 + 2 * 2 * 256, 5120)
    assert whole["1.self_attn.W_pack.weight"] == (5120 + 2 * 8 * 128, 5120)
    assert whole["2.self_attn.conv_k"] == (1, 1, 2, 1, 2)
    assert whole["3.self_attn.conv_v"] == (1, 1, 8, 1, 2)


def test_iquest_loop_coder_is_iquest_coder_with_a_gate_per_head() -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "vocab_size": 100, "head_dim": 8}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False, **TYPED}
    loop = named(read_config({"model_type": "iquestloopcoder", **sizes}))
    once = named(read_config({"model_type": "iquestcoder", **sizes}))
    gates = {f"model.gate_projections.{i}.{name}" for i in range(3) for name in ("weight", "bias")}
    assert loop.keys() - once.keys() == gates
    assert once.items() <= loop.items()
    assert loop["model.gate_projections.2.weight"] == (4, 8)


def test_step_1_has_its_130_billion_parameters() -> None:
    """stepfun-ai/Step-Audio-Chat says 130 billion; the sizes are those of StepFun's own runner."""
    sizes = {"hidden_size": 12288, "intermediate_size": 31232, "num_hidden_layers": 88, "vocab_size": 65536}
    sizes |= {"num_attention_heads": 96, "num_attention_groups": 8}
    step = {"model_type": "step1", "architectures": ["Step1ForCausalLM"], **sizes, **TYPED}
    whole = read_config(step)
    assert whole.exact, whole.warnings
    assert f"{whole.parameters / 1e9:.2g}" == "1.3e+02"
    assert named(whole, "model.layers.0.self_attn.")["k_proj.weight"] == (8 * 128, 12288)
    assert read_config(step | {"tie_word_embeddings": False}).parameters == whole.parameters + 65536 * 12288


OPENVLA = {
    "model_type": "openvla",
    "architectures": ["OpenVLAForActionPrediction"],
    "vision_backbone_id": "dinosiglip-vit-so-224px",
    "use_fused_vision_backbone": True,
    "llm_backbone_id": "llama2-7b-pure",
    "text_config": {"model_type": "llama", "vocab_size": 32064},
    "torch_dtype": "bfloat16",
}


def test_openvla_has_its_published_parameters() -> None:
    """openvla/openvla-7b, model.safetensors."""
    whole = read_config(OPENVLA)
    assert whole.exact, whole.warnings
    assert whole.parameters == 7_541_237_184
    assert [(stack.name, len(stack.blocks)) for stack in whole.stacks] == [
        ("dino", 24),
        ("vision", 27),
        ("decoder", 32),
    ]
    unfused = OPENVLA | {"use_fused_vision_backbone": None}
    larger = read_config(unfused | {"vision_backbone_id": "dinosiglip-vit-so-384px"})
    assert larger.parameters == whole.parameters + (27**2 - 16**2) * (1024 + 1152)
    one, other = (
        named(read_config(unfused | {"vision_backbone_id": x})) for x in ("dinov2-vit-l", "siglip-vit-so400m")
    )
    assert one["projector.fc1.weight"] == (4096, 1024)
    assert other["projector.fc1.weight"] == (4096, 1152)
    assert {"vision_backbone.featurizer.attn_pool.latent"} <= other.keys() - one.keys()
    mistral = read_config({"model_type": "prismatic", "llm_backbone_id": "mistral-v0.1-7b-pure", **TYPED})
    assert named(mistral)["language_model.model.layers.0.self_attn.k_proj.weight"] == (1024, 4096)


def test_prismatic_names_what_it_knows() -> None:
    for field, value in (("vision_backbone_id", "clip-vit-l"), ("llm_backbone_id", "qwen25-0_5b-extra")):
        with pytest.raises(UnsupportedArchitecture, match=f"{field} is '{value}'; known"):
            read_config(OPENVLA | {field: value})
    with pytest.raises(InvalidConfig, match="use_fused_vision_backbone is false; expected true"):
        read_config(OPENVLA | {"use_fused_vision_backbone": False})


@pytest.mark.parametrize("count", [None, 0, 1, 64])
def test_experts_that_a_dense_model_of_a_repository_has_not_are_told(count: int | None) -> None:
    """xverse/XVERSE-MoE-A4.2B says "xverse" too; its 25.8 billion parameters are not those of a dense model."""
    sizes = {"hidden_size": 2560, "intermediate_size": 1728, "num_hidden_layers": 2, "num_attention_heads": 32}
    found = read_config({"model_type": "xverse", **sizes, "vocab_size": 1000, "num_experts": count, **TYPED})
    told = "num_experts is not known for model_type xverse; what it says is not counted"
    assert found.warnings == ((told,) if count == 64 else ())
    assert found.exact == (count != 64)


def test_llada_moe_is_told_by_its_class() -> None:
    """inclusionAI/LLaDA-MoE-7B-A1B-Base says "llada" too, 7 billion parameters and 1.4 billion active."""
    sizes = {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 16}
    sizes |= {"vocab_size": 157184, "num_experts": 64, "num_experts_per_tok": 8, "expert_intermediate_size": 1024}
    sizes |= {"dense_intermediate_size": 8192, "moe_layer_freq": [1] * 16, "qk_layernorm": True}
    sizes |= {"shared_expert_intermediate_size": None, "moe_router_enable_expert_bias": False}
    llada = {"model_type": "llada", "architectures": ["LLaDAMoEModelLM"], **sizes, **TYPED}
    whole = read_config(llada)
    assert whole.exact, whole.warnings
    experts = sum(t.parameters for b in whole.stacks[0].blocks for t in b.layout.tensors if t.role == "experts")
    active = whole.parameters - experts * 7 // 8 - 157184 * 2048  # the token embedding is looked up
    assert f"{whole.parameters / 1e9:.1g} {active / 1e9:.2g}" == "7 1.4"
    assert named(whole, "model.layers.0.self_attn.")["q_norm.weight"] == (128,)
    dense = read_config(llada | {"moe_layer_freq": [0] + [1] * 15})
    assert named(dense, "model.layers.0.mlp.")["up_proj.weight"] == (8192, 2048)
    with pytest.raises(UnsupportedArchitecture, match="shared_expert_intermediate_size"):
        read_config(llada | {"shared_expert_intermediate_size": 1024})


def test_klear_weighs_its_shared_experts() -> None:
    """Kwai-Klear/Klear-46B-A2.5B-Base says 46 billion parameters, of which 2.5 billion are active."""
    sizes = {"hidden_size": 2048, "intermediate_size": 8064, "num_hidden_layers": 32, "vocab_size": 151936}
    sizes |= {"num_attention_heads": 32, "num_key_value_heads": 4, "num_experts": 256, "moe_intermediate_size": 896}
    sizes |= {"n_shared_experts": 1, "decoder_sparse_step": 1, "mlp_only_layers": [], "tie_word_embeddings": False}
    whole = read_config({"model_type": "Klear", "architectures": ["KlearMoeForCausalLM"], **sizes, **TYPED})
    assert whole.exact, whole.warnings
    experts = sum(t.parameters for b in whole.stacks[0].blocks for t in b.layout.tensors if t.role == "experts")
    assert f"{whole.parameters / 1e9:.2g}" == "46"
    assert f"{(whole.parameters - experts * (256 - 8) // 256) / 1e9:.2g}" == "2.5"
    first = named(whole, "model.layers.0.mlp.")
    assert (first["coefficient.weight"], first["coefficient.bias"]) == ((2, 2048), (2,))


MOON = {"architectures": ["HfMoondream"], "config": {}, "torch_dtype": "bfloat16"}


def test_moondream_2_has_the_sizes_of_its_code() -> None:
    """Its page says two billion parameters; a config without sizes has those of the code."""
    whole = read_config(MOON | {"model_type": "moondream1"})
    assert whole.exact, whole.warnings
    assert f"{whole.parameters / 1e9:.0f}" == "2"
    text, seen = named(whole, "model.text."), named(whole, "model.vision.")
    assert text["wte"] == (51200, 2048)
    assert text["blocks.23.attn.qkv.weight"] == (6144, 2048)
    assert seen["pos_emb"] == (1, 729, 1152)
    assert seen["proj_mlp.fc1.weight"] == (8192, 2304)
    narrow = read_config(MOON | {"model_type": "moondream1", "config": {"text": {"dim": 1024, "n_heads": 16}}})
    assert named(narrow, "model.text.blocks.0.attn.")["proj.weight"] == (1024, 1024)


def test_moondream_before_2025_is_refused() -> None:
    for old in ({"phi_config": {"model_type": "phi"}}, {"text_config": {"model_type": "phi"}}):
        with pytest.raises(UnsupportedArchitecture, match="_config is"):
            read_config({"model_type": "moondream1", "architectures": ["Moondream"], **TYPED, **old})


def test_moondream_3_activates_two_of_nine_billion() -> None:
    """moondream/moondream3-preview: 9B parameters, of which 2B are active; 64 experts, of which 8 are."""
    whole = read_config(MOON | {"model_type": "moondream3"})
    assert whole.exact, whole.warnings
    experts = sum(t.parameters for s in whole.stacks for b in s.blocks for t in b.layout.tensors if t.role == "experts")
    assert f"{whole.parameters / 1e9:.0f}" == "9"
    assert f"{(whole.parameters - experts * 56 // 64) / 1e9:.0f}" == "2"
    text = named(whole, "model.text.blocks.")
    assert text["3.mlp.fc1.weight"] == (8192, 2048)
    assert text["4.mlp.fc1.weight"] == (64, 2048, 2048)
    assert text["4.attn.tau.wq"] == (32, 6144)
    dense = read_config(MOON | {"model_type": "moondream3", "config": {"text": {"moe": None}}})
    assert not any(".router." in name for name in named(dense))


def test_bunny_is_a_tower_and_a_language_model_whose_fields_are_at_the_top() -> None:
    config = PUBLISHED["Bunny-Llama-3-8B-V"]["config"]
    whole = read_config(config)
    tower = named(whole, "model.vision_tower.vision_tower.vision_model.")
    assert tower == named(read_config(SIGLIP))
    text = named(read_config(config | {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    assert text.items() <= named(whole).items()
    assert named(whole, "model.mm_projector.2.") == {"weight": (4096, 4096), "bias": (4096,)}
    for changed in ({"mm_vision_tower": "EVA02_CLIP_L_336_psz14_s6B"}, {"mm_projector_type": "ldp"}):
        with pytest.raises((UnsupportedArchitecture, InvalidConfig), match=next(iter(changed))):
            read_config(config | changed)


def test_nemotron_labs_diffusion_is_ministral_3_under_other_names() -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 100, "head_dim": 8}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False, **TYPED}
    kind = {"model_type": "nemotron_labs_diffusion", "architectures": ["NemotronLabsDiffusionModel"]}
    diffusion = read_config(kind | sizes)
    assert diffusion.exact, diffusion.warnings
    ministral = read_config({"model_type": "ministral3", **sizes})
    assert named(diffusion, "encoder.") == named(ministral, "model.")
    assert named(diffusion, "diffusion_head.") == named(ministral, "lm_head.") == {"weight": (100, 64)}


def test_llama_nemotron_vl_is_siglip_and_llama_without_a_head() -> None:
    """nvidia/llama-nemotron-embed-vl-1b-v2 says 1.7 billion parameters."""
    text = LLAMA | {"model_type": "llama_bidirec", "architectures": ["LlamaBidirectionalModel"], "vocab_size": 128266}
    kind = {"model_type": "llama_nemotron_vl", "architectures": ["LlamaNemotronVLModel"], "downsample_ratio": 0.5}
    seen = SIGLIP | {"image_size": 512, "patch_size": 16}
    whole = read_config(kind | {"llm_config": text, "vision_config": seen} | TYPED)
    assert whole.exact, whole.warnings
    assert f"{whole.parameters / 1e9:.1f}" == "1.7"
    assert named(whole, "vision_model.vision_model.") == named(read_config(seen))
    assert named(whole, "language_model.") == named(read_config(text))
    assert named(whole, "mlp1.1.") == {"weight": (2048, 4608), "bias": (2048,)}


def test_nemotron_parse_reads_with_mbarts_decoder_without_positions() -> None:
    sizes = {"d_model": 1024, "decoder_layers": 2, "decoder_attention_heads": 16, "decoder_ffn_dim": 4096}
    sizes |= {"vocab_size": 100}
    kind = {"model_type": "nemotron_parse", "architectures": ["NemotronParseForConditionalGeneration"], **TYPED}
    encoder = {"patch_size": 16, "args": TRAINED}
    whole = read_config(kind | {"encoder": encoder, "decoder": sizes | {"num_hidden_layers": 12}})
    assert whole.exact, whole.warnings
    mbart = named(read_config({"model_type": "mbart", "architectures": ["MBartModel"], **sizes}), "decoder.")
    assert mbart.pop("embed_positions.weight") == (1026, 1024)
    reads = named(whole, "decoder.")
    assert reads.pop("embed_tokens.weight") == (100, 1024)
    assert reads == {name: shape for name, shape in mbart.items() if name != "embed_tokens.weight"}
    tower = "encoder.model_encoder.radio_model.model."
    assert named(whole, tower) == named(read_config(nano_vl("NemotronH_Nano_VL_V2")), "vision_model.radio_model.model.")
    tied = kind | {"encoder": encoder, "decoder": sizes, "num_extra_heads": 1, "tie_word_embeddings": True}
    changed = named(read_config(tied))
    assert named(whole).keys() - changed.keys() == {"lm_head.weight"}
    assert changed["decoder.extra_proj.0.weight"] == (1024, 1024)


def test_phi_4_vision_is_siglip_2_below_phi_3() -> None:
    """microsoft/Phi-4-reasoning-vision-15B says 15 billion parameters."""
    seen = {name: SIGLIP[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads")}
    seen |= {"num_hidden_layers": 27}
    text = {"hidden_size": 5120, "intermediate_size": 17920, "num_attention_heads": 40, "num_key_value_heads": 10}
    text |= {"num_hidden_layers": 40, "vocab_size": 100352, "tie_word_embeddings": False, **TYPED}
    kind = {"model_type": "phi4-siglip", "architectures": ["Phi4ForCausalLMV"], "mm_hidden_size": 1152}
    whole = read_config(kind | text | {"vision_config": seen})
    assert whole.exact, whole.warnings
    assert f"{whole.parameters / 1e9:.0f}" == "15"
    tower = named(whole, "model.vision_tower.vision_tower.vision_model.")
    assert tower == named(read_config({"model_type": "siglip2_vision_model", **seen}))
    assert named(read_config({"model_type": "phi3", **text})).items() <= named(whole).items()


def test_deepseek_ocr_2_reads_with_qwen2_where_the_first_has_clip() -> None:
    config = PUBLISHED["DeepSeek-OCR-2"]["config"]
    second, first = read_config(config), read_config(PUBLISHED["DeepSeek-OCR"]["config"])
    tower = {"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
    qwen = read_config(tower | {"num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 1})
    reader = named(second, "model.qwen2_model.model.model.")
    assert reader == {k: v for k, v in named(qwen, "model.").items() if k != "embed_tokens.weight"}
    assert named(second, "model.layers.") == named(first, "model.layers.")
    seen = named(second, "model.sam_model.")
    assert seen.pop("net_3.weight") == (896, 512, 3, 3)  # though the file says 1024
    assert seen.items() < named(first, "model.sam_model.").items()
    assert named(second, "model.qwen2_model.query") == {"_768.weight": (144, 896), "_1024.weight": (256, 896)}
    with pytest.raises(UnsupportedArchitecture, match="other towers than clip-l-14-224 or qwen2-0-5b"):
        read_config(config | {"vision_config": {"width": {"sam_vit_b": {}, "clip": {}}}})


FALCON_OCR = {"model_type": "falcon_ocr", "architectures": ["FalconOCRForCausalLM"], "torch_dtype": "float32"}
FALCON_OCR |= {"dim": 768, "n_layers": 22, "n_heads": 16, "head_dim": 64, "n_kv_heads": 8, "vocab_size": 65536}
FALCON_OCR |= {"ffn_dim": 2304, "channel_size": 3, "spatial_patch_size": 16, "temporal_patch_size": 1}


def test_falcon_ocr_has_no_norm_in_its_blocks() -> None:
    """Its repository says 0.3 billion parameters."""
    whole = read_config(FALCON_OCR)
    assert whole.exact, whole.warnings
    assert f"{whole.parameters / 1e9:.1f}" == "0.3"
    assert named(whole, "layers.21.") == {
        "attention.wqkv.weight": (2048, 768),
        "attention.wo.weight": (768, 1024),
        "attention.sinks": (16,),
        "feed_forward.w13.weight": (4608, 768),
        "feed_forward.w2.weight": (768, 2304),
    }


def test_falcon_perception_points_measures_and_outlines() -> None:
    kind = {"model_type": "falcon_perception", "architectures": ["FalconPerceptionForSegmentation"]}
    whole, reads = named(read_config(FALCON_OCR | kind)), named(read_config(FALCON_OCR))
    boxes = named(read_config(FALCON_OCR | kind | {"do_segmentation": False}))
    assert named(read_config(FALCON_OCR | kind | {"perception_heads": False})) == reads
    assert {name.split(".")[0] for name in boxes.keys() - reads.keys()} == {
        *("coord_encoder", "coord_decoder", "size_encoder", "size_decoder")
    }
    assert {name.split(".")[0] for name in whole.keys() - boxes.keys()} == {"itok_upsampler", "proj_segm", "conv_segm"}
    assert whole["coord_encoder.embed.weight"] == (256, 2)
    assert whole["proj_segm.layers.1.weight"] == (768, 768)
    assert whole["itok_upsampler.aggregation.0.weight"] == (128, 256, 3, 3)


def test_locate_anything_is_kimis_tower_and_qwen2() -> None:
    seen = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 2}
    seen |= {"model_type": "moonvit", "patch_size": 14, "init_pos_emb_height": 8, "init_pos_emb_width": 8}
    seen |= {"merge_kernel_size": [2, 2]}
    text = {"model_type": "qwen2", "hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4}
    text |= {"num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 100, "tie_word_embeddings": True}
    kind = {"model_type": "locateanything", "architectures": ["LocateAnythingForConditionalGeneration"], **TYPED}
    whole = read_config(kind | {"vision_config": seen, "text_config": text})
    assert whole.exact, whole.warnings
    assert named(whole, "language_model.") == named(read_config(text))
    kimi = read_config({"model_type": "kimi_vl", "vision_config": seen, "text_config": text})
    assert named(whole, "vision_model.") == named(kimi, "vision_tower.")
    assert named(whole, "mlp1.1.") == {"weight": (48, 256), "bias": (48,)}
    with pytest.raises(UnsupportedArchitecture, match="mlp_connector_layers"):
        read_config(kind | {"vision_config": seen, "text_config": text, "mlp_connector_layers": 1})


def test_mage_vl_is_a_tower_of_its_own_and_qwen3() -> None:
    seen = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 2}
    seen |= {"patch_size": 16, "out_hidden_size": 48, "spatial_merge_size": 2}
    text = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    text |= {"num_hidden_layers": 2, "vocab_size": 100, "head_dim": 12, "tie_word_embeddings": False}
    kind = {"model_type": "mage_vl", "architectures": ["MageVLForConditionalGeneration"], **TYPED}
    whole = read_config(kind | {"vision_config": seen, "text_config": text})
    assert whole.exact, whole.warnings
    qwen3 = named(read_config({"model_type": "qwen3", **text}), "model.")
    assert named(whole, "model.language_model.") == qwen3
    tower = named(whole, "model.visual.")
    assert tower["encoder.layers.1.self_attn.qkv.weight"] == (192, 64)
    assert tower["merger.mlp.2.weight"] == (48, 256)
    assert not any("layernorm_post" in name for name in tower)
    with pytest.raises(UnsupportedArchitecture, match="use_head"):
        read_config(kind | {"vision_config": seen | {"use_head": True}, "text_config": text})


def test_unlimited_ocr_is_deepseek_ocr() -> None:
    config = PUBLISHED["DeepSeek-OCR"]["config"]
    other = read_config(config | {"model_type": "unlimited-ocr", "architectures": ["UnlimitedOCRForCausalLM"]})
    assert other.exact, other.warnings
    assert named(other) == named(read_config(config))


def test_the_first_chatglm_is_gpt_neox_and_the_later_ones_are_of_llamas_line() -> None:
    first = PUBLISHED["chatglm-6b"]["config"]
    neox = {"model_type": "gpt_neox", "hidden_size": 4096, "intermediate_size": 16384, "num_attention_heads": 32}
    neox = named(read_config(neox | {"num_hidden_layers": 28, "vocab_size": 8}), "gpt_neox.layers.")
    assert named(read_config(first), "transformer.layers.") == neox
    assert "lm_head.weight" not in named(read_config(first))
    assert named(read_config(first | {"tie_word_embeddings": False}))["lm_head.weight"] == (130528, 4096)
    with pytest.raises(UnsupportedArchitecture, match=r"pre_seq_len is 128.*known are null"):
        read_config(first | {"pre_seq_len": 128})


def test_chatglm_says_in_one_field_that_its_blocks_are_quantized() -> None:
    later = PUBLISHED["chatglm3-6b"]["config"] | {"torch_dtype": "float16"}
    for bits, width in ((4, 2048), (8, 4096)):
        whole = read_config(later | {"quantization_bit": bits})
        tensors = {tensor.name: tensor for tensor in whole.stacks[0].blocks[0].layout.tensors}
        stored = tensors["self_attention.dense.weight"].stored
        assert stored is not None
        assert stored == (f"stored-int{bits}", bits, 4096 * width + 4096 * 2)  # and a float16 scale per row
        assert tensors["input_layernorm.weight"].stored is None
        assert not any(tensor.stored for group in whole.outside for tensor in group.tensors)
        assert whole.quantization == "chatglm"
    assert read_config(later | {"quantization_bit": 0}).quantization is None
    odd = read_config(later | {"quantization_bit": 3})
    assert "quantization_bit 3 of chatglm" in odd.warnings[-1]


def test_molmo_point_is_molmo_2_and_what_points() -> None:
    text = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    text |= {"head_dim": 12, "num_hidden_layers": 2, "vocab_size": 100, "additional_vocab_size": 128}
    text |= {"qkv_bias": False, "use_qk_norm": True, "qk_norm_type": "qwen3", "model_type": "molmo2_text"}
    seen = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 12, "num_attention_heads": 4}
    seen |= {"num_key_value_heads": 4, "head_dim": 16, "image_patch_size": 14, "image_num_pos": 729}
    pools = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 4}
    pools |= {"head_dim": 16, "text_hidden_size": 48, "vit_layers": [-3, -9], "positional_embeddings": None}
    sides = {"text_config": text, "vit_config": seen, "adapter_config": pools}
    kind = {"model_type": "molmo_point", "architectures": ["MolmoPointForConditionalGeneration"], **TYPED}
    whole = read_config(kind | sides)
    assert whole.exact, whole.warnings
    assert [len(stack.blocks) for stack in whole.stacks] == [2, 10]
    molmo2 = read_config({"model_type": "molmo2", "architectures": ["Molmo2ForConditionalGeneration"], **TYPED} | sides)
    ours = named(whole)
    points = named(whole, "model.point_predictor.") | named(whole, "model.build_vit_embedding.")
    beside = sum(map(prod, points.values())) + 128 * 48 - (64 * 64 + 64)
    assert whole.parameters - beside == molmo2.parameters
    assert ours["model.transformer.wte.embedding"] == (100, 48)
    assert ours["lm_head.new_output_embeddings"] == (128, 48)
    assert ours["model.transformer.blocks.1.self_attn.att_proj.weight"] == (96, 48)
    assert ours["model.vit.transformer.resblocks.9.attention.wo.weight"] == (64, 64)
    placed = named(read_config(kind | sides | {"adapter_config": pools | {"positional_embeddings": 16}}))
    assert placed.keys() - ours.keys() == {"model.connector.positional_embeddings.bias"}
    tied = named(read_config(kind | sides | {"text_config": text | {"tie_word_embeddings": True}}))
    assert ours.keys() - tied.keys() == {"lm_head.output_embeddings", "lm_head.new_output_embeddings"}


def test_the_words_of_molmo_are_bare_tensors() -> None:
    whole = read_config(PUBLISHED["Molmo-7B-D"]["config"])
    assert named(whole, "model.transformer.wte.") == {"embedding": (152064, 3584), "new_embedding": (128, 3584)}


JINA_NORM = {"bias": True, "type": "default", "with_affine": True}
JINA_EYE = {"head_dim": 72, "n_heads": 16, "n_kv_heads": None, "o_bias": True, "lnorm_config": JINA_NORM}
JINA_ATTENTION = {"head_dim": 128, "n_heads": 16, "n_kv_heads": 8, "q_lnorm": True, "k_lnorm": True}
JINA_ATTENTION |= {"qkv_lnorm_on_heads": True, "lnorm_config": {"bias": False, "type": "rms", "with_affine": True}}
JINA_TEXT = {
    "block_config": {
        "attn_config": JINA_ATTENTION,
        "ffn_config": {"gated_activation": True, "size": 6144},
        "lnorm_config": {"bias": False, "type": "rms", "with_affine": True},
    },
    "model_type": "jvlm",
    "hidden_size": 2048,
    "n_layers": 28,
    "rope": True,
    "tie_word_embeddings": False,
    "vocab_size": 151936,
    "embedding_size": 151936,
    "additional_vocab_size": 128,
}
JINA_VISION = {
    "block_config": {
        "attn_config": JINA_EYE,
        "ffn_config": {"bias": True, "gated_activation": False, "size": 4304},
        "lnorm_config": JINA_NORM,
    },
    "vl_connector_config": {
        "attn_pooling_config": {"head_dim": 72, "n_heads": 16, "o_bias": True},
        "mlp_projector_config": {"gated_activation": True, "size": 6144},
        "padding_embed_type": "pad_and_partial_pad",
        "pooling_type": "attention_meanq",
        "projector_type": "mlp",
    },
    "model_type": "jvlm",
    "hidden_size": 1152,
    "n_layers": 27,
    "n_channels": 3,
    "output_size": 2048,
    "input_size": [378, 378],
    "patch_size": 14,
    "vit_layers": [-4, -10],
    "post_lnorm": True,
    "use_cls_token": False,
}


def jina_vlm(**changed: Any) -> Architecture:
    kind = {"model_type": "jvlm", "architectures": ["JinaVLMForConditionalGeneration"], **TYPED}
    return read_config(kind | {"text_config": JINA_TEXT, "vision_config": JINA_VISION} | changed)


def test_jina_vlm_is_qwen3_and_siglip_in_blocks_of_its_own() -> None:
    whole = jina_vlm()
    assert whole.exact, whole.warnings
    qwen3 = {"model_type": "qwen3", "hidden_size": 2048, "intermediate_size": 6144, "num_attention_heads": 16}
    qwen3 |= {"num_key_value_heads": 8, "head_dim": 128, "num_hidden_layers": 28, "vocab_size": 151936}
    text = read_config(qwen3 | {"architectures": ["Qwen3ForCausalLM"], "tie_word_embeddings": False})
    names = named(whole)
    speaks = {n: shape for n, shape in names.items() if n.startswith(("model.language_model.", "lm_head."))}
    biases = sum(prod(shape) for n, shape in speaks.items() if n.endswith("_b"))
    assert biases == 28 * (2048 + 1024 + 1024)
    assert sum(map(prod, speaks.values())) == text.parameters + biases + 128 * 2048
    eye, siglip = whole.stacks[1].blocks, read_config(SIGLIP).stacks[0].blocks
    assert [b.layout.parameters for b in eye] == [b.layout.parameters for b in siglip]
    assert names["model.vision_model.vl_connector.pooling.kv_w.weight"] == (2304, 2304)
    assert names["model.vision_model.vl_connector.pad_embed"] == (2, 2304)


def test_towers_of_jina_vlm_are_read_as_they_are_or_refused() -> None:
    assert "model.vision_model.pre_lnorm.weight" in named(jina_vlm(vision_config=JINA_VISION | {"pre_lnorm": True}))
    with pytest.raises(UnsupportedArchitecture, match="use_cls_token"):
        jina_vlm(vision_config=JINA_VISION | {"use_cls_token": True})
    with pytest.raises(UnsupportedArchitecture, match="tie_word_embeddings"):
        jina_vlm(text_config=JINA_TEXT | {"tie_word_embeddings": True})


@pytest.mark.parametrize(("field", "wrong"), [("patch_size", 0), ("input_size", None), ("vit_layers", [])])
def test_sizes_of_jina_vlm_that_nothing_has_are_refused(field: str, wrong: object) -> None:
    with pytest.raises(InvalidConfig, match=f"vision_config.{field}"):
        jina_vlm(vision_config=JINA_VISION | {field: wrong})


FORECAST = {"model_type": "t5", "d_model": 8, "d_ff": 24, "d_kv": 4, "num_heads": 4, "num_layers": 2, **TYPED}
PATCHES = {"input_patch_size": 16, "quantiles": [0.1, 0.5, 0.9], "use_reg_token": True}


def test_chronos_bolt_is_t5_between_patches_and_quantiles() -> None:
    given = PATCHES | {"prediction_length": 64}
    config = FORECAST | {"architectures": ["ChronosBoltModelForForecasting"], "chronos_config": given}
    whole = read_config(config)
    assert whole.exact, whole.warnings
    t5 = named(read_config(FORECAST | {"architectures": ["T5Model"]}))
    ours = named(whole)
    assert {n: s for n, s in ours.items() if n.startswith(("encoder.", "decoder."))} == {
        n: s for n, s in t5.items() if n != "shared.weight"
    }
    assert ours["shared.weight"] == (2, 8)
    assert ours["input_patch_embedding.residual_layer.weight"] == (8, 2 * 16)
    assert ours["output_patch_embedding.output_layer.weight"] == (3 * 64, 24)
    unmarked = named(read_config(config | {"chronos_config": given | {"use_reg_token": False}}))
    assert unmarked["shared.weight"] == (1, 8)


def test_chronos_2_attends_along_time_and_among_series() -> None:
    given = PATCHES | {"output_patch_size": 16}
    config = FORECAST | {"architectures": ["Chronos2Model"], "chronos_config": given}
    whole = read_config(config)
    assert whole.exact, whole.warnings
    block = {t.name: t.shape for t in whole.stacks[0].blocks[1].layout.tensors}
    assert len(block) == 2 * 5 + 3
    assert block["layer.1.self_attention.q.weight"] == (16, 8)
    assert named(whole)["input_patch_embedding.hidden_layer.weight"] == (24, 3 * 16)
    with pytest.raises(UnsupportedArchitecture, match="is_gated_act"):
        read_config(config | {"is_gated_act": True})
    with pytest.raises(InvalidConfig, match=r"chronos_config\.quantiles"):
        read_config(config | {"chronos_config": given | {"quantiles": 9}})


def test_nucleotide_transformer_2_is_not_esm_whose_name_it_has() -> None:
    esm = {"model_type": "esm", "architectures": ["EsmForMaskedLM"], "hidden_size": 64, "intermediate_size": 96}
    esm |= {"num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 30, "max_position_embeddings": 20}
    esm |= {"position_embedding_type": "rotary", "tie_word_embeddings": False, **TYPED}
    first, second = named(read_config(esm)), named(read_config(esm | {"add_bias_fnn": False}))
    assert second["esm.encoder.layer.1.intermediate.dense.weight"] == (2 * 96, 64)
    assert second.keys() - first.keys() == {"esm.embeddings.position_embeddings.weight"}
    assert first.keys() - second.keys() == {
        f"esm.encoder.layer.{i}.{part}.dense.bias" for i in range(2) for part in ("intermediate", "output")
    }
    with pytest.raises(UnsupportedArchitecture, match="position_embedding_type"):
        read_config(esm | {"add_bias_fnn": True, "position_embedding_type": "relative_key"})


def test_qwen3_tts_is_qwen3_that_writes_codes_of_several_levels() -> None:
    predictor = {"hidden_size": 32, "num_hidden_layers": 2, "num_code_groups": 4, "intermediate_size": 40}
    talker = {"hidden_size": 64, "num_hidden_layers": 3, "text_vocab_size": 90, "text_hidden_size": 48}
    talker |= {"num_attention_heads": 4, "head_dim": 16, "code_predictor_config": predictor}
    kind = {"model_type": "qwen3_tts", "architectures": ["Qwen3TTSForConditionalGeneration"], **TYPED}
    whole = read_config(kind | {"talker_config": talker, "tts_model_type": "custom_voice"})
    assert whole.exact, whole.warnings
    assert [(stack.name, len(stack.blocks)) for stack in whole.stacks] == [("talker", 3), ("code_predictor", 2)]
    qwen3 = {**talker, "model_type": "qwen3", "intermediate_size": 2048, "num_key_value_heads": 2}
    alone = read_config(qwen3 | {"architectures": ["Qwen3Model"]})
    assert whole.stacks[0].blocks.layouts == alone.stacks[0].blocks.layouts
    ours = named(whole, "talker.")
    assert ours["text_projection.linear_fc2.weight"] == (64, 48)
    assert ours["code_predictor.model.codec_embedding.2.weight"] == (2048, 64)
    assert ours["code_predictor.small_to_mtp_projection.weight"] == (32, 64)
    assert "code_predictor.lm_head.3.weight" not in ours
    base = read_config(kind | {"talker_config": talker, "tts_model_type": "base"})
    heard = named(base, "speaker_encoder.")
    assert base.parameters - whole.parameters == sum(map(prod, heard.values()))
    assert heard["fc.weight"] == (1024, 2 * 1536, 1)
    with pytest.raises(InvalidConfig, match=r"talker_config\.text_vocab_size is missing"):
        read_config(kind | {"talker_config": {"hidden_size": 64}})


DRAFT = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
DRAFT |= {"num_hidden_layers": 1, "vocab_size": 100, "draft_vocab_size": 30, "head_dim": 16, **TYPED}


@pytest.mark.parametrize("model_type", ["llama", "phi3", "qwen2", "qwen3"])
def test_eagle_3_reads_a_token_beside_what_the_large_model_makes_of_it(model_type: str) -> None:
    config = DRAFT | {"model_type": model_type, "architectures": ["LlamaForCausalLMEagle3"]}
    whole = read_config(config | {"target_hidden_size": 50, "fc_norm": True, "tie_word_embeddings": True})
    assert whole.exact, whole.warnings
    assert not whole.tied_embeddings
    ours, llama = named(whole), named(read_config(DRAFT | {"model_type": "llama"}), "model.")
    wide = {f"layers.0.self_attn.{name}_proj.weight" for name in "qkv"}
    assert {n: s for n, s in ours.items() if n in llama and n not in wide} == {
        n: s for n, s in llama.items() if n not in wide
    }
    assert {n: ours[n][1] for n in wide} == dict.fromkeys(wide, 2 * 64)
    assert ours.keys() - llama.keys() == {
        *("layers.0.hidden_norm.weight", "fc.weight", "lm_head.weight"),
        *(f"fc_norm.{i}.weight" for i in range(3)),
    }
    assert (ours["fc.weight"], ours["lm_head.weight"]) == ((64, 150), (30, 64))
    with pytest.raises(UnsupportedArchitecture, match="num_hidden_layers"):
        read_config(config | {"num_hidden_layers": 2})


@pytest.mark.parametrize("name", ["Eagle3LlamaForCausalLM", "LlamaForCausalLM"])
def test_eagle_3_has_other_names(name: str) -> None:
    config = DRAFT | {"model_type": "llama"}
    whole = read_config(config | {"architectures": [name]})
    assert whole.exact, whole.warnings
    assert named(whole) == named(read_config(config | {"architectures": ["LlamaForCausalLMEagle3"]}))
    llama = read_config(config | {"architectures": ["LlamaForCausalLM"], "draft_vocab_size": None})
    assert llama.model_type == "llama"


def test_eagle_is_a_block_without_a_norm_before_it_and_no_head() -> None:
    kind = DRAFT | {"model_type": "llama", "draft_vocab_size": None}
    llama = named(read_config(kind | {"architectures": ["LlamaModel"]}))
    whole = read_config(kind | {"architectures": ["LlamaForCausalLMEagle"]})
    assert whole.exact, whole.warnings
    ours = named(whole)
    assert {n: s for n, s in ours.items() if n not in llama} == {"fc.weight": (64, 128), "fc.bias": (64,)}
    assert llama.keys() - ours.keys() == {"layers.0.input_layernorm.weight", "norm.weight"}
    # Its authors' files have Llama's class, the newer ones say whether `fc` has a bias, which Llama has no word for.
    plain = read_config(kind | {"architectures": ["LlamaForCausalLM"], "bias": False, "qkv_bias": True})
    assert plain.exact, plain.warnings
    assert named(plain).keys() - ours.keys() == {f"layers.0.self_attn.{side}_proj.bias" for side in "qkv"}
    assert ours.keys() - named(plain).keys() == {"fc.bias"}
    two = read_config(kind | {"architectures": ["LlamaForCausalLM"], "bias": False, "num_hidden_layers": 2})
    assert two.model_type == "llama"
    # Those of other models have their type, and Llama's class and block.
    for model_type in ("mixtral", "qwen2"):
        other = {**kind, "model_type": model_type, "architectures": ["LlamaForCausalLM"]}
        assert named(read_config(other)) == ours
        assert read_config(other | {"num_hidden_layers": 2}).model_type == model_type
    biased = read_config(kind | {"architectures": ["LlamaForCausalLM"], "qkv_bias": True})
    assert named(biased).keys() - ours.keys() == {f"layers.0.self_attn.{side}_proj.bias" for side in "qkv"}


def test_what_can_be_a_llama_or_one_of_the_first_drafters_of_eagle_is_not_called_exact() -> None:
    wide = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "num_hidden_layers": 1}
    found = read_config(wide)
    assert not found.exact
    assert "can be a Llama or a drafter of EAGLE" in found.warnings[0]
    assert read_config(wide | {"bias": True}).exact
    assert read_config(wide | {"num_hidden_layers": 0}).exact
    for sure in ({"num_hidden_layers": 2}, {"hidden_size": 1024}, {"architectures": ["LlamaModel"]}):
        assert read_config(wide | sure).exact


def test_p_eagle_has_plain_blocks_after_the_first() -> None:
    whole = read_config(DRAFT | {"model_type": "llama", "architectures": ["PEagleDraftModel"], "num_hidden_layers": 3})
    assert whole.exact, whole.warnings
    first, *later = (block.layout for block in whole.stacks[0].blocks)
    assert later == [block.layout for block in read_config(DRAFT | {"model_type": "llama"}).stacks[0].blocks] * 2
    assert first.parameters - later[0].parameters == (4 + 2 * 2) * 16 * 64 + 64
    assert named(whole)["mask_hidden"] == (1, 1, 3 * 64)


def test_eagle_3_of_speculators_names_no_model_type() -> None:
    kind = {"architectures": ["Eagle3DraftModel"], "speculators_model_type": "eagle3", "draft_vocab_size": 30, **TYPED}
    layers = DRAFT | {"attention_bias": True}
    llama = read_config(kind | {"transformer_layer_config": layers | {"model_type": "llama"}, "norm_before_fc": True})
    qwen3 = read_config(
        kind | {"transformer_layer_config": layers, "fc_norm": True, "eagle_aux_hidden_state_layer_ids": [2, 8, 16, 20]}
    )
    assert llama.exact, llama.warnings
    assert named(llama)["input_norm.weight"] == (3 * 64,)
    assert named(qwen3).keys() - named(llama).keys() == {
        *(f"layers.0.self_attn.{side}_norm.weight" for side in "qk"),
        *(f"fc_norm.{i}.weight" for i in range(4)),
    }
    assert named(qwen3)["fc.weight"] == (64, 4 * 64)
    with pytest.raises(UnsupportedArchitecture, match=r"transformer_layer_config\.model_type is 'gemma'"):
        read_config(kind | {"transformer_layer_config": {"model_type": "gemma"}})
    older = read_config(kind | {"transformer_layer_config": layers, "architectures": ["Eagle3Speculator"]})
    assert older.exact, older.warnings
    with pytest.raises(UnsupportedArchitecture, match="speculators_mtp"):
        read_config(kind | {"speculators_model_type": "mtp"})


DFLASH = DRAFT | {"model_type": "qwen3", "num_hidden_layers": 2, "num_target_layers": 36}
DFLASH |= {"architectures": ["DFlashDraftModel"], "dflash_config": {"target_layer_ids": [1, 9, 17]}}


def test_dflash_is_blocks_of_qwen3_without_words_of_their_own() -> None:
    whole = read_config(DFLASH)
    assert whole.exact, whole.warnings
    qwen3 = named(read_config(DFLASH | {"architectures": ["Qwen3Model"]}))
    ours = named(whole)
    assert ours.keys() - qwen3.keys() == {"fc.weight", "hidden_norm.weight"}
    assert qwen3.keys() - ours.keys() == {"embed_tokens.weight"}
    assert ours["fc.weight"] == (64, 3 * 64)
    assert named(read_config(DFLASH | {"dflash_config": None}))["fc.weight"] == (64, 2 * 64)


def test_domino_and_dspark_are_dflash_with_corrections() -> None:
    read = DFLASH["dflash_config"]
    plain = named(read_config(DFLASH))
    domino = read | {"gru_hidden_dim": 24, "emb_dim": 8}
    recurrent = named(read_config(DFLASH | {"architectures": ["DominoDraftModel"], "dflash_config": domino}))
    assert {n: s for n, s in recurrent.items() if n not in plain} == {
        "prefix_gru.weight_ih_l0": (72, 64),
        "prefix_gru.weight_hh_l0": (72, 24),
        "embed_proj.0.weight": (8, 88),
        "embed_proj.2.weight": (100, 8),
    }

    def dspark(**changed: Any) -> dict[str, tuple[int, ...]]:
        config = DFLASH | {"architectures": ["DSparkDraftModel"], "dflash_config": read | changed}
        return {name: shape for name, shape in named(read_config(config)).items() if name not in plain}

    assert dspark() == {}
    assert dspark(confidence_head_alpha=1.0) == {
        "confidence_head.proj.weight": (1, 64),
        "confidence_head.proj.bias": (1,),
    }
    judged = dspark(markov_rank=8, enable_confidence_head=True, confidence_head_with_markov=True)
    assert judged["confidence_head.proj.weight"] == (1, 72)
    assert judged["markov_head.markov_w1.weight"] == judged["markov_head.markov_w2.weight"] == (100, 8)
    assert dspark(markov_rank=8, markov_head_type="gated")["markov_head.gate_proj.weight"] == (8, 72)
    assert dspark(markov_rank=8, markov_head_type="rnn")["markov_head.joint_proj.weight"] == (24, 80)
    with pytest.raises(InvalidConfig, match="markov_head_type"):
        dspark(markov_rank=8, markov_head_type="other")


def test_fastvlm_is_qwen2_behind_a_tower_of_fixed_sizes() -> None:
    kind = {"model_type": "llava_qwen2", "architectures": ["LlavaQwen2ForCausalLM"], "mm_hidden_size": 3072}
    text = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
    text |= {"intermediate_size": 96, "vocab_size": 100, "tie_word_embeddings": False, **TYPED}
    config = text | kind | {"mm_vision_tower": "mobileclip_l_1024", "mm_projector_type": "mlp2x_gelu"}
    whole = read_config(config)
    assert whole.exact, whole.warnings
    ours = named(whole)
    tower = {name: shape for name, shape in ours.items() if name.startswith("model.vision_tower.vision_tower.model.")}
    assert sum(map(prod, tower.values())) == 125_073_504  # built by apple/ml-fastvlm, mobileclip/mci.py
    assert [block.layout.mixer for block in whole.stacks[1].blocks] == ["conv"] * 38 + ["attention"] * 6
    qwen2 = named(read_config(text | {"model_type": "qwen2"}))
    assert qwen2.items() <= ours.items()
    assert ours["model.mm_projector.2.weight"] == (64, 64)
    with pytest.raises(UnsupportedArchitecture, match="mm_vision_tower is 'google/siglip"):
        read_config(config | {"mm_vision_tower": "google/siglip-so400m-patch14-384"})


def test_got_ocr_of_a_repository_has_what_the_librarys_has() -> None:
    text = {"hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 16, "num_hidden_layers": 2}
    text |= {"intermediate_size": 2816, "vocab_size": 151860, "tie_word_embeddings": True, **TYPED}
    ours = read_config(text | {"model_type": "GOT", "architectures": ["GOTQwenForCausalLM"]})
    assert ours.exact, ours.warnings
    library = read_config({"model_type": "got_ocr2", "text_config": text | {"model_type": "qwen2"}})
    assert ours.parameters == library.parameters
    assert named(ours)["model.vision_tower_high.net_3.weight"] == (1024, 512, 3, 3)


def test_kanana_v_merges_patches_by_convolutions_between_qwen2_vl_and_llama() -> None:
    seen = {"depth": 2, "embed_dim": 96, "num_heads": 4}
    merges = {"encoder_hidden_size": 96, "hidden_size": 48, "output_hidden_size": 64, "depth": 2, "mlp_depth": 2}
    merges |= {"merge_size": 2, "pos_emb": True, "pos_emb_size": 16, "num_eos_tokens": 0, "prenorm": False}
    kind = {"model_type": "kanana-1.5-v", "architectures": ["KananaVForConditionalGeneration"], **TYPED}
    whole = read_config(kind | {"vision_config": seen, "projector_config": merges, "text_config": NANO})
    assert whole.exact, whole.warnings
    assert named(whole, "language_model.") == named(read_config(NANO))
    library = named(read_config({"model_type": "qwen2_vl", "vision_config": seen}), "model.visual.")
    ours = named(whole, "vision_model.")
    assert ours == {name: shape for name, shape in library.items() if not name.startswith("merger.")}
    blocks = named(whole, "abstractor.")
    assert sum(map(prod, blocks.values())) == 62_880  # built with timm's RegStage
    assert blocks["net.2.b1.se.fc1.weight"] == (48, 48, 1, 1)
    assert blocks["net.2.b2.se.fc1.weight"] == (12, 48, 1, 1)
    marked = merges | {"num_eos_tokens": 3, "prenorm": True, "pos_emb": False, "hidden_size": 96}
    other = named(
        read_config(kind | {"vision_config": seen, "projector_config": marked, "text_config": NANO}), "abstractor."
    )
    assert other["eos_tokens"] == (1, 3, 64)
    assert "net.0.b1.downsample.conv.weight" not in other


def test_hyperclovax_seed_sees_with_qwens_tower_or_with_siglips() -> None:
    spoken = NANO | {"model_type": "hyperclovax", "use_post_norm": True, "tie_word_embeddings": False}
    seen = {"depth": 2, "hidden_size": 64, "intermediate_size": 96, "num_heads": 4, "out_hidden_size": 80}
    think = {"model_type": "vlm", "architectures": ["HCXVisionV2ForCausalLM"], "text_config": spoken, **TYPED}
    think |= {"vision_config": seen | {"model_type": "qwen2_5_vl_visual"}, "mm_projector_type": "linear"}
    whole = read_config(think)
    assert whole.exact, whole.warnings
    assert named(whole, "model.language_model.") == named(read_config(spoken))
    towers = {"vision_config": seen | {"model_type": "qwen2_5_vl"}}
    library = read_config({**think, **towers, "model_type": "hyperclovax_vision_v2", "architectures": None})
    assert named(whole, "model.vision_model.") == named(library, "model.vision_model.")
    assert named(whole, "model.mm_projector.") == named(library, "model.projector.")
    padded = read_config(think | {"text_config": spoken | {"padded_vocab_size": 128}})
    assert named(padded)["model.language_model.lm_head.weight"][0] == 128
    omni = read_config(think | {"audio_config": {"model_type": "qwen2_audio_encoder"}})
    assert not omni.exact
    assert named(omni) == named(whole)

    seen = {"model_type": "siglip_vision_model", "hidden_size": 96, "intermediate_size": 64, "num_hidden_layers": 2}
    seen |= {"num_attention_heads": 4, "image_size": 30, "patch_size": 7}
    older = {"model_type": "hyperclovax_vlm", "architectures": ["HCXVisionForCausalLM"], **TYPED, "anyres": True}
    older |= {"text_config": NANO, "vision_config": seen, "mm_projector_type": "cabstractor"}
    whole = read_config(older)
    assert whole.exact, whole.warnings
    assert named(whole, "language_model.") == named(read_config(NANO))
    assert named(whole, "vision_model.vision_model.") == named(read_config(seen))
    assert named(whole)["image_newline"] == named(whole)["mm_projector.readout.2.bias"]
    blocks = named(whole, "mm_projector.")
    assert blocks["pos_emb"] == (1, 16, 96)
    assert (
        sum(prod(shape) for name, shape in blocks.items() if name.startswith("net.")) == 147_600
    )  # as of timm's RegStage
    with pytest.raises(UnsupportedArchitecture, match="padded_vocab_size"):
        read_config(older | {"text_config": NANO | {"padded_vocab_size": 128}})
    with pytest.raises(InvalidConfig, match="mm_projector_type"):
        read_config(older | {"mm_projector_type": "qwen_merger"})
    wide = named(read_config(older | {"mm_projector_type": "inverted_mlp", "anyres": False}))
    assert wide["mm_projector.fc1.weight"] == (192, 96)
    assert "image_newline" not in wide


def test_nomics_encoder_of_images_says_the_type_of_its_encoder_of_text() -> None:
    sizes = {"n_embd": 64, "n_head": 4, "n_layer": 2, "n_inner": 300, "img_size": 32, "patch_size": 8, **TYPED}
    sizes |= {"activation_function": "swiglu", "norm_mlp": True, "rotary_emb_fraction": 0, "vocab_size": 0}
    whole = read_config(sizes | {"model_type": "nomic_bert", "architectures": ["NomicVisionModel"]})
    assert whole.exact, whole.warnings
    shapes = named(whole)
    assert shapes["layers.1.attn.Wqkv.weight"] == (192, 64)
    assert shapes["layers.1.mlp.fc12.weight"] == shapes["selector.mlp.fc11.weight"] == (512, 64)
    assert shapes["layers.1.mlp.norm.weight"] == shapes["selector.mlp.fc12.bias"] == (512,)
    assert "selector.mlp.norm.weight" not in shapes
    assert shapes["embeddings.pos_embed"] == (1, 17, 64)
    assert shapes["embeddings.proj.weight"] == (64, 192)
    published = {"n_embd": 768, "n_head": 12, "n_layer": 12, "n_inner": 2048, "img_size": 224, "patch_size": 16}
    whole = read_config(sizes | published | {"model_type": "nomic_bert", "architectures": ["NomicVisionModel"]})
    assert sum(map(prod, named(whole).values())) == 92_946_688  # nomic-ai/nomic-embed-vision-v1.5: 92.9M


@pytest.mark.parametrize(
    ("version", "width", "layers", "parameters"),
    [
        # as arXiv 2404.05892 counts them
        (5, 2048, 24, 1_577_754_624),
        (5, 2560, 32, 3_062_999_040),
        (6, 2048, 24, 1_599_873_024),
        (6, 2560, 32, 3_099_863_040),
        (6, 4096, 32, 7_635_746_816),
    ],
)
def test_rwkv_5_and_6_have_the_published_counts(version: int, width: int, layers: int, parameters: int) -> None:
    config = {"model_type": f"rwkv{version}", "architectures": [f"Rwkv{version}ForCausalLM"], "hidden_size": width}
    config |= {"attention_hidden_size": width, "num_hidden_layers": layers, "head_size": 64, "vocab_size": 65536}
    config |= {"intermediate_size": None, "tie_word_embeddings": False, **TYPED}
    whole = read_config(config)
    assert whole.exact, whole.warnings
    assert sum(map(prod, named(whole).values())) == parameters
    assert named(whole)["rwkv.blocks.0.pre_ln.bias"] == (width,)
    with pytest.raises(UnsupportedArchitecture, match="proj_low_rank_dim"):
        read_config(config | {"proj_low_rank_dim": 32})
    with pytest.raises(InvalidConfig, match="attention_hidden_size"):
        read_config(config | {"attention_hidden_size": 1024})


def test_ax_k1_says_its_type_in_capitals() -> None:
    sizes = {"num_hidden_layers": 3, "hidden_size": 64, **TYPED}
    assert named(read_config(sizes | {"model_type": "AXK1"})) == named(read_config(sizes | {"model_type": "axk1"}))


def test_higgs_audio_has_a_second_feed_forward_in_the_layers_that_it_names() -> None:
    config = {"model_type": "higgs_audio", "architectures": ["HiggsAudioModel"], "text_config": NANO, **TYPED}
    config |= {"audio_adapter_type": "dual_ffn_fast_forward", "audio_dual_ffn_layers": [1], "skip_audio_tower": True}
    config |= {"audio_num_codebooks": 2, "audio_codebook_size": 6}
    whole = read_config(config)
    assert whole.exact, whole.warnings
    shapes = named(whole)
    assert "layers.0.audio_mlp.up_proj.weight" not in shapes
    assert shapes["layers.1.audio_mlp.up_proj.weight"] == (128, 64)
    assert shapes["audio_decoder_proj.text_lm_head.weight"] == (100, 64)
    assert shapes["audio_codebook_embeddings.weight"] == (16, 64)
    sizes = {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24}
    sizes |= {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256, "model_type": "llama"}
    large = {"text_config": sizes, "audio_dual_ffn_layers": list(range(28)), "audio_num_codebooks": 8}
    published = read_config(config | large | {"audio_codebook_size": 1024})
    assert sum(map(prod, named(published).values())) == 5_771_283_456
    for wrong in ({"skip_audio_tower": False}, {"text_config": NANO | {"model_type": "qwen3"}}):
        with pytest.raises(UnsupportedArchitecture):
            read_config(config | wrong)
    with pytest.raises(InvalidConfig, match="audio_adapter_type"):
        read_config(config | {"audio_adapter_type": "stack"})


def test_fast_dllm_is_qwen2() -> None:
    sizes = NANO | {"tie_word_embeddings": True, **TYPED}
    ours = read_config(sizes | {"model_type": "Fast_dLLM_Qwen", "architectures": ["Fast_dLLM_QwenForCausalLM"]})
    assert ours.exact, ours.warnings
    assert named(ours) == named(read_config(sizes | {"model_type": "qwen2"}))


def test_jinas_third_reranker_is_qwen3_with_a_projector_instead_of_a_vocabulary() -> None:
    sizes = {"model_type": "qwen3", "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, **TYPED}
    sizes |= {"num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 100, "head_dim": 16}
    whole = read_config(sizes | {"architectures": ["JinaForRanking"], "embedding_size": 48})
    assert whole.exact, whole.warnings
    body = named(read_config(sizes | {"architectures": ["Qwen3Model"]}))
    assert named(whole, "model.") == body
    assert named(whole, "projector.") == {"0.weight": (32, 64), "2.weight": (48, 32)}


def test_param2_is_ling_whose_shared_expert_has_a_size_of_its_own() -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    sizes |= {"head_dim": 16, "num_hidden_layers": 3, "vocab_size": 100, "num_experts": 4, "use_qk_norm": True}
    sizes |= {"moe_intermediate_size": 24, "num_shared_experts": 2, "first_k_dense_replace": 1, **TYPED}
    ling = named(read_config(sizes | {"model_type": "bailing_moe_v2"}))
    config = sizes | {"model_type": "param2moe", "architectures": ["Param2MoEForCausalLM"]}
    ours = read_config(config)
    assert ours.exact, ours.warnings
    assert named(ours) == ling
    wider = named(read_config(config | {"moe_shared_expert_intermediate_size": 72}))
    assert wider["model.layers.1.mlp.shared_experts.up_proj.weight"] == (72, 64)


def test_tele_flm_is_llama() -> None:
    ours = read_config(NANO | {"model_type": "teleflm", "architectures": ["TeleFLMForCausalLM"], **TYPED})
    assert ours.exact, ours.warnings
    assert named(ours) == named(read_config(NANO))


def test_jet_nemotron_is_qwen2_with_delta_rules() -> None:
    """The sizes of jet-ai/Jet-Nemotron-2B, whose own code builds as many parameters."""
    jet = {"conv_size": 4, "dconv_generator_reduction": 8, "expand_v": 2.6666666667, "head_dim": 96, "num_heads": 12}
    kinds = ["jet"] * 28
    kinds[14] = kinds[19] = "attn"
    kinds[20] = kinds[21] = "swa"
    sizes = {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2}
    sizes |= {"num_hidden_layers": 28, "vocab_size": 151936, "tie_word_embeddings": True, "layer_types": kinds, **TYPED}
    config = {"model_type": "jet_nemotron", "architectures": ["JetNemotronForCausalLM"], **sizes}
    whole = read_config(config | {"efficient_attention_config": {"jet": jet, "swa": {"window_size": 1152}}})
    assert whole.exact, whole.warnings
    assert whole.parameters == 1_964_806_208
    assert [block.layout.mixer for block in whole.stacks[0].blocks].count("attention") == 4
    plain = {name: value for name, value in sizes.items() if name != "layer_types"} | {"model_type": "qwen2"}
    assert whole.stacks[0].blocks[14].layout == read_config(plain).stacks[0].blocks[14].layout
    with pytest.raises(InvalidConfig, match="efficient_attention_config"):
        read_config(config)


def test_time_moe_reads_one_value_at_a_time() -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 2}
    sizes |= {"num_experts": 4, "num_experts_per_tok": 2, "horizon_lengths": [1, 8], **TYPED}
    config = {"model_type": "time_moe", "architectures": ["TimeMoeForPrediction"], **sizes}
    whole = read_config(config)
    assert whole.exact, whole.warnings
    assert whole.vocab_size == 0
    qwen = {"moe_intermediate_size": 48, "shared_expert_intermediate_size": 96, "num_key_value_heads": 4}
    library = read_config(sizes | qwen | {"model_type": "qwen2_moe", "vocab_size": 100, "decoder_sparse_step": 1})
    assert [b.layout.parameters for b in whole.stacks[0].blocks] == [
        b.layout.parameters for b in library.stacks[0].blocks
    ]
    ours = named(whole)
    assert ours["model.embed_layer.gate_layer.weight"] == (64, 1)
    assert {name: shape for name, shape in ours.items() if name.startswith("lm_heads")} == {
        "lm_heads.0.out_layer.weight": (1, 64),
        "lm_heads.1.out_layer.weight": (8, 64),
    }
    dense = named(read_config(config | {"use_dense": True, "horizon_lengths": 3}))
    assert dense["model.layers.1.ffn_layer.up_proj.weight"] == (96, 64)
    assert dense["lm_heads.0.out_layer.weight"] == (3, 64)


def test_hymba_reuses_keys_and_values_of_earlier_layers() -> None:
    config = PUBLISHED["Hymba-1.5B"]["config"]
    whole = read_config(config)
    shapes = [named(whole, f"model.layers.{i}.mamba.") for i in (17, 18, 19)]
    rows = [found["in_proj.weight"][0] for found in shapes]
    assert rows == [2 * 3200 + 1600, 2 * 3200 + 1600, 2 * 3200 + 1600 + 320 + 640]
    assert {name: shape for name, shape in shapes[0].items() if shapes[2][name] != shape}.keys() == {"in_proj.weight"}
    assert {block.layout.mixer for block in whole.stacks[0].blocks} == {"hybrid"}
    alternating = read_config(config | {"kv_reuse_group": None, "kv_reuse_every_i_layer": 3})
    counts = [block.layout.parameters for block in alternating.stacks[0].blocks]
    assert [i for i, count in enumerate(counts) if count == max(counts)] == [*range(0, 32, 3)]
    never = read_config(config | {"kv_reuse_group": None})
    assert len({block.layout.parameters for block in never.stacks[0].blocks}) == 1
    with pytest.raises(InvalidConfig, match="kv_reuse_group is 3"):
        read_config(config | {"kv_reuse_group": 3})
    with pytest.raises(UnsupportedArchitecture, match="kq_norm"):
        read_config(config | {"kq_norm": "rms"})


def test_andesvl_sees_with_the_tower_of_ovis() -> None:
    ovis = PUBLISHED["Ovis2-8B"]["config"]
    seen = ovis["visual_tokenizer_config"]["backbone_config"]
    spoken = LLAMA | {"model_type": "qwen3", "head_dim": 64}
    kind = {"model_type": "andesvl-aimv2-qwen3", "architectures": ["AndesVLForConditionalGeneration"], **TYPED}
    whole = read_config(kind | {"text_config": spoken, "vision_config": seen | {"preserve_original_pe": True}})
    assert whole.exact, whole.warnings
    tower = named(read_config(ovis), "visual_tokenizer.backbone.")
    assert named(whole, "vision_encoder.") == tower
    assert named(whole, "language_model.") == named(read_config(spoken | {"architectures": ["Qwen3ForCausalLM"]}))
    merged = 4 * seen["hidden_size"]
    assert (named(whole)["mlp.0.weight"], named(whole)["mlp.2.weight"]) == ((merged, merged), (2048, merged))
    rotated = read_config(kind | {"text_config": spoken, "vision_config": seen})
    assert tower.keys() - named(rotated, "vision_encoder.").keys() == {"preprocessor.pos_embed"}


def test_llava_onevision_of_its_authors_says_llava() -> None:
    """lmms-lab/llava-onevision-qwen2-7b-ov, which the library has as llava-hf/llava-onevision-qwen2-7b-ov-hf."""
    sizes = {"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4}
    sizes |= {"num_hidden_layers": 28, "vocab_size": 152064, "tie_word_embeddings": False}
    named_so = {"model_type": "llava", "architectures": ["LlavaQwenForCausalLM"]}
    tower = {"mm_vision_tower": "google/siglip-so400m-patch14-384", "mm_hidden_size": 1152}
    whole = read_config(SEES | sizes | tower | named_so)
    assert whole.exact, whole.warnings
    assert whole.parameters == 8_030_348_832


def test_nanollava_keeps_the_whole_tower_where_bunny_cuts_it() -> None:
    config = PUBLISHED["nanoLLaVA"]["config"]
    bunny = {"model_type": "bunny-qwen2", "architectures": ["BunnyQwen2ForCausalLM"]}
    ours, cut = named(read_config(config)), named(read_config(config | bunny))
    assert cut.items() <= ours.items()
    assert named(read_config(config), "model.vision_tower.vision_tower.vision_model.") == named(read_config(SIGLIP))


def test_pplx_embed_is_qwen3_without_a_head() -> None:
    sizes = LLAMA | {"head_dim": 128, **TYPED}
    pplx = read_config(sizes | {"model_type": "bidirectional_pplx_qwen3", "architectures": ["PPLXQwen3Model"]})
    assert pplx.exact, pplx.warnings
    assert named(pplx) == named(read_config(sizes | {"model_type": "qwen3", "architectures": ["Qwen3Model"]}))


@pytest.mark.parametrize(("model_type", "prefix", "inner"), [("R", "R", 2048), ("bee", "Bee", 4 * 2048)])
def test_r_and_bee_are_llava_onevision_with_a_norm_before_the_projector(
    model_type: str, prefix: str, inner: int
) -> None:
    sides = {"vision_config": SIGLIP | {"vision_use_head": False}, "text_config": LLAMA | {"model_type": "qwen3"}}
    kind = {"model_type": model_type, "architectures": [f"{prefix}ForConditionalGeneration"], **TYPED}
    whole = read_config(kind | sides)
    assert whole.exact, whole.warnings
    llava = {"model_type": "llava_onevision", "architectures": ["LlavaOnevisionForConditionalGeneration"], **TYPED}
    ours, theirs = named(whole), named(read_config(llava | sides))
    projector = "model.multi_modal_projector."
    assert {n: s for n, s in ours.items() if projector not in n} == {
        n: s for n, s in theirs.items() if projector not in n
    }
    assert named(whole, projector) == {
        "pre_norm.weight": (1152,),
        "pre_norm.bias": (1152,),
        "linear_1.weight": (inner, 1152),
        "linear_1.bias": (inner,),
        "linear_2.weight": (2048, inner),
        "linear_2.bias": (2048,),
    }


def test_step_audio_2_hears_with_whispers_encoder() -> None:
    config = PUBLISHED["Step-Audio-2-mini"]["config"]
    whole = read_config(config)
    heard = read_config(WHISPER | {"architectures": ["WhisperModel"]})
    counts = [[block.layout.parameters for block in a.stacks[0].blocks] for a in (whole, heard)]
    assert counts[0] == counts[1]
    assert named(whole, "adapter.conv.") == {"weight": (1280, 1280, 3), "bias": (1280,)}
    plain = config | {"audio_encoder_config": config["audio_encoder_config"] | {"adapter_stride": -1}}
    assert named(read_config(plain), "adapter.conv.") == {}


def test_fish_audio_decodes_codes_with_a_decoder_of_their_own() -> None:
    config = PUBLISHED["Fish Audio S2 Pro"]["config"]
    whole = read_config(config)
    assert [(stack.name, len(stack.blocks)) for stack in whole.stacks] == [("decoder", 36), ("codes", 4)]
    assert whole.tied_embeddings
    assert named(whole, "audio_decoder.codebook_embeddings.") == {"weight": (10 * 4096, 2560)}
    untied = read_config(config | {"text_config": config["text_config"] | {"tie_word_embeddings": False}})
    assert untied.parameters - whole.parameters == 155776 * 2560
    narrow = config | {"audio_decoder_config": config["audio_decoder_config"] | {"dim": 1280}}
    with pytest.raises(InvalidConfig, match=r"audio_decoder_config\.text_dim is 2560"):
        read_config(narrow)
    for side in ("text_config", "audio_decoder_config"):
        with pytest.raises(UnsupportedArchitecture, match="use_moe"):
            read_config(config | {side: config[side] | {"use_moe": True}})


def test_parler_tts_speaks_by_a_description_with_the_codec_of_its_authors() -> None:
    config = PUBLISHED["Parler-TTS Mini v1"]["config"]
    whole = read_config(config)
    assert whole.exact, whole.warnings
    flan = read_config(config["text_encoder"] | {"architectures": ["T5EncoderModel"]})
    assert named(whole, "text_encoder.") == named(flan)
    codec = named(whole, "audio_encoder.model.")
    assert len(codec) == 301  # tensors of parler-tts/dac_44khZ_8kbps
    assert 4 * sum(map(prod, codec.values())) + 34856 == 306_642_416  # with the header, its file
    folded = {name: shape for name, shape in codec.items() if not name.endswith("weight_g")}
    librarys = PUBLISHED["Parler-TTS Mini Multilingual v1.1"]["config"]
    other = named(read_config(librarys), "audio_encoder.")
    assert sorted(map(prod, folded.values())) == sorted(map(prod, other.values()))
    assert other == named(read_config(librarys["audio_encoder"]))
    hub = config | {"audio_encoder": config["audio_encoder"] | {"model_type": "dac_on_the_hub"}}
    assert named(read_config(hub)) == named(whole)
    with pytest.raises(UnsupportedArchitecture, match=r"audio_encoder\.model_type is 'mimi'"):
        read_config(config | {"audio_encoder": {"model_type": "mimi"}})
    with pytest.raises(InvalidConfig, match="decoder is null"):
        read_config({name: value for name, value in config.items() if name != "decoder"})


def test_what_the_decoder_of_parler_tts_can_have() -> None:
    config = PUBLISHED["Parler-TTS Mini v1"]["config"]
    decoder, whole = config["decoder"], read_config(config)
    rotated = read_config(config | {"decoder": decoder | {"rope_embeddings": True}})
    assert whole.parameters - rotated.parameters == 4096 * 1024
    crossed = read_config(config | {"prompt_cross_attention": True})
    assert crossed.parameters - whole.parameters == 4096 * 1024
    fused = named(read_config(config | {"decoder": decoder | {"use_fused_lm_heads": True}}), "decoder.lm_heads.")
    assert fused == {"weight": (9 * 1088, 1024)}
    grouped = decoder | {"num_key_value_heads": 4, "num_cross_attention_key_value_heads": None}
    layer = "decoder.model.decoder.layers.0."
    attended = named(read_config(config | {"decoder": grouped}), layer)
    assert attended["self_attn.k_proj.weight"] == attended["encoder_attn.v_proj.weight"] == (256, 1024)
    grouped["num_cross_attention_key_value_heads"] = 2
    assert named(read_config(config | {"decoder": grouped}), layer)["encoder_attn.v_proj.weight"] == (128, 1024)
    wide = named(read_config(config | {"decoder": decoder | {"hidden_size": 1536, "num_attention_heads": 24}}))
    assert wide["enc_to_dec_proj.weight"] == (1536, 1024)
    defaults = read_config(config | {"decoder": {}})
    assert named(defaults, "decoder.lm_heads.3.") == {"weight": (2049, 1024)}


def test_jina_clip_2_has_the_text_encoder_of_another_repository() -> None:
    config = PUBLISHED["jina-clip-v2"]["config"]
    whole = read_config(config)
    assert (
        sum(len(b.layout.tensors) for s in whole.stacks for b in s.blocks)
        + sum(len(group.tensors) for group in whole.outside)
        == 999
    )  # tensors in the file
    adapted = read_config(PUBLISHED["jina-embeddings-v3"]["config"] | {"lora_adaptations": ["retrieval.query"]})
    encoder = {name: shape for name, shape in named(adapted).items() if not name.startswith("pooler.")}
    assert named(whole, "text_model.transformer.") == encoder
    text, seen = config["text_config"], config["vision_config"]
    with pytest.raises(UnsupportedArchitecture, match=r"hf_model_name_or_path is 'jinaai/jina-bert-flash"):
        read_config(config | {"text_config": text | {"hf_model_name_or_path": "jinaai/jina-bert-flash-implementation"}})
    with pytest.raises(InvalidConfig, match=r"vision_config\.embed_dim is 768"):
        read_config(config | {"vision_config": seen | {"embed_dim": 768}})
    plain = read_config(config | {"vision_config": seen | {"subln": False, "qkv_bias": False}})
    assert named(plain, "vision_model.blocks.0.attn.") == {
        "qkv.weight": (3072, 1024),
        "proj.weight": (1024, 1024),
        "proj.bias": (1024,),
    }


def test_rwkv_6_of_flash_linear_attention_has_as_many_parameters_under_other_names() -> None:
    sizes = {"model_type": "rwkv6", "hidden_size": 128, "num_hidden_layers": 3, "vocab_size": 100, **TYPED}
    ranks = {"num_heads": 2, "expand_k": 1, "expand_v": 1, "proj_low_rank_dim": 32, "gate_low_rank_dim": 64}
    flash = sizes | ranks | {"architectures": ["RWKV6ForCausalLM"], "attn": None, "hidden_ratio": 3.5}
    whole, other = read_config(flash), read_config(sizes | {"architectures": ["Rwkv6ForCausalLM"]})
    assert whole.exact, whole.warnings
    assert [b.layout.parameters for b in whole.stacks[0].blocks] == [
        b.layout.parameters for b in other.stacks[0].blocks
    ]
    assert whole.parameters == other.parameters
    narrow = named(read_config(flash | {"expand_k": 0.5, "intermediate_size": 96, "norm_first": False}))
    assert narrow["model.layers.0.attn.w_proj.linear.lora.2.weight"] == (64, 64)
    assert narrow["model.layers.0.attn.bonus"] == (2, 32)
    assert narrow["model.layers.0.ffn.value.weight"] == (128, 96)
    assert "model.layers.0.pre_norm.weight" not in narrow
    with pytest.raises(UnsupportedArchitecture, match="attn"):
        read_config(flash | {"attn": {"layers": [1], "num_heads": 2}})
    with pytest.raises(UnsupportedArchitecture, match="proj_low_rank_dim"):
        read_config(flash | {"architectures": ["Rwkv6ForCausalLM"]})


def test_aimv2_of_its_authors_is_a_tower_alone() -> None:
    config = PUBLISHED["AIMv2-large"]["config"]
    assert read_config(config).model_type == "aimv2_tower"
    with pytest.raises(UnsupportedArchitecture, match="is_native"):
        read_config(config | {"is_native": True})
    assert read_config({"model_type": "aimv2", "architectures": ["Aimv2Model"]}).model_type == "aimv2"
