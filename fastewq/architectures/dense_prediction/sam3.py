"""SAM 3: everything in an image that a few words name, found by a detector and followed by SAM 2's memory."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    MAX_ENTRIES,
    WIDTH,
    Assembly,
    At,
    Convolution,
    Each,
    Embedding,
    Family,
    In,
    Layers,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    Under,
    Variant,
    pair,
    plus,
    quotient,
    tensors,
    upsampling,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.dense_prediction.segmentation import FUSED, SAM2_MEMORY, SAM2_PROMPTED, attention
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Part, Tensors
from fastewq.architectures.vision.clip import CLIP_LAYER, PATCH_KERNEL, VISION, plain_layer, text_layers, vision_layers
from fastewq.architectures.vision.images import position_table

# -- the image tower --------------------------------------------------------------------------------------------------


def first_positions(f: Fields) -> int:
    """Of the smaller images that the tower was first trained on; the table is tiled over larger ones."""
    (height, width), (rows, columns) = pair(f, "pretrain_image_size"), pair(f, "patch_size")
    return (height // rows) * (width // columns)


VIT = Assembly(
    Rest(
        position_table(first_positions),
        Convolution("embeddings.patch_embeddings.projection", WIDTH, "num_channels", PATCH_KERNEL, bias=False),
        Norm("layer_norm"),
    ),
    vision_layers("layers", *plain_layer("attention", "o_proj", ("layer_norm1", "layer_norm2"))),
)
VITS: Mapping[str, Family] = {"sam3_vit_model": Family("Sam3ViT", {"Model": VIT})}
SEEN = "backbone_config.hidden_size"
SCALES: Mapping[float, tuple[int, tuple[Part, ...]]] = {
    4.0: (
        4,
        (
            *upsampling("scale_layers.0", SEEN, quotient(SEEN, 2), 2, 2),
            *upsampling("scale_layers.2", quotient(SEEN, 2), quotient(SEEN, 4), 2, 2),
        ),
    ),
    2.0: (2, upsampling("scale_layers.0", SEEN, quotient(SEEN, 2), 2, 2)),
    1.0: (1, ()),
    0.5: (1, ()),
}
"""How much larger a level of the pyramid is than the tower's image -> by what it is narrower, and its convolutions."""


def neck(f: Fields) -> Tensors:
    scales = [4.0, 2.0, 1.0, 0.5] if f.value("scale_factors", None) is None else f.value("scale_factors")
    if not isinstance(scales, list | tuple) or len(scales) > MAX_ENTRIES:
        raise f.refuse("scale_factors", scales, f"a list of at most {MAX_ENTRIES} numbers")
    parts: list[Part] = []
    for i, scale in enumerate(scales):
        if type(scale) not in (int, float) or scale not in SCALES:
            raise f.refuse("scale_factors", scale, f"one of {', '.join(map(str, SCALES))}")
        narrower, convolutions = SCALES[scale]
        parts.append(
            Under(
                f"fpn_layers.{i}",
                *convolutions,
                Convolution("proj1", "fpn_hidden_size", quotient(SEEN, narrower), (1, 1)),
                Convolution("proj2", "fpn_hidden_size", "fpn_hidden_size", (3, 3)),
            )
        )
    return tensors(f, parts)


VISION_MODEL = Assembly(Nested("backbone_config", "backbone", VITS), At("neck", Rest(neck)))
EYES: Mapping[str, Family] = {"sam3_vision_model": Family("Sam3Vision", {"Model": VISION_MODEL})}

# -- the detector: prompts are fused into the image, and queries find what they name ----------------------------------


def blocks(name: str, *parts: Part) -> Layers:
    return Layers(
        "layers",
        (attention("self_attn", WIDTH, "o_proj"), *parts, Linear("mlp.fc1", FFN, WIDTH), Linear("mlp.fc2", WIDTH, FFN)),
        count="num_layers",
        name=name,
        role="vision",
    )


CROSS: tuple[Part, ...] = (attention("cross_attn", WIDTH, "o_proj"), *(Norm(f"layer_norm{i}") for i in (1, 2, 3)))


def perceptron(name: str, inputs: Size, inner: Size, outputs: Size, layers: int) -> Part:
    between = (Linear(f"layer{i}", inner, inner) for i in range(2, layers))
    return Under(name, Linear("layer1", inner, inputs), *between, Linear(f"layer{layers}", outputs, inner))


GEOMETRY = Assembly(
    Rest(
        Embedding("label_embed", 2),
        Embedding("cls_embed", 1),
        Linear("boxes_direct_project", WIDTH, 4),
        Convolution("boxes_pool_project", WIDTH, WIDTH, ("roi_size", "roi_size")),
        Linear("boxes_pos_enc_project", WIDTH, plus(WIDTH, 2)),
        Norm("vision_layer_norm"),
        Linear("final_proj", WIDTH, WIDTH),
        Norm("prompt_layer_norm"),
        Norm("output_layer_norm"),
    ),
    blocks("geometry", *CROSS),
)
DETR_ENCODER = blocks("detr_encoder", *CROSS)
DETR_DECODER = Assembly(
    Rest(
        Norm("output_layer_norm"),
        perceptron("box_head", WIDTH, WIDTH, 4, 3),
        Embedding("query_embed", "num_queries"),
        Embedding("reference_points", "num_queries", 4),
        Embedding("presence_token", 1),
        perceptron("presence_head", WIDTH, WIDTH, 1, 3),
        Norm("presence_layer_norm"),
        perceptron("ref_point_head", f"2*{WIDTH}", WIDTH, WIDTH, 2),
        perceptron("box_rpb_embed_x", 2, WIDTH, HEADS, 2),
        perceptron("box_rpb_embed_y", 2, WIDTH, HEADS, 2),
    ),
    blocks(
        "detr_decoder",
        attention("text_cross_attn", WIDTH, "o_proj"),
        attention("vision_cross_attn", WIDTH, "o_proj"),
        *(Norm(f"{name}_layer_norm") for name in ("self_attn", "text_cross_attn", "vision_cross_attn", "mlp")),
    ),
)
MASKS = Rest(
    Each("pixel_decoder.conv_layers", "num_upsampling_stages", (Convolution("", WIDTH, WIDTH, (3, 3)),)),
    Each("pixel_decoder.norms", "num_upsampling_stages", (Norm(""),)),
    Each("mask_embedder.layers", 3, (Linear("", WIDTH, WIDTH),)),
    Convolution("instance_projection", WIDTH, WIDTH, (1, 1)),
    Convolution("semantic_projection", 1, WIDTH, (1, 1)),
    attention("prompt_cross_attn", WIDTH, "o_proj"),
    Norm("prompt_cross_attn_norm"),
)
FOUND = "detr_decoder_config.hidden_size"
SCORES = Rest(
    Under(
        "dot_product_scoring",
        perceptron("text_mlp", FOUND, "detr_decoder_config.intermediate_size", FOUND, 2),
        Norm("text_mlp_out_norm", FOUND),
        Linear("text_proj", FOUND, FOUND),
        Linear("query_proj", FOUND, FOUND),
    )
)


def detector(text: BodyBuilder) -> BodyBuilder:
    return Assembly(
        Nested("vision_config", "vision_encoder", EYES),
        text,
        Rest(Linear("text_projection", "detr_encoder_config.hidden_size", "text_config.hidden_size")),
        In("geometry_encoder_config", GEOMETRY, path="geometry_encoder"),
        In("detr_encoder_config", DETR_ENCODER, path="detr_encoder"),
        In("detr_decoder_config", DETR_DECODER, path="detr_decoder"),
        In("mask_decoder_config", MASKS, path="mask_decoder"),
        SCORES,
    )


READERS: Mapping[str, Family] = {"clip_text_model": VISION["clip_text_model"]}
SAM3 = detector(Nested("text_config", "text_encoder", READERS, "ModelWithProjection"))

# -- SAM 3 with MobileCLIP's text tower, whose first and last block mix by convolutions -------------------------------

KERNEL = "repmixer_kernel_size"
SCALE = (WIDTH, 1, 1)
MIXES = Variant(
    (
        Parameter("layer_scale", SCALE),
        Under(
            "token_mixer",
            Parameter("layer_scale", SCALE),
            Norm("reference_batchnorm"),
            Norm("mixer.batchnorm_skip"),
            Convolution("mixer.conv", WIDTH, 1, (1, KERNEL), bias=False),
            Norm("mixer.batchnorm_conv"),
        ),
        Under(
            "conv_feed_forward",
            Convolution("depthwise_conv", WIDTH, 1, (1, KERNEL), bias=False),
            Norm("depthwise_batchnorm"),
            Convolution("mlp.fc1", FFN, WIDTH, (1, 1)),
            Convolution("mlp.fc2", WIDTH, FFN, (1, 1)),
        ),
    ),
    mixer="conv",
)


def lite_schedule(f: Fields, count: int) -> list[str]:
    mixing = f.flag("use_repmixer_blocks")
    return ["mixes" if mixing and i in (0, count - 1) else "attends" for i in range(count)]


LITE_TEXT = Assembly(
    Rest(
        Embedding("embeddings.token_embedding", "vocab_size"),
        Parameter(
            "embeddings.position_embedding.position_embedding", (1, 1, "max_position_embeddings", WIDTH), "embedding"
        ),
        Norm("final_layer_norm"),
        Linear("projection", "projection_dim", WIDTH, False),
    ),
    text_layers(
        "layers",
        variants={"mixes": MIXES, "attends": Variant(CLIP_LAYER)},
        schedule=lite_schedule,
    ),
)
SAM3_LITE = detector(In("text_config", LITE_TEXT, path="text_encoder"))

# -- following what was found through a video -------------------------------------------------------------------------

TRACKER = Assembly(
    Rest(Parameter("no_memory_embedding", (1, 1, FUSED))),
    Nested("vision_config", "vision_encoder", EYES),
    SAM2_PROMPTED,
)
BLIND_TRACKER = Assembly(Rest(Parameter("no_memory_embedding", (1, 1, FUSED))), SAM2_PROMPTED, SAM2_MEMORY)
DETECTORS: Mapping[str, Family] = {"sam3": Family("Sam3", {"Model": SAM3})}
SAM3_VIDEO = Assembly(
    Nested("detector_config", "detector_model", DETECTORS),
    In("tracker_config", BLIND_TRACKER, path="tracker_model"),
    In("detector_config", In("vision_config", Rest(neck), path="tracker_neck"), path=""),
)

SAM3_LINE: Mapping[str, Family] = {
    **VITS,
    **EYES,
    **DETECTORS,
    "sam3_tracker": Family("Sam3Tracker", {"Model": TRACKER}),
    "sam3_tracker_video": Family("Sam3TrackerVideo", {"Model": Assembly(TRACKER, SAM2_MEMORY)}),
    "sam3_video": Family("Sam3Video", {"Model": SAM3_VIDEO}),
    "sam3_lite_text_text_model": Family("Sam3LiteTextText", {"Model": LITE_TEXT}),
    "sam3_lite_text": Family("Sam3LiteText", {"Model": SAM3_LITE}),
}
