"""Grouping by name and labelling by entropy."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastewq.analysis.blocks import block_entropy, cut, group_blocks, is_buffer
from fastewq.analysis.tensors import TensorInfo


def info(name, shape=(4, 4)):
    return TensorInfo(name, tuple(shape), "F32", "m.safetensors", 0, 4 * math.prod(shape))


def stacks_of(*patterns, count=3, members=("attn.q.weight", "mlp.up.weight")):
    tensors = [info(p.format(n) + member) for p in patterns for n in range(count) for member in members]
    return {s.name: [b.path for b in s.blocks] for s in group_blocks(tensors)}


@pytest.mark.parametrize(
    ("pattern", "name", "first"),
    [
        ("model.layers.{}.", "decoder", "model.layers.0"),
        ("transformer.h.{}.", "decoder", "transformer.h.0"),
        ("h.{}.", "decoder", "h.0"),
        ("blk.{}.", "decoder", "blk.0"),
        ("gpt_neox.layers.{}.", "decoder", "gpt_neox.layers.0"),
        ("model.decoder.layers.{}.", "decoder", "model.decoder.layers.0"),
        ("encoder.layer.{}.", "encoder", "encoder.layer.0"),
        ("bert.encoder.layer.{}.", "encoder", "bert.encoder.layer.0"),
        ("0.auto_model.encoder.layer.{}.", "encoder", "0.auto_model.encoder.layer.0"),
        ("distilbert.transformer.layer.{}.", "encoder", "distilbert.transformer.layer.0"),
        ("wav2vec2.encoder.layers.{}.", "encoder", "wav2vec2.encoder.layers.0"),
        ("encoder/layer_{}/", "encoder", "encoder/layer_0"),
        ("enc.blk.{}.", "encoder", "enc.blk.0"),
        ("encoder.block.{}.layer.1.", "encoder", "encoder.block.0"),
        ("visual.blocks.{}.", "vision", "visual.blocks.0"),
        ("v.blk.{}.", "vision", "v.blk.0"),
        ("vision_tower.vision_model.encoder.layers.{}.", "vision", "vision_tower.vision_model.encoder.layers.0"),
        ("audio_tower.layers.{}.", "audio", "audio_tower.layers.0"),
    ],
)
def test_block_lists_are_found_by_their_names(pattern, name, first):
    found = stacks_of(pattern)
    assert list(found) == [name]
    assert found[name][0] == first
    assert len(found[name]) == 3


@pytest.mark.parametrize(
    "pattern",
    ["feature_extractor.conv_layers.{}.", "classifier.{}.", "model.experts.{}.", "layers.", "model.layers{}."],
)
def test_other_numbered_names_are_no_blocks(pattern):
    assert stacks_of(pattern) == {}


def test_a_list_of_single_matrices_is_no_stack():
    assert stacks_of("bbox_embed.layers.{}.", members=("weight", "bias")) == {
        "decoder": [f"bbox_embed.layers.{n}" for n in range(3)]
    }
    tensors = [info(f"bbox_embed.layers.{n}.weight") for n in range(3)] + [
        info(f"bbox_embed.layers.{n}.bias", (4,)) for n in range(3)
    ]
    assert group_blocks(tensors) == []


def test_embeddings_norm_and_head_belong_to_no_block():
    tensors = [info(f"model.layers.{n}.{m}") for n in range(2) for m in ("a.weight", "b.weight")]
    outside = [info("model.embed_tokens.weight"), info("model.norm.weight", (4,)), info("lm_head.weight")]
    (stack,) = group_blocks([*outside, *tensors])
    assert [t for b in stack.blocks for t in b.tensors] == tensors


def test_blocks_are_ordered_by_number_not_by_text():
    assert stacks_of("h.{}.", count=12)["decoder"] == [f"h.{n}" for n in range(12)]


def test_encoders_come_before_decoders_and_vision_before_both():
    found = stacks_of("model.decoder.layers.{}.", "model.encoder.layers.{}.", "model.vision_tower.layers.{}.")
    assert list(found) == ["vision", "encoder", "decoder"]


def test_of_two_decoders_the_larger_has_the_name():
    tensors = [info(f"mtp.layers.0.{m}.weight") for m in "ab"]
    tensors += [info(f"model.layers.{n}.{m}.weight") for n in range(3) for m in "ab"]
    assert [(s.name, len(s.blocks)) for s in group_blocks(tensors)] == [("decoder", 3), ("mtp.layers", 1)]


def test_stages_of_blocks_are_one_stack():
    tensors = [info(f"encoder.layers.{s}.blocks.{b}.{m}") for s in range(2) for b in range(2) for m in ("a", "b")]
    tensors.append(info("encoder.layers.0.downsample.weight"))
    (stack,) = group_blocks(tensors)
    assert [b.path for b in stack.blocks] == [f"encoder.layers.{s}.blocks.{b}" for s in range(2) for b in range(2)]


def test_a_block_without_matrices_keeps_its_place():
    tensors = [info(f"model.layers.{n}.{m}") for n in (0, 2, 3) for m in ("a", "b")]
    tensors.append(info("model.layers.1.norm.weight", (4,)))
    (stack,) = group_blocks(tensors)
    assert [(b.index, b.path) for b in stack.blocks] == [
        (0, "model.layers.0"),
        (2, "model.layers.2"),
        (3, "model.layers.3"),
    ]


@pytest.mark.parametrize(
    ("name", "shape", "buffer"),
    [
        ("h.0.attn.bias", (1, 1, 1024, 1024), True),
        ("h.0.attn.masked_bias", (), True),
        ("gpt_neox.layers.0.attention.bias", (1, 1, 2048, 2048), True),
        ("layers.0.attention.rotary_emb.inv_freq", (32,), True),
        ("embeddings.position_ids", (1, 1, 512), True),
        ("h.0.attn.c_attn.bias", (2304,), False),
        ("layers.0.attn.bias", (12, 64, 64), False),
    ],
)
def test_masks_and_position_tables_are_no_weights(name, shape, buffer):
    assert is_buffer(info(name, shape)) is buffer


def test_block_entropy_is_weighted_by_size():
    assert block_entropy([(3, 1.0), (1, 5.0)]) == 2.0


def test_labels_follow_the_three_levels():
    limits = cut([1.0, 2.0, 3.0, 6.0])
    assert (limits.mean, limits.std) == (3.0, pytest.approx(math.sqrt(3.5)))
    assert limits.threshold == limits.mean - limits.std
    labels = [limits.label(h) for h in (1.0, limits.threshold, 2.0, limits.mean, math.nextafter(3.0, 4), 6.0)]
    assert labels == ["aggressive", "aggressive", "8-bit", "8-bit", "keep", "keep"]


@given(st.lists(st.floats(4.6, 4.61), min_size=1, max_size=50), st.floats(-3, 3))
def test_the_cut_is_mean_and_population_deviation(entropies, x):
    limits = cut(entropies, x)
    assert limits.mean == pytest.approx(statistics.fmean(entropies), rel=1e-15)
    assert limits.std == pytest.approx(statistics.pstdev(entropies), rel=1e-9, abs=1e-15)
    assert limits.threshold == limits.mean - x * limits.std


@given(st.floats(4.6, 4.61), st.integers(1, 130))
def test_equal_blocks_lie_at_their_mean(entropy, count):
    """The sum of 28 equal entropies divided by 28 is often the float64 below, and all of them would be kept."""
    limits = cut([entropy] * count)
    assert (limits.mean, limits.std) == (entropy, 0.0)
    assert limits.label(entropy) == "aggressive"


def test_a_spread_of_a_billionth_is_resolved():
    entropies = [4.605 + n * 1e-9 for n in range(-2, 3)]
    assert cut(entropies).std == pytest.approx(math.sqrt(2) * 1e-9, rel=1e-6)
