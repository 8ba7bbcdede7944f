"""Plan documents that nobody's planner wrote: exports of those that are read end well or in a typed error."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from copy import deepcopy
from typing import Any

import pytest

from exports.conftest import GPT2, LATENT, LLAMA, LLAVA, MOE, Planner
from fastewq.document import read_plan
from fastewq.errors import FastEWQError, InvalidPlan
from fastewq.exports import TOOLS, export

PHI3 = {**LLAMA, "model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "pad_token_id": 0, "num_hidden_layers": 3}
VALUES: list[Any] = [
    *(None, True, 0, 1, -1, 2**60, 1.5, "", "x", "0", "a.b.0", "weight", "lm_head", "model.layers.0", [], {}, [7, 3]),
    *([0, 0], [1, 2, 3, 4], "int4", "int8", "ternary", "bf16", "linear", "experts", "router", "embedding", "vision"),
    *(
        "t5",
        "phi3",
        "mllama",
        "gemma3",
        "minimax_m3_vl",
        "glm5_next",
        "']; import os; x=['",
        "a: {b}\n- c",
        "(a|b)*+?[",
    ),
]


def documents(planned: Planner) -> list[Any]:
    options = {"vision": True, "routers": True, "lm_head": "int8"}
    plans = [
        planned(MOE, ["0-1=int4", "0=int8"], policy=options),
        planned(LLAVA, ["model.language_model.layers.*=int4", "1=int8"], policy=options),
        planned(GPT2, ["0-2=int4"]),
        planned(PHI3, ["0-2=int4", "1=int8"]),
        planned(LATENT, ["0-2=int4", "1=int8"]),
    ]
    return [json.loads(json.dumps({**plan.as_dict(), "predictor": {}})) for plan in plans]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys, at any depth."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def changed(document: Any, chance: random.Random) -> Any:
    """A copy with up to three places changed: another value, one from elsewhere, none, or an entry twice."""
    document = deepcopy(document)
    for _ in range(chance.randint(1, 3)):
        found = places(document)
        container, key = chance.choice(found)
        way = chance.random()
        if way < 0.5:
            container[key] = deepcopy(chance.choice(VALUES))
        elif way < 0.7:
            other, name = chance.choice(found)
            container[key] = deepcopy(other[name])
        elif way < 0.8:
            del container[key]
        elif isinstance(container, list):
            container.insert(key, deepcopy(container[key]))
    return document


@pytest.mark.parametrize("tool", TOOLS)
def test_changed_documents_end_well_or_in_typed_errors(tool: str, planned: Planner) -> None:
    chance, bases = random.Random(tool), documents(planned)
    read = 0
    for _ in range(300):
        try:
            plan = read_plan(changed(chance.choice(bases), chance))
        except InvalidPlan:
            continue
        read += 1
        with suppress(FastEWQError):
            json.dumps(export(plan, tool, nearest=chance.random() < 0.8).as_dict())
    assert read > 30


def test_a_router_that_is_no_matrix_is_kept(planned: Planner) -> None:
    document = documents(planned)[0]
    for layout in document["layouts"]:
        for tensor in layout:
            if tensor["role"] == "router":
                tensor["shape"] = [4]
    for tool in TOOLS:
        if tool != "devices":
            export(read_plan(document), tool, nearest=True)


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool != "devices"])
def test_a_stack_without_blocks_is_none(tool: str, planned: Planner) -> None:
    document = documents(planned)[1]
    document["stacks"].append({"name": "decoder", "blocks": []})
    plain = export(read_plan(documents(planned)[1]), tool, nearest=True)
    assert export(read_plan(document), tool, nearest=True).bytes == plain.bytes


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool != "devices"])
def test_strings_of_a_plan_are_shown_cut(tool: str, planned: Planner) -> None:
    document = documents(planned)[2]
    document["model"]["model_type"] = "x" * 100_000
    said: tuple[str, ...] = ()
    try:
        said = export(read_plan(document), tool, nearest=True).warnings
    except FastEWQError as error:
        said = (error.message,)
    assert all(len(text) < 200 for text in said)
