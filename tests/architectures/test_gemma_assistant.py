"""Gemma 4's assistants, which the transformers library cannot build at the version that the golden tables are of."""

from __future__ import annotations

from typing import Any

import pytest

from fastewq.architecture import Architecture
from fastewq.config import read_config
from fastewq.errors import InvalidConfig, UnsupportedArchitecture
from fastewq.kv_cache import cache_bytes

TEXT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4}
TEXT |= {"num_key_value_heads": 2, "head_dim": 16, "global_head_dim": 32, "vocab_size": 100}
TEXT |= {"layer_types": ["sliding_attention"] * 3 + ["full_attention"], "num_kv_shared_layers": 4}
SIDES = {"gemma4_assistant": "gemma4_text", "gemma4_unified_assistant": "gemma4_unified_text"}


def config(model_type: str, text: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
    inner = {"model_type": SIDES[model_type], "hidden_size_per_layer_input": 0, **TEXT, **(text or {})}
    return {"model_type": model_type, "backbone_hidden_size": 128, "dtype": "bfloat16", "text_config": inner} | changed


def outside(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    return {f"{group.path}.{t.name}": t.shape for group in architecture.outside for t in group.tensors}


@pytest.mark.parametrize("model_type", SIDES)
def test_every_block_reads_the_keys_and_values_of_the_large_model(model_type: str) -> None:
    whole = read_config(config(model_type))
    assert whole.exact, whole.warnings
    text = config(model_type)["text_config"] | {"num_kv_shared_layers": 0}
    owning = read_config({**text, "dtype": "bfloat16"})
    for ours, theirs in zip(whole.stacks[0].blocks, owning.stacks[0].blocks, strict=True):
        dropped = {t.name for t in theirs.layout.tensors} - {t.name for t in ours.layout.tensors}
        assert dropped == {f"self_attn.{name}.weight" for name in ("k_proj", "v_proj", "k_norm")}
    assert sum(cache_bytes(config(model_type), whole, 1000, 1, 16)) == 0


def test_projections_lead_to_the_large_model_and_back() -> None:
    tied = outside(read_config(config("gemma4_assistant")))
    assert tied["pre_projection.weight"] == (64, 2 * 128)
    assert tied["post_projection.weight"] == (128, 64)
    whole = outside(read_config(config("gemma4_assistant", tie_word_embeddings=False, use_ordered_embeddings=True)))
    assert {name: shape for name, shape in whole.items() if name not in tied} == {
        "lm_head.weight": (100, 64),
        "masked_embedding.centroids.weight": (2048, 64),
    }


def test_blocks_that_an_assistant_cannot_have_are_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"text_config\.num_kv_shared_layers is 2"):
        read_config(config("gemma4_assistant", {"num_kv_shared_layers": 2}))
    with pytest.raises(UnsupportedArchitecture, match="hidden_size_per_layer_input"):
        read_config(config("gemma4_assistant", {"hidden_size_per_layer_input": 256}))
    with pytest.raises(UnsupportedArchitecture, match="model_type"):
        read_config(config("gemma4_assistant", {"model_type": "llama"}))
