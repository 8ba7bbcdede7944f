"""Whatever is asked of a budget: sums are those of the parts, nothing exceeds what there is, errors are of the tree."""

from __future__ import annotations

import re
from itertools import chain, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastewq import read_config
from fastewq.document import Plan
from fastewq.errors import DoesNotFit, InvalidPolicy
from fastewq.kv_cache import cache_bytes
from fastewq.memory import CACHE_BITS
from fastewq.plan import plan
from fastewq.schemes import PRECISIONS, TARGETS

SIZES = {
    "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 5, "vocab_size": 320, "dtype": "bfloat16",
}  # fmt: skip
BART = {
    "d_model": 128, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 256, "decoder_ffn_dim": 256, "vocab_size": 320, "dtype": "float16",
}  # fmt: skip
INT4 = {"quant_method": "gptq", "bits": 4, "group_size": 128}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
CONFIGS: list[dict[str, Any]] = [
    {"model_type": "llama", **SIZES, "tie_word_embeddings": False},
    {"model_type": "llama", **SIZES, "tie_word_embeddings": True, "quantization_config": INT4},
    {"model_type": "gemma3_text", **SIZES, "head_dim": 64, "sliding_window": 64},
    {"model_type": "qwen3_moe", **SIZES, **EXPERTS, "quantization_config": {"quant_method": "fp8"}},
    {"model_type": "qwen3_next", **SIZES, **EXPERTS, "shared_expert_intermediate_size": 128},
    {"model_type": "gpt2", "n_embd": 128, "n_head": 4, "n_layer": 3, "vocab_size": 320},
    {"model_type": "whisper", **BART},
    {"model_type": "vision-encoder-decoder", "encoder": {"model_type": "vit", "num_hidden_layers": 2},
     "decoder": {"model_type": "trocr", "decoder_layers": 2, "d_model": 128, "decoder_attention_heads": 4,
                 "decoder_ffn_dim": 256, "vocab_size": 320}},
]  # fmt: skip
PATTERNS = ["0", "0-1", "*.mlp.*", "*_proj", "lm_head", "model.layers.1", "nothing.of.this.name"]
policies = st.fixed_dictionaries(
    {"name": st.sampled_from(["8bit-mixed", "4bit-8bit-mixed", "ternary-mixed", "keep-ends"])},
    optional={
        "threshold": st.floats(0, 1),
        "keep_ends": st.booleans(),
        "embeddings": st.sampled_from(["raw", "int8", "int4"]),
        "lm_head": st.sampled_from(["raw", "int8", "int4"]),
        "routers": st.booleans(),
        "vision": st.booleans(),
        "overrides": st.lists(st.tuples(st.sampled_from(PATTERNS), st.sampled_from(PRECISIONS)).map(list), max_size=3),
    },
)
caches = st.fixed_dictionaries(
    {"context": st.integers(0, 3000), "batch": st.integers(1, 3), "cache_bits": st.sampled_from(CACHE_BITS)}
)
shares = st.lists(st.floats(0.02, 1.3), max_size=4)
asked = settings(max_examples=150)


def needed(config: dict[str, Any], cache: dict[str, int]) -> int:
    """Bytes of the weights as they are and of the cache, which budgets are shares of."""
    kept = cache_bytes(config, read_config(config), cache["context"], cache["batch"], cache["cache_bits"])
    return plan(config).totals.raw_bytes + (sum(kept) if cache["context"] else 0)


def parts(found: Plan) -> int:
    return sum(part.bytes for part in chain(found.other, *(stack.blocks for stack in found.stacks)))


@given(st.sampled_from(CONFIGS), policies, st.sampled_from(sorted(TARGETS)), caches, st.floats(0, 1.5), shares,
       st.floats(0, 0.2))  # fmt: skip
@asked
def test_no_plan_exceeds_what_it_was_given(
    config: dict[str, Any],
    policy: dict[str, Any],
    target: str,
    cache: dict[str, int],
    share: float,
    devices: list[float],
    reserve: float,
) -> None:
    whole = needed(config, cache)
    limit, sizes, kept_free = int(share * whole), [int(one * whole) for one in devices], int(reserve * whole)
    try:
        found = plan(config, policy=policy, target=target, memory=limit, devices=sizes, reserve=kept_free, **cache)
    except (DoesNotFit, InvalidPolicy):
        return
    memory = found.memory
    assert memory is not None
    assert found.totals.bytes == memory.weights == parts(found)
    kept = cache_bytes(config, read_config(config), cache["context"], cache["batch"], cache["cache_bits"])
    assert memory.kv_cache == (sum(kept) if cache["context"] else 0)
    assert memory.weights + memory.kv_cache + kept_free * max(len(sizes), 1) <= limit
    assert memory.free is not None
    assert memory.free >= 0
    assert all(run.bytes + kept_free <= sizes[run.device] for run in memory.runs)
    if sizes:
        ends = [0, *(run.end for run in memory.runs)]
        assert ends[-1] == sum(len(stack.blocks) for stack in found.stacks)
        assert [run.start for run in memory.runs] == ends[:-1]
        assert all(one.device < other.device for one, other in pairwise(memory.runs))
        used = sum(run.bytes for run in memory.runs)  # of a tied embedding at both ends, twice
        assert memory.weights + memory.kv_cache <= used <= limit - kept_free * len(sizes)
        assert memory.free == memory.request.available - used


WAYS = {
    "embeddings and head in int8": {"embeddings": "int8", "lm_head": "int8"},
    "a policy that allows int4": {"name": "4bit-8bit-mixed"},
    "a policy that allows ternary": {"name": "ternary-mixed"},
}


@given(st.sampled_from(CONFIGS), st.sampled_from(["8bit-mixed", "4bit-8bit-mixed", "ternary-mixed"]), caches,
       st.floats(0, 0.7))  # fmt: skip
@asked
def test_what_is_said_to_be_missing_is_enough_and_no_byte_less(
    config: dict[str, Any], policy: str, cache: dict[str, int], share: float
) -> None:
    limit = int(share * needed(config, cache))
    try:
        plan(config, policy=policy, memory=limit, **cache)
    except DoesNotFit as error:
        found = re.search(r"needs (\d+) bytes more", error.message)
        assert found is not None
        missing = int(found[1])
        assert plan(config, policy=policy, memory=limit + missing, **cache).memory is not None
        for way, changed in WAYS.items():
            if way in error.hint:
                assert plan(config, policy={"name": policy, **changed}, memory=limit, **cache).memory is not None
        with pytest.raises(DoesNotFit, match="needs 1 bytes more"):
            plan(config, policy=policy, memory=limit + missing - 1, **cache)


@given(st.sampled_from(CONFIGS), caches, st.floats(0, 0.7), st.lists(st.floats(0.02, 0.5), min_size=1, max_size=4),
       st.floats(0, 0.1))  # fmt: skip
@asked
def test_devices_that_are_said_to_do_are_enough_and_no_byte_less(
    config: dict[str, Any], cache: dict[str, int], share: float, devices: list[float], reserve: float
) -> None:
    whole = needed(config, cache)
    limit, sizes = int(share * whole), [int(one * whole) for one in devices]
    others = {"reserve": int(reserve * whole), **cache}
    try:
        plan(config, memory=limit, devices=sizes, **others)
    except DoesNotFit as error:
        on_each, on_all = (
            re.search(rf"(\d+) bytes more {what}", error.hint) for what in ("on each device", "memory would do")
        )
        larger = [size + int(on_each[1] if on_each else 0) for size in sizes]
        enough = limit + int(on_all[1] if on_all else 0)
        assert (larger, enough) != (sizes, limit)
        assert plan(config, memory=enough, devices=larger, **others).memory is not None
        if on_each:
            with pytest.raises(DoesNotFit):
                plan(config, devices=[size - 1 for size in larger], **others)
        if on_all:
            with pytest.raises(DoesNotFit):
                plan(config, memory=enough - 1, devices=larger, **others)


@given(st.sampled_from(CONFIGS), caches)
@asked
def test_more_context_and_more_bits_never_take_less(config: dict[str, Any], cache: dict[str, int]) -> None:
    architecture = read_config(config)
    sizes = [
        sum(cache_bytes(config, architecture, context, cache["batch"], bits))
        for context in sorted({1, cache["context"] + 1, 2 * cache["context"] + 1})
        for bits in CACHE_BITS
    ]
    rows = [sizes[i : i + len(CACHE_BITS)] for i in range(0, len(sizes), len(CACHE_BITS))]
    assert all(row == sorted(row) for row in rows)
    assert all(list(column) == sorted(column) for column in zip(*rows, strict=True))
