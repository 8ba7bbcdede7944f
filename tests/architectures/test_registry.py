"""What holds for every described architecture."""

from __future__ import annotations

from importlib import import_module
from typing import get_args

import pytest

from fastewq.architecture import FeedForward, Mixer, Role
from fastewq.architectures import MODELS, supported
from fastewq.architectures.fields import STAND_INS, config_class
from fastewq.architectures.registry import FAMILIES
from fastewq.config import read_config

IN_LIBRARY = [name for name in supported() if name not in STAND_INS and config_class(name).fields]


def test_breadth() -> None:
    assert len(IN_LIBRARY) >= 150
    assert supported() == sorted(MODELS)


def test_no_family_hides_a_model_of_another() -> None:
    tables = {name: getattr(import_module(f"fastewq.architectures.{name}"), table) for name, table in FAMILIES}
    text = tables.pop("text")
    for name in ("decoders.dense", "decoders.gemma", "decoders.moe"):
        assert tables.pop(name).items() <= text.items(), name
    tables["text"] = text
    assert sum(map(len, tables.values())) == len(MODELS)


@pytest.mark.parametrize("model_type", supported())
def test_default_head_is_described(model_type: str) -> None:
    model = MODELS[model_type]
    assert model.default in model.endings


INCOMPLETE = {
    *("aya_vision", "dots1", "esm", "lfm2_moe", "qwen3_omni_moe", "qwen4_exp", "qwen4_exp_text", "granite4_vision"),
    *("time_series_transformer", "informer", "autoformer", "encoder-decoder"),
    *("diffusion_gemma", "diffusion_gemma_text", "qwen3_omni_moe_talker_text", "lw_detr", "gemma4_assistant"),
}
"""Types whose class defaults describe no model; the library cannot build one from them either, or one that is blind."""


@pytest.mark.parametrize("model_type", sorted(set(IN_LIBRARY) - INCOMPLETE))
def test_default_config(model_type: str) -> None:
    architecture = read_config({"model_type": model_type})
    names = [f"{b.path}.{t.name}" for s in architecture.stacks for b in s.blocks for t in b.layout.tensors]
    names += [f"{g.path}.{t.name}" for g in architecture.outside for t in g.tensors]
    assert len(names) == len(set(names)), "a tensor is named twice"
    for stack in architecture.stacks:
        assert [b.index for b in stack.blocks] == list(range(len(stack.blocks)))
        assert {b.layout.mixer for b in stack.blocks} <= set(get_args(Mixer))
        assert {b.layout.feed_forward for b in stack.blocks} <= set(get_args(FeedForward))
        assert {t.role for b in stack.blocks for t in b.layout.tensors} <= set(get_args(Role))
        assert stack.width > 0
        if any(b.layout.feed_forward == "experts" for b in stack.blocks):
            experts = [b for b in stack.blocks if b.layout.feed_forward == "experts"]
            assert any(t.role in ("experts", "router") for b in experts for t in b.layout.tensors)


@pytest.mark.parametrize("model_type", ["llama", "deepseek_v3", "nemotron_h", "gpt_oss", "mamba2", "falcon_h1"])
def test_equal_blocks_share_one_layout(model_type: str) -> None:
    (stack,) = read_config({"model_type": model_type}).stacks
    layouts = {id(block.layout) for block in stack.blocks}
    assert len(layouts) == len({(b.layout.kind, b.layout.tensors) for b in stack.blocks})
