"""llama.cpp: a tensor-type file and the arguments of llama-quantize.

Facts this rests on (checked with llama.cpp of October 2026): a rule is `PATTERN=TYPE`, the pattern an unanchored
regular expression on the tensor name, the first match wins, and a rule that matches nothing passes silently. With a
base type that is not quantized every rule is ignored, so the base is the plan's lowest type. Unmatched tensors follow
the base type's own mixture, so every block gets a rule, also those at the base type. Norms, routers, one-dimensional
tensors and a few small matrices are never quantized. A tied head is the token embedding, which has an option of its
own. The file holds the language model: towers go to an mmproj file, which has one type throughout.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import Final

from fastewq.architecture import Tensor
from fastewq.errors import CannotExport
from fastewq.exports.assignment import LATENT, Assignment, Module, fitted_to_halves, whole_blocks
from fastewq.exports.base import Parts, Tool
from fastewq.exports.names import GGUF, GGUF_STACKS, gguf_leaves
from fastewq.exports.text_part import text_part
from fastewq.modules import is_token_head, module_name
from fastewq.schemes import KEEP, Scheme
from fastewq.shown import shown

NAME_BYTES = 64
MERGED_WORD_BYTES = 39
SCORED_WORD_BYTES = 25
SENTENCEPIECE_WORDS = 32_768
"""Bytes per tensor name and per word, measured on GGUF files of SmolLM2 and Qwen2.5 (words and merges) and Gemma 3
(words and scores). Llama 2 and Mistral have vocabularies of the latter kind, up to this many words."""

PER_LAYER: Final = "per_layer_token_embd"
NEVER: Final = re.compile(
    r"_norm\.weight$|ffn_gate_inp\.weight$|altup|laurel|per_layer_model_proj|^position_embd|^token_types|"
    r"ssm_conv1d|shortconv\.conv\.weight$|attn_rel_b\.weight$|indexer\.[kq]_proj\.weight$"
)
"""Names of the tensors that llama-quantize leaves alone whatever the rules say."""
NEVER_IN: Final = {
    "glm5_next": re.compile(
        r"hc_|indexer\.(attn_q_b|attn_k|proj)|ssm_(f_a|f_b|g_a|g_b|beta)\.weight$|"
        r"attn_(kv_a_mqa|k_b|v_b)\.weight$"
    )
}
"""The same in one architecture only, by model type."""
WIDENED: Final = {
    "gemma3n_text": re.compile(r"altup_(correct|predict)_coef\.weight$"),
    "glm5_next": re.compile(r"indexer\.proj\.weight$"),
    "minimax_m3_vl": re.compile(r"indexer\.[kq]_proj\.weight$"),
}
"""Of those, the matrices that the converter writes in float32, by model type."""
NARROWED: Final = {"dbrx": re.compile(r"ffn_gate_inp\.weight$"), "gemma3n_text": re.compile(r"altup_router\.weight$")}
"""Routers that it writes as it writes matrices, by model type: all others are in float32."""

DRAFTS: Final = frozenset(
    {
        *("deepseek_v32", "glm4_moe", "glm4_moe_lite", "glm4v_moe", "glm5_next", "glm_moe_dsa", "hy_v3"),
        *("mimo_v2_flash", "minicpmv4_6", "nemotron_h", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text"),
        *("qwen3_next", "step3p7"),
    }
)
"""Model types whose layers for drafting the next tokens the converter appends to the blocks unless it is told not to.
No plan knows of them, so they would be kept, and not counted."""
ALWAYS_DRAFTS: Final = frozenset({"cohere2_moe", "exaone4_5", "exaone_moe", "glm_ocr"})
"""The same where it cannot be told."""

DROPPED: Final = re.compile(r"(^|\.)pooler\.dense$|^cls\.")

RAW_TYPES = {"bf16": "bf16", "fp16": "f16", "fp32": "f32"}


def adapt(assignment: Assignment) -> Assignment:
    """The language model, without what llama-quantize never quantizes."""
    names, model_type = gguf_names(assignment), assignment.plan.model["model_type"]
    text = _converted(text_part(assignment, "towers go to an mmproj file, which llama.cpp writes in one type"))

    def refused(module: Module) -> tuple[str, str] | None:
        if module.scheme is None:
            return None
        if module.block < 0 and module.tensor.role == "linear" and not is_head(module):
            return KEEP, "llama-quantize has options for the embeddings and the head alone outside the blocks"
        if any(never_quantized(f"{name}.weight", model_type) for name in names.get(module.name, ())):
            return KEEP, "llama-quantize never quantizes it"
        return None

    changed = text.changed(refused)
    return _as_converted(fitted_to_halves(changed, "llama.cpp") if len(names[LATENT]) > 1 else changed, names)


def _as_converted(assignment: Assignment, names: dict[str, tuple[str, ...]]) -> Assignment:
    """With the bytes of what stays as the converter writes it: some matrices in float32, some routers not."""
    plan = assignment.plan
    wide, narrow = WIDENED.get(plan.model["model_type"]), NARROWED.get(plan.model["model_type"])
    if wide is None and narrow is None:
        return assignment

    def counted(tensor: Tensor) -> Tensor:
        found = [f"{name}.weight" for name in names.get(module_name(tensor.name), ())]
        if wide and any(map(wide.search, found)):
            return tensor._replace(role="router")
        return tensor._replace(role="linear") if narrow and any(map(narrow.search, found)) else tensor

    return replace(assignment, plan=plan._replace(layouts=tuple(tuple(map(counted, ts)) for ts in plan.layouts)))


def _converted(assignment: Assignment) -> Assignment:
    """Without BERT's pooler and pretraining heads, which the converter drops unless there is a classifier."""
    plan = assignment.plan
    if any(group.path.startswith("classifier") for group in plan.other):
        return assignment
    other = tuple(group for group in plan.other if not DROPPED.search(group.path))
    modules = tuple(m for m in assignment.modules if m.block >= 0 or not DROPPED.search(m.path))
    return replace(assignment, plan=plan._replace(other=other), modules=modules)


def build(assignment: Assignment) -> Parts:
    rules = tensor_rules(assignment, gguf_names(assignment))
    quantized = list(assignment.by_scheme())
    raw = RAW_TYPES[assignment.raw]
    embedding, head = outside_types(assignment)
    base = quantized[-1].name if quantized else "COPY"
    command = (
        "llama-quantize --tensor-type-file tensor_types.txt "
        f"--token-embedding-type {embedding} --output-tensor-type {head} MODEL.gguf OUT.gguf {base}"
    )
    model_type = assignment.plan.model["model_type"]
    options = f"--outtype {raw} --no-nextn" if model_type in DRAFTS else f"--outtype {raw}"
    usage = f"python convert_hf_to_gguf.py MODEL --outfile MODEL.gguf {options}\n{command}\n"
    warnings = [] if quantized else ["every block keeps its precision, so the converted model is used as it is"]
    if model_type in ALWAYS_DRAFTS:
        warnings.append(
            "layers of the checkpoint that draft the next tokens go into the file, kept; their bytes are not counted"
        )
    if assignment.part:
        warnings.append(
            "this is the language model alone; convert_hf_to_gguf.py --mmproj writes the rest to a file of its own, "
            "whose bytes are not counted here"
        )
    text = "".join(f"{pattern}={kind}\n" for pattern, kind in rules)
    return Parts({"tensor_types.txt": text}, usage, tuple(warnings), header_bytes(assignment))


def header_bytes(assignment: Assignment) -> int:
    """About what a GGUF file holds besides its tensors: tensor names, and the tokenizer with its merges or scores."""
    plan = assignment.plan
    tensors = sum(len(plan.layouts[block.layout]) for stack in plan.stacks for block in stack.blocks) + len(plan.other)
    words = max((m.tensor.shape[0] for m in assignment.modules if m.tensor.role == "embedding"), default=0)
    scored = plan.model["model_type"].startswith("gemma") or words <= SENTENCEPIECE_WORDS
    return tensors * NAME_BYTES + words * (SCORED_WORD_BYTES if scored else MERGED_WORD_BYTES)


def tensor_rules(assignment: Assignment, names: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """(pattern, type) of every block; modules that differ from the rest of their block come first, by name.

    Embedding and head have options of their own; the last rule keeps what else there is outside the blocks.
    """
    raw = RAW_TYPES[assignment.raw]
    blocks = whole_blocks(assignment)
    whole: dict[tuple[str, str], list[int]] = defaultdict(list)
    mixed: dict[tuple[str, int], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for module in assignment.modules:
        if module.block < 0:
            continue
        prefix = GGUF_STACKS.get(module.stack, "blk")
        if module.block in blocks:
            scheme = blocks[module.block]
            indices = whole[prefix, type_name(scheme, raw)]
            if not indices or indices[-1] != module.index:
                indices.append(module.index)
        else:
            mixed[prefix, module.index][type_name(module.scheme, raw)] += tensors(module, names)
    alike: dict[tuple[str, str, tuple[str, ...]], list[int]] = defaultdict(list)
    for (prefix, index), types in mixed.items():
        for kind, found in types.items():
            alike[prefix, kind, tuple(found)].append(index)
    return (
        [
            (rf"^{re.escape(prefix)}\.({_either(indices)})\.({'|'.join(map(re.escape, found))})\.weight$", kind)
            for (prefix, kind, found), indices in alike.items()
        ]
        + [
            (rf"^{re.escape(prefix)}\.({_either(indices)})\..*\.weight$", kind)
            for (prefix, kind), indices in whole.items()
        ]
        + [(rf"^{PER_LAYER}\.weight$", type_name(module.scheme, raw)) for module in _per_layer(assignment)]
        + [(".*", raw)]
    )


def _per_layer(assignment: Assignment) -> list[Module]:
    """Gemma's second embedding, which follows the option of the first one unless a rule names it."""
    return [module for module in assignment.modules if module.block < 0 and module.path.endswith("_per_layer")]


def type_name(scheme: Scheme | None, raw: str) -> str:
    return scheme.name.lower() if scheme else raw


def _either(indices: list[int]) -> str:
    return "|".join(map(str, indices))


def tensors(module: Module, names: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The tensors of a module within its GGUF block. Raises CannotExport where they are not known."""
    if module.name not in names:
        raise CannotExport(f"{module.path}: its name in a GGUF file is not known, so it cannot differ from its block")
    return names[module.name]


def outside_types(assignment: Assignment) -> tuple[str, str]:
    """The types of token embedding and head; a tied head has the embedding's."""
    raw = RAW_TYPES[assignment.raw]
    outside = [module for module in assignment.modules if module.block < 0]
    embedding = next((type_name(m.scheme, raw) for m in outside if m.tensor.role == "embedding"), raw)
    if assignment.plan.model.get("tied_embeddings"):
        return embedding, embedding
    return embedding, next((type_name(m.scheme, raw) for m in outside if is_head(m)), raw)


def is_head(module: Module) -> bool:
    """Whether a matrix outside the blocks turns the last hidden state into token scores."""
    return is_token_head(module.path)


def never_quantized(name: str, model_type: str) -> bool:
    """Whether llama-quantize leaves a tensor alone whatever the rules say."""
    only_here = NEVER_IN.get(model_type)
    return bool(not name.endswith("weight") or NEVER.search(name) or (only_here and only_here.search(name)))


def gguf_names(assignment: Assignment) -> dict[str, tuple[str, ...]]:
    """Module -> GGUF tensors of the plan's architecture. Raises CannotExport where llama.cpp does not convert it."""
    model_type = assignment.plan.model["model_type"]
    if model_type not in GGUF:
        raise CannotExport(
            f"llama.cpp does not convert model_type {shown(model_type)}, as far as is known here",
            hint=f"Known are {', '.join(sorted(GGUF))}.",
        )
    return gguf_leaves(model_type)


TOOL = Tool("llama.cpp", "gguf", "gguf 0.19.0 (files); llama.cpp of October 2026 (arguments)", build, adapt)
