"""What is remembered from one model to the next is bounded in bytes, whatever a client sends."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from itertools import product
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import pytest

from fastewq import plan
from fastewq.architectures import body
from fastewq.errors import FastEWQError
from fastewq.policy import MAX_OVERRIDES, MAX_PATTERN, remembered_precisions
from fastewq.quantized import module_names, selection
from fastewq.schemes import RAW_PRECISIONS, TARGETS

Cache = type(lru_cache(lambda: None))
NOT_REMEMBERED = (type, ModuleType, FunctionType, BuiltinFunctionType, Cache)
WIDE = "\U0001f600"
"""A character that takes four bytes."""
BASE: dict[str, Any] = {"model_type": "llama", "num_hidden_layers": 16}
OURS_TO_FILL = {
    "fastewq.architectures.size_fields",
    "fastewq.architectures.fields._factors",
    "fastewq.architectures.fields._known",
    "fastewq.policy.policies",
    "fastewq.predictor._shipped",
}
"""Caches without a bound: their keys are sizes written in this package, model types that it knows, and predictors."""


def bytes_in(cache: Any) -> int:
    """Of all that a cache holds."""
    seen: set[int] = set()
    waiting, total = gc.get_referents(cache), 0
    while waiting:
        found = waiting.pop()
        if id(found) not in seen and not isinstance(found, NOT_REMEMBERED):
            seen.add(id(found))
            total += sys.getsizeof(found)
            waiting.extend(gc.get_referents(found))
    return total


def padded(text: str, length: int) -> str:
    return text.ljust(length, WIDE)


def quantized(method: str, **fields: Any) -> dict[str, Any]:
    return {"config": {**BASE, "quantization_config": {"quant_method": method, "bits": 4, **fields}}}


def long_names(number: int) -> dict[str, Any]:
    return quantized("fp8", ignore=[padded(f"layers.{i % 16}.a{number}b{i}", 390) for i in range(900)])


def many_names(number: int) -> dict[str, Any]:
    return quantized("fp8", ignore=[f"layers.{i % 16}.a{number}b{i}" for i in range(1000)])


def short_texts_of_long_names(number: int) -> dict[str, Any]:
    return quantized("fp8", ignore=[f"re:layers.{i % 16}.{padded(f'{number}_{i}_', 60)}[0-7]" for i in range(100)])


def one_long_text_of_long_names(number: int) -> dict[str, Any]:
    return quantized("fp8", ignore=[f"re:{padded(f'{number}_', 380)}[0-7][0-7][0-7]"])


def keys_that_are_patterns(number: int) -> dict[str, Any]:
    return quantized("gptq", dynamic={f"+:{padded(f'{number}_', 50_000)}(a|b|c|d)": {}})


def long_overrides(number: int) -> dict[str, Any]:
    patterns = [f"*layers.{number % 16}[!{padded(f'{number}_{i}', MAX_PATTERN - 20)}]*" for i in range(MAX_OVERRIDES)]
    return {"config": BASE, "policy": {"overrides": [[pattern, "int4"] for pattern in patterns]}}


def many_blocks(number: int) -> dict[str, Any]:
    return {"config": {**BASE, "num_hidden_layers": 512 - number % 256}}


@pytest.mark.parametrize(
    ("cache", "asked", "limit"),
    [
        (selection._remembered, long_names, 48e6),
        (selection._remembered, many_names, 48e6),
        (selection._remembered, short_texts_of_long_names, 48e6),
        (selection._remembered, one_long_text_of_long_names, 48e6),
        (module_names.written_out, one_long_text_of_long_names, 8e6),
        (module_names.written_out, keys_that_are_patterns, 8e6),
        (remembered_precisions, long_overrides, 4e6),
        (body.numbered, many_blocks, 16e6),
    ],
)
def test_a_cache_full_of_what_a_hostile_client_sends(
    cache: Any, asked: Callable[[int], dict[str, Any]], limit: float
) -> None:
    for known in (cache, selection._remembered):  # which spares the others work
        known.cache_clear()
    empty, kinds = bytes_in(cache), 8
    for number in range(kinds):
        with suppress(FastEWQError):
            plan(**asked(number))
    assert (bytes_in(cache) - empty) / kinds * cache.cache_info().maxsize < limit


def test_a_cache_of_layouts_that_were_asked_for_in_every_format() -> None:
    body._kept_layout.cache_clear()
    for target, dtype, routers in product(TARGETS, RAW_PRECISIONS, (False, True)):
        policy = {"name": "8bit-mixed", "routers": routers}
        plan({**BASE, "attention_bias": True, "mlp_bias": True, "dtype": dtype}, policy=policy, target=target).as_json()
    assert body._kept_layout.cache_info().currsize == 1
    assert bytes_in(body._kept_layout) * body._kept_layout.cache_info().maxsize < 64e6


def test_no_cache_is_without_a_bound() -> None:
    """Of those that the service has once it has read every family of models. What takes no argument has one result."""
    code = (
        "import gc, inspect, fastewq.api.app, fastewq.api.lookup, fastewq.hub, fastewq.plan\n"
        "from functools import lru_cache\n"
        "fastewq.architectures.supported()\n"
        "for found in gc.get_objects():\n"
        "    if type(found) is type(lru_cache(len)) and found.__module__.startswith('fastewq.'):\n"
        "        if inspect.signature(found).parameters:\n"
        "            print(found.cache_info().maxsize, found.__module__ + '.' + found.__qualname__)"
    )
    lines = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.splitlines()
    found = dict(reversed(line.split()) for line in lines)
    assert len(found) > 15
    assert {name for name, size in found.items() if size == "None"} == OURS_TO_FILL
