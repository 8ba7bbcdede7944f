"""Segment Anything: an image tower, prompts as tokens, and a small decoder that attends between image and tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastewq.architectures.assembly import (
    UNTIED,
    Adjusted,
    Assembly,
    At,
    Convolution,
    Each,
    Embedding,
    Family,
    In,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    linears,
    plus,
    quotient,
)
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.image_text import upsampling
from fastewq.architectures.parts import Part
from fastewq.architectures.towers import GOT_OCR_VISION

WIDTH, FFN = "hidden_size", "mlp_dim"

# -- the image tower --------------------------------------------------------------------------------------------------


def with_mlp_dim(f: Fields) -> Fields:
    """With the inner width that the class derives where the config has none."""
    derived: Any = f.optional_size(FFN) or int(f[WIDTH] * f.number("mlp_ratio"))
    return f.replaced(mlp_dim=derived)


SAM_VISION = Adjusted(GOT_OCR_VISION, with_mlp_dim)

# -- prompts: points, boxes and masks ---------------------------------------------------------------------------------

MASK_CHANNELS = quotient("mask_input_channels", 4)
PROMPTS = Rest(
    Under(
        "mask_embed",
        Convolution("conv1", MASK_CHANNELS, 1, (2, 2)),
        Convolution("conv2", "mask_input_channels", MASK_CHANNELS, (2, 2)),
        Convolution("conv3", WIDTH, "mask_input_channels", (1, 1)),
        Norm("layer_norm1", MASK_CHANNELS),
        Norm("layer_norm2", lambda f: 4 * f[MASK_CHANNELS]),
    ),
    Embedding("no_mask_embed", 1),
    Each("point_embed", "num_point_embeddings", (Embedding("", 1),)),
    Embedding("not_a_point_embed", 1),
)

# -- the decoder ------------------------------------------------------------------------------------------------------

NARROW = quotient(WIDTH, "attention_downsample_rate")
MASKS = plus("num_multimask_outputs", 1)


def attention(name: str, inner: Size) -> Part:
    return Under(name, *linears("", "q_proj k_proj v_proj", inner, WIDTH), Linear("out_proj", WIDTH, inner))


def perceptron(name: str, inner: Size, outputs: Size, further: Size) -> Part:
    """Matrices with an activation between them: the first, `further` square ones, the last."""
    return Under(
        name,
        Linear("proj_in", inner, WIDTH),
        Each("layers", further, (Linear("", inner, inner),)),
        Linear("proj_out", outputs, inner),
    )


DECODER = Assembly(
    Layers(
        "transformer.layers",
        (
            attention("self_attn", WIDTH),
            # The blocks narrow their attention by two whatever the config says of the last one.
            attention("cross_attn_token_to_image", quotient(WIDTH, 2)),
            attention("cross_attn_image_to_token", quotient(WIDTH, 2)),
            Linear("mlp.lin1", FFN, WIDTH),
            Linear("mlp.lin2", WIDTH, FFN),
            *(Norm(f"layer_norm{i}") for i in (1, 2, 3, 4)),
        ),
        name="mask_decoder",
        role="vision",
        ffn=FFN,
    ),
    Rest(
        Embedding("iou_token", 1),
        Embedding("mask_tokens", MASKS),
        attention("transformer.final_attn_token_to_image", NARROW),
        Norm("transformer.layer_norm_final_attn"),
        *upsampling("upscale_conv1", WIDTH, quotient(WIDTH, 4), 2, 2),
        *upsampling("upscale_conv2", quotient(WIDTH, 4), quotient(WIDTH, 8), 2, 2),
        Norm("upscale_layer_norm", quotient(WIDTH, 4)),
        Each("output_hypernetworks_mlps", MASKS, (perceptron("", WIDTH, quotient(WIDTH, 8), 1),)),
        perceptron("iou_prediction_head", "iou_head_hidden_dim", MASKS, lambda f: f.count("iou_head_depth", low=2) - 2),
    ),
)
WAVES: tuple[Size, ...] = (2, "vision_config.num_pos_feats")
SAM = Assembly(
    Rest(
        Parameter("shared_image_embedding.positional_embedding", WAVES),
        When(UNTIED, Parameter("prompt_encoder.shared_embedding.positional_embedding", WAVES)),
    ),
    In("vision_config", SAM_VISION, path="vision_encoder"),
    In("prompt_encoder_config", PROMPTS, path="prompt_encoder"),
    In("mask_decoder_config", DECODER, path="mask_decoder"),
)
SEGMENTATION: Mapping[str, Family] = {
    "sam": Family("Sam", {"Model": SAM}),
    "sam_vision_model": Family("SamVision", {"Model": At("vision_encoder", SAM_VISION)}),
}
