"""Hierarchies of blocks that attend within shifted windows: Swin, Swin V2, Donut's and MaskFormer's."""

from __future__ import annotations

from collections.abc import Callable

from fastewq.architectures.assembly import (
    MAX_ENTRIES,
    Assembly,
    At,
    Family,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    Stages,
    Under,
    When,
    length,
    linears,
    pair,
    patches,
    plus,
    scaled,
    sizes,
    tensors,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Part, Tensors
from fastewq.architectures.vision.backbones import swin_stages
from fastewq.architectures.vision.clip import vision_layers
from fastewq.architectures.vision.images import patch_embedding, position_table, rebuilding, vit_layer

# -- Swin -------------------------------------------------------------------------------------------------------------


def swin_level(f: Fields, stage: int) -> Fields:
    """One stage: its width doubles with every stage, heads and depth are listed."""
    heads, depths = sizes(f, "num_heads", stage + 1), sizes(f, "depths", len(sizes(f, "num_heads")))
    return f.replaced(stage_width=f["embed_dim"] * 2**stage, stage_heads=heads[stage], stage_depth=depths[stage])


def swin_distances(f: Fields) -> int:
    rows, columns = pair(f, "window_size")
    return (2 * rows - 1) * (2 * columns - 1)


SWIN_FFN = scaled("stage_width", "mlp_ratio")
SWIN_TABLE = "attention.relative_position_bias.relative_position_bias_table"


def swin_stage(i: int) -> Layers:
    return vision_layers(
        f"encoder.layers.{i}.blocks",
        *vit_layer("stage_width", SWIN_FFN, "stage_width"),
        Parameter(SWIN_TABLE, (swin_distances, "stage_heads"), "embedding"),
        count="stage_depth",
        width="stage_width",
        heads="stage_heads",
        ffn=SWIN_FFN,
    )


def swin_width(f: Fields) -> int:
    """Width of the last stage."""
    return f["embed_dim"] << (len(sizes(f, "depths")) - 1)


def swin_last_width(f: Fields) -> int:
    """The same by `num_layers`, which the pixel decoder goes by."""
    return f["embed_dim"] << (f.count("num_layers", len(sizes(f, "depths")), low=1, high=MAX_ENTRIES) - 1)


def swin_merges(f: Fields) -> Tensors:
    """Between stages: four patches become one of twice the width."""
    return tuple(
        t
        for i in range(len(sizes(f, "depths")) - 1)
        for part in swin_merge(f"encoder.layers.{i}.downsample", f["embed_dim"] * 2**i)
        for t in part(f)
    )


def swin_merge(path: str, width: int) -> tuple[Part, ...]:
    return (Linear(f"{path}.reduction", 2 * width, 4 * width, False), Norm(f"{path}.norm", 4 * width))


def swin(stage: Callable[[int], Layers], *rest: Part, positions: Size = patches) -> BodyBuilder:
    return Assembly(
        Rest(
            patch_embedding(width="embed_dim"),
            When("use_absolute_embeddings", position_table(positions, "embed_dim")),
            Norm("embeddings.norm", "embed_dim"),
            *rest,
        ),
        Stages(length("depths"), stage, swin_level),
    )


LAST_NORM = Norm("layernorm", swin_width)
SWIN_BODY = swin(swin_stage, swin_merges, LAST_NORM)


def swin_norms(f: Fields) -> Tensors:
    """Of every stage that the model gives out."""
    return tensors(f, (Norm(f"hidden_states_norms.{name}", width) for width, name in zip(*swin_stages(f), strict=True)))


# -- Swin V2 ----------------------------------------------------------------------------------------------------------

AFTER_ATTENTION: tuple[Part, ...] = (
    Linear("attention.output.dense", "stage_width", "stage_width"),
    Linear("intermediate.dense", SWIN_FFN, "stage_width"),
    Linear("output.dense", "stage_width", SWIN_FFN),
    Norm("layernorm_before", "stage_width"),
    Norm("layernorm_after", "stage_width"),
)


def swinv2_stage(i: int) -> Layers:
    """Attention by cosine, with a scale per head and a small network for relative positions."""
    return vision_layers(
        f"encoder.layers.{i}.blocks",
        Under(
            "attention.self",
            Parameter("logit_scale", ("stage_heads", 1, 1)),
            Linear("continuous_position_bias_mlp.0", 512, 2),
            Linear("continuous_position_bias_mlp.2", "stage_heads", 512, False),
            *linears("", "query value", "stage_width", "stage_width", "qkv_bias"),
            Linear("key", "stage_width", "stage_width", False),
        ),
        *AFTER_ATTENTION,
        count="stage_depth",
        width="stage_width",
        heads="stage_heads",
        ffn=SWIN_FFN,
    )


def swinv2_merges(f: Fields) -> Tensors:
    """Between stages, with the norm after the matrix."""
    return tuple(
        t
        for i in range(len(sizes(f, "depths")) - 1)
        for width in [f["embed_dim"] * 2**i]
        for part in (
            Linear(f"encoder.layers.{i}.downsample.reduction", 2 * width, 4 * width, False),
            Norm(f"encoder.layers.{i}.downsample.norm", 2 * width),
        )
        for t in part(f)
    )


SWINV2 = swin(swinv2_stage, swinv2_merges, positions=plus(patches, 1))
SWINV2_MODEL = Assembly(SWINV2, Rest(LAST_NORM))

# -- the same blocks in Donut and MaskFormer --------------------------------------------------------------------------


def older_swin_stage(i: int) -> Layers:
    """The same tensors below the module names of BERT."""
    return vision_layers(
        f"encoder.layers.{i}.blocks",
        *linears("attention.self", "query key value", "stage_width", "stage_width", "qkv_bias"),
        Parameter("attention.self.relative_position_bias_table", (swin_distances, "stage_heads"), "embedding"),
        *AFTER_ATTENTION,
        count="stage_depth",
        width="stage_width",
        heads="stage_heads",
        ffn=SWIN_FFN,
    )


DONUT = swin(older_swin_stage, swin_merges, positions=plus(patches, 1))
OLDER_SWIN = swin(older_swin_stage, swin_merges, LAST_NORM, positions=plus(patches, 1))


def numbered_norms(f: Fields) -> Tensors:
    """Of every stage, whatever the model gives out."""
    widths = [f["embed_dim"] << i for i in range(f[length("depths")])]
    return tensors(f, (Norm(f"hidden_states_norms.{i}", width) for i, width in enumerate(widths)))


def stages_and_norms(body: BodyBuilder) -> BodyBuilder:
    return Assembly(At("model", body), Rest(numbered_norms))


SWIN: dict[str, Family] = {
    "swin": Family(
        "Swin",
        {
            "Model": SWIN_BODY,
            "Backbone": Assembly(At("swin", SWIN_BODY), Rest(swin_norms)),
            "ForImageClassification": Assembly(At("swin", SWIN_BODY), Rest(Linear("classifier", labels, swin_width))),
            "ForMaskedImageModeling": rebuilding("swin", SWIN_BODY, swin_last_width, "embed_dim"),
        },
    ),
    "swinv2": Family(
        "Swinv2",
        {
            "Model": SWINV2_MODEL,
            "Backbone": SWINV2,
            "ForImageClassification": Assembly(
                At("swinv2", SWINV2_MODEL), Rest(Linear("classifier", labels, swin_width))
            ),
            "ForMaskedImageModeling": rebuilding("swinv2", SWINV2_MODEL, swin_last_width, "embed_dim"),
        },
    ),
    "donut-swin": Family(
        "DonutSwin",
        {
            "Model": DONUT,
            "ForImageClassification": Assembly(At("donut", DONUT), Rest(Linear("classifier", labels, swin_width))),
        },
    ),
    "maskformer-swin": Family("MaskFormerSwin", {"Model": OLDER_SWIN, "Backbone": stages_and_norms(OLDER_SWIN)}),
}
