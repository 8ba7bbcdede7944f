"""Image models and image-text encoders."""

from __future__ import annotations

from typing import Any

import pytest

from fastewq.architecture import Architecture
from fastewq.config import read_config
from fastewq.errors import InvalidConfig


def read(model_type: str, name: str, **fields: Any) -> Architecture:
    return read_config({"model_type": model_type, "architectures": [name], **fields})


def test_clip_has_a_text_and_a_vision_stack() -> None:
    text, vision = read("clip", "CLIPModel").stacks
    assert (text.name, text.width, vision.name, vision.role, vision.width) == ("text", 512, "vision", "vision", 768)


def test_published_size_of_clip_base() -> None:
    assert read("clip", "CLIPModel").parameters == 151_277_313


def test_image_size_decides_on_the_position_table() -> None:
    small, large = (read("vit", "ViTModel", image_size=size) for size in (224, [224, 448]))
    assert large.parameters - small.parameters == 14 * 14 * 768


def test_stages_of_swin_are_one_stack() -> None:
    (stack,) = read("swin", "SwinModel", depths=[1, 2, 3, 1]).stacks
    assert [block.index for block in stack.blocks] == list(range(7))
    assert stack.blocks[3].path == "encoder.layers.2.blocks.0"
    assert (stack.width, stack.heads) == (384, 12)


def test_stage_lists_of_unequal_length_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="depths"):
        read("swin", "SwinModel", depths=[2, 2], num_heads=[3, 6, 12, 24])
    with pytest.raises(InvalidConfig, match="num_heads"):
        read("swin", "SwinModel", depths=[2, 2, 6, 2, 2])


def test_the_pooler_of_v_jepa_is_four_times_as_wide_whatever_the_blocks_are() -> None:
    """As the library builds it: facebook/vjepa2-vitg-fpc64-384-ssv2 has blocks 4.36 times as wide."""
    usual, wider = (read("vjepa2", "VJEPA2ForVideoClassification", mlp_ratio=ratio) for ratio in (4.0, 48 / 11))
    poolers = [[group for group in a.outside if group.path.startswith("pooler.")] for a in (usual, wider)]
    assert poolers[0] == poolers[1] != []
    assert wider.parameters > usual.parameters
