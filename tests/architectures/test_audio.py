"""Speech models: stacks that listen, and options that add or drop tensors."""

from __future__ import annotations

from typing import Any

import pytest

from fastewq.architecture import Architecture
from fastewq.config import read_config
from fastewq.errors import InvalidConfig


def read(model_type: str, name: str, **fields: Any) -> Architecture:
    return read_config({"model_type": model_type, "architectures": [name], **fields})


def test_whisper_listens_and_writes() -> None:
    listens, writes = read("whisper", "WhisperForConditionalGeneration").stacks
    assert (listens.role, writes.role) == ("audio", "decoder")
    assert listens.blocks[0].path == "model.encoder.layers.0"
    assert writes.blocks[3].path == "model.decoder.layers.3"


def test_published_size_of_whisper_tiny() -> None:
    assert read("whisper", "WhisperForConditionalGeneration").parameters == 37_760_640


def test_only_the_first_wavlm_block_holds_the_position_table() -> None:
    (stack,) = read("wavlm", "WavLMModel").stacks
    sizes = [block.layout.parameters for block in stack.blocks]
    assert sizes[0] - sizes[1] == 320 * 12


def test_masking_rates_decide_on_the_mask_vector() -> None:
    masked = read("wav2vec2", "Wav2Vec2Model")
    plain = read("wav2vec2", "Wav2Vec2Model", mask_time_prob=0.0, mask_feature_prob=0.0)
    assert masked.parameters - plain.parameters == 768


@pytest.mark.parametrize("value", ["batch", None, 3])
def test_unknown_norm_of_the_feature_encoder_is_refused(value: Any) -> None:
    with pytest.raises(InvalidConfig, match="feat_extract_norm"):
        read("wav2vec2", "Wav2Vec2Model", feat_extract_norm=value)


@pytest.mark.parametrize("value", [[], [512, -1], [512] * 1000, "512", [512, 2.5]])
def test_hostile_lists_of_widths_are_refused(value: Any) -> None:
    with pytest.raises(InvalidConfig, match="conv_"):
        read("wav2vec2", "Wav2Vec2Model", conv_dim=value)
