"""Where the blocks of a plan go on several devices, for the engines that take it.

transformers     `device_map`: module path -> device number
llama.cpp        `--tensor-split`: layers per device. llama.cpp puts layer i of n + 1 (the output counts as one) on the
                 first device whose share of the total, added up, is above i / (n + 1), so the counts themselves do it.
                 `--override-tensor` says the same tensor by tensor; it needs the devices' names, and moves no KV cache
vLLM             `VLLM_PP_LAYER_PARTITION`: layers per pipeline rank

llama.cpp and vLLM count the layers of the language model; they place the towers of a multimodal model themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from fastewq.document import Plan, PlannedStack
from fastewq.errors import CannotExport
from fastewq.exports.assignment import Assignment
from fastewq.exports.base import Parts, Tool, json_text
from fastewq.exports.text_part import TOWERS, text_stacks
from fastewq.kv_cache import CROSS
from fastewq.modules import is_output
from fastewq.placement import Run


def build(assignment: Assignment) -> Parts:
    plan = assignment.plan
    if plan.memory is None or not plan.memory.runs:
        raise CannotExport(
            "the plan has no devices",
            hint="Plan with them in pipeline order: --device, once for each, or 'devices': [..] over HTTP.",
        )
    runs = plan.memory.runs
    files = {"device_map.json": json_text(device_map(plan, runs))}
    lines = ["transformers: from_pretrained(..., device_map=json.load(open('device_map.json')))"]
    text = language_model(plan)
    if text is not None:
        layers = text_layers(plan, text, runs)
        files["llama_cpp_args.txt"] = f"{tensor_split(runs, layers)}\n"
        files["llama_cpp_overrides.txt"] = f"--override-tensor {overrides(runs, layers)}\n"
        lines += [
            "llama.cpp: llama-server -m OUT.gguf $(cat llama_cpp_args.txt)",
            "    or, by tensor, with $(cat llama_cpp_overrides.txt) added, CUDA standing for the backend's name",
        ]
        if all(layers):
            partition = ",".join(str(len(run)) for run in layers)
            files["vllm_env.txt"] = f"VLLM_PP_LAYER_PARTITION={partition}\n"
            lines.append(f"vLLM: env $(cat vllm_env.txt) vllm serve OUT --pipeline-parallel-size {len(layers)}")
    return Parts(files, "\n".join(lines) + "\n")


def language_model(plan: Plan) -> PlannedStack | None:
    """The one stack of a language model whose other parts only prepare what it reads; None for an encoder and its
    decoder, several decoders in turn, or a model that writes no text."""
    texts = text_stacks(plan)
    if len(texts) != 1:
        return None
    (text,) = texts
    if all(stack is text or stack.name.startswith(TOWERS) for stack in plan.stacks):
        return text
    layouts = {common.layout for common in text.blocks.alike}
    reads = any(word in tensor.name for layout in layouts for tensor in plan.layouts[layout] for word in CROSS)
    return text if text.name == "decoder" and not reads else None


def text_layers(plan: Plan, text: PlannedStack, runs: Sequence[Run]) -> list[range]:
    """For each run the layers of the language model, the stack `text`, in it, counted from 0 within it."""
    before = sum(len(stack.blocks) for stack in takewhile(lambda stack: stack is not text, plan.stacks))
    count = len(text.blocks)
    return [range(max(run.start - before, 0), max(min(run.end - before, count), 0)) for run in runs]


def tensor_split(runs: Sequence[Run], layers: Sequence[range]) -> str:
    """Arguments that put the layers, and the output behind the last one, on their devices."""
    devices = [0] * (runs[-1].device + 1)
    for run, found in zip(runs, layers, strict=True):
        devices[run.device] = len(found)
    devices[_last(runs, layers).device] += 1
    return f"--n-gpu-layers {sum(devices)} --split-mode layer --tensor-split {','.join(map(str, devices))}"


def overrides(runs: Sequence[Run], layers: Sequence[range], backend: str = "CUDA{}") -> str:
    """`PATTERN=BUFFER,...` with `backend` formatted with the device's number. No pattern holds a comma."""
    rules = [
        rf"^blk\.({'|'.join(map(str, found))})\.={backend.format(run.device)}"
        for run, found in zip(runs, layers, strict=True)
        if found
    ]
    return ",".join([*rules, f"^output={backend.format(_last(runs, layers).device)}"])


def _last(runs: Sequence[Run], layers: Sequence[range]) -> Run:
    """The run that holds the last layer."""
    return next(run for run, found in zip(reversed(runs), reversed(layers), strict=True) if found)


def device_map(plan: Plan, runs: Sequence[Run]) -> dict[str, int]:
    """Every block and outside group -> its device: head and final norm with the last block, the rest with the first."""
    blocks = [block.path for stack in plan.stacks for block in stack.blocks]
    found = {group.path: runs[-1].device if is_output(group.path) else runs[0].device for group in plan.other}
    for run in runs:
        found |= dict.fromkeys(blocks[run.start : run.end], run.device)
    if plan.model.get("tied_embeddings"):
        found.setdefault("lm_head", runs[-1].device)
    return found


TOOL = Tool("devices", "plain", "llama.cpp of October 2026, vLLM 0.33.0, accelerate 1.15.0", build)
