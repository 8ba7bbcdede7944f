"""Where the blocks of a plan go on several devices, for the engines that take it.

transformers     `device_map`: module path -> device number
llama.cpp        `--tensor-split`: layers per device. llama.cpp puts layer i of n + 1 (the output counts as one) on the
                 first device whose share of the total, added up, is above i / (n + 1), so the counts themselves do it
vLLM             `VLLM_PP_LAYER_PARTITION`: layers per pipeline rank
"""

from __future__ import annotations

from collections.abc import Sequence

from fastewq.document import Plan
from fastewq.errors import CannotExport
from fastewq.exports.assignment import Assignment
from fastewq.exports.base import Parts, Tool, json_text
from fastewq.modules import is_output
from fastewq.placement import Run


def build(assignment: Assignment) -> Parts:
    plan = assignment.plan
    if plan.memory is None or not plan.memory.runs:
        raise CannotExport("the plan has no devices", hint="Plan with --device, once per device, in pipeline order.")
    runs = plan.memory.runs
    counts = [run.end - run.start for run in runs]
    files = {"device_map.json": json_text(device_map(plan, runs))}
    lines = ["transformers: from_pretrained(..., device_map=json.load(open('device_map.json')))"]
    if len(plan.stacks) == 1:
        devices = [0] * (runs[-1].device + 1)
        for run, count in zip(runs, counts, strict=True):
            devices[run.device] = count
        devices[-1] += 1
        split = ",".join(map(str, devices))
        files["llama_cpp_args.txt"] = f"--n-gpu-layers {sum(devices)} --split-mode layer --tensor-split {split}\n"
        partition = ",".join(map(str, counts))
        files["vllm_env.txt"] = f"VLLM_PP_LAYER_PARTITION={partition}\n"
        lines += [
            "llama.cpp: llama-server -m OUT.gguf $(cat llama_cpp_args.txt)",
            f"vLLM: env $(cat vllm_env.txt) vllm serve OUT --pipeline-parallel-size {len(counts)}",
        ]
    return Parts(files, "\n".join(lines) + "\n")


def device_map(plan: Plan, runs: Sequence[Run]) -> dict[str, int]:
    """Every block and outside group -> its device: head and final norm with the last block, the rest with the first."""
    blocks = [block.path for stack in plan.stacks for block in stack.blocks]
    found = {group.path: runs[-1].device if is_output(group.path) else runs[0].device for group in plan.other}
    for run in runs:
        found |= dict.fromkeys(blocks[run.start : run.end], run.device)
    if plan.model.get("tied_embeddings"):
        found.setdefault("lm_head", runs[-1].device)
    return found


TOOL = Tool("devices", "plain", "resolver rules read in the sources of accelerate, llama.cpp and vLLM", build)
