"""What quantization tools really write: tiny checkpoints, kept as config and header in tests/data/stored_formats.json.

    python tools/stored_formats.py [NAME ...]

Needs torch, transformers, bitsandbytes and compressed-tensors (the `oracle` extra). A small llama with random weights,
whose widths are no multiples of 128, is quantized with each scheme and saved; the config and the name, dtype and shape
of every stored tensor are kept. `tests/test_quantized.py` holds FastEWQ's bytes to them.
"""

from __future__ import annotations

import json
import logging
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
from compressed_tensors.quantization.quant_scheme import preset_name_to_scheme
from transformers import BitsAndBytesConfig, FineGrainedFP8Config, LlamaConfig, LlamaForCausalLM
from transformers.integrations.finegrained_fp8 import replace_with_fp8_linear

TARGET = Path(__file__).parents[1] / "tests" / "data" / "stored_formats.json"
CONFIG = {
    "vocab_size": 320,
    "hidden_size": 320,
    "intermediate_size": 704,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 48,
    "tie_word_embeddings": False,
}
NESTED = {"bnb_4bit_use_double_quant": True, "bnb_4bit_quant_type": "nf4"}
COMPRESSED = (
    "W4A16",
    "W4A16_ASYM",
    "W8A16",
    "W8A8",
    "FP8",
    "FP8_DYNAMIC",
    "FP8_BLOCK",
    "NVFP4",
    "NVFP4A16",
    "MXFP4A16",
    "MXFP8A16",
    "W3A16",
)


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**CONFIG)).to(torch.bfloat16)


def loaded(folder: Path, settings: Any) -> None:
    """Quantized by the transformers library on loading, then saved."""
    model().save_pretrained(folder / "plain")
    found = LlamaForCausalLM.from_pretrained(
        folder / "plain", quantization_config=settings, dtype=torch.bfloat16, device_map="cpu"
    )
    found.save_pretrained(folder / "saved")


def replaced(folder: Path, settings: FineGrainedFP8Config) -> None:
    """The modules of an fp8 checkpoint with arbitrary values: rounding itself needs a GPU."""
    found = model()
    kept = settings.modules_to_not_convert or ["lm_head"]
    replace_with_fp8_linear(found, modules_to_not_convert=kept, quantization_config=settings, pre_quantized=True)
    empty = {name: torch.empty(p.shape, dtype=p.dtype) for name, p in found.named_parameters() if p.is_meta}
    found.load_state_dict(empty, strict=False, assign=True)
    found.save_pretrained(folder / "saved")
    config = folder / "saved" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": settings.to_dict()}))


def compressed(folder: Path, name: str, ignore: tuple[str, ...] = ("lm_head",)) -> None:
    """Quantized by compressed-tensors with one of its presets; static scales of inputs are set to one."""
    found = model()
    scheme = preset_name_to_scheme(name, ["Linear"])
    if scheme.weights.strategy == "group":
        scheme.weights.group_size = 32
    apply_quantization_config(found, QuantizationConfig(config_groups={"group_0": scheme}, ignore=list(ignore)))
    for module in found.modules():
        own = getattr(getattr(module, "quantization_scheme", None), "weights", None)
        if own is not None:
            calibrate(module)
    compressor = ModelCompressor.from_pretrained_model(found)
    compressor.compress_model(found)
    found.save_pretrained(folder / "saved")
    compressor.update_config(str(folder / "saved"))


def calibrate(module: torch.nn.Module) -> None:
    """Scales that keep every packed value in range; their values do not matter here, their shapes do."""
    for name, parameter in module.named_parameters(recurse=False):
        if name.endswith("scale"):
            parameter.data.fill_(1.0)
        elif name.endswith("zero_point"):
            parameter.data.zero_()


def header(folder: Path) -> dict[str, list[Any]]:
    """name -> [dtype, shape] of every tensor in the folder's safetensors files."""
    found: dict[str, list[Any]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as stream:
            entries = json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))
        found |= {name: [e["dtype"], e["shape"]] for name, e in entries.items() if name != "__metadata__"}
    return dict(sorted(found.items()))


CASES: dict[str, Callable[[Path], None]] = {
    "bitsandbytes 8-bit": lambda folder: loaded(folder, BitsAndBytesConfig(load_in_8bit=True)),
    "bitsandbytes fp4": lambda folder: loaded(folder, BitsAndBytesConfig(load_in_4bit=True)),
    "bitsandbytes nf4 double": lambda folder: loaded(folder, BitsAndBytesConfig(load_in_4bit=True, **NESTED)),
    "bitsandbytes skip": lambda folder: loaded(
        folder,
        BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["model.layers.1.mlp", "o_proj", "lm_head"]),
    ),
    "fp8": lambda folder: replaced(folder, FineGrainedFP8Config(weight_block_size=(128, 128))),
    "fp8 per matrix, static": lambda folder: replaced(
        folder, FineGrainedFP8Config(weight_block_size=None, activation_scheme="static")
    ),
    "fp8 kept": lambda folder: replaced(
        folder, FineGrainedFP8Config(modules_to_not_convert=["model.layers.0.self_attn", "down_proj", "lm_head"])
    ),
    **{f"compressed-tensors {name}": lambda folder, name=name: compressed(folder, name) for name in COMPRESSED},
    "compressed-tensors ignore": lambda folder: compressed(
        folder, "W4A16", ("lm_head", "re:.*self_attn.*", "model.layers.1.mlp.down_proj")
    ),
}


def main() -> int:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    kept = json.loads(TARGET.read_text("utf-8")) if TARGET.is_file() else {}
    for name in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as folder:
            CASES[name](Path(folder))
            saved = Path(folder) / "saved"
            config = json.loads((saved / "config.json").read_text("utf-8"))
            kept[name] = {"config": config, "tensors": header(saved)}
            print(f"{name}: {len(kept[name]['tensors'])} tensors")
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(kept[name], separators=(',', ':'))}" for name in sorted(kept))
    temporary = TARGET.with_suffix(".tmp")
    temporary.write_text(f"{{\n{lines}\n}}\n", "utf-8")
    temporary.replace(TARGET)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
