"""FastViTHD, the tower of FastVLM: convolutions, and attention where the image has become small.

Follows apple/ml-fastvlm, llava/model/multimodal_encoder/mobileclip/mci.py, whose sizes are fixed. It is never run.
"""

from __future__ import annotations

from typing import Final

from fastewq.architectures.assembly import Assembly, Convolution, Layers, Linear, Norm, Parameter, Rest, Stages, Variant
from fastewq.architectures.parts import Part
from fastewq.architectures.vision.clip import vision_layers

STAGES: Final = ((96, 2), (192, 12), (384, 24), (768, 4), (1536, 2))
"""(width, blocks)."""
PLACES: Final = (0, 2, 4, 7, 10)
"""Of the stages in the network; what shrinks the image is in between, and convolutions that mark positions."""
ATTENDING: Final = 3
"""The first stage whose blocks attend."""
HEAD_DIM: Final = 32
SEEN: Final = 2 * STAGES[-1][0]
PROJECTED: Final = 768


def feed_forward(width: int) -> tuple[Part, ...]:
    return (
        Convolution("convffn.conv.conv", width, 1, (7, 7), bias=False),
        Norm("convffn.conv.bn", width),
        Convolution("convffn.fc1", 4 * width, width, (1, 1)),
        Convolution("convffn.fc2", width, 4 * width, (1, 1)),
    )


def mixes(width: int) -> tuple[Part, ...]:
    return (
        Convolution("token_mixer.reparam_conv", width, 1, (3, 3)),
        *feed_forward(width),
        Parameter("layer_scale", (width, 1, 1)),
    )


def attends(width: int) -> tuple[Part, ...]:
    return (
        Norm("norm", width),
        Linear("token_mixer.qkv", 3 * width, width, False),
        Linear("token_mixer.proj", width, width),
        *feed_forward(width),
        Parameter("layer_scale_1", (width, 1, 1)),
        Parameter("layer_scale_2", (width, 1, 1)),
    )


def stage(i: int) -> Layers:
    width, blocks = STAGES[i]
    attention = i >= ATTENDING
    return vision_layers(
        f"network.{PLACES[i]}",
        *(attends(width) if attention else mixes(width)),
        count=lambda _: blocks,
        width=width,
        heads=width // HEAD_DIM if attention else 0,
        head_dim=HEAD_DIM if attention else None,
        ffn=4 * width,
        variants={"": Variant(mixer="attention" if attention else "conv")},
    )


def shrinking(i: int) -> tuple[Part, ...]:
    """Before the i-th stage."""
    width, place = STAGES[i][0], PLACES[i - 1] + 1
    return (
        Convolution(f"network.{place}.proj.0.lkb_reparam", width, 1, (7, 7)),
        Convolution(f"network.{place}.proj.1.reparam_conv", width, width, (1, 1)),
    )


FIRST: Final = STAGES[0][0]
FASTVITHD = Assembly(
    Rest(
        Convolution("patch_embed.0.reparam_conv", FIRST, 3, (3, 3)),
        Convolution("patch_embed.1.reparam_conv", FIRST, 1, (3, 3)),
        Convolution("patch_embed.2.reparam_conv", FIRST, FIRST, (1, 1)),
        *(part for i in range(1, len(STAGES)) for part in shrinking(i)),
        *(
            Convolution(f"network.{PLACES[i] - 1}.reparam_conv", STAGES[i][0], 1, (7, 7))
            for i in range(ATTENDING, len(STAGES))
        ),
        Convolution("conv_exp.se.reduce", SEEN // 16, SEEN, (1, 1)),
        Convolution("conv_exp.se.expand", SEEN, SEEN // 16, (1, 1)),
        Convolution("conv_exp.reparam_conv", SEEN, 1, (3, 3)),
        Parameter("head.proj", (SEEN, PROJECTED), "linear"),
    ),
    Stages(len(STAGES), stage),
)
