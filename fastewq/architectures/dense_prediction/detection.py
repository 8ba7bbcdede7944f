"""Detectors with an encoder and a decoder of object queries behind a convolutional network: DETR and its relatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastewq.architectures.assembly import (
    Assembly,
    At,
    Convolution,
    Embedding,
    Expect,
    Family,
    Layers,
    Linear,
    Norm,
    Rest,
    Under,
    linears,
    plus,
    quotient,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Part, Tensors
from fastewq.architectures.seq2seq.bart import bart_layer
from fastewq.architectures.vision.backbones import Backbone

WIDTH = "d_model"


def side_layers(side: str, *parts: Part, **facts: Any) -> Layers:
    """The blocks of the encoder or the decoder; neither of them generates."""
    return Layers(
        "layers",
        parts,
        count=f"{side}_layers",
        name=side,
        role="vision",
        width=WIDTH,
        heads=f"{side}_attention_heads",
        ffn=f"{side}_ffn_dim",
        **facts,
    )


def attention(name: str) -> tuple[Part, ...]:
    return linears(name, "k_proj v_proj q_proj o_proj", WIDTH, WIDTH)


def feed_forward(side: str) -> tuple[Part, ...]:
    return (
        Linear("mlp.fc1", f"{side}_ffn_dim", WIDTH),
        Linear("mlp.fc2", WIDTH, f"{side}_ffn_dim"),
        Norm("final_layer_norm", WIDTH),
    )


ENCODER_LAYER: tuple[Part, ...] = (
    *attention("self_attn"),
    Norm("self_attn_layer_norm", WIDTH),
    *feed_forward("encoder"),
)
DECODER_LAYER: tuple[Part, ...] = (
    *attention("self_attn"),
    Norm("self_attn_layer_norm", WIDTH),
    *attention("encoder_attn"),
    Norm("encoder_attn_layer_norm", WIDTH),
    *feed_forward("decoder"),
)


BACKBONE = Backbone(lambda _: [1, 2, 3, 4])


def last_seen(f: Fields) -> int:
    return BACKBONE.widths(f)[-1]


def detr(backbone: str, encoder: BodyBuilder, decoder: BodyBuilder) -> BodyBuilder:
    """The backbone, a projection of its last features, one embedding per query, and both sides."""
    return Assembly(
        Expect("position_embedding_type", "sine"),
        At(backbone, BACKBONE),
        Rest(
            Embedding("query_position_embeddings", "num_queries", WIDTH),
            Convolution("input_projection", WIDTH, last_seen, (1, 1)),
        ),
        At("encoder", encoder),
        At("decoder", decoder, Rest(Norm("layernorm", WIDTH))),
    )


def perceptron(name: str, layers: int, inner: Size, outputs: Size) -> Part:
    """Matrices with an activation between them."""
    widths = (*[inner] * (layers - 1), outputs)
    return Under(name, *(Linear(f"layers.{i}", rows, inner) for i, rows in enumerate(widths)))


def detecting(body: BodyBuilder, classes: Size) -> BodyBuilder:
    return Assembly(
        At("model", body),
        Rest(Linear("class_labels_classifier", classes, WIDTH), perceptron("bbox_predictor", 3, WIDTH, 4)),
    )


def normed(name: str, rows: Size, columns: Size) -> Part:
    """A convolution and the norm of its outputs in groups."""
    return Under(name, Convolution("conv", rows, columns, (3, 3)), Norm("norm", rows))


MASKED = plus(WIDTH, "encoder_attention_heads")


def mask_head(f: Fields) -> Tensors:
    """Grows the masks of the queries from the backbone's last to its first features."""
    widths = BACKBONE.widths(f)[::-1][-3:]
    if len(widths) < 3:
        raise f.refuse("backbone_config", "a backbone", "one that gives out three stages or more")
    parts: list[Part] = [normed("conv1", MASKED, MASKED), normed("conv2", quotient(WIDTH, 2), MASKED)]
    for i in range(3):
        adapted, refined = quotient(WIDTH, 2 << i), quotient(WIDTH, 4 << i)
        parts += [
            Convolution(f"fpn_stages.{i}.fpn_adapter", adapted, widths[i], (1, 1)),
            normed(f"fpn_stages.{i}.refine", refined, adapted),
        ]
    parts.append(Convolution("output_conv", 1, quotient(WIDTH, 16), (3, 3)))
    return Under("mask_head", *parts)(f)


def detr_classes(prefix: str, body: BodyBuilder, classes: Size) -> dict[str, BodyBuilder]:
    detector = detecting(body, classes)
    return {
        "Model": body,
        "ForObjectDetection": detector,
        "ForSegmentation": Assembly(
            At(prefix, detector), Rest(mask_head, *linears("bbox_attention", "q_proj k_proj", WIDTH, WIDTH))
        ),
    }


DETR = detr("backbone.model", side_layers("encoder", *ENCODER_LAYER), side_layers("decoder", *DECODER_LAYER))
TABLE = detr(
    "backbone.conv_encoder.model",
    Assembly(side_layers("encoder", *bart_layer("encoder")), Rest(Norm("layernorm", WIDTH))),
    side_layers("decoder", *bart_layer("decoder", cross=True)),
)

# -- Conditional DETR: what a query is and where it looks, apart ------------------------------------------------------

CONDITIONAL = Assembly(
    detr(
        "backbone.model",
        side_layers("encoder", *ENCODER_LAYER),
        side_layers(
            "decoder",
            *linears("self_attn", "q_content_proj q_pos_proj k_content_proj k_pos_proj v_proj o_proj", WIDTH, WIDTH),
            Norm("self_attn_layer_norm", WIDTH),
            *linears(
                "encoder_attn",
                "q_content_proj k_content_proj k_pos_proj v_proj q_pos_sine_proj o_proj",
                WIDTH,
                WIDTH,
            ),
            Norm("encoder_attn_layer_norm", WIDTH),
            *feed_forward("decoder"),
            first=(Linear("encoder_attn.q_pos_proj", WIDTH, WIDTH),),
        ),
    ),
    At("decoder", Rest(perceptron("query_scale", 2, WIDTH, WIDTH), perceptron("ref_point_head", 2, WIDTH, 2))),
)

DETECTION: Mapping[str, Family] = {
    "detr": Family("Detr", detr_classes("detr", DETR, plus(labels, 1)), "ForObjectDetection"),
    "table-transformer": Family(
        "TableTransformer",
        {"Model": TABLE, "ForObjectDetection": detecting(TABLE, plus(labels, 1))},
        "ForObjectDetection",
    ),
    "conditional_detr": Family(
        "ConditionalDetr",
        detr_classes("conditional_detr", CONDITIONAL, labels),
        "ForObjectDetection",
    ),
}
