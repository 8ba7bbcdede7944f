"""Every pitfall of the tools' formats, tested through the tool's own matching rule rewritten here from its source."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from exports.conftest import BERT, GEMMA3, GPT2, LATENT, LLAMA, LLAVA, MOE, OPT, Planner
from fastewq.document import Plan, read_plan
from fastewq.errors import CannotExport
from fastewq.exports import TOOLS, export
from fastewq.exports.assignment import LATENT as SPLIT
from fastewq.exports.assignment import assign
from fastewq.exports.autoround import ROWS
from fastewq.memory import read_memory
from fastewq.schemes import target_named

DATA_TOOLS = [tool for tool in TOOLS if tool not in ("devices", "ignore-list")]


def json_file(plan: Plan, tool: str, name: str, **options: Any) -> Any:
    return json.loads(export(plan, tool, **options).files[name])


def matrices(plan: Plan) -> list[str]:
    """Every matrix inside the blocks, by module path."""
    return [
        f"{block.path}.{tensor.name.removesuffix('.weight')}"
        for stack in plan.stacks
        for block in stack.blocks
        for tensor in plan.layouts[block.layout]
        if tensor.role == "linear"
    ]


def expected_bits(plan: Plan) -> dict[str, int]:
    """What the plan says of each matrix inside the blocks: 16 for raw."""
    bits = {"int8": 8, "int4": 4}
    return {
        f"{block.path}.{name}": bits.get(block.modules.get(name, block.precision), 16)
        for stack in plan.stacks
        for block in stack.blocks
        for name in (t.name.removesuffix(".weight") for t in plan.layouts[block.layout] if t.role == "linear")
    }


# -- resolvers: how each tool decides the bits of a module -----------------------------------------------------------


def by_torchao(rules: list[dict[str, Any]], module: str) -> int:
    """FqnToConfig: re.fullmatch on the parameter name."""
    hits = [rule["bits"] for rule in rules if re.fullmatch(rule["pattern"], f"{module}.weight")]
    assert len(hits) <= 1, "order is lost when config.json is written with sorted keys"
    return hits[0] if hits else 16


def by_compressed_tensors(config: dict[str, Any], module: str) -> int:
    """`re:` targets are matched from the start; ignore wins."""

    def matches(target: str) -> bool:
        return bool(re.match(target[3:], module)) if target.startswith("re:") else target == module

    if any(map(matches, config["ignore"])):
        return 16
    hits = [g["weights"]["num_bits"] for g in config["config_groups"].values() if any(map(matches, g["targets"]))]
    assert len(hits) <= 1, "an overlap is won by the later group"
    return hits[0] if hits else 16


def by_gptqmodel(config: dict[str, Any], module: str) -> int:
    """`dynamic`: the first pattern that matches from the start decides; `-:` skips."""
    for pattern, changes in config["dynamic"].items():
        sign, _, regex = pattern.partition(":")
        if re.match(regex, module):
            return 16 if sign == "-" else changes["bits"]
    return config["bits"]


def by_autoround(config: dict[str, Any], module: str) -> int:
    """A key without regular expression tokens is an exact layer name or, failing that, a substring."""
    exact = config["layer_config"].get(module)
    assert not any(set("*+?^$()[]{}|\\") & set(key) for key in config["layer_config"])
    return (exact or config)["bits"]


def by_mlx(document: dict[str, Any], module: str) -> int:
    arguments = next((a for pattern, a in document["rules"] if re.fullmatch(pattern, module)), False)
    return arguments["bits"] if arguments else 16


def by_openvino(document: dict[str, Any], module: str) -> int:
    """Each pass takes what no pattern, matched from the start of the node's name, ignores."""
    node = f"__module.{module}/aten::linear/MatMul"
    hits = [
        8 if step["mode"] == "INT8_SYM" else 4
        for step in document["passes"]
        if not any(re.match(pattern, node) for pattern in step["ignored"])
    ]
    assert len(hits) <= 1, "a second pass must ignore what the first one compressed"
    return hits[0] if hits else 16


def by_quanto(document: dict[str, Any], module: str) -> int:
    hits = [
        int(step["weights"].removeprefix("qint"))
        for step in document["passes"]
        if any(fnmatchcase(module, pattern) for pattern in step["include"])
    ]
    assert len(hits) <= 1
    return hits[0] if hits else 16


def by_bitsandbytes(config: dict[str, Any], module: str) -> int:
    """transformers 5.23: from the start of the name with a module boundary, or the end of the name."""
    for key in config["llm_int8_skip_modules"]:
        if re.match(rf"(?:{key})(\.|$)", module) or module.endswith(key):
            return 16
    return 4 if config["load_in_4bit"] else 8


RESOLVERS = {
    "torchao": ("torchao.json", lambda document, module: by_torchao(document["rules"], module)),
    "llm-compressor": ("quantization_config.json", by_compressed_tensors),
    "gptqmodel": ("quantize_config.json", by_gptqmodel),
    "autoround": ("autoround.json", by_autoround),
    "mlx": ("mlx.json", by_mlx),
    "openvino": ("nncf.json", by_openvino),
    "quanto": ("quanto.json", by_quanto),
}


@pytest.mark.parametrize("tool", RESOLVERS)
def test_every_module_gets_its_planned_precision(tool: str, planned: Planner) -> None:
    """Digit prefixes (1 against 10 and 11), escaped dots, overlaps and single modules inside a block."""
    plan = planned(overrides=["0-11=int4", "0=raw", "1=int8", "5=int8", "10=raw", "*.3.mlp.down_proj=int8"])
    name, resolve = RESOLVERS[tool]
    document = json_file(plan, tool, name)
    assert {module: resolve(document, module) for module in matrices(plan)} == expected_bits(plan)


@pytest.mark.parametrize("tool", RESOLVERS)
def test_what_is_outside_the_blocks_stays_raw(tool: str, planned: Planner) -> None:
    name, resolve = RESOLVERS[tool]
    for tied in (False, True):
        document = json_file(planned(tie_word_embeddings=tied), tool, name)
        if tool != "autoround" or not tied:
            assert resolve(document, "lm_head") == 16


@pytest.mark.parametrize("tool", ["torchao", "quanto", "llm-compressor"])
def test_norms_and_biases_are_never_named(tool: str, planned: Planner) -> None:
    name, resolve = RESOLVERS[tool]
    document = json_file(planned(BERT, ["0-2=int4"]), tool, name)
    for module in ("bert.encoder.layer.1.attention.output.LayerNorm", "bert.encoder.layer.1.output.LayerNorm"):
        assert resolve(document, module) == 16
    if tool == "torchao":
        bias = "bert.encoder.layer.1.attention.self.query.bias"
        assert not any(re.fullmatch(rule["pattern"], bias) for rule in document["rules"])


@pytest.mark.parametrize("tool", RESOLVERS)
def test_order_may_be_lost(tool: str, planned: Planner) -> None:
    """config.json is written with sorted keys, so nothing may depend on the order of an object's entries."""
    name, resolve = RESOLVERS[tool]
    plan = planned(overrides=["0-11=int4", "0=raw", "1=int8", "5=int8", "10=raw", "*.3.mlp.down_proj=int8"])
    document = json.loads(json.dumps(json_file(plan, tool, name), sort_keys=True))
    assert {module: resolve(document, module) for module in matrices(plan)} == expected_bits(plan)


@pytest.mark.parametrize("tool", [tool for tool in RESOLVERS if tool != "autoround"])
def test_a_dot_is_a_dot(tool: str, planned: Planner) -> None:
    """A name that differs from a module's where a dot stands, or goes on behind it, has no rule."""
    name, resolve = RESOLVERS[tool]
    plan = planned(overrides=["0-11=raw", "1=int8"])
    document = json_file(plan, tool, name)
    assert resolve(document, "model.layers.1.mlp.up_proj") == 8
    others = ("model.layersX1.mlp.up_proj", "model.layers.1Xmlp.up_proj", "model.layers.1.mlpXup_proj")
    for other in (*others, "model.layers.1.mlp.up_proj_norm"):
        unlisted = 8 if tool in ("gptqmodel", "openvino") else 16  # what no rule of theirs names has the base precision
        assert resolve(document, other) == unlisted, other


@pytest.mark.parametrize("tool", RESOLVERS)
def test_biases_are_left_alone(tool: str, planned: Planner) -> None:
    """Qwen2 has biases on q, k and v: they are neither named nor do their modules lose their precision."""
    name, resolve = RESOLVERS[tool]
    plan = planned({**LLAMA, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"})
    text = export(plan, tool).files[name]
    assert "bias" not in text
    assert {module: resolve(json.loads(text), module) for module in matrices(plan)} == expected_bits(plan)
    assert (
        export(plan, tool).bytes
        == planned(
            {**LLAMA, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}, target=TOOLS[tool].target
        ).totals.bytes
    )


# -- llama.cpp -------------------------------------------------------------------------------------------------------


def llama_rules(plan: Plan) -> list[list[str]]:
    return [line.rsplit("=", 1) for line in export(plan, "llama.cpp").files["tensor_types.txt"].splitlines()]


def llama_type(rules: list[list[str]], tensor: str) -> str | None:
    """llama-quantize: patterns are lower-cased and searched for anywhere; the first hit wins."""
    return next((kind for pattern, kind in rules if re.search(pattern.lower(), tensor)), None)


def test_llama_cpp_rules_name_every_block(planned: Planner) -> None:
    rules = llama_rules(planned())
    found = {i: llama_type(rules, f"blk.{i}.ffn_down.weight") for i in range(12)}
    assert found == dict.fromkeys(range(12), "q4_0") | {0: "bf16", 10: "bf16", 1: "q8_0", 5: "q8_0"}
    assert all(" " not in "=".join(rule) for rule in rules)


def test_llama_cpp_single_modules_come_first(planned: Planner) -> None:
    rules = llama_rules(planned(overrides=["0-11=int4", "*.1.mlp.down_proj=int8"]))
    assert llama_type(rules, "blk.1.ffn_down.weight") == "q8_0"
    assert llama_type(rules, "blk.1.attn_q.weight") == "q4_0"
    assert llama_type(rules, "blk.11.ffn_down.weight") == "q4_0"


def test_llama_cpp_base_is_quantized_and_the_lowest(planned: Planner) -> None:
    """With base BF16 llama-quantize ignores every rule and exits 0."""
    usage = export(planned(), "llama.cpp").usage
    assert usage.strip().endswith(" Q4_0")
    assert export(planned(overrides=["0-11=raw", "3=int8"]), "llama.cpp").usage.strip().endswith(" Q8_0")
    kept = export(planned(overrides=["0-11=raw"]), "llama.cpp")
    assert kept.usage.strip().endswith(" COPY")
    assert kept.warnings


def test_llama_cpp_embedding_and_tied_head_have_options(planned: Planner) -> None:
    usage = export(planned(tie_word_embeddings=True, policy={"embeddings": "int8"}), "llama.cpp").usage
    assert "--token-embedding-type q8_0 --output-tensor-type q8_0" in usage
    usage = export(planned(policy={"lm_head": "int8"}), "llama.cpp").usage
    assert "--token-embedding-type bf16 --output-tensor-type q8_0" in usage


def test_llama_cpp_leaves_the_rest_raw(planned: Planner) -> None:
    """A tensor without a rule would follow the base type's own mixture."""
    rules = llama_rules(planned())
    assert rules[-1] == [".*", "bf16"]
    assert llama_type(rules, "cls.output.weight") == "bf16"
    assert llama_type(rules, "blk.11.ffn_down.weight") == "q4_0"


def test_llama_cpp_never_quantizes_some_matrices(planned: Planner) -> None:
    config = {**LLAMA, "architectures": ["Gemma3nForCausalLM"], "model_type": "gemma3n_text", "num_kv_shared_layers": 0,
              "hidden_size_per_layer_input": 64, "vocab_size_per_layer_input": 128, "laurel_rank": 64,
              "activation_sparsity_pattern": None, "layer_types": ["full_attention"] * 12, "head_dim": 64}  # fmt: skip
    plan = planned(config, ["0-11=int8"])
    with pytest.raises(CannotExport, match="llama-quantize never quantizes it"):
        export(plan, "llama.cpp")
    made = export(plan, "llama.cpp", nearest=True)
    assert {".".join(d.path.split(".")[3:5]) for d in made.differences} == {
        "altup.correction_coefs", "altup.prediction_coefs", "laurel.linear_left", "laurel.linear_right",
    }  # fmt: skip


def test_llama_cpp_and_mlx_take_the_language_model(planned: Planner) -> None:
    """A tower goes elsewhere: it is not counted, and one that was to be quantized is a difference."""
    part = ["model.language_model.layers.*=int4", "model.language_model.layers.1.*=int8"]
    for tool in ("llama.cpp", "mlx"):
        made = export(planned(LLAVA, part), tool)
        alone = export(planned(overrides=["0-11=int4", "1=int8"]), tool)
        assert made.bytes == alone.bytes
        assert made.warnings
        assert not alone.warnings
        both = planned(LLAVA, [*part, "0-2=int8"], policy={"vision": True})
        with pytest.raises(CannotExport, match="towers"):
            export(both, tool)
        assert {d.path.split(".")[1] for d in export(both, tool, nearest=True).differences} == {"vision_tower"}
    assert llama_type(llama_rules(planned(LLAVA, part)), "blk.1.ffn_down.weight") == "q8_0"
    assert llama_type(llama_rules(planned(LLAVA, part)), "blk.11.ffn_down.weight") == "q4_0"


def test_llama_cpp_ternary_falls_back_where_256_does_not_divide(planned: Planner) -> None:
    plan = planned(overrides=["0-11=ternary"], intermediate_size=320)
    rules = llama_rules(plan)
    assert llama_type(rules, "blk.3.ffn_down.weight") == "q4_0"
    assert llama_type(rules, "blk.3.ffn_up.weight") == "tq2_0"


def test_a_latent_that_is_split_has_a_format_for_both_halves(planned: Planner) -> None:
    """llama.cpp and mlx-lm turn the half of the keys round, so its rows are not those of the matrix."""
    overrides = ["0=ternary", "1=int4", "2=int8"]
    made = export(planned(LATENT, overrides, policy={"name": "ternary-mixed"}), "llama.cpp")
    rules = [line.partition("=") for line in made.files["tensor_types.txt"].splitlines()]
    kinds = {
        name: next(kind for pattern, _, kind in rules if re.search(pattern, f"blk.0.{name}.weight"))
        for name in ("attn_k_b", "attn_v_b", "attn_kv_a_mqa")
    }
    assert kinds == {"attn_k_b": "q4_0", "attn_v_b": "q4_0", "attn_kv_a_mqa": "tq2_0"}

    plan = planned(LATENT, ["0=int8", "1=int4", "2=int8"])
    schemes = {m.path: m.scheme for m in TOOLS["mlx"].adapt(assign(plan, "mlx")).modules}
    groups = [schemes[f"model.layers.{i}.self_attn.{name}"].group for i in (0, 1) for name in ("kv_b_proj", "o_proj")]
    assert groups == [32, 64, 32, 64]
    minicpm3 = planned({**LATENT, "model_type": "minicpm3", "architectures": ["MiniCPM3ForCausalLM"]}, overrides)
    latent = next(m for m in TOOLS["llama.cpp"].adapt(assign(minicpm3, "gguf")).modules if m.name.endswith("kv_b_proj"))
    assert latent.scheme is not None
    assert latent.scheme.name == "TQ2_0"  # it is one tensor there


@pytest.mark.parametrize("tool", ["llama.cpp", "mlx"])
@pytest.mark.parametrize("queries", [128, None])
def test_a_latent_with_a_half_no_group_divides_is_kept(tool: str, queries: int | None, planned: Planner) -> None:
    plan = planned(LATENT, ["0-2=int4"], qk_nope_head_dim=48, q_lora_rank=queries)
    with pytest.raises(CannotExport, match="the 48 inputs of a half are no multiple of a group size"):
        export(plan, tool)
    made = export(plan, tool, nearest=True)
    assert {d.path.rpartition(".")[2] for d in made.differences} == {"kv_b_proj"}
    adapted = TOOLS[tool].adapt(assign(plan, TOOLS[tool].target))
    assert all((module.scheme is None) == (module.name == SPLIT) for module in adapted.modules if module.block >= 0)


def test_llama_cpp_refuses_architectures_without_known_names(planned: Planner) -> None:
    with pytest.raises(CannotExport, match="model_type 'opt'"):
        export(planned(OPT, ["0=int8"]), "llama.cpp")


# -- what tools cannot express ---------------------------------------------------------------------------------------


def test_bitsandbytes_has_one_quantized_level(planned: Planner) -> None:
    with pytest.raises(CannotExport, match="not both"):
        export(planned(), "bitsandbytes")
    nearest = export(planned(), "bitsandbytes", nearest=True)
    config = json.loads(nearest.files["quantization_config.json"])
    assert config["load_in_4bit"] is True
    assert {d.path.split(".")[2] for d in nearest.differences} == {"1", "5"}
    assert {(d.planned, d.exported) for d in nearest.differences} == {("int8", "raw")}
    found = {module: by_bitsandbytes(config, module) for module in matrices(planned())}
    assert found == {m: 16 if bits == 8 else bits for m, bits in expected_bits(planned()).items()}


LINEAR_ONLY = ("autoround", "bitsandbytes", "llm-compressor", "openvino", "quanto", "torchao")
"""Tools that quantize the weights of linear modules and no other matrices."""
EVERYTHING = ("bitsandbytes", "autoround", "gptqmodel", "openvino")
"""Tools that quantize every linear module they are not told to leave alone."""


def bits_of(plan: Plan, tool: str) -> Callable[[str], int]:
    """What a tool makes of a module, by its path."""
    if tool == "bitsandbytes":
        config = json_file(plan, tool, "quantization_config.json", nearest=True)
        return lambda module: by_bitsandbytes(config, module)
    name, resolve = RESOLVERS[tool]
    document = json_file(plan, tool, name, nearest=True)
    return lambda module: resolve(document, module)


@pytest.mark.parametrize("tool", EVERYTHING)
def test_routers_that_are_linear_modules_stay(tool: str, planned: Planner) -> None:
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
    shared = {"shared_expert_intermediate_size": 128, "decoder_sparse_step": 1, "mlp_only_layers": []}
    config = {**LLAMA, **experts, **shared, "architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe"}
    bits = bits_of(planned(config, ["0-11=int4"]), tool)
    assert bits("model.layers.3.mlp.shared_expert_gate") == 16
    assert bits("model.layers.3.mlp.gate") == 16
    assert bits("model.layers.3.mlp.shared_expert.gate_proj") == 4


@pytest.mark.parametrize("tool", ["bitsandbytes", *(tool for tool in RESOLVERS if tool != "mlx")])
def test_blocks_are_named_by_their_path_and_not_by_their_number(tool: str, planned: Planner) -> None:
    """Funnel's second block is `blocks.0.1`, in stages; the third one of three is the first of its stage."""
    sizes = {"block_sizes": [2, 1], "block_repeats": [1, 1], "d_model": 64, "d_inner": 128, "n_head": 2, "d_head": 32}
    names = {"architectures": ["FunnelForMaskedLM"], "model_type": "funnel", "dtype": "float32"}
    config = {**names, **sizes, "num_decoder_layers": 1, "vocab_size": 128}
    plan = planned(config, ["funnel.encoder.blocks.0.1=int8"], policy={"threshold": 1.0})
    paths = [block.path for stack in plan.stacks for block in stack.blocks]
    assert paths == ["funnel.encoder.blocks.0.0", "funnel.encoder.blocks.0.1", "funnel.encoder.blocks.1.0",
                     "funnel.decoder.layers.0"]  # fmt: skip
    bits = bits_of(plan, tool)
    assert {path: bits(f"{path}.attention.q_head") for path in paths} == dict.fromkeys(paths, 16) | {paths[1]: 8}


@pytest.mark.parametrize("tool", ["bitsandbytes", "gptqmodel", "openvino"])
def test_a_tied_head_has_the_name_of_its_model(tool: str, planned: Planner) -> None:
    bits = bits_of(planned(BERT, ["0-2=int4"], tie_word_embeddings=True), tool)
    assert bits("cls.predictions.decoder") == 16
    assert bits("bert.encoder.layer.1.output.dense") == 4


def test_bitsandbytes_skips_no_head_that_is_to_be_quantized(planned: Planner) -> None:
    plan = planned(overrides=["0-11=int4"], policy={"lm_head": "int4"})
    assert bits_of(plan, "bitsandbytes")("lm_head") == 4


def test_bitsandbytes_keeps_what_the_library_keeps_in_float32(planned: Planner) -> None:
    """The library adds it to any skip list, so a plan that quantizes it would not be what is loaded."""
    t5 = {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "d_model": 64, "d_kv": 16, "d_ff": 128,
          "num_layers": 2, "num_heads": 4, "vocab_size": 128, "dtype": "bfloat16"}  # fmt: skip
    plan = planned(t5, ["0-1=int8"])
    with pytest.raises(CannotExport, match="float32"):
        export(plan, "bitsandbytes")
    made = export(plan, "bitsandbytes", nearest=True)
    names = {difference.path.rpartition(".layer.")[2] for difference in made.differences}
    assert names == {"1.DenseReluDense.wo", "2.DenseReluDense.wo"}
    skipped = json.loads(made.files["quantization_config.json"])["llm_int8_skip_modules"]
    assert "encoder.block.0.layer.1.DenseReluDense.wo" in skipped


def test_bitsandbytes_keeps_it_in_a_t5_inside_another_model_too(planned: Planner) -> None:
    t5 = {"model_type": "t5", "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 1, "num_heads": 4}
    config = {"architectures": ["InstructBlipForConditionalGeneration"], "model_type": "instructblip",
              "text_config": t5, "dtype": "bfloat16"}  # fmt: skip
    made = export(planned(config, ["*.DenseReluDense.*=int8"]), "bitsandbytes", nearest=True)
    kept = {difference.path for difference in made.differences}
    assert "language_model.encoder.block.0.layer.1.DenseReluDense.wo" in kept


def test_bitsandbytes_widens_where_that_is_smaller(planned: Planner) -> None:
    plan = planned(overrides=["0-11=int8", "4=int4"])
    nearest = export(plan, "bitsandbytes", nearest=True)
    assert json.loads(nearest.files["quantization_config.json"])["load_in_8bit"] is True
    assert {(d.planned, d.exported) for d in nearest.differences} == {("int4", "int8")}


def test_bitsandbytes_names_the_head_even_when_tied(planned: Planner) -> None:
    """Any skip list drops the library's own exception; a tied head would then be quantized and fail."""
    config = json_file(
        planned(overrides=["0-11=int4"], tie_word_embeddings=True), "bitsandbytes", "quantization_config.json"
    )
    assert "lm_head" in config["llm_int8_skip_modules"]


@pytest.mark.parametrize(
    "tool", ["mlx", "llm-compressor", "torchao", "bitsandbytes", "quanto", "openvino", "autoround"]
)
def test_ternary_needs_llama_cpp(tool: str, planned: Planner) -> None:
    plan = planned(overrides=["0-11=ternary"])
    with pytest.raises(CannotExport, match="has no ternary format"):
        export(plan, tool)
    nearest = export(plan, tool, nearest=True)
    assert {(d.planned, d.exported) for d in nearest.differences} == {("ternary", "int4")}
    assert len(nearest.differences) == 12 * 7
    assert export(plan, "llama.cpp").differences == ()


@pytest.mark.parametrize("tool", ["torchao", "llm-compressor", "quanto"])
def test_conv1d_is_not_silently_left_out(tool: str, planned: Planner) -> None:
    plan = planned(GPT2, ["0-2=int8"])
    with pytest.raises(CannotExport, match="Conv1D"):
        export(plan, tool)
    assert len(export(plan, tool, nearest=True).differences) == 3 * 4
    assert export(plan, "bitsandbytes").differences == ()


def test_conv1d_groups_run_along_the_inputs(planned: Planner) -> None:
    """A Conv1D stores (inputs, outputs): groups must divide the inputs, and the size counts them that way round."""
    plan = planned({**GPT2, "n_embd": 96, "n_head": 4}, ["0-2=int4"])
    for tool in ("gptqmodel", "autoround"):
        scheme = {m.name: m.scheme for m in assign(plan, tool).modules if m.block == 0}
        assert scheme["attn.c_attn"].group == 32  # 96 inputs; its 288 outputs are no multiple of 64 either
        assert scheme["mlp.c_proj"].group == 64  # 384 inputs, 96 outputs
    c_attn = next(m for m in assign(plan, "gptqmodel").modules if m.name == "attn.c_attn")
    assert c_attn.scheme is not None
    groups = 288 * 96 // 32
    assert c_attn.scheme.size(c_attn.tensor.oriented) == 96 * 288 * 4 // 8 + groups * 20 // 8 + 96 * 4
    assert dict(llama_rules(plan))[r"^blk\.(0|1|2)\..*\.weight$"] == "q4_0"


@pytest.mark.parametrize("tool", ["bitsandbytes", "llm-compressor", "gptqmodel", "openvino"])
def test_a_tied_head_is_named_and_counted_once(tool: str, planned: Planner) -> None:
    """A tool sees a tied head as one more linear module; to quantize it would untie it or fail at the first forward."""
    plan = planned(overrides=["0-11=int4"], tie_word_embeddings=True)
    made = export(plan, tool)
    assert any("lm_head" in text for name, text in made.files.items() if not name.endswith(".py"))
    untied = export(planned(overrides=["0-11=int4"], tie_word_embeddings=False), tool)
    assert untied.bytes - made.bytes == LLAMA["vocab_size"] * LLAMA["hidden_size"] * 2


@pytest.mark.parametrize(("width", "group"), [(256, 64), (288, 32)])
def test_group_size_divides_every_row(width: int, group: int, planned: Planner) -> None:
    plan = planned(overrides=["0-11=int4"], hidden_size=width, intermediate_size=512)
    config = json_file(plan, "llm-compressor", "quantization_config.json")
    q_proj = "model.layers.3.self_attn.q_proj"
    sizes = [
        g["weights"]["group_size"]
        for g in config["config_groups"].values()
        if any(re.match(t[3:], q_proj) for t in g["targets"])
    ]
    assert sizes == [group]


def test_a_row_no_group_divides_is_reported(planned: Planner) -> None:
    plan = planned(overrides=["0-11=int4"], intermediate_size=500)
    with pytest.raises(CannotExport, match="500 inputs are no multiple of a group size of compressed-tensors"):
        export(plan, "llm-compressor")
    differences = export(plan, "llm-compressor", nearest=True).differences
    assert {d.path.split(".", 3)[3] for d in differences} == {"mlp.down_proj"}


def test_stacked_experts(planned: Planner) -> None:
    plan = planned(MOE, ["0-1=int4"])
    assert llama_type(llama_rules(plan), "blk.1.ffn_gate_exps.weight") == "q4_0"
    with pytest.raises(CannotExport, match="experts stacked in one tensor"):
        export(plan, "bitsandbytes")
    rules = json_file(plan, "mlx", "mlx.json")
    assert by_mlx(rules, "model.layers.1.mlp.switch_mlp.up_proj") == 4
    assert by_mlx(rules, "model.layers.1.mlp.gate") == 16


# -- fused modules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["llm-compressor", "gptqmodel"])
def test_serving_engines_find_fused_names(tool: str, planned: Planner) -> None:
    name, resolve = RESOLVERS[tool]
    plan = planned()
    document = json_file(plan, tool, name)
    for block, bits in ((0, 16), (1, 8), (2, 4), (11, 4)):
        for module in ("self_attn.qkv_proj", "mlp.gate_up_proj"):
            assert resolve(document, f"model.layers.{block}.{module}") == bits


@pytest.mark.parametrize("tool", ["llm-compressor", "gptqmodel"])
@pytest.mark.parametrize("text", ["model.language_model", "language_model.model", "model"])
@pytest.mark.parametrize("tower", ["model.vision_tower", "vision_tower"])
def test_serving_engines_find_the_parts_of_a_multimodal_model(
    tool: str, text: str, tower: str, planned: Planner
) -> None:
    """vLLM and SGLang arrange them in another order than the library, and map names in a config but not patterns."""
    name, resolve = RESOLVERS[tool]
    text_blocks = ["model.language_model.layers.*=int4", "model.language_model.layers.1=int8"]
    plan = planned(LLAVA, [*text_blocks, "model.vision_tower.encoder.layers.1=int8"], policy={"vision": True})
    path = next(stack for stack in plan.stacks if stack.name.startswith("vision")).blocks[1].path
    document = json_file(plan, tool, name, nearest=True)
    assert resolve(document, f"{text}.layers.1.mlp.gate_up_proj") == 8
    assert resolve(document, f"{text}.layers.11.self_attn.o_proj") == 4
    assignment = TOOLS[tool].adapt(assign(plan, TOOLS[tool].target))
    expected = {m.path: m.scheme.bits if m.scheme else 16 for m in assignment.modules}
    module = next(m for m in expected if m.startswith(path))
    assert resolve(document, module.replace("model.vision_tower", tower)) == expected[module]
    projector = next(m for m in expected if m.startswith("model.multi_modal_projector"))
    assert resolve(document, projector) == resolve(document, projector.removeprefix("model.")) == 16


def test_recipe_survives_yaml(planned: Planner) -> None:
    """Single quotes: in double quotes YAML would read the backslashes as escapes."""
    recipe = export(planned(), "llm-compressor").files["recipe.yaml"]
    quoted = re.findall(r"- '(.*)'", recipe)
    config = json_file(planned(), "llm-compressor", "quantization_config.json")
    assert quoted == config["ignore"] + [t for g in config["config_groups"].values() for t in g["targets"]]
    assert '"' not in recipe


# -- all tools -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", DATA_TOOLS)
def test_exports_are_deterministic_and_survive_the_document(tool: str, planned: Planner) -> None:
    plan = planned()
    again = read_plan(json.loads(json.dumps(plan.as_dict())))
    first = export(plan, tool, nearest=True).as_dict()
    assert first == export(again, tool, nearest=True).as_dict()
    assert first["bytes"] > 0
    assert json.loads(json.dumps(first)) == first


@pytest.mark.parametrize("tool", [t for t in DATA_TOOLS if t != "bitsandbytes"])
def test_predicted_bytes_are_those_of_a_plan_for_the_target(tool: str, planned: Planner) -> None:
    """`plan --target` and `export --to` count with the same formats."""
    plan = planned(target=TOOLS[tool].target)
    assert export(plan, tool).bytes == plan.totals.bytes


def test_stacked_experts_that_a_tool_takes_apart_stay(planned: Planner) -> None:
    """AutoRound and GPTQModel make linear modules of them, and quantize what no rule names; NNCF sees one product.

    llm-compressor makes such modules too, and vLLM asks for them one by one.
    """
    plan = planned(MOE, ["0=raw", "1=int4"])
    experts = [f"model.layers.{block}.mlp.experts" for block in (0, 1)]
    rounds = json_file(plan, "autoround", "autoround.json", nearest=True)["layer_config"]
    dynamic = json_file(plan, "gptqmodel", "quantize_config.json", nearest=True)["dynamic"]
    passes = json_file(plan, "openvino", "nncf.json", nearest=True)["passes"]
    ignored = json_file(plan, "llm-compressor", "quantization_config.json", nearest=True)["ignore"]
    assert passes
    for path in experts:
        assert rounds[f"{path}."] == {"bits": 16}
        for module in (path, f"{path}.0.gate_proj", f"{path}.3.down_proj"):
            rules = [rule for rule in dynamic if re.match(rule.partition(":")[2], module)]
            assert [rule[0] for rule in rules] == ["-"]
            assert any(re.match(pattern.removeprefix("re:"), module) for pattern in ignored)
        for step in passes:
            assert any(re.match(pattern, f"__module.{path}/aten::bmm/MatMul") for pattern in step["ignored"])
    assert json_file(plan, "gptqmodel", "quantize_config.json", nearest=True)["bits"] == 4
    assert by_gptqmodel({"bits": 4, "dynamic": dynamic}, "model.layers.1.self_attn.q_proj") == 4


def test_autoround_names_every_module(planned: Planner) -> None:
    """Outside the blocks AutoRound quantizes what is named alone, and loaders look for what departs from the base."""
    part = ["model.language_model.layers.*=int4", "model.vision_tower.encoder.layers.1=int8"]
    plan = planned(LLAVA, part, policy={"vision": True, "lm_head": "int8"})
    document = json_file(plan, "autoround", "autoround.json")
    assignment = TOOLS["autoround"].adapt(assign(plan, "autoround"))
    modules = [module for module in assignment.modules if module.tensor.role != "embedding"]
    found = {path: entry["bits"] for path, entry in document["layer_config"].items()}
    assert found == {module.path: module.scheme.bits if module.scheme else 16 for module in modules}
    assert set(found.values()) == {4, 8, 16}
    assert found["lm_head"] == 8
    assert document["group_size"] not in {scheme.group for scheme in assignment.by_scheme()}
    assert document["low_cpu_mem_usage"] is False


def test_autoround_keeps_matrices_with_odd_numbers_of_outputs(planned: Planner) -> None:
    plan = planned(policy={"lm_head": "int8"}, vocab_size=130)
    with pytest.raises(CannotExport, match="130 outputs are no multiple of AutoRound's 32"):
        export(plan, "autoround")
    made = export(plan, "autoround", nearest=True)
    assert [difference.path for difference in made.differences] == ["lm_head"]
    assert export(plan, "llm-compressor").differences == ()


@pytest.mark.parametrize("tool", LINEAR_ONLY)
def test_what_is_in_no_linear_module_stays(tool: str, planned: Planner) -> None:
    """Gemma's projector is a parameter, and PyTorch's MultiheadAttention runs no module for its output projection."""
    names = {
        "model.multi_modal_projector.mm_input_projection_weight",
        "model.vision_tower.head.attention.in_proj_weight",
        "model.vision_tower.head.attention.out_proj",
    }
    projector, pooling = "model.multi_modal_projector=int8", "model.vision_tower.head.*=int8"
    plan = planned(GEMMA3, [projector, pooling])
    with pytest.raises(CannotExport, match="a matrix in no linear module"):
        export(plan, tool)
    made = export(plan, tool, nearest=True)
    assert {difference.path for difference in made.differences} == names
    left = export(planned(GEMMA3, ["model.vision_tower.head.mlp.*=int8"]), tool)
    assert (made.bytes, left.differences) == (left.bytes, ())


FALCON: dict[str, Any] = {
    **{
        name: LLAMA[name] for name in ("hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size", "dtype")
    },
    "architectures": ["FalconForCausalLM"],
    "model_type": "falcon",
    "new_decoder_architecture": True,
    "num_kv_heads": 2,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize("tool", ["bitsandbytes", "llm-compressor", "autoround", "torchao", "quanto", "gptqmodel"])
def test_modules_of_a_class_made_from_the_linear_one(tool: str, planned: Planner) -> None:
    """Falcon's: some tools ask for the very class, and llm-compressor rounds others without packing them."""
    plan = planned(FALCON, ["0-11=int4"], policy={"lm_head": "int4"})
    asks = tool in ("bitsandbytes", "llm-compressor", "autoround")
    adapted = TOOLS[tool].adapt(assign(plan, TOOLS[tool].target))
    assert {module.scheme is None for module in adapted.modules if module.block >= 0} == {asks}
    head = next(module for module in adapted.modules if module.path == "lm_head")
    assert head.scheme is not None
    if asks:
        with pytest.raises(CannotExport, match=r"48 modules .* would be raw, not int4"):
            export(plan, tool)


@pytest.mark.parametrize(
    ("model_type", "name"),
    [("bridgetower", "attn.out_proj"), ("ibert", "attention.self.query"), ("ibert", "output.dense")],
)
def test_modules_that_are_of_no_linear_class_stay(model_type: str, name: str, planned: Planner) -> None:
    """Those of I-BERT, and what PyTorch's MultiheadAttention reads past its module."""
    golden = Path(__file__).parents[1] / "architectures" / "golden" / f"{model_type}.json"
    config = json.loads(golden.read_text("utf-8"))["cases"][0]["config"]
    made = export(planned(config, ["*=int8"], policy={"vision": True}), "torchao", nearest=True)
    reasons = {difference.reason for difference in made.differences if difference.path.endswith(f".{name}")}
    assert reasons == {"torchao does not quantize a matrix in no linear module"}


def test_quanto_keeps_matrices_with_odd_numbers_of_outputs_in_bfloat16(planned: Planner) -> None:
    plan = planned(policy={"lm_head": "int4"}, vocab_size=130)
    with pytest.raises(CannotExport, match="130 outputs are no multiple of quanto's 16"):
        export(plan, "quanto")
    assert [difference.path for difference in export(plan, "quanto", nearest=True).differences] == ["lm_head"]
    assert export(planned(policy={"lm_head": "int8"}, vocab_size=130), "quanto").differences == ()
    assert export(planned(policy={"lm_head": "int4"}, vocab_size=130, dtype="float16"), "quanto").differences == ()


def test_autoround_keeps_matrices_with_odd_numbers_of_inputs(planned: Planner) -> None:
    """It would keep them whatever its groups are; the groups are multiples of its 32 anyway."""
    plan = planned(intermediate_size=528)
    with pytest.raises(CannotExport, match="528 inputs are no multiple of a group size of autoround"):
        export(plan, "autoround")
    made = export(plan, "autoround", nearest=True)
    assert {difference.path.rpartition(".")[2] for difference in made.differences} == {
        "gate_proj",
        "up_proj",
        "down_proj",
    }
    assert all(scheme.group % ROWS == 0 for schemes in target_named("autoround").schemes.values() for scheme in schemes)


@pytest.mark.parametrize(("precision", "bits"), [("int4", 4), ("int8", 8), ("raw", 16)])
def test_gptqmodel_is_told_of_the_head(precision: str, bits: int, planned: Planner) -> None:
    """It leaves the head alone unless it is told, and then takes 8 bits where no rule names it."""
    plan = planned(policy={"lm_head": precision})
    document = json_file(plan, "gptqmodel", "quantize_config.json")
    assert document["lm_head"] is (bits < 16)
    rule = next(rule for rule in document["dynamic"] if re.match(rule.partition(":")[2], "lm_head"))
    assert document["dynamic"][rule].get("bits", 16) == bits
    assert rule.startswith("+:" if bits < 16 else "-:")


def test_gptqmodel_takes_the_language_model_and_its_head(planned: Planner) -> None:
    part = ["model.language_model.layers.*=int4", "0-2=int8", "model.multi_modal_projector.linear_1=int8"]
    plan = planned(LLAVA, part, policy={"vision": True, "lm_head": "int8"})
    with pytest.raises(CannotExport, match="the language model and the head alone"):
        export(plan, "gptqmodel")
    made = export(plan, "gptqmodel", nearest=True)
    assert {difference.path.split(".")[1] for difference in made.differences} == {
        "multi_modal_projector",
        "vision_tower",
    }
    assert json.loads(made.files["quantize_config.json"])["lm_head"] is True


def test_gptqmodel_takes_a_language_model_by_whatever_name(planned: Planner) -> None:
    """The text of a multimodal model need not lie in a `language_model`."""
    config = {"model_type": "idefics3", "architectures": ["Idefics3ForConditionalGeneration"]}
    plan = planned(config, ["model.text_model.layers.*=int4"])
    assert export(plan, "gptqmodel").differences == ()


def test_gptqmodel_takes_some_matrices_apart(planned: Planner) -> None:
    """It makes a gate_proj and an up_proj of Phi-3's gate_up_proj, and looks for rules and writes tensors for these."""
    config = {**LLAMA, "model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}
    config |= {"pad_token_id": 0}
    plan = planned(config)
    document = json_file(plan, "gptqmodel", "quantize_config.json")
    for name in ("gate_proj", "up_proj", "gate_up_proj"):  # the last is the name in serving engines
        for block, bits in ((0, 16), (1, 8), (2, 4), (5, 8), (10, 16), (11, 4)):
            assert by_gptqmodel(document, f"model.layers.{block}.mlp.{name}") == bits
    found = TOOLS["gptqmodel"].adapt(assign(plan, "gptqmodel"))
    halves = {m.path: m.tensor.shape for m in found.modules if m.path.startswith("model.layers.3.mlp.")}
    assert halves == {
        "model.layers.3.mlp.gate_proj": (512, 256),
        "model.layers.3.mlp.up_proj": (512, 256),
        "model.layers.3.mlp.down_proj": (256, 512),
    }
    # Each half has an index of its inputs, of four bytes each.
    whole, quantized = assign(plan, "gptqmodel").tensor_bytes(), 10
    assert found.tensor_bytes() - whole == quantized * 256 * 4


def test_gptqmodel_leaves_the_cross_attention_of_mllama(planned: Planner) -> None:
    text = {**LLAMA, "num_hidden_layers": 4, "cross_attention_layers": [1]}
    config = {"model_type": "mllama_text_model", **{k: v for k, v in text.items() if k != "model_type"}}
    made = export(planned({**config, "architectures": ["MllamaForCausalLM"]}, ["0-3=int4"]), "gptqmodel", nearest=True)
    paths = {difference.path for difference in made.differences}
    assert all(path.startswith("layers.1.") for path in paths)
    assert paths >= {"layers.1.cross_attn.q_proj", "layers.1.mlp.down_proj"}


def test_gptqmodel_warns_of_models_it_has_no_definition_of(planned: Planner) -> None:
    assert export(planned(), "gptqmodel").warnings == ()
    (warning,) = export(planned(BERT, ["0-2=int4"]), "gptqmodel").warnings
    assert "no definition of model_type 'bert'" in warning


def test_openvino_says_where_its_script_does_not_reach(planned: Planner) -> None:
    assert "2 stacks" in export(planned(LLAVA, ["model.language_model.layers.*=int4"]), "openvino").warnings[0]
    assert export(planned(), "openvino").warnings == ()


def test_ignore_list_names_what_stays(planned: Planner) -> None:
    lines = export(planned(), "ignore-list").files["ignore.txt"].splitlines()
    assert {line for line in lines if line.startswith("model.layers.")} == {
        module for module, bits in expected_bits(planned()).items() if bits == 16
    }
    assert "lm_head" in lines


def test_a_plan_for_another_format_may_not_fit(planned: Planner) -> None:
    free = {"overrides": [], "policy": {"overrides": ["0-11=int8"]}}
    limit = planned(target="plain", **free).totals.bytes
    plan = planned(target="plain", memory=read_memory(limit), **free)
    made = export(plan, "mlx")
    over = made.bytes - limit
    assert over > 0, "scale and bias per group take more than one scale per row"
    assert made.warnings == (
        f"{over} bytes more than the plan's memory: it was made for the target plain; plan with mlx",
    )
    fitting = planned(target="mlx", memory=read_memory(limit + over), **free)
    assert export(fitting, "mlx").warnings == ()


@pytest.mark.parametrize(("tool", "name"), [("x", "'x'"), (None, "null"), ([], "list of 0"), (2**999, "an integer")])
def test_unknown_tool(tool: Any, name: str) -> None:
    with pytest.raises(CannotExport, match=f"tool is {name}"):
        export(None, tool)  # type: ignore[arg-type]


def test_switched_routers_and_embeddings_are_reported(planned: Planner) -> None:
    plan = planned(MOE, ["0-1=int8"], policy={"routers": True, "embeddings": "int8"})
    assert "router" in {m.tensor.role for m in assign(plan, "plain").modules if m.scheme}
    differences = export(plan, "llama.cpp", nearest=True).differences
    assert {d.path for d in differences} == {"model.layers.0.mlp.gate", "model.layers.1.mlp.gate"}
