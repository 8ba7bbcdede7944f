"""Verify exports with the real tools, each in a virtual environment of its own with pinned versions.

python benchmarks/exports.py mlx quanto ...   install, quantize a random llama, load it, generate, compare; keep the row
python benchmarks/exports.py all              every tool that runs without a GPU
python benchmarks/exports.py gguf FILE        the same for a GGUF file of a real llama or qwen2 model
python benchmarks/exports.py table            print docs/exports-verified.md's table from the kept rows
python benchmarks/exports.py errors           relative squared error of the precisions on Gaussian weights

The plan: block 0 raw, blocks 1 and 5 int8, block 3's down_proj int8, block 10 raw, every other block int4. A row says
of how many modules the precision is the plan's, how far the predicted size was off, and what the loaded model
generated; rows are kept in benchmarks/exports_results.json. GPTQModel needs calibration texts, which are made up here.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from random_llama import write_model  # noqa: E402

from fastewq import plan_architecture, read_config  # noqa: E402
from fastewq.apply import apply  # noqa: E402
from fastewq.exports import export  # noqa: E402
from fastewq.predictor import load_predictor  # noqa: E402

RESULTS = Path(__file__).with_name("exports_results.json")
WORK = Path(os.environ.get("FASTEWQ_EXPORTS_WORK", ROOT / "build" / "exports"))
OVERRIDES = ["0=raw", "10=raw", "1=int8", "5=int8", "model.layers.3.mlp.down_proj=int8"]
TORCH = ("torch==2.13.0", "transformers==5.23.0", "accelerate==1.15.0")

GENERATE = """
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(OUT)
model = AutoModelForCausalLM.from_pretrained(OUT, dtype="auto")
ids = tokenizer("Once upon a time", return_tensors="pt")
print("generated", model.generate(**ids, max_new_tokens=4, do_sample=False)[0, -4:].tolist())
"""


@dataclass(frozen=True)
class Setting:
    """What to install, one pip call per entry of `packages`, and the code that loads OUT and generates."""

    packages: tuple[tuple[str, ...], ...]
    generate: str = GENERATE
    dtype: str = "bfloat16"
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


SETTINGS: dict[str, Setting] = {
    "mlx": Setting(
        (("mlx[cpu]==0.32.4", "mlx-lm==0.32.2", "transformers==5.23.0"),),
        """
from mlx_lm import load, generate
model, tokenizer = load(OUT)
print("generated", repr(generate(model, tokenizer, prompt="Once upon a time", max_tokens=4)))
""",
    ),
    "bitsandbytes": Setting(((*TORCH, "bitsandbytes==0.50.2"),)),
    "torchao": Setting(((*TORCH, "torchao==0.18.0"),)),
    "quanto": Setting(
        ((*TORCH, "optimum-quanto==0.2.7", "ninja"),),
        """
from optimum.quanto import QuantizedModelForCausalLM
from transformers import AutoTokenizer
model = QuantizedModelForCausalLM.from_pretrained(OUT)
ids = AutoTokenizer.from_pretrained(OUT)("Once upon a time", return_tensors="pt")
print("generated", model.generate(**ids, max_new_tokens=4, do_sample=False)[0, -4:].tolist())
""",
        # With bfloat16 activations quanto 0.2.7 calls a kernel (torch._weight_int8pack_mm) that crashes in torch 2.13.
        dtype="float16",
    ),
    "llm-compressor": Setting((("torch==2.13.0", "llmcompressor==0.14.0.1", "compressed-tensors==0.19.0"),)),
    "autoround": Setting((("torch==2.13.0", "auto-round==0.16.1", "transformers==5.17.0", "accelerate==1.15.0"),)),
    "openvino": Setting(
        (("torch==2.13.0", "nncf==3.4.0", "openvino==2026.4.1", "optimum-intel==2.2.0"),),
        """
from optimum.intel import OVModelForCausalLM
from transformers import AutoTokenizer
model = OVModelForCausalLM.from_pretrained(OUT)
ids = AutoTokenizer.from_pretrained(MODEL)("Once upon a time", return_tensors="pt")
print("generated", model.generate(**ids, max_new_tokens=4, do_sample=False)[0, -4:].tolist())
""",
        remove=("torchvision",),  # the CUDA build that comes along breaks the import beside a CPU build of torch
    ),
    "gptqmodel": Setting(
        (
            ("torch==2.13.0", "transformers==5.23.0", "accelerate==1.15.0", "setuptools", "wheel"),
            ("--no-deps", "--no-build-isolation", "gptqmodel==7.7.0"),
            (
                "device-smi",
                "pypcre",
                "tokenicer",
                "logbar",
                "threadpoolctl",
                "defuser",
                "pillow",
                "datasets",
                "requests",
            ),
        ),
        """
from gptqmodel import GPTQModel
model = GPTQModel.load(OUT, device="cpu")
ids = model.tokenizer("Once upon a time", return_tensors="pt")
print("generated", model.generate(**ids, max_new_tokens=4, do_sample=False)[0, -4:].tolist())
""",
        arguments=("CALIBRATION",),
        environment=(("GPTQMODEL_CPU_WORKERS", "2"),),
    ),
}


def verify(tool: str) -> dict[str, Any]:
    """One row: install, apply, load, generate."""
    setting, started = SETTINGS[tool], time.monotonic()
    python, versions = _environment(tool, setting)
    model, out = WORK / f"model-{setting.dtype}", WORK / "out" / tool
    config = write_model(model, setting.dtype)
    subprocess.run(["rm", "-rf", str(out)], check=True)
    calibration = WORK / "calibration.txt"
    words = np.random.default_rng(1).integers(0, 26, (32, 64, 5)) + 97
    calibration.write_text("\n".join(" ".join(bytes(w.astype(np.uint8)).decode() for w in line) for line in words))
    os.environ |= dict(setting.environment)
    installed = time.monotonic()
    arguments = [str(calibration) if argument == "CALIBRATION" else argument for argument in setting.arguments]
    found = apply(_plan(config), tool, model, out, nearest=True, python=python, arguments=arguments)
    quantized = time.monotonic()
    code = f"OUT, MODEL = {str(out)!r}, {str(model)!r}\n{setting.generate}"
    answer = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    lines = [line for line in answer.stdout.splitlines() if line.startswith("generated")]
    return {
        "tool": tool,
        "versions": versions,
        "python": platform.python_version(),
        **found.as_dict(),
        "generated": lines[-1].removeprefix("generated ") if lines else None,
        "generation_error": None if lines else [f"exit {answer.returncode}", *answer.stderr.strip().splitlines()[-1:]],
        "seconds": {
            "install": round(installed - started, 1),
            "quantize": round(quantized - installed, 1),
            "load_and_generate": round(time.monotonic() - quantized, 1),
        },
    }


def verify_gguf(source: Path) -> dict[str, Any]:
    """One row for a real checkpoint: the mixed file is written by the gguf package and loaded by transformers."""
    setting = Setting(
        ((*TORCH, "gguf==0.19.0", "sentencepiece"),),
        """
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(MODEL, gguf_file="mixed.gguf")
model = AutoModelForCausalLM.from_pretrained(MODEL, gguf_file="mixed.gguf", dtype="bfloat16")
ids = tokenizer("The capital of France is", return_tensors="pt")
print("generated", repr(tokenizer.decode(model.generate(**ids, max_new_tokens=6, do_sample=False)[0])))
""",
    )
    python, versions = _environment("gguf", setting)
    folder = WORK / "out" / "gguf"
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    folder.mkdir(parents=True)
    config = _dequantize(source, folder / "raw.gguf")
    plan = _plan(config, embeddings="int8")
    found = apply(plan, "llama.cpp", folder / "raw.gguf", folder / "mixed.gguf")
    made = export(plan, "llama.cpp")
    code = f"MODEL = {str(folder)!r}\n{setting.generate}"
    answer = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    lines = [line for line in answer.stdout.splitlines() if line.startswith("generated")]
    return {
        "tool": f"gguf ({config['name']})",
        "versions": versions,
        "python": platform.python_version(),
        **found.as_dict(),
        "file_error": round((made.bytes + made.header_bytes) / found.written.files - 1, 6),
        "generated": lines[-1].removeprefix("generated ") if lines else None,
        "generation_error": None if lines else [f"exit {answer.returncode}", *answer.stderr.strip().splitlines()[-1:]],
    }


def _dequantize(source: Path, out: Path) -> dict[str, Any]:
    """Write a bfloat16 copy of a GGUF file; returns the config that its metadata stands for."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
    from gguf.quants import dequantize, quantize

    from fastewq.exports.gguf_file import copy_metadata

    reader = GGUFReader(source)

    def field(name: str) -> Any:
        return reader.fields[name].contents()

    kind = field("general.architecture")
    writer = GGUFWriter(out, kind)
    copy_metadata(reader, writer)
    for tensor in reader.tensors:
        raw = GGMLQuantizationType.F32 if len(tensor.shape) == 1 else GGMLQuantizationType.BF16
        writer.add_tensor(tensor.name, quantize(dequantize(tensor.data, tensor.tensor_type), raw), raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    names = {tensor.name for tensor in reader.tensors}
    return {
        "name": field("general.name"),
        "model_type": kind,
        "architectures": [{"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}[kind]],
        "hidden_size": field(f"{kind}.embedding_length"),
        "intermediate_size": field(f"{kind}.feed_forward_length"),
        "num_attention_heads": field(f"{kind}.attention.head_count"),
        "num_key_value_heads": field(f"{kind}.attention.head_count_kv"),
        "num_hidden_layers": field(f"{kind}.block_count"),
        "vocab_size": len(field("tokenizer.ggml.tokens")),
        "tie_word_embeddings": "output.weight" not in names,
        "dtype": "bfloat16",
    }


def _plan(config: dict[str, Any], **switches: str) -> Any:
    """The plan under test; its probabilities do not matter, since overrides decide every block."""
    architecture = read_config(config)
    blocks = sum(len(stack.blocks) for stack in architecture.stacks)
    overrides = [f"0-{blocks - 1}=int4", *OVERRIDES]
    policy = {"name": "4bit-8bit-mixed", "overrides": overrides, **switches}
    return plan_architecture(architecture, np.full(blocks, 0.5), predictor=load_predictor(), policy=policy)


def _environment(tool: str, setting: Setting) -> tuple[Path, str]:
    """The tool's interpreter, made and filled where it is missing, and the versions of the pinned packages in it."""
    folder = WORK / "venvs" / tool
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        for packages in setting.packages:
            subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
        if setting.remove:
            subprocess.run([str(python), "-m", "pip", "uninstall", "-q", "-y", *setting.remove], check=True)
        (folder / "complete").touch()
    names = [p.partition("==")[0].partition("[")[0] for packages in setting.packages for p in packages if "==" in p]
    code = f"from importlib.metadata import version; print(', '.join(n + ' ' + version(n) for n in {names!r}))"
    answer = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return python, answer.stdout.strip()


def table() -> str:
    """The kept rows as Markdown."""
    lines = [
        "| tool | versions | modules as planned | predicted / written bytes of tensors | error | generated |",
        "|---|---|---|---|---|---|",
    ]
    for row in json.loads(RESULTS.read_text("utf-8")).values():
        right = row["modules"] - len(row["wrong"])
        lines.append(
            f"| {row['tool']} | {row['versions']} | {right} of {row['modules']} "
            f"| {row['predicted_bytes']:,} / {row['written_bytes']:,} | {row['size_error']:+.3%} "
            f"| {row['generated'] or 'no: ' + ' '.join(row['generation_error'])} |"
        )
    return "\n".join(lines)


def errors() -> None:
    """What fastewq.budget.DAMAGE and the warning about ternary rest on."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize, quantize

    weights = np.random.default_rng(0).normal(0, 0.02, (1024, 4096)).astype(np.float32)
    for precision, name in (("int8", "Q8_0"), ("int4", "Q4_0"), ("ternary", "TQ2_0")):
        kind = GGMLQuantizationType[name]
        error = dequantize(quantize(weights, kind), kind) - weights
        print(f"{precision:8} {name:6} {np.square(error).sum() / np.square(weights).sum():.2e}")


def _keep(row: dict[str, Any]) -> None:
    kept = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(dict(sorted((kept | {row["tool"]: row}).items())), indent=2) + "\n", "utf-8")
    print(json.dumps(row, indent=2))


def main() -> None:
    names = sys.argv[1:] or ["table"]
    if names == ["errors"]:
        errors()
    elif names[0] == "gguf":
        _keep(verify_gguf(Path(names[1])))
    elif names == ["table"]:
        print(table())
    else:
        for tool in SETTINGS if names == ["all"] else names:
            _keep(verify(tool))


if __name__ == "__main__":
    main()
