"""BAGEL: two models in one, Qwen2's blocks for what is read and a copy of them for what is drawn.

Source: ByteDance-Seed/Bagel, modeling/bagel and app.py, which sets what the files leave open. That code is never run.
The autoencoder of images is a file of its own and not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fastewq.architectures.assembly import (
    WIDTH,
    Adjusted,
    Assembly,
    At,
    Embedding,
    Family,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    patches,
)
from fastewq.architectures.decoders.dense import uniform
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import NEVER_TIED, Model, decoder
from fastewq.architectures.parts import Attention, GatedMLP, Tensors, hidden_per_head, norm
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.remote.multimodal import nested
from fastewq.architectures.vision.clip import CLIP_LAYER, vision_layers

DRAWS = "_moe_gen"
"""What the names of the copy end in."""


@dataclass(frozen=True, kw_only=True)
class TwoAttentions(Attention):
    def __call__(self, f: Fields) -> Tensors:
        q, k, v, o = (f"{name}{DRAWS}" for name in self.names)
        q_norm, k_norm = (f"{name}{DRAWS}" for name in self.norm_names)
        copy = replace(self, names=(q, k, v, o), norm_names=(q_norm, k_norm))
        return (*super().__call__(f), *Attention.__call__(copy, f))


@dataclass(frozen=True, kw_only=True)
class TwoMLPs(GatedMLP):
    def __call__(self, f: Fields) -> Tensors:
        return (*super().__call__(f), *GatedMLP.__call__(replace(self, prefix=f"{self.prefix}{DRAWS}"), f))


MIXTURE_OF_TRANSFORMERS = decoder(
    uniform(
        TwoAttentions(bias=True, out_bias=False, dim=hidden_per_head, qk_norm="head"),
        TwoMLPs(),
        norms=tuple(f"{name}{end}" for name in ("input_layernorm", "post_attention_layernorm") for end in ("", DRAWS)),
        beside=(lambda f: norm(f"norm{DRAWS}", f["hidden_size"]),),
    ),
    heads=NEVER_TIED,
)
SPEAKS: Mapping[str, Model] = {"mixture of transformers": MIXTURE_OF_TRANSFORMERS}

FLAT_SIGLIP = At(
    "vision_model",
    Rest(
        Linear("embeddings.patch_embedding", WIDTH, "num_channels*patch_size*patch_size"),
        Embedding("embeddings.position_embedding", patches),
        Norm("post_layernorm"),
    ),
    vision_layers("encoder.layers", *CLIP_LAYER),
)
EYES: Mapping[str, Model] = {"siglip of bagel": Family("SiglipVision", {"Model": FLAT_SIGLIP})}


def bagel(f: Fields) -> Fields:
    """The same as the repository's own loader reads it: without the tower's last block, and with both models."""
    for half in ("visual_gen", "visual_und"):
        f.require(half, (True,))
    f.require("vit_select_layer", (-2,))
    seen, depth = nested(f, "vit_config"), f.sub("vit_config").count("num_hidden_layers", low=1) - 1
    speaks = {**nested(f, "llm_config"), "model_type": "mixture of transformers"}
    nested(f, "vae_config")
    tower = {"num_channels": 3, **seen, "num_hidden_layers": depth, "model_type": "siglip of bagel"}
    return f.replaced(vit_config=tower, llm_config=speaks)


def latent(f: Fields) -> int:
    """Numbers in a patch of what the autoencoder makes of an image."""
    return f.size("latent_patch_size", 2) ** 2 * f.sub("vae_config", "")["z_channels"]


def squared(name: str, known: int) -> Size:
    return lambda f: f.size(name, known) ** 2


SEEN, SPOKEN = "vit_config.hidden_size", "llm_config.hidden_size"
BAGEL = Adjusted(
    Assembly(
        Nested("vit_config", "vit_model", EYES),
        Nested("llm_config", "language_model", SPEAKS, "ForCausalLM"),
        Rest(
            Linear("connector.fc1", SPOKEN, SEEN),
            Linear("connector.fc2", SPOKEN, SPOKEN),
            Parameter("vit_pos_embed.pos_embed", (squared("vit_max_num_patch_per_side", 70), SPOKEN), "embedding"),
            Linear("time_embedder.mlp.0", SPOKEN, 256),
            Linear("time_embedder.mlp.2", SPOKEN, SPOKEN),
            Linear("vae2llm", SPOKEN, latent),
            Linear("llm2vae", latent, SPOKEN),
            Parameter("latent_pos_embed.pos_embed", (squared("max_latent_size", 32), SPOKEN), "embedding"),
        ),
    ),
    bagel,
)
REMOTE_BAGEL: Mapping[str, Model] = {
    "bagel": one_class("Bagel", "ForConditionalGeneration", BAGEL, "Bagel"),
}
