"""Forecasts of time series by models that the transformers library does not have.

Their code lies in the model's repository and is never run; each entry follows its published definition, which the
comment above it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastewq.architectures.assembly import (
    Assembly,
    At,
    Embedding,
    Expect,
    Layers,
    Linear,
    Rest,
    Under,
    length,
    sizes,
)
from fastewq.architectures.body import Body, Decoder
from fastewq.architectures.decoders.experts import shared_gate
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import Model, decoder, no_head
from fastewq.architectures.parts import Attention, GatedMLP, MixtureOfExperts, Part, Tensors, hidden_per_head, linear
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.seq2seq.t5 import t5_attention, t5_norm, t5_stack

# -- Chronos: T5 that reads patches and writes quantiles. Its files say t5, the class tells.
# amazon-science/chronos-forecasting, chronos_bolt.py and chronos2/model.py -------------------------------------------

WIDTH = "d_model"


def chronos(f: Fields) -> Fields:
    return f.sub("chronos_config", "")


def tokens(f: Fields) -> int:
    """One for missing values; by option, one that ends the series."""
    return 1 + chronos(f).flag("use_reg_token", False)


def seen(values: int) -> Size:
    """The numbers of a patch, which stand for each of its points."""
    return lambda f: values * chronos(f)["input_patch_size"]


def predicted(points: str) -> Size:
    """Quantiles of every point of the forecast."""

    def numbers(f: Fields) -> int:
        level = chronos(f)
        return level[length("quantiles")] * level[points]

    return numbers


def residual(name: str, inputs: Size, outputs: Size) -> Part:
    return Under(
        name,
        Linear("hidden_layer", "d_ff", inputs),
        Linear("output_layer", outputs, "d_ff"),
        Linear("residual_layer", outputs, inputs),
    )


def ends(values: int, points: str) -> Rest:
    """What is before the first block and after the last."""
    return Rest(
        Embedding("shared", tokens, WIDTH),
        residual("input_patch_embedding", seen(values), WIDTH),
        residual("output_patch_embedding", WIDTH, predicted(points)),
    )


def attends(name: str) -> Part:
    """Attention along time, or among the series of a group."""
    return Under(name, t5_attention("self_attention"), t5_norm("layer_norm"))


CHRONOS_BOLT = Assembly(ends(2, "prediction_length"), t5_stack("encoder"), t5_stack("decoder"))
CHRONOS_2 = Assembly(
    Expect("is_gated_act", False),
    ends(3, "output_patch_size"),
    At(
        "encoder",
        Layers(
            "block",
            (
                attends("layer.0"),
                attends("layer.1"),
                Under(
                    "layer.2",
                    Linear("mlp.wi", "d_ff", WIDTH, False),
                    Linear("mlp.wo", WIDTH, "d_ff", False),
                    t5_norm("layer_norm"),
                ),
            ),
            count="num_layers",
            width=WIDTH,
            heads="num_heads",
            head_dim="d_kv",
            ffn="d_ff",
            norm="rms",
        ),
        Rest(t5_norm("final_layer_norm")),
    ),
)

# -- Time-MoE: Time-MoE/Time-MoE, modeling_time_moe.py. One value of the series is a token ----------------------------

PREDICTION = "ForPrediction"


def horizons(f: Fields) -> tuple[int, ...]:
    """How many values each head predicts."""
    given = f.value("horizon_lengths", 1)
    return sizes(f, "horizon_lengths") if isinstance(given, list) else (f.size("horizon_lengths", 1),)


def values(f: Fields) -> int:
    return f.size("input_size", 1)


def predicts(f: Fields, body: Body) -> Tensors:
    heads = enumerate(horizons(f))
    return tuple(t for i, ahead in heads for t in linear(f"lm_heads.{i}.out_layer", values(f) * ahead, body.width))


def embeds(f: Fields) -> Tensors:
    names = ("emb_layer", "gate_layer")
    return tuple(t for name in names for t in linear(f"embed_layer.{name}", f["hidden_size"], values(f)))


def narrow(f: Fields) -> int:
    """Inner width of an expert: those that a token passes are together as wide as the dense layer."""
    return f["intermediate_size"] // f.size("num_experts_per_tok", 2)


def kinds(f: Fields, layers: int) -> Sequence[str]:
    return ["dense" if f.flag("use_dense", False) else "sparse"] * layers


TIME_MOE = Decoder(
    mixers={"attention": Attention(bias=True, out_bias=False, dim=hidden_per_head)},
    feed_forwards={
        "sparse": MixtureOfExperts(
            inner=narrow, prefix="ffn_layer", shared=GatedMLP(prefix="shared_expert"), extras=(shared_gate,)
        ),
        "dense": GatedMLP(prefix="ffn_layer"),
    },
    feed_forward_schedule=kinds,
    embed="",
    vocab=0,
    beside=(embeds,),
)

FORECASTING: Mapping[str, Model] = {
    "chronos_bolt": one_class("ChronosBolt", "ModelForForecasting", CHRONOS_BOLT),
    "chronos2": one_class("Chronos2", "Model", CHRONOS_2),
    "time_moe": decoder(
        TIME_MOE,
        heads={PREDICTION: predicts, "Model": no_head},
        default=PREDICTION,
        classes=("TimeMoeForPrediction", "TimeMoeModel"),
    ),
}
