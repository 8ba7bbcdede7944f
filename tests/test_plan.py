"""Policies, overrides and the plan document, on explicit probabilities."""

from __future__ import annotations

import copy
import json
import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastewq
from fastewq.architecture import Architecture, Blocks, Layout, Outside, Stack, Tensor
from fastewq.architectures.body import numbered
from fastewq.document import Common, Plan, PlannedBlocks, read_plan
from fastewq.errors import InvalidPlan, InvalidPolicy
from fastewq.plan import plan_architecture
from fastewq.policy import (
    ORDERS,
    PRECISIONS,
    USUAL_BLOCKS,
    Policy,
    policies,
    quantized_blocks,
    read_policy,
    remembered_precisions,
    stack_precisions,
)
from fastewq.predictor import load_predictor
from fastewq.schemes import LEVELS, TARGETS

CARD = {"threshold": 0.5, "aggressive_share": 0.5}
RISING = [0.1, 0.2, 0.6, 0.7, 0.8, 0.9]


def llama(blocks: int = 6, *, tied: bool = False) -> Architecture:
    layout = Layout(
        "attention",
        "dense",
        (
            Tensor("self_attn.q_proj.weight", (128, 128), "linear"),
            Tensor("self_attn.k_proj.weight", (64, 128), "linear"),
            Tensor("self_attn.v_proj.weight", (64, 128), "linear"),
            Tensor("self_attn.q_proj.bias", (128,), "bias"),
            Tensor("mlp.gate.weight", (4, 128), "router"),
            Tensor("mlp.down_proj.weight", (128, 256), "linear"),
            Tensor("norm.weight", (128,), "norm"),
        ),
    )
    stack = Stack("decoder", "decoder", Blocks(numbered("model.layers", blocks), (layout,) * blocks), 128)
    outside = [
        Outside("model.embed_tokens", (Tensor("weight", (512, 128), "embedding"),)),
        Outside("model.norm", (Tensor("weight", (128,), "norm"),)),
    ]
    if not tied:
        outside.append(Outside("lm_head", (Tensor("weight", (512, 128), "linear"),)))
    return Architecture("llama", "bfloat16", (stack,), tuple(outside), vocab_size=512, tied_embeddings=tied)


def with_vision() -> Architecture:
    text = llama(3)
    tower = Stack("vision", "vision", Blocks(numbered("visual.blocks", 2), text.stacks[0].blocks.layouts[:2]), 128)
    return Architecture("llama", "bfloat16", (tower, *text.stacks), text.outside, vocab_size=512)


def planned(
    probabilities: list[float] = RISING,
    policy: Any = "4bit-8bit-mixed",
    architecture: Architecture | None = None,
    **options: Any,
) -> Plan:
    architecture = architecture or llama(len(probabilities))
    return plan_architecture(
        architecture,
        np.array(probabilities),
        predictor=load_predictor(),
        policy=read_policy(policy, CARD),
        **options,
    )


def precisions(plan: Plan) -> list[str]:
    return [block.precision for stack in plan.stacks for block in stack.blocks]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("8bit-mixed", ["bf16", "bf16", "int8", "int8", "int8", "int8"]),
        ("4bit-8bit-mixed", ["bf16", "bf16", "int8", "int8", "int4", "int4"]),
        ("ternary-mixed", ["bf16", "bf16", "int8", "int8", "ternary", "ternary"]),
        ("keep-ends", ["bf16", "bf16", "int8", "int4", "int4", "bf16"]),
        ({"threshold": 0.75}, ["bf16", "bf16", "bf16", "bf16", "int8", "int4"]),
        ({"name": "8bit-mixed", "threshold": 0.0, "keep_ends": True}, ["bf16", "int8", "int8", "int8", "int8", "bf16"]),
        ({"aggressive_share": 1.0}, ["bf16", "bf16", "int4", "int4", "int4", "int4"]),
    ],
)
def test_policies(policy: Any, expected: list[str]) -> None:
    assert precisions(planned(policy=policy)) == expected


def test_the_aggressive_share_goes_to_the_highest_index_not_the_highest_probability() -> None:
    assert precisions(planned([0.9, 0.8, 0.7, 0.6])) == ["int8", "int8", "int4", "int4"]


def test_threshold_meets_the_printed_probability() -> None:
    """A block is quantized exactly where the document's rounded probability reaches the document's threshold."""
    assert precisions(planned([0.4999996, 0.4999994], "8bit-mixed")) == ["int8", "bf16"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["0=int8"], ["int8", "bf16", "int8", "int8", "int4", "int4"]),
        (["1-3=int4", "2=raw"], ["bf16", "int4", "bf16", "int4", "int4", "int4"]),
        (["model.layers.5=raw"], ["bf16", "bf16", "int8", "int8", "int4", "bf16"]),
        (["model.layers.*=int8", "5=raw"], ["int8"] * 5 + ["bf16"]),
        ([["4", "int8"]], ["bf16", "bf16", "int8", "int8", "int8", "int4"]),
    ],
)
def test_overrides_of_blocks(overrides: list[Any], expected: list[str]) -> None:
    assert precisions(planned(policy={"overrides": overrides})) == expected


def test_overrides_of_modules_take_their_fused_partners_along() -> None:
    plan = planned(policy={"overrides": ["*.5.self_attn.q_proj=int8", "*.mlp.down_proj=raw"]})
    first, last = plan.stacks[0].blocks[2], plan.stacks[0].blocks[5]
    assert first.modules == {"mlp.down_proj": "bf16"}
    assert last.modules == {
        "self_attn.q_proj": "int8",
        "self_attn.k_proj": "int8",
        "self_attn.v_proj": "int8",
        "mlp.down_proj": "bf16",
    }
    assert any("self_attn.k_proj, self_attn.v_proj follows self_attn.q_proj" in warning for warning in plan.warnings)
    # bf16 down_proj and router, bias and norm; int8 rows with a 16-bit scale for q, k, v.
    assert last.bytes == 2 * (128 * 256 + 4 * 128 + 128 + 128) + 256 * (128 + 2)
    assert "modules" not in planned().as_dict()["stacks"][0]["blocks"][0]


def test_a_later_block_override_clears_earlier_module_overrides() -> None:
    plan = planned(policy={"overrides": ["*.mlp.down_proj=raw", "5=int8"]})
    assert plan.stacks[0].blocks[5].modules == {}
    assert plan.stacks[0].blocks[4].modules == {"mlp.down_proj": "bf16"}


@pytest.mark.parametrize("pattern", ["99", "model.layers.6", "*.norm", "*.q_proj.bias", "model.norm", "nothing"])
def test_overrides_that_name_nothing_quantizable_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidPolicy, match="names no block and no module"):
        planned(policy={"overrides": [f"{pattern}=int8"]})


def test_embeddings_head_routers_and_vision_are_kept_unless_switched() -> None:
    plan = planned()
    assert {group.precision for group in plan.other} == {"bf16"}
    switched = planned(policy={"embeddings": "int8", "lm_head": "int4", "routers": True})
    assert [(g.path, g.precision) for g in switched.other] == [
        ("model.embed_tokens", "int8"),
        ("model.norm", "bf16"),
        ("lm_head", "int4"),
    ]
    assert switched.other[0].bytes == 512 * (128 + 2)
    # A router row of 128 at int8 takes 130 bytes instead of 256.
    assert plan.stacks[0].blocks[2].bytes - switched.stacks[0].blocks[2].bytes == 4 * (256 - 130)

    assert precisions(planned([0.9] * 5, "8bit-mixed", with_vision())) == ["bf16"] * 2 + ["int8"] * 3
    policy = {"name": "8bit-mixed", "vision": True}
    assert precisions(planned([0.9] * 5, policy, with_vision())) == ["int8"] * 5


def test_a_model_that_is_only_a_vision_tower_is_planned() -> None:
    both = with_vision()
    alone = Architecture("vit", "bfloat16", both.stacks[:1], ())
    assert precisions(planned([0.9, 0.9], "8bit-mixed", alone)) == ["int8", "int8"]


def test_a_tied_head_follows_the_embedding() -> None:
    with pytest.raises(InvalidPolicy, match="this model's head is its token embedding"):
        planned(architecture=llama(6, tied=True), policy={"lm_head": "int8"})
    plan = planned(architecture=llama(6, tied=True), policy={"lm_head": "int8", "embeddings": "int8"})
    assert plan.other[0].precision == "int8"


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("nonesuch", "policy is 'nonesuch'; expected one of 8bit-mixed"),
        (7, "policy is a number"),
        ({"name": 3}, "policy is 3; expected one of"),
        ({"threshhold": 0.5}, "unknown field 'threshhold'"),
        ({10**5000: 0.5}, "unknown field an integer of 16610 bits"),
        ({"threshold": 1.5}, "policy.threshold is 1.5"),
        ({"threshold": True}, "policy.threshold is true"),
        ({"threshold": float("nan")}, "policy.threshold is nan"),
        ({"keep_ends": 1}, "policy.keep_ends is 1"),
        ({"embeddings": "int3"}, "policy.embeddings is 'int3'"),
        ({"moderate": "raw"}, "policy.moderate is 'raw'"),
        ({"overrides": "0=int8"}, "policy.overrides must be a list"),
        ({"overrides": ["0"]}, "policy.overrides has the entry '0'; expected PATTERN=PRECISION"),
        ({"overrides": ["0=int5"]}, "policy.overrides is 'int5'"),
        ({"overrides": [["0", "int8", "x"]]}, "expected PATTERN=PRECISION"),
        ({"overrides": ["0=int8"] * 257}, "at most 256"),
        ({"overrides": ["x" * 201 + "=int8"]}, "pattern of 201 characters"),
    ],
)
def test_policies_that_cannot_be_read(policy: Any, message: str) -> None:
    with pytest.raises(InvalidPolicy) as caught:
        read_policy(policy, CARD)
    assert message in caught.value.message


def test_a_target_without_a_format_for_a_precision_refuses_it() -> None:
    with pytest.raises(InvalidPolicy, match="uses ternary, which the target mlx does not have; it has int8, int4"):
        planned(policy="ternary-mixed", target="mlx")
    with pytest.raises(InvalidPolicy, match="uses ternary"):
        planned(policy={"overrides": ["*.mlp.down_proj=ternary"]}, target="quanto")


def test_ternary_comes_with_a_warning() -> None:
    assert any("65% of a matrix's energy" in warning for warning in planned(policy="ternary-mixed").warnings)
    assert not any("ternary" in warning for warning in planned().warnings)


def test_a_long_pattern_of_stars_ends() -> None:
    with pytest.raises(InvalidPolicy, match="names no block"):
        planned(policy={"overrides": ["*a" * 99 + "=int8"]})


# -- document --------------------------------------------------------------------------------------------------------


def test_document_follows_the_contract() -> None:
    document = planned(policy={"overrides": ["*.5.mlp.down_proj=raw"]}, model_id="org/name", revision="main").as_dict()
    keys = "schema model predictor policy target confidence stacks other layouts totals warnings"
    assert list(document) == keys.split()
    assert document["schema"] == "fastewq.plan/1"
    assert {"id", "revision", "model_type", "dtype", "parameters", "already_quantized"} <= set(document["model"])
    block = document["stacks"][0]["blocks"][5]
    assert list(block) == [
        "index",
        "path",
        "p_quantize",
        "kind",
        "parameters",
        "precision",
        "bytes",
        "layout",
        "modules",
    ]
    parts = [b for s in document["stacks"] for b in s["blocks"]] + document["other"]
    assert sum(part["parameters"] for part in parts) == document["model"]["parameters"]
    assert sum(part["bytes"] for part in parts) == document["totals"]["bytes"]
    for part in parts:
        layout = document["layouts"][part["layout"]]
        assert sum(int(np.prod(t["shape"])) for t in layout) == part["parameters"]
    assert json.loads(json.dumps(document, allow_nan=False)) == document


@pytest.mark.parametrize("option", [{"batch": True}, {"context": False}, {"reserve": False}, {"reserve": 0.0}])
def test_options_that_only_equal_their_default_are_refused(llama: dict[str, Any], option: dict[str, Any]) -> None:
    with pytest.raises(InvalidPolicy, match=next(iter(option))):
        fastewq.plan(llama, **option)


@pytest.mark.parametrize("target", [None, [], 10**5000, "x" * 1000], ids=type)
def test_targets_that_are_none_are_refused(llama: dict[str, Any], target: Any) -> None:
    with pytest.raises(InvalidPolicy, match=r"^target is .{2,40}; expected one of plain"):
        fastewq.plan(llama, target=target)


def test_plan_of_a_config_is_the_plan_of_its_architecture(llama: dict[str, Any]) -> None:
    from fastewq.features import block_columns

    predictor, architecture = load_predictor(), fastewq.read_config(llama)
    whole = fastewq.plan(llama, memory="9GiB", devices=["6GiB", "6GiB"], context=4096)
    from fastewq.kv_cache import cache_bytes
    from fastewq.memory import read_memory

    halves = plan_architecture(
        architecture,
        predictor.probabilities(block_columns(architecture)),
        predictor=predictor,
        memory=read_memory("9GiB", ["6GiB", "6GiB"], 4096),
        cache=cache_bytes(llama, architecture, 4096, 1, 16),
    )
    assert whole.as_dict() == halves.as_dict()
    assert whole.as_dict() == fastewq.plan(llama, memory="9GiB", devices=["6GiB", "6GiB"], context=4096).as_dict()


@settings(max_examples=40)
@given(
    probabilities=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    name=st.sampled_from(sorted(policies(0.5, 0.5))),
    target=st.sampled_from(sorted(TARGETS)),
    overrides=st.lists(st.sampled_from(["0=raw", "0=int4", "*.mlp.down_proj=int8", "*.q_proj=raw"]), max_size=2),
)
def test_documents_read_back(probabilities: list[float], name: str, target: str, overrides: list[str]) -> None:
    if name == "ternary-mixed" and "ternary" not in TARGETS[target].schemes:
        name = "4bit-8bit-mixed"
    plan = planned(probabilities, {"name": name, "overrides": overrides}, target=target)
    document = plan.as_dict()
    assert read_plan(json.loads(json.dumps(document))).as_dict() == document
    assert read_plan(document).stacks == plan.stacks


def test_numbers_of_blocks_may_leave_some_out() -> None:
    document = json.loads(json.dumps(planned().as_dict()))
    document["stacks"][0]["blocks"][-1]["path"] = "model.layers.99"  # of a model that was pruned
    assert read_plan(document).as_dict() == document


def _broken(path: str, value: Any) -> dict[str, Any]:
    document: Any = json.loads(json.dumps(planned().as_dict()))
    *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    inner = document
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", "fastewq.plan/2", "schema is 'fastewq.plan/2'"),
        ("model", [], "model is a list; expected an object"),
        ("model/dtype", "int4", "model.dtype is 'int4'"),
        ("model/dtype", None, "model.dtype is null; expected a string"),
        ("target", True, "target is true; expected a string"),
        ("stacks/0", "x", "stacks[0] is a string; expected an object"),
        ("stacks/0/blocks/1/path", "model.layers.0", "stacks[0].blocks[1].path is 'model.layers.0'"),
        ("stacks/0/blocks/1/path", "model.layers.(1|2)", "stacks[0].blocks[1].path"),
        ("stacks/0/blocks/1/path", "../1", "stacks[0].blocks[1].path"),
        ("stacks/0/blocks/1/precision", "int3", "stacks[0].blocks[1].precision is 'int3'"),
        ("stacks/0/blocks/1/precision", "fp16", "stacks[0].blocks[1].precision is 'fp16'"),
        ("stacks/0/blocks/1/layout", 99, "stacks[0].blocks[1].layout is 99"),
        ("stacks/0/blocks/1/index", True, "stacks[0].blocks[1].index is true; expected an integer"),
        ("stacks/0/blocks/1", {"index": 2, "path": "model.layers.2"}, "stacks[0].blocks[1].index is 2; expected"),
        ("stacks/0/blocks/1/bytes", -1, "stacks[0].blocks[1].bytes is -1"),
        ("stacks/0/blocks/1/modules", {"x": "int8"}, "modules names 'x'"),
        ("stacks/0/blocks", {}, "stacks[0].blocks must be a list"),
        ("layouts/0/0/shape", [10**9, 10**9, 10**9], "layouts[0][0].shape"),
        ("layouts/0/0/shape", [0, 1], "layouts[0][0].shape"),
        ("layouts/0/0/shape", [4], "layouts[0][0].shape is [4]; expected a matrix"),
        ("layouts/0/0/shape", [0, 10**5000], "layouts[0][0].shape is [0, an integer of 16610 bits]; expected a matrix"),
        ("layouts/0/0/shape", [10**5000], "layouts[0][0].shape is [an integer of 16610 bits]; expected up to eight"),
        ("warnings", ["all is well", 10**5000], "warnings[1] is an integer of 16610 bits; expected a string"),
        ("layouts/0/0/role", "x", "layouts[0][0].role is 'x'"),
        ("layouts/0/0/name", "a b", "layouts[0][0].name is 'a b'"),
        ("stacks/0/blocks/0/p_quantize", float("nan"), "stacks[0].blocks[0].p_quantize is nan; expected a number"),
        ("totals/bytes", None, "totals.bytes is null"),
        ("totals/bits_per_weight", 10**400, "totals.bits_per_weight is an integer of 1329 bits; expected a number"),
        ("memory", 3, "memory is a number"),
    ],
)
def test_documents_that_contradict_themselves_are_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidPlan) as caught:
        read_plan(_broken(path, value))
    assert message in caught.value.message


@pytest.mark.parametrize("name", ["parameters", "bytes"])
def test_blocks_and_groups_that_add_up_to_more_than_64_bits_are_refused(name: str) -> None:
    document = _broken(f"stacks/0/blocks/0/{name}", 2**60 - 2**40)
    assert read_plan(document).as_json()
    document["other"][0][name] = 2**60 - 2**40
    with pytest.raises(
        InvalidPlan, match=rf"^{name} of stacks and other add up to \d{{19}}; expected at most \d{{19}}$"
    ):
        read_plan(document)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("first_block", 3, r"memory\.devices\[0\]\.first_block is 3; expected 0"),
        ("first_block", 2**53 - 1, r"memory\.devices\[0\]\.first_block is 9007199254740991; expected 0"),
        ("blocks", 1, r"memory\.devices\[1\]\.first_block is \d+; expected 1"),
        ("blocks", 0, r"memory\.devices\[1\]\.first_block is \d+; expected 0"),
    ],
)
def test_devices_hold_all_blocks_in_their_order(llama: dict[str, Any], field: str, value: int, message: str) -> None:
    document = json.loads(json.dumps(fastewq.plan(llama, devices=["6GiB", "6GiB"]).as_dict()))
    assert read_plan(document).as_dict() == document
    document["memory"]["devices"][0][field] = value
    with pytest.raises(InvalidPlan, match=message):
        read_plan(document)
    document["memory"]["devices"] = [{**document["memory"]["devices"][0], "first_block": 0, "blocks": 1}]
    with pytest.raises(InvalidPlan, match="hold 1 blocks; expected all 32"):
        read_plan(document)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "the document is null"),
        ([], "the document is a list"),
        ("x", "the document is a string"),
        ({}, "schema is null; expected 'fastewq.plan/1'"),
    ],
)
def test_other_values_are_no_plans(document: Any, message: str) -> None:
    with pytest.raises(InvalidPlan, match=message):
        read_plan(document)


# -- schemes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "precision", "shape", "expected"),
    [
        ("plain", "int8", (4, 100), 4 * (100 + 2)),
        ("plain", "int4", (4, 100), 4 * (50 + 2 * 2)),
        ("plain", "ternary", (4, 100), 4 * (25 + 2)),
        ("gguf", "int8", (4, 64), 4 * 2 * 34),
        ("gguf", "int4", (4, 64), 4 * 2 * 18),
        ("gguf", "ternary", (4, 512), 4 * 2 * 66),
        ("gguf", "ternary", (4, 64), 4 * 2 * 18),
        ("gguf", "int4", (4, 50), 4 * 50 * 2),
        ("mlx", "int4", (4, 128), 4 * (64 + 2 * 4)),
        ("mlx", "int4", (4, 96), 4 * (48 + 3 * 4)),
        ("bitsandbytes", "int4", (3, 50), 75 + 3 * 4 + 64 + 91),
        ("compressed-tensors", "int4", (4, 128), 4 * (64 + 2 * 2) + 16),
        ("gptqmodel", "int4", (4, 128), 4 * 64 + 4 * 2 * 20 // 8 + 128 * 4),
    ],
)
def test_bytes_of_a_matrix(target: str, precision: str, shape: tuple[int, int], expected: int) -> None:
    assert TARGETS[target].tensor_bytes(Tensor("w.weight", shape, "linear"), precision, 2) == expected


def test_experts_are_separate_matrices_and_transposed_ones_are_grouped_along_their_inputs() -> None:
    plain = TARGETS["plain"]
    stacked = Tensor("experts.down_proj", (3, 4, 100), "experts")
    assert plain.tensor_bytes(stacked, "int4", 2) == 3 * 4 * (50 + 4)
    conv1d = Tensor("c_attn.weight", (100, 4), "linear", transposed=True)
    assert plain.tensor_bytes(conv1d, "int4", 2) == 4 * (50 + 4)


@pytest.mark.parametrize("target", TARGETS)
def test_every_level_of_every_target_shrinks_a_usual_matrix(target: str) -> None:
    tensor = Tensor("w.weight", (1024, 4096), "linear")
    sizes = [
        TARGETS[target].tensor_bytes(tensor, level, 2)
        for level in ("raw", *LEVELS)
        if level in ("raw", *TARGETS[target].schemes)
    ]
    if target == "torchao":
        assert sizes[0] > sizes[1]
    else:
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) == len(sizes)


@pytest.mark.parametrize("name", ["meta-llama--Meta-Llama-3.1-8B", "Qwen--Qwen3-8B", "meta-llama--Meta-Llama-3.1-405B"])
@pytest.mark.parametrize("memory", ["8GiB", "24GiB", "80GB", "400GB"])
def test_real_configs_never_exceed_their_memory(name: str, memory: str, real_configs: Path) -> None:
    from fastewq.errors import DoesNotFit
    from fastewq.memory import parse_bytes

    config = json.loads((real_configs / f"{name}.json").read_text("utf-8"))
    try:
        plan = fastewq.plan(config, memory=memory, context=8192, reserve="512MiB")
    except DoesNotFit:
        return
    report = plan.as_dict()["memory"]
    assert plan.totals.bytes + report["kv_cache"] + report["reserve"] + report["free"] == parse_bytes(memory)
    assert report["free"] >= 0


def test_a_plan_that_was_written_can_be_sent_to_another_process() -> None:
    config = {"model_type": "llama", "num_hidden_layers": 3}
    made = fastewq.plan(config)
    text = made.as_json()  # which is kept in part with the layouts that models share
    assert pickle.loads(pickle.dumps(made)).as_json() == copy.deepcopy(made).as_json() == text
    assert pickle.loads(pickle.dumps(fastewq.read_config(config))).parameters == made.model["parameters"]


def test_plans_share_nothing_that_can_be_changed() -> None:
    config = {"model_type": "llama", "num_hidden_layers": 3}
    text = fastewq.plan(config).as_json()
    document = fastewq.plan(config).as_dict()
    for value in (document["predictor"], document["policy"], document["layouts"], document["stacks"][0]["blocks"][0]):
        value.clear()
    assert fastewq.plan(config).as_json() == text


def test_blocks_are_written_with_every_field_in_order() -> None:
    common = Common("attention+dense", 100, "int8", 120, 1, {"mlp.up_proj": "int4"})
    alike = (common, replace(common, modules={}))
    blocks = PlannedBlocks(("layers.0", "layers.1", "layers.2"), (0.25, 0.5, 0.75), alike, (0, 1, 0))
    overridden, plain, again = blocks.as_list()
    order = ["index", "path", "p_quantize", "kind", "parameters", "precision", "bytes", "layout", "modules"]
    assert [list(overridden), list(plain)] == [order, order[:-1]]
    assert overridden == blocks[0]._asdict()
    assert plain | {"modules": {}} == blocks[1]._asdict()
    assert again == overridden | {"index": 2, "path": "layers.2", "p_quantize": 0.75}


@pytest.mark.parametrize("blocks", [0, 1, 7, 300])
def test_the_text_of_a_plan_is_that_of_its_document(blocks: int) -> None:
    options: list[dict[str, Any]] = [{}, {"policy": {"overrides": ["*.o_proj=raw"]}}, {"memory": "900GB"}]
    for named in options if blocks else options[:1]:
        found = fastewq.plan({"model_type": "mixtral", "num_hidden_layers": blocks}, **named)
        assert found.as_json() == orjson.dumps(found.as_dict())
        assert found.totals.bytes == sum(b.bytes for s in found.stacks for b in s.blocks) + sum(
            group.bytes for group in found.other
        )


def decided(policy: Policy, probabilities: list[float]) -> list[str]:
    found = policy.precisions(len(probabilities), quantized_blocks(probabilities, policy.threshold))
    return [PRECISIONS[number] for number in found]


def test_remembered_precisions_are_those_of_each_policy_and_long_stacks_are_not_remembered() -> None:
    both = Policy("first", threshold=0.5, aggressive_share=0.5), Policy("second", threshold=None, aggressive_share=0.0)
    for blocks in (1, USUAL_BLOCKS, USUAL_BLOCKS + 1):
        probabilities = tuple([number % 7 / 7 for number in range(blocks)])
        remembered_precisions.cache_clear()
        for _ in range(2):
            found = stack_precisions(both, probabilities)
            assert [[PRECISIONS[n] for n in each] for each in found] == [decided(p, [*probabilities]) for p in both]
        assert remembered_precisions.cache_info().currsize == (blocks <= USUAL_BLOCKS)


def test_the_lower_precision_goes_to_the_highest_index_or_to_the_most_probable() -> None:
    probabilities = [0.9, 0.2, 0.8, 0.7, 0.1, 0.6]
    policy = Policy("test", threshold=0.5, aggressive_share=0.5)
    assert decided(policy, probabilities) == ["int8", "raw", "int8", "int4", "raw", "int4"]
    by_probability = replace(policy, aggressive_order="probability")
    assert decided(by_probability, probabilities) == ["int4", "raw", "int4", "int8", "raw", "int8"]


@given(
    p=st.lists(st.sampled_from((0.0, 0.1, 0.25, 0.5, 0.6, 0.9, 1.0)), max_size=12),
    threshold=st.sampled_from((None, 0.5)),
    share=st.sampled_from((0.0, 0.3, 0.5, 1.0)),
    order=st.sampled_from(ORDERS),
    keep_ends=st.booleans(),
)
def test_a_stack_is_decided_as_the_policy_is_described(
    p: list[float], threshold: float | None, share: float, order: str, keep_ends: bool
) -> None:
    """In words: so many of the most probable, of equal ones the later; the last, or most probable, of them lower."""
    last_first = sorted(range(len(p)), key=lambda i: (-p[i], -i))
    count = max(1, math.floor(math.fsum(p) + 0.5))
    chosen = [i for i in last_first if p[i] >= threshold] if threshold else last_first[:count]
    if keep_ends:
        chosen = [i for i in chosen if 0 < i < len(p) - 1]
    lower = (chosen if order == "probability" else sorted(chosen, reverse=True))[: round(share * len(chosen))]
    expected = ["int4" if i in lower else "int8" if i in chosen else "raw" for i in range(len(p))]
    assert decided(Policy("test", threshold, share, order, keep_ends=keep_ends), p) == expected


def test_a_plan_of_measured_sensitivity_keeps_the_ends_of_a_decoder_and_the_last_blocks_of_bert() -> None:
    """What the predictor learned: without post-norm the first and last blocks matter most, with it the last."""

    def chances(config: dict[str, object]) -> list[float]:
        plan = fastewq.plan(config, objective="sensitivity")
        assert plan.as_dict()["predictor"]["objective"] == "sensitivity"
        return [block.p_quantize for block in plan.stacks[0].blocks]

    sizes = {"hidden_size": 256, "num_attention_heads": 4, "num_hidden_layers": 24, "vocab_size": 1000}
    llama = chances({"model_type": "llama", "intermediate_size": 512, **sizes})
    bert = chances({"model_type": "bert", "intermediate_size": 512, **sizes})
    assert max(llama[0], llama[-1]) < min(llama[8:16])
    assert max(bert[-4:]) < min(bert[:4])


def test_an_unknown_order_is_refused() -> None:
    card = fastewq.load_predictor().card
    with pytest.raises(InvalidPolicy, match="aggressive_order"):
        read_policy({"name": "keep-ends", "aggressive_order": "luck"}, card)
