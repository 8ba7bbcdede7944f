"""Prismatic VLMs and OpenVLA: one or two towers of the timm library, a projector and a language model.

Follows openvla/openvla, prismatic/extern/hf/modeling_prismatic.py and configuration_prismatic.py, which are never run.
The name of the towers decides their sizes; SigLIP's pooling is held though it is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from fastewq.architectures.assembly import (
    WIDTH,
    Adjusted,
    Assembly,
    Convolution,
    In,
    Nested,
    Norm,
    Only,
    Parameter,
    Rest,
    Under,
    patches,
)
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import Tensors, linear, unless
from fastewq.architectures.remote.deepseek_vl import BLOCK, SIGLIP
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.text import TEXT
from fastewq.architectures.vision.clip import vision_layers
from fastewq.errors import UnsupportedArchitecture
from fastewq.shown import shown


class Towers(NamedTuple):
    """Which towers a name means, and how large their images are."""

    dino: bool
    siglip: bool
    image_size: int


TOWERS: Final[Mapping[str, Towers]] = {
    "siglip-vit-so400m": Towers(False, True, 224),
    "siglip-vit-so400m-384px": Towers(False, True, 384),
    "dinov2-vit-l": Towers(True, False, 224),
    "dinosiglip-vit-so-224px": Towers(True, True, 224),
    "dinosiglip-vit-so-384px": Towers(True, True, 384),
}
DINO_SIZES: Final = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
SIGLIP_SIZES: Final = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
}
SPEAKS: Final = {"llama2": "llama", "vicuna": "llama", "mistral": "mistral", "phi": "phi"}
"""How the names of language models begin -> their model_type."""
DEFAULT_TOWER, DEFAULT_SPEAKER = "siglip-vit-so400m", "vicuna-v15-7b"


def sides(f: Fields) -> Fields:
    """The same with a config for each tower, and the language model's type, as the class finds them by name."""
    name = f.text("vision_backbone_id", DEFAULT_TOWER)
    towers = TOWERS.get(name)
    if towers is None:
        raise UnsupportedArchitecture(f"vision_backbone_id is {shown(name)}; known are {', '.join(TOWERS)}")
    fused = towers.dino and towers.siglip
    if f.value("use_fused_vision_backbone", None) is not None and f.flag("use_fused_vision_backbone") != fused:
        raise f.refuse("use_fused_vision_backbone", not fused, f"{str(fused).lower()} with {name}")
    speaker = f.text("llm_backbone_id", DEFAULT_SPEAKER)
    speaks = next((model_type for start, model_type in SPEAKS.items() if speaker.startswith(start)), None)
    if speaks is None:
        raise UnsupportedArchitecture(f"llm_backbone_id is {shown(speaker)}; known begin with {', '.join(SPEAKS)}")
    images: dict[str, Any] = {"model_type": "", "image_size": towers.image_size, "patch_size": 14}
    text = f.value("text_config", None)
    return f.replaced(
        dino=towers.dino,
        siglip=towers.siglip,
        dino_config={**images, **DINO_SIZES},
        siglip_config={**images, **SIGLIP_SIZES},
        text_config={**text, "model_type": speaks} if isinstance(text, Mapping) else text or {"model_type": speaks},
    )


DINO = Assembly(
    Rest(
        Convolution("patch_embed.proj", WIDTH, 3, ("patch_size", "patch_size")),
        Parameter("cls_token", (1, 1, WIDTH), "embedding"),
        Parameter("reg_token", (1, 4, WIDTH), "embedding"),
        Parameter("pos_embed", (1, patches, WIDTH), "embedding"),
        Norm("norm"),
    ),
    vision_layers(
        "blocks",
        *BLOCK,
        Parameter("ls1.scale_factor", (WIDTH,)),
        Parameter("ls2.scale_factor", (WIDTH,)),
        name="dino",
    ),
)


def both(f: Fields) -> bool:
    return f.flag("dino") and f.flag("siglip")


def projector(f: Fields) -> Tensors:
    """Two towers' features pass a wider layer first."""
    dino, siglip = (f.sub(f"{name}_config")[WIDTH] for name in ("dino", "siglip"))
    width = f["text_config.hidden_size"]
    if not both(f):
        seen = dino if f.flag("dino") else siglip
        return (*linear("fc1", width, seen, True), *linear("fc2", width, width, True))
    seen = dino + siglip
    later = (*linear("fc2", width, 4 * seen, True), *linear("fc3", width, width, True))
    return (*linear("fc1", 4 * seen, seen, True), *later)


FEATURES = "vision_backbone.featurizer"
PARTS = Assembly(
    Only("dino", In("dino_config", DINO, path=FEATURES)),
    Only(unless("dino"), In("siglip_config", SIGLIP, path=FEATURES)),
    Only(both, In("siglip_config", SIGLIP, path="vision_backbone.fused_featurizer")),
    Rest(Under("projector", projector)),
    Nested("text_config", "language_model", TEXT, "ForCausalLM"),
)

PRISMATIC: Mapping[str, Model] = {
    "openvla": one_class("OpenVLA", "ForActionPrediction", Adjusted(PARTS, sides)),
    "prismatic": one_class("Prismatic", "ForConditionalGeneration", Adjusted(PARTS, sides)),
}
