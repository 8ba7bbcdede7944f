"""Bunny and Phi-4 Vision: SigLIP's tower below a language model whose fields are at the top of the config.

Follows BAAI-DCAI/Bunny, bunny/model/bunny_arch.py, multimodal_encoder and multimodal_projector, and the one file that
each published model has of it, such as modeling_bunny_llama.py of BAAI/Bunny-Llama-3-8B-V, and
microsoft/Phi-4-reasoning-vision-15B, modeling_phi4_visionr.py; vLLM, models/phi4siglip.py. They are never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastewq.architectures.assembly import WIDTH, Adjusted, Assembly, At, Linear, Nested, Rest
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.remote.multimodal import nested
from fastewq.architectures.text import TEXT
from fastewq.architectures.vision.clip import VISION
from fastewq.errors import UnsupportedArchitecture

SO400M: Final = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}


PARTS = Assembly(
    Nested("text_config", "", TEXT, "ForCausalLM"),
    At(
        "model",
        Nested("vision_config", "vision_tower.vision_tower.vision_model", VISION),
        Rest(Linear("mm_projector.0", WIDTH, "mm_hidden_size"), Linear("mm_projector.2", WIDTH, WIDTH)),
    ),
)


def sides(f: Fields, speaks: str, tower: Mapping[str, Any]) -> Fields:
    """The same with a nested config for each side; `speaks` is the type of the language model."""
    f.choice("mm_projector_type", ("mlp2x_gelu",), "mlp2x_gelu")
    return f.replaced(model_type=speaks).unflattened("text_config").replaced(vision_config=tower)


def bunny(speaks: str, prefix: str, tower: Mapping[str, Any] = SO400M, *others: str) -> Model:
    def named(f: Fields) -> Fields:
        name = f.text("mm_vision_tower")
        if not name.endswith("siglip-so400m-patch14-384"):
            raise UnsupportedArchitecture(
                f"mm_vision_tower is {name[:80]!r}; of {f.model_type}, siglip-so400m-patch14-384 is known"
            )
        return sides(f, speaks, tower)

    return one_class(prefix, "ForCausalLM", Adjusted(PARTS, named), *others)


def phi4(f: Fields) -> Fields:
    return sides(f, "phi3", {**nested(f, "vision_config"), "model_type": "siglip2_vision_model"})


CUT: Final = {**SO400M, "num_hidden_layers": 26, "vision_use_head": False}
"""The tower without its last block and what pools, as the code of the first models has it."""

BUNNY: Mapping[str, Model] = {
    "bunny-phi": bunny("phi", "BunnyPhi", CUT),
    "bunny-qwen2": bunny("qwen2", "BunnyQwen2", CUT),
    # qnguyen3/nanoLLaVA, modeling_llava_qwen2.py
    "llava-qwen2": bunny("qwen2", "BunnyQwen", SO400M, "LlavaQwen2ForCausalLM"),
    "bunny-minicpm": bunny("minicpm", "BunnyMiniCPM"),
    "bunny-phi3": bunny("phi3", "BunnyPhi3"),
    "bunny-llama": bunny("llama", "BunnyLlama"),
    "phi4-siglip": one_class("Phi4", "ForCausalLMV", Adjusted(PARTS, phi4)),
}
