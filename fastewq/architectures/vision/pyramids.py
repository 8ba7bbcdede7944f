"""Hierarchies of blocks that attend to fewer and fewer patches: SegFormer, Pyramid Vision Transformers, Hiera."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from fastewq.architectures.assembly import (
    MAX_ENTRIES,
    Assembly,
    At,
    Convolution,
    Family,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    Stages,
    Under,
    Variant,
    When,
    entry,
    length,
    linears,
    scaled,
    sizes,
    tensors,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Part, Tensors, unless
from fastewq.architectures.vision.backbones import chosen_stages, stage_names
from fastewq.architectures.vision.clip import vision_layers

# -- SegFormer --------------------------------------------------------------------------------------------------------


def segformer_level(f: Fields, stage: int) -> Fields:
    widths = sizes(f, "hidden_sizes", f["num_encoder_blocks"])
    named = {name: sizes(f, field, stage + 1)[stage] for name, field in SEGFORMER_LISTS.items()}
    return f.replaced(before=widths[stage - 1] if stage else f["num_channels"], **named)


SEGFORMER_LISTS = {
    "stage_width": "hidden_sizes",
    "stage_heads": "num_attention_heads",
    "stage_depth": "depths",
    "stage_ratio": "sr_ratios",
    "stage_kernel": "patch_sizes",
    "stage_growth": "mlp_ratios",
}
SEGFORMER_FFN = "stage_width*stage_growth"


def reduces(f: Fields) -> bool:
    return f["stage_ratio"] > 1


def segformer_stage(i: int) -> Layers:
    return vision_layers(
        f"stages.{i}.blocks",
        *linears("attention", "q_proj k_proj v_proj", "stage_width", "stage_width"),
        Linear("attention.o_proj", "stage_width", "stage_width"),
        When(
            reduces,
            Under(
                "attention.sequence_reduction",
                Convolution("sequence_reduction", "stage_width", "stage_width", ("stage_ratio", "stage_ratio")),
                Norm("layer_norm", "stage_width"),
            ),
        ),
        Norm("layernorm_before", "stage_width"),
        Norm("layernorm_after", "stage_width"),
        Linear("mlp.fc1", SEGFORMER_FFN, "stage_width"),
        Linear("mlp.fc2", "stage_width", SEGFORMER_FFN),
        Convolution("mlp.dwconv.dwconv", SEGFORMER_FFN, 1, (3, 3)),
        count="stage_depth",
        width="stage_width",
        heads="stage_heads",
        ffn=SEGFORMER_FFN,
    )


def segformer_patches(f: Fields) -> Tensors:
    """Before the blocks of each stage: overlapping patches; after them: a norm."""
    parts = (
        Convolution("patch_embeddings.proj", "stage_width", "before", ("stage_kernel", "stage_kernel")),
        Norm("patch_embeddings.layer_norm", "stage_width"),
        Norm("layer_norm", "stage_width"),
    )
    return tuple(
        t
        for i in range(f.count("num_encoder_blocks", high=MAX_ENTRIES))
        for t in Under(f"stages.{i}", *parts)(segformer_level(f, i))
    )


SEGFORMER = Assembly(Rest(segformer_patches), Stages("num_encoder_blocks", segformer_stage, segformer_level))


def segformer_projections(f: Fields) -> Tensors:
    return tuple(
        t
        for i, width in enumerate(sizes(f, "hidden_sizes", f["num_encoder_blocks"])[: f["num_encoder_blocks"]])
        for t in Linear(f"decode_head.linear_projections.{i}.proj", "decoder_hidden_size", width)(f)
    )


SEGFORMER_HEAD = Rest(
    segformer_projections,
    Convolution(
        "decode_head.linear_fuse", "decoder_hidden_size", "decoder_hidden_size*num_encoder_blocks", (1, 1), bias=False
    ),
    Norm("decode_head.batch_norm", "decoder_hidden_size"),
    Convolution("decode_head.classifier", labels, "decoder_hidden_size", (1, 1)),
)

# -- Pyramid Vision Transformers --------------------------------------------------------------------------------------

PVT_LISTS = {"stage_width": "hidden_sizes", "stage_heads": "num_attention_heads", "stage_depth": "depths"}
PVT_LISTS |= {"stage_growth": "mlp_ratios", "stage_kernel": "patch_sizes", "stage_stride": "strides"}
STAGE_FFN = "stage_width*stage_growth"


def pyramid_level(lists: Mapping[str, str], f: Fields, stage: int) -> Fields:
    widths = sizes(f, "hidden_sizes", stage + 1)
    named = {name: sizes(f, field, stage + 1)[stage] for name, field in lists.items()}
    return f.replaced(before=widths[stage - 1] if stage else f["num_channels"], **named)


def pvt_level(f: Fields, stage: int) -> Fields:
    return pyramid_level(PVT_LISTS | {"stage_ratio": "sequence_reduction_ratios"}, f, stage)


def pvt2_level(f: Fields, stage: int) -> Fields:
    return pyramid_level(PVT_LISTS | {"stage_ratio": "sr_ratios"}, f, stage)


def pvt_stage(path: str, *parts: Part) -> Layers:
    return vision_layers(
        path,
        *parts,
        Norm("layer_norm_1", "stage_width"),
        Norm("layer_norm_2", "stage_width"),
        Linear("mlp.dense1", STAGE_FFN, "stage_width"),
        Linear("mlp.dense2", "stage_width", STAGE_FFN),
        count="stage_depth",
        width="stage_width",
        heads="stage_heads",
        ffn=STAGE_FFN,
    )


def reduction(name: str, side: Size) -> tuple[Part, ...]:
    """Joins patches before they are keys and values."""
    return (Convolution(name, "stage_width", "stage_width", (side, side)), Norm("layer_norm", "stage_width"))


def pvt_blocks(i: int) -> Layers:
    return pvt_stage(
        f"encoder.block.{i}",
        Under(
            "attention.self",
            *linears("", "query key value", "stage_width", "stage_width", "qkv_bias"),
            When(reduces, *reduction("sequence_reduction", "stage_ratio")),
        ),
        Linear("attention.output.dense", "stage_width", "stage_width"),
    )


def pvt2_blocks(i: int) -> Layers:
    return pvt_stage(
        f"encoder.layers.{i}.blocks",
        Under(
            "attention",
            *linears("", "query key value", "stage_width", "stage_width", "qkv_bias"),
            Linear("proj", "stage_width", "stage_width"),
            When("linear_attention", *reduction("spatial_reduction", 1)),
            When(
                unless("linear_attention"),
                When(reduces, *reduction("spatial_reduction", "stage_ratio")),
            ),
        ),
        Convolution("mlp.dwconv.dwconv", STAGE_FFN, 1, (3, 3)),
    )


def pvt_positions(stage: int, kernel: int, last: bool) -> Size:
    halved = 2 ** (stage + 1) if stage else 1
    return lambda f: (f["image_size"] // halved // kernel) ** 2 + last


def pvt_patches(f: Fields) -> Tensors:
    """Before the blocks of each stage; the last stage has a class token."""
    stages = f.count("num_encoder_blocks", low=1, high=MAX_ENTRIES)
    found: list[Part] = []
    for i in range(stages):
        level = pvt_level(f, i)
        last, width, stride = i == stages - 1, level["stage_width"], level["stage_stride"]
        parts: list[Part] = [
            Parameter("position_embeddings", (1, pvt_positions(i, level["stage_kernel"], last), width), "embedding"),
            Convolution("projection", width, level["before"], (stride, stride)),
            Norm("layer_norm", width),
        ]
        if last:
            parts.append(Parameter("cls_token", (1, 1, width)))
        found.append(Under(f"encoder.patch_embeddings.{i}", *parts))
    return tensors(f, found)


def pvt2_patches(f: Fields) -> Tensors:
    parts = (
        Convolution("patch_embedding.proj", "stage_width", "before", ("stage_kernel", "stage_kernel")),
        Norm("patch_embedding.layer_norm", "stage_width"),
        Norm("layer_norm", "stage_width"),
    )
    stages = f.count("num_encoder_blocks", low=1, high=MAX_ENTRIES)
    return tuple(t for i in range(stages) for t in Under(f"encoder.layers.{i}", *parts)(pvt2_level(f, i)))


PVT = Assembly(
    Rest(pvt_patches, Norm("encoder.layer_norm", entry("hidden_sizes", -1))),
    Stages("num_encoder_blocks", pvt_blocks, pvt_level),
)
PVT2 = Assembly(Rest(pvt2_patches), Stages("num_encoder_blocks", pvt2_blocks, pvt2_level))


def classified(prefix: str, body: BodyBuilder, width: Size) -> BodyBuilder:
    return Assembly(At(prefix, body), Rest(Linear("classifier", labels, width)))


# -- Hiera: the first block of a stage widens what it reads, and joins patches ----------------------------------------


def hiera_schedule(f: Fields, count: int) -> list[str]:  # noqa: ARG001
    return ["entering", *["within"] * (count - 1)][:count]


HIERA_FFN = scaled("stage_width", "mlp_ratio")


def hiera_stage(path: str, norms: tuple[str, str], mlp: tuple[str, str]) -> Layers:
    """Blocks as wide as `stage_width`, the first of which reads the width `before`."""
    return vision_layers(
        path,
        Linear("attn.proj", "stage_width", "stage_width"),
        Norm(norms[1], "stage_width"),
        Linear(f"mlp.{mlp[0]}", HIERA_FFN, "stage_width"),
        Linear(f"mlp.{mlp[1]}", "stage_width", HIERA_FFN),
        count="stage_depth",
        width="stage_width",
        heads="stage_heads",
        ffn=HIERA_FFN,
        variants={
            "entering": Variant(
                (
                    Norm(norms[0], "before"),
                    Linear("attn.qkv", "3*stage_width", "before"),
                    When(lambda f: f["before"] != f["stage_width"], Linear("proj", "stage_width", "before")),
                )
            ),
            "within": Variant((Norm(norms[0], "stage_width"), Linear("attn.qkv", "3*stage_width", "stage_width"))),
        },
        schedule=hiera_schedule,
    )


def hiera_width(f: Fields, stage: int) -> int:
    return int(f["embed_dim"] * f.number("embed_dim_multiplier", low=1, high=8) ** stage)


def hiera_last_width(f: Fields) -> int:
    return hiera_width(f, f[length("depths")] - 1)


def hiera_level(f: Fields, stage: int) -> Fields:
    return f.replaced(
        stage_width=hiera_width(f, stage),
        stage_heads=sizes(f, "num_heads", stage + 1)[stage],
        stage_depth=sizes(f, "depths")[stage],
        before=hiera_width(f, max(stage - 1, 0)),
    )


def hiera_tokens(f: Fields) -> int:
    sides, strides = sizes(f, "image_size", 2), sizes(f, "patch_stride", 2)
    return prod(side // stride for side, stride in zip(sides, strides, strict=False))


def hiera_blocks(i: int) -> Layers:
    return hiera_stage(f"encoder.stages.{i}.layers", ("layernorm_before", "layernorm_after"), ("fc1", "fc2"))


HIERA = Assembly(
    Rest(
        Parameter("embeddings.position_embeddings", (1, hiera_tokens, "embed_dim"), "embedding"),
        Convolution(
            "embeddings.patch_embeddings.projection",
            "embed_dim",
            "num_channels",
            (entry("patch_size", 0), entry("patch_size", 1)),
        ),
    ),
    Stages(length("depths"), hiera_blocks, hiera_level),
)
HIERA_POOLED = Assembly(HIERA, Rest(Norm("pooler.layernorm", hiera_last_width)))


def hiera_norms(f: Fields) -> Tensors:
    """Of every stage that the model gives out; the stem is as wide as the first."""
    names = stage_names(f[length("depths")])
    chosen = chosen_stages(f, names)
    return tensors(f, (Norm(f"hidden_states_norms.{names[i]}", hiera_width(f, max(i - 1, 0))) for i in chosen))


PYRAMIDS: dict[str, Family] = {
    "segformer": Family(
        "Segformer",
        {
            "Model": SEGFORMER,
            "ForImageClassification": Assembly(
                At("segformer", SEGFORMER), Rest(Linear("classifier", labels, entry("hidden_sizes", -1)))
            ),
            "ForSemanticSegmentation": Assembly(At("segformer", SEGFORMER), SEGFORMER_HEAD),
        },
    ),
    "pvt": Family(
        "Pvt",
        {"Model": PVT, "ForImageClassification": classified("pvt", PVT, entry("hidden_sizes", -1))},
    ),
    "pvt_v2": Family(
        "PvtV2",
        {
            "Model": PVT2,
            "Backbone": PVT2,
            "ForImageClassification": classified("pvt_v2", PVT2, entry("hidden_sizes", -1)),
        },
    ),
    "hiera": Family(
        "Hiera",
        {
            "Model": HIERA_POOLED,
            "Backbone": Assembly(HIERA, Rest(hiera_norms)),
            "ForImageClassification": classified("hiera", HIERA_POOLED, hiera_last_width),
        },
    ),
}
