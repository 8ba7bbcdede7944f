"""Names and sizes for every architecture, against what llama.cpp's converter and mlx-lm really did.

tests/data/module_names.json was written by tools/module_names.py, which traced every matrix of a narrow model of each
type by its values.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from fastewq import plan_architecture, read_config
from fastewq.document import Plan
from fastewq.errors import CannotExport
from fastewq.exports import TOOLS, export
from fastewq.exports.assignment import LATENT, Assignment, _key_size, assign
from fastewq.exports.llama_cpp import gguf_names, outside_types, tensor_rules, tensors
from fastewq.exports.mlx import renamed
from fastewq.exports.names import GGUF, GGUF_STACKS, MLX
from fastewq.exports.readback import gguf_outside
from fastewq.predictor import load_predictor

TRACED: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "module_names.json").read_text("utf-8"))


def known(tool: str) -> set[str]:
    return {model_type for model_type, row in TRACED.items() if isinstance(row.get(tool), dict)}


def planned(model_type: str, precision: str, **policy: Any) -> Plan:
    architecture = read_config(_bfloat16(TRACED[model_type]["config"]))
    blocks = sum(len(stack.blocks) for stack in architecture.stacks)
    policy = {"name": "ternary-mixed", "overrides": [f"0-{blocks - 1}={precision}"], **policy}
    return plan_architecture(architecture, np.full(blocks, 0.5), predictor=load_predictor(), policy=policy)


def _bfloat16(config: dict[str, Any]) -> dict[str, Any]:
    """The models were traced in float32 and converted with `--outtype bf16`."""
    return {k: _bfloat16(v) if isinstance(v, dict) else "bfloat16" if k == "dtype" else v for k, v in config.items()}


def adapted(model_type: str, tool: str, precision: str = "int8") -> Assignment:
    return TOOLS[tool].adapt(assign(planned(model_type, precision), TOOLS[tool].target))


def numbered(path: str) -> str:
    """The path with N for the number of its block, as in the traced table."""
    return re.sub(r"\.(\d+)\.", ".N.", path, count=1)


def test_every_traced_model_type_is_known() -> None:
    assert known("gguf") == GGUF
    # mlx-lm keeps each expert of dbrx in a module of its own, and the towers and fused projections of Muse Spark.
    assert known("mlx") - MLX == {"dbrx", "muse_spark"}
    assert not MLX - known("mlx")


@pytest.mark.parametrize("model_type", sorted(GGUF))
def test_gguf_names_are_the_converters(model_type: str) -> None:
    traced = TRACED[model_type]["gguf"]
    assignment = adapted(model_type, "llama.cpp")
    names = gguf_names(assignment)
    for module in assignment.modules:
        if module.block >= 0:
            prefix = GGUF_STACKS.get(module.stack, "blk")
            ours = [f"{prefix}.N.{name}.weight" for name in tensors(module, names)]
            assert ours == traced[numbered(module.path)], module.path
    left = {numbered(module.path) for module in assignment.modules}
    towers = {path for path, found in traced.items() if not found}
    assert set(traced) - towers <= left | {
        path for path in traced if "gate" in path or "router" in path or "bias" in path
    }


@pytest.mark.parametrize("model_type", sorted(GGUF))
def test_gguf_options_reach_the_embeddings_and_the_head(model_type: str) -> None:
    """Every matrix outside the blocks that is quantized is the tensor that one of the options names."""
    plan = planned(model_type, "int8", embeddings="int8", lm_head="int8")
    assignment = TOOLS["llama.cpp"].adapt(assign(plan, "gguf"))
    quantized = [module for module in assignment.modules if module.block < 0 and module.scheme]
    embedding, head = outside_types(assignment)
    # Gemma's second embedding has a rule of its own.
    kinds = {"token_embd.weight": embedding, "output.weight": head, "per_layer_token_embd.weight": "q8_0"}
    for module in quantized:
        (tensor,) = TRACED[model_type]["gguf"][module.path]
        assert gguf_outside(module) == tensor
        assert kinds[tensor] == "q8_0"
    # Tables of rows that no group divides stay as they are; the narrow models of these two types have such.
    assert quantized or model_type in ("bloom", "gpt_oss")


def test_gguf_has_no_option_for_other_matrices_outside_the_blocks() -> None:
    """What lies outside the blocks beside the head neither gets a type nor decides that of the head."""
    mixer = "model.hyper_connection_mixer.input_mix_weight_down"
    plan = planned("qwen4_exp_text", "int8", overrides=[f"{mixer}=int8"])
    made = export(plan, "llama.cpp", nearest=True)
    assert "--output-tensor-type bf16" in made.usage
    (difference,) = [difference for difference in made.differences if difference.path == mixer]
    assert "options for the embeddings and the head alone" in difference.reason


@pytest.mark.parametrize("model_type", sorted(GGUF))
def test_gguf_names_are_tensors_of_the_architecture(model_type: str) -> None:
    """By the published `gguf` package, which is older than the converter and does not know every architecture."""
    numbers = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    name = TRACED[model_type]["architecture"]
    found = [numbers[name] for name in (name, f"{name}_moe") if name in numbers]
    if not found:
        pytest.skip(f"gguf {version('gguf')} does not know {name}")
    templates = {gguf.TENSOR_NAMES[t].replace("{bid}", "N") for number in found for t in gguf.MODEL_TENSORS[number]}
    assignment = adapted(model_type, "llama.cpp")
    names = gguf_names(assignment)
    for module in assignment.modules:
        if module.block >= 0:
            prefix = GGUF_STACKS.get(module.stack, "blk")
            assert {f"{prefix}.N.{name}" for name in tensors(module, names)} <= templates


@pytest.mark.parametrize("model_type", sorted(GGUF))
def test_gguf_rules_give_every_tensor_of_a_block_its_type(model_type: str) -> None:
    """The rules as llama-quantize applies them, to the tensors that the converter wrote."""
    traced = TRACED[model_type]["gguf"]
    assignment = adapted(model_type, "llama.cpp")
    rules = tensor_rules(assignment, gguf_names(assignment))
    for module in assignment.modules:
        if module.block >= 0:
            for name in traced[numbered(module.path)]:
                tensor = name.replace(".N.", f".{module.index}.")
                kind = next(kind for pattern, kind in rules if re.search(pattern, tensor))
                assert kind == (module.scheme.name.lower() if module.scheme else "bf16"), tensor
    assert next(kind for pattern, kind in rules if re.search(pattern, "cls.output.weight")) == "bf16"
    assert outside_types(assignment) == ("bf16", "bf16")


@pytest.mark.parametrize("model_type", sorted(GGUF))
def test_gguf_conversions_leave_drafts_out(model_type: str) -> None:
    """Layers that draft the next tokens are in no plan; kept in 16 bits they would be gigabytes."""
    made = export(planned(model_type, "int8"), "llama.cpp", nearest=True)
    convert, quantize = made.usage.splitlines()
    assert convert.startswith("python convert_hf_to_gguf.py MODEL --outfile MODEL.gguf --outtype bf16")
    assert convert.endswith(" --no-nextn") is TRACED[model_type]["no_nextn"]
    assert quantize.endswith("MODEL.gguf OUT.gguf Q8_0")
    warned = any("draft the next tokens" in warning for warning in made.warnings)
    assert warned is (model_type in ("cohere2_moe", "exaone4_5", "exaone_moe", "glm_ocr"))


@pytest.mark.parametrize("precision", ["raw", "int8", "int4"])
# The library saves the experts of Qwen3-VL in an orientation of its own, so in the traced file their rows are columns.
@pytest.mark.parametrize("model_type", sorted(GGUF - {"qwen3_vl_moe"}))
def test_gguf_bytes_are_the_converters(model_type: str, precision: str) -> None:
    """But for buffers, such as the corrections of routers, and the rows of RoBERTa's positions that no text reaches."""
    written = TRACED[model_type]["bytes"][precision]
    # The converter writes indexers in float32, which llama-quantize narrows unless it copies the whole file.
    copied = precision == "raw" and model_type in ("deepseek_v32", "glm_moe_dsa")
    predicted = adapted(model_type, "llama.cpp", precision).tensor_bytes()
    assert predicted == pytest.approx(written, abs=768, rel=0.003 if copied else 0)


SPLIT = sorted(
    model_type
    for model_type, row in TRACED.items()
    for traced in (row.get("gguf"), row.get("mlx"))
    if isinstance(traced, dict) and any(path.endswith(LATENT) and len(found) > 1 for path, found in traced.items())
)


# GLM-5-Next turns no part of its keys by position, so their number is not known; llama.cpp never quantizes its halves.
@pytest.mark.parametrize("model_type", sorted({*SPLIT} - {"glm5_next"}))
def test_the_size_of_keys_is_that_of_the_config(model_type: str) -> None:
    """Plans do not have it, so it is worked out from the matrices around the one that is split."""
    config = TRACED[model_type]["config"]
    plan = planned(model_type, "raw")
    sizes = {
        _key_size(layout) for layout in plan.layouts if any(tensor.name == f"{LATENT}.weight" for tensor in layout)
    }
    assert sizes == {config.get("text_config", config)["qk_nope_head_dim"]}


@pytest.mark.parametrize("model_type", sorted(MLX))
def test_mlx_names_are_the_loaded_models(model_type: str) -> None:
    traced = TRACED[model_type]["mlx"]
    assignment = adapted(model_type, "mlx")
    for module in assignment.modules:
        ours = [f"{part.stack}.N.{part.name}" if part.stack else part.path for part in renamed(assignment, module)]
        assert ours == traced[numbered(module.path)], module.path


def test_a_model_type_that_the_tool_does_not_know() -> None:
    plan = planned("bert", "int8")
    with pytest.raises(CannotExport, match="model_type 'bert' in mlx-lm are not known"):
        export(plan, "mlx")


def test_the_documentation_counts_the_model_types() -> None:
    docs = Path(__file__).parents[2] / "docs"
    assert f"({len(GGUF)} are known)" in (docs / "exports.md").read_text("utf-8")
    assert f"({len(MLX)} are)" in (docs / "exports.md").read_text("utf-8")
    verified = " ".join((docs / "exports-verified.md").read_text("utf-8").split())
    assert f"{len(GGUF)} model types for llama.cpp, {len(MLX)} for mlx-lm" in verified
