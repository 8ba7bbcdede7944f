"""Models of video: TimeSformer, which attends in time and in space apart, and V-JEPA 2 with its predictor."""

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
    Family,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    equals,
    linears,
    patches,
    plus,
    scaled,
)
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Part, unless
from fastewq.architectures.vision.clip import vision_layers
from fastewq.architectures.vision.images import classifies, patch_embedding, position_table, token, vit

# -- TimeSformer ------------------------------------------------------------------------------------------------------


def timesformer_attention(name: str) -> tuple[Part, ...]:
    return (
        Linear(f"{name}.attention.qkv", "3*hidden_size", WIDTH, "qkv_bias"),
        Linear(f"{name}.output.dense", WIDTH, WIDTH),
    )


TIMESFORMER = vit(
    token("cls_token"),
    position_table(plus(patches, 1)),
    patch_embedding(),
    When(
        unless(equals("attention_type", "space_only")),
        Parameter("embeddings.time_embeddings", (1, "num_frames", WIDTH), "embedding"),
    ),
    layer=(
        *timesformer_attention("attention"),
        When(
            equals("attention_type", "divided_space_time"),
            *timesformer_attention("temporal_attention"),
            Norm("temporal_layernorm"),
            Linear("temporal_dense", WIDTH, WIDTH),
        ),
        Linear("intermediate.dense", FFN, WIDTH),
        Linear("output.dense", WIDTH, FFN),
        Norm("layernorm_before"),
        Norm("layernorm_after"),
    ),
    path="encoder.layer",
    head_dim=None,
)

# -- V-JEPA 2 ---------------------------------------------------------------------------------------------------------

PREDICTED = "pred_hidden_size"
POOLED = f"4*{WIDTH}"
"""Inner width where the classifier pools, whatever `mlp_ratio` says of the blocks."""


def jepa_layers(prefix: str, name: str) -> Layers:
    width, inner = f"{prefix}hidden_size", scaled(f"{prefix}hidden_size", f"{prefix}mlp_ratio")
    return vision_layers(
        "layer",
        *linears("attention", "query key value", width, width, "qkv_bias"),
        Linear("attention.proj", width, width),
        Norm("norm1", width),
        Norm("norm2", width),
        Linear("mlp.fc1", inner, width),
        Linear("mlp.fc2", width, inner),
        count=f"{prefix}num_hidden_layers",
        name=name,
        width=width,
        heads=f"{prefix}{HEADS}",
        ffn=inner,
    )


VJEPA = Assembly(
    At(
        "encoder",
        Rest(
            Convolution(
                "embeddings.patch_embeddings.proj", WIDTH, "in_chans", ("tubelet_size", "patch_size", "patch_size")
            ),
            Norm("layernorm"),
        ),
        jepa_layers("", "vision"),
    ),
    At(
        "predictor",
        Rest(
            Parameter("embeddings.mask_tokens", ("pred_num_mask_tokens", 1, 1, PREDICTED)),
            Linear("embeddings.predictor_embeddings", PREDICTED, WIDTH),
            Norm("layernorm", PREDICTED),
            Linear("proj", WIDTH, PREDICTED),
        ),
        jepa_layers("pred_", "predictor"),
    ),
)


def pooling_layer(attention: str, projections: str) -> tuple[Part, ...]:
    return (
        Norm("layer_norm1"),
        *linears(attention, projections),
        Norm("layer_norm2"),
        Linear("mlp.fc1", POOLED, WIDTH),
        Linear("mlp.fc2", WIDTH, POOLED),
    )


VJEPA_POOLER = Rest(
    Under(
        "pooler",
        Parameter("query_tokens", (1, 1, WIDTH)),
        Under("cross_attention_layer", *pooling_layer("cross_attn", "k_proj v_proj q_proj")),
        Each("self_attention_layers", "num_pooler_layers", pooling_layer("self_attn", "k_proj v_proj q_proj out_proj")),
    ),
    Linear("classifier", labels, WIDTH),
)

VIDEO: Mapping[str, Family] = {
    "timesformer": Family("Timesformer", classifies("timesformer", TIMESFORMER, ending="ForVideoClassification")),
    "vjepa2": Family("VJEPA2", {"Model": VJEPA, "ForVideoClassification": Assembly(At("vjepa2", VJEPA), VJEPA_POOLER)}),
}
