"""Janus: a tower that sees, codes of images that it draws by, a llama; and DeepSeek-VL without what draws.

Follows deepseek-ai/Janus, janus/models/modeling_vlm.py, siglip_vit.py, vq_model.py and projector.py, which are never
run. The sizes of the towers and of the codec are in that code alone. The transformers library has the same models as
`janus` and `deepseek_vl`, where the towers pool nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any, Final

from fastewq.architectures.assembly import (
    Adjusted,
    Assembly,
    Embedding,
    In,
    Linear,
    Nested,
    Only,
    Rest,
    Under,
)
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import Tensors, linear, present
from fastewq.architectures.remote.deepseek_vl import SIGLIP
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.remote.multimodal import nested
from fastewq.architectures.text import TEXT
from fastewq.architectures.vision_language.image_codes import CODEBOOK, janus_decoder, janus_encoder

SIGLIPS: Final[Mapping[str, Mapping[str, Any]]] = {
    "siglip_large_patch16_384": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 16,
    },
}
"""Towers that the code knows by name."""
LLAMA: Final = {"model_type": "llama", "hidden_size": 4096, "tie_word_embeddings": False}


def params(f: Fields, name: str, cls: str) -> Mapping[str, Any]:
    """What a nested config says of the part, once it proves to be of a known class."""
    nested(f, name)
    part = f.sub(name)
    part.choice("cls", (cls,))
    return nested(part, "params")


def completed(f: Fields) -> Fields:
    """The same with a config for each part, in the words of other models."""
    seen = params(f, "vision_config", "CLIPVisionTower")
    tower = f.sub("vision_config").sub("params")
    tower.choice("select_layer", (-1,), -2)
    name = tower.choice("model_name", tuple(SIGLIPS), "siglip_large_patch16_384")
    parts: dict[str, Any] = {
        "vision_config": {"model_type": "", "image_size": 336, **seen, **SIGLIPS[name]},
        "aligner_config": {"model_type": "", **params(f, "aligner_config", "MlpProjector")},
        "language_config": {**LLAMA, **nested(f, "language_config")},
    }
    if f.has("gen_vision_config"):
        parts |= {
            "gen_vision_config": {**params(f, "gen_vision_config", "VQ-16"), "model_type": "janus_vqgan"},
            "gen_aligner_config": {"model_type": "", **params(f, "gen_aligner_config", "MlpProjector")},
            "gen_head_config": {"model_type": "", **params(f, "gen_head_config", "vision_head")},
        }
    return f.replaced(**parts)


def projector(f: Fields) -> Tensors:
    """Matrices with a function between each two: their numbers are even."""
    f.choice("projector_type", ("mlp_gelu",))
    widths = [f["input_dim"], *[f["n_embed"]] * f.count("depth", 1, low=1, high=64)]
    return tuple(t for i in range(len(widths) - 1) for t in linear(f"layers.{2 * i}", widths[i + 1], widths[i], True))


REPOSITORY: Final = (
    ("down.", "conv_blocks."),
    ("up.", "conv_blocks."),
    (".block.", ".res."),
    ("mid.block_1.", "mid.0."),
    ("mid.attn_1.", "mid.1."),
    ("mid.block_2.", "mid.2."),
)
"""Names of the library's codec -> the repository's."""


def codec(f: Fields) -> Tensors:
    library = (*Under("encoder", janus_encoder)(f), *Under("decoder", janus_decoder)(f))
    named = (t._replace(name=reduce(lambda name, pair: name.replace(*pair), REPOSITORY, t.name)) for t in library)
    return (*named, *(t for part in CODEBOOK for t in part(f)))


DRAWN = "gen_vision_config.image_token_size"
DRAWS = Assembly(
    In("gen_vision_config", Rest(codec), path="gen_vision_model"),
    In("gen_aligner_config", Rest(projector), path="gen_aligner"),
    In(
        "gen_head_config",
        Rest(
            Linear("output_mlp_projector", "image_token_embed", "n_embed"),
            Linear("vision_head", "image_token_size", "image_token_embed"),
        ),
        path="gen_head",
    ),
    Rest(Embedding("gen_embed", DRAWN, "gen_vision_config.n_embed")),
)
MULTI_MODALITY = Adjusted(
    Assembly(
        In("vision_config", SIGLIP, path="vision_model.vision_tower"),
        In("aligner_config", Rest(projector), path="aligner"),
        Only(present("gen_vision_config"), DRAWS),
        Nested("language_config", "language_model", TEXT, "ForCausalLM"),
    ),
    completed,
)
JANUS: Mapping[str, Model] = {"multi_modality": one_class("MultiModality", "CausalLM", MULTI_MODALITY)}
