"""llama.cpp: a tensor-type file and the arguments of llama-quantize.

Facts this rests on (checked with llama.cpp of October 2026): a rule is `PATTERN=TYPE`, the pattern an unanchored
regular expression on the tensor name, the first match wins, and a rule that matches nothing passes silently. With a
base type that is not quantized every rule is ignored, so the base is the plan's lowest type. Unmatched tensors follow
the base type's own mixture, so every block gets a rule, also those at the base type. Norms, routers and one-dimensional
tensors are never quantized. A tied head is the token embedding, which has an option of its own.
"""

from __future__ import annotations

import re
from collections import defaultdict

from fastewq.errors import CannotExport
from fastewq.exports.assignment import Assignment, Module, whole_blocks
from fastewq.exports.base import Parts, Tool
from fastewq.exports.names import GGUF
from fastewq.schemes import Scheme

NAME_BYTES = 64
MERGED_WORD_BYTES = 39
SCORED_WORD_BYTES = 25
SENTENCEPIECE_WORDS = 32_768
"""Bytes per tensor name and per word, measured on GGUF files of SmolLM2 and Qwen2.5 (words and merges) and Gemma 3
(words and scores). Llama 2 and Mistral have vocabularies of the latter kind, up to this many words."""

RAW_TYPES = {"bf16": "bf16", "fp16": "f16", "fp32": "f32"}


def build(assignment: Assignment) -> Parts:
    names = gguf_names(assignment)
    rules = tensor_rules(assignment, names)
    quantized = list(assignment.by_scheme())
    raw = RAW_TYPES[assignment.raw]
    embedding, head = outside_types(assignment)
    base = quantized[-1].name if quantized else "COPY"
    command = (
        "llama-quantize --tensor-type-file tensor_types.txt "
        f"--token-embedding-type {embedding} --output-tensor-type {head} MODEL.gguf OUT.gguf {base}"
    )
    usage = f"MODEL.gguf is the model converted with `convert_hf_to_gguf.py --outtype {raw}`.\n\n{command}\n"
    warnings = () if quantized else ("every block keeps its precision, so the converted model is used as it is",)
    text = "".join(f"{pattern}={kind}\n" for pattern, kind in rules)
    return Parts({"tensor_types.txt": text}, usage, warnings, header_bytes(assignment))


def header_bytes(assignment: Assignment) -> int:
    """About what a GGUF file holds besides its tensors: tensor names, and the tokenizer with its merges or scores."""
    plan = assignment.plan
    tensors = sum(len(plan.layouts[block.layout]) for stack in plan.stacks for block in stack.blocks) + len(plan.other)
    words = max((m.tensor.shape[0] for m in assignment.modules if m.tensor.role == "embedding"), default=0)
    scored = plan.model["model_type"].startswith("gemma") or words <= SENTENCEPIECE_WORDS
    return tensors * NAME_BYTES + words * (SCORED_WORD_BYTES if scored else MERGED_WORD_BYTES)


def tensor_rules(assignment: Assignment, names: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """(pattern, type) of every block; modules that differ from the rest of their block come first, by name."""
    raw = RAW_TYPES[assignment.raw]
    blocks = whole_blocks(assignment)
    by_type: dict[str, list[int]] = defaultdict(list)
    single: dict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
    mixed: dict[int, dict[Scheme | None, list[Module]]] = defaultdict(lambda: defaultdict(list))
    for module in assignment.modules:
        if module.block in blocks:
            continue
        if module.block >= 0:
            mixed[module.index][module.scheme].append(module)
    for module_block, scheme in blocks.items():
        by_type[scheme.name.lower() if scheme else raw].append(_index(assignment, module_block))
    for index, schemes in mixed.items():
        for scheme, modules in schemes.items():
            tensors = tuple(name for module in modules for name in _gguf_name(module, names))
            single[(scheme.name.lower() if scheme else raw, tensors)].append(index)
    return [
        (rf"^blk\.({_either(indices)})\.({'|'.join(map(re.escape, tensors))})\.weight$", kind)
        for (kind, tensors), indices in single.items()
    ] + [(rf"^blk\.({_either(indices)})\..*\.weight$", kind) for kind, indices in by_type.items()]


def _index(assignment: Assignment, block: int) -> int:
    return next(module.index for module in assignment.modules if module.block == block)


def _either(indices: list[int]) -> str:
    return "|".join(map(str, indices))


def _gguf_name(module: Module, names: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    if module.name not in names:
        raise CannotExport(f"{module.path}: its name in a GGUF file is not known, so it cannot differ from its block")
    return names[module.name]


def outside_types(assignment: Assignment) -> tuple[str, str]:
    """The types of token embedding and head; a tied head has the embedding's."""
    raw = RAW_TYPES[assignment.raw]
    outside = [module for module in assignment.modules if module.block < 0]
    kinds = {module.tensor.role: module.scheme.name.lower() if module.scheme else raw for module in reversed(outside)}
    embedding = kinds.get("embedding", raw)
    tied = assignment.plan.model.get("tied_embeddings")
    return embedding, embedding if tied else kinds.get("linear", raw)


def gguf_names(assignment: Assignment) -> dict[str, tuple[str, ...]]:
    """Module -> GGUF tensors of the plan's architecture. Raises CannotExport where they are not known."""
    model_type = assignment.plan.model["model_type"]
    stacks = {module.stack for module in assignment.modules if module.block >= 0}
    if model_type not in GGUF or len(stacks) > 1:
        raise CannotExport(
            f"the GGUF tensor names of model_type {model_type!r} are not known here; known are {', '.join(GGUF)}"
        )
    return GGUF[model_type][1]


TOOL = Tool("llama.cpp", "gguf", "gguf 0.19.0 (files); llama.cpp of October 2026 (arguments)", build)
