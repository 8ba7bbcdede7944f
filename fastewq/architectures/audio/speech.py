"""Speech and audio models: Whisper, wav2vec 2.0 and their relatives."""

from __future__ import annotations

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    MAX_ENTRIES,
    UNTIED,
    WIDTH,
    Assembly,
    At,
    Convolution,
    Each,
    Embedding,
    Family,
    In,
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
    equals,
    key_width,
    linears,
    plus,
    query_width,
    quotient,
    sizes,
    tied,
    times,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.encoders.deberta import DEBERTA_V2_ENCODER
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Option, Part, Tensors, head_dim, kv_heads, present, unless
from fastewq.architectures.seq2seq.bart import LM_HEAD, bart_layer, bart_stack

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
    return f.optional_size("output_hidden_size") or f[WIDTH]


def ctc_width(f: Fields) -> int:
    return output_width(f) if f.flag("add_adapter", False) else f[WIDTH]


def narrower(f: Fields) -> bool:
    return output_width(f) != f[WIDTH]


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

# -- conformers: convolution between two feed-forwards ----------------------------------------------------------------


def half_feed_forward(name: str) -> tuple[Part, ...]:
    return (
        Norm(f"{name}_layer_norm"),
        Linear(f"{name}.intermediate_dense", FFN, WIDTH),
        Linear(f"{name}.output_dense", WIDTH, FFN),
    )


RELATIVE_ATTENTION = When(
    equals("position_embeddings_type", "relative"),
    Linear("self_attn.linear_pos", WIDTH, WIDTH, False),
    Parameter("self_attn.pos_bias_u", (HEADS, quotient(WIDTH, HEADS))),
    Parameter("self_attn.pos_bias_v", (HEADS, quotient(WIDTH, HEADS))),
)


def conformer_layer(conv_norm: str) -> tuple[Part, ...]:
    return (
        *half_feed_forward("ffn1"),
        Norm("self_attn_layer_norm"),
        *linears("self_attn", "linear_q linear_k linear_v linear_out"),
        RELATIVE_ATTENTION,
        Under(
            "conv_module",
            Norm("layer_norm"),
            Convolution("pointwise_conv1", "2*hidden_size", WIDTH, (1,), bias=False),
            Convolution("depthwise_conv", WIDTH, 1, ("conv_depthwise_kernel_size",), bias=False),
            Norm(conv_norm),
            Convolution("pointwise_conv2", WIDTH, WIDTH, (1,), bias=False),
        ),
        *half_feed_forward("ffn2"),
        Norm("final_layer_norm"),
    )


CONFORMER = wav2vec2_body(*conformer_layer("batch_norm"))
DISTANCES = plus(plus("left_max_position_embeddings", "right_max_position_embeddings"), 1)
KEY_DISTANCES = When(
    equals("position_embeddings_type", "relative_key"),
    Embedding("self_attn.distance_embedding", DISTANCES, quotient(WIDTH, HEADS)),
)


def adapter_layer(width: Size, kernel: str) -> tuple[Part, ...]:
    """Shortens what was heard by strided convolutions, before attention and beside it."""
    return (
        Norm("residual_layer_norm", width),
        Convolution("residual_conv", times(2, width), width, (kernel,)),
        Norm("self_attn_layer_norm", width),
        Convolution("self_attn_conv", times(2, width), width, (kernel,)),
        *linears("self_attn", "linear_q linear_k linear_v linear_out", width, width),
        Norm("ffn_layer_norm", width),
        Linear("ffn.intermediate_dense", FFN, width),
        Linear("ffn.output_dense", width, FFN),
    )


WAV2VEC2_BERT = Assembly(
    Rest(
        When(masks_features, Parameter("masked_spec_embed", (WIDTH,))),
        Norm("feature_projection.layer_norm", "feature_projection_input_dim"),
        Linear("feature_projection.projection", WIDTH, "feature_projection_input_dim"),
        When(
            "use_intermediate_ffn_before_adapter",
            Linear("intermediate_ffn.intermediate_dense", FFN, WIDTH),
            Linear("intermediate_ffn.output_dense", WIDTH, FFN),
        ),
    ),
    Layers(
        "encoder.layers",
        (
            *conformer_layer("depthwise_layer_norm"),
            KEY_DISTANCES,
        ),
        name="audio",
        role="audio",
    ),
    Only(
        "add_adapter",
        Rest(
            When(narrower, Linear("adapter.proj", output_width, WIDTH), Norm("adapter.proj_layer_norm", output_width)),
            Each("adapter.layers", "num_adapter_layers", adapter_layer(output_width, "adapter_kernel_size")),
        ),
    ),
)

# -- further relatives of wav2vec 2.0 ---------------------------------------------------------------------------------


def normed_feature_encoder(f: Fields) -> Tensors:
    return feature_encoder(f.replaced(feat_extract_norm="layer"))


DATA2VEC_AUDIO = Assembly(
    Rest(
        When(masks_features, Parameter("masked_spec_embed", (WIDTH,))),
        Under("feature_extractor", normed_feature_encoder),
        Norm("feature_projection.layer_norm", entry("conv_dim", -1)),
        Linear("feature_projection.projection", WIDTH, entry("conv_dim", -1)),
        Each(
            "encoder.pos_conv_embed.layers",
            "num_conv_pos_embeddings",
            (Convolution("conv", WIDTH, quotient(WIDTH, "num_conv_pos_embedding_groups"), ("conv_pos_kernel_size",)),),
        ),
        Norm("encoder.layer_norm"),
    ),
    Layers("encoder.layers", WAV2VEC2_LAYER, name="audio", role="audio"),
    ADAPTER,
)
SEW_EARS = Assembly(
    Rest(
        When(masks_features, Parameter("masked_spec_embed", (WIDTH,))),
        Under("feature_extractor", feature_encoder),
        Norm("layer_norm", entry("conv_dim", -1)),
        When(
            lambda f: sizes(f, "conv_dim")[-1] != f[WIDTH],
            Linear("feature_projection", WIDTH, entry("conv_dim", -1)),
        ),
        Under("encoder.pos_conv_embed", *POSITION_CONVOLUTION),
        Linear("encoder.upsample.projection", "hidden_size*squeeze_factor", WIDTH),
    ),
)
SEW = Assembly(
    SEW_EARS,
    Rest(Norm("encoder.layer_norm")),
    Layers("encoder.layers", WAV2VEC2_LAYER, name="audio", role="audio"),
)
SEW_D = Assembly(SEW_EARS, At("encoder.encoder", DEBERTA_V2_ENCODER))
UNISPEECH = wav2vec2_body(*WAV2VEC2_LAYER, ATTENTION_ADAPTER)


def codebook(features: Size) -> tuple[Part, ...]:
    return (
        Parameter("quantizer.codevectors", (1, CODES, CODEBOOK)),
        Linear("quantizer.weight_proj", CODES, features),
        Linear("project_q", "proj_codevector_dim", "codevector_dim"),
    )


UNISPEECH_PRETRAINING = Rest(
    *codebook(entry("conv_dim", -1)),
    Linear("project_hid", WIDTH, "proj_codevector_dim"),
    Linear("ctc_proj", "num_ctc_classes", WIDTH),
)
UNISPEECH_SAT_PRETRAINING = Rest(
    Parameter("label_embeddings_concat", ("num_clusters", "codevector_dim")),
    *codebook(WIDTH),
    Linear("project_hid", "proj_codevector_dim", WIDTH),
    Linear("speaker_proj", "codevector_dim", WIDTH),
    Norm("layer_norm_for_extract"),
)

# -- Moonshine, Speech2Text, Parakeet ---------------------------------------------------------------------------------


MOONSHINE_HEADS = "encoder_num_attention_heads"
"""Of both sides: the library builds the decoder with the encoder's."""


def moonshine_dim(f: Fields) -> int:
    return f.optional_size("head_dim") or f[WIDTH] // f[MOONSHINE_HEADS]


def moonshine_queries(f: Fields) -> int:
    return f[MOONSHINE_HEADS] * moonshine_dim(f)


def moonshine_kv_heads(f: Fields) -> int:
    return f.optional_size("encoder_num_key_value_heads") or f[MOONSHINE_HEADS]


def moonshine_keys(f: Fields) -> int:
    return moonshine_kv_heads(f) * moonshine_dim(f)


def moonshine_attention(name: str) -> tuple[Part, ...]:
    return (
        Linear(f"{name}.q_proj", moonshine_queries, WIDTH, "attention_bias"),
        *linears(name, "k_proj v_proj", moonshine_keys, WIDTH, "attention_bias"),
        Linear(f"{name}.o_proj", WIDTH, moonshine_queries, False),
    )


def moonshine_layers(side: str, *parts: Part) -> Layers:
    return Layers(
        "layers",
        (*moonshine_attention("self_attn"), *parts),
        count=f"{side}_num_hidden_layers",
        name=side,
        role="decoder" if side == "decoder" else "audio",
        heads=MOONSHINE_HEADS,
        kv_heads=moonshine_kv_heads,
        head_dim=moonshine_dim,
    )


MOONSHINE = Assembly(
    At(
        "encoder",
        Rest(
            Convolution("conv1", WIDTH, 1, (127,), bias=False),
            Convolution("conv2", "2*hidden_size", WIDTH, (7,)),
            Convolution("conv3", WIDTH, "2*hidden_size", (3,)),
            Norm("groupnorm"),
            Norm("layer_norm", bias=False),
        ),
        moonshine_layers(
            "encoder",
            Linear("mlp.fc1", FFN, WIDTH),
            Linear("mlp.fc2", WIDTH, FFN),
            Norm("input_layernorm", bias=False),
            Norm("post_attention_layernorm", bias=False),
        ),
    ),
    At(
        "decoder",
        Rest(Embedding("embed_tokens", "vocab_size"), Norm("norm", bias=False)),
        moonshine_layers(
            "decoder",
            *moonshine_attention("encoder_attn"),
            Linear("mlp.fc1", "2*intermediate_size", WIDTH),
            Linear("mlp.fc2", WIDTH, FFN),
            Norm("input_layernorm", bias=False),
            Norm("post_attention_layernorm", bias=False),
            Norm("final_layernorm", bias=False),
        ),
    ),
)


def subsampler(f: Fields) -> Tensors:
    """Convolutions with a gate, which halves their width; the last one reaches the model's."""
    layers = f["num_conv_layers"]
    middle = f["conv_channels"]
    entries = f["input_feat_per_channel"] * f["input_channels"]
    parts = (
        Convolution(
            f"conv_layers.{i}",
            middle if i < layers - 1 else 2 * f["d_model"],
            entries if i == 0 else middle // 2,
            (kernel,),
        )
        for i, kernel in enumerate(sizes(f, "conv_kernel_sizes"))
    )
    return tuple(t for part in parts for t in part(f))


SPEECH_TO_TEXT = Assembly(
    At(
        "encoder",
        Rest(Under("conv", subsampler), Norm("layer_norm", "d_model")),
        bart_stack("encoder", bart_layer("encoder"), role="audio"),
    ),
    At(
        "decoder",
        Rest(Embedding("embed_tokens", "vocab_size", "d_model"), Norm("layer_norm", "d_model")),
        bart_stack("decoder", bart_layer("decoder", cross=True)),
    ),
)


def halvings(f: Fields) -> int:
    return f["subsampling_factor"].bit_length() - 1


def subsampled(f: Fields) -> int:
    """Features of a frame after the halvings."""
    left: int = f["num_mel_bins"] // f["subsampling_conv_stride"] ** halvings(f)
    return f["subsampling_conv_channels"] * left


def parakeet_subsampling(f: Fields) -> Tensors:
    """A convolution, then pairs of one per channel and one across channels, each halving time and frequency."""
    kernel = ("subsampling_conv_kernel_size", "subsampling_conv_kernel_size")
    channels = "subsampling_conv_channels"
    if halvings(f) > MAX_ENTRIES:
        raise f.refuse("subsampling_factor", f["subsampling_factor"], "a small power of two")
    parts: list[Part] = [Convolution("layers.0", channels, 1, kernel)]
    for i in range(2, 3 * halvings(f) - 1, 3):
        parts += [
            Convolution(f"layers.{i}", channels, 1, kernel),
            Convolution(f"layers.{i + 1}", channels, channels, (1, 1)),
        ]
    parts.append(Linear("linear", WIDTH, subsampled))
    return tuple(t for part in parts for t in part(f))


CONFORMER_FEED_FORWARDS: tuple[Part, ...] = tuple(
    part
    for name in ("feed_forward1", "feed_forward2")
    for part in (
        Linear(f"{name}.linear1", FFN, WIDTH, "attention_bias"),
        Linear(f"{name}.linear2", WIDTH, FFN, "attention_bias"),
    )
)


def conformer_norms(bias: Option = True) -> tuple[Part, ...]:
    names = ("feed_forward1", "self_att", "conv", "feed_forward2", "out")
    return tuple(Norm(f"norm_{name}", bias=bias) for name in names)


def parakeet_layers(*relative: Part, norm_bias: Option = True) -> Layers:
    """A conformer: attention and a convolution between two feed-forwards; `relative` has the tensors of positions."""
    return Layers(
        "layers",
        (
            *CONFORMER_FEED_FORWARDS,
            Linear("self_attn.q_proj", query_width, WIDTH, "attention_bias"),
            *linears("self_attn", "k_proj v_proj", key_width, WIDTH, "attention_bias"),
            Linear("self_attn.o_proj", WIDTH, query_width, "attention_bias"),
            *relative,
            Convolution("conv.pointwise_conv1", "2*hidden_size", WIDTH, (1,), "convolution_bias"),
            Convolution("conv.depthwise_conv", WIDTH, 1, ("conv_kernel_size",), "convolution_bias"),
            Norm("conv.norm"),
            Convolution("conv.pointwise_conv2", WIDTH, WIDTH, (1,), "convolution_bias"),
            *conformer_norms(norm_bias),
        ),
        name="audio",
        role="audio",
        kv_heads=kv_heads,
        head_dim=head_dim,
    )


PARAKEET_LAYERS = parakeet_layers(
    Linear("self_attn.relative_k_proj", query_width, WIDTH, False),
    Parameter("self_attn.bias_u", (HEADS, head_dim)),
    Parameter("self_attn.bias_v", (HEADS, head_dim)),
)
PARAKEET_ENCODER = Assembly(Rest(Under("subsampling", parakeet_subsampling)), PARAKEET_LAYERS)


def ctc(encoder: BodyBuilder) -> BodyBuilder:
    return Assembly(
        In("encoder_config", encoder, path="encoder"),
        Rest(Convolution("ctc_head", "vocab_size", "encoder_config.hidden_size", (1,))),
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
    "wav2vec2-conformer": Family("Wav2Vec2Conformer", speech_classes("wav2vec2_conformer", CONFORMER)),
    "wav2vec2-bert": Family("Wav2Vec2Bert", speech_classes("wav2vec2_bert", WAV2VEC2_BERT)),
    "data2vec-audio": Family("Data2VecAudio", speech_classes("data2vec_audio", DATA2VEC_AUDIO)),
    "sew-d": Family("SEWD", speech_classes("sew_d", SEW_D)),
    "sew": Family("SEW", speech_classes("sew", SEW)),
    "unispeech": Family(
        "UniSpeech",
        {
            **speech_classes("unispeech", UNISPEECH),
            "ForPreTraining": Assembly(At("unispeech", UNISPEECH), UNISPEECH_PRETRAINING),
        },
    ),
    "unispeech-sat": Family(
        "UniSpeechSat",
        {
            **speech_classes("unispeech_sat", UNISPEECH),
            "ForPreTraining": Assembly(At("unispeech_sat", UNISPEECH), UNISPEECH_SAT_PRETRAINING),
        },
    ),
    "moonshine": Family(
        "Moonshine",
        {
            "Model": MOONSHINE,
            "ForConditionalGeneration": Assembly(
                At("model", MOONSHINE), Rest(Linear("proj_out", "vocab_size", WIDTH, False, UNTIED))
            ),
        },
        "ForConditionalGeneration",
    ),
    "speech_to_text": Family(
        "Speech2Text",
        {
            "Model": SPEECH_TO_TEXT,
            "ForConditionalGeneration": Assembly(At("model", SPEECH_TO_TEXT), LM_HEAD),
        },
        "ForConditionalGeneration",
    ),
    "parakeet_encoder": Family("Parakeet", {"Encoder": PARAKEET_ENCODER}, "Encoder", "Encoder"),
    "parakeet_ctc": Family("Parakeet", {"ForCTC": ctc(PARAKEET_ENCODER)}, "ForCTC", "ForCTC"),
}
