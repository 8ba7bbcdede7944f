"""Convolutional networks that other models look through: ResNet, as the transformers library and as timm name it.

They have no transformer blocks; all their tensors are counted outside the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Final

from fastewq.architectures.assembly import Assembly, At, Convolution, Family, Linear, Norm, Rest, entry, sizes, tensors
from fastewq.architectures.body import Body, outside
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Part, Tensors
from fastewq.errors import UnsupportedArchitecture
from fastewq.shown import shown

MAX_DEPTH: Final = 256
"""More layers than a stage of any ResNet has."""


def convolution(name: str, rows: int, columns: int, kernel: int, normalization: str = "") -> list[Part]:
    """Without bias; the batch norm after it has parameters only where it is not frozen."""
    part: Part = Convolution(name, rows, columns, (kernel, kernel), bias=False)
    return [part, Norm(normalization, rows)] if normalization else [part]


# -- the transformers library's ResNet --------------------------------------------------------------------------------


def resnet(f: Fields, *, frozen: bool = False, deep: bool = False) -> Tensors:
    """All stages; `frozen` batch norms have no parameters.

    A `deep` one is RT-DETR's: three convolutions at the start, and shortcuts that pool before they project.
    """
    widths, depths, first = sizes(f, "hidden_sizes"), sizes(f, "depths"), f["embedding_size"]
    if len(widths) != len(depths) or max(depths) > MAX_DEPTH:
        raise f.refuse("depths", depths, f"{len(widths)} numbers of layers, at most {MAX_DEPTH} each")
    basic = f.choice("layer_type", ("bottleneck", "basic")) == "basic"

    def layer(name: str, rows: int, columns: int, kernel: int) -> list[Part]:
        return convolution(f"{name}.convolution", rows, columns, kernel, "" if frozen else f"{name}.normalization")

    if deep:
        parts = layer("embedder.embedder.0", first // 2, f["num_channels"], 3)
        parts += layer("embedder.embedder.1", first // 2, first // 2, 3)
        parts += layer("embedder.embedder.2", first, first // 2, 3)
    else:
        parts = layer("embedder.embedder", first, f["num_channels"], 7)
    for i, (before, width) in enumerate(pairwise((first, *widths))):
        for j in range(depths[i]):
            path, entering = f"encoder.stages.{i}.layers.{j}", before if j == 0 else width
            strided = j == 0 and (i > 0 or f.flag("downsample_in_first_stage"))
            if entering != width or strided or (deep and basic and j == 0):
                pools = deep and (entering != width if basic else strided)
                parts += layer(f"{path}.shortcut.1" if pools else f"{path}.shortcut", width, entering, 1)
            if basic:
                parts += layer(f"{path}.layer.0", width, entering, 3)
                parts += layer(f"{path}.layer.1", width, width, 3)
            else:
                parts += layer(f"{path}.layer.0", width // 4, entering, 1)
                parts += layer(f"{path}.layer.1", width // 4, width // 4, 3)
                parts += layer(f"{path}.layer.2", width, width // 4, 1)
    return tensors(f, parts)


# -- timm's ResNet ----------------------------------------------------------------------------------------------------

TIMM_RESNETS: Final[Mapping[str, tuple[int, tuple[int, int, int, int]]]] = {
    "resnet18": (1, (2, 2, 2, 2)),
    "resnet34": (1, (3, 4, 6, 3)),
    "resnet50": (4, (3, 4, 6, 3)),
    "resnet101": (4, (3, 4, 23, 3)),
    "resnet152": (4, (3, 8, 36, 3)),
}
"""Name -> how much wider the last convolution of a layer is, layers of each stage."""


def timm_widths(name: str) -> list[int]:
    """Outputs of the stages."""
    return [64 * 2**i * TIMM_RESNETS[name][0] for i in range(4)]


def timm_resnet(f: Fields, name: str, channels: int) -> Tensors:
    """With frozen batch norms, which have no parameters."""
    expansion, depths = TIMM_RESNETS[name]
    parts = convolution("conv1", 64, channels, 7)
    entering = 64
    for i, depth in enumerate(depths):
        inner = 64 * 2**i
        for j in range(depth):
            path = f"layer{i + 1}.{j}"
            kernels = (3, 3) if expansion == 1 else (1, 3, 1)
            columns = entering
            for k, kernel in enumerate(kernels, 1):
                rows = inner * expansion if k == len(kernels) else inner
                parts += convolution(f"{path}.conv{k}", rows, columns, kernel)
                columns = rows
            if entering != columns or (j == 0 and i > 0):
                parts += convolution(f"{path}.downsample.0", columns, entering, 1)
            entering = columns
    return tensors(f, parts)


# -- what a detector looks through ------------------------------------------------------------------------------------


def timm_name(f: Fields) -> str | None:
    """The backbone of timm that a detector names; None where it has a config of the transformers library.

    Old files have `backbone_kwargs` beside the name, of which the channels are read.
    """
    nested = f.value("backbone_config", None)
    if nested is None:
        if not f.flag("use_timm_backbone", True):
            return None
        name = f.value("backbone", None) or "resnet50"
    elif isinstance(nested, Mapping) and nested.get("model_type") == "timm_backbone":
        name = f.sub("backbone_config").value("backbone")
    else:
        return None
    if not isinstance(name, str) or name not in TIMM_RESNETS:
        raise UnsupportedArchitecture(
            f"{f.where('backbone')} is {shown(name)}; described are {', '.join(TIMM_RESNETS)} of timm"
        )
    return name


def timm_options(f: Fields, named: Mapping[str, Any]) -> Fields:
    """What is set beside the name of a backbone of timm."""
    nested = f.value("backbone_config", None)
    kwargs = f.value("backbone_kwargs", None)
    given = nested if nested is not None else kwargs if kwargs is not None else {}
    if not isinstance(given, Mapping):
        raise f.refuse("backbone_kwargs", given, "an object")
    return Fields(given or named, "timm_backbone", f.where("backbone_config"))


def chosen_stages(f: Fields, names: list[str]) -> list[int]:
    """The stages that a backbone gives out, by `out_features` or `out_indices`; the last by default."""
    features, indices = f.value("out_features", None), f.value("out_indices", None)
    if features is not None:
        if not isinstance(features, list | tuple) or not features or not all(name in names for name in features):
            raise f.refuse("out_features", features, "names of stages")
        return [i for i, name in enumerate(names) if name in features]
    if indices is None:
        return [len(names) - 1]
    places = range(-len(names), len(names))
    if not isinstance(indices, list | tuple) or not indices or not all(type(i) is int and i in places for i in indices):
        raise f.refuse("out_indices", indices, "numbers of stages")
    return sorted(i % len(names) for i in indices)


def handed_on(f: Fields, widths: list[int], names: list[str]) -> list[int]:
    """The widths of the stages that a backbone gives out."""
    return [widths[i] for i in chosen_stages(f, names)]


def stage_names(stages: int) -> list[str]:
    return ["stem", *(f"stage{i + 1}" for i in range(stages))]


def resnet_widths(f: Fields) -> list[int]:
    """What the library's ResNet gives out."""
    stages = [f["embedding_size"], *sizes(f, "hidden_sizes")]
    return handed_on(f, stages, stage_names(len(stages) - 1))


def swin_stages(f: Fields) -> tuple[list[int], list[str]]:
    """Widths and names of what Swin gives out."""
    depths = len(sizes(f, "depths"))
    names = stage_names(depths)
    widths = [f["embed_dim"], *(f["embed_dim"] << i for i in range(depths))]
    chosen = chosen_stages(f, names)
    return [widths[i] for i in chosen], [names[i] for i in chosen]


@dataclass(frozen=True)
class Backbone:
    """A detector's ResNet, with frozen batch norms.

    `indices` are the stages that the detector reads where it names a backbone of timm and nothing more.
    """

    indices: Callable[[Fields], list[int]]

    def widths(self, f: Fields) -> list[int]:
        """Outputs of the stages that the detector reads."""
        name = timm_name(f)
        if name:
            return handed_on(self.timm(f), [64, *timm_widths(name)], stage_names(4))
        nested = f.sub("backbone_config")
        return resnet_widths(nested)

    def timm(self, f: Fields) -> Fields:
        return timm_options(f, {"num_channels": f["num_channels"], "out_indices": self.indices(f)})

    def __call__(self, f: Fields, path: str) -> Body:
        name = timm_name(f)
        if name:
            return Body((), outside(path, timm_resnet(f, name, self.timm(f).size("num_channels", 3))))
        nested = f.sub("backbone_config")
        if nested.model_type != "resnet":
            raise UnsupportedArchitecture(
                f"{nested.where('model_type')} is {nested.model_type[:80]!r}; described is 'resnet', and timm's"
            )
        return Body((), outside(path, resnet(nested, frozen=True)))


RESNET = Rest(resnet)
BACKBONES: Final[Mapping[str, Family]] = {
    "resnet": Family(
        "ResNet",
        {
            "Model": RESNET,
            "Backbone": RESNET,
            "ForImageClassification": Assembly(
                At("resnet", RESNET), Rest(Linear("classifier.1", labels, entry("hidden_sizes", -1)))
            ),
        },
    ),
    "rt_detr_resnet": Family("RTDetrResNet", {"Backbone": Rest(partial(resnet, deep=True))}, "Backbone", "Backbone"),
}
