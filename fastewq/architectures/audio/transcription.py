"""Models that write down speech, most with Parakeet's encoder: transducers, Canary, Cohere, LASR, Moonshine."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    FFN,
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
    Nested,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    adjusted,
    key_width,
    length,
    linears,
    plus,
    query_width,
)
from fastewq.architectures.audio.codecs import lstm
from fastewq.architectures.audio.speech import (
    AUDIO,
    CONFORMER_FEED_FORWARDS,
    PARAKEET_ENCODER,
    PARAKEET_LAYERS,
    conformer_norms,
    ctc,
    halvings,
    parakeet_layers,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Option, Part, head_dim, kv_heads

HEARD = "encoder_config.hidden_size"
PARAKEET: Mapping[str, Family] = {"parakeet_encoder": AUDIO["parakeet_encoder"]}

# -- transducers: an LSTM over what was written, joined with what is heard --------------------------------------------


def transducer(joined: Size, encoder: BodyBuilder = PARAKEET_ENCODER) -> BodyBuilder:
    width = "decoder_hidden_size"
    return Assembly(
        In("encoder_config", encoder, path="encoder"),
        Rest(
            Linear("encoder_projector", width, HEARD),
            Under(
                "decoder",
                Embedding("embedding", "vocab_size", width),
                Under("lstm", lstm(width, "num_decoder_layers")),
                Linear("decoder_projector", width, width),
            ),
            Linear("joint.head", joined, width),
        ),
    )


CHANNELS = "subsampling_conv_channels"
SQUARE = ("subsampling_conv_kernel_size", "subsampling_conv_kernel_size")


def bands(f: Fields) -> int:
    """What the causal convolutions leave of the frequencies, over all channels."""
    left, stride, kernel = f["num_mel_bins"], f["subsampling_conv_stride"], f[SQUARE[0]]
    for _ in range(halvings(f)):
        left = (left + (kernel - 1) + (stride - 1) - kernel) // stride + 1
    return f[CHANNELS] * left


STREAMING_ENCODER = Assembly(
    Rest(
        Under(
            "subsampling",
            Convolution("conv_in", CHANNELS, 1, SQUARE),
            Each(
                "layers",
                lambda f: halvings(f) - 1,
                (
                    Convolution("depthwise_conv", CHANNELS, 1, SQUARE),
                    Convolution("pointwise_conv", CHANNELS, CHANNELS, (1, 1)),
                ),
            ),
            Linear("linear", WIDTH, bands),
        )
    ),
    PARAKEET_LAYERS,
)


def tokens_and_durations(f: Fields) -> int:
    return f["vocab_size"] + f[length("durations")]


PROMPTED_TRANSDUCER = Assembly(
    transducer("vocab_size", STREAMING_ENCODER),
    Rest(
        Linear("prompt_projector.linear_1", "prompt_intermediate_size", plus(HEARD, "num_prompts")),
        Linear("prompt_projector.linear_2", HEARD, "prompt_intermediate_size"),
    ),
)

# -- Granite Speech 5: a conformer with the positions of the one before ----------------------------------------------

EXPANDED = f"{WIDTH}*conv_expansion_factor"
GRANITE_ENCODER = Assembly(
    Rest(
        Linear("input_linear", WIDTH, "4*num_mel_bins"),
        Linear("out", "vocab_size", WIDTH),
        Linear("out_mid", WIDTH, "vocab_size"),
    ),
    Layers(
        "layers",
        (
            *CONFORMER_FEED_FORWARDS,
            *linears("self_attn", "q_proj k_proj v_proj", query_width, WIDTH, False),
            Linear("self_attn.o_proj", WIDTH, query_width),
            Embedding("self_attn.rel_pos_emb", plus("2*max_position_embeddings", 1), head_dim),
            Linear("conv.pointwise_lin1", f"2*{EXPANDED}", WIDTH),
            Convolution("conv.depthwise_conv", EXPANDED, 1, ("conv_kernel_size",), bias=False),
            Norm("conv.norm", EXPANDED),
            Linear("conv.pointwise_lin2", WIDTH, EXPANDED),
            *conformer_norms(),
        ),
        name="audio",
        role="audio",
        head_dim=head_dim,
    ),
)
GRANITE_CTC = Assembly(
    In("encoder_config", GRANITE_ENCODER, path="encoder"),
    Rest(When(UNTIED, Linear("ctc_head", "vocab_size", HEARD))),
)

# -- decoders that attend to what is heard ----------------------------------------------------------------------------


def attention(name: str, bias: Option, out_bias: Option) -> tuple[Part, ...]:
    return (
        Linear(f"{name}.q_proj", query_width, WIDTH, bias),
        *linears(name, "k_proj v_proj", key_width, WIDTH, bias),
        Linear(f"{name}.o_proj", WIDTH, query_width, out_bias),
    )


def writing_layers(*feed_forward: Part, norm_bias: Option, out_bias: Option) -> Layers:
    return Layers(
        "layers",
        (
            *attention("self_attn", "attention_bias", out_bias),
            *attention("encoder_attn", "attention_bias", out_bias),
            *feed_forward,
            *(Norm(f"{name}_layernorm", bias=norm_bias) for name in ("input", "post_attention")),
            Norm("final_layernorm", bias=norm_bias),
        ),
        name="decoder",
        role="decoder",
        kv_heads=kv_heads,
        head_dim=head_dim,
    )


TWO_MATRICES = (Linear("mlp.fc1", FFN, WIDTH), Linear("mlp.fc2", WIDTH, FFN))
CANARY_DECODER = Assembly(
    Rest(Embedding("embed_tokens", "vocab_size"), Norm("norm"), Norm("embedding_layernorm")),
    writing_layers(*TWO_MATRICES, norm_bias=True, out_bias="attention_bias"),
)
CANARY = Assembly(Nested("encoder_config", "encoder", PARAKEET), In("decoder_config", CANARY_DECODER, path="decoder"))
COHERE = Assembly(
    Nested("encoder_config", "encoder", PARAKEET),
    At(
        "decoder",
        CANARY_DECODER,
        Rest(Embedding("pos_emb", "max_position_embeddings"), Linear("proj", WIDTH, HEARD)),
    ),
)

# -- LASR -------------------------------------------------------------------------------------------------------------

KERNEL = ("subsampling_conv_kernel_size",)
LASR_ENCODER = Assembly(
    Rest(
        Under(
            "subsampler",
            Linear("dense_0", WIDTH, "num_mel_bins"),
            Convolution("conv_0", WIDTH, WIDTH, KERNEL),
            Convolution("conv_1", "subsampling_conv_channels", WIDTH, KERNEL),
            Linear("dense_1", WIDTH, "subsampling_conv_channels"),
        ),
        Norm("out_norm", bias=False),
    ),
    parakeet_layers(norm_bias=False),
)

# -- Moonshine that listens as it goes --------------------------------------------------------------------------------


def samples(f: Fields) -> int:
    """Of one frame."""
    return round(f.number("sample_rate") * f.number("frame_ms") / 1000)


MOONSHINE_ENCODER = Assembly(
    Rest(
        Under(
            "embedder",
            Parameter("comp.log_k", ()),
            Convolution("conv1", "2*hidden_size", WIDTH, (5,)),
            Convolution("conv2", WIDTH, "2*hidden_size", (5,)),
            Linear("linear", WIDTH, samples, False),
        ),
        Parameter("final_norm.gamma", (WIDTH,), "norm"),
    ),
    Layers(
        "layers",
        (
            *attention("self_attn", "attention_bias", "attention_bias"),
            *TWO_MATRICES,
            Parameter("input_layernorm.gamma", (WIDTH,), "norm"),
            Parameter("post_attention_layernorm.gamma", (WIDTH,), "norm"),
        ),
        name="audio",
        role="audio",
        kv_heads=kv_heads,
        head_dim=head_dim,
    ),
)
MOONSHINE = Assembly(
    In("encoder_config", MOONSHINE_ENCODER, path="encoder"),
    At(
        "decoder",
        Rest(
            Embedding("embed_tokens", "vocab_size"),
            Norm("norm", bias=False),
            Embedding("pos_emb", "max_position_embeddings", HEARD),
            When(lambda f: f[HEARD] != f[WIDTH], Linear("proj", WIDTH, HEARD, False)),
        ),
        writing_layers(
            Linear("mlp.fc1", "2*intermediate_size", WIDTH),
            Linear("mlp.fc2", WIDTH, FFN),
            norm_bias=False,
            out_bias=False,
        ),
    ),
)


def of_nemo(f: Fields) -> Fields:
    """The same in the library's words, where it is in those of NeMo, as CohereLabs/cohere-transcribe-03-2026 is."""
    if not f.has("transf_decoder"):
        return f
    encoder, decoder, head = f.sub("encoder", ""), f.sub("transf_decoder", "").sub("config_dict", ""), f.sub("head", "")
    f.sub("transf_encoder", "").require("num_layers", (0,))
    return f.replaced(
        encoder_config={
            "hidden_size": encoder["d_model"],
            "num_hidden_layers": encoder.layers("n_layers"),
            "num_attention_heads": encoder["n_heads"],
            "intermediate_size": encoder["d_model"] * encoder["ff_expansion_factor"],
            "conv_kernel_size": encoder["conv_kernel_size"],
            "subsampling_factor": encoder["subsampling_factor"],
            "subsampling_conv_channels": encoder["subsampling_conv_channels"],
            "num_mel_bins": encoder["feat_in"],
        },
        hidden_size=decoder[WIDTH],
        num_hidden_layers=decoder.layers("num_layers"),
        num_attention_heads=decoder["num_attention_heads"],
        intermediate_size=decoder["inner_size"],
        max_position_embeddings=decoder["max_sequence_length"],
        vocab_size=head["num_classes"],
    ).completed("encoder_config")


WRITES = "ForConditionalGeneration"
TRANSCRIPTION: Mapping[str, Family] = {
    "parakeet_tdt": Family("Parakeet", {"ForTDT": transducer(tokens_and_durations)}, "ForTDT", "ForTDT"),
    "parakeet_rnnt": Family("Parakeet", {"ForRNNT": transducer("vocab_size")}, "ForRNNT", "ForRNNT"),
    "nemotron_asr_streaming_encoder": Family(
        "NemotronAsrStreaming", {"Encoder": STREAMING_ENCODER}, "Encoder", "Encoder"
    ),
    "nemotron_asr_streaming": Family(
        "NemotronAsrStreaming", {"ForRNNT": transducer("vocab_size", STREAMING_ENCODER)}, "ForRNNT", "ForRNNT"
    ),
    "nemotron3_5_asr": Family("Nemotron3_5Asr", {"ForRNNT": PROMPTED_TRANSDUCER}, "ForRNNT", "ForRNNT"),
    "granite_speech5_encoder": Family("GraniteSpeech5", {"Encoder": GRANITE_ENCODER}, "Encoder", "Encoder"),
    "granite_speech5_ctc": Family("GraniteSpeech5", {"ForCTC": GRANITE_CTC}, "ForCTC", "ForCTC"),
    "canary_decoder": Family("CanaryDecoder", {"": CANARY_DECODER}, "", ""),
    "moonshine_streaming_encoder": Family("MoonshineStreamingEncoder", {"": MOONSHINE_ENCODER}, "", ""),
    "canary": Family(
        "Canary",
        {
            "Model": CANARY,
            WRITES: Assembly(
                At("model", CANARY),
                Rest(
                    Linear("proj_out", "decoder_config.vocab_size", "decoder_config.hidden_size", weight=UNTIED),
                ),
            ),
        },
        WRITES,
    ),
    "cohere_asr": Family(
        "CohereAsr",
        adjusted(
            {
                "Model": COHERE,
                WRITES: Assembly(At("model", COHERE), Rest(Linear("proj_out", "vocab_size", WIDTH, weight=UNTIED))),
            },
            of_nemo,
        ),
        WRITES,
    ),
    "moonshine_streaming": Family(
        "MoonshineStreaming",
        {
            "Model": MOONSHINE,
            WRITES: Assembly(At("model", MOONSHINE), Rest(Linear("proj_out", "vocab_size", WIDTH, False, UNTIED))),
        },
        WRITES,
    ),
    "lasr_encoder": Family("Lasr", {"Encoder": LASR_ENCODER}, "Encoder", "Encoder"),
    "lasr_ctc": Family("Lasr", {"ForCTC": ctc(LASR_ENCODER)}, "ForCTC", "ForCTC"),
}
