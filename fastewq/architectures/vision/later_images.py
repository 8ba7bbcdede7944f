"""Later relatives of ViT and DINO: Pixio, EoMT, TIPS v2, VideoPrism, MGP-STR and SegGPT."""

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
    In,
    Linear,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    entry,
    linears,
    pair,
    patches,
    plus,
    quotient,
    scaled,
    upsampling,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Part, head_dim, unless
from fastewq.architectures.vision.clip import CLIP_LAYER, PATCH_KERNEL, fused_layer, text_layers, vision_layers
from fastewq.architectures.vision.images import (
    DINO_FACTS,
    FINAL_NORM,
    dino_ffn,
    patch_embedding,
    position_table,
    registers,
    token,
    vit,
    vit_layer,
)

# -- Pixio: a masked autoencoder with several class tokens ------------------------------------------------------------

PIXIO = vit(
    Parameter("embeddings.cls_token", (1, "n_cls_tokens", WIDTH)),
    position_table(plus(patches, "n_cls_tokens")),
    patch_embedding(),
    layer=vit_layer(ffn=dino_ffn),
    ffn=dino_ffn,
)

# -- EoMT: a tower whose last blocks read queries, too, so that it segments by itself ---------------------------------


def eomt(patch: Part, *layer: Part, ffn: Size = FFN) -> BodyBuilder:
    return Assembly(
        Rest(
            token("cls_token"),
            registers,
            patch,
            FINAL_NORM,
            Embedding("query", "num_queries"),
            Each(
                "upscale_block.block",
                "num_upscale_blocks",
                (
                    *upsampling("conv1", WIDTH, WIDTH, 2, 2),
                    Convolution("conv2", WIDTH, 1, (3, 3), bias=False),
                    Norm("layernorm2d"),
                ),
            ),
            *linears("mask_head", "fc1 fc2 fc3"),
            Linear("class_predictor", plus(labels, 1), WIDTH),
        ),
        vision_layers(
            "layers",
            Norm("norm1"),
            Norm("norm2"),
            Parameter("layer_scale1.lambda1", (WIDTH,)),
            Parameter("layer_scale2.lambda1", (WIDTH,)),
            *layer,
            ffn=ffn,
        ),
    )


EOMT = Assembly(
    Rest(Embedding("embeddings.position_embeddings", patches)),
    eomt(
        patch_embedding(),
        *linears("attention", "q_proj k_proj v_proj out_proj"),
        When(unless("use_swiglu_ffn"), Linear("mlp.fc1", dino_ffn, WIDTH), Linear("mlp.fc2", WIDTH, dino_ffn)),
        When(
            "use_swiglu_ffn",
            *linears("mlp", "gate_proj up_proj", DINO_FACTS["ffn"], WIDTH),
            Linear("mlp.down_proj", WIDTH, DINO_FACTS["ffn"]),
        ),
        ffn=DINO_FACTS["ffn"],
    ),
)
DINOV3_LAYER = (
    Linear("attention.q_proj", WIDTH, WIDTH, "query_bias"),
    Linear("attention.k_proj", WIDTH, WIDTH, "key_bias"),
    Linear("attention.v_proj", WIDTH, WIDTH, "value_bias"),
    Linear("attention.o_proj", WIDTH, WIDTH, "proj_bias"),
    When("use_gated_mlp", Linear("mlp.gate_proj", FFN, WIDTH, "mlp_bias")),
    Linear("mlp.up_proj", FFN, WIDTH, "mlp_bias"),
    Linear("mlp.down_proj", WIDTH, FFN, "mlp_bias"),
)
EOMT_DINOV3 = eomt(Convolution("embeddings.patch_embeddings", WIDTH, "num_channels", PATCH_KERNEL), *DINOV3_LAYER)

# -- TIPS v2: DINOv2's tower beside a text tower without learned positions --------------------------------------------

TIPS_VISION = vit(
    token("cls_token"),
    Parameter("embeddings.mask_token", (1, WIDTH)),
    position_table(plus(patches, 1)),
    patch_embedding(),
    registers,
    **DINO_FACTS,
)
TIPS_TEXT = Assembly(
    Rest(Embedding("embeddings.token_embedding", "vocab_size"), Norm("final_layer_norm")),
    text_layers("encoder.layers", *CLIP_LAYER),
)
TIPS = Assembly(
    Rest(Parameter("temperature", ())),
    In("vision_config", TIPS_VISION, path="vision_model"),
    In("text_config", TIPS_TEXT, path="text_model"),
)

# -- VideoPrism: blocks over the patches of a frame, then over the frames ---------------------------------------------

FRAMES = tuple(entry("tubelet_size", i) for i in range(3))


def frame_patches(f: Fields) -> int:
    (height, width), (_, rows, columns) = pair(f, "image_size"), (f[size] for size in FRAMES)
    return (height // rows) * (width // columns)


def prism_layers(path: str, count: str, name: str) -> BodyBuilder:
    return vision_layers(path, *vit_layer(), count=count, name=name, head_dim=head_dim)


PRISM = Assembly(
    Rest(
        Norm("layernorm1"),
        Norm("layernorm2"),
        Parameter("spatial_embeddings.position_embeddings", (1, frame_patches, WIDTH), "embedding"),
        Convolution("spatial_embeddings.patch_embeddings.projection", WIDTH, "num_channels", FRAMES),
        Parameter("temporal_embeddings.position_embeddings", (1, "num_frames", WIDTH), "embedding"),
    ),
    prism_layers("spatial_layers", "num_spatial_layers", "spatial"),
    prism_layers("temporal_layers", "num_temporal_layers", "temporal"),
)


def pooled(f: Fields) -> int:
    """The width of the attention that makes one vector of all: of a block's inner one, what the heads can share."""
    return f[FFN] // f[HEADS] * f[HEADS]


PRISM_HEAD = Rest(
    Under(
        "head",
        Parameter("per_dim_scale", (quotient(FFN, HEADS),)),
        Parameter("pooling_attention_query", (1, 1, WIDTH)),
        *linears("", "q_proj k_proj v_proj", pooled, WIDTH, "qkv_bias"),
        Linear("o_proj", WIDTH, pooled),
    ),
    Norm("head_layernorm"),
)
PRISM_VIDEO = Assembly(
    At("vision_model", PRISM), prism_layers("auxiliary_layers", "num_auxiliary_layers", "auxiliary"), PRISM_HEAD
)
PRISM_TEXT = Assembly(
    Rest(
        Parameter("embeddings.cls_emb", (1, 1, WIDTH)),
        Embedding("embeddings.token_embedding", "vocab_size"),
        FINAL_NORM,
    ),
    text_layers("layers", *vit_layer(), head_dim=head_dim),
)
PRISM_CLIP = Assembly(
    In("vision_config", PRISM_VIDEO, path="video_model"), In("text_config", PRISM_TEXT, path="text_model")
)

# -- MGP-STR: a word in a picture, read by letters and by two kinds of tokens -----------------------------------------

MGP_FFN = scaled(WIDTH, "mlp_ratio")
EIGHTH = quotient(WIDTH, 8)


def mgp_positions(f: Fields) -> int:
    return patches(f) + (2 if f.flag("distilled") else 1)


MGP = Assembly(
    Rest(
        token("cls_token"),
        Parameter("embeddings.pos_embed", (1, mgp_positions, WIDTH), "embedding"),
        Convolution("embeddings.proj", WIDTH, "num_channels", PATCH_KERNEL),
    ),
    vision_layers("encoder.blocks", *fused_layer("attn", "qkv_bias", ffn=MGP_FFN), ffn=MGP_FFN),
)


def longest_word(f: Fields) -> int:
    return f.size("max_token_length", 27)


def reading(kind: str, outputs: str) -> tuple[Part, ...]:
    return (
        Under(
            f"{kind}_a3_module",
            Norm("token_norm"),
            Convolution("tokenLearner.0", WIDTH, EIGHTH, (1, 1), bias=False),
            Convolution("tokenLearner.1", longest_word, WIDTH, (1, 1), bias=False),
            Convolution("feat", WIDTH, EIGHTH, (1, 1), bias=False),
            Norm("norm"),
        ),
        Linear(f"{kind}_head", outputs, WIDTH),
    )


MGP_READS = Assembly(
    At("mgp_str", MGP),
    Rest(
        *reading("char", "num_character_labels"),
        *reading("bpe", "num_bpe_labels"),
        *reading("wp", "num_wordpiece_labels"),
    ),
)

# -- SegGPT: what to segment is shown by another image and its mask ---------------------------------------------------


def seggpt_ffn(f: Fields) -> int:
    return f.optional_size("mlp_dim") or 4 * f[WIDTH]


def shown_positions(f: Fields) -> int:
    return (f["pretrain_image_size"] // f["patch_size"]) ** 2 + 1


def distances(side: int) -> Size:
    return lambda f: 2 * (pair(f, "image_size")[side] // pair(f, "patch_size")[side]) - 1


HEAD = quotient(WIDTH, HEADS)
SEGGPT = Assembly(
    Rest(
        *(
            Parameter(f"embeddings.{name}", (1, 1, 1, WIDTH))
            for name in (
                "mask_token",
                "segment_token_input",
                "segment_token_prompt",
                "type_token_semantic",
                "type_token_instance",
            )
        ),
        position_table(shown_positions),
        patch_embedding(),
        Norm("encoder.layernorm"),
    ),
    vision_layers(
        "encoder.layers",
        When(
            "use_relative_position_embeddings",
            Parameter("attention.rel_pos_h", (distances(0), HEAD), "embedding"),
            Parameter("attention.rel_pos_w", (distances(1), HEAD), "embedding"),
        ),
        Linear("attention.qkv", f"3*{WIDTH}", WIDTH, "qkv_bias"),
        Linear("attention.proj", WIDTH, WIDTH),
        Linear("mlp.lin1", seggpt_ffn, WIDTH),
        Linear("mlp.lin2", WIDTH, seggpt_ffn),
        Norm("layernorm_before"),
        Norm("layernorm_after"),
        ffn=seggpt_ffn,
    ),
)


def remembered(f: Fields) -> int:
    """Features of all the blocks that the decoder reads."""
    indices = f.value("intermediate_hidden_state_indices")
    if not isinstance(indices, list | tuple) or len(indices) > 128:
        raise f.refuse("intermediate_hidden_state_indices", indices, "a list of at most 128 layers")
    return f[WIDTH] * len(indices)


NARROW = "decoder_hidden_size"
SEGGPT_DRAWS = Assembly(
    At("model", SEGGPT),
    Rest(
        Under(
            "decoder",
            Linear("decoder_embed", f"patch_size*patch_size*{NARROW}", remembered),
            Convolution("decoder_pred.conv", NARROW, NARROW, (3, 3)),
            Norm("decoder_pred.layernorm", NARROW),
            Convolution("decoder_pred.head", 3, NARROW, (1, 1)),
        )
    ),
)

SEGMENTS = "ForUniversalSegmentation"
READS = "ForSceneTextRecognition"
DRAWS = "ForImageSegmentation"
VIDEO = "ForVideoClassification"
LATER_IMAGES: Mapping[str, Family] = {
    "pixio": Family("Pixio", {"Model": PIXIO, "Backbone": Assembly(At("pixio", PIXIO), Rest(FINAL_NORM))}),
    "eomt": Family("Eomt", {SEGMENTS: EOMT}, SEGMENTS, SEGMENTS),
    "eomt_dinov3": Family("EomtDinov3", {SEGMENTS: EOMT_DINOV3}, SEGMENTS, SEGMENTS),
    "tipsv2_vision_model": Family("Tipsv2Vision", {"Model": TIPS_VISION, "Backbone": TIPS_VISION}),
    "tipsv2_text_model": Family("Tipsv2Text", {"Model": TIPS_TEXT}),
    "tipsv2": Family("Tipsv2", {"Model": TIPS}),
    "videoprism_text_model": Family("VideoPrismText", {"Model": PRISM_TEXT}),
    "videoprism_vision_model": Family(
        "VideoPrism",
        {
            "VisionModel": PRISM,
            "VideoModel": PRISM_VIDEO,
            VIDEO: Assembly(At("vision_model", PRISM), PRISM_HEAD, Rest(Linear("classifier", labels, WIDTH))),
        },
        "VisionModel",
        "VisionModel",
    ),
    "videoprism": Family("VideoPrism", {"ClipModel": PRISM_CLIP}, "ClipModel", "ClipModel"),
    "mgp-str": Family("Mgpstr", {"Model": MGP, READS: MGP_READS}, READS),
    "seggpt": Family("SegGpt", {"Model": SEGGPT, DRAWS: SEGGPT_DRAWS}, DRAWS),
}
