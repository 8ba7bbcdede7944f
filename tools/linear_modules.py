"""What deployment tools make of every linear module, for every model type: prints where that is not the plan.

    python tools/linear_modules.py [MODEL_TYPE ...]

Every model type of the golden tables with a text model is built with the transformers library on the meta device and
planned with int4, int8 and kept blocks in turn. Each of its `nn.Linear` goes through the tool's own matching with the
exported configuration: transformers' function for bitsandbytes, compressed-tensors' for llm-compressor, and the same
few lines as in the sources of AutoRound, torchao, GPTQModel, NNCF and quanto. What no plan names must stay as it is.
Needs transformers, torch and compressed-tensors (the `oracle` extra).
"""

from __future__ import annotations

import json
import logging
import re
import sys
import warnings
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compressed_tensors.utils.match import is_match
from oracle import GOLDEN, ROOT, model_class, shallow
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.quantizers.quantizers_utils import should_convert_module

from fastewq import plan_architecture, read_config
from fastewq.document import Plan
from fastewq.exports import TOOLS, export
from fastewq.exports.assignment import assign
from fastewq.exports.gptqmodel import TAKEN_APART, WHOLE
from fastewq.exports.readback import stored_bits
from fastewq.modules import FUSED
from fastewq.predictor import load_predictor

CLASSES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForMaskedLM")
PRECISIONS = ("int4", "int8", "raw")
Bits = Callable[[Any, str, torch.nn.Module], list[int]]
"""(exported document, path, module) -> the bits of every rule that takes the module."""


def by_bitsandbytes(config: Any, path: str, module: torch.nn.Module) -> list[int]:
    taken = type(module) is torch.nn.Linear and should_convert_module(path, config["llm_int8_skip_modules"])
    return [4 if config["load_in_4bit"] else 8] if taken else []


def by_compressed_tensors(config: Any, path: str, module: torch.nn.Module) -> list[int]:
    """Subclasses match, but are not packed."""
    ignore = tuple(config["ignore"])
    groups = config["config_groups"].values() if type(module) is torch.nn.Linear else ()
    return [g["weights"]["num_bits"] for g in groups if is_match(path, module, tuple(g["targets"]), ignore)]


def by_autoround(config: Any, path: str, module: torch.nn.Module) -> list[int]:
    bits = config["layer_config"].get(path, {"bits": 16})["bits"]
    return [bits] if bits < 16 and type(module) is torch.nn.Linear else []


def by_torchao(document: Any, path: str, _: torch.nn.Module) -> list[int]:
    return [rule["bits"] for rule in document["rules"] if re.fullmatch(rule["pattern"], f"{path}.weight")]


def by_gptqmodel(config: Any, path: str, _: torch.nn.Module) -> list[int]:
    """Only the modules of blocks that its definition of the model lists; heads are left alone anyway."""
    for key, change in config["dynamic"].items():
        sign, _, pattern = key.partition(":")
        if re.match(pattern, path):
            return [] if sign == "-" else [change["bits"]]
    return [config["bits"]]


def by_openvino(document: Any, path: str, _: torch.nn.Module) -> list[int]:
    node = f"__module.{path}/aten::linear/MatMul"
    passes = [step for step in document["passes"] if not any(re.match(p, node) for p in step["ignored"])]
    return [8 if step["mode"] == "INT8_SYM" else 4 for step in passes]


def by_quanto(document: Any, path: str, _: torch.nn.Module) -> list[int]:
    passes = [step for step in document["passes"] if any(fnmatchcase(path, name) for name in step["include"])]
    return [int(step["weights"].removeprefix("qint")) for step in passes]


RULES: dict[str, tuple[str, Bits]] = {
    "bitsandbytes": ("quantization_config.json", by_bitsandbytes),
    "llm-compressor": ("quantization_config.json", by_compressed_tensors),
    "autoround": ("autoround.json", by_autoround),
    "torchao": ("torchao.json", by_torchao),
    "gptqmodel": ("quantize_config.json", by_gptqmodel),
    "openvino": ("nncf.json", by_openvino),
    "quanto": ("quanto.json", by_quanto),
}


def differences(plan: Plan, tool: str, model: torch.nn.Module) -> set[tuple[str, int, tuple[int, ...]]]:
    """(path with N for numbers, bits planned, bits found) of the linear modules that differ; 0 bits: as stored."""
    name, rule = RULES[tool]
    document = json.loads(export(plan, tool, nearest=True).files[name])
    if tool == "bitsandbytes":  # the library adds what a model keeps in float32
        document["llm_int8_skip_modules"] += model._keep_in_fp32_modules or []
    assignment = TOOLS[tool].adapt(assign(plan, TOOLS[tool].target))
    planned = {module.path: stored_bits(module) for module in assignment.modules}
    linear = {path: module for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    if tool == "gptqmodel" and plan.model["model_type"] in TAKEN_APART:
        linear = {half: module for path, module in linear.items() for half in halves(path)}
    found = {path: tuple(rule(document, path, module)) for path, module in linear.items()}
    wrong = {(path, planned.get(path, 0), bits) for path, bits in found.items() if sum(bits) != planned.get(path, 0)}
    for module in assignment.modules:
        if module.scheme and module.tensor.role == "linear" and not module.tensor.transposed:
            wrong |= set() if module.path in linear else {(module.path, stored_bits(module), ())}
    return {(re.sub(r"(?<=\.)\d+(?=\.|$)", "N", path), want, bits) for path, want, bits in wrong}


def halves(path: str) -> list[str]:
    """The modules that GPTQModel makes of one before it looks for rules."""
    above = path.removesuffix(WHOLE)
    return [above + half for half in FUSED[WHOLE]] if path.endswith(f".{WHOLE}") else [path]


def built(model_type: str) -> tuple[torch.nn.Module, dict[str, Any]] | None:
    """A shallow model without weights and its config; None where no class of this type has a text head."""
    cases = json.loads((GOLDEN / f"{model_type}.json").read_text("utf-8"))["cases"]
    names = [name for case in cases for name in case["config"].get("architectures", [])]
    class_name = next((name for name in names if name.endswith(CLASSES)), None)
    if class_name is None or model_type not in CONFIG_MAPPING:
        return None
    fields = {**shallow(model_type), "architectures": [class_name], "dtype": "bfloat16"}
    config = CONFIG_MAPPING[model_type].from_dict(fields)
    with torch.device("meta"):
        model = model_class(model_type, class_name)(config)
    return model, {**config.to_dict(), "architectures": [class_name]}


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    predictor, checked = load_predictor(ROOT / "models" / "entropy"), 0
    for model_type in sys.argv[1:] or sorted(file.stem for file in Path(GOLDEN).glob("*.json")):
        found = built(model_type)
        if found is None:
            continue
        model, config = found
        architecture = read_config(config)
        depths = [len(stack.blocks) for stack in architecture.stacks]
        mixed = [f"{i}={PRECISIONS[i % len(PRECISIONS)]}" for i in range(max(depths))]
        policy = {"name": "4bit-8bit-mixed", "overrides": mixed}
        even = np.full(sum(depths), 0.5)
        for tool in RULES:
            plan = plan_architecture(architecture, even, predictor=predictor, policy=policy, target=TOOLS[tool].target)
            for path, want, bits in sorted(differences(plan, tool, model)):
                print(f"{model_type} {tool}: {path} planned {want or 'raw'}, found {list(bits) or 'raw'}", flush=True)
        checked += 1
    print(f"{checked} model types checked")


if __name__ == "__main__":
    main()
