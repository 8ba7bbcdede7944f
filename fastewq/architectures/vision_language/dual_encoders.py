"""Models with an image tower and a text tower, trained like CLIP: MetaCLIP 2, Chinese CLIP, AltCLIP, AIMv2, CLIPSeg."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    WIDTH,
    Assembly,
    At,
    Convolution,
    Each,
    Embedding,
    Family,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    When,
    length,
    linears,
    patches,
    quotient,
    upsampling,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.encoders.bert import BERT_EMBEDDINGS, PLAIN_BERT_LAYER, POOLER
from fastewq.architectures.parts import Part, unless
from fastewq.architectures.vision.clip import (
    CLIP_LAYER,
    CLIP_TEXT,
    CLIP_VISION,
    PATCH_KERNEL,
    classified,
    projected,
    text_layers,
    vision_layers,
)

SEEN, READ = "vision_config.hidden_size", "text_config.hidden_size"

# -- towers -----------------------------------------------------------------------------------------------------------

CHINESE_TEXT = Assembly(BERT_EMBEDDINGS, text_layers("encoder.layer", *PLAIN_BERT_LAYER))
ALT_TEXT = Assembly(
    At("roberta", BERT_EMBEDDINGS, text_layers("encoder.layers", *PLAIN_BERT_LAYER)),
    Rest(Linear("transformation", "project_dim", WIDTH), Norm("pre_LN")),
)
MLCD_VISION = Assembly(
    Rest(
        Parameter("class_pos_emb", (1, lambda f: f[WIDTH] // f[HEADS] // 2)),
        Parameter("embeddings.class_embedding", (WIDTH,)),
        Convolution("embeddings.patch_embedding", WIDTH, "num_channels", PATCH_KERNEL, bias=False),
        Norm("pre_layrnorm"),
        Norm("post_layernorm"),
    ),
    vision_layers("encoder.layers", *CLIP_LAYER),
)

AIM_LAYER: tuple[Part, ...] = (
    *linears("attention", "k_proj v_proj q_proj out_proj", bias="qkv_bias"),
    *linears("ffn", "gate_proj up_proj", FFN, WIDTH, "mlp_bias"),
    Linear("ffn.down_proj", WIDTH, FFN, "mlp_bias"),
    Norm("rms_norm1", bias=False),
    Norm("rms_norm2", bias=False),
)
AIM_VISION = Assembly(
    Rest(
        Convolution("embeddings.patch_embed", WIDTH, "num_channels", PATCH_KERNEL),
        Norm("embeddings.rms_norm", bias=False),
        When(unless("is_native"), Embedding("embeddings.position_embedding", patches)),
        Norm("rms_norm", bias=False),
        When(
            "use_head",
            Parameter("head.cls_token", (1, 1, WIDTH)),
            *linears("head", "k_proj v_proj", bias="qkv_bias"),
            Linear("head.output_proj", WIDTH, WIDTH),
        ),
    ),
    vision_layers("encoder.layers", *AIM_LAYER, norm="rms"),
)
AIM_TEXT = Assembly(
    Rest(
        Embedding("embeddings.token_embedding", "vocab_size"),
        Embedding("embeddings.position_embedding", "max_position_embeddings"),
        Norm("rms_norm", bias=False),
    ),
    text_layers("encoder.layers", *AIM_LAYER, norm="rms"),
)


def tower(path: str, body: BodyBuilder, projection: str) -> dict[str, BodyBuilder]:
    """A tower alone, and with the projection into the common space."""
    return {"Model": body, "ModelWithProjection": projected(path, body, projection)}


TOWERS: dict[str, Family] = {
    "metaclip_2_vision_model": Family("MetaClip2Vision", tower("vision_model", CLIP_VISION, "visual_projection")),
    "metaclip_2_text_model": Family("MetaClip2Text", tower("text_model", CLIP_TEXT, "text_projection")),
    "chinese_clip_vision_model": Family("ChineseCLIPVision", {"Model": CLIP_VISION}),
    "chinese_clip_text_model": Family(
        "ChineseCLIPText", {"Model": Assembly(CHINESE_TEXT, POOLER), "Unpooled": CHINESE_TEXT}, base="Unpooled"
    ),
    "altclip_vision_model": Family("AltCLIPVision", {"Model": CLIP_VISION}),
    "altclip_text_model": Family("AltCLIPText", {"Model": ALT_TEXT}),
    "aimv2_vision_model": Family("Aimv2Vision", {"Model": AIM_VISION}),
    "aimv2_text_model": Family("Aimv2Text", {"Model": AIM_TEXT}),
    "clipseg_vision_model": Family("CLIPSegVision", {"Model": CLIP_VISION}),
    "clipseg_text_model": Family("CLIPSegText", {"Model": CLIP_TEXT}),
}

# -- both towers ------------------------------------------------------------------------------------------------------


def sides(read: str = READ) -> BodyBuilder:
    """Both towers, their projections without bias, and the scale of the logits."""
    return Assembly(
        Nested("text_config", "text_model", TOWERS),
        Nested("vision_config", "vision_model", TOWERS),
        Rest(
            Parameter("logit_scale", ()),
            Linear("visual_projection", "projection_dim", SEEN, False),
            Linear("text_projection", "projection_dim", read, False),
        ),
    )


SIDES = sides()
SEEN_PATCH = "vision_config.patch_size"
QUARTER = quotient(SEEN_PATCH, 4)
SEGMENTER_LAYERS = vision_layers("layers", *CLIP_LAYER, count=length("extract_layers"), name="decoder")
SEGMENTER = At(
    "decoder",
    Rest(
        Linear("film_mul", "reduce_dim", "projection_dim"),
        Linear("film_add", "reduce_dim", "projection_dim"),
        When(
            unless("use_complex_transposed_convolution"),
            *upsampling("transposed_convolution", "reduce_dim", 1, SEEN_PATCH, SEEN_PATCH),
        ),
        When(
            "use_complex_transposed_convolution",
            Convolution("transposed_convolution.0", "reduce_dim", "reduce_dim", (3, 3)),
            *upsampling("transposed_convolution.2", "reduce_dim", quotient("reduce_dim", 2), QUARTER, QUARTER),
            *upsampling("transposed_convolution.4", quotient("reduce_dim", 2), 1, QUARTER, QUARTER),
        ),
        Each("reduces", length("extract_layers"), (Linear("", "reduce_dim", SEEN),)),
    ),
    lambda f, path: SEGMENTER_LAYERS(
        f.replaced(
            hidden_size=f["reduce_dim"],
            intermediate_size=f["decoder_intermediate_size"],
            num_attention_heads=f["decoder_num_attention_heads"],
        ),
        path,
    ),
)

DUAL_ENCODERS: Mapping[str, Family] = {
    **TOWERS,
    "mlcd": Family("MLCDVision", {"Model": MLCD_VISION}),
    "mlcd_vision_model": Family("MLCDVision", {"Model": MLCD_VISION}),
    "metaclip_2": Family(
        "MetaClip2",
        {"Model": SIDES, "ForImageClassification": classified(Nested("vision_config", "vision_model", TOWERS))},
    ),
    "chinese_clip": Family("ChineseCLIP", {"Model": SIDES}),
    "altclip": Family("AltCLIP", {"Model": sides("text_config.project_dim")}),
    "aimv2": Family("Aimv2", {"Model": SIDES}),
    "clipseg": Family(
        "CLIPSeg",
        {"Model": SIDES, "ForImageSegmentation": Assembly(At("clip", SIDES), SEGMENTER)},
        "ForImageSegmentation",
    ),
}
