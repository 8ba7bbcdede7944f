"""Verify exports with the real tools, each in a virtual environment of its own with pinned versions.

python benchmarks/exports.py mlx quanto ...   install, quantize a random llama, load it, generate, compare; keep the row
python benchmarks/exports.py all              every tool that runs without a GPU
python benchmarks/exports.py vllm sglang      what the engines' own functions make of the exported configs; needs no GPU
python benchmarks/exports.py gguf FILE        the same for a GGUF file of a real llama, qwen2 or gemma3 model
python benchmarks/exports.py placement FILE   two devices: llama.cpp on loopback workers, accelerate, a function of vLLM
python benchmarks/exports.py llama.cpp FILE   the same with llama-quantize itself, built from source (needs cmake, C++)
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
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from random_llama import CONFIG, write_model  # noqa: E402

from fastewq import plan_architecture, read_config  # noqa: E402
from fastewq.apply import apply  # noqa: E402
from fastewq.exports import export  # noqa: E402
from fastewq.exports.assignment import assign  # noqa: E402
from fastewq.exports.devices import language_model, overrides, text_layers  # noqa: E402
from fastewq.exports.readback import check  # noqa: E402
from fastewq.memory import read_memory  # noqa: E402
from fastewq.modules import FUSED  # noqa: E402
from fastewq.predictor import load_predictor  # noqa: E402

RESULTS = Path(__file__).with_name("exports_results.json")
RESOLVED = Path(__file__).with_name("exports_resolved.json")
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


ENGINES: dict[str, Setting] = {
    "vllm": Setting(
        (
            ("torch==2.13.0", "transformers==5.20.0", "compressed-tensors==0.17.0"),
            ("--no-deps", "vllm==0.33.0", "xgrammar"),
            (
                *("psutil", "pyzmq", "cbor2", "aiohttp", "requests", "openai-harmony", "openai", "pillow", "pybase64"),
                *("cachetools", "msgspec", "cloudpickle", "uvloop", "py-cpuinfo", "prometheus_client", "einops"),
                *("sentencepiece", "mistral_common", "blake3", "lark", "fastapi", "pycountry", "scipy", "watchfiles"),
                *("partial-json-parser", "apache-tvm-ffi", "llguidance", "outlines_core", "diskcache", "tiktoken"),
                *("opencv-python-headless", "xxhash", "gguf", "numba", "ninja", "python-json-logger", "depyf"),
            ),
        )
    ),
    "sglang": Setting(
        (
            ("torch==2.13.0", "transformers==5.20.0", "compressed-tensors==0.18.0"),
            ("--no-deps", "sglang==0.5.23"),
        )
    ),
}
"""Engines that need a GPU to run, installed without what needs one. `torch` is not the version they pin."""


def resolve(engine: str) -> dict[str, Any]:
    """What an engine's functions make of the exported compressed-tensors and GPTQ configs, module by module."""
    python, _ = _environment(engine, ENGINES[engine])
    folder = WORK / "out" / engine
    folder.mkdir(parents=True, exist_ok=True)
    plan = _plan(CONFIG)
    files = []
    for tool, name in (("llm-compressor", "quantization_config.json"), ("gptqmodel", "quantize_config.json")):
        files.append(folder / name)
        files[-1].write_text(export(plan, tool).files[name], "utf-8")
    expected = {
        module.path: module.scheme.bits if module.scheme else 16
        for module in assign(plan, "compressed-tensors").modules
        if module.tensor.role == "linear"
    } | {"lm_head": 16}
    for whole, parts in FUSED.items():
        prefixes = [path.removesuffix(parts[0]) for path in expected if path.endswith(f".{parts[0]}")]
        expected |= {prefix + whole: expected[prefix + parts[0]] for prefix in prefixes}
    (folder / "modules.json").write_text(json.dumps(list(expected)), "utf-8")
    script = Path(__file__).with_name("resolvers.py")
    command = [str(python), str(script), engine, *map(str, files), str(folder / "modules.json")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in answer.stdout.splitlines() if line.startswith("resolved ")]
    if not lines:
        raise SystemExit(answer.stderr)
    found = json.loads(lines[-1].removeprefix("resolved "))
    return {
        "engine": engine,
        "versions": found["versions"],
        "modules": len(expected),
        "fused": sum(path.endswith(tuple(FUSED)) for path in expected),
        "formats": {
            name: {
                "functions": found["functions"][name],
                "wrong": [
                    [path, bits, found[name][path]] for path, bits in expected.items() if found[name][path] != bits
                ],
            }
            for name in found["functions"]
        },
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
    folder, config = _raw_gguf(source, "gguf")
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


LLAMA_CPP = "llama-cpp-python==0.3.36"
"""Its source package holds all of llama.cpp, of October 2026."""


def verify_llama_cpp(source: Path) -> dict[str, Any]:
    """One row for a real checkpoint: llama-quantize runs with the exported arguments, llama.cpp loads the result.

    llama.cpp is built from source: 150 files, a quarter of an hour on two cores.
    """
    binaries = _build_llama_cpp()
    folder, config = _raw_gguf(source, "llama.cpp")
    plan = _plan(config, embeddings="int8")
    made = export(plan, "llama.cpp")
    for name, text in made.files.items():
        (folder / name).write_text(text, "utf-8")
    command = made.usage.strip().splitlines()[-1].replace("MODEL.gguf", "raw.gguf").replace("OUT.gguf", "mixed.gguf")
    program, *arguments = command.split()
    subprocess.run([str(binaries / program), *arguments, "2"], cwd=folder, check=True, stdout=sys.stderr)
    found = check(assign(plan, "gguf"), "llama.cpp", folder / "mixed.gguf")
    answer = _complete(binaries, folder / "mixed.gguf")
    return {
        "tool": f"llama.cpp ({config['name']})",
        "versions": LLAMA_CPP.replace("==", " ") + " (llama-quantize)",
        "python": platform.python_version(),
        **found.as_dict(),
        "file_error": round((made.bytes + made.header_bytes) / found.written.files - 1, 6),
        "generated": repr(answer.stdout.strip()) if answer.returncode == 0 else None,
        "generation_error": None if answer.returncode == 0 else answer.stderr.strip().splitlines()[-1:],
    }


PORTS = (50652, 50653)
DEVICE_MAP = """
import json, sys
from accelerate import init_empty_weights
from accelerate.utils import check_device_map
from transformers import AutoConfig, AutoModelForCausalLM
with init_empty_weights():
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**json.load(open(sys.argv[1]))))
placed = json.load(open(sys.argv[2]))
check_device_map(model, placed)
print("resolved", json.dumps([placed[f"model.layers.{i}"] for i in range(model.config.num_hidden_layers)]))
"""
PARTITION = """
import json, sys
from vllm.distributed.utils import get_pp_indices
ranks = [get_pp_indices(int(sys.argv[1]), rank, int(sys.argv[2])) for rank in range(int(sys.argv[2]))]
print("resolved", json.dumps([rank for rank, (start, end) in enumerate(ranks) for _ in range(start, end)]))
"""


def verify_placement(source: Path) -> list[dict[str, Any]]:
    """Where three engines put the layers of a plan for two devices; workers on loopback stand for llama.cpp's GPUs."""
    binaries = _build_llama_cpp()
    folder, config = _raw_gguf(source, "placement")
    plan = plan_architecture(
        read_config(config),
        np.full(config["num_hidden_layers"], 0.5),
        predictor=load_predictor(),
        memory=read_memory(devices=["150MiB", "180MiB"]),
    )
    assert plan.memory is not None
    runs, text = plan.memory.runs, language_model(plan)
    assert text is not None
    planned = [run.device for run in runs for _ in range(run.start, run.end)]
    for name, text in export(plan, "devices").files.items():
        (folder / name).write_text(text, "utf-8")
    (folder / "config.json").write_text(json.dumps(config), "utf-8")

    workers = [
        subprocess.Popen([str(binaries / "ggml-rpc-server"), "-p", str(port)], stdout=sys.stderr) for port in PORTS
    ]
    try:
        time.sleep(2)
        hosts = ",".join(f"127.0.0.1:{port}" for port in PORTS)
        split = (folder / "llama_cpp_args.txt").read_text("utf-8").split()
        log = _complete(binaries, folder / "raw.gguf", "--rpc", hosts, "-v", *split).stderr
        by_split = [int(device) for _, device in sorted(_logged(r"layer +(\d+) assigned to device RPC(\d)", log))]
        rules = overrides(runs, text_layers(plan, text, runs), "RPC0[127.0.0.1:{}]")
        for number, port in enumerate(PORTS):
            rules = rules.replace(f":{number}]", f":{port}]")
        # All layers on the first device, then the rules move tensors to where they belong.
        everything = ["--n-gpu-layers", split[1], "--tensor-split", "1,0"]
        log = _complete(binaries, folder / "raw.gguf", "--rpc", hosts, "-v", *everything, "-ot", rules).stderr
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
    moved = _logged(r"tensor blk\.(\d+)\.attn_q\.weight .*buffer type overridden to RPC0\[127.0.0.1:(\d+)\]", log)
    by_rule = [PORTS.index(port) for _, port in sorted(moved)]

    accelerate, versions = _environment("bitsandbytes", SETTINGS["bitsandbytes"])
    files = [str(folder / "config.json"), str(folder / "device_map.json")]
    by_map = _resolved(accelerate, DEVICE_MAP, *files)
    engine, engine_versions = _environment("vllm", ENGINES["vllm"])
    name, _, value = (folder / "vllm_env.txt").read_text("utf-8").strip().partition("=")
    by_rank = _resolved(engine, PARTITION, str(len(planned)), str(len(runs)), **{name: value})

    def row(engine: str, versions: str, **found: tuple[str, list[int]]) -> dict[str, Any]:
        formats = {
            name.replace("_", "-"): {
                "functions": how,
                "wrong": [[i, a, b] for i, (a, b) in enumerate(zip_longest(expected(devices), devices)) if a != b],
            }
            for name, (how, devices) in found.items()
        }
        return {
            "engine": engine,
            "versions": versions,
            "modules": len(planned),
            "placement": [[run.device, run.start, run.end] for run in runs],
            "formats": formats,
        }

    def expected(devices: list[int]) -> list[int]:
        """llama.cpp counts the output as one more layer."""
        return planned + planned[-1:] if len(devices) > len(planned) else planned

    return [
        row(
            "llama.cpp placement",
            LLAMA_CPP.replace("==", " "),
            tensor_split=("llama-completion on two ggml-rpc-server", by_split),
            override_tensor=("llama-completion on two ggml-rpc-server", by_rule),
        ),
        row("transformers placement", versions, device_map=("accelerate.utils.check_device_map", by_map)),
        row("vllm placement", engine_versions, partition=("vllm.distributed.utils.get_pp_indices", by_rank)),
    ]


def _logged(pattern: str, log: str) -> set[tuple[int, int]]:
    """The pairs of numbers that a pattern finds; llama.cpp logs the layers twice, before and while it loads."""
    return {(int(a), int(b)) for a, b in re.findall(pattern, log)}


def _resolved(python: Path, code: str, *arguments: str, **environment: str) -> list[int]:
    """What `code` prints after the word resolved."""
    answer = subprocess.run(
        [str(python), "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    lines = [line for line in answer.stdout.splitlines() if line.startswith("resolved ")]
    if not lines:
        raise SystemExit(answer.stderr)
    found: list[int] = json.loads(lines[-1].removeprefix("resolved "))
    return found


def _complete(binaries: Path, model: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    prompt = "The capital of France is"
    command = [str(binaries / "llama-completion"), "-m", str(model), "-p", prompt, "-n", "6", "--temp", "0"]
    command += ["-no-cnv", "-t", "2", "--no-warmup", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def _build_llama_cpp() -> Path:
    """The folder of llama.cpp's programs, built where they are missing."""
    folder = WORK / "llama.cpp"
    binaries = folder / "build" / "bin"
    programs = ["llama-quantize", "llama-completion", "ggml-rpc-server"]
    if not all((binaries / program).exists() for program in programs):
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "llama-cpp-python", LLAMA_CPP]
        subprocess.run([*pip, "-d", str(folder)], check=True)
        subprocess.run(["tar", "xzf", str(next(folder.glob("*.tar.gz"))), "-C", str(folder)], check=True)
        source = next(folder.glob("llama_cpp_python-*/vendor/llama.cpp"))
        switches = (
            "GGML_RPC=ON",
            "LLAMA_BUILD_TESTS=OFF",
            "LLAMA_CURL=OFF",
            "LLAMA_OPENSSL=OFF",
            "BUILD_SHARED_LIBS=OFF",
        )
        defined = [f"-D{switch}" for switch in ("CMAKE_BUILD_TYPE=Release", *switches)]
        subprocess.run(["cmake", "-S", str(source), "-B", str(folder / "build"), *defined], check=True)
        subprocess.run(["cmake", "--build", str(folder / "build"), "-j", "2", "--target", *programs], check=True)
    return binaries


CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "gemma3": "Gemma3ForCausalLM"}


def _raw_gguf(source: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """A fresh folder with raw.gguf, the source in bfloat16, and the model's config."""
    folder = WORK / "out" / name
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    folder.mkdir(parents=True)
    return folder, _dequantize(source, folder / "raw.gguf")


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
        "model_type": {"gemma3": "gemma3_text"}.get(kind, kind),
        "architectures": [CLASSES[kind]],
        **({"head_dim": field("gemma3.attention.key_length")} if kind == "gemma3" else {}),
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
            f"| {row['predicted_bytes']:,} / {row['written_bytes']:,} | {row['size_error']:+.3%}{_file(row)} "
            f"| {row['generated'] or 'no: ' + ' '.join(row['generation_error'])} |"
        )
    lines += ["", "| engine | versions | config | functions called | as planned |", "|---|---|---|---|---|"]
    for row in json.loads(RESOLVED.read_text("utf-8")).values():
        for name, found in row["formats"].items():
            right = row["modules"] - len(found["wrong"])
            lines.append(
                f"| {row['engine']} | {row['versions']} | {name} | {found['functions']} | {right} of {row['modules']} |"
            )
    return "\n".join(lines)


def _file(row: dict[str, Any]) -> str:
    """The error of the whole file, where header and tokenizer are part of it."""
    return f", file {row['file_error']:+.2%}" if "file_error" in row else ""


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
    file, name = (RESOLVED, row["engine"]) if "engine" in row else (RESULTS, row["tool"])
    kept = json.loads(file.read_text("utf-8")) if file.exists() else {}
    file.write_text(json.dumps(dict(sorted((kept | {name: row}).items())), indent=2) + "\n", "utf-8")
    print(json.dumps(row, indent=2))


def main() -> None:
    names = sys.argv[1:] or ["table"]
    if names == ["errors"]:
        errors()
    elif names[0] in ("gguf", "llama.cpp"):
        _keep({"gguf": verify_gguf, "llama.cpp": verify_llama_cpp}[names[0]](Path(names[1])))
    elif names[0] == "placement":
        for row in verify_placement(Path(names[1])):
            _keep(row)
    elif names == ["table"]:
        print(table())
    else:
        for tool in [*SETTINGS, *ENGINES] if names == ["all"] else names:
            _keep(resolve(tool) if tool in ENGINES else verify(tool))


if __name__ == "__main__":
    main()
