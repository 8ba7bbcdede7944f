"""Moondream 2 and 3: SigLIP's blocks, Phi's blocks, and what turns points and boxes into tokens and back.

Follow vikhyat/moondream, moondream/torch/config.py, vision.py, text.py and moondream.py, and the same files of
moondream/moondream3-preview, which are never run; vLLM has the latter, models/moondream3.py. Their configs leave almost
all sizes to that code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastewq.architecture import Tensor
from fastewq.architectures.assembly import (
    FFN,
    WIDTH,
    Adjusted,
    Assembly,
    At,
    In,
    Linear,
    Norm,
    Parameter,
    Rest,
    quotient,
)
from fastewq.architectures.body import Decoder
from fastewq.architectures.decoders.dense import HEADS, whole_head_dim
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import (
    LAYER_NORM,
    MLP,
    Attention,
    MixtureOfExperts,
    Part,
    Tensors,
    linear,
    parameter,
)
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.remote.multimodal import nested
from fastewq.architectures.vision.clip import vision_layers

TEXT: Final[Mapping[str, Any]] = {
    "dim": 2048,
    "ff_dim": 8192,
    "n_layers": 24,
    "vocab_size": 51200,
    "n_heads": 32,
    "n_kv_heads": 32,
    "group_size": None,
}
EXPERTS: Final = {"num_experts": 64, "start_layer": 4, "expert_inner_dim": 1024}
VISION: Final = {
    "enc_dim": 1152,
    "enc_patch_size": 14,
    "enc_n_layers": 27,
    "enc_ff_dim": 4304,
    "enc_n_heads": 16,
    "proj_out_dim": 2048,
    "proj_inner_dim": 8192,
    "crop_size": 378,
    "in_channels": 3,
}
REGION: Final[Mapping[str, Any]] = {
    "dim": 2048,
    "coord_feat_dim": 256,
    "coord_out_dim": 1024,
    "size_feat_dim": 512,
    "size_out_dim": 2048,
    "inner_dim": 8192,
    "group_size": None,
}
"""What the code assumes of fields that a config leaves out."""
SPELLINGS: Final = {
    "dim": WIDTH,
    "enc_dim": WIDTH,
    "ff_dim": FFN,
    "enc_ff_dim": FFN,
    "n_layers": "num_hidden_layers",
    "enc_n_layers": "num_hidden_layers",
    "n_heads": HEADS,
    "enc_n_heads": HEADS,
    "n_kv_heads": "num_key_value_heads",
}


def part(sent: Fields, name: str, assumed: Mapping[str, Any]) -> dict[str, Any]:
    """One of the parts that `config` may describe, in the words of other models where they have any."""
    told = {**assumed, **(nested(sent, name) if sent.has(name) else {}), "model_type": ""}
    return {SPELLINGS.get(field, field): value for field, value in told.items()}


def completed(f: Fields) -> Fields:
    """The same with a config for each part."""
    for name in ("phi_config", "text_config"):  # of the code before this one
        f.require(name, ())
    nested(f, "config")
    sent = f.sub("config")
    speaks, region = part(sent, "text", TEXT), part(sent, "region", REGION)
    if f.model_type == "moondream3" and speaks.get("moe", {}) is not None:
        speaks |= part(sent.sub("text") if sent.has("text") else sent, "moe", EXPERTS)
    told = f.replaced(text=speaks, region=region, vision=part(sent, "vision", VISION), vocab_size=speaks["vocab_size"])
    for name in ("text", "region"):
        told.sub(name).require("group_size", ())
    return told


def crop_patches(f: Fields) -> int:
    return (f["crop_size"] // f["enc_patch_size"]) ** 2


EYES = Assembly(
    Rest(
        Linear("patch_emb", WIDTH, "in_channels*enc_patch_size*enc_patch_size"),
        Parameter("pos_emb", (1, crop_patches, WIDTH), "embedding"),
        Norm("post_ln"),
        Linear("proj_mlp.fc1", "proj_inner_dim", "2*hidden_size"),
        Linear("proj_mlp.fc2", "proj_out_dim", "proj_inner_dim"),
    ),
    vision_layers(
        "blocks",
        Norm("ln1"),
        Linear("attn.qkv", "3*hidden_size", WIDTH),
        Linear("attn.proj", WIDTH, WIDTH),
        Norm("ln2"),
        Linear("mlp.fc1", FFN, WIDTH),
        Linear("mlp.fc2", WIDTH, FFN),
    ),
)


def temperatures(f: Fields) -> Tensors:
    """How sharply a head attends, and how much of its values it takes, by what a token is and where it stands."""
    heads, width = f[HEADS], (f[HEADS] + 2 * f["num_key_value_heads"]) * whole_head_dim(f)
    tables = (t for name in ("wq", "wv") for t in parameter(f"tau.{name}", heads, width))
    return (*tables, *parameter("tau.alpha", heads))


@dataclass(frozen=True, kw_only=True)
class MoonExperts(MixtureOfExperts):
    """Experts in two stacked tensors, and a router with a bias."""

    def __call__(self, f: Fields) -> Tensors:
        hidden, (inner, experts) = f[WIDTH], self.facts(f)
        return (
            *linear("mlp.router", experts, hidden, True, "router"),
            Tensor("mlp.fc1.weight", (experts, 2 * inner, hidden), "experts"),
            Tensor("mlp.fc2.weight", (experts, hidden, inner), "experts"),
        )


def moon_layers(f: Fields, layers: int) -> Sequence[str]:
    first = f.count("start_layer") if f.has("num_experts") else layers
    return ["sparse" if i >= first else "dense" for i in range(layers)]


def text(*extras: Part) -> Assembly:
    """Phi's blocks; `extras` are in their attention."""
    return Assembly(
        Decoder(
            mixers={
                "attention": Attention(
                    prefix="attn",
                    fused="qkv",
                    names=("", "", "", "proj"),
                    bias=True,
                    dim=whole_head_dim,
                    extras=extras,
                )
            },
            feed_forwards={"dense": MLP(), "sparse": MoonExperts(inner="expert_inner_dim")},
            feed_forward_schedule=moon_layers,
            norm=LAYER_NORM,
            norms=("ln",),
            layers="blocks",
            embed="",
            final_norm="post_ln",
        ),
        Rest(Parameter("wte", ("vocab_size", WIDTH), "embedding"), Linear("lm_head", "vocab_size", WIDTH)),
    )


def region(*decoders: Part) -> Rest:
    return Rest(
        Parameter("coord_features", (1, quotient("coord_feat_dim", 2)), "embedding"),
        Parameter("size_features", (2, quotient("size_feat_dim", 2)), "embedding"),
        Linear("coord_encoder", WIDTH, "coord_feat_dim"),
        Linear("size_encoder", WIDTH, "size_feat_dim"),
        *decoders,
    )


def moondream(text: Assembly, region: Rest) -> Model:
    parts = In("vision", EYES), In("text", text), In("region", region)
    return one_class("Hf", "Moondream", Adjusted(At("model", *parts), completed))


MOONDREAM: Mapping[str, Model] = {
    # vikhyatk/moondream2 since 2025; before, it was other code under the same name
    "moondream1": moondream(
        text(),
        region(
            Linear("coord_decoder.fc1", "inner_dim", WIDTH),
            Linear("coord_decoder.fc2", "coord_out_dim", "inner_dim"),
            Linear("size_decoder.fc1", "inner_dim", WIDTH),
            Linear("size_decoder.fc2", "size_out_dim", "inner_dim"),
        ),
    ),
    "moondream3": moondream(
        text(temperatures),
        region(
            Norm("ln"),
            Linear("coord_decoder", "coord_out_dim", WIDTH),
            Linear("size_decoder", "size_out_dim", WIDTH),
        ),
    ),
}
