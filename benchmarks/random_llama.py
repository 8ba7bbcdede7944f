"""A llama model with random weights as a folder in the transformers layout, written without torch.

Twelve blocks, so that block 1 and blocks 10 and 11 exist together; widths of SmolLM2-135M (576 is no multiple of 128).
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from fastewq.config import read_config

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "num_hidden_layers": 12,
    "vocab_size": 512,
    "max_position_embeddings": 512,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "dtype": "bfloat16",
}


def write_model(folder: Path, dtype: str = "bfloat16", seed: int = 0) -> dict[str, Any]:
    """Write config.json, model.safetensors and a byte-level tokenizer; returns the config. `dtype` may be float16."""
    folder.mkdir(parents=True, exist_ok=True)
    random, scales = np.random.default_rng(seed).spawn(2)
    tensors = {}
    architecture = read_config(CONFIG)
    owners = [(block.path, block.layout.tensors) for stack in architecture.stacks for block in stack.blocks]
    for path, parts in owners + [(group.path, group.tensors) for group in architecture.outside]:
        for tensor in parts:
            norm = tensor.role == "norm"
            values = scales.normal(1, 0.1, tensor.shape) if norm else random.normal(0, 0.05, tensor.shape)
            full = values.astype(np.float32)
            tensors[f"{path}.{tensor.name}"] = _bfloat16(full) if dtype == "bfloat16" else full.astype(np.float16)
    _write_safetensors(folder / "model.safetensors", tensors, "BF16" if dtype == "bfloat16" else "F16")
    config = {**CONFIG, "dtype": dtype}
    (folder / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
    _write_tokenizer(folder)
    return config


def _bfloat16(values: np.ndarray) -> np.ndarray:
    """The upper halves of float32 values, rounded to nearest even."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _write_safetensors(path: Path, tensors: dict[str, np.ndarray], dtype: str) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, values in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(values.shape),
            "data_offsets": [offset, offset + values.nbytes],
        }
        offset += values.nbytes
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(values.tobytes())


def _write_tokenizer(folder: Path, words: int = 258) -> None:
    """One token per byte, two special ones and others up to `words`, in the format of the tokenizers library."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    special = ["<s>", "</s>", *(f"<{i}>" for i in range(258, words))]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": 256 + i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for i, text in enumerate(special)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "vocab": {letters[byte]: byte for byte in range(256)}, "merges": [],
        },
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": special[0], "eos_token": special[1]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
