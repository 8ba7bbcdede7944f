"""Models that read images, video frames or spectrograms alone: ViT and its relatives, with their classifiers."""

from __future__ import annotations

from typing import Any

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
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
    Under,
    When,
    both,
    entry,
    linears,
    pair,
    patches,
    plus,
    positive,
    query_width,
    scaled,
    sizes,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.encoders.bert import ONE_MATRIX, POOLER
from fastewq.architectures.fields import MAX_LAYERS, Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Option, Part, Tensors, field_or, head_dim, parameter, unless
from fastewq.architectures.vision.clip import PATCH_KERNEL, vision_layers

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


VIT_POOLER = Rest(Linear("pooler.dense", field_or("pooler_output_size", WIDTH), WIDTH))
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


def videomae_bias(f: Fields) -> bool:
    """Under the name that published files have for it, if it is there."""
    return f.flag("qkv_bias" if f.has("qkv_bias") else "qv_bias")


VIDEOMAE = vit(
    patch_embedding("tubelet_size", "patch_size", "patch_size"),
    layer=older_vit_layer(query=videomae_bias, key=False, value=videomae_bias),
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


def registers(f: Fields) -> Tensors:
    return parameter("embeddings.register_tokens", 1, f.count("num_register_tokens", high=MAX_LAYERS), f[WIDTH])


DINOV2_REGISTERS = vit(
    *CLS_AND_PATCHES,
    Parameter("embeddings.mask_token", (1, WIDTH)),
    When(positive("num_register_tokens"), registers),
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
        registers,
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
        both("use_mid_position_embeddings", lambda f: f.layers() != 1),
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
}
