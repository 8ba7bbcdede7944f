"""The configs that ask for the most work: every block of another shape, with the longest lists that are followed."""

from __future__ import annotations

from typing import Any

from fastewq.architectures.fields import MAX_LAYOUTS

BITS4 = {"num_bits": 4, "type": "int", "strategy": "group", "symmetric": True}


def heterogeneous(layers: int) -> dict[str, Any]:
    """Every block of another shape."""
    blocks = [{"attention": {"n_heads_in_group": 8}, "ffn": {"ffn_mult": 1 + i / 1000}} for i in range(layers)]
    return {
        "model_type": "nemotron-nas",
        "architectures": ["DeciLMForCausalLM"],
        "hidden_size": 8192,
        "num_attention_heads": 64,
        "num_key_value_heads": None,
        "intermediate_size": None,
        "num_hidden_layers": layers,
        "vocab_size": 128_256,
        "block_configs": blocks,
    }


def block(number: int) -> str:
    return f"model.layers.{number % MAX_LAYOUTS}"


def costly() -> dict[str, dict[str, Any]]:
    """By what makes them costly."""
    base = heterogeneous(MAX_LAYOUTS)

    def quantized(method: str, **fields: Any) -> dict[str, Any]:
        return {**base, "quantization_config": {"quant_method": method, **fields}}

    def ignoring(entries: list[str]) -> dict[str, Any]:
        return quantized("fp8", ignore=entries)

    def groups(*targets: list[str]) -> dict[str, Any]:
        formats = [{"targets": named, "weights": {**BITS4, "group_size": i + 1}} for i, named in enumerate(targets)]
        return quantized("compressed-tensors", config_groups={f"group_{i}": entry for i, entry in enumerate(formats)})

    return {
        "every block of another shape": base,
        "100,000 layers": {**base, "num_hidden_layers": 100_000},
        "the same in fp8": ignoring([]),
        "with 1,024 modules kept": ignoring([f"{block(i)}.mlp.part{i}" for i in range(1024)]),
        "with 16,000 experts kept": ignoring([f"{block(i)}.mlp.experts.{i}.up_proj" for i in range(16_000)]),
        "with 96 wildcards": ignoring([f"*{'a' * (i % 50)}*b*c*d{'e' * i}" for i in range(96)]),
        "with 96 regular expressions": ignoring([f"re:.*(a|b){'c' * i}.*d" for i in range(48)]),
        "with a pattern for any block": ignoring(["re:.*layers.1.*a.*a.*b"]),
        "with 60 formats for 17 modules each": groups(
            *([f"{block(17 * i + j)}.mlp.part" for j in range(17)] for i in range(60))
        ),
        "with 60 formats for 1,024 modules each": groups(
            *([f"{block(j)}.mlp.part{i}" for j in range(1024)] for i in range(60))
        ),
        "with 60 formats for 96 patterns each": groups(*([f"re:.*x{i}y{j}z.*" for j in range(96)] for i in range(60))),
        "with 60 formats for 96 names each": groups(*([f"a{i}.b{j}q" for j in range(96)] for i in range(60))),
        "with 4,096 modules of their own format": quantized(
            "auto-round",
            bits=4,
            extra_config={f"{block(i)}.mlp.part{i}": {"bits": 2 + i % 7, "group_size": i % 9 + 1} for i in range(4096)},
        ),
        "with 1,000 modules of their own format": quantized(
            "modelopt",
            quant_algo="MIXED_PRECISION",
            quantized_layers={
                f"{block(i)}.mlp.part{i}": {"quant_algo": "W4A16", "group_size": i % 60 + 1} for i in range(1000)
            },
        ),
        "with a format for 32,000 experts": quantized(
            "modelopt",
            quant_algo="MIXED_PRECISION",
            quantized_layers={f"{block(i)}.mlp.experts.{i}.up_proj": {"quant_algo": "FP8"} for i in range(32_000)},
        ),
    }
