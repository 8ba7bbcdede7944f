"""What quantization tools really write: tiny checkpoints, kept as config and header in tests/data/stored_formats.json.

    python tools/stored_formats.py [NAME ...]

Needs torch, transformers, bitsandbytes and compressed-tensors (the `oracle` extra), and for the cases named after them
auto-round 0.16.1, nvidia-modelopt 0.47.0, amd-quark 0.13 and mlx-lm 0.32.2. A small llama with random weights, whose
widths are no multiples of 128, is quantized with each scheme and saved; the config and the name, dtype and shape of
every stored tensor are kept. `tests/test_quantized.py` holds FastEWQ's bytes to them.
"""

from __future__ import annotations

import copy
import json
import logging
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
from compressed_tensors.quantization.quant_scheme import preset_name_to_scheme
from safetensors.torch import load_file, save_file
from transformers import (
    BitNetQuantConfig,
    BitsAndBytesConfig,
    FbgemmFp8Config,
    FineGrainedFP8Config,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.integrations import fbgemm_fp8
from transformers.integrations.bitnet import replace_with_bitnet_linear
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
MODELOPT = (
    "FP8_DEFAULT_CFG",
    "FP8_PER_CHANNEL_PER_TOKEN_CFG",
    "FP8_2D_BLOCKWISE_WEIGHT_ONLY_CFG",
    "NVFP4_DEFAULT_CFG",
    "NVFP4_MLP_ONLY_CFG",
    "W4A16_NVFP4_CFG",
    "W4A8_NVFP4_FP8_CFG",
    "MXFP4_DEFAULT_CFG",
    "MXFP8_DEFAULT_CFG",
    "INT4_AWQ_CFG",
    "W4A8_AWQ_BETA_CFG",
    "INT8_SMOOTHQUANT_CFG",
    "INT8_WEIGHT_ONLY_CFG",
)
QUARK = (
    "uint4_wo_32",
    "int4_wo_per_channel",
    "int8",
    "fp8",
    "ptpc_fp8",
    "mxfp4",
    "mxfp4_fp8",
    "mxfp6_e3m2",
    "amdfp4",
    "int4_fp8",
    "nvfp4",
)


def model(**sizes: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    found = LlamaForCausalLM(LlamaConfig(**CONFIG | sizes, architectures=["LlamaForCausalLM"])).to(torch.bfloat16)
    found.config.dtype = torch.bfloat16
    return found


def loaded(folder: Path, settings: Any) -> None:
    """Quantized by the transformers library on loading, then saved."""
    model().save_pretrained(folder / "plain")
    found = LlamaForCausalLM.from_pretrained(
        folder / "plain", quantization_config=settings, dtype=torch.bfloat16, device_map="cpu"
    )
    found.save_pretrained(folder / "saved")


def replaced(folder: Path, replace: Callable[..., Any], settings: Any, **sizes: int) -> None:
    """The library's modules for a method, with arbitrary values: rounding itself needs a GPU or another tool."""
    found = model(**sizes)
    kept = settings.modules_to_not_convert or ["lm_head"]
    replace(found, modules_to_not_convert=kept, quantization_config=settings, pre_quantized=True)
    empty = {name: torch.empty(t.shape, dtype=t.dtype) for name, t in found.state_dict().items() if t.is_meta}
    found.load_state_dict(empty, strict=False, assign=True)
    found.save_pretrained(folder / "saved")
    config = folder / "saved" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": settings.to_dict()}))


def fine_grained(folder: Path, settings: FineGrainedFP8Config) -> None:
    replaced(folder, replace_with_fp8_linear, settings)


def fbgemm(folder: Path, *kept: str) -> None:
    """The kernel, which needs a GPU, is asked for when modules are made and used when they run."""
    with mock.patch.object(fbgemm_fp8, "get_quantize_fp8_per_row"):
        settings = FbgemmFp8Config(modules_to_not_convert=[*kept, "lm_head"])
        replaced(folder, fbgemm_fp8.replace_with_fbgemm_fp8_linear, settings)


def bitnet(folder: Path, settings: BitNetQuantConfig, **sizes: int) -> None:
    def replace(found: LlamaForCausalLM, *, pre_quantized: bool, **how: Any) -> None:  # noqa: ARG001
        replace_with_bitnet_linear(found, **how)

    replaced(folder, replace, settings, **sizes)


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


class NoTokenizer:
    """AutoRound saves a tokenizer beside the model."""

    def save_pretrained(self, *_: Any, **__: Any) -> None:
        return


def auto_rounded(folder: Path, form: str, scheme: str, **settings: Any) -> None:
    """Rounded to nearest and saved by AutoRound, in its own format or in that of another tool."""
    from auto_round import AutoRound

    effort = {"iters": 0, "disable_opt_rtn": True, "device_map": "cpu"}
    AutoRound(model(), tokenizer=NoTokenizer(), scheme=scheme, **effort, **settings).quantize_and_save(
        str(folder / "written"), format=form
    )
    saved = next((folder / "written").rglob("config.json")).parent.rename(folder / "saved")
    for file in saved.glob("*.safetensors"):
        # On a processor without bfloat16 AutoRound works in float32 and saves what it kept that way.
        found = load_file(file)
        kept = {
            n: t.to(torch.bfloat16) if t.dtype == torch.float32 and not n.endswith("scale") else t
            for n, t in found.items()
        }
        save_file(kept, file, metadata={"format": "pt"})
    config = saved / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "bfloat16"}))


def texts() -> torch.Tensor:
    """Two made-up texts: calibration must run, its results do not matter here."""
    torch.manual_seed(1)
    return torch.randint(0, CONFIG["vocab_size"], (2, 16))


def model_optimized(folder: Path, *names: str) -> None:
    """Quantized by ModelOpt with one of its presets; a second one is for feed-forwards alone."""
    import modelopt.torch.quantization as mtq
    from modelopt.torch.export import export_hf_checkpoint

    preset = copy.deepcopy(getattr(mtq, names[0]))
    for name in names[1:]:
        own = [
            entry for entry in getattr(mtq, name)["quant_cfg"] if entry.get("quantizer_name", "").startswith("*weight")
        ]
        own += [
            entry for entry in getattr(mtq, name)["quant_cfg"] if entry.get("quantizer_name", "").startswith("*input")
        ]
        preset["quant_cfg"] = [
            *preset["quant_cfg"],
            *({**entry, "quantizer_name": entry["quantizer_name"].replace("*", "*mlp*", 1)} for entry in own),
        ]
    # Integers of 4 bits are packed in whole groups of 128 only.
    sizes = {"hidden_size": 384, "intermediate_size": 768, "head_dim": 64} if "AWQ" in names[0] else {}
    found = mtq.quantize(model(**sizes), preset, lambda quantized: quantized(texts()))
    export_hf_checkpoint(found, export_dir=folder / "saved")


def quarked(folder: Path, **settings: Any) -> None:
    """Quantized by Quark with one of its schemes."""
    from quark.torch import LLMTemplate, ModelQuantizer, export_safetensors

    quantizer = ModelQuantizer(LLMTemplate.get("llama").get_config(**settings))
    found = quantizer.quantize_model(model(), torch.utils.data.DataLoader(texts(), batch_size=1))
    export_safetensors(model=quantizer.freeze(found), output_dir=str(folder / "saved"))


def mlx_quantized(folder: Path, bits: int, group: int, mode: str = "affine", wider: str = "") -> None:
    """Quantized by mlx-lm; `wider`: a module that gets 8 bits in groups of 64."""
    from mlx_lm.utils import load_model, quantize_model, save_config, save_model

    def settings(path: str, _: Any) -> bool | dict[str, int]:
        return {"group_size": 64, "bits": 8} if path == wider else True

    model().save_pretrained(folder / "plain")
    found, config = quantize_model(
        *load_model(folder / "plain"), group_size=group, bits=bits, mode=mode, quant_predicate=settings
    )
    (folder / "saved").mkdir()
    save_model(folder / "saved", found)
    save_config(config, config_path=folder / "saved" / "config.json")


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
    "fp8": lambda folder: fine_grained(folder, FineGrainedFP8Config(weight_block_size=(128, 128))),
    "fp8 per matrix, static": lambda folder: fine_grained(
        folder, FineGrainedFP8Config(weight_block_size=None, activation_scheme="static")
    ),
    "fp8 kept": lambda folder: fine_grained(
        folder, FineGrainedFP8Config(modules_to_not_convert=["model.layers.0.self_attn", "down_proj", "lm_head"])
    ),
    "fbgemm": lambda folder: fbgemm(folder),
    "fbgemm kept": lambda folder: fbgemm(folder, "model.layers.0.self_attn", "down_proj"),
    "bitnet": lambda folder: bitnet(folder, BitNetQuantConfig()),
    "bitnet kept": lambda folder: bitnet(
        folder, BitNetQuantConfig(modules_to_not_convert=["model.layers.0.self_attn", "down_proj", "lm_head"])
    ),
    "bitnet online": lambda folder: bitnet(
        folder, BitNetQuantConfig(linear_class="autobitlinear", quantization_mode="online")
    ),
    **{f"compressed-tensors {name}": lambda folder, name=name: compressed(folder, name) for name in COMPRESSED},
    "compressed-tensors ignore": lambda folder: compressed(
        folder, "W4A16", ("lm_head", "re:.*self_attn.*", "model.layers.1.mlp.down_proj")
    ),
    "gptq 4-bit": lambda folder: auto_rounded(folder, "auto_gptq", "W4A16", group_size=32),
    "gptq 8-bit": lambda folder: auto_rounded(folder, "auto_gptq", "W8A16", group_size=32),
    "awq": lambda folder: auto_rounded(folder, "auto_awq", "W4A16", group_size=32, sym=False),
    "auto-round": lambda folder: auto_rounded(folder, "auto_round", "W4A16", group_size=32),
    "auto-round 3-bit": lambda folder: auto_rounded(folder, "auto_round", "W3A16", group_size=32),
    "auto-round as awq": lambda folder: auto_rounded(folder, "auto_round", "W4A16", group_size=32, sym=False),
    "auto-round mixed": lambda folder: auto_rounded(
        folder, "auto_round", "W4A16", group_size=32, layer_config={"model.layers.1.mlp.down_proj": {"bits": 8}}
    ),
    "auto-round fp8": lambda folder: auto_rounded(folder, "auto_round", "FPW8A16"),
    "auto-round MXFP4": lambda folder: auto_rounded(folder, "auto_round", "MXFP4"),
    "auto-round MXFP8": lambda folder: auto_rounded(folder, "auto_round", "MXFP8"),
    **{f"modelopt {name}": lambda folder, name=name: model_optimized(folder, name) for name in MODELOPT},
    "modelopt mixed": lambda folder: model_optimized(folder, "FP8_DEFAULT_CFG", "NVFP4_DEFAULT_CFG"),
    **{f"quark {name}": lambda folder, name=name: quarked(folder, scheme=name) for name in QUARK},
    "mlx 3-bit": lambda folder: mlx_quantized(folder, 3, 64),
    "mlx 4-bit": lambda folder: mlx_quantized(folder, 4, 32),
    "mlx mixed": lambda folder: mlx_quantized(folder, 4, 32, wider="model.layers.1.mlp.down_proj"),
    "mlx mxfp4": lambda folder: mlx_quantized(folder, 4, 32, "mxfp4"),
    "mlx mxfp8": lambda folder: mlx_quantized(folder, 8, 32, "mxfp8"),
    "mlx nvfp4": lambda folder: mlx_quantized(folder, 4, 16, "nvfp4"),
    "quark layers": lambda folder: quarked(folder, scheme="mxfp4", layer_config={"*down_proj": "fp8"}),
    "quark cache": lambda folder: quarked(folder, scheme="fp8", kv_cache_scheme="fp8"),
    "quark exclude": lambda folder: quarked(folder, scheme="uint4_wo_32", exclude_layers=["lm_head", "*self_attn*"]),
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
