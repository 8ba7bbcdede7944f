"""llm-compressor (a recipe that quantizes) and compressed-tensors (the quantization_config that vLLM and SGLang read).

Targets are regular expressions matched from the start, closed at both ends and disjoint: in an overlap the later group
won. The names of fused modules are in the alternation as well, since vLLM looks for `qkv_proj` first. In the recipe the
patterns stand in single quotes: YAML leaves backslashes alone there.
"""

from __future__ import annotations

from typing import Any

from fastewq.exports.assignment import Assignment, engine_names, expert_regexes, head_regex, of_the_very_class, regexes
from fastewq.exports.base import Parts, Tool, json_text, scripts
from fastewq.schemes import Scheme


def adapt(assignment: Assignment) -> Assignment:
    """Without modules of classes that llm-compressor would round, but not pack, so that no engine loads them."""
    return of_the_very_class(assignment, "llm-compressor")


def build(assignment: Assignment) -> Parts:
    engines = engine_names(assignment)
    groups = {
        f"group_{number}": {
            "targets": [f"re:{pattern}" for pattern in regexes(modules, engines=engines)],
            "weights": _weights(scheme),
        }
        for number, (scheme, modules) in enumerate(assignment.by_scheme().items())
    }
    # llm-compressor takes stacked experts apart, and vLLM asks for them one by one.
    kept = regexes(assignment.kept, engines=engines) + head_regex(assignment) + expert_regexes(assignment, engines)
    ignore = [f"re:{pattern}" for pattern in kept]
    return Parts(
        {
            "recipe.yaml": _yaml(groups, ignore),
            "quantization_config.json": json_text(quantization_config(groups, ignore)),
            **scripts("llm_compressor.py"),
        },
        "python quantize.py MODEL OUT    # then: vllm serve OUT\n"
        "quantization_config.json is what the config of OUT then holds; quantize.py does not need it.\n",
    )


def _weights(scheme: Scheme) -> dict[str, Any]:
    arguments: dict[str, Any] = {"num_bits": scheme.bits, "type": "int", "symmetric": True}
    if scheme.group:
        return {**arguments, "strategy": "group", "group_size": scheme.group}
    return {**arguments, "strategy": "channel"}


def quantization_config(groups: dict[str, Any], ignore: list[str]) -> dict[str, Any]:
    """What stands in the config.json of a checkpoint that llm-compressor wrote with this recipe."""
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": ignore,
        "kv_cache_scheme": None,
    }


def _yaml(groups: dict[str, Any], ignore: list[str]) -> str:
    lines = ["default_stage:", "  default_modifiers:", "    QuantizationModifier:", "      ignore:"]
    lines += [f"        - {_quoted(pattern)}" for pattern in ignore]
    lines.append("      config_groups:" if groups else "      config_groups: {}")
    for name, group in groups.items():
        lines += [f"        {name}:", "          targets:"]
        lines += [f"            - {_quoted(target)}" for target in group["targets"]]
        arguments = ", ".join(f"{key}: {str(value).lower()}" for key, value in group["weights"].items())
        lines.append(f"          weights: {{{arguments}}}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


TOOL = Tool("llm-compressor", "compressed-tensors", "llm-compressor 0.14.0.1, compressed-tensors 0.19.0", build, adapt)
