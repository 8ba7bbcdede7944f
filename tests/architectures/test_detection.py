"""Detectors, segmenters and what they look through."""

from __future__ import annotations

from typing import Any

import pytest

from fastewq.architecture import Architecture
from fastewq.config import read_config
from fastewq.errors import InvalidConfig, UnsupportedArchitecture


def read(model_type: str, **fields: Any) -> Architecture:
    return read_config({"model_type": model_type, **fields})


def test_blocks_of_sam2_are_numbered_through_its_stages() -> None:
    tower = next(stack for stack in read("sam2").stacks if stack.name == "vision")
    assert [block.path for block in tower.blocks][-1] == "vision_encoder.backbone.blocks.11"
    first_of_stages = [i for i, b in enumerate(tower.blocks) if any(t.name == "proj.weight" for t in b.layout.tensors)]
    assert first_of_stages == [1, 3, 10]


def test_sam2_that_remembers_has_more_than_the_one_for_images() -> None:
    video, image = (read("sam2_video", architectures=[name]) for name in ("Sam2VideoModel", "Sam2Model"))
    assert {stack.name for stack in video.stacks} - {stack.name for stack in image.stacks} == {"memory"}


@pytest.mark.parametrize("whole", [2**40, 3**30])
def test_masks_that_shrink_too_often_are_refused(whole: int) -> None:
    with pytest.raises(InvalidConfig, match="mask_downsampler_total_stride"):
        read("sam2_video", mask_downsampler_total_stride=whole)


@pytest.mark.parametrize("name", ["rt_detr", "mask2former", "maskformer", "grounding-dino", "deformable_detr"])
def test_a_detector_behind_an_unknown_network_is_not_supported(name: str) -> None:
    with pytest.raises(UnsupportedArchitecture, match="efficientnet"):
        read(name, backbone_config={"model_type": "efficientnet"})


def test_a_hybrid_dpt_is_not_supported() -> None:
    with pytest.raises(UnsupportedArchitecture, match="is_hybrid"):
        read("dpt", is_hybrid=True)


def test_published_sizes() -> None:
    """SenseTime's Deformable DETR has 40 million parameters, RT-DETR with a ResNet of 50 layers 42 million."""
    assert round(read("deformable_detr", num_labels=91).parameters / 1e6) == 40
    assert round(read("rt_detr", num_labels=80).parameters / 1e6) in (42, 43)
