"""Models that forecast time series: the time series transformer, Informer, Autoformer, TimesFM and PatchTST."""

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
from fastewq.architectures.parts import Option, Part, Tensors, unless

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
    return lagged + sum(sizes(f, "embedding_dimension", 0)) + sum(f.count(name) for name in known) + 2 * f["input_size"]


def categories(f: Fields) -> Tensors:
    if not f.count("num_static_categorical_features"):
        return ()
    kinds, widths = sizes(f, "cardinality", 0), sizes(f, "embedding_dimension", 0)
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


def residual25(name: str, inputs: Size, inner: Size, outputs: Size, bias: Option) -> Part:
    return Under(
        name,
        Linear("input_layer", inner, inputs, bias),
        Linear("output_layer", outputs, inner, bias),
        Linear("residual_layer", outputs, inputs, bias),
    )


TIMESFM25 = Assembly(
    Rest(residual25("input_ff_layer", "2*patch_length", WIDTH, WIDTH, True)),
    Layers(
        "layers",
        (
            Parameter("self_attn.scaling", ("head_dim",)),
            Linear("self_attn.q_proj", INNER, WIDTH, "attention_bias"),
            *linears("self_attn", "k_proj v_proj", "num_key_value_heads*head_dim", WIDTH, "attention_bias"),
            Linear("self_attn.o_proj", WIDTH, INNER, "attention_bias"),
            Norm("self_attn.q_norm", "head_dim", False),
            Norm("self_attn.k_norm", "head_dim", False),
            Linear("mlp.fc1", FFN, WIDTH, "use_bias"),
            Linear("mlp.fc2", WIDTH, FFN, "use_bias"),
            *(
                Norm(f"{name}_layernorm", bias=False)
                for name in ("input", "post_attention", "pre_feedforward", "post_feedforward")
            ),
        ),
        name="decoder",
        role="decoder",
        kv_heads="num_key_value_heads",
        head_dim="head_dim",
        norm="rms",
    ),
)


def steps(f: Fields) -> int:
    """The mean and every quantile of every step of a patch."""
    return f["horizon_length"] * (1 + f[length("quantiles")])


def quantiles(f: Fields) -> int:
    return f.size("output_quantile_len", 1024) * (1 + f[length("quantiles")])


TIMESFM25_FORECASTS = Assembly(
    At("model", TIMESFM25),
    Rest(
        residual25("output_projection_point", WIDTH, WIDTH, steps, False),
        residual25("output_projection_quantiles", WIDTH, WIDTH, quantiles, False),
    ),
)


TIMESFM_FORECASTS = Assembly(At("decoder", TIMESFM), Rest(residual("horizon_ff_layer", WIDTH, steps)))
PREDICTS = "ForPrediction"

# -- PatchTST: an encoder of the patches of each channel --------------------------------------------------------------


def series_patches(f: Fields) -> int:
    length, patch, stride = f["context_length"], f["patch_length"], f["patch_stride"]
    if length <= patch:
        raise f.refuse("context_length", length, f"more than patch_length = {patch}")
    return (length - patch) // stride + 1


def series_positions(f: Fields) -> int:
    return series_patches(f) + f.flag("use_cls_token")


def series_norm(name: str) -> Part:
    """Over the batch or over the features: the same shapes below another name."""

    def part(f: Fields) -> Tensors:
        batch = f.choice("norm_type", ("batchnorm", "layernorm")) == "batchnorm"
        return Norm(f"{name}.batchnorm" if batch else name, DEPTH)(f)

    return part


def each_channel(name: str, option: str, *parts: Part) -> Part:
    """One for all channels where they share it, else one for each."""
    return lambda f: (Under(name, *parts) if f.flag(option) else Each(name, "num_input_channels", parts))(f)


PATCHTST = At(
    "encoder",
    Rest(
        each_channel("embedder.input_embedding", "share_embedding", Linear("", DEPTH, "patch_length")),
        When("use_cls_token", Parameter("positional_encoder.cls_token", (1, 1, 1, DEPTH))),
        Parameter("positional_encoder.position_enc", (series_positions, DEPTH), "embedding"),
    ),
    Layers(
        "layers",
        (
            *linears("self_attn", "k_proj v_proj q_proj out_proj", DEPTH, DEPTH),
            series_norm("norm_sublayer1"),
            When("channel_attention", series_norm("norm_sublayer2")),
            Linear("ff.0", "ffn_dim", DEPTH, "bias"),
            Linear("ff.3", DEPTH, "ffn_dim", "bias"),
            series_norm("norm_sublayer3"),
        ),
        width=DEPTH,
        ffn="ffn_dim",
    ),
)


def seen_by_head(f: Fields) -> int:
    pooled = f.value("pooling_type", None) or f.flag("use_cls_token")
    return f[DEPTH] if pooled else f[DEPTH] * series_patches(f)


def forecast(name: str, inputs: Size, outputs: Size) -> Part:
    """The values themselves, or every argument of the distribution that they have."""

    def part(f: Fields) -> Tensors:
        if f.value("loss") == "mse":
            return Linear(name, outputs, inputs)(f)
        return Each(f"{name}.proj", arguments, (Linear("", outputs, inputs),))(f)

    return part


def series_head(*parts: Part) -> BodyBuilder:
    return Assembly(At("model", PATCHTST), Rest(Under("head", *parts)))


CHANNELS = f"num_input_channels*{DEPTH}"
TO_COME = "prediction_length"
PATCHTST_CLASSES: Mapping[str, BodyBuilder] = {
    "Model": PATCHTST,
    PREDICTS: series_head(
        When("share_projection", forecast("projection", seen_by_head, TO_COME)),
        When(
            unless("share_projection"),
            Each("projections", "num_input_channels", (forecast("", seen_by_head, TO_COME),)),
        ),
    ),
    "ForPretraining": series_head(Linear("linear", "patch_length", DEPTH)),
    "ForClassification": series_head(Linear("linear", "num_targets", CHANNELS)),
    "ForRegression": series_head(forecast("projection", CHANNELS, "num_targets")),
}
TIME_SERIES: Mapping[str, Family] = {
    "time_series_transformer": Family("TimeSeriesTransformer", forecast_classes(TRANSFORMER), PREDICTS),
    "informer": Family("Informer", forecast_classes(INFORMER), PREDICTS),
    "autoformer": Family("Autoformer", forecast_classes(AUTOFORMER, features), PREDICTS),
    "timesfm2_5": Family(
        "TimesFm2_5", {"Model": TIMESFM25, "ModelForPrediction": TIMESFM25_FORECASTS}, "ModelForPrediction"
    ),
    "patchtst": Family("PatchTST", PATCHTST_CLASSES, PREDICTS),
    "timesfm": Family("TimesFm", {"Model": TIMESFM, "ModelForPrediction": TIMESFM_FORECASTS}, "ModelForPrediction"),
}
