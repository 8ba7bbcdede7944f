"""What vLLM or SGLang would load each module as: an exported config through the engine's own functions.

    python benchmarks/resolvers.py vllm COMPRESSED_TENSORS.json GPTQ.json MODULES.json
    python benchmarks/resolvers.py sglang COMPRESSED_TENSORS.json GPTQ.json MODULES.json

Runs in an environment made by benchmarks/exports.py and prints, as JSON, the functions called and for both formats the
bits of every module of the list, 16 where the engine leaves it unquantized. Nothing is loaded: neither engine runs
without a GPU.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
from importlib.metadata import files, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

PACKED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
"""`packed_modules_mapping` of both engines' LlamaForCausalLM."""


def vllm(compressed: dict[str, Any], gptq: dict[str, Any], names: list[str]) -> dict[str, Any]:
    from vllm.model_executor.layers.quantization.auto_gptq import AutoGPTQConfig
    from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import CompressedTensorsConfig
    from vllm.model_executor.layers.quantization.utils.gptq_utils import get_dynamic_override, override_config

    config = CompressedTensorsConfig.from_config(compressed)
    config.packed_modules_mapping = PACKED
    layer = torch.nn.Linear(1, 1)
    found = {}
    for name in names:
        scheme = config.get_scheme_dict(layer, name)
        found[name] = scheme["weights"].num_bits if scheme else 16

    by_rules = {}
    for name in names:
        copy = AutoGPTQConfig.from_config(json.loads(json.dumps(gptq)))
        if get_dynamic_override(copy, name) is False:
            by_rules[name] = 16
        else:
            override_config(copy, name)
            by_rules[name] = copy.weight_bits
    return {
        "functions": {
            "compressed-tensors": "CompressedTensorsConfig.from_config, .get_scheme_dict",
            "gptq": "AutoGPTQConfig.from_config, gptq_utils.get_dynamic_override, .override_config",
        },
        "compressed-tensors": found,
        "gptq": by_rules,
    }


def sglang(compressed: dict[str, Any], gptq: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """SGLang's package needs its CUDA kernels to be imported, so the functions are taken from its files unchanged."""
    folder = "sglang/srt/layers/quantization"
    spec = importlib.util.spec_from_file_location("resolver", located(f"{folder}/compressed_tensors/utils.py"))
    assert spec is not None
    assert spec.loader is not None
    utils = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(utils)
    from compressed_tensors.quantization import QuantizationArgs

    groups = compressed["config_groups"].values()
    targets = {t: QuantizationArgs.model_validate(group["weights"]) for group in groups for t in group["targets"]}
    layer = torch.nn.Linear(1, 1)
    found = {}
    for name in names:
        if utils.should_ignore_layer(name, ignore=compressed["ignore"], fused_mapping=PACKED):
            found[name] = 16
        else:
            found[name] = targets[utils.find_matched_target(name, layer, targets, PACKED)].num_bits

    override = function(located(f"{folder}/utils.py"), "get_dynamic_override")
    rules = SimpleNamespace(dynamic=gptq["dynamic"])
    by_rules = {}
    for name in names:
        skipped = override(rules, name) is False
        by_rules[name] = 16 if skipped else override(rules, name, "bits", gptq["bits"])
    return {
        "functions": {
            "compressed-tensors": "compressed_tensors.utils.should_ignore_layer, .find_matched_target",
            "gptq": "quantization.utils.get_dynamic_override",
        },
        "compressed-tensors": found,
        "gptq": by_rules,
    }


def located(name: str) -> Path:
    return next(Path(str(file.locate())) for file in files("sglang") or [] if str(file) == name)


def function(path: Path, name: str) -> Any:
    """One function of a module that cannot be imported, compiled from its source as it stands."""
    tree = ast.parse(path.read_text("utf-8"))
    chosen = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    future = ast.parse("from __future__ import annotations").body
    scope: dict[str, Any] = {"re": re}
    exec(compile(ast.Module([*future, *chosen], []), str(path), "exec"), scope)
    return scope[name]


def main() -> None:
    engine = sys.argv[1]
    compressed, gptq, names = (json.loads(Path(file).read_text("utf-8")) for file in sys.argv[2:5])
    answer = {"vllm": vllm, "sglang": sglang}[engine](compressed, gptq, names)
    packages = (engine, "compressed-tensors", "torch")
    answer["versions"] = ", ".join(f"{package} {version(package)}" for package in packages)
    print("resolved " + json.dumps(answer))


if __name__ == "__main__":
    main()
