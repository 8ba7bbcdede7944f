"""transformers + bitsandbytes: a BitsAndBytesConfig as JSON.

Two levels only: 16 bits and one of 8 (LLM.int8) or 4 (NF4). Entries of the skip list are paths from the root, matched
from the start with a module boundary, so `model.layers.1` does not stand for 10 to 19; naming any list drops the
library's own exception for the head, so a head that is kept is always named, tied or not.
"""

from __future__ import annotations

from fastewq.exports.assignment import Assignment, Module, of_the_very_class, tied_head, whole_blocks
from fastewq.exports.base import Parts, Tool, json_text, scripts
from fastewq.schemes import KEEP

IN_FLOAT32 = {
    **dict.fromkeys(("mt5", "musicgen", "musicgen_melody", "pop2piano", "t5", "udop", "umt5"), ("DenseReluDense.wo",)),
    **dict.fromkeys(("axk2", "deepseek_v32", "glm_moe_dsa", "mistral_large4"), ("indexer.weights_proj",)),
    "blip-2": ("qformer", "DenseReluDense.wo"),
    **dict.fromkeys(("instructblip", "instructblipvideo"), ("DenseReluDense.wo",)),
    "deepseek_v4": (
        *("compressor.gate_proj", "compressor.kv_proj", "indexer.gate_proj", "indexer.kv_proj", "scorer.weights_proj"),
    ),
}
"""Model type -> linear modules that the transformers library keeps in float32 and so adds to any skip list."""

COMPUTE = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def adapt(assignment: Assignment) -> Assignment:
    """One quantized level: 4-bit with the 8-bit modules kept, or 8-bit for all, whichever is smaller."""
    skipped = IN_FLOAT32.get(assignment.plan.model["model_type"], ())
    always = "transformers does not quantize what it keeps in float32"

    def stays(module: Module) -> tuple[str, str] | None:
        found = module.scheme is not None and any(f".{name}." in f".{module.path}." for name in skipped)
        return (KEEP, always) if found else None

    assignment = of_the_very_class(assignment.changed(stays), "bitsandbytes")
    levels = {module.precision for module in assignment.modules if module.scheme is not None}
    if len(levels) < 2:
        return assignment
    reason = "bitsandbytes loads 8-bit or 4-bit modules beside 16-bit ones, not both"

    def kept(module: Module) -> tuple[str, str] | None:
        return (KEEP, reason) if module.precision == "int8" else None

    def widened(module: Module) -> tuple[str, str] | None:
        return ("int8", reason) if module.precision == "int4" else None

    return min(assignment.changed(kept), assignment.changed(widened), key=lambda a: a.tensor_bytes())


def build(assignment: Assignment) -> Parts:
    bits = min((scheme.bits for scheme in assignment.by_scheme()), default=4)
    config = {
        "quant_method": "bitsandbytes",
        "load_in_8bit": bits == 8,
        "load_in_4bit": bits == 4,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": COMPUTE[assignment.raw],
        "bnb_4bit_use_double_quant": False,
        "llm_int8_skip_modules": skip_list(assignment),
    }
    return Parts(
        {"quantization_config.json": json_text(config), **scripts("bitsandbytes.py")},
        "python quantize.py MODEL OUT    # or pass the config to from_pretrained(quantization_config=...)\n",
    )


def skip_list(assignment: Assignment) -> list[str]:
    """Whole blocks by path, single modules by path, and everything outside the blocks that is kept."""
    blocks = whole_blocks(assignment)
    kept = []
    for module in assignment.kept:
        whole = module.block in blocks and blocks[module.block] is None
        kept.append(f"{module.stack}.{module.place}" if whole else module.path)
    return list(dict.fromkeys([*kept, *tied_head(assignment)]))


TOOL = Tool("bitsandbytes", "bitsandbytes", "bitsandbytes 0.50.2, transformers 5.23.0", build, adapt)
