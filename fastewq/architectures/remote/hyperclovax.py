"""HyperCLOVA X SEED's models that see, as their repositories' own code lays them out.

Follows naver-hyperclovax/HyperCLOVAX-SEED-Think-32B, modeling_vlm.py, and for the 3B model, which is older, vLLM,
models/hyperclovax_vision.py, whose parameters are those of its files but for layers of the tower that it leaves out.
They are never run. What the library reads itself is `hyperclovax_vision_v2`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastewq.architectures.assembly import Adjusted, Assembly, In, Linear, Nested, Parameter, Rest, When, tensors
from fastewq.architectures.body import Body, BodyBuilder
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import Tensors
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.remote.kanana import ABSTRACTOR
from fastewq.architectures.remote.multimodal import nested
from fastewq.architectures.text import TEXT
from fastewq.architectures.vision_language.multimodal import EYES, MOUTH

GPT_NAMES: Final = {
    "n_embd": "hidden_size",
    "n_positions": "max_position_embeddings",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
}
QWENS: Final = ("qwen2_5_vl", "qwen2_5_vl_visual", "qwen2_5_vl_vision")
UNCOUNTED: Final = ("audio_config", "discrete_audio_config", "discrete_vision_config")
PROJECTORS: Final = ("linear", "mlp", "inverted_mlp", "cabstractor")


def eye(f: Fields, path: str) -> Body:
    """The tower; CLIP's and SigLIP's classes held the model one level deeper when these files were made."""
    deeper = f.sub("vision_config").model_type in ("clip_vision_model", "siglip_vision_model")
    return Nested("vision_config", "vision_model.vision_model" if deeper else "vision_model", EYES)(f, path)


def seen_width(f: Fields) -> int:
    qwen = f.sub("vision_config").model_type == "qwen2_5_vl_vision"
    return f["vision_config.out_hidden_size" if qwen else "vision_config.hidden_size"]


def typed(f: Fields) -> Fields:
    """The same with the library's types and names of what it is made of, and the sizes of its abstractor."""
    seen, spoken = nested(f, "vision_config"), nested(f, "text_config")
    if seen.get("model_type") in QWENS:
        seen = {**seen, "model_type": "qwen2_5_vl_vision"}
    spoken = {GPT_NAMES.get(name, name): value for name, value in spoken.items()}
    f = f.replaced(vision_config=seen, text_config=spoken)
    if f.choice("mm_projector_type", PROJECTORS) != "cabstractor":
        return f
    width = seen_width(f)
    sizes = {
        "depth": 3,
        "mlp_depth": 2,
        "encoder_hidden_size": width,
        "hidden_size": width,
        "output_hidden_size": f[MOUTH],
        "merge_size": 1,
        "num_eos_tokens": 0,
        "pos_emb": f.flag("proj_pos_emb", True),
        "pos_emb_size": (f["vision_config.image_size"] // f["vision_config.patch_size"]) ** 2,
        "prenorm": f.flag("proj_prenorm", False),
    }
    return f.replaced(projector_config={**sizes, "model_type": ""})


def projected(f: Fields) -> Tensors:
    kind = f.choice("mm_projector_type", PROJECTORS)
    if kind == "linear":
        return tensors(f, (Linear("mm_projector", MOUTH, seen_width),))
    inner = seen_width(f) * (2 if kind == "inverted_mlp" else 1)
    parts = (Linear("mm_projector.fc1", inner, seen_width), Linear("mm_projector.fc2", MOUTH, inner))
    return tensors(f, parts)


def projector(f: Fields, path: str) -> Body:
    abstracts = f.choice("mm_projector_type", PROJECTORS) == "cabstractor"
    part = In("projector_config", ABSTRACTOR, path="mm_projector") if abstracts else Rest(projected)
    return part(f, path)


def one_vocabulary(f: Fields, path: str) -> Body:
    """The model of text, whose vocabulary may be padded."""
    spoken = nested(f, "text_config")
    if spoken.get("padded_vocab_size") is not None:
        f = f.replaced(text_config={**spoken, "vocab_size": spoken["padded_vocab_size"]})
    return Nested("text_config", "language_model", TEXT, "ForCausalLM")(f, path)


def same_vocabulary(f: Fields, path: str) -> Body:
    """The model of text; only its head would be padded, so the two must agree."""
    spoken = f.sub("text_config")
    spoken.require("padded_vocab_size", (spoken["vocab_size"],))
    return Nested("text_config", "language_model", TEXT, "ForCausalLM")(f, path)


def below_model(*builders: BodyBuilder) -> BodyBuilder:
    inner = Assembly(*builders)

    def build(f: Fields, path: str) -> Body:
        body = inner(f, f"{path}.model" if path else "model")
        more = [name for name in UNCOUNTED if f.value(name, None)]
        if not more:
            return body
        missed = f"{', '.join(more)}: the parts of these are not counted"
        return body._replace(warnings=(*body.warnings, missed))

    return build


SEED_THINK = Adjusted(below_model(eye, projector, one_vocabulary), typed)
NEWLINE = Rest(When(lambda f: f.flag("anyres", False), Parameter("image_newline", (MOUTH,))))
SEED_VISION = Adjusted(Assembly(eye, projector, NEWLINE, same_vocabulary), typed)

HYPERCLOVAX: Mapping[str, Model] = {
    "vlm": one_class("HCXVisionV2", "ForCausalLM", SEED_THINK, "HCXVisionForCausalLM"),
    "hyperclovax_vlm": one_class("HCXVision", "ForCausalLM", SEED_VISION),
}
