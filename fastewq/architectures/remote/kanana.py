"""Kanana-V: the tower of Qwen2-VL without its merger, convolutions that merge patches, and Llama.

Follows kakaocorp/kanana-1.5-v-3b-instruct, modeling.py, whose convolutions are those of the timm library,
models/regnet.py; vLLM, models/kanana_v.py. They are never run.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    MAX_ENTRIES,
    Adjusted,
    Assembly,
    Convolution,
    In,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    positive,
    tensors,
)
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import Part, Tensors
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.remote.multimodal import nested
from fastewq.architectures.text import TEXT
from fastewq.architectures.vision.qwen_towers import QWEN2_VL_BLOCKS

WIDTH = "hidden_size"
SEEN = "encoder_hidden_size"
SPOKEN = "output_hidden_size"


def normed(name: str, rows: Size, columns: Size, kernel: int) -> Part:
    return Under(name, Convolution("conv", rows, columns, (kernel, kernel), bias=False), Norm("bn", rows))


def bottleneck(inputs: Size) -> tuple[Part, ...]:
    """A block of RegNet whose channels are excited by a quarter of its inputs."""

    def excited(f: Fields) -> int:
        return round(f[inputs] / 4)

    return (
        normed("conv1", WIDTH, inputs, 1),
        normed("conv2", WIDTH, 1, 3),
        Convolution("se.fc1", excited, WIDTH, (1, 1)),
        Convolution("se.fc2", WIDTH, excited, (1, 1)),
        normed("conv3", WIDTH, WIDTH, 1),
        When(lambda f: f[inputs] != f[WIDTH], normed("downsample", WIDTH, inputs, 1)),
    )


def stage(name: str, inputs: Size) -> Part:
    def blocks(f: Fields) -> Tensors:
        depth = f.count("depth", high=MAX_ENTRIES)
        parts = (Under(f"{name}.b{i + 1}", *bottleneck(WIDTH if i else inputs)) for i in range(depth))
        return tensors(f, parts)

    return blocks


def merged(f: Fields) -> int:
    return f["merge_size"] ** 2 * f[WIDTH]


def readout(f: Fields) -> Tensors:
    depth = f.count("mlp_depth", low=1, high=MAX_ENTRIES)
    first = WIDTH if f.count("depth") else SEEN
    return tensors(f, (Linear(f"readout.{2 * i}", SPOKEN, SPOKEN if i else first) for i in range(depth)))


ABSTRACTOR = Rest(
    When(positive("num_eos_tokens"), Parameter("eos_tokens", (1, "num_eos_tokens", SPOKEN))),
    When("pos_emb", Parameter("pos_emb", (1, "pos_emb_size", SEEN), "embedding")),
    When("prenorm", Norm("prenorm", SEEN)),
    stage("net.0", SEEN),
    stage("net.2", merged),
    readout,
)


def typed(f: Fields) -> Fields:
    """The same with the library's types of what it is made of."""
    return f.replaced(
        vision_config={**nested(f, "vision_config"), "model_type": "qwen2_vl_vision"},
        text_config={**nested(f, "text_config"), "model_type": "llama"},
        projector_config={**nested(f, "projector_config"), "model_type": ""},
    )


KANANA_V = Adjusted(
    Assembly(
        In("vision_config", QWEN2_VL_BLOCKS, path="vision_model"),
        In("projector_config", ABSTRACTOR, path="abstractor"),
        Nested("text_config", "language_model", TEXT, "ForCausalLM"),
    ),
    typed,
)
KANANA: Mapping[str, Model] = {"kanana-1.5-v": one_class("KananaV", "ForConditionalGeneration", KANANA_V)}
