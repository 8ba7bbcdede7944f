"""Speech and audio models: Whisper, wav2vec 2.0 and their relatives."""

from __future__ import annotations

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
    Only,
    Parameter,
    Rest,
    Under,
    When,
    both,
    entry,
    labels,
    linears,
    plus,
    present,
    quotient,
    sizes,
    tied,
    unless,
)
from fastewq.architectures.bart import bart_layer, bart_stack
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields
from fastewq.architectures.parts import Part, Tensors

LAYER_WEIGHTS = Rest(When("use_weighted_layer_sum", Parameter("layer_weights", (plus("num_hidden_layers", 1),))))

# -- Whisper --------------------------------------------------------------------------------------------------------

WHISPER_ENCODER = Assembly(
    Rest(
        Convolution("conv1", "d_model", "num_mel_bins", (3,)),
        Convolution("conv2", "d_model", "d_model", (3,)),
        Embedding("embed_positions", "max_source_positions", "d_model"),
        Norm("layer_norm", "d_model"),
    ),
    bart_stack("encoder", bart_layer("encoder", key_bias=False), role="audio"),
)
WHISPER_DECODER = Assembly(
    Rest(
        Embedding("embed_tokens", "vocab_size", "d_model"),
        Embedding("embed_positions", "max_target_positions", "d_model"),
        Norm("layer_norm", "d_model"),
    ),
    bart_stack("decoder", bart_layer("decoder", key_bias=False, cross=True)),
)
WHISPER = Assembly(At("encoder", WHISPER_ENCODER), At("decoder", WHISPER_DECODER))
WHISPER_HEAD = Rest(Linear("proj_out", "vocab_size", "d_model", bias=False, weight=unless(tied)))
WHISPER_CLASSES: dict[str, BodyBuilder] = {
    "Model": WHISPER,
    "ForConditionalGeneration": Assembly(At("model", WHISPER), WHISPER_HEAD),
    "ForCausalLM": Assembly(At("model.decoder", WHISPER_DECODER), WHISPER_HEAD),
    "ForAudioClassification": Assembly(
        At("encoder", WHISPER_ENCODER),
        LAYER_WEIGHTS,
        Rest(
            Linear("projector", "classifier_proj_size", "d_model"), Linear("classifier", labels, "classifier_proj_size")
        ),
    ),
}

# -- wav2vec 2.0 ----------------------------------------------------------------------------------------------------


def feature_encoder(f: Fields) -> Tensors:
    """The convolutions over the waveform, each with a norm (`layer`) or only the first (`group`)."""
    widths = sizes(f, "conv_dim")
    kernels = sizes(f, "conv_kernel", len(widths))
    norms = f.choice("feat_extract_norm", ("group", "layer"))
    parts: list[Part] = []
    for i, (width, kernel) in enumerate(zip(widths, kernels, strict=False)):
        parts.append(Convolution(f"conv_layers.{i}.conv", width, widths[i - 1] if i else 1, (kernel,), "conv_bias"))
        if norms == "layer" or i == 0:
            parts.append(Norm(f"conv_layers.{i}.layer_norm", width))
    return tuple(t for part in parts for t in part(f))


def masks_features(f: Fields) -> bool:
    return f.number("mask_time_prob") > 0 or f.number("mask_feature_prob") > 0


POSITION_KERNEL = (WIDTH, quotient(WIDTH, "num_conv_pos_embedding_groups"), "num_conv_pos_embeddings")
WEIGHT_NORM: tuple[Part, ...] = (
    Parameter("conv.parametrizations.weight.original0", (1, 1, "num_conv_pos_embeddings"), "conv"),
    Parameter("conv.parametrizations.weight.original1", POSITION_KERNEL, "conv"),
)
POSITION_CONVOLUTION: tuple[Part, ...] = (
    Parameter("conv.bias", (WIDTH,), "bias"),
    When(unless("conv_pos_batch_norm"), *WEIGHT_NORM),
    When("conv_pos_batch_norm", Parameter("conv.weight", POSITION_KERNEL, "conv"), Norm("batch_norm")),
)
FEED_FORWARD: tuple[Part, ...] = (
    Linear("feed_forward.intermediate_dense", FFN, WIDTH),
    Linear("feed_forward.output_dense", WIDTH, FFN),
)
WAV2VEC2_LAYER: tuple[Part, ...] = (
    *linears("attention", "k_proj v_proj q_proj out_proj"),
    Norm("layer_norm"),
    *FEED_FORWARD,
    Norm("final_layer_norm"),
)


def output_width(f: Fields) -> int:
    return f.optional_size("output_hidden_size") or f.size(WIDTH)


def ctc_width(f: Fields) -> int:
    return output_width(f) if f.flag("add_adapter", False) else f.size(WIDTH)


def narrower(f: Fields) -> bool:
    return output_width(f) != f.size(WIDTH)


ADAPTER = Only(
    "add_adapter",
    Rest(
        When(narrower, Linear("adapter.proj", output_width, WIDTH), Norm("adapter.proj_layer_norm", output_width)),
        Each(
            "adapter.layers",
            "num_adapter_layers",
            (Convolution("conv", lambda f: 2 * output_width(f), output_width, ("adapter_kernel_size",)),),
        ),
    ),
)


def projects_normed(f: Fields) -> bool:
    return f.flag("feat_proj_layer_norm", True)


def wav2vec2_body(*layer: Part, first: tuple[Part, ...] = ()) -> BodyBuilder:
    return Assembly(
        Rest(
            When(masks_features, Parameter("masked_spec_embed", (WIDTH,))),
            Under("feature_extractor", feature_encoder),
            When(projects_normed, Norm("feature_projection.layer_norm", entry("conv_dim", -1))),
            Linear("feature_projection.projection", WIDTH, entry("conv_dim", -1)),
            Under("encoder.pos_conv_embed", *POSITION_CONVOLUTION),
            Norm("encoder.layer_norm"),
        ),
        Layers("encoder.layers", layer, role="audio", first=first),
        ADAPTER,
    )


def tdnn(f: Fields) -> Tensors:
    """The time-delay layers of a speaker-verification head."""
    widths = sizes(f, "tdnn_dim")
    kernels = sizes(f, "tdnn_kernel", len(widths))
    return tuple(
        t
        for i, (width, kernel) in enumerate(zip(widths, kernels, strict=False))
        for t in Linear(f"tdnn.{i}.kernel", width, widths[max(i - 1, 0)] * kernel)(f)
    )


XVECTOR = Rest(
    Linear("projector", entry("tdnn_dim", 0), WIDTH),
    tdnn,
    Linear("feature_extractor", "xvector_output_dim", lambda f: 2 * sizes(f, "tdnn_dim")[-1]),
    Linear("classifier", "xvector_output_dim", "xvector_output_dim"),
    Parameter("objective.weight", ("xvector_output_dim", labels), "linear"),
)
CODEBOOK = quotient("codevector_dim", "num_codevector_groups")
CODES = "num_codevector_groups*num_codevectors_per_group"
PRETRAINING = Rest(
    Parameter("quantizer.codevectors", (1, CODES, CODEBOOK)),
    Linear("quantizer.weight_proj", CODES, entry("conv_dim", -1)),
    Linear("project_hid", "proj_codevector_dim", WIDTH),
    Linear("project_q", "proj_codevector_dim", "codevector_dim"),
)


def speech_classes(prefix: str, body: BodyBuilder) -> dict[str, BodyBuilder]:
    """The heads of wav2vec 2.0 and its relatives."""
    inner = At(prefix, body)
    return {
        "Model": body,
        "ForPreTraining": Assembly(inner, PRETRAINING),
        "ForCTC": Assembly(inner, Rest(Linear("lm_head", "vocab_size", ctc_width))),
        "ForSequenceClassification": Assembly(
            inner,
            LAYER_WEIGHTS,
            Rest(
                Linear("projector", "classifier_proj_size", WIDTH), Linear("classifier", labels, "classifier_proj_size")
            ),
        ),
        "ForAudioFrameClassification": Assembly(inner, LAYER_WEIGHTS, Rest(Linear("classifier", labels, WIDTH))),
        "ForXVector": Assembly(inner, LAYER_WEIGHTS, XVECTOR),
    }


ATTENTION_ADAPTER = When(
    both("do_stable_layer_norm", present("adapter_attn_dim")),
    Norm("adapter_layer.norm"),
    Linear("adapter_layer.linear_1", "adapter_attn_dim", WIDTH),
    Linear("adapter_layer.linear_2", WIDTH, "adapter_attn_dim"),
)
WAVLM_LAYER: tuple[Part, ...] = (
    *WAV2VEC2_LAYER,
    Parameter("attention.gru_rel_pos_const", (1, HEADS, 1, 1)),
    Linear("attention.gru_rel_pos_linear", 8, quotient(WIDTH, HEADS)),
)

AUDIO: dict[str, Family] = {
    "whisper": Family("Whisper", WHISPER_CLASSES, "ForConditionalGeneration"),
    "wav2vec2": Family(
        "Wav2Vec2",
        speech_classes("wav2vec2", wav2vec2_body(*WAV2VEC2_LAYER, ATTENTION_ADAPTER)),
    ),
    "hubert": Family("Hubert", speech_classes("hubert", wav2vec2_body(*WAV2VEC2_LAYER, ATTENTION_ADAPTER))),
    "wavlm": Family(
        "WavLM",
        speech_classes(
            "wavlm",
            wav2vec2_body(*WAVLM_LAYER, first=(Embedding("attention.rel_attn_embed", "num_buckets", HEADS),)),
        ),
    ),
}
