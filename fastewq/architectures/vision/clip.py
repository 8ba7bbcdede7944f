"""CLIP, SigLIP and OWL-ViT, and the blocks and names that most vision towers share."""

from __future__ import annotations

from typing import Any

from fastewq.architectures.assembly import (
    FFN,
    WIDTH,
    Assembly,
    At,
    Convolution,
    Embedding,
    Family,
    Layers,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    linears,
    patch_columns,
    patch_rows,
    patches,
    plus,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Option, Part, field_or

# -- CLIP and SigLIP ------------------------------------------------------------------------------------------------


def plain_layer(attention: str, out: str, norms: tuple[str, str], inner: Size = WIDTH) -> tuple[Part, ...]:
    """What most towers have in a block, under whatever names: attention, two matrices, and a norm before each."""
    return (
        *linears(attention, "k_proj v_proj q_proj", inner, WIDTH),
        Linear(f"{attention}.{out}", WIDTH, inner),
        Norm(norms[0]),
        Linear("mlp.fc1", FFN, WIDTH),
        Linear("mlp.fc2", WIDTH, FFN),
        Norm(norms[1]),
    )


CLIP_LAYER = plain_layer("self_attn", "out_proj", ("layer_norm1", "layer_norm2"))
PATCH_KERNEL = (patch_rows, patch_columns)


def vision_layers(path: str, *parts: Part, **facts: Any) -> Layers:
    return Layers(path, parts, **{"name": "vision", "role": "vision", **facts})


def text_layers(path: str, *parts: Part, **facts: Any) -> Layers:
    return Layers(path, parts, **{"name": "text", **facts})


def fused_layer(attention: str, bias: Option, out_bias: Option = True, ffn: Size = FFN) -> tuple[Part, ...]:
    """As `plain_layer`, with one matrix for queries, keys and values."""
    return (
        Norm("norm1"),
        Norm("norm2"),
        Linear(f"{attention}.qkv", f"3*{WIDTH}", WIDTH, bias),
        Linear(f"{attention}.proj", WIDTH, WIDTH, out_bias),
        Linear("mlp.fc1", ffn, WIDTH),
        Linear("mlp.fc2", WIDTH, ffn),
    )


def fused_layers(bias: Option = True) -> Layers:
    """Blocks as towers after Qwen2-VL's have them."""
    return vision_layers("blocks", *fused_layer("attn", bias, bias), count="depth", heads="num_heads")


FUSED_LAYERS = fused_layers()


def around_clip(first_norm: str) -> Rest:
    """What CLIP's tower has beside its blocks; the library misspells its first norm, and only there."""
    return Rest(
        Parameter("embeddings.class_embedding", (WIDTH,)),
        Convolution("embeddings.patch_embedding", WIDTH, "num_channels", PATCH_KERNEL, bias=False),
        Embedding("embeddings.position_embedding", plus(patches, 1)),
        Norm(first_norm),
        Norm("post_layernorm"),
    )


CLIP_VISION = Assembly(around_clip("pre_layrnorm"), vision_layers("encoder.layers", *CLIP_LAYER))
OWL_VISION_REST = around_clip("pre_layernorm")
OWL_VISION = Assembly(OWL_VISION_REST, vision_layers("encoder.layers", *CLIP_LAYER))
CLIP_TEXT = Assembly(
    Rest(
        Embedding("embeddings.token_embedding", "vocab_size"),
        Embedding("embeddings.position_embedding", "max_position_embeddings"),
        Norm("final_layer_norm"),
    ),
    text_layers("encoder.layers", *CLIP_LAYER),
)
POOLING_HEAD = Under(
    "head",
    Parameter("probe", (1, 1, WIDTH)),
    Parameter("attention.in_proj_weight", ("3*hidden_size", WIDTH), "linear"),
    Parameter("attention.in_proj_bias", ("3*hidden_size",), "bias"),
    Linear("attention.out_proj", WIDTH, WIDTH),
    Norm("layernorm"),
    Linear("mlp.fc1", FFN, WIDTH),
    Linear("mlp.fc2", WIDTH, FFN),
)


def pools(f: Fields) -> bool:
    return f.flag("vision_use_head", True)


SIGLIP_VISION = Assembly(
    Rest(
        Convolution("embeddings.patch_embedding", WIDTH, "num_channels", PATCH_KERNEL),
        Embedding("embeddings.position_embedding", patches),
        Norm("post_layernorm"),
        When(pools, POOLING_HEAD),
    ),
    vision_layers("encoder.layers", *CLIP_LAYER),
)
SIGLIP2_LAYERS = Assembly(
    Rest(
        Linear("embeddings.patch_embedding", WIDTH, "num_channels*patch_size*patch_size"),
        Embedding("embeddings.position_embedding", "num_patches"),
        Norm("post_layernorm"),
    ),
    vision_layers("encoder.layers", *CLIP_LAYER),
)
SIGLIP2_VISION = Assembly(SIGLIP2_LAYERS, Rest(When(pools, POOLING_HEAD)))
SIGLIP_TEXT = Assembly(CLIP_TEXT, Rest(Linear("head", field_or("projection_size", WIDTH), WIDTH)))


def projected(path: str, body: BodyBuilder, projection: str) -> BodyBuilder:
    return Assembly(At(path, body), Rest(Linear(projection, "projection_dim", WIDTH, False)))


TOWERS: dict[str, Family] = {
    "owlvit_vision_model": Family("OwlViTVision", {"Model": At("vision_model", OWL_VISION)}),
    "owlvit_text_model": Family("OwlViTText", {"Model": At("text_model", CLIP_TEXT)}),
    "owlv2_vision_model": Family("Owlv2Vision", {"Model": At("vision_model", OWL_VISION)}),
    "owlv2_text_model": Family("Owlv2Text", {"Model": At("text_model", CLIP_TEXT)}),
    "clip_vision_model": Family(
        "CLIPVision",
        {"Model": CLIP_VISION, "ModelWithProjection": projected("vision_model", CLIP_VISION, "visual_projection")},
    ),
    "clip_text_model": Family(
        "CLIPText",
        {"Model": CLIP_TEXT, "ModelWithProjection": projected("text_model", CLIP_TEXT, "text_projection")},
    ),
    "siglip_vision_model": Family("SiglipVision", {"Model": SIGLIP_VISION}),
    "siglip_text_model": Family("SiglipText", {"Model": SIGLIP_TEXT}),
    "siglip2_vision_model": Family("Siglip2Vision", {"Model": SIGLIP2_VISION}),
    "siglip2_text_model": Family("Siglip2Text", {"Model": SIGLIP_TEXT}),
}
"""The encoders of one modality, which image-text models hold as nested configs."""


def classified(vision: BodyBuilder) -> BodyBuilder:
    return Assembly(vision, Rest(Linear("classifier", labels, "vision_config.hidden_size")))


CLIP_SIDES = Assembly(Nested("text_config", "text_model", TOWERS), Nested("vision_config", "vision_model", TOWERS))
CLIP = Assembly(
    CLIP_SIDES,
    Rest(
        Parameter("logit_scale", ()),
        Linear("visual_projection", "projection_dim", "vision_config.hidden_size", False),
        Linear("text_projection", "projection_dim", "text_config.hidden_size", False),
    ),
)
CLIP_IMAGE = classified(Nested("vision_config", "vision_model", TOWERS))
SIGLIP = Assembly(CLIP_SIDES, Rest(Parameter("logit_scale", (1,)), Parameter("logit_bias", (1,))))

# -- OWL-ViT: CLIP whose image tokens each describe a box -------------------------------------------------------------

OWL = Assembly(
    Rest(Parameter("logit_scale", ())),
    Nested("text_config", "", TOWERS),
    Nested("vision_config", "", TOWERS),
    Rest(
        Linear("visual_projection", "projection_dim", "vision_config.hidden_size", False),
        Linear("text_projection", "projection_dim", "text_config.hidden_size", False),
    ),
)
SEEN = "vision_config.hidden_size"


def box_head(name: str, outputs: int) -> Part:
    return Under(name, Linear("dense0", SEEN, SEEN), Linear("dense1", SEEN, SEEN), Linear("dense2", outputs, SEEN))


def owl(prefix: str, *heads: Part) -> dict[str, BodyBuilder]:
    detector = Rest(
        Under(
            "class_head",
            Linear("dense0", "text_config.hidden_size", SEEN),
            Linear("logit_shift", 1, SEEN),
            Linear("logit_scale", 1, SEEN),
        ),
        box_head("box_head", 4),
        *heads,
        Norm("layer_norm", SEEN),
    )
    return {"Model": OWL, "ForObjectDetection": Assembly(At(prefix, OWL), detector)}


VISION: dict[str, Family] = {
    **TOWERS,
    "owlvit": Family("OwlViT", owl("owlvit"), "ForObjectDetection"),
    "owlv2": Family("Owlv2", owl("owlv2", box_head("objectness_head", 1)), "ForObjectDetection"),
    "clip": Family("CLIP", {"Model": CLIP, "ForImageClassification": CLIP_IMAGE}),
    "siglip": Family("Siglip", {"Model": SIGLIP, "ForImageClassification": CLIP_IMAGE}),
    "siglip2": Family("Siglip2", {"Model": SIGLIP, "ForImageClassification": CLIP_IMAGE}),
}
