"""The exported rules applied by MLX itself, and read back from what it wrote.

`mlx_lm.convert` calls `mlx.nn.quantize` with a predicate made of these rules, and so does this test, on a module tree
with the model's names. mlx-lm would bring the transformers library along; `python benchmarks/exports.py mlx` runs it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exports.conftest import LLAMA, MOE, Planner
from fastewq.document import Plan
from fastewq.exports import TOOLS, export
from fastewq.exports.assignment import assign
from fastewq.exports.mlx import renamed
from fastewq.exports.readback import check

mx = pytest.importorskip("mlx.core", reason="mlx is not built for this machine")
nn = pytest.importorskip("mlx.nn")


class Experts(nn.Module):  # type: ignore[misc,name-defined]
    """A stack of matrices, as mlx-lm's SwitchLinear."""

    def __init__(self, weight: Any) -> None:
        super().__init__()
        self.weight = weight

    def to_quantized(self, group_size: int, bits: int, mode: str) -> Any:
        found = nn.Module()
        found.weight, found.scales, found.biases = mx.quantize(self.weight, group_size, bits, mode)
        return found


def tree(plan: Plan) -> Any:
    """A module tree of linear layers and embeddings with the paths that mlx-lm has, random weights, norms left out."""
    root = nn.Module()
    adapted = TOOLS["mlx"].adapt(assign(plan, "mlx"))
    random = np.random.default_rng(0)
    for module in adapted.modules:
        for part in renamed(adapted, module):
            path = (f"{part.stack}.{part.index}.{part.name}" if part.stack else part.path).split(".")
            owner = root
            for name in path[:-1]:
                owner = owner.setdefault(name, nn.Module())
            *experts, rows, columns = module.tensor.oriented
            rows //= len(renamed(adapted, module))
            values = mx.array(random.normal(0, 0.02, (*experts, rows, columns)).astype(np.float32)).astype(mx.bfloat16)
            kinds = {"embedding": nn.Embedding(1, 1), "linear": nn.Linear(1, 1, False), "experts": Experts(values)}
            owner[path[-1]] = kinds[module.tensor.role]
            owner[path[-1]].weight = values
    return root


def quantized(plan: Plan, folder: Path) -> None:
    """What mlx_lm.utils.quantize_model and save do with the export."""
    document = json.loads(export(plan, "mlx").files["mlx.json"])
    config: dict[str, Any] = {"quantization": {"group_size": document["q_group_size"], "bits": document["q_bits"]}}
    rules = [(re.compile(pattern), arguments) for pattern, arguments in document["rules"]]

    def predicate(path: str, module: Any) -> Any:
        if not hasattr(module, "to_quantized") or module.weight.shape[-1] % document["q_group_size"]:
            return False
        found = next((arguments for pattern, arguments in rules if pattern.fullmatch(path)), False)
        if found:
            config["quantization"][path] = found
        return found

    model = tree(plan)
    nn.quantize(model, document["q_group_size"], document["q_bits"], class_predicate=predicate)
    flat = dict(nn.utils.tree_flatten(model.parameters()))
    folder.mkdir()
    mx.save_safetensors(str(folder / "model.safetensors"), flat, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config), "utf-8")


@pytest.mark.parametrize("config", [LLAMA, MOE], ids=["dense", "experts"])
def test_mlx_writes_what_is_planned(config: dict[str, Any], planned: Planner, tmp_path: Path) -> None:
    last = config["num_hidden_layers"] - 1
    overrides = [f"0-{last}=int4", "0=raw", "*.1.self_attn.*=int8"]
    plan = planned(config, overrides, policy={"embeddings": "int8"})
    quantized(plan, tmp_path / "out")
    adapted = TOOLS["mlx"].adapt(assign(plan, "mlx"))
    found = check(adapted, "mlx", tmp_path / "out")
    assert found.wrong == ()
    assert found.modules == len(adapted.modules)
    left_out = sum(t.parameters * 2 for t in tensors(plan) if t.role not in ("linear", "experts", "embedding"))
    assert found.predicted_bytes == found.written.bytes + left_out


def tensors(plan: Plan) -> list[Any]:
    blocks = [plan.layouts[block.layout] for stack in plan.stacks for block in stack.blocks]
    return [tensor for layout in [*blocks, *(plan.layouts[group.layout] for group in plan.other)] for tensor in layout]


def test_another_plan_is_found_out(planned: Planner, tmp_path: Path) -> None:
    quantized(planned(), tmp_path / "out")
    other = planned(overrides=["0-11=int4", "0=raw", "1=int8", "5=int8", "10=raw", "11=int8"])
    found = check(TOOLS["mlx"].adapt(assign(other, "mlx")), "mlx", tmp_path / "out")
    assert {(path.split(".")[2], a, b) for path, a, b in found.wrong} == {("11", 8, 4)}
