"""Models that forecast time series: the time series transformer, Informer, Autoformer and TimesFM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    adjusted,
    length,
    linears,
    plus,
    sizes,
    tensors,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Part, Tensors

# -- an encoder of the past and a decoder of the future ---------------------------------------------------------------

DEPTH = "d_model"


def derived(f: Fields) -> Fields:
    """With what the class derives: lags, and one embedding for each category that never changes."""
    values: dict[str, Any] = {}
    if not f.value("context_length", None):
        values["context_length"] = f["prediction_length"]
    if f.value("lags_sequence", None) is None:
        values["lags_sequence"] = [1, 2, 3, 4, 5, 6, 7]
    named = f.count("num_static_categorical_features") > 0
    values["cardinality"] = sizes(f, "cardinality", 1) if named else ()
    if not (named and f.value("embedding_dimension", None)):
        values["embedding_dimension"] = tuple(min(50, (kinds + 1) // 2) for kinds in values["cardinality"])
    return f.replaced(**values)


def features(f: Fields) -> int:
    """Of one moment: lagged values, what is known of it, and the scale of the series; files that were saved tell it."""
    if f.has("feature_size"):
        return f["feature_size"]
    known = ("num_dynamic_real_features", "num_time_features", "num_static_real_features")
    lagged = f["input_size"] * f[length("lags_sequence")]
    return lagged + sum(sizes(f, "embedding_dimension")) + sum(f.count(name) for name in known) + 2 * f["input_size"]


def categories(f: Fields) -> Tensors:
    if not f.count("num_static_categorical_features"):
        return ()
    kinds, widths = sizes(f, "cardinality"), sizes(f, "embedding_dimension")
    pairs = enumerate(zip(kinds, widths, strict=False))
    return tensors(f, (Embedding(f"embedder.embedders.{i}", rows, width) for i, (rows, width) in pairs))


def attention(name: str) -> tuple[Part, ...]:
    return (*linears(name, "k_proj v_proj q_proj out_proj", DEPTH, DEPTH), Norm(f"{name}_layer_norm", DEPTH))


def side(name: str, last_norm: str, *parts: Part) -> BodyBuilder:
    ffn = f"{name}_ffn_dim"
    return At(
        name,
        Rest(
            Linear("value_embedding.value_projection", DEPTH, features, False),
            Embedding("embed_positions", plus("context_length", "prediction_length"), DEPTH),
            Norm("layernorm_embedding", DEPTH),
        ),
        Layers(
            "layers",
            (
                *attention("self_attn"),
                *parts,
                Linear("fc1", ffn, DEPTH),
                Linear("fc2", DEPTH, ffn),
                Norm(last_norm, DEPTH),
            ),
            count=f"{name}_layers",
            name=name,
            role="decoder" if name == "decoder" else "encoder",
            width=DEPTH,
            heads=f"{name}_attention_heads",
            ffn=ffn,
        ),
    )


def forecaster(last_norm: str, *decoder: Part, rest: tuple[Part, ...] = ()) -> BodyBuilder:
    both = (
        Rest(categories, *rest),
        side("encoder", last_norm),
        side("decoder", last_norm, *attention("encoder_attn"), *decoder),
    )
    return Assembly(*both)


ARGUMENTS = {"student_t": 3, "normal": 2, "negative_binomial": 2}
"""Of the distributions that a forecast can be."""


def arguments(f: Fields) -> int:
    return ARGUMENTS[f.choice("distribution_output", tuple(ARGUMENTS))]


def forecast_classes(body: BodyBuilder, seen: Size = DEPTH) -> dict[str, BodyBuilder]:
    head = Rest(Each("parameter_projection.proj", arguments, (Linear("", "input_size", seen),)))
    return adjusted({"Model": body, "ForPrediction": Assembly(At("model", body), head)}, derived)


SHORTENS = When(
    "distil",
    Each(
        "encoder.conv_layers",
        lambda f: max(f.count("encoder_layers") - 1, 0),
        (Convolution("downConv", DEPTH, DEPTH, (3,)), Norm("norm", DEPTH)),
    ),
)
TRANSFORMER = forecaster("final_layer_norm")
INFORMER = forecaster("final_layer_norm", rest=(SHORTENS,))
AUTOFORMER = forecaster(
    "final_layer_norm.layernorm",
    Convolution("trend_projection", features, DEPTH, (3,), bias=False),
    rest=(Linear("decoder.seasonality_projection", features, DEPTH),),
)

# -- TimesFM: a decoder of patches ------------------------------------------------------------------------------------


def residual(name: str, inputs: Size, outputs: Size) -> Part:
    return Under(
        name,
        Linear("input_layer", FFN, inputs),
        Linear("output_layer", outputs, FFN),
        Linear("residual_layer", outputs, inputs),
    )


INNER = f"{HEADS}*head_dim"
TIMESFM = Assembly(
    Rest(residual("input_ff_layer", "2*patch_length", WIDTH), Embedding("freq_emb", "freq_size")),
    Layers(
        "layers",
        (
            Parameter("self_attn.scaling", ("head_dim",)),
            *linears("self_attn", "q_proj k_proj v_proj", INNER, WIDTH),
            Linear("self_attn.o_proj", WIDTH, INNER),
            Linear("mlp.gate_proj", FFN, WIDTH),
            Linear("mlp.down_proj", WIDTH, FFN),
            Norm("mlp.layer_norm"),
            Norm("input_layernorm", bias=False),
        ),
        name="decoder",
        role="decoder",
        head_dim="head_dim",
        norm="rms",
    ),
)


def forecasts(f: Fields) -> int:
    """The mean and every quantile of every step."""
    return f["horizon_length"] * (1 + f[length("quantiles")])


TIMESFM_FORECASTS = Assembly(At("decoder", TIMESFM), Rest(residual("horizon_ff_layer", WIDTH, forecasts)))
PREDICTS = "ForPrediction"
TIME_SERIES: Mapping[str, Family] = {
    "time_series_transformer": Family("TimeSeriesTransformer", forecast_classes(TRANSFORMER), PREDICTS),
    "informer": Family("Informer", forecast_classes(INFORMER), PREDICTS),
    "autoformer": Family("Autoformer", forecast_classes(AUTOFORMER, features), PREDICTS),
    "timesfm": Family("TimesFm", {"Model": TIMESFM, "ModelForPrediction": TIMESFM_FORECASTS}, "ModelForPrediction"),
}
