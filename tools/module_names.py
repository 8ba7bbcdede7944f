"""Where llama.cpp's converter and mlx-lm put every matrix, traced by value: writes tests/data/module_names.json.

    python tools/module_names.py LLAMA_CPP [MODEL_TYPE ...]

LLAMA_CPP is a folder with llama.cpp's `conversion` and `gguf-py` (both are in the sdist of llama-cpp-python, below
vendor/). For every model type that FastEWQ reads and one of the tools has a text model for, a narrow model is built
with the transformers library, each parameter filled with a number of its own, saved as the library saves it, and
converted or loaded. Models whose code lies in their repositories are written with the tensors that FastEWQ reads from
their configs, experts one by one. The numbers found tell which module went where, through every renaming, split and
merge. Needs transformers, torch (the `oracle` extra) and mlx-lm.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from oracle import ROOT, model_class, shallow
from safetensors.torch import save_file
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from fastewq.config import read_config
from fastewq.modules import FUSED, module_name

GOLDEN = ROOT / "tests" / "architectures" / "golden"
CONFIGS = ROOT / "tests" / "architectures" / "configs" / "published.json"
RESULT = ROOT / "tests" / "data" / "module_names.json"
NARROWER = 8
WIDTHS = ("_size", "_dim", "_rank", "d_model", "d_ff", "d_kv", "n_embd", "n_inner", "_width", "ffn_dim")
"""Endings of the fields that are features, divided by NARROWER where they stay at least 8."""
COUNTS = {
    "vocab_size": 256, "vocab_size_per_layer_input": 256, "num_experts": 4, "num_local_experts": 4,
    "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2, "num_experts_per_token": 2, "moe_top_k": 2,
    "moe_k": 2, "n_group": 1, "topk_group": 1, "num_expert_group": 1, "max_position_embeddings": 64, "n_positions": 64,
}  # fmt: skip
KEPT = ("patch_size", "kernel_size", "conv_kernel", "d_conv", "window", "chunk_size", "group_size", "block_size",
        "image_size", "rope_dim", "spatial_merge", "index_head_dim", "qk_", "v_head_dim")  # fmt: skip


REPOSITORIES = (
    "Dream-7B", "Kimi-VL-A3B", "LLaDA-8B", "MiniCPM4.1-8B", "OpenELM-270M", "Qwen-7B", "dots.ocr", "internlm2-1_8b",
    "jina-embeddings-v2-base-en", "plamo-2-1b", "stablelm-3b-4e1t",
)  # fmt: skip
"""Configs in tests/architectures/configs/published.json of models that the converter knows and the library does not."""
DEPTHS = ("num_hidden_layers", "n_layers")


SPECIAL: dict[str, dict[str, Any]] = {
    "granitemoehybrid": {"mamba_d_head": 8, "layer_types": [*["linear_attention"] * 4, "full_attention"]},
    "bamba": {"mamba_d_head": 8, "attn_layer_indices": [1]},
    "bitnet": {"tie_word_embeddings": True},
    "falcon": {"hidden_size": 512, "num_attention_heads": 8, "num_kv_heads": 1},
    "lfm2": {"layer_types": ["conv", "conv", "full_attention", "conv", "full_attention"]},
    "mistral3": {"tie_word_embeddings": False, "text_config": {"tie_word_embeddings": False}},
    "kimi_linear": {"mlp_layer_types": ["sparse"] * 5},  # the library saves dense blocks under the name of the experts
    "minimax_m3_vl": {"text_config": {"layer_types": ["full_attention", *["minimax_m3_sparse"] * 4],
                                      "mlp_layer_types": ["dense", *["sparse"] * 4]}},
}  # fmt: skip
TEXT_CLASSES = {"idefics3": "VLlama3ForCausalLM", "lfm2_vl": "Lfm2ForCausalLM", "smolvlm": "VLlama3ForCausalLM"}
"""Model type -> what published configs have as `text_config.architectures`, by which the converter then goes."""
SAME: dict[str, str] = {"kimi_k2": "deepseek_v3"}
"""Model type of repositories -> that of the library whose class their configs name."""
PUBLISHED: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "gemma4_text": {"global_head_dim": 64},
    "granitemoehybrid": {"layer_types": ["mamba", "mamba", "mamba", "mamba", "attention"]},
    "deepseek_v2": {"rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 64}},
    "exaone4": {"sliding_window_pattern": "LLLG"},
    "olmo3": {"rope_theta": 10000.0},
    "solar_open": {"first_k_dense_replace": 0, "intermediate_size": 64},
    "exaone_moe": {"is_moe_layer": [False, True, True, True, True]},
    "lfm2": {"block_dim": "hidden_size", "block_ff_dim": "intermediate_size", "block_multiple_of": 32,
             "block_ffn_dim_multiplier": 1.0, "block_auto_adjust_ff_dim": True, "full_attn_idxs": [2, 4]},
    "minimax_m2": {"shared_intermediate_size": 0},
}  # fmt: skip
"""Fields of published configs that the tools need and the library does not write; of some, the field they repeat."""


ARGUMENTS: dict[str, Any] = {
    "rope_scaling": None, "partial_rotary_factor": 0.5, "moe_layer_freq": 1, "topk_method": "noaux_tc",
    "scoring_func": "sigmoid", "mlp_bias": False, "post_norm": False, "qk_norm": True, "rotary_emb_base": 10000,
    "rotary_pct": 0.25, "norm_topk_prob": True, "tie_word_embeddings": False, "rotary_dim": 8, "n_ctx": 64,
}  # fmt: skip
"""What mlx-lm insists on and published configs have: of no effect on names."""


def narrow(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with small widths, vocabularies and numbers of experts; token ids go, since they may lie beyond."""
    small: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict) and name not in ("rope_parameters", "rope_scaling", "id2label", "label2id"):
            small[name] = narrow(value)
        elif name in COUNTS and type(value) is int:
            small[name] = min(value, COUNTS[name])
        elif name.endswith("token_id"):
            small[name] = None if value is None else 1
        elif type(value) is int and name.endswith(WIDTHS) and not any(part in name for part in KEPT):
            small[name] = value // NARROWER if value % NARROWER == 0 and value // NARROWER >= 8 else value
        else:
            small[name] = value
    return small


def checkpoint(model_type: str, class_name: str, folder: Path) -> dict[int, str]:
    """Save a model whose parameters are constants; the parameter of each constant."""
    known = SAME.get(model_type, model_type)
    config_type = CONFIG_MAPPING[known]
    config = config_type.from_dict({**shallow(known), "architectures": [class_name], "dtype": "float32"})
    config = config_type.from_dict(changed(narrow(config.to_dict()), SPECIAL.get(model_type, {})))
    with torch.device("meta"):
        model = model_class(known, class_name)(config)
    size = sum(parameter.numel() for parameter in model.parameters())
    if size > 1.2e9:
        raise MemoryError(f"{size} parameters are too many to write")
    model = model.to_empty(device="cpu").float()
    model.tie_weights()
    numbers = {}
    for index, (name, parameter) in enumerate(model.named_parameters(), 1):
        number = constant(index)
        torch.nn.init.constant_(parameter, number)
        numbers[number] = name
    for buffer in model.buffers():
        buffer.zero_()
    model.save_pretrained(folder)
    small_files(folder, {**published(config), "architectures": [class_name], "model_type": model_type})
    return numbers


def constant(index: int) -> int:
    """The number of a parameter: exact in bfloat16, and no other's number plus 1."""
    return (128 + index % 128) << (2 + index // 128)


def small_files(folder: Path, config: dict[str, Any]) -> None:
    tokenizer = {"model": {"type": "WordPiece", "vocab": {str(i): i for i in range(256)}}, "added_tokens": []}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    (folder / "config.json").write_text(json.dumps(config), "utf-8")


def repository_checkpoint(config: dict[str, Any], folder: Path) -> dict[int, str]:
    """Save the tensors that FastEWQ reads from a config, filled with constants; the parameter of each constant."""
    architecture = read_config(config)
    owners = [(b.path, b.layout.tensors) for stack in architecture.stacks for b in stack.blocks]
    owners += [(group.path, group.tensors) for group in architecture.outside]
    numbers, saved = {}, {}
    for path, tensors in owners:
        for tensor in tensors:
            name = f"{path}.{tensor.name}".strip(".")
            number = constant(len(numbers) + 1)
            numbers[number] = name
            parts = one_by_one(name, tensor.shape) if tensor.role == "experts" else {name: tensor.shape}
            saved |= {part: torch.full(shape, number, dtype=torch.float32) for part, shape in parts.items()}
    save_file(saved, folder / "model.safetensors")
    small_files(folder, config)
    return numbers


def one_by_one(name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The matrices of stacked experts as repositories have them."""
    experts, rows, columns = shape
    above, _, last = name.rpartition(".")
    names = FUSED.get(last, (last,))
    return {f"{above}.{i}.{part}.weight": (rows // len(names), columns) for i in range(experts) for part in names}


def fewer(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of a config with at most four blocks in every stack, without a type."""
    return {
        name: fewer(value) if isinstance(value, dict) else min(value, 4) if name in DEPTHS else value
        for name, value in config.items()
        if name != "torch_dtype"
    }


def changed(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The fields with changes, also within the configs of parts."""
    nested = {name: changed(fields[name], change) for name, change in changes.items() if isinstance(change, dict)}
    return {**fields, **changes, **nested}


def published(config: Any) -> dict[str, Any]:
    """The fields as configs on the Hub have them: under their older names too, and rope_theta at the top."""
    fields = config.to_dict()
    fields |= {alias: fields[name] for alias, name in config.attribute_map.items() if name in fields}
    fields |= {name: published(sub) for name in config.sub_configs if (sub := getattr(config, name, None)) is not None}
    rope = fields.get("rope_parameters") or {}
    fields |= {"rope_theta": rope["rope_theta"]} if "rope_theta" in rope and "rope_theta" not in fields else {}
    needed = PUBLISHED.get(fields.get("model_type", ""), {})
    fields |= {name: fields.get(value, value) if isinstance(value, str) else value for name, value in needed.items()}
    text = fields.get("text_config") or {}
    return ({"vocab_size": text["vocab_size"]} if "vocab_size" in text else {}) | fields


def convert(class_name: str, folder: Path) -> Iterator[tuple[str, tuple[int, ...], Any, str]]:
    """(name, shape, distinct values, type) of every tensor that the converter writes for `--outtype bf16`."""
    import gguf
    from conversion import get_model_class

    found = []

    def keep(_: Any, name: str, data: Any, raw_dtype: Any = None) -> None:
        found.append((name, data, raw_dtype))

    gguf.GGUFWriter.add_tensor = keep
    converter = get_model_class(class_name)
    converter.no_mtp = True
    converter(folder, gguf.LlamaFileType.MOSTLY_BF16, folder / "out.gguf", eager=True).prepare_tensors()
    for name, data, raw_dtype in found:
        values = np.asarray(gguf.quants.dequantize(data, raw_dtype) if raw_dtype is not None else data, np.float32)
        yield name, values.shape, np.unique(values), raw_dtype.name if raw_dtype is not None else "F32"


Found = dict[str, list[str]]
"""Parameter -> the tool's tensors or modules."""


def by_llama_cpp(
    model_type: str, class_name: str, folder: Path, numbers: dict[int, str]
) -> tuple[str, bool, Found, dict[str, int]]:
    """What a model becomes in a GGUF file.

    The architecture, whether the converter knows `--no-nextn`, the tensors of each parameter, and the bytes of the
    file's tensors: raw, and with quantized blocks.
    """
    import gguf
    from conversion import get_model_class

    from fastewq.exports.llama_cpp import never_quantized

    found: Found = {}
    sizes = {"raw": 0, "int8": 0, "int4": 0}
    for name, shape, values, kind in convert(class_name, folder):
        traced = [numbers[number] for value in values if (number := whole(value)) in numbers]
        for parameter in traced if len(shape) > 1 else []:
            found.setdefault(parameter, []).append(name)
        raw = int(np.prod(shape)) * {"F32": 4, "F16": 2, "BF16": 2}[kind]
        matrix = (
            len([n for n in shape if n > 1]) > 1 and not never_quantized(name, model_type) and name.endswith(".weight")
        )
        for level, bits in (("raw", 0), ("int8", 8.5), ("int4", 4.5)):
            block = matrix and re.match(r"(enc\.|dec\.)?blk\.", name) and shape[-1] % 32 == 0
            sizes[level] += int(np.prod(shape) * bits / 8) if bits and block else raw
    converter = get_model_class(class_name)
    return gguf.MODEL_ARCH_NAMES[converter.model_arch], converter.supports_mtp_export, found, sizes


def by_mlx(folder: Path, numbers: dict[int, str]) -> Found:
    """The modules that mlx-lm could quantize, by the parameters they hold."""
    import mlx.core
    from mlx_lm.utils import load_model

    found: Found = {}
    config = json.loads((folder / "config.json").read_text("utf-8"))
    for part in (config, config.get("text_config") or {}):
        part |= ARGUMENTS | part
        if part.get("head_dim") is None and part.get("num_attention_heads"):
            part["head_dim"] = part["hidden_size"] // part["num_attention_heads"]
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    model, _ = load_model(folder)
    for path, module in model.named_modules():
        if hasattr(module, "to_quantized"):
            values = np.unique(np.array(module.weight.astype(mlx.core.float32)))
            for value in values:
                if (number := whole(value)) in numbers:
                    found.setdefault(numbers[number], []).append(path)
    return found


def whole(value: float) -> int:
    """The number that a traced value is; 0, which stands for no parameter, where it is none."""
    return int(value) if np.isfinite(value) and value == int(value) else 0


def trace(model_type: str, class_name: str, tools: list[str], config: dict[str, Any] | None) -> dict[str, Any]:
    """What the tools make of a model of the library, or of the `config` of one that the library does not have."""
    row: dict[str, Any] = {"class": class_name}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        numbers = repository_checkpoint(config, folder) if config else checkpoint(model_type, class_name, folder)
        row["config"] = json.loads((folder / "config.json").read_text("utf-8"))
        paths = modules(row["config"])
        for tool in tools:
            try:
                if tool == "gguf":
                    converted = TEXT_CLASSES.get(model_type, class_name)
                    architecture, drafts, found, sizes = by_llama_cpp(model_type, converted, folder, numbers)
                    row |= {"architecture": architecture, "no_nextn": drafts, "bytes": sizes}
                else:
                    found = by_mlx(folder, numbers)
            except (Exception, SystemExit) as error:  # mlx-lm leaves where a model's package is missing
                last = traceback.extract_tb(error.__traceback__)[-1]
                row[tool] = f"{type(error).__name__}: {str(error)[:200]}"
                print(f"{model_type} {tool}: {row[tool]} at {Path(last.filename).name}:{last.lineno}", flush=True)
                continue
            by_module = {module_name(parameter): sorted(names) for parameter, names in found.items()}
            row[tool] = common({path: by_module.get(path, []) for path in paths})
    return row


def modules(config: dict[str, Any]) -> list[str]:
    """Every matrix of the model as FastEWQ names it, routers and embeddings too."""
    architecture = read_config(config)
    return [
        f"{block.path}.{module_name(tensor.name)}"
        for stack in architecture.stacks
        for block in stack.blocks
        for tensor in block.layout.tensors
        if tensor.role in ("linear", "experts", "router")
    ] + [
        group.path if tensor.name == "weight" else f"{group.path}.{module_name(tensor.name)}".strip(".")
        for group in architecture.outside
        for tensor in group.tensors
        if tensor.role in ("linear", "embedding")
    ]


def common(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """The same with N for the number of a block, which must be the same in module and tensor."""
    rows: dict[str, list[str]] = {}
    for path, names in found.items():
        block = re.search(r"\.(\d+)\.", path)
        if block and names:
            path = path.replace(block[0], ".N.", 1)
            names = [re.sub(rf"(^|\.){block[1]}\.", r"\1N.", name, count=1) for name in names]
            assert all(".N." in name for name in names), (path, names)
        elif block:
            path = path.replace(block[0], ".N.", 1)
        assert rows.get(path, names) == names, (path, names, rows[path])
        rows[path] = names
    return rows


Candidate = tuple[str, str, list[str], dict[str, Any] | None]
"""Model type, class, tools, and the config where the library has no such class."""


def candidates(tools: dict[str, Iterable[str]]) -> Iterator[Candidate]:
    """The model types with a table here and a class that a tool knows, and those of repositories."""
    for file in sorted(GOLDEN.glob("*.json")):
        cases = json.loads(file.read_text("utf-8"))["cases"]
        classes = list(dict.fromkeys(name for case in cases for name in case["config"].get("architectures", [])))
        converted = next((name for name in classes if name in tools["gguf"] or file.stem in TEXT_CLASSES), None)
        runs = file.stem in tools["mlx"]
        decoder = next((name for name in classes if name.endswith(("LMHeadModel", "ForCausalLM", "Generation"))), None)
        if converted or (runs and decoder):
            names = ["gguf"] * bool(converted) + ["mlx"] * (runs and bool(converted or decoder))
            for model_type in (file.stem, *(same for same, known in SAME.items() if known == file.stem)):
                yield model_type, converted or decoder or "", names, None
    known = json.loads(CONFIGS.read_text("utf-8"))
    for config in ({**fewer(narrow(known[name]["config"])), "dtype": "float32"} for name in REPOSITORIES):
        yield read_config(config).model_type, config["architectures"][0], ["gguf"], config


def main() -> None:
    sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]) / "gguf-py")]
    import mlx_lm.models
    from conversion import TEXT_MODEL_MAP
    from mlx_lm.utils import MODEL_REMAPPING

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    runs = {file.stem for file in Path(mlx_lm.models.__path__[0]).glob("*.py")} | set(MODEL_REMAPPING)
    table = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
    for model_type, class_name, tools, config in candidates({"gguf": TEXT_MODEL_MAP, "mlx": runs}):
        if sys.argv[2:] and model_type not in sys.argv[2:]:
            continue
        try:
            row = table[model_type] = trace(model_type, class_name, tools, config)
        except Exception as error:
            print(f"{model_type}: {type(error).__name__}: {str(error)[:200]}", flush=True)
            continue
        for tool in tools:
            if isinstance(row[tool], dict):
                missing = [path for path, names in row[tool].items() if not names]
                print(f"{model_type} {tool}: {len(row[tool])} modules, not found {missing[:3]}", flush=True)
        text = json.dumps(dict(sorted(table.items())), sort_keys=True)
        RESULT.write_text(text.replace('}, "', '},\n"') + "\n", "utf-8")


if __name__ == "__main__":
    main()
