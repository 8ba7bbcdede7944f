"""Encoder-decoders: two stacks, shared embeddings, blocks that differ."""

from __future__ import annotations

from typing import Any

import pytest

from fastewq.architecture import Architecture
from fastewq.config import read_config
from fastewq.errors import UnsupportedArchitecture


def read(model_type: str, name: str, **fields: Any) -> Architecture:
    return read_config({"model_type": model_type, "architectures": [name], **fields})


def test_t5_has_two_stacks_of_its_own_depths() -> None:
    encoder, decoder = read("t5", "T5ForConditionalGeneration", num_layers=2, num_decoder_layers=3).stacks
    assert [block.path for block in encoder.blocks] == ["encoder.block.0", "encoder.block.1"]
    assert [block.path for block in decoder.blocks] == [f"decoder.block.{i}" for i in range(3)]
    assert (encoder.role, decoder.role, encoder.norm, encoder.head_dim) == ("encoder", "decoder", "rms", 64)


def test_only_the_first_t5_block_has_relative_positions() -> None:
    for stack in read("t5", "T5Model").stacks:
        sizes = [block.layout.parameters for block in stack.blocks]
        assert sizes[0] - sizes[1] == 32 * 8
        assert len(set(sizes[1:])) == 1


def test_every_umt5_block_has_them() -> None:
    for stack in read("umt5", "UMT5Model").stacks:
        assert len({block.layout.parameters for block in stack.blocks}) == 1


def test_gated_feed_forward_has_one_more_matrix() -> None:
    plain, gated = (read("t5", "T5Model", feed_forward_proj=p) for p in ("relu", "gated-gelu"))
    assert gated.parameters - plain.parameters == 12 * 2048 * 512


def test_published_size_of_t5_small() -> None:
    assert read("t5", "T5ForConditionalGeneration").parameters == 60_506_624


def test_encoder_alone_that_decodes_is_refused() -> None:
    with pytest.raises(UnsupportedArchitecture, match="is_decoder"):
        read("t5", "T5EncoderModel", is_decoder=True)


def test_untied_bart_has_four_embeddings() -> None:
    tied, untied = (read("bart", "BartForConditionalGeneration", tie_word_embeddings=t) for t in (True, False))
    assert untied.parameters - tied.parameters == 3 * 50265 * 1024


def test_marian_may_have_two_vocabularies() -> None:
    architecture = read(
        "marian", "MarianMTModel", share_encoder_decoder_embeddings=False, vocab_size=100, decoder_vocab_size=70
    )
    rows = {g.path: g.tensors[0].shape[0] for g in architecture.outside if g.path.endswith("embed_tokens")}
    assert rows == {"model.encoder.embed_tokens": 100, "model.decoder.embed_tokens": 70}


def test_switch_has_experts_in_some_blocks() -> None:
    encoder, _ = read(
        "switch_transformers", "SwitchTransformersModel", num_layers=4, num_sparse_encoder_layers=2
    ).stacks
    assert [block.layout.feed_forward for block in encoder.blocks] == ["dense", "experts", "dense", "experts"]
