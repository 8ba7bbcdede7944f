"""What turns sound into codes and back, which models that speak or play music hold: EnCodec, Mimi, HiFi-GAN.

Convolutions are counted outside the blocks; of these, only Mimi has transformer blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from fastewq.architectures.assembly import (
    FFN,
    MAX_ENTRIES,
    WIDTH,
    Assembly,
    At,
    Convolution,
    Family,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    Under,
    Variant,
    When,
    assuming,
    key_width,
    linears,
    query_width,
    quotient,
    sizes,
    tensors,
    upsampling,
)
from fastewq.architectures.body import Body, BodyBuilder, outside
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Part, Tensors, head_dim, kv_heads


def convolving(path: str, ffn: Size, *parts: Part) -> Layers:
    """A stage of a tower of sound without attention; `stage_width` and `stage_depth` are its sizes."""
    return Layers(
        path,
        parts,
        count="stage_depth",
        name="audio",
        role="audio",
        width="stage_width",
        heads=0,
        ffn=ffn,
        norm="rms",
        variants={"": Variant(mixer="conv")},
    )


def lstm(width: Size, layers: Size) -> Part:
    """PyTorch's LSTM with as many outputs as inputs: four gates per layer, two biases."""

    def part(f: Fields) -> Tensors:
        size, count = f[width], f[layers]
        if count > MAX_ENTRIES:
            raise f.refuse(str(layers), count, f"at most {MAX_ENTRIES}")
        parts = (
            part
            for i in range(count)
            for part in (
                Parameter(f"weight_ih_l{i}", (4 * size, size), "linear"),
                Parameter(f"weight_hh_l{i}", (4 * size, size), "linear"),
                Parameter(f"bias_ih_l{i}", (4 * size,), "bias"),
                Parameter(f"bias_hh_l{i}", (4 * size,), "bias"),
            )
        )
        return tensors(f, parts)

    return part


def weight_normed(name: str, shape: tuple[Size, ...], outputs: Size) -> Part:
    """A convolution whose weight is a direction and a length for each entry of its first dimension."""
    return Under(
        name,
        Parameter("bias", (outputs,), "bias"),
        Parameter("parametrizations.weight.original0", (shape[0], *[1] * (len(shape) - 1)), "conv"),
        Parameter("parametrizations.weight.original1", shape, "conv"),
    )


# -- convolutions that narrow sound, and widen it again ---------------------------------------------------------------

Convolve = Callable[[Fields, str, tuple[int, int, int], int], list[Part]]
"""(fields, name, shape, outputs) -> a convolution as a codec stores it."""


def residual(f: Fields, convolve: Convolve, name: str, width: int) -> list[Part]:
    inner = width // f["compress"]
    parts = convolve(f, f"{name}.block.1", (inner, width, f["residual_kernel_size"]), inner)
    parts += convolve(f, f"{name}.block.3", (width, inner, 1), width)
    return parts + (convolve(f, f"{name}.shortcut", (width, width, 1), width) if f.flag("use_conv_shortcut") else [])


def narrowing(f: Fields, convolve: Convolve, recurrent: tuple[Callable[[int], Part], ...]) -> Tensors:
    """From sound to features: strided convolutions after residual ones, at last what is `recurrent`."""
    width, residuals = f["num_filters"], f.count("num_residual_layers", high=MAX_ENTRIES)
    parts = convolve(f, "layers.0", (width, f["audio_channels"], f["kernel_size"]), width)
    place = 1
    for ratio in reversed(sizes(f, "upsampling_ratios")):
        for i in range(residuals):
            parts += residual(f, convolve, f"layers.{place + i}", width)
        place += residuals + 1  # an activation is a layer of its own
        parts += convolve(f, f"layers.{place}", (2 * width, width, 2 * ratio), 2 * width)
        place, width = place + 1, 2 * width
    parts += [Under(f"layers.{place}", layer(width)) for layer in recurrent]
    hidden = f["hidden_size"]
    parts += convolve(f, f"layers.{place + len(recurrent) + 1}", (hidden, width, f["last_kernel_size"]), hidden)
    return tensors(f, parts)


def widening(f: Fields, convolve: Convolve, recurrent: tuple[Callable[[int], Part], ...]) -> Tensors:
    """From features to sound: what is `recurrent`, then transposed convolutions and residual ones."""
    ratios, residuals = sizes(f, "upsampling_ratios"), f.count("num_residual_layers", high=MAX_ENTRIES)
    width = f["num_filters"] << len(ratios)
    parts = convolve(f, "layers.0", (width, f["hidden_size"], f["kernel_size"]), width)
    parts += [Under("layers.1", layer(width)) for layer in recurrent]
    place = 1 + len(recurrent)
    for ratio in ratios:
        place += 1
        parts += convolve(f, f"layers.{place}", (width, width // 2, 2 * ratio), width // 2)
        place, width = place + 1, width // 2
        for i in range(residuals):
            parts += residual(f, convolve, f"layers.{place + i}", width)
        place += residuals
    channels = f["audio_channels"]
    parts += convolve(f, f"layers.{place + 1}", (channels, width, f["last_kernel_size"]), channels)
    return tensors(f, parts)


# -- EnCodec ----------------------------------------------------------------------------------------------------------


def encodec_convolution(f: Fields, name: str, shape: tuple[int, int, int], outputs: int) -> list[Part]:
    if f.choice("norm_type", ("weight_norm", "time_group_norm")) == "weight_norm":
        return [weight_normed(f"{name}.conv", shape, outputs)]
    weight, bias = Parameter("conv.weight", shape, "conv"), Parameter("conv.bias", (outputs,), "bias")
    return [Under(name, weight, bias, Norm("norm", outputs))]


RECURRENT: tuple[Callable[[int], Part], ...] = (lambda width: Under("lstm", lstm(width, "num_lstm_layers")),)


def encodec(f: Fields, path: str) -> Body:
    """Both sides; the codebooks are buffers."""
    parts = (
        Under("encoder", lambda f: narrowing(f, encodec_convolution, RECURRENT)),
        Under("decoder", lambda f: widening(f, encodec_convolution, RECURRENT)),
    )
    return Body((), outside(path, tensors(f, parts)))


# -- Mimi: the same convolutions around transformers ------------------------------------------------------------------


def mimi_convolution(f: Fields, name: str, shape: tuple[int, int, int], outputs: int) -> list[Part]:  # noqa: ARG001
    return [Under(f"{name}.conv", Parameter("weight", shape, "conv"), Parameter("bias", (outputs,), "bias"))]


def frame_rates(f: Fields) -> tuple[int, float]:
    """(that of the convolutions, that of the codes)"""
    ratios = prod(sizes(f, "upsampling_ratios"))
    rate = f["sampling_rate"]
    given = f.number("frame_rate", low=1e-3) if f.has("frame_rate") else rate / (2 * ratios)
    return -(-rate // ratios), given


def shortens(f: Fields) -> bool:
    convolved, coded = frame_rates(f)
    return convolved != coded


def shortening(f: Fields) -> int:
    """Kernel of the convolution between the two frame rates."""
    convolved, coded = frame_rates(f)
    return 2 * int(convolved / coded)


def mimi_layers(path: str, name: str) -> BodyBuilder:
    return Layers(
        path,
        (
            Linear("self_attn.q_proj", query_width, WIDTH, "attention_bias"),
            *linears("self_attn", "k_proj v_proj", key_width, WIDTH, "attention_bias"),
            Linear("self_attn.o_proj", WIDTH, query_width, "attention_bias"),
            Linear("mlp.fc1", FFN, WIDTH, False),
            Linear("mlp.fc2", WIDTH, FFN, False),
            Norm("input_layernorm"),
            Norm("post_attention_layernorm"),
            Parameter("self_attn_layer_scale.scale", (WIDTH,)),
            Parameter("mlp_layer_scale.scale", (WIDTH,)),
        ),
        name=name,
        role="audio",
        kv_heads=kv_heads,
        head_dim=head_dim,
    )


def mimi_side(build: BodyBuilder) -> BodyBuilder:
    return assuming(build, upsampling_ratios=[8, 6, 5, 4])


MIMI_ENCODER = mimi_side(
    Assembly(
        Rest(
            Under("encoder_seanet", lambda f: narrowing(f, mimi_convolution, ())),
            When(shortens, Convolution("downsample.conv", WIDTH, WIDTH, (shortening,), bias=False)),
        ),
        mimi_layers("encoder_transformer.layers", "encoder"),
    )
)
MIMI_DECODER = mimi_side(
    Assembly(
        Rest(
            When(
                shortens,
                Convolution("upsample.conv", WIDTH, quotient(WIDTH, "upsample_groups"), (shortening,), bias=False),
            ),
            Under("decoder_seanet", lambda f: widening(f, mimi_convolution, ())),
        ),
        mimi_layers("decoder_transformer.layers", "decoder"),
    )
)
CODED = "vector_quantization_hidden_dimension"
CODES = When(
    lambda f: f[CODED] != f[WIDTH],
    Convolution("input_proj", CODED, WIDTH, (1,), bias=False),
    Convolution("output_proj", WIDTH, CODED, (1,), bias=False),
)
MIMI = Assembly(
    At("encoder", MIMI_ENCODER),
    At("decoder", MIMI_DECODER),
    Rest(
        Under("quantizer.semantic_residual_vector_quantizer", CODES),
        Under("quantizer.acoustic_residual_vector_quantizer", CODES),
    ),
)

AUDIO_CODECS: Mapping[str, Family] = {
    "encodec": Family("Encodec", {"Model": encodec}),
    "mimi": Family("Mimi", {"Model": MIMI}),
    "mimi_encoder": Family("MimiEncoder", {"Model": MIMI_ENCODER}),
    "mimi_decoder": Family("MimiDecoder", {"Model": MIMI_DECODER}),
}

# -- HiFi-GAN: from a spectrogram or features to sound ----------------------------------------------------------------


def hifi_gan(inputs: Size, *, last_bias: bool = True) -> Part:
    """Convolutions that widen time and narrow channels, each followed by residual blocks of several kernels."""

    def part(f: Fields) -> Tensors:
        width, kernels = f["upsample_initial_channel"], sizes(f, "resblock_kernel_sizes")
        dilations = f.per_layer("resblock_dilation_sizes", len(kernels))
        parts: list[Part] = [Convolution("conv_pre", width, inputs, (7,))]
        rates = sizes(f, "upsample_rates")
        for i, kernel in enumerate(sizes(f, "upsample_kernel_sizes", len(rates))[: len(rates)]):
            entering, leaving = width >> i, width >> (i + 1)
            parts += upsampling(f"upsampler.{i}", entering, leaving, kernel)
            for j, (size, dilation) in enumerate(zip(kernels, dilations, strict=True)):
                if not isinstance(dilation, list | tuple) or len(dilation) > MAX_ENTRIES:
                    raise f.refuse("resblock_dilation_sizes", dilation, "a list of lists")
                for side in ("convs1", "convs2"):
                    name = f"resblocks.{i * len(kernels) + j}.{side}"
                    parts += [Convolution(f"{name}.{k}", leaving, leaving, (size,)) for k in range(len(dilation))]
        parts.append(Convolution("conv_post", 1, width >> len(rates), (7,), last_bias))
        return tensors(f, parts)

    return part
