"""Codecs that turn sound into codes and back, which models that speak or play music hold: EnCodec.

They have no transformer blocks; all their tensors are counted outside the blocks.
"""

from __future__ import annotations

from fastewq.architectures.assembly import MAX_ENTRIES, Norm, Parameter, Under, sizes, tensors
from fastewq.architectures.body import Body, outside
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Part, Tensors


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


def convolution(f: Fields, name: str, shape: tuple[int, int, int], outputs: int) -> list[Part]:
    if f.choice("norm_type", ("weight_norm", "time_group_norm")) == "weight_norm":
        return [weight_normed(f"{name}.conv", shape, outputs)]
    weight, bias = Parameter("conv.weight", shape, "conv"), Parameter("conv.bias", (outputs,), "bias")
    return [Under(name, weight, bias, Norm("norm", outputs))]


def residual(f: Fields, name: str, width: int) -> list[Part]:
    inner = width // f["compress"]
    parts = convolution(f, f"{name}.block.1", (inner, width, f["residual_kernel_size"]), inner)
    parts += convolution(f, f"{name}.block.3", (width, inner, 1), width)
    return parts + (convolution(f, f"{name}.shortcut", (width, width, 1), width) if f.flag("use_conv_shortcut") else [])


def encodec_encoder(f: Fields) -> Tensors:
    width, residuals = f["num_filters"], f.count("num_residual_layers", high=MAX_ENTRIES)
    parts = convolution(f, "layers.0", (width, f["audio_channels"], f["kernel_size"]), width)
    place = 1
    for ratio in reversed(sizes(f, "upsampling_ratios")):
        for i in range(residuals):
            parts += residual(f, f"layers.{place + i}", width)
        place += residuals + 1  # an activation is a layer of its own
        parts += convolution(f, f"layers.{place}", (2 * width, width, 2 * ratio), 2 * width)
        place, width = place + 1, 2 * width
    parts.append(Under(f"layers.{place}.lstm", lstm(width, "num_lstm_layers")))
    hidden = f["hidden_size"]
    parts += convolution(f, f"layers.{place + 2}", (hidden, width, f["last_kernel_size"]), hidden)
    return tensors(f, parts)


def encodec_decoder(f: Fields) -> Tensors:
    ratios, residuals = sizes(f, "upsampling_ratios"), f.count("num_residual_layers", high=MAX_ENTRIES)
    width = f["num_filters"] << len(ratios)
    parts = convolution(f, "layers.0", (width, f["hidden_size"], f["kernel_size"]), width)
    parts.append(Under("layers.1.lstm", lstm(width, "num_lstm_layers")))
    place = 2
    for ratio in ratios:
        place += 1
        parts += convolution(f, f"layers.{place}", (width, width // 2, 2 * ratio), width // 2)
        place, width = place + 1, width // 2
        for i in range(residuals):
            parts += residual(f, f"layers.{place + i}", width)
        place += residuals
    channels = f["audio_channels"]
    parts += convolution(f, f"layers.{place + 1}", (channels, width, f["last_kernel_size"]), channels)
    return tensors(f, parts)


def encodec(f: Fields, path: str) -> Body:
    """Both sides; the codebooks are buffers."""
    parts = (Under("encoder", encodec_encoder), Under("decoder", encodec_decoder))
    return Body((), outside(path, tensors(f, parts)))
