"""LLaVA as its own code has it: a tower by name, below a language model whose fields are at the top of the config.

Follows LLaVA-VL/LLaVA-NeXT, llava/model/llava_arch.py, multimodal_encoder, multimodal_projector and language_model.
They are never run. Files of LLaVA 1.5 lack the tower, which was not trained; the model has it all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastewq.architectures.assembly import WIDTH, Adjusted, Assembly, At, Expect, Nested, Parameter, Rest, When
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import Tensors, linear
from fastewq.architectures.remote.bunny import CUT
from fastewq.architectures.remote.fastvit import FASTVITHD
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.remote.multimodal import CLIP_336
from fastewq.architectures.text import TEXT
from fastewq.architectures.vision.clip import VISION
from fastewq.errors import UnsupportedArchitecture
from fastewq.shown import shown

TOWERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "clip-vit-large-patch14-336": CLIP_336,
    "clip-vit-large-patch14": {**CLIP_336, "image_size": 224},
    "siglip-so400m-patch14-384": CUT,
}
MOBILECLIP: Final = "mobileclip_l_"
PROJECTOR: Final = re.compile(r"linear|mlp([1-9])x_gelu")


def projector(f: Fields) -> Tensors:
    """One matrix, or several with an activation between them."""
    kind = f.text("mm_projector_type", "linear")
    found = PROJECTOR.fullmatch(kind)
    if found is None:
        raise f.refuse("mm_projector_type", kind, "linear or a kind such as mlp2x_gelu")
    seen, width = f["mm_hidden_size"], f[WIDTH]
    if found[1] is None:
        return linear("mm_projector", width, seen, True)
    later = [linear(f"mm_projector.{2 * i}", width, width, True) for i in range(1, int(found[1]))]
    return sum(later, linear("mm_projector.0", width, seen, True))


def unpads(f: Fields) -> bool:
    """Rows of patches end with a vector of their own."""
    return "unpad" in f.text("mm_patch_merge_type", "flat")


def parts(tower: BodyBuilder) -> Assembly:
    return Assembly(
        Expect("mm_resampler_type", None),
        Expect("s2", False),
        Nested("text_config", "", TEXT, "ForCausalLM"),
        At(
            "model",
            At("vision_tower.vision_tower", tower),
            Rest(projector, When(unpads, Parameter("image_newline", (WIDTH,)))),
        ),
    )


PARTS = parts(Nested("vision_config", "vision_model", VISION))


def unknown(name: str, known: Iterable[str]) -> UnsupportedArchitecture:
    return UnsupportedArchitecture(f"mm_vision_tower is {shown(name)}; known are {', '.join(known)}")


def speaking(f: Fields, speaks: str) -> Fields:
    return f.replaced(model_type=speaks).unflattened("text_config")


def llava(speaks: str, prefix: str) -> Model:
    """`speaks` is the type of the language model."""

    def sides(f: Fields) -> Fields:
        name = f.text("mm_vision_tower")
        tower = TOWERS.get(name.rpartition("/")[2])
        if tower is None:
            raise unknown(name, TOWERS)
        return speaking(f, speaks).replaced(vision_config=tower)

    return one_class(prefix, "ForCausalLM", Adjusted(PARTS, sides))


def fast(f: Fields) -> Fields:
    """The tower's name ends in the resolution, on which no shape depends."""
    name = f.text("mm_vision_tower")
    if not name.startswith(MOBILECLIP):
        raise unknown(name, (f"{MOBILECLIP}1024",))
    return speaking(f, "qwen2")


LLAVA: Mapping[str, Model] = {
    "llava_llama": llava("llama", "LlavaLlama"),
    "llava_mistral": llava("mistral", "LlavaMistral"),
    "llava_qwen": llava("qwen2", "LlavaQwen"),
    # opendatalab/MinerU2.0-2505-0.9B, modeling_mineru2.py
    "mineru2_qwen": llava("qwen2", "Mineru2Qwen"),
    # apple/FastVLM-0.5B, llava_qwen.py
    "llava_qwen2": one_class("LlavaQwen2", "ForCausalLM", Adjusted(parts(At("model", FASTVITHD)), fast)),
}
