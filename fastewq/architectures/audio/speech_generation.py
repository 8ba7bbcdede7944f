"""Models that speak or play music: SpeechT5, VITS, MusicGen and Bark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastewq.architectures.assembly import (
    HEADS,
    MAX_ENTRIES,
    UNTIED,
    WIDTH,
    Adjusted,
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
    linears,
    plus,
    positive,
    quotient,
    sizes,
    tensors,
)
from fastewq.architectures.audio.codecs import AUDIO_CODECS, hifi_gan, weight_normed
from fastewq.architectures.audio.speech import (
    POSITION_CONVOLUTION,
    feature_encoder,
    masks_features,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Option, Part, Tensors, unless
from fastewq.architectures.seq2seq.t5 import SEQ2SEQ

# -- SpeechT5: one encoder-decoder, with nets before and after it for speech and for text -----------------------------


def speecht5_layers(side: str, *parts: Part) -> Layers:
    return Layers(
        "layers",
        parts,
        count=f"{side}_layers",
        name=side,
        role="decoder" if side == "decoder" else "encoder",
        heads=f"{side}_attention_heads",
        ffn=f"{side}_ffn_dim",
    )


def speecht5_feed_forward(side: str) -> tuple[Part, ...]:
    return (
        Linear("feed_forward.intermediate_dense", f"{side}_ffn_dim", WIDTH),
        Linear("feed_forward.output_dense", WIDTH, f"{side}_ffn_dim"),
        Norm("final_layer_norm"),
    )


SPEECHT5 = Assembly(
    At(
        "encoder.wrapped_encoder",
        Rest(
            Norm("layer_norm"),
            Embedding(
                "embed_positions.pe_k", "2*encoder_max_relative_position", quotient(WIDTH, "encoder_attention_heads")
            ),
        ),
        speecht5_layers(
            "encoder",
            *linears("attention", "k_proj v_proj q_proj out_proj"),
            Norm("layer_norm"),
            *speecht5_feed_forward("encoder"),
        ),
    ),
    At(
        "decoder.wrapped_decoder",
        speecht5_layers(
            "decoder",
            *linears("self_attn", "k_proj v_proj q_proj out_proj"),
            Norm("self_attn_layer_norm"),
            *linears("encoder_attn", "k_proj v_proj q_proj out_proj"),
            Norm("encoder_attn_layer_norm"),
            *speecht5_feed_forward("decoder"),
        ),
    ),
)
HEARS = Rest(
    Under(
        "encoder.prenet",
        When(masks_features, Parameter("masked_spec_embed", (WIDTH,))),
        Under("feature_encoder", feature_encoder),
        Norm("feature_projection.layer_norm", lambda f: sizes(f, "conv_dim")[-1]),
        Linear("feature_projection.projection", WIDTH, lambda f: sizes(f, "conv_dim")[-1]),
        Under("pos_conv_embed", *POSITION_CONVOLUTION),
    )
)
READS = Rest(
    Embedding("encoder.prenet.embed_tokens", "vocab_size"), Parameter("encoder.prenet.encode_positions.alpha", ())
)
WRITES = Rest(Embedding("decoder.prenet.embed_tokens", "vocab_size"))


def frame_layers(f: Fields) -> Tensors:
    """Matrices that what was spoken so far passes through."""
    units, layers = f["speech_decoder_prenet_units"], f.count("speech_decoder_prenet_layers", high=MAX_ENTRIES)
    return tensors(f, (Linear(f"layers.{i}", units, units if i else "num_mel_bins") for i in range(layers)))


def postnet_layers(f: Fields) -> Tensors:
    """Convolutions that refine a spectrogram, each with a batch norm."""
    units, bins = f["speech_decoder_postnet_units"], f["num_mel_bins"]
    layers = f.count("speech_decoder_postnet_layers", high=MAX_ENTRIES)
    parts: list[Part] = []
    for i in range(layers):
        rows, columns = bins if i == layers - 1 else units, units if i else bins
        kernel = ("speech_decoder_postnet_kernel",)
        parts += [
            Convolution(f"layers.{i}.conv", rows, columns, kernel, bias=False),
            Norm(f"layers.{i}.batch_norm", rows),
        ]
    return tensors(f, parts)


SPEAKS = Rest(
    Under(
        "decoder.prenet",
        frame_layers,
        Linear("final_layer", WIDTH, "speech_decoder_prenet_units"),
        Parameter("encode_positions.alpha", ()),
        Linear("speaker_embeds_layer", WIDTH, plus("speaker_embedding_dim", WIDTH)),
    )
)
SPECTROGRAM = Rest(
    Under(
        "speech_decoder_postnet",
        Linear("feat_out", "num_mel_bins*reduction_factor", WIDTH),
        Linear("prob_out", "reduction_factor", WIDTH),
        postnet_layers,
    )
)
TEXT_HEAD = Rest(Linear("text_decoder_postnet.lm_head", "vocab_size", WIDTH, False, UNTIED))


def speecht5(source: BodyBuilder, target: BodyBuilder, head: BodyBuilder) -> BodyBuilder:
    return Assembly(At("speecht5", source, SPEECHT5, target), head)


# -- VITS: a small encoder of text, and flows and convolutions that make sound of it ----------------------------------


def wavenet(layers: str) -> Part:
    """Pairs of convolutions; the last one of them hands nothing on to a next."""

    def part(f: Fields) -> Tensors:
        width, count = f[WIDTH], f.count(layers, low=1, high=MAX_ENTRIES)
        parts: list[Part] = []
        if f.count("speaker_embedding_size"):
            rows = 2 * width * count
            parts.append(weight_normed("wavenet.cond_layer", (rows, "speaker_embedding_size", 1), rows))
        for i in range(count):
            skipped = width if i == count - 1 else 2 * width
            kernel = (2 * width, width, "wavenet_kernel_size")
            parts.append(weight_normed(f"wavenet.in_layers.{i}", kernel, 2 * width))
            parts.append(weight_normed(f"wavenet.res_skip_layers.{i}", (skipped, width, 1), skipped))
        return tensors(f, parts)

    return part


def speakers(name: str, rows: Size) -> Part:
    """A convolution that adds what is known of the speaker."""
    return When(positive("speaker_embedding_size"), Convolution(name, rows, "speaker_embedding_size", (1,)))


SEPARABLE: tuple[Part, ...] = tuple(
    Each(f"conv_dds.{name}", "depth_separable_num_layers", (part,))
    for name, part in (
        ("convs_dilated", Convolution("", WIDTH, 1, ("duration_predictor_kernel_size",))),
        ("convs_pointwise", Convolution("", WIDTH, WIDTH, (1,))),
        ("norms_1", Norm("")),
        ("norms_2", Norm("")),
    )
)
HALF = quotient("depth_separable_channels", 2)


def bins(f: Fields) -> int:
    """Outputs of a spline: widths, heights and slopes of its bins."""
    return f[HALF] * (3 * f["duration_predictor_flow_bins"] - 1)


def flows(name: str) -> Part:
    """An affine map, then splines whose shape convolutions decide."""

    def part(f: Fields) -> Tensors:
        channels: tuple[Size, ...] = ("depth_separable_channels", 1)
        parts: list[Part] = [Under(f"{name}.0", Parameter("translate", channels), Parameter("log_scale", channels))]
        spline: tuple[Part, ...] = (
            Convolution("conv_pre", WIDTH, HALF, (1,)),
            *SEPARABLE,
            Convolution("conv_proj", bins, WIDTH, (1,)),
        )
        splines = f.count("duration_predictor_num_flows", high=MAX_ENTRIES)
        return tensors(f, (*parts, *(Under(f"{name}.{i + 1}", *spline) for i in range(splines))))

    return part


def durations(prefix: str, heard: Size) -> tuple[Part, ...]:
    return (
        Convolution(f"{prefix}conv_pre", WIDTH, heard, (1,)),
        Convolution(f"{prefix}conv_proj", WIDTH, WIDTH, (1,)),
        lambda f: tuple(t._replace(name=prefix + t.name) for t in tensors(f, SEPARABLE)),
        flows(f"{prefix}flows"),
    )


FILTER = "duration_predictor_filter_channels"
DURATION_KERNEL = ("duration_predictor_kernel_size",)
VITS = Assembly(
    At(
        "text_encoder",
        Rest(Embedding("embed_tokens", "vocab_size"), Convolution("project", "2*flow_size", WIDTH, (1,))),
        Layers(
            "encoder.layers",
            (
                *linears("attention", "k_proj v_proj q_proj out_proj", bias="use_bias"),
                When(
                    positive("window_size"),
                    *(
                        Parameter(f"attention.emb_rel_{name}", (1, plus("2*window_size", 1), quotient(WIDTH, HEADS)))
                        for name in "kv"
                    ),
                ),
                Convolution("feed_forward.conv_1", "ffn_dim", WIDTH, ("ffn_kernel_size",)),
                Convolution("feed_forward.conv_2", WIDTH, "ffn_dim", ("ffn_kernel_size",)),
                Norm("layer_norm"),
                Norm("final_layer_norm"),
            ),
            ffn="ffn_dim",
        ),
    ),
    Rest(
        Each(
            "flow.flows",
            "prior_encoder_num_flows",
            (
                Convolution("conv_pre", WIDTH, quotient("flow_size", 2), (1,)),
                wavenet("prior_encoder_num_wavenet_layers"),
                Convolution("conv_post", quotient("flow_size", 2), WIDTH, (1,)),
            ),
        ),
        Under("decoder", hifi_gan("flow_size", last_bias=False), speakers("cond", "upsample_initial_channel")),
        Under(
            "duration_predictor",
            When(
                "use_stochastic_duration_prediction",
                *durations("", WIDTH),
                *durations("post_", 1),
                speakers("cond", WIDTH),
            ),
            When(
                unless("use_stochastic_duration_prediction"),
                Convolution("conv_1", FILTER, WIDTH, DURATION_KERNEL),
                Convolution("conv_2", FILTER, FILTER, DURATION_KERNEL),
                Norm("norm_1", FILTER),
                Norm("norm_2", FILTER),
                Convolution("proj", 1, FILTER, (1,)),
                speakers("cond", WIDTH),
            ),
        ),
        When(lambda f: f["num_speakers"] > 1, Embedding("embed_speaker", "num_speakers", "speaker_embedding_size")),
        Under(
            "posterior_encoder",
            Convolution("conv_pre", WIDTH, "spectrogram_bins", (1,)),
            wavenet("posterior_encoder_num_wavenet_layers"),
            Convolution("conv_proj", "2*flow_size", WIDTH, (1,)),
        ),
    ),
)

# -- MusicGen: a decoder of several codes at once, by EnCodec ---------------------------------------------------------


def music_attention(name: str) -> tuple[Part, ...]:
    return (*linears(name, "k_proj v_proj q_proj out_proj", bias=False), Norm(f"{name}_layer_norm"))


def music_decoder(*attention: Part, beside: tuple[Part, ...] = (), kv_heads: Size | None = None) -> BodyBuilder:
    """A decoder of codes, each of which has a table; `beside` the tables are further tensors outside the blocks."""
    return At(
        "decoder",
        Rest(
            Each("embed_tokens", "num_codebooks", (Embedding("", plus("vocab_size", 1)),)),
            *beside,
            Norm("layer_norm"),
        ),
        Layers(
            "layers",
            (
                *attention,
                Linear("fc1", "ffn_dim", WIDTH, False),
                Linear("fc2", WIDTH, "ffn_dim", False),
                Norm("final_layer_norm"),
            ),
            name="decoder",
            role="decoder",
            kv_heads=kv_heads,
            ffn="ffn_dim",
        ),
    )


HEAD_OF_EACH_CODE = Each("lm_heads", "num_codebooks", (Linear("", "vocab_size", WIDTH, False),))
MUSIC_HEADS = Rest(HEAD_OF_EACH_CODE)
T5: Mapping[str, Family] = {"t5": SEQ2SEQ["t5"]}


ENCODEC: Mapping[str, Family] = {"encodec": AUDIO_CODECS["encodec"]}


def reads_narrower(f: Fields) -> bool:
    return f["text_encoder.d_model"] != f["decoder.hidden_size"]


def crosses_as_wide(f: Fields) -> bool:
    return reads_narrower(f) and f.sub("decoder").value("cross_attention_hidden_size", None) is None


def music(decoder: BodyBuilder, projects: Callable[[Fields], bool], *extra: Part) -> BodyBuilder:
    return Assembly(
        Nested("text_encoder", "text_encoder", T5, "EncoderModel"),
        Nested("audio_encoder", "audio_encoder", ENCODEC),
        In("decoder", At("model", decoder), MUSIC_HEADS),
        Rest(When(projects, Linear("enc_to_dec_proj", "decoder.hidden_size", "text_encoder.d_model")), *extra),
    )


MUSICGEN = music_decoder(*music_attention("self_attn"), *music_attention("encoder_attn"))
MELODY = music_decoder(*music_attention("self_attn"))
CHROMA = When(
    lambda f: f["num_chroma"] != f["decoder.hidden_size"],
    Linear("audio_enc_to_dec_proj", "decoder.hidden_size", "num_chroma"),
)


def music_classes(decoder: BodyBuilder) -> dict[str, BodyBuilder]:
    return {"Model": decoder, "ForCausalLM": Assembly(At("model", decoder), MUSIC_HEADS)}


# -- Bark: three decoders of codes, from coarse to fine ---------------------------------------------------------------

BARK_DEFAULTS: Mapping[str, Any] = {
    "block_size": 1024,
    "input_vocab_size": 10_048,
    "output_vocab_size": 10_048,
    "num_layers": 12,
    "num_heads": 12,
    "hidden_size": 768,
    "bias": True,
    "n_codes_total": 8,
    "n_codes_given": 1,
}
BARK_SPELLINGS = {
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
    "vocab_size": "input_vocab_size",
    "window_size": "block_size",
}


def completed(f: Fields) -> Fields:
    """With what the classes of the three decoders assume."""
    f = f.renamed(BARK_SPELLINGS)
    return f.replaced(**{name: value for name, value in BARK_DEFAULTS.items() if f.value(name, None) is None})


def bark_stage(name: str, norm_bias: Option, *outside: Part) -> BodyBuilder:
    body = Assembly(
        Rest(Embedding("position_embeds_layer", "block_size"), Norm("layernorm_final", bias=norm_bias), *outside),
        Layers(
            "layers",
            (
                Linear("attn.att_proj", "3*hidden_size", WIDTH, "bias"),
                Linear("attn.out_proj", WIDTH, WIDTH, "bias"),
                Linear("mlp.in_proj", "4*hidden_size", WIDTH, "bias"),
                Linear("mlp.out_proj", WIDTH, "4*hidden_size", "bias"),
                Norm("layernorm_1", bias=norm_bias),
                Norm("layernorm_2", bias=norm_bias),
            ),
            count="num_layers",
            name=name,
            role="decoder",
            heads="num_heads",
            ffn="4*hidden_size",
        ),
    )
    return In(f"{name}_config", Adjusted(body, completed), path=name)


CODES: tuple[Part, ...] = (
    Embedding("input_embeds_layer", "input_vocab_size"),
    Linear("lm_head", "output_vocab_size", WIDTH, False),
)
FINE_CODES = Each("input_embeds_layers", "n_codes_total", (Embedding("", "input_vocab_size"),))
BARK = Assembly(
    bark_stage("semantic", "bias", *CODES),
    bark_stage("coarse_acoustics", "bias", *CODES),
    bark_stage("fine_acoustics", True, FINE_CODES),
    Nested("codec_config", "codec_model", ENCODEC),
)

GENERATES = "ForConditionalGeneration"
SPEECH_GENERATION: Mapping[str, Family] = {
    "speecht5": Family(
        "SpeechT5",
        {
            "Model": SPEECHT5,
            "ForTextToSpeech": speecht5(READS, SPEAKS, SPECTROGRAM),
            "ForSpeechToText": speecht5(HEARS, WRITES, TEXT_HEAD),
            "ForSpeechToSpeech": speecht5(HEARS, SPEAKS, SPECTROGRAM),
        },
        "ForTextToSpeech",
    ),
    "speecht5_hifigan": Family("SpeechT5HifiGan", {"": Rest(hifi_gan("model_in_dim"))}, "", ""),
    "vits": Family("Vits", {"Model": VITS}),
    "musicgen_decoder": Family("Musicgen", music_classes(MUSICGEN), "ForCausalLM"),
    "musicgen_melody_decoder": Family("MusicgenMelody", music_classes(MELODY), "ForCausalLM"),
    "musicgen": Family("Musicgen", {GENERATES: music(MUSICGEN, crosses_as_wide)}, GENERATES, GENERATES),
    "musicgen_melody": Family(
        "MusicgenMelody", {GENERATES: music(MELODY, reads_narrower, CHROMA)}, GENERATES, GENERATES
    ),
    "bark": Family("Bark", {"Model": BARK}),
}
