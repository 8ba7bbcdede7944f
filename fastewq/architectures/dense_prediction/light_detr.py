"""LW-DETR and RF-DETR: detectors that look at a few points of a plain tower's features, light enough for real time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastewq.architectures.assembly import (
    FFN,
    MAX_ENTRIES,
    Adjusted,
    Assembly,
    At,
    Convolution,
    Each,
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
    query_width,
    scaled,
    tensors,
    upsampling,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Part, Tensors
from fastewq.architectures.parts import head_dim as tower_head_dim
from fastewq.architectures.vision.clip import PATCH_KERNEL, vision_layers
from fastewq.architectures.vision.images import (
    CLS_AND_PATCHES,
    DINO_FACTS,
    dino_ffn,
    masks,
    position_table,
    vit,
)
from fastewq.architectures.vision.vitdet import first_positions

WIDTH: Final = "d_model"
TOWER: Final = "hidden_size"

# -- towers -----------------------------------------------------------------------------------------------------------


VIT = Assembly(
    Rest(
        When("use_absolute_position_embeddings", position_table(first_positions)),
        Convolution("embeddings.projection", TOWER, "num_channels", PATCH_KERNEL),
    ),
    vision_layers(
        "encoder.layer",
        Parameter("gamma_1", (TOWER,)),
        Parameter("gamma_2", (TOWER,)),
        *linears("attention", "q_proj v_proj", query_width, bias="qkv_bias"),
        Linear("attention.k_proj", query_width, TOWER, False),
        Linear("attention.o_proj", TOWER, query_width),
        Linear("intermediate.fc1", dino_ffn, TOWER),
        Linear("intermediate.fc2", TOWER, dino_ffn),
        Norm("layernorm_before"),
        Norm("layernorm_after"),
        head_dim=tower_head_dim,
        ffn=dino_ffn,
    ),
)
DINOV2 = vit(*CLS_AND_PATCHES, When(masks, Parameter("embeddings.mask_token", (1, TOWER))), **DINO_FACTS)
VITS: Mapping[str, Family] = {"lw_detr_vit": Family("LwDetrViT", {"Backbone": VIT}, "Backbone", "Backbone")}
DINOS: Mapping[str, Family] = {"rf_detr_dinov2": Family("RfDetrDinov2", {"Backbone": DINOV2}, "Backbone", "Backbone")}


def stages(f: Fields) -> int:
    """How many blocks of the tower are looked at: the last, where the config names none."""
    backbone = f.sub("backbone_config")
    for name in ("out_features", "out_indices"):
        listed = backbone.value(name, None)
        if listed is not None:
            if not isinstance(listed, list | tuple) or not 0 < len(listed) <= MAX_ENTRIES:
                raise backbone.refuse(name, listed, f"a list of at most {MAX_ENTRIES} stages")
            return len(listed)
    return 1


# -- from the tower's features to the decoder's -----------------------------------------------------------------------

HIDDEN = scaled(WIDTH, "hidden_expansion")


def normed(name: str, outputs: Size, inputs: Size, kernel: int) -> Part:
    return Under(name, Convolution("conv", outputs, inputs, (kernel, kernel), bias=False), Norm("norm", outputs))


def projector(inputs: Size) -> tuple[Part, ...]:
    def joined(f: Fields) -> int:
        return (2 + f.count("c2f_num_blocks", high=MAX_ENTRIES)) * f[HIDDEN]

    return (
        Under(
            "projector_layer",
            normed("conv1", lambda f: 2 * f[HIDDEN], inputs, 1),
            normed("conv2", WIDTH, joined, 1),
            Each("bottlenecks", "c2f_num_blocks", tuple(normed(f"conv{i}", HIDDEN, HIDDEN, 3) for i in (1, 2))),
        ),
        Norm("layer_norm", WIDTH),
    )


def scales(f: Fields) -> list[float]:
    given = f.value("projector_scale_factors")
    if not isinstance(given, list | tuple) or not 0 < len(given) <= MAX_ENTRIES:
        raise f.refuse("projector_scale_factors", given, f"a list of at most {MAX_ENTRIES} numbers, and one at least")
    for scale in given:
        if type(scale) not in (int, float) or scale not in (0.5, 1, 2):
            raise f.refuse("projector_scale_factors", scale, "one of 0.5, 1.0, 2.0")
    return [float(scale) for scale in given]


def resampling(width: int, scale: float) -> tuple[int, tuple[Part, ...]]:
    """The width of one stage's features after they were brought to a scale, and the tensors that do it."""
    if scale == 2.0 and width > 512:
        half = width // 2
        return width // 4, (normed("layers.0", half, width, 1), *upsampling("layers.1", half, width // 4, 2, 2))
    if scale == 2.0:
        return width // 2, upsampling("layers.0", width, width // 2, 2, 2)
    return width, (normed("layers.0", width, width, 3),) if scale == 0.5 else ()


def pyramid(f: Fields) -> Tensors:
    width, seen = f[f"backbone_config.{TOWER}"], stages(f)
    found: list[Part] = []
    for i, scale in enumerate(scales(f)):
        narrow, parts = resampling(width, scale)
        found.append(
            Under(
                f"scale_layers.{i}",
                *(Under(f"sampling_layers.{j}", *parts) for j in range(seen)),
                *projector(narrow * seen),
            )
        )
    return tensors(f, found)


# -- the decoder ------------------------------------------------------------------------------------------------------

HEADS: Final = "decoder_self_attention_heads"


def head_dim(f: Fields) -> int:
    return f.optional_size("head_dim") or f[WIDTH] // f[HEADS]


def inner(f: Fields) -> int:
    return f[HEADS] * f[head_dim]


def perceptron(name: str, inputs: Size, outputs: Size, layers: int) -> Part:
    sizes = [inputs, *[WIDTH] * (layers - 1), outputs]
    return Under(name, *(Linear(f"layers.{i}", sizes[i + 1], sizes[i]) for i in range(layers)))


def decoder(levels: Size) -> BodyBuilder:
    def points(f: Fields) -> int:
        return f["decoder_cross_attention_heads"] * f["decoder_n_points"] * f[levels]

    return At(
        "decoder",
        Rest(Norm("layernorm", WIDTH), perceptron("ref_point_head", f"2*{WIDTH}", WIDTH, 2)),
        Layers(
            "layers",
            (
                *linears("self_attn", "q_proj k_proj v_proj", inner, WIDTH, "attention_bias"),
                Linear("self_attn.o_proj", WIDTH, inner, "attention_bias"),
                Linear("cross_attn.sampling_offsets", lambda f: 2 * points(f), WIDTH),
                Linear("cross_attn.attention_weights", points, WIDTH),
                *linears("cross_attn", "value_proj output_proj", WIDTH, WIDTH),
                Linear("mlp.fc1", "decoder_ffn_dim", WIDTH),
                Linear("mlp.fc2", WIDTH, "decoder_ffn_dim"),
                *(Norm(name, WIDTH) for name in ("self_attn_layer_norm", "cross_attn_layer_norm", "layer_norm")),
            ),
            count="decoder_layers",
            name="decoder",
            role="vision",
            width=WIDTH,
            heads=HEADS,
            head_dim=head_dim,
            ffn="decoder_ffn_dim",
        ),
    )


QUERIES: Size = "num_queries*group_detr"


def body(towers: Mapping[str, Family], projecting: Part, levels: Size) -> BodyBuilder:
    return Assembly(
        Nested("backbone_config", "backbone.backbone", towers),
        Rest(
            Under("backbone.projector", projecting),
            Embedding("reference_point_embed", QUERIES, 4),
            Embedding("query_feat", QUERIES, WIDTH),
            Each("enc_output", "group_detr", (Linear("", WIDTH, WIDTH),)),
            Each("enc_output_norm", "group_detr", (Norm("", WIDTH),)),
            Each("enc_out_bbox_embed", "group_detr", (perceptron("", WIDTH, 4, 3),)),
            Each("enc_out_class_embed", "group_detr", (Linear("", labels, WIDTH),)),
        ),
        decoder(levels),
    )


def detects(model: BodyBuilder) -> BodyBuilder:
    return Assembly(
        At("model", model), Rest(Linear("class_embed", labels, WIDTH), perceptron("bbox_embed", WIDTH, 4, 3))
    )


def levels(f: Fields) -> int:
    """Of the pyramid, unless a file that was saved says another number."""
    return f.optional_size("num_feature_levels") or len(scales(f))


LW = body(VITS, pyramid, levels)


def with_tower(f: Fields) -> Fields:
    """With the tower that the class assumes where the config has none."""
    if f.has("backbone_config"):
        return f
    stages = ["stage2", "stage5", "stage8", "stage11"]
    assumed = {"num_attention_heads": 6, "hidden_size": 384, "image_size": 518, "out_features": stages}
    return f.replaced(backbone_config={"model_type": "rf_detr_dinov2", **assumed})


def all_stages(f: Fields) -> int:
    return f[f"backbone_config.{TOWER}"] * stages(f)


def rf_projector(f: Fields) -> Tensors:
    return tensors(f, projector(all_stages))


RF = body(DINOS, rf_projector, "num_feature_levels")
MASKS = Rest(
    Each(
        "blocks",
        "decoder_layers",
        (
            Norm("layernorm", WIDTH),
            Convolution("depthwise_conv", WIDTH, 1, (3, 3)),
            Linear("pointwise_conv", WIDTH, WIDTH),
        ),
    ),
    Convolution("spatial_features_proj", WIDTH, WIDTH, (1, 1)),
    Norm("query_features_block.norm", WIDTH),
    Linear("query_features_block.mlp.fc1", FFN, WIDTH),
    Linear("query_features_block.mlp.fc2", WIDTH, FFN),
    Linear("query_features_proj", WIDTH, WIDTH),
    Parameter("segmentation_bias", (1,)),
)
DETECTS, SEGMENTS = "ForObjectDetection", "ForInstanceSegmentation"
LIGHT_DETR: Mapping[str, Family] = {
    **VITS,
    **DINOS,
    "lw_detr": Family("LwDetr", {"Model": LW, DETECTS: detects(LW)}, DETECTS),
    "rf_detr": Family(
        "RfDetr",
        {
            "Model": Adjusted(RF, with_tower),
            DETECTS: Adjusted(detects(RF), with_tower),
            SEGMENTS: Adjusted(Assembly(At("model", detects(RF)), MASKS), with_tower),
        },
        DETECTS,
    ),
}
