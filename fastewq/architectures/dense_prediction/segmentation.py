"""Segment Anything: an image tower, prompts as tokens, and a small decoder that attends between image and tokens."""

from __future__ import annotations

from collections.abc import Mapping
from math import log2
from typing import Any

from fastewq.architectures.assembly import (
    MAX_ENTRIES,
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
    Nested,
    Norm,
    Parameter,
    Rest,
    Stages,
    Under,
    When,
    assuming,
    entry,
    length,
    linears,
    pair,
    plus,
    quotient,
    sizes,
    tensors,
    upsampling,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Part, Tensors
from fastewq.architectures.vision.pyramids import hiera_stage
from fastewq.architectures.vision.towers import GOT_OCR_VISION

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
    Embedding("not_a_point_embed", 1),
)
POINTS = Rest(Each("point_embed", "num_point_embeddings", (Embedding("", 1),)))

# -- the decoder ------------------------------------------------------------------------------------------------------

NARROW = quotient(WIDTH, "attention_downsample_rate")
MASKS = plus("num_multimask_outputs", 1)


def attention(name: str, inner: Size, out: str = "out_proj") -> Part:
    return Under(name, *linears("", "q_proj k_proj v_proj", inner, WIDTH), Linear(out, WIDTH, inner))


def perceptron(name: str, inner: Size, outputs: Size, layers: Size) -> Part:
    """Matrices with an activation between them, two at least."""
    return Under(
        name,
        Linear("proj_in", inner, WIDTH),
        Each("layers", lambda f: max(f[layers] - 2, 0), (Linear("", inner, inner),)),
        Linear("proj_out", outputs, inner),
    )


def mask_decoder(crossing: Size, out: str, *mlp: Part) -> BodyBuilder:
    """`crossing` is the inner width of the blocks' attention between tokens and image."""
    return Assembly(
        Layers(
            "transformer.layers",
            (
                attention("self_attn", WIDTH, out),
                attention("cross_attn_token_to_image", crossing, out),
                attention("cross_attn_image_to_token", crossing, out),
                *mlp,
                *(Norm(f"layer_norm{i}") for i in (1, 2, 3, 4)),
            ),
            name="mask_decoder",
            role="vision",
            ffn=FFN,
        ),
        Rest(
            Embedding("iou_token", 1),
            Embedding("mask_tokens", MASKS),
            attention("transformer.final_attn_token_to_image", NARROW, out),
            Norm("transformer.layer_norm_final_attn"),
            *upsampling("upscale_conv1", WIDTH, quotient(WIDTH, 4), 2, 2),
            *upsampling("upscale_conv2", quotient(WIDTH, 4), quotient(WIDTH, 8), 2, 2),
            Norm("upscale_layer_norm", quotient(WIDTH, 4)),
            Each("output_hypernetworks_mlps", MASKS, (perceptron("", WIDTH, quotient(WIDTH, 8), 3),)),
            perceptron("iou_prediction_head", "iou_head_hidden_dim", MASKS, "iou_head_depth"),
        ),
    )


# The blocks narrow their attention by two whatever the config says of the last one.
DECODER = mask_decoder(quotient(WIDTH, 2), "out_proj", Linear("mlp.lin1", FFN, WIDTH), Linear("mlp.lin2", WIDTH, FFN))
WAVES: tuple[Size, ...] = (2, "vision_config.num_pos_feats")


def sam(decoder: BodyBuilder) -> BodyBuilder:
    return Assembly(
        Rest(
            Parameter("shared_image_embedding.positional_embedding", WAVES),
            When(UNTIED, Parameter("prompt_encoder.shared_embedding.positional_embedding", WAVES)),
        ),
        In("vision_config", SAM_VISION, path="vision_encoder"),
        In("prompt_encoder_config", PROMPTS, POINTS, path="prompt_encoder"),
        In("mask_decoder_config", decoder, path="mask_decoder"),
    )


SAM = sam(DECODER)

# -- SAM-HQ: one mask more, finer, from the tower's first features ----------------------------------------------------

QUARTER, EIGHTH = quotient(WIDTH, 4), quotient(WIDTH, 8)
HQ_DECODER = Assembly(
    DECODER,
    Rest(
        Embedding("hq_token", 1),
        perceptron("hq_mask_mlp", WIDTH, EIGHTH, 3),
        *upsampling("compress_vit_conv1", "vit_dim", WIDTH, 2, 2),
        Norm("compress_vit_norm"),
        *upsampling("compress_vit_conv2", WIDTH, EIGHTH, 2, 2),
        *upsampling("encoder_conv1", WIDTH, QUARTER, 2, 2),
        Norm("encoder_norm", QUARTER),
        *upsampling("encoder_conv2", QUARTER, EIGHTH, 2, 2),
        Convolution("mask_conv1", QUARTER, EIGHTH, (3, 3)),
        Norm("mask_norm", QUARTER),
        Convolution("mask_conv2", EIGHTH, QUARTER, (3, 3)),
    ),
)

# -- SAM 2: a hierarchical tower, and a memory of the frames of a video -----------------------------------------------


def hiera_level(f: Fields, stage: int) -> Fields:
    widths, heads = (sizes(f, f"{name}_per_stage", stage + 1) for name in ("embed_dim", "num_attention_heads"))
    return f.replaced(
        stage_width=widths[stage],
        stage_heads=heads[stage],
        stage_depth=sizes(f, "blocks_per_stage")[stage],
        before=widths[max(stage - 1, 0)],
    )


def hiera_blocks(_: int) -> Layers:
    return hiera_stage("blocks", ("layer_norm1", "layer_norm2"), ("proj_in", "proj_out"))


def first_of_pair(name: str) -> Size:
    return lambda f: pair(f, name)[0]


def second_of_pair(name: str) -> Size:
    return lambda f: pair(f, name)[1]


KERNEL, BACKGROUND = "patch_kernel_size", "window_positional_embedding_background_size"
WINDOW = entry("window_size_per_stage", 0)
HIERA = assuming(
    Assembly(
        Rest(
            Parameter("pos_embed", (1, WIDTH, first_of_pair(BACKGROUND), second_of_pair(BACKGROUND)), "embedding"),
            Parameter("pos_embed_window", (1, WIDTH, WINDOW, WINDOW), "embedding"),
            Convolution(
                "patch_embed.projection", WIDTH, "num_channels", (first_of_pair(KERNEL), second_of_pair(KERNEL))
            ),
        ),
        Stages(length("blocks_per_stage"), hiera_blocks, hiera_level, path="blocks"),
    ),
    patch_kernel_size=[7, 7],
    window_positional_embedding_background_size=[7, 7],
    blocks_per_stage=[1, 2, 7, 2],
    embed_dim_per_stage=[96, 192, 384, 768],
    num_attention_heads_per_stage=[1, 2, 4, 8],
    window_size_per_stage=[8, 4, 14, 7],
)
HIERAS: Mapping[str, Family] = {"sam2_hiera_det_model": Family("Sam2HieraDet", {"Model": HIERA})}


def neck(f: Fields) -> Tensors:
    """One convolution per stage, the last stage first."""
    kernel = ("fpn_kernel_size", "fpn_kernel_size")
    widths = sizes(f, "backbone_channel_list")
    return tensors(f, (Convolution(f"neck.convs.{i}", "fpn_hidden_size", w, kernel) for i, w in enumerate(widths)))


SAM2_VISION = assuming(
    Assembly(Nested("backbone_config", "backbone", HIERAS), Rest(neck)), backbone_channel_list=[768, 384, 192, 96]
)
SAM2_TOWERS: Mapping[str, Family] = {"sam2_vision_model": Family("Sam2Vision", {"Model": SAM2_VISION})}
SAM2_DECODER = Assembly(
    # The blocks' perceptron has as many matrices as the decoder has blocks.
    mask_decoder(NARROW, "o_proj", perceptron("mlp", FFN, WIDTH, "num_hidden_layers")),
    Rest(
        Convolution("conv_s0", quotient(WIDTH, 8), WIDTH, (1, 1)),
        Convolution("conv_s1", quotient(WIDTH, 4), WIDTH, (1, 1)),
        Embedding("obj_score_token", 1),
        perceptron("pred_obj_score_head", WIDTH, 1, 3),
    ),
)
FUSED = "vision_config.fpn_hidden_size"
SAM2_PROMPTED = Assembly(
    In("prompt_encoder_config", PROMPTS, Rest(Embedding("point_embed", "num_point_embeddings")), path="prompt_encoder"),
    In("mask_decoder_config", SAM2_DECODER, path="mask_decoder"),
)
SAM2 = Assembly(
    Rest(Parameter("no_memory_embedding", (1, 1, FUSED))),
    Nested("vision_config", "vision_encoder", SAM2_TOWERS),
    SAM2_PROMPTED,
)
REMEMBERED, MEMORY = "memory_attention_hidden_size", "memory_encoder_output_channels"
SHRUNK = "mask_downsampler_kernel_size"


def mask_shrinking(f: Fields) -> Tensors:
    """Strided convolutions, each with as many channels as the pixels it joins have."""
    stride, whole = f["mask_downsampler_stride"], f["mask_downsampler_total_stride"]
    steps = int(log2(whole) // log2(stride)) if stride > 1 else MAX_ENTRIES
    if steps > 8:
        raise f.refuse("mask_downsampler_total_stride", whole, "eight strides at most")
    parts: list[Part] = []
    for i in range(steps):
        outputs = stride ** (2 * i + 2)
        parts.append(Convolution(f"layers.{i}.conv", outputs, stride ** (2 * i), (SHRUNK, SHRUNK)))
        parts.append(Norm(f"layers.{i}.layer_norm", outputs))
    parts.append(Convolution("final_conv", "mask_downsampler_embed_dim", stride ** (2 * steps), (1, 1)))
    return tensors(f, parts)


def memory_attention(name: str, heard: Size) -> Part:
    inner = quotient(REMEMBERED, "memory_attention_downsample_rate")
    return Under(
        name,
        Linear("q_proj", inner, REMEMBERED),
        *linears("", "k_proj v_proj", inner, heard),
        Linear("o_proj", REMEMBERED, inner),
    )


MEMORY_FFN, FUSER = "memory_attention_feed_forward_hidden_size", "memory_fuser_embed_dim"
FUSER_KERNEL = ("memory_fuser_kernel_size", "memory_fuser_kernel_size")
ENCODED = "memory_encoder_hidden_size"
SAM2_MEMORY = Assembly(
    At(
        "memory_attention",
        Layers(
            "layers",
            (
                memory_attention("self_attn", REMEMBERED),
                memory_attention("cross_attn_image", 64),
                Linear("linear1", MEMORY_FFN, REMEMBERED),
                Linear("linear2", REMEMBERED, MEMORY_FFN),
                *(Norm(f"layer_norm{i}", REMEMBERED) for i in (1, 2, 3)),
            ),
            count="memory_attention_num_layers",
            name="memory",
            role="vision",
            width=REMEMBERED,
            heads="memory_attention_num_attention_heads",
            ffn=MEMORY_FFN,
        ),
        Rest(Norm("layer_norm", REMEMBERED)),
    ),
    Rest(
        Under(
            "memory_encoder",
            Under("mask_downsampler", mask_shrinking),
            Convolution("feature_projection", ENCODED, ENCODED, (1, 1)),
            Each(
                "memory_fuser.layers",
                "memory_fuser_num_layers",
                (
                    Convolution("depthwise_conv", FUSER, 1, FUSER_KERNEL),
                    Norm("layer_norm", FUSER),
                    Linear("pointwise_conv1", "memory_fuser_intermediate_dim", FUSER),
                    Linear("pointwise_conv2", FUSER, "memory_fuser_intermediate_dim"),
                    Parameter("scale", (FUSER,)),
                ),
            ),
            Convolution("projection", MEMORY, ENCODED, (1, 1)),
        ),
        Parameter("no_memory_positional_encoding", (1, 1, FUSED)),
        Parameter("memory_temporal_positional_encoding", ("num_maskmem", 1, 1, MEMORY)),
        Parameter("no_object_pointer", (1, FUSED)),
        Convolution("mask_downsample", 1, 1, (4, 4)),
        Under(
            "object_pointer_proj",
            Linear("proj_in", FUSED, FUSED),
            Linear("layers.0", FUSED, FUSED),
            Linear("proj_out", FUSED, FUSED),
        ),
        When(
            "enable_temporal_pos_encoding_for_object_pointers",
            Linear("temporal_positional_encoding_projection_layer", MEMORY, FUSED),
        ),
        When("enable_occlusion_spatial_embedding", Parameter("occlusion_spatial_embedding_parameter", (1, MEMORY))),
    ),
)
SAM2_VIDEO = Assembly(SAM2, SAM2_MEMORY)

SEGMENTATION: Mapping[str, Family] = {
    "sam": Family("Sam", {"Model": SAM}),
    "sam_hq": Family("SamHQ", {"Model": sam(HQ_DECODER)}),
    "sam_hq_vision_model": Family("SamHQVision", {"Model": At("vision_encoder", SAM_VISION)}),
    "sam_vision_model": Family("SamVision", {"Model": At("vision_encoder", SAM_VISION)}),
    **HIERAS,
    **SAM2_TOWERS,
    "sam2": Family("Sam2", {"Model": SAM2}),
    "sam2_video": Family("Sam2", {"Model": SAM2, "VideoModel": SAM2_VIDEO}, "VideoModel"),
}
