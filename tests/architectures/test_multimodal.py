"""Vision-language and audio-language models: towers, projectors, nested language models."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from fastewq.architecture import Architecture
from fastewq.architectures.registry import MODELS
from fastewq.config import read_config
from fastewq.errors import FastEWQError, InvalidConfig, UnsupportedArchitecture


def read(model_type: str, name: str, **fields: Any) -> Architecture:
    return read_config({"model_type": model_type, "architectures": [name], **fields})


def test_llava_is_a_tower_a_projector_and_a_language_model() -> None:
    architecture = read("llava", "LlavaForConditionalGeneration")
    vision, decoder = architecture.stacks
    assert vision.blocks[0].path == "model.vision_tower.encoder.layers.0"
    assert decoder.blocks[0].path == "model.language_model.layers.0"
    assert "model.multi_modal_projector.linear_1" in {group.path for group in architecture.outside}


def test_flat_and_nested_qwen2_vl_configs_read_alike() -> None:
    text = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    text |= {"num_key_value_heads": 2, "vocab_size": 100}
    name = "Qwen2VLForConditionalGeneration"
    assert read("qwen2_vl", name, **text).parameters == read("qwen2_vl", name, text_config=text).parameters


@pytest.mark.parametrize("where", ["top", "text"])
def test_head_is_tied_by_either_config(where: str) -> None:
    name = "LlavaForConditionalGeneration"
    change = {"tie_word_embeddings": True} if where == "top" else {"text_config": {"tie_word_embeddings": True}}
    assert read("llava", name).parameters - read("llava", name, **change).parameters == 32000 * 4096


def test_head_that_the_class_never_ties() -> None:
    name = "VoxtralForConditionalGeneration"
    assert read("voxtral", name).parameters == read("voxtral", name, tie_word_embeddings=True).parameters


def test_unknown_language_model_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedArchitecture, match=r"text_config\.model_type is 'nothing'"):
        read("llava", "LlavaForConditionalGeneration", text_config={"model_type": "nothing"})


NESTING = [
    ("instructblip", "text_config"),
    ("llava", "text_config"),
    ("internvl_chat", "llm_config"),
    ("rag", "generator"),
]


@pytest.mark.parametrize(("outer", "field"), NESTING)
def test_any_model_in_the_place_of_a_nested_one_is_read_or_refused(outer: str, field: str) -> None:
    for model_type in MODELS:
        with suppress(FastEWQError):
            read_config({"model_type": outer, field: {"model_type": model_type}})


def test_nested_model_without_the_class_needed_is_refused() -> None:
    nested = {"model_type": "embedding_gemma2_text"}
    expected = r"text_config\.model_type is 'embedding_gemma2_text', which has no class ForCausalLM"
    with pytest.raises(UnsupportedArchitecture, match=expected):
        read_config({"model_type": "instructblip", "text_config": nested})


@pytest.mark.parametrize("model_type", sorted(MODELS))
def test_stacks_have_names_of_their_own_and_blocks_run_on(model_type: str) -> None:
    try:
        architecture = read_config({"model_type": model_type})
    except FastEWQError:
        return
    names = [stack.name for stack in architecture.stacks]
    assert len(set(names)) == len(names)
    for stack in architecture.stacks:
        assert [block.index for block in stack.blocks] == list(range(len(stack.blocks)))


def test_florence_2_as_first_published() -> None:
    """microsoft/Florence-2-base spells its tower in another way than the library's own files."""
    text = {"d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072}
    text |= {"encoder_attention_heads": 12, "decoder_attention_heads": 12, "vocab_size": 51289}
    tower = {"projection_dim": 768, "num_heads": [4, 8, 16, 32], "depths": [1, 1, 9, 1]}
    named = {"model_type": "florence2", "architectures": ["Florence2ForConditionalGeneration"]}
    first = read_config(
        named
        | {"text_config": text | {"model_type": "florence2_language"}}
        | {"vision_config": tower | {"dim_embed": [128, 256, 512, 1024], "image_pos_embed": {"max_pos_embeddings": 50}}}
    )
    library = read_config(
        named
        | {"text_config": text | {"model_type": "bart"}}
        | {"vision_config": tower | {"embed_dim": [128, 256, 512, 1024], "max_position_embeddings": 50}}
    )
    assert first.parameters == library.parameters == 231_414_016
    assert first.stacks == library.stacks


@pytest.mark.parametrize("version", [2.0, 3.0, "2.7", [2.6]])
def test_versions_of_minicpm_v_that_are_not_known_are_refused(version: Any) -> None:
    with pytest.raises((UnsupportedArchitecture, InvalidConfig), match="version"):
        read_config({"model_type": "minicpmv", "architectures": ["MiniCPMV"], "version": version, "vision_config": {}})


@pytest.mark.parametrize(
    ("layers", "inner", "shared", "published"), [(35, 16384, 15, 7_849_978_192), (30, 8192, 10, 5_439_438_272)]
)
def test_gemma_3n_is_as_large_as_published(layers: int, inner: int, shared: int, published: int) -> None:
    """google/gemma-3n-E4B-it and E2B-it; their files hold keys and values that the last layers do not use."""
    text = {"num_hidden_layers": layers, "intermediate_size": [inner] * layers, "num_kv_shared_layers": shared}
    found = read("gemma3n", "Gemma3nForConditionalGeneration", text_config=text)
    unused = 2 * 2048 * 512 + 256
    assert found.parameters == published - shared * unused
    assert found.exact
    assert [stack.role for stack in found.stacks] == ["decoder", "audio"]


def test_another_tower_of_gemma_3n_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="architecture"):
        read("gemma3n", "Gemma3nForConditionalGeneration", vision_config={"architecture": "resnet50"})


def test_sizes_beside_a_missing_config_are_no_loss_where_the_class_assumes_them() -> None:
    """zai-org/GLM-4.1V-9B-Thinking was published before its class had a `text_config`."""
    flat = {"hidden_size": 4096, "intermediate_size": 13696, "num_attention_heads": 32, "num_hidden_layers": 40}
    flat |= {"num_key_value_heads": 2, "vocab_size": 151552, "attention_bias": True, "tie_word_embeddings": False}
    vision = {"hidden_size": 1536, "depth": 24, "num_heads": 12, "out_hidden_size": 4096}
    found = read("glm4v", "Glm4vForConditionalGeneration", vision_config=vision, **flat)
    assert (found.exact, found.parameters) == (True, 10_292_777_472)
    other = read("glm4v", "Glm4vForConditionalGeneration", vision_config=vision, **flat | {"num_hidden_layers": 39})
    assert not other.exact
    assert "text_config is missing" in other.warnings[0]


def test_config_dict_of_clips_first_files_replaces_the_nested_config() -> None:
    """As the library's classes do: also by their defaults, where the object leaves a field out."""
    nested = {"text_config": {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 512}}
    text = {"hidden_size": 128, "num_attention_heads": 4}
    config = {"model_type": "clip", "architectures": ["CLIPModel"]}
    assert read_config(config | nested | {"text_config_dict": text}) == read_config(config | {"text_config": text})
    assert read_config(config | nested | {"text_config_dict": None}) == read_config(config | nested)
    assert read_config(config | nested | {"text_config_dict": text}) != read_config(config | nested)


def test_qwen2_5_omni_has_the_first_name_of_its_class() -> None:
    """Qwen/Qwen2.5-Omni-7B says Qwen2_5OmniModel, which the library renamed."""
    first, now = (
        read_config({"model_type": "qwen2_5_omni", "architectures": [f"Qwen2_5Omni{name}"], "dtype": "bfloat16"})
        for name in ("Model", "ForConditionalGeneration")
    )
    assert first.exact, first.warnings
    assert first == now
