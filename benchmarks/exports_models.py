"""Small random models of several families through the real tools, each with a plan of another kind.

python benchmarks/exports_models.py bitsandbytes mlx ...   make the models and plans, run the tools, keep the rows
python benchmarks/exports_models.py mlx/jamba mlx/bert     only these models
python benchmarks/exports_models.py llama.cpp              convert, llama-quantize, and what `apply` writes beside it
python benchmarks/exports_models.py all                    every tool of benchmarks/exports.py
python benchmarks/exports_models.py table                  print the table of docs/exports-verified.md

Models are built by the transformers library and saved in bfloat16. One process per tool runs the exported quantize.py
of every model, unedited; the files are read back module by module. Plans are for the tool's own target, and the nearest
where it cannot express one. Rows are kept in benchmarks/exports_models.json.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from exports import LLAMA_CPP, ROOT, SETTINGS, WORK, _build_llama_cpp, _environment
from gguf import GGUFReader
from random_llama import _write_tokenizer

import fastewq
from fastewq.apply import apply
from fastewq.errors import FastEWQError
from fastewq.exports import TOOLS, Export, export
from fastewq.exports.assignment import assign
from fastewq.exports.readback import check

ROWS = Path(__file__).with_name("exports_models.json")
MODELS = WORK / "models"
TOKENS = {"vocab_size": 512, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 257}
TEXT: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_hidden_layers": 12,
    "max_position_embeddings": 512,
    **TOKENS,
}
MOE = {**TEXT, "num_hidden_layers": 4, "num_experts_per_tok": 2, "tie_word_embeddings": False}
SECTIONS = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]}
EYES = {"hidden_size": 128, "intermediate_size": 256}

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {**TEXT, "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": False},
    "qwen2": {**TEXT, "architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": True},
    "qwen3_moe": {
        **MOE,
        "architectures": ["Qwen3MoeForCausalLM"],
        "num_experts": 4,
        "moe_intermediate_size": 128,
    },
    "mixtral": {**MOE, "architectures": ["MixtralForCausalLM"], "num_local_experts": 4},
    "qwen2_5_vl": {
        **TOKENS,
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "tie_word_embeddings": False,
        "text_config": {**TEXT, "rope_parameters": SECTIONS, "tie_word_embeddings": False},
        "vision_config": {**EYES, "depth": 4, "num_heads": 4, "out_hidden_size": 128, "fullatt_block_indexes": [1]},
    },
    "gemma3": {
        **TOKENS,
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": {**TEXT, "num_hidden_layers": 4, "query_pre_attn_scalar": 32},
        "vision_config": {
            **EYES,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 56,
            "patch_size": 14,
        },
        "mm_tokens_per_image": 4,
    },
    "bert": {
        "architectures": ["BertForMaskedLM"],
        **{name: TEXT[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")},
        "num_hidden_layers": 4,
    },
    "t5": {
        "architectures": ["T5ForConditionalGeneration"],
        "d_model": 128,
        "d_kv": 32,
        "d_ff": 256,
        "num_layers": 3,
        "num_heads": 4,
        "vocab_size": 512,
    },
    "whisper": {
        "architectures": ["WhisperForConditionalGeneration"],
        "d_model": 128,
        "encoder_layers": 3,
        "decoder_layers": 3,
        **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
        **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 256),
        "num_mel_bins": 32,
        "max_source_positions": 64,
        "max_target_positions": 64,
        **TOKENS,
        "decoder_start_token_id": 256,
    },
    "vit": {
        "architectures": ["ViTForImageClassification"],
        **EYES,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
    },
    "gpt2": {
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": 128,
        "n_head": 4,
        "n_layer": 4,
        "n_positions": 128,
        "vocab_size": 512,
    },
    "deepseek_v3": {
        **{name: value for name, value in MOE.items() if name != "head_dim"},
        "architectures": ["DeepseekV3ForCausalLM"],
        "num_key_value_heads": 4,
        **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 64),
        "qk_rope_head_dim": 32,
        **dict.fromkeys(("qk_nope_head_dim", "v_head_dim"), 64),
        "n_routed_experts": 4,
        "moe_intermediate_size": 128,
        "first_k_dense_replace": 1,
        **dict.fromkeys(("n_shared_experts", "n_group", "topk_group"), 1),
    },
    "qwen3_next": {
        **MOE,
        "architectures": ["Qwen3NextForCausalLM"],
        **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 32),
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "num_experts": 4,
        **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 128),
    },
    "jamba": {
        **MOE,
        "architectures": ["JambaForCausalLM"],
        **dict.fromkeys(("attn_layer_period", "expert_layer_period"), 2),
        **dict.fromkeys(("attn_layer_offset", "expert_layer_offset"), 1),
        "num_experts": 4,
        "mamba_dt_rank": 8,
        "use_mamba_kernels": False,
    },
    "smolvlm": {
        **TOKENS,
        "architectures": ["SmolVLMForConditionalGeneration"],
        "tie_word_embeddings": False,
        "text_config": {
            **TEXT,
            "architectures": ["VLlama3ForCausalLM"],  # as in published configs: llama.cpp's converter goes by it
            "model_type": "llama",
            "num_hidden_layers": 4,
            "tie_word_embeddings": False,
        },
        "vision_config": {
            **EYES,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 56,
            "patch_size": 14,
        },
    },
    "phi3": {
        **TEXT,
        "architectures": ["Phi3ForCausalLM"],
        "num_hidden_layers": 4,
        "tie_word_embeddings": False,
    },
    "modernbert": {
        **TOKENS,
        "architectures": ["ModernBertForMaskedLM"],
        **EYES,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    },
    "qwen3": {**TEXT, "architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 4, "tie_word_embeddings": True},
    "gpt_oss": {**MOE, "architectures": ["GptOssForCausalLM"], "num_local_experts": 4},
    "glm4_moe_lite": {
        **{name: value for name, value in MOE.items() if name != "head_dim"},
        "architectures": ["Glm4MoeLiteForCausalLM"],
        **dict.fromkeys(("hidden_size", "kv_lora_rank"), 256),
        "num_key_value_heads": 4,
        **dict.fromkeys(("q_lora_rank", "v_head_dim", "moe_intermediate_size"), 128),
        "qk_nope_head_dim": 96,
        "qk_rope_head_dim": 32,
        "n_routed_experts": 4,
        "first_k_dense_replace": 1,
        **dict.fromkeys(("n_shared_experts", "n_group", "topk_group"), 1),
    },
}


def mixed(*overrides: str, **switches: Any) -> dict[str, Any]:
    return {"policy": {"name": "4bit-8bit-mixed", "overrides": ["*=int4", "0=raw", "1=int8", *overrides], **switches}}


TEXT_PART = "model.language_model.layers"
PLANS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("80% of its memory", {}),
    "qwen2": ("sensitivity", {"objective": "sensitivity"}),
    "qwen3_moe": ("overrides", mixed()),
    "mixtral": ("overrides, routers", mixed("2=int8", routers=True)),
    "qwen2_5_vl": ("overrides, towers", mixed(f"{TEXT_PART}.2=raw", f"{TEXT_PART}.10=int8", vision=True)),
    "gemma3": ("overrides of the text", mixed(f"{TEXT_PART}.2=int8")),
    "bert": ("overrides", mixed()),
    "t5": ("overrides", mixed()),
    "whisper": ("overrides", mixed()),
    "vit": ("overrides", mixed()),
    "gpt2": ("overrides", mixed()),
    "deepseek_v3": ("overrides", mixed()),
    "qwen3_next": ("overrides", mixed()),
    "jamba": ("overrides", mixed()),
    "smolvlm": ("overrides, towers", mixed("model.text_model.layers.2=raw", vision=True)),
    "phi3": ("overrides", mixed()),
    "modernbert": ("overrides", mixed()),
    "qwen3": ("overrides", mixed()),
    "gpt_oss": ("overrides", mixed()),
    "glm4_moe_lite": ("overrides", mixed()),
}
TERNARY = {"glm4_moe_lite": ("overrides, ternary", mixed("3=ternary"))}
"""What llama.cpp alone can do, of whose two halves of `kv_b_proj` one takes no TQ2_0."""

BUILD = """
import json, sys, torch, transformers
for model_type, config in json.load(open(sys.argv[1])).items():
    torch.manual_seed(0)
    names = config.pop("architectures")
    settings = transformers.AutoConfig.for_model(model_type, **config)
    settings.architectures = names
    model = getattr(transformers, names[0])(settings).to(torch.bfloat16)
    for p in model.parameters():
        torch.nn.init.normal_(p, *((0, 0.05) if p.dim() > 1 else (1, 0.1)))
    model.save_pretrained(sys.argv[2] + "/" + model_type)
"""
RUN = """
import pathlib, runpy, sys, traceback
folders, extra = sys.argv[1].split(","), sys.argv[2:]
sys.path.insert(0, folders[0])  # quantize.py imports what lies beside it, the same for every model
for folder in folders:
    sys.argv = ["quantize.py", pathlib.Path(folder, "MODEL").read_text(), folder + "/out", *extra]
    try:
        runpy.run_path(folder + "/quantize.py", run_name="__main__")
    except (Exception, SystemExit) as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        pathlib.Path(folder, "ERROR").write_text(text)
        traceback.print_exc()
"""
ADDED = {
    "qwen3_moe": {"num_experts": 4, "rope_theta": 10000.0},
    "qwen3_next": {"num_experts": 4, "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
    "gpt2": {"n_ctx": 128},
    "t5": {"decoder_start_token_id": 0},
    "glm4_moe_lite": {"rope_theta": 10000.0, "attention_bias": False, "partial_rotary_factor": 1.0},
}
"""What mlx-lm 0.32.2 and llama.cpp's converter look for in a config and transformers 5.23 no longer writes."""
CONVERT = """
import json, runpy, sys
source, model, *options = sys.argv[1:]
sys.path[:0] = [source, source + "/gguf-py"]
from conversion import base, get_model_class
# The made-up tokenizer is none that the converter knows.
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
config = json.load(open(model + "/config.json"))
name = base.get_model_architecture(config, base.ModelType.TEXT)
get_model_class(name).set_vocab = base.TextModel._set_vocab_gpt2
sys.argv = ["convert_hf_to_gguf.py", model, *options]
runpy.run_path(source + "/convert_hf_to_gguf.py", run_name="__main__")
"""


def build() -> None:
    """The models, where they are missing."""
    missing = {name: config for name, config in CONFIGS.items() if not (MODELS / name / "model.safetensors").exists()}
    if not missing:
        return
    MODELS.mkdir(parents=True, exist_ok=True)
    (MODELS / "configs.json").write_text(json.dumps(missing), "utf-8")
    python, _ = _environment("bitsandbytes", SETTINGS["bitsandbytes"])
    subprocess.run([str(python), "-c", BUILD, str(MODELS / "configs.json"), str(MODELS)], check=True)
    for name in missing:
        if name != "vit":
            _write_tokenizer(MODELS / name, TOKENS["vocab_size"])
        config = json.loads((MODELS / name / "config.json").read_text("utf-8"))
        (MODELS / name / "config.json").write_text(json.dumps(config | ADDED.get(name, {})), "utf-8")


Job = tuple[str, fastewq.Plan, Export, Path]
"""What a plan is called, the plan, its export, and the folder with the exported files."""


def prepare(tool: str, models: Iterable[str]) -> tuple[dict[str, Any], dict[str, Job]]:
    """Rows of the models that are not exported, and jobs of the others."""
    target = TOOLS[tool].target
    rows: dict[str, Any] = {}
    jobs = {}
    for name in models:
        label, options = (PLANS | TERNARY if tool == "llama.cpp" else PLANS)[name]
        config = json.loads((MODELS / name / "config.json").read_text("utf-8"))
        if not options:
            options = {"memory": int(0.8 * fastewq.plan(config, target=target).totals.raw_bytes)}
        folder = WORK / "matrix" / tool / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            plan = fastewq.plan(config, target=target, **options)
            made = export(plan, tool, nearest=True)
        except FastEWQError as error:
            rows[name] = {"plan": label, "not_exported": error.message}
            continue
        for file, text in {**made.files, "MODEL": str(MODELS / name)}.items():
            (folder / file).write_text(text, "utf-8")
        jobs[name] = (label, plan, made, folder)
    return rows, jobs


def described(tool: str, label: str, plan: fastewq.Plan, made: Export) -> dict[str, Any]:
    """The part of a row that says what was asked for."""
    precisions = Counter(module.precision for module in TOOLS[tool].adapt(assign(plan, TOOLS[tool].target)).modules)
    return {"plan": label, "precisions": dict(sorted(precisions.items())), "differences": len(made.differences)}


def verify_llama_cpp(models: Iterable[str]) -> dict[str, Any]:
    """One row per model: its converter's file, quantized by llama-quantize, and by `apply`, tensor by tensor alike."""
    binaries = _build_llama_cpp()
    source = next((WORK / "llama.cpp").glob("llama_cpp_python-*/vendor/llama.cpp"))
    python, _ = _environment("bitsandbytes", SETTINGS["bitsandbytes"])
    rows, jobs = prepare("llama.cpp", models)
    for name, (label, plan, made, folder) in jobs.items():
        rows[name] = described("llama.cpp", label, plan, made)
        (_, _, *convert), (program, *quantize) = (
            line.replace("MODEL ", f"{MODELS / name} ").split() for line in made.usage.splitlines()
        )
        steps = [
            [str(python), "-c", CONVERT, str(source), *convert],
            [str(binaries / program), *quantize],
        ]
        for step in steps:
            answer = subprocess.run(step, cwd=folder, capture_output=True, text=True, check=False)
            if answer.returncode:
                lines = [
                    line for line in answer.stderr.splitlines() if re.match(r"\w+Error|.*(failed|not found)", line)
                ]
                rows[name]["refused"] = (lines or ["?"])[-1].replace(str(WORK), "WORK")[:160]
                break
        else:
            assignment = TOOLS["llama.cpp"].adapt(assign(plan, "gguf"))
            rows[name] |= check(assignment, "llama.cpp", folder / "OUT.gguf").as_dict()
            apply(plan, "llama.cpp", folder / "MODEL.gguf", folder / "applied.gguf", nearest=True)
            rows[name]["applied_otherwise"] = unlike(folder / "OUT.gguf", folder / "applied.gguf")
    return {"versions": LLAMA_CPP.replace("==", " "), "models": rows}


def unlike(one: Path, other: Path) -> list[str]:
    """The tensors that differ in type or content."""
    found = [
        {t.name: (t.tensor_type.name, t.data.tobytes()) for t in GGUFReader(path).tensors} for path in (one, other)
    ]
    return sorted(name for name in found[0].keys() | found[1].keys() if found[0].get(name) != found[1].get(name))


def verify(tool: str, models: Iterable[str]) -> dict[str, Any]:
    """One row per model."""
    python, versions = _environment(tool, SETTINGS[tool])
    rows, jobs = prepare(tool, models)
    if not jobs:
        return {"versions": versions, "models": rows}
    extra = [str(WORK / "calibration.txt")] if SETTINGS[tool].arguments else []
    folders = ",".join(str(folder) for *_, folder in jobs.values())
    environment = {**os.environ, **dict(SETTINGS[tool].environment), "HF_HUB_OFFLINE": "1"}
    command = [str(python), "-c", RUN, folders, *extra]
    subprocess.run(command, check=False, stdout=sys.stderr, env=environment, cwd=WORK)  # GPTQModel leaves logs behind
    for name, (label, plan, made, folder) in jobs.items():
        row = described(tool, label, plan, made)
        if (folder / "ERROR").exists():
            row["refused"] = (folder / "ERROR").read_text("utf-8").replace(str(MODELS), "MODELS")[:160]
        else:
            assignment = TOOLS[tool].adapt(assign(plan, TOOLS[tool].target))
            row |= check(assignment, tool, folder / "out").as_dict()
        rows[name] = row
    return {"versions": versions, "models": rows}


def table() -> str:
    lines = [
        "| tool | model | plan | modules as planned | predicted / written bytes of tensors |",
        "|---|---|---|---|---|",
    ]
    for tool, entry in json.loads(ROWS.read_text("utf-8")).items():
        for name, row in entry["models"].items():
            if "modules" not in row:
                continue
            nearest = ", nearest" if row["differences"] else ""
            right = row["modules"] - len(row["wrong"])
            lines.append(
                f"| {tool} | {name} | {row['plan']}{nearest} | {right} of {row['modules']} "
                f"| {row['predicted_bytes']:,} / {row['written_bytes']:,} |"
            )
    return "\n".join(lines)


def main() -> None:
    names = sys.argv[1:] or ["table"]
    if names == ["table"]:
        print(table())
        return
    os.chdir(ROOT)
    build()
    for name in [*SETTINGS, "llama.cpp"] if names == ["all"] else names:
        tool, _, model = name.partition("/")
        chosen = [model] if model else PLANS
        found = verify_llama_cpp(chosen) if tool == "llama.cpp" else verify(tool, chosen)
        kept = json.loads(ROWS.read_text("utf-8")) if ROWS.exists() else {}
        rows = kept.get(tool, {}).get("models", {}) | found["models"]
        kept[tool] = {**found, "models": {name: rows[name] for name in PLANS if name in rows}}
        ROWS.write_text(json.dumps(dict(sorted(kept.items())), indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
