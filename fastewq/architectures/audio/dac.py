"""Descript's codec of sound, in the words of the library and in those of its authors.

The authors' files keep each weight as a direction and a length, as in training. There are no transformer blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from fastewq.architectures.assembly import (
    Each,
    Embedding,
    Family,
    Parameter,
    Under,
    sizes,
    tensors,
)
from fastewq.architectures.body import Body, outside
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Part

Convolve = Callable[[str, tuple[Size, ...], Size], Part]
"""(name, shape, outputs) -> a convolution as the files store it."""
MAX_RATIOS: Final = 8


class Words(NamedTuple):
    """What a side calls its parts: {i} counts its blocks from 0 and {n} from 1, {end} and {last} go on after these.

    ends         its first convolution, its last activation and its last convolution
    resampling   a block's activation and convolution
    units, unit  a block's residual units, and the two activations and convolutions of each
    """

    ends: tuple[str, str, str]
    block: str
    resampling: tuple[str, str]
    units: tuple[str, str, str]
    unit: tuple[str, str, str, str]


def convolved(name: str, shape: tuple[Size, ...], outputs: Size) -> Part:
    return Under(name, Parameter("weight", shape, "conv"), Parameter("bias", (outputs,), "bias"))


def weighed(name: str, shape: tuple[Size, ...], outputs: Size) -> Part:
    """A convolution whose weight is a direction and a length for each entry of its first dimension."""
    lengths = (shape[0], *[1] * (len(shape) - 1))
    bias = Parameter("bias", (outputs,), "bias")
    return Under(name, bias, Parameter("weight_g", lengths, "conv"), Parameter("weight_v", shape, "conv"))


def snake(name: str, width: Size) -> Part:
    return Parameter(f"{name}.alpha", (1, width, 1))


def units(words: Words, convolve: Convolve, width: int) -> list[Part]:
    first, wide, second, narrow = words.unit
    inner = (
        snake(first, width),
        convolve(wide, (width, width, 7), width),
        snake(second, width),
        convolve(narrow, (width, width, 1), width),
    )
    return [Under(name, *inner) for name in words.units]


def ends(words: Words, count: int) -> tuple[str, ...]:
    return tuple(name.format(end=count + 1, last=count + 2) for name in words.ends)


def narrowing(words: Words, convolve: Convolve, width: int, ratios: Sequence[int], leaving: Size) -> list[Part]:
    """From sound to what is coded: each block doubles the width."""
    first, end, last = ends(words, len(ratios))
    parts = [convolve(first, (width, 1, 7), width)]
    for i, ratio in enumerate(ratios):
        activation, strided = words.resampling
        resampled = (snake(activation, width), convolve(strided, (2 * width, width, 2 * ratio), 2 * width))
        parts.append(Under(words.block.format(i=i, n=i + 1), *units(words, convolve, width), *resampled))
        width *= 2
    return [*parts, snake(end, width), convolve(last, (leaving, width, 3), leaving)]


def widening(words: Words, convolve: Convolve, width: int, ratios: Sequence[int], entering: Size) -> list[Part]:
    """From codes to sound: each block halves the width."""
    first, end, last = ends(words, len(ratios))
    parts = [convolve(first, (width, entering, 7), width)]
    for i, ratio in enumerate(ratios):
        activation, transposed = words.resampling
        half = width >> (i + 1)
        resampled = (snake(activation, width >> i), convolve(transposed, (width >> i, half, 2 * ratio), half))
        parts.append(Under(words.block.format(i=i, n=i + 1), *resampled, *units(words, convolve, half)))
    out = width >> len(ratios)
    return [*parts, snake(end, out), convolve(last, (1, out, 7), 1)]


def codes(convolve: Convolve, count: Size, width: Size, leaving: Size) -> Part:
    code = (
        Embedding("codebook", "codebook_size", width),
        convolve("in_proj", (width, leaving, 1), width),
        convolve("out_proj", (leaving, width, 1), leaving),
    )
    return Each("quantizer.quantizers", count, code)


# -- the library's ----------------------------------------------------------------------------------------------------

UNIT = ("snake1", "conv1", "snake2", "conv2")
NARROWING = Words(
    ("conv1", "snake1", "conv2"),
    "block.{i}",
    ("snake1", "conv1"),
    ("res_unit1", "res_unit2", "res_unit3"),
    UNIT,
)
WIDENING = NARROWING._replace(resampling=("snake1", "conv_t1"))


def dac(f: Fields, path: str) -> Body:
    """Its class derives the width of what is coded and the ratios back, but takes them from a config that has them."""
    ratios, width, wide = sizes(f, "downsampling_ratios"), f["encoder_hidden_size"], f["decoder_hidden_size"]
    back = sizes(f, "upsampling_ratios") if f.has("upsampling_ratios") else ratios[::-1]
    for name, given in (("downsampling_ratios", ratios), ("upsampling_ratios", back)):
        if len(given) > MAX_RATIOS:
            raise f.refuse(name, list(given), f"at most {MAX_RATIOS} entries")
    if not wide >> len(back):
        raise f.refuse("decoder_hidden_size", wide, f"at least {1 << len(back)}, as it is halved {len(back)} times")
    coded = f.count("hidden_size", low=1) if f.has("hidden_size") else width << len(ratios)
    parts = (
        Under("encoder", *narrowing(NARROWING, convolved, width, ratios, coded)),
        codes(convolved, "n_codebooks", "codebook_dim", coded),
        Under("decoder", *widening(WIDENING, convolved, wide, back, coded)),
    )
    return Body((), outside(path, tensors(f, parts)))


# -- its authors' -----------------------------------------------------------------------------------------------------

OWN_NARROWING = Words(
    ("0", "{end}", "{last}"),
    "{n}.block",
    ("3", "4"),
    ("0", "1", "2"),
    ("block.0", "block.1", "block.2", "block.3"),
)
OWN_WIDENING = OWN_NARROWING._replace(resampling=("0", "1"), units=("2", "3", "4"))
RATIOS = (2, 4, 8, 8)


def own_dac(leaving: Size) -> tuple[Part, ...]:
    """After descriptinc/descript-audio-codec, dac/model/dac.py, where a config says no more than what is coded."""
    return (
        Under("encoder.block", *narrowing(OWN_NARROWING, weighed, 64, RATIOS, leaving)),
        codes(weighed, "num_codebooks", 8, leaving),
        Under("decoder.model", *widening(OWN_WIDENING, weighed, 1536, RATIOS[::-1], leaving)),
    )


DAC: Mapping[str, Family] = {"dac": Family("Dac", {"Model": dac})}
