"""Models that read images, video frames or spectrograms alone: ViT and its relatives, with their classifiers."""

from __future__ import annotations

from typing import Any

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    MAX_ENTRIES,
    WIDTH,
    Assembly,
    At,
    Convolution,
    Each,
    Expect,
    Family,
    Layers,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    Stages,
    Under,
    When,
    either,
    entry,
    labels,
    length,
    linears,
    pair,
    patches,
    plus,
    positive,
    query_width,
    scaled,
    sizes,
    unless,
)
from fastewq.architectures.bert import ONE_MATRIX, POOLER
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import MAX_LAYERS, Fields, Size
from fastewq.architectures.parts import Option, Part, Tensors, head_dim
from fastewq.architectures.vision import PATCH_KERNEL, vision_layers

# -- ViT --------------------------------------------------------------------------------------------------------------


def vit_layer(
    width: Size = WIDTH,
    ffn: Size = FFN,
    inner: Size = query_width,
    *,
    query: Option = "qkv_bias",
    key: Option = "qkv_bias",
    value: Option = "qkv_bias",
) -> tuple[Part, ...]:
    return (
        Linear("attention.q_proj", inner, width, query),
        Linear("attention.k_proj", inner, width, key),
        Linear("attention.v_proj", inner, width, value),
        Linear("attention.o_proj", width, inner),
        Norm("layernorm_before", width),
        Norm("layernorm_after", width),
        Linear("mlp.fc1", ffn, width),
        Linear("mlp.fc2", width, ffn),
    )


def older_vit_layer(
    *, query: Option = "qkv_bias", key: Option = "qkv_bias", value: Option = "qkv_bias"
) -> tuple[Part, ...]:
    """The same tensors below the module names of BERT."""
    return (
        Linear("attention.attention.query", WIDTH, WIDTH, query),
        Linear("attention.attention.key", WIDTH, WIDTH, key),
        Linear("attention.attention.value", WIDTH, WIDTH, value),
        Linear("attention.output.dense", WIDTH, WIDTH),
        Linear("intermediate.dense", FFN, WIDTH),
        Linear("output.dense", WIDTH, FFN),
        Norm("layernorm_before"),
        Norm("layernorm_after"),
    )


def token(name: str) -> Part:
    return Parameter(f"embeddings.{name}", (1, 1, WIDTH))


def patch_embedding(*kernel: Size, width: Size = WIDTH, channels: Size = "num_channels") -> Part:
    return Convolution("embeddings.patch_embeddings.projection", width, channels, kernel or PATCH_KERNEL)


def position_table(rows: Size, width: Size = WIDTH) -> Part:
    return Parameter("embeddings.position_embeddings", (1, rows, width), "embedding")


FINAL_NORM = Norm("layernorm")


def vit(
    *embeddings: Part,
    norm: Part | None = FINAL_NORM,
    layer: tuple[Part, ...] = vit_layer(),
    path: str = "layers",
    **facts: Any,
) -> BodyBuilder:
    return Assembly(
        Rest(*embeddings, *((norm,) if norm else ())), vision_layers(path, *layer, **{"head_dim": head_dim, **facts})
    )


def side(name: str) -> Size:
    """Height of a patch; these models want square ones where they rebuild an image."""
    return lambda f: pair(f, name)[0]


def classifies(
    prefix: str, body: BodyBuilder, pooled: BodyBuilder | None = None, ending: str = "ForImageClassification"
) -> dict[str, BodyBuilder]:
    """The body, and the body with a classifier; `pooled` is the body of `Model` where that has a pooler."""
    return {"Model": pooled or body, ending: Assembly(At(prefix, body), ONE_MATRIX)}


CLS_AND_PATCHES = (token("cls_token"), position_table(plus(patches, 1)), patch_embedding())
VIT = vit(*CLS_AND_PATCHES)
DEIT = vit(token("cls_token"), token("distillation_token"), position_table(plus(patches, 2)), patch_embedding())
IJEPA = vit(position_table(patches), patch_embedding())


def rebuilt_pixels(f: Fields) -> int:
    return f["encoder_stride"] ** 2 * f["num_channels"]


def rebuilding(prefix: str, body: BodyBuilder, width: Size = WIDTH, token_width: Size = WIDTH) -> BodyBuilder:
    """Masked image modelling: a mask token and a convolution that predicts pixels."""
    return Assembly(
        At(prefix, body, Rest(Parameter("embeddings.mask_token", (1, 1, token_width)))),
        Rest(Convolution("decoder.0", rebuilt_pixels, width, (1, 1))),
    )


VIT_POOLER = Rest(Linear("pooler.dense", either("pooler_output_size", WIDTH), WIDTH))
DEIT_HEADS: dict[str, BodyBuilder] = {
    **classifies("deit", DEIT, Assembly(DEIT, VIT_POOLER)),
    "ForImageClassificationWithTeacher": Assembly(
        At("deit", DEIT),
        Rest(Linear("cls_classifier", labels, WIDTH), Linear("distillation_classifier", labels, WIDTH)),
    ),
    "ForMaskedImageModeling": rebuilding("deit", DEIT),
}
MAE_WIDTH = "decoder_hidden_size"
MAE_FFN = "decoder_intermediate_size"


def patch_pixels(f: Fields) -> int:
    rows, columns = pair(f, "patch_size")
    return rows * columns * f["num_channels"]


def mae_inner(f: Fields) -> int:
    heads = f["decoder_num_attention_heads"]
    return heads * (f.optional_size("head_dim") or f[MAE_WIDTH] // heads)


MAE_DECODER = Assembly(
    Rest(
        Parameter("mask_token", (1, 1, MAE_WIDTH)),
        Parameter("decoder_pos_embed", (1, plus(patches, 1), MAE_WIDTH), "embedding"),
        Linear("decoder_embed", MAE_WIDTH, WIDTH),
        Norm("decoder_norm", MAE_WIDTH),
        Linear("decoder_pred", patch_pixels, MAE_WIDTH),
    ),
    Layers(
        "decoder_layers",
        vit_layer(MAE_WIDTH, MAE_FFN, mae_inner),
        count="decoder_num_hidden_layers",
        name="decoder",
        role="vision",
        width=MAE_WIDTH,
        heads="decoder_num_attention_heads",
        ffn=MAE_FFN,
    ),
)

# -- video and sound --------------------------------------------------------------------------------------------------


def tubelets(f: Fields) -> int:
    """Blocks of pixels through time."""
    time, height, width = sizes(f, "tubelet_size", 3)[:3]
    return (f["num_frames"] // time) * (f["image_size"] // height) * (f["image_size"] // width)


VIVIT = vit(
    token("cls_token"),
    position_table(plus(tubelets, 1)),
    patch_embedding(*(entry("tubelet_size", i) for i in range(3))),
)
VIDEOMAE = vit(
    patch_embedding("tubelet_size", "patch_size", "patch_size"),
    layer=older_vit_layer(query="qv_bias", key=False, value="qv_bias"),
    path="encoder.layer",
    norm=None,
)


def averages(f: Fields) -> bool:
    return f.flag("use_mean_pooling")


VIDEOMAE_MODEL = Assembly(VIDEOMAE, Rest(When(unless(averages), Norm("layernorm"))))


def spectrogram_patches(f: Fields) -> int:
    patch = f["patch_size"]
    along_frequency = (f["num_mel_bins"] - patch) // f["frequency_stride"] + 1
    along_time = (f["max_length"] - patch) // f["time_stride"] + 1
    return along_frequency * along_time


AST = vit(
    token("cls_token"),
    token("distillation_token"),
    position_table(plus(spectrogram_patches, 2)),
    patch_embedding("patch_size", "patch_size", channels=1),
    name="audio",
    role="audio",
)

# -- layer scale: BEiT, DINOv2, DINOv3 --------------------------------------------------------------------------------


def scales(f: Fields) -> bool:
    return f.number("layer_scale_init_value") > 0


def beit_window(f: Fields) -> tuple[int, int]:
    (height, width), (rows, columns) = pair(f, "image_size"), pair(f, "patch_size")
    return height // rows, width // columns


def beit_distances(f: Fields) -> int:
    """Rows of a relative-position table: every distance between two patches, and three for the class token."""
    height, width = beit_window(f)
    return (2 * height - 1) * (2 * width - 1) + 3


RELATIVE_POSITIONS = "use_relative_position_bias"
SHARED_POSITIONS = "use_shared_relative_position_bias"
LAYER_SCALE = When(scales, Parameter("lambda_1", (WIDTH,)), Parameter("lambda_2", (WIDTH,)))
BEIT_EMBEDDINGS = (
    token("cls_token"),
    When("use_mask_token", token("mask_token")),
    When("use_absolute_position_embeddings", position_table(plus(patches, 1))),
    patch_embedding(),
)


def relative_table(name: str) -> Part:
    return Parameter(f"{name}.relative_position_bias_table", (beit_distances, HEADS), "embedding")


BEIT = vit(
    *BEIT_EMBEDDINGS,
    When(SHARED_POSITIONS, relative_table("shared_position_bias")),
    When(unless("use_mean_pooling"), Norm("layernorm")),
    norm=None,
    layer=(
        *vit_layer(query=True, key=False, value=True),
        LAYER_SCALE,
        When(RELATIVE_POSITIONS, relative_table("relative_position_bias")),
    ),
)
MEAN_POOLER = Rest(When("use_mean_pooling", Norm("pooler.layernorm")))
BEIT_POOLED = Assembly(BEIT, MEAN_POOLER)
DATA2VEC_VISION = vit(
    *BEIT_EMBEDDINGS,
    When(SHARED_POSITIONS, relative_table("encoder.relative_position_bias")),
    When(unless("use_mean_pooling"), Norm("layernorm")),
    norm=None,
    path="encoder.layer",
    layer=(
        *older_vit_layer(query=True, key=False, value=True),
        LAYER_SCALE,
        When(RELATIVE_POSITIONS, relative_table("attention.attention.relative_position_bias")),
    ),
)


def dino_ffn(f: Fields) -> int:
    return int(f[WIDTH] * f.number("mlp_ratio"))


def swiglu_ffn(f: Fields) -> int:
    """Two thirds of the plain width, rounded up to a multiple of eight."""
    return (int(dino_ffn(f) * 2 / 3) + 7) // 8 * 8


DINOV2_LAYER = (
    Norm("norm1"),
    Norm("norm2"),
    *linears("attention", "q_proj k_proj v_proj", query_width, bias="qkv_bias"),
    Linear("attention.o_proj", WIDTH, query_width),
    Parameter("layer_scale1.lambda1", (WIDTH,)),
    Parameter("layer_scale2.lambda1", (WIDTH,)),
    When(unless("use_swiglu_ffn"), Linear("mlp.fc1", dino_ffn, WIDTH), Linear("mlp.fc2", WIDTH, dino_ffn)),
    When(
        "use_swiglu_ffn",
        *linears("mlp", "gate_proj up_proj", swiglu_ffn, WIDTH),
        Linear("mlp.down_proj", WIDTH, swiglu_ffn),
    ),
)
DINO_FACTS: dict[str, Any] = {
    "layer": DINOV2_LAYER,
    "path": "encoder.layer",
    "ffn": lambda f: swiglu_ffn(f) if f.flag("use_swiglu_ffn") else dino_ffn(f),
}


def masks(f: Fields) -> bool:
    return f.flag("use_mask_token", True)


DINOV2 = vit(*CLS_AND_PATCHES, When(masks, Parameter("embeddings.mask_token", (1, WIDTH))), **DINO_FACTS)


def registers(f: Fields) -> int:
    return f.count("num_register_tokens", high=MAX_LAYERS)


REGISTERS = Parameter("embeddings.register_tokens", (1, registers, WIDTH))
DINOV2_REGISTERS = vit(
    *CLS_AND_PATCHES,
    Parameter("embeddings.mask_token", (1, WIDTH)),
    When(positive("num_register_tokens"), REGISTERS),
    **DINO_FACTS,
)
TWO_TOKENS = Rest(Linear("classifier", labels, "2*hidden_size"))
"""The class token beside the mean of the patches."""


def dino_classes(prefix: str, body: BodyBuilder) -> dict[str, BodyBuilder]:
    return {"Model": body, "Backbone": body, "ForImageClassification": Assembly(At(prefix, body), TWO_TOKENS)}


DINOV3_BODY = Assembly(
    Rest(
        token("cls_token"),
        token("mask_token"),
        REGISTERS,
        Convolution("embeddings.patch_embeddings", WIDTH, "num_channels", PATCH_KERNEL),
        Norm("norm"),
    ),
    vision_layers(
        "model.layer",
        Norm("norm1"),
        Norm("norm2"),
        Linear("attention.q_proj", WIDTH, WIDTH, "query_bias"),
        Linear("attention.k_proj", WIDTH, WIDTH, "key_bias"),
        Linear("attention.v_proj", WIDTH, WIDTH, "value_bias"),
        Linear("attention.o_proj", WIDTH, WIDTH, "proj_bias"),
        Parameter("layer_scale1.lambda1", (WIDTH,)),
        Parameter("layer_scale2.lambda1", (WIDTH,)),
        When("use_gated_mlp", Linear("mlp.gate_proj", FFN, WIDTH, "mlp_bias")),
        Linear("mlp.up_proj", FFN, WIDTH, "mlp_bias"),
        Linear("mlp.down_proj", WIDTH, FFN, "mlp_bias"),
    ),
)

# -- hierarchies: Swin, SegFormer -------------------------------------------------------------------------------------


def swin_level(f: Fields, stage: int) -> Fields:
    """One stage: its width doubles with every stage, heads and depth are listed."""
    heads, depths = sizes(f, "num_heads"), sizes(f, "depths", len(sizes(f, "num_heads")))
    return f.replaced(stage_width=f["embed_dim"] * 2**stage, stage_heads=heads[stage], stage_depth=depths[stage])


def swin_distances(f: Fields) -> int:
    rows, columns = pair(f, "window_size")
    return (2 * rows - 1) * (2 * columns - 1)


SWIN_FFN = scaled("stage_width", "mlp_ratio")
SWIN_TABLE = "attention.relative_position_bias.relative_position_bias_table"


def swin_stage(i: int) -> Layers:
    return vision_layers(
        f"encoder.layers.{i}.blocks",
        *vit_layer("stage_width", SWIN_FFN, "stage_width"),
        Parameter(SWIN_TABLE, (swin_distances, "stage_heads"), "embedding"),
        count="stage_depth",
        width="stage_width",
        heads="stage_heads",
        ffn=SWIN_FFN,
    )


def swin_width(f: Fields) -> int:
    """Width of the last stage."""
    return f["embed_dim"] << (len(sizes(f, "depths")) - 1)


def swin_last_width(f: Fields) -> int:
    """The same by `num_layers`, which the pixel decoder goes by."""
    return f["embed_dim"] << (f.count("num_layers", len(sizes(f, "depths")), low=1, high=MAX_ENTRIES) - 1)


def swin_merges(f: Fields) -> Tensors:
    """Between stages: four patches become one of twice the width."""
    return tuple(
        t
        for i in range(len(sizes(f, "depths")) - 1)
        for part in swin_merge(f"encoder.layers.{i}.downsample", f["embed_dim"] * 2**i)
        for t in part(f)
    )


def swin_merge(path: str, width: int) -> tuple[Part, ...]:
    return (Linear(f"{path}.reduction", 2 * width, 4 * width, False), Norm(f"{path}.norm", 4 * width))


SWIN = Assembly(
    Rest(
        patch_embedding(width="embed_dim"),
        When("use_absolute_embeddings", position_table(patches, "embed_dim")),
        Norm("embeddings.norm", "embed_dim"),
        swin_merges,
        Norm("layernorm", swin_width),
    ),
    Stages(length("depths"), swin_stage, swin_level),
)


def swinv2_stage(i: int) -> Layers:
    """Attention by cosine, with a scale per head and a small network for relative positions."""
    return vision_layers(
        f"encoder.layers.{i}.blocks",
        Under(
            "attention.self",
            Parameter("logit_scale", ("stage_heads", 1, 1)),
            Linear("continuous_position_bias_mlp.0", 512, 2),
            Linear("continuous_position_bias_mlp.2", "stage_heads", 512, False),
            *linears("", "query value", "stage_width", "stage_width", "qkv_bias"),
            Linear("key", "stage_width", "stage_width", False),
        ),
        Linear("attention.output.dense", "stage_width", "stage_width"),
        Linear("intermediate.dense", SWIN_FFN, "stage_width"),
        Linear("output.dense", "stage_width", SWIN_FFN),
        Norm("layernorm_before", "stage_width"),
        Norm("layernorm_after", "stage_width"),
        count="stage_depth",
        width="stage_width",
        heads="stage_heads",
        ffn=SWIN_FFN,
    )


def swinv2_merges(f: Fields) -> Tensors:
    """Between stages, with the norm after the matrix."""
    return tuple(
        t
        for i in range(len(sizes(f, "depths")) - 1)
        for width in [f["embed_dim"] * 2**i]
        for part in (
            Linear(f"encoder.layers.{i}.downsample.reduction", 2 * width, 4 * width, False),
            Norm(f"encoder.layers.{i}.downsample.norm", 2 * width),
        )
        for t in part(f)
    )


SWINV2 = Assembly(
    Rest(
        patch_embedding(width="embed_dim"),
        When("use_absolute_embeddings", position_table(plus(patches, 1), "embed_dim")),
        Norm("embeddings.norm", "embed_dim"),
        swinv2_merges,
    ),
    Stages(length("depths"), swinv2_stage, swin_level),
)
SWINV2_MODEL = Assembly(SWINV2, Rest(Norm("layernorm", swin_width)))


def segformer_level(f: Fields, stage: int) -> Fields:
    widths = sizes(f, "hidden_sizes", f["num_encoder_blocks"])
    named = {name: sizes(f, field, stage + 1)[stage] for name, field in SEGFORMER_LISTS.items()}
    return f.replaced(before=widths[stage - 1] if stage else f["num_channels"], **named)


SEGFORMER_LISTS = {
    "stage_width": "hidden_sizes",
    "stage_heads": "num_attention_heads",
    "stage_depth": "depths",
    "stage_ratio": "sr_ratios",
    "stage_kernel": "patch_sizes",
    "stage_growth": "mlp_ratios",
}
SEGFORMER_FFN = "stage_width*stage_growth"


def reduces(f: Fields) -> bool:
    return f["stage_ratio"] > 1


def segformer_stage(i: int) -> Layers:
    return vision_layers(
        f"stages.{i}.blocks",
        *linears("attention", "q_proj k_proj v_proj", "stage_width", "stage_width"),
        Linear("attention.o_proj", "stage_width", "stage_width"),
        When(
            reduces,
            Under(
                "attention.sequence_reduction",
                Convolution("sequence_reduction", "stage_width", "stage_width", ("stage_ratio", "stage_ratio")),
                Norm("layer_norm", "stage_width"),
            ),
        ),
        Norm("layernorm_before", "stage_width"),
        Norm("layernorm_after", "stage_width"),
        Linear("mlp.fc1", SEGFORMER_FFN, "stage_width"),
        Linear("mlp.fc2", "stage_width", SEGFORMER_FFN),
        Convolution("mlp.dwconv.dwconv", SEGFORMER_FFN, 1, (3, 3)),
        count="stage_depth",
        width="stage_width",
        heads="stage_heads",
        ffn=SEGFORMER_FFN,
    )


def segformer_patches(f: Fields) -> Tensors:
    """Before the blocks of each stage: overlapping patches; after them: a norm."""
    parts = (
        Convolution("patch_embeddings.proj", "stage_width", "before", ("stage_kernel", "stage_kernel")),
        Norm("patch_embeddings.layer_norm", "stage_width"),
        Norm("layer_norm", "stage_width"),
    )
    return tuple(
        t
        for i in range(f.count("num_encoder_blocks", high=MAX_ENTRIES))
        for t in Under(f"stages.{i}", *parts)(segformer_level(f, i))
    )


SEGFORMER = Assembly(Rest(segformer_patches), Stages("num_encoder_blocks", segformer_stage, segformer_level))


def segformer_projections(f: Fields) -> Tensors:
    return tuple(
        t
        for i, width in enumerate(sizes(f, "hidden_sizes", f["num_encoder_blocks"])[: f["num_encoder_blocks"]])
        for t in Linear(f"decode_head.linear_projections.{i}.proj", "decoder_hidden_size", width)(f)
    )


# -- ViT as a detector: YOLOS, ViTPose --------------------------------------------------------------------------------


def yolos_positions(f: Fields) -> int:
    return patches(f) + f["num_detection_tokens"] + 1


def middle_positions(f: Fields) -> int:
    """As many as there would be if patches were not cut off at the sides of an image."""
    (height, width), patch = pair(f, "image_size"), pair(f, "patch_size")[0]
    return height * width // patch**2 + f["num_detection_tokens"] + 1


def middle_layers(f: Fields) -> int:
    return f.layers() - 1


YOLOS = vit(
    token("cls_token"),
    Parameter("embeddings.detection_tokens", (1, "num_detection_tokens", WIDTH)),
    position_table(yolos_positions),
    patch_embedding(),
    When(
        "use_mid_position_embeddings",
        Parameter("encoder.interpolation.mid_position_embeddings", (middle_layers, 1, middle_positions, WIDTH)),
    ),
    layer=older_vit_layer(),
    path="encoder.layer",
    head_dim=None,
)


def three_matrices(name: str, outputs: Size) -> Part:
    return Under(
        name,
        Linear("layers.0", WIDTH, WIDTH),
        Linear("layers.1", WIDTH, WIDTH),
        Linear("layers.2", outputs, WIDTH),
    )


YOLOS_DETECTOR = Rest(three_matrices("class_labels_classifier", plus(labels, 1)), three_matrices("bbox_predictor", 4))
VITPOSE_FFN = scaled(WIDTH, "mlp_ratio")


def expert_outputs(f: Fields) -> int:
    """Of the outputs, those that an expert of the data set gives."""
    return f["part_features"] if f["num_experts"] > 1 else 0


VITPOSE_BACKBONE = vit(
    position_table(plus(patches, 1)),
    patch_embedding(),
    layer=(
        Linear("attention.attention.query", WIDTH, WIDTH, "qkv_bias"),
        Linear("attention.attention.key", WIDTH, WIDTH, "qkv_bias"),
        Linear("attention.attention.value", WIDTH, WIDTH, "qkv_bias"),
        Linear("attention.output.dense", WIDTH, WIDTH),
        Linear("mlp.fc1", VITPOSE_FFN, WIDTH),
        Linear("mlp.fc2", lambda f: f[WIDTH] - expert_outputs(f), VITPOSE_FFN),
        When(
            lambda f: f["num_experts"] > 1,
            Each("mlp.experts", "num_experts", (Linear("", "part_features", VITPOSE_FFN),)),
        ),
        Norm("layernorm_before"),
        Norm("layernorm_after"),
    ),
    path="encoder.layer",
    head_dim=None,
    ffn=VITPOSE_FFN,
)
VITPOSE_TOWERS: dict[str, Family] = {
    "vitpose_backbone": Family("VitPose", {"Backbone": VITPOSE_BACKBONE}, "Backbone", "Backbone"),
}
SEEN = "backbone_config.hidden_size"
VITPOSE = Assembly(
    Nested("backbone_config", "backbone", VITPOSE_TOWERS),
    Rest(
        When("use_simple_decoder", Convolution("head.conv", labels, SEEN, (3, 3))),
        When(
            unless("use_simple_decoder"),
            Parameter("head.deconv1.weight", (SEEN, 256, 4, 4), "conv"),
            Norm("head.batchnorm1", 256),
            Parameter("head.deconv2.weight", (256, 256, 4, 4), "conv"),
            Norm("head.batchnorm2", 256),
            Convolution("head.conv", labels, 256, (1, 1)),
        ),
    ),
)

SEGFORMER_HEAD = Rest(
    segformer_projections,
    Convolution(
        "decode_head.linear_fuse", "decoder_hidden_size", "decoder_hidden_size*num_encoder_blocks", (1, 1), bias=False
    ),
    Norm("decode_head.batch_norm", "decoder_hidden_size"),
    Convolution("decode_head.classifier", labels, "decoder_hidden_size", (1, 1)),
)

IMAGES: dict[str, Family] = {
    **VITPOSE_TOWERS,
    "vitpose": Family("VitPose", {"ForPoseEstimation": VITPOSE}, "ForPoseEstimation", "ForPoseEstimation"),
    "yolos": Family(
        "Yolos",
        {"Model": Assembly(YOLOS, POOLER), "ForObjectDetection": Assembly(At("vit", YOLOS), YOLOS_DETECTOR)},
        "ForObjectDetection",
    ),
    "vit": Family(
        "ViT",
        {**classifies("vit", VIT, Assembly(VIT, VIT_POOLER)), "ForMaskedImageModeling": rebuilding("vit", VIT)},
    ),
    "deit": Family("DeiT", DEIT_HEADS),
    "vit_msn": Family("ViTMSN", classifies("vit", VIT)),
    "vit_mae": Family("ViTMAE", {"Model": VIT, "ForPreTraining": Assembly(At("vit", VIT), At("decoder", MAE_DECODER))}),
    "ijepa": Family("IJepa", classifies("ijepa", IJEPA)),
    "vivit": Family("Vivit", classifies("vivit", VIVIT, Assembly(VIVIT, VIT_POOLER), "ForVideoClassification")),
    "videomae": Family(
        "VideoMAE",
        {
            "Model": VIDEOMAE_MODEL,
            "ForVideoClassification": Assembly(
                At("videomae", VIDEOMAE_MODEL), Rest(When(averages, Norm("fc_norm"))), ONE_MATRIX
            ),
        },
    ),
    "audio-spectrogram-transformer": Family(
        "AST",
        {
            "Model": AST,
            "ForAudioClassification": Assembly(
                At("audio_spectrogram_transformer", AST),
                Rest(Norm("classifier.layernorm"), Linear("classifier.dense", labels, WIDTH)),
            ),
        },
    ),
    "beit": Family(
        "Beit",
        {
            "Model": BEIT_POOLED,
            "Backbone": Assembly(Expect("add_fpn", False), At("beit", BEIT)),
            "ForImageClassification": Assembly(At("beit", BEIT_POOLED), ONE_MATRIX),
            "ForMaskedImageModeling": Assembly(
                At("beit", BEIT), Rest(Norm("layernorm"), Linear("lm_head", "vocab_size", WIDTH))
            ),
        },
    ),
    "data2vec-vision": Family(
        "Data2VecVision",
        {
            "Model": DATA2VEC_VISION,
            "ForImageClassification": Assembly(At("data2vec_vision", DATA2VEC_VISION, MEAN_POOLER), ONE_MATRIX),
        },
    ),
    "dinov2": Family("Dinov2", dino_classes("dinov2", DINOV2)),
    "dinov2_with_registers": Family("Dinov2WithRegisters", dino_classes("dinov2_with_registers", DINOV2_REGISTERS)),
    "dinov3_vit": Family("DINOv3ViT", {"Model": DINOV3_BODY, "Backbone": DINOV3_BODY}),
    "swin": Family(
        "Swin",
        {
            "Model": SWIN,
            "ForImageClassification": Assembly(At("swin", SWIN), Rest(Linear("classifier", labels, swin_width))),
            "ForMaskedImageModeling": rebuilding("swin", SWIN, swin_last_width, "embed_dim"),
        },
    ),
    "swinv2": Family(
        "Swinv2",
        {
            "Model": SWINV2_MODEL,
            "Backbone": SWINV2,
            "ForImageClassification": Assembly(
                At("swinv2", SWINV2_MODEL), Rest(Linear("classifier", labels, swin_width))
            ),
            "ForMaskedImageModeling": rebuilding("swinv2", SWINV2_MODEL, swin_last_width, "embed_dim"),
        },
    ),
    "segformer": Family(
        "Segformer",
        {
            "Model": SEGFORMER,
            "ForImageClassification": Assembly(
                At("segformer", SEGFORMER), Rest(Linear("classifier", labels, entry("hidden_sizes", -1)))
            ),
            "ForSemanticSegmentation": Assembly(At("segformer", SEGFORMER), SEGFORMER_HEAD),
        },
    ),
}
