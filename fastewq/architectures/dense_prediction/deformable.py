"""Detectors whose queries look at a few points of several images: Deformable DETR, RT-DETR and Grounding DINO."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastewq.architectures.assembly import (
    UNTIED,
    Assembly,
    At,
    Convolution,
    Each,
    Embedding,
    Expect,
    Family,
    Layers,
    Linear,
    Named,
    Nested,
    Norm,
    Parameter,
    Rest,
    Stages,
    Under,
    When,
    both,
    length,
    linears,
    plus,
    positive,
    quotient,
    scaled,
    sizes,
    tensors,
    tied,
)
from fastewq.architectures.body import Body, BodyBuilder, outside
from fastewq.architectures.dense_prediction.detection import WIDTH, attention, feed_forward, perceptron, side_layers
from fastewq.architectures.encoders.bert import BERT
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Option, Part, Tensors, unless
from fastewq.architectures.vision.backbones import Backbone, resnet, resnet_widths, swin_stages
from fastewq.architectures.vision.swin import SWIN
from fastewq.errors import UnsupportedArchitecture

Widths = Callable[[Fields], list[int]]
"""The channels of the images that a detector looks at, one image after another."""

# -- looking at points ------------------------------------------------------------------------------------------------


def sampling(name: str, heads: str, points: str, levels: str = "num_feature_levels", width: str = WIDTH) -> Part:
    """Every head looks at `points` points of every level, whose places and weights come from the query."""
    seen = f"{heads}*{levels}*{points}"
    return Under(
        name,
        Linear("sampling_offsets", f"2*{seen}", width),
        Linear("attention_weights", seen, width),
        *linears("", "value_proj output_proj", width, width),
    )


def projection(name: str, rows: Size, columns: Size, kernel: int, bias: bool) -> Part:
    """A convolution and the norm of its outputs."""
    return Under(name, Convolution("0", rows, columns, (kernel, kernel), bias), Norm("1", rows))


def projections(name: str, widths: Widths, *, bias: bool, only_last: bool = False) -> Part:
    """One per image, then strided ones of the last image down to `num_feature_levels`.

    With `only_last` a detector of one level looks at the last image alone.
    """

    def part(f: Fields) -> Tensors:
        seen, levels = widths(f), f["num_feature_levels"]
        if only_last and levels == 1:
            seen = seen[-1:]
        if levels > 16:
            raise f.refuse("num_feature_levels", levels, "at most 16")
        columns = [*seen, seen[-1], *[f[WIDTH]] * levels][: max(levels, len(seen))]
        return tensors(
            f,
            (
                projection(f"{name}.{i}", WIDTH, width, 1 if i < len(seen) else 3, bias)
                for i, width in enumerate(columns)
            ),
        )

    return part


def box_head(name: str) -> Part:
    return perceptron(name, 3, WIDTH, 4)


# -- Deformable DETR --------------------------------------------------------------------------------------------------

LOOKS = Backbone(lambda f: [2, 3, 4] if f["num_feature_levels"] > 1 else [4])
DEFORMABLE = Assembly(
    Expect("position_embedding_type", "sine"),
    At("backbone.model", LOOKS),
    Rest(
        projections("input_proj", LOOKS.widths, bias=True, only_last=True),
        Parameter("level_embed", ("num_feature_levels", WIDTH), "embedding"),
        When(
            unless("two_stage"),
            Embedding("query_position_embeddings", "num_queries", f"2*{WIDTH}"),
            Linear("reference_points", 2, WIDTH),
        ),
        When(
            "two_stage",
            Linear("enc_output", WIDTH, WIDTH),
            Norm("enc_output_norm", WIDTH),
            Linear("pos_trans", f"2*{WIDTH}", f"2*{WIDTH}"),
            Norm("pos_trans_norm", f"2*{WIDTH}"),
        ),
    ),
    At(
        "encoder",
        side_layers(
            "encoder",
            sampling("self_attn", "encoder_attention_heads", "encoder_n_points"),
            Norm("self_attn_layer_norm", WIDTH),
            *feed_forward("encoder"),
        ),
    ),
    At(
        "decoder",
        side_layers(
            "decoder",
            *attention("self_attn"),
            Norm("self_attn_layer_norm", WIDTH),
            sampling("encoder_attn", "decoder_attention_heads", "decoder_n_points"),
            Norm("encoder_attn_layer_norm", WIDTH),
            *feed_forward("decoder"),
        ),
    ),
)


def predictions(f: Fields) -> int:
    """Heads: one per block of the decoder, one for the encoder where that proposes boxes."""
    return f["decoder_layers"] + f.flag("two_stage")


def shared_heads(inner: str, part: Part, own: Option) -> tuple[Part, ...]:
    """One for all where they are tied, unless the decoder has its `own`, one per block, which the others follow."""
    name = "class_embed" if isinstance(part, Linear) else "bbox_embed"
    return (
        When(own, Each(f"{inner}.{name}", predictions, (part,))),
        When(both(tied, unless(own)), Each(name, 1, (part,))),
        When(UNTIED, Each(name, predictions, (part,))),
    )


CLASSES, BOXES = Linear("", labels, WIDTH), box_head("")
DEFORMABLE_DETECTOR = Assembly(
    At("model", DEFORMABLE),
    Rest(
        *shared_heads("model.decoder", CLASSES, "two_stage"),
        *shared_heads("model.decoder", BOXES, "with_box_refine"),
    ),
)

# -- RT-DETR ----------------------------------------------------------------------------------------------------------


def deep_resnet(f: Fields) -> Fields:
    f.require("backbone", ())
    nested = f.sub("backbone_config")
    if nested.model_type != "rt_detr_resnet":
        raise UnsupportedArchitecture(
            f"{nested.where('model_type')} is {nested.model_type[:80]!r}; described is 'rt_detr_resnet'"
        )
    return nested


def deep_backbone(f: Fields, path: str) -> Body:
    return Body((), outside(path, resnet(deep_resnet(f), frozen=f.flag("freeze_backbone_batch_norms"), deep=True)))


JOINED = "encoder_hidden_dim"
INNER = scaled(JOINED, "hidden_expansion")


def normed(name: str, rows: Size, columns: Size, kernel: int) -> Part:
    return Under(name, Convolution("conv", rows, columns, (kernel, kernel), bias=False), Norm("norm", rows))


FUSION: tuple[Part, ...] = (
    normed("conv1", INNER, f"2*{JOINED}", 1),
    normed("conv2", INNER, f"2*{JOINED}", 1),
    Each("bottlenecks", 3, (normed("conv1", INNER, INNER, 3), normed("conv2", INNER, INNER, 1))),
    When(lambda f: f[INNER] != f[JOINED], normed("conv3", JOINED, INNER, 1)),
)


def levels_joined(f: Fields) -> int:
    return f[length("encoder_in_channels")] - 1


def hybrid_layers(i: int) -> Layers:
    return Layers(
        f"encoder.aifi.{i}.layers",
        (
            *linears("self_attn", "k_proj v_proj q_proj o_proj", JOINED, JOINED),
            Norm("self_attn_layer_norm", JOINED),
            Linear("mlp.fc1", "encoder_ffn_dim", JOINED),
            Linear("mlp.fc2", JOINED, "encoder_ffn_dim"),
            Norm("final_layer_norm", JOINED),
        ),
        count="encoder_layers",
        role="vision",
        width=JOINED,
        heads="encoder_attention_heads",
        ffn="encoder_ffn_dim",
    )


def encoder_projections(f: Fields) -> Tensors:
    widths = resnet_widths(deep_resnet(f))
    return tensors(f, (projection(f"encoder_input_proj.{i}", JOINED, w, 1, False) for i, w in enumerate(widths)))


def rt_detr(levels: str) -> BodyBuilder:
    """`levels` is the field with the number of images at which the decoder looks."""
    return Assembly(
        At("backbone.model", deep_backbone),
        Rest(
            encoder_projections,
            Under(
                "encoder",
                Each("lateral_convs", levels_joined, (normed("", JOINED, JOINED, 1),)),
                Each("fpn_blocks", levels_joined, FUSION),
                Each("downsample_convs", levels_joined, (normed("", JOINED, JOINED, 3),)),
                Each("pan_blocks", levels_joined, FUSION),
            ),
            When(positive("num_denoising"), Embedding("denoising_class_embed", plus(labels, 1), WIDTH)),
            When("learn_initial_query", Embedding("weight_embedding", "num_queries", WIDTH)),
            Linear("enc_output.0", WIDTH, WIDTH),
            Norm("enc_output.1", WIDTH),
            Linear("enc_score_head", labels, WIDTH),
            box_head("enc_bbox_head"),
            projections("decoder_input_proj", lambda f: list(sizes(f, "decoder_in_channels", 1)), bias=False),
            Linear("decoder.query_pos_head.layers.0", f"2*{WIDTH}", 4),
            Linear("decoder.query_pos_head.layers.1", WIDTH, f"2*{WIDTH}"),
        ),
        Stages(length("encode_proj_layers"), hybrid_layers),
        At(
            "decoder",
            side_layers(
                "decoder",
                *attention("self_attn"),
                Norm("self_attn_layer_norm", WIDTH),
                sampling("encoder_attn", "decoder_attention_heads", "decoder_n_points", levels),
                Norm("encoder_attn_layer_norm", WIDTH),
                *feed_forward("decoder"),
            ),
        ),
    )


RT_HEADS: tuple[Part, ...] = (
    Each("class_embed", "decoder_layers", (CLASSES,)),
    Each("bbox_embed", "decoder_layers", (BOXES,)),
)


def rt_classes(body: BodyBuilder, *further: Part) -> dict[str, BodyBuilder]:
    detector = Assembly(At("model", body), Rest(Under("model.decoder", *RT_HEADS), *further))
    return {"Model": body, "ForObjectDetection": detector}


# -- Grounding DINO: text and image look at each other ----------------------------------------------------------------

SWINS: Mapping[str, Family] = {"swin": SWIN["swin"]}
TEXT: Mapping[str, Family] = {"bert": Family("Bert", {"Model": BERT})}


def swin_widths(f: Fields) -> list[int]:
    return swin_stages(f.sub("backbone_config"))[0]


def dino_attention(name: str) -> Part:
    return Under(name, *linears("", "query key value out_proj", WIDTH, WIDTH))


def dino_feed_forward(ffn: Size) -> tuple[Part, ...]:
    return (Linear("fc1", ffn, WIDTH), Linear("fc2", WIDTH, ffn))


HALF = quotient("encoder_ffn_dim", 2)


def grounding(proposes: Option, *, only_last: bool) -> BodyBuilder:
    """`proposes` is the option that the encoder finds the first boxes."""
    return Assembly(
        Expect("position_embedding_type", "sine"),
        Nested("backbone_config", "backbone.conv_encoder.model", SWINS, "Backbone"),
        Named("text", Nested("text_config", "text_backbone", TEXT)),
        Rest(
            projections("input_proj_vision", swin_widths, bias=True, only_last=only_last),
            Linear("text_projection", WIDTH, "text_config.hidden_size"),
            When(
                lambda f: f.flag("embedding_init_target") or not f.flag("two_stage"),
                Embedding("query_position_embeddings", "num_queries", WIDTH),
            ),
            Parameter("level_embed", ("num_feature_levels", WIDTH), "embedding"),
            When(
                proposes,
                Linear("enc_output", WIDTH, WIDTH),
                Norm("enc_output_norm", WIDTH),
                box_head("encoder_output_bbox_embed"),
            ),
            When(unless(proposes), Embedding("reference_points", "num_queries", 4)),
        ),
        At(
            "encoder",
            side_layers(
                "encoder",
                Under(
                    "text_enhancer_layer",
                    dino_attention("self_attn"),
                    *dino_feed_forward(HALF),
                    Norm("layer_norm_before", WIDTH),
                    Norm("layer_norm_after", WIDTH),
                ),
                Under(
                    "fusion_layer",
                    Norm("layer_norm_vision", WIDTH),
                    Norm("layer_norm_text", WIDTH),
                    *linears("attn", "vision_proj text_proj values_vision_proj values_text_proj", HALF, WIDTH),
                    *linears("attn", "out_vision_proj out_text_proj", WIDTH, HALF),
                    Parameter("vision_param", (WIDTH,)),
                    Parameter("text_param", (WIDTH,)),
                ),
                Under(
                    "deformable_layer",
                    sampling("self_attn", "encoder_attention_heads", "encoder_n_points"),
                    Norm("self_attn_layer_norm", WIDTH),
                    *dino_feed_forward("encoder_ffn_dim"),
                    Norm("final_layer_norm", WIDTH),
                ),
            ),
        ),
        At(
            "decoder",
            Rest(
                Norm("layer_norm", WIDTH),
                Linear("reference_points_head.layers.0", WIDTH, lambda f: f["query_dim"] // 2 * f[WIDTH]),
                Linear("reference_points_head.layers.1", WIDTH, WIDTH),
            ),
            side_layers(
                "decoder",
                dino_attention("self_attn"),
                Norm("self_attn_layer_norm", WIDTH),
                dino_attention("encoder_attn_text"),
                Norm("encoder_attn_text_layer_norm", WIDTH),
                sampling("encoder_attn", "decoder_attention_heads", "decoder_n_points"),
                Norm("encoder_attn_layer_norm", WIDTH),
                *dino_feed_forward("decoder_ffn_dim"),
                Norm("final_layer_norm", WIDTH),
            ),
        ),
    )


GROUNDING = grounding("two_stage", only_last=True)


def one_or_all(name: str, part: Part, shared: Option) -> Part:
    """A head for each block of the decoder, which may be one and the same; where nothing is tied, there are two."""
    every = Each(name, "decoder_layers", (part,))
    return Under(
        "",
        When(both(tied, shared), Each(name, 1, (part,))),
        When(both(tied, unless(shared)), every),
        When(UNTIED, every, Under("model.decoder", every)),
    )


GROUNDING_DETECTOR = Assembly(At("model", GROUNDING), Rest(one_or_all("bbox_embed", BOXES, "decoder_bbox_embed_share")))

# -- MM Grounding DINO: a bias for every comparison with the text -----------------------------------------------------

COMPARISON = Parameter("bias", (), "bias")
MM_GROUNDING = Assembly(grounding(True, only_last=False), Rest(Under("encoder_output_class_embed", COMPARISON)))
MM_DETECTOR = Assembly(
    At("model", MM_GROUNDING),
    Rest(
        one_or_all("bbox_embed", BOXES, "decoder_bbox_embed_share"),
        one_or_all("class_embed", COMPARISON, "decoder_cls_embed_share"),
    ),
)
DETECTS = "ForObjectDetection"
DEFORMABLE_DETECTION: Mapping[str, Family] = {
    "deformable_detr": Family("DeformableDetr", {"Model": DEFORMABLE, DETECTS: DEFORMABLE_DETECTOR}, DETECTS),
    "rt_detr": Family("RTDetr", rt_classes(rt_detr("num_feature_levels")), DETECTS),
    "rt_detr_v2": Family("RTDetrV2", rt_classes(rt_detr("decoder_n_levels"), When(UNTIED, *RT_HEADS)), DETECTS),
    "grounding-dino": Family("GroundingDino", {"Model": GROUNDING, DETECTS: GROUNDING_DETECTOR}, DETECTS),
    "mm-grounding-dino": Family("MMGroundingDino", {"Model": MM_GROUNDING, DETECTS: MM_DETECTOR}, DETECTS),
}
