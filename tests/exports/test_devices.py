"""Placement in the form engines take, through each engine's own rule."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from itertools import accumulate

import numpy as np
import pytest

from exports.conftest import LLAMA, Planner
from fastewq.document import read_plan
from fastewq.errors import CannotExport
from fastewq.exports import export
from fastewq.memory import read_memory


def by_llama_cpp(split: list[float], layers: int) -> list[int]:
    """The device of each layer and of the output, as llama_model::load_tensors computes it in float32."""
    sums = np.cumsum(np.array(split, dtype=np.float32), dtype=np.float32)
    shares = [float(np.float32(s / sums[-1])) for s in sums]
    total = layers + 1
    return [bisect_right(shares, float(np.float32(np.float32(i) / np.float32(total)))) for i in range(total)]


def by_override(rules: str, tensor: str) -> str | None:
    """The buffer of a tensor: the list is cut at commas, each rule at its first `=`; the first match wins."""
    cut = [rule.partition("=") for rule in rules.split(",")]
    return next((buffer for pattern, _, buffer in cut if re.search(pattern, tensor)), None)


@pytest.mark.parametrize("sizes", [[9, 9], [4, 8, 9], [6, 0, 6, 6], [3, 30]])
def test_every_engine_puts_the_blocks_where_the_plan_does(sizes: list[int], planned: Planner) -> None:
    devices = [size * 2**20 for size in sizes]
    plan = planned(memory=read_memory(devices=devices), overrides=["0-11=raw"])
    assert plan.memory is not None
    made = export(plan, "devices")
    expected = [run.device for run in plan.memory.runs for _ in range(run.end - run.start)]
    assert len(expected) == 12

    device_map = json.loads(made.files["device_map.json"])
    assert [device_map[f"model.layers.{i}"] for i in range(12)] == expected
    assert device_map["model.embed_tokens"] == expected[0]
    assert device_map["model.norm"] == device_map["lm_head"] == expected[-1]

    arguments = made.files["llama_cpp_args.txt"].split()
    split = [float(part) for part in arguments[arguments.index("--tensor-split") + 1].split(",")]
    assert int(arguments[arguments.index("--n-gpu-layers") + 1]) == 13
    assert by_llama_cpp(split, 12) == [*expected, expected[-1]]

    options, _, rules = made.files["llama_cpp_overrides.txt"].strip().partition(" ")
    assert options == "--override-tensor"
    found = [by_override(rules, f"blk.{i}.ffn_down.weight") for i in range(12)]
    assert [*found, by_override(rules, "output.weight")] == [f"CUDA{device}" for device in [*expected, expected[-1]]]
    assert by_override(rules, "token_embd.weight") is None

    counts = [int(part) for part in made.files["vllm_env.txt"].strip().partition("=")[2].split(",")]
    assert list(accumulate(counts)) == [run.end for run in plan.memory.runs]


def test_a_plan_gives_up_precision_until_its_runs_fit(planned: Planner) -> None:
    """Two devices that together hold more than the raw blocks, but not cut between two of them."""
    raw = planned(overrides=["0=raw"], policy={"name": "4bit-8bit-mixed", "overrides": []})
    block = raw.stacks[0].blocks[0].parameters * 2
    outside = sum(group.bytes for group in raw.other)
    devices = [int(5.9 * block) + outside // 2, int(6.9 * block) + outside // 2]
    assert sum(devices) > 12 * block + outside
    plan = planned(memory=read_memory(devices=devices), policy={"overrides": []})
    assert plan.memory is not None
    assert all(run.bytes <= devices[run.device] for run in plan.memory.runs)
    assert [run.start for run in plan.memory.runs] == [0, plan.memory.runs[0].end]


def test_a_plan_without_devices_has_no_placement(planned: Planner) -> None:
    with pytest.raises(CannotExport, match="the plan has no devices"):
        export(planned(), "devices")


def test_a_tied_head_is_placed_too(planned: Planner) -> None:
    plan = planned(
        {**LLAMA, "tie_word_embeddings": True}, memory=read_memory(devices=["8MiB", "9MiB"]), policy={"overrides": []}
    )
    device_map = json.loads(export(plan, "devices").files["device_map.json"])
    assert device_map["lm_head"] == device_map["model.norm"]


def test_engines_count_the_layers_of_the_language_model(planned: Planner) -> None:
    """The device map places the tower too; llama.cpp and vLLM are told of the text layers alone."""
    text = {key: value for key, value in LLAMA.items() if key != "architectures"}
    llava = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": text,
        "vision_config": {
            "model_type": "clip_vision_model", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
            "num_hidden_layers": 3, "image_size": 28, "patch_size": 14,
        },
        "dtype": "bfloat16",
    }  # fmt: skip
    plan = planned(llava, ["0-14=raw"], memory=read_memory(devices=[7 * 2**20, 9 * 2**20]))
    assert plan.memory is not None
    runs = plan.memory.runs
    assert len(runs) == 2
    made = export(plan, "devices")
    first = runs[0].end - 3
    assert made.files["vllm_env.txt"] == f"VLLM_PP_LAYER_PARTITION={first},{12 - first}\n"
    assert made.files["llama_cpp_args.txt"].endswith(f"--tensor-split {first},{13 - first}\n")
    assert len([path for path in json.loads(made.files["device_map.json"]) if ".layers." in path]) == 15


def test_a_stack_without_blocks_in_a_plan_from_outside_changes_nothing(planned: Planner) -> None:
    document = planned(memory=read_memory(devices=["9MiB", "9MiB"]), policy={"overrides": []}).as_dict()
    made = export(read_plan(document), "devices")
    document["stacks"].insert(0, {"name": "empty", "blocks": []})
    assert export(read_plan(document), "devices") == made
