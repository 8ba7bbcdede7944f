"""Florence-2: a DaViT tower, whose blocks attend within windows and then between channels, before a BART model."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    UNTIED,
    Adjusted,
    Assembly,
    At,
    Convolution,
    Embedding,
    Family,
    Linear,
    Nested,
    Norm,
    Rest,
    Stages,
    Under,
    length,
    scaled,
    sizes,
)
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Part, Tensors
from fastewq.architectures.seq2seq.bart import BART_LINE
from fastewq.architectures.vision.clip import vision_layers

WIDTH, INNER = "stage_width", scaled("stage_width", "mlp_ratio")


def spelled(f: Fields) -> Fields:
    """microsoft/Florence-2-base writes `dim_embed`; the library's own files have `embed_dim`."""
    return f.renamed({"dim_embed": "embed_dim"})


def level(f: Fields, stage: int) -> Fields:
    widths, depths, heads = (sizes(f, name, stage + 1) for name in ("embed_dim", "depths", "num_heads"))
    return f.replaced(stage_width=widths[stage], stage_depth=depths[stage], stage_heads=heads[stage])


def half(path: str, attention: str) -> Part:
    return Under(
        path,
        Convolution("conv1", WIDTH, 1, (3, 3)),
        Norm("norm1", WIDTH),
        Linear(f"{attention}.qkv", "3*stage_width", WIDTH, "qkv_bias"),
        Linear(f"{attention}.proj", WIDTH, WIDTH),
        Convolution("conv2", WIDTH, 1, (3, 3)),
        Norm("norm2", WIDTH),
        Linear("ffn.fc1", INNER, WIDTH),
        Linear("ffn.fc2", WIDTH, INNER),
    )


BLOCK = (half("spatial_block", "window_attn"), half("channel_block", "channel_attn"))


def convolutions(f: Fields) -> Tensors:
    """Before each stage: a strided convolution, and a norm on one of its sides."""
    stages = f[length("embed_dim")]
    widths, kernels = sizes(f, "embed_dim", stages), sizes(f, "patch_size", stages)
    before = f.value("patch_prenorm")
    if not isinstance(before, list | tuple) or len(before) < stages:
        raise f.refuse("patch_prenorm", before, f"a list of {stages} entries")
    inputs = (f["in_channels"], *widths)
    return tuple(
        t
        for i in range(stages)
        for part in (
            Convolution(f"convs.{i}.conv", widths[i], inputs[i], (kernels[i], kernels[i])),
            Norm(f"convs.{i}.norm", inputs[i] if before[i] else widths[i]),
        )
        for t in part(f)
    )


DAVIT = Adjusted(
    Assembly(
        Rest(convolutions),
        Stages(
            length("embed_dim"),
            lambda i: vision_layers(
                f"blocks.{i}", *BLOCK, count="stage_depth", width=WIDTH, heads="stage_heads", ffn=INNER
            ),
            level,
        ),
    ),
    spelled,
)


def last_width(f: Fields) -> int:
    vision = spelled(f.sub("vision_config"))
    return sizes(vision, "embed_dim", 1)[-1]


def rows(f: Fields) -> int:
    return last_width(f) // 2


def columns(f: Fields) -> int:
    return last_width(f) - rows(f)


def positions(f: Fields) -> int:
    """Rows of an image; the first files say it inside `image_pos_embed`."""
    vision = f.sub("vision_config")
    own = vision.value("image_pos_embed", None)
    if isinstance(own, Mapping) and "max_pos_embeddings" in own:
        return vision.sub("image_pos_embed", "").count("max_pos_embeddings", low=1)
    return vision["max_position_embeddings"]


SEEN: Size = "vision_config.projection_dim"
FLORENCE2 = (
    Nested("vision_config", "vision_tower", {"florence_vision": Family("Florence2Vision", {"Model": DAVIT})}),
    Rest(
        Under(
            "multi_modal_projector",
            Linear("image_projection", SEEN, last_width, False),
            Norm("image_proj_norm", SEEN),
            Embedding("image_position_embed.row_embeddings", positions, rows),
            Embedding("image_position_embed.column_embeddings", positions, columns),
        )
    ),
    Nested("text_config", "language_model", {"bart": BART_LINE["bart"], "florence2_language": BART_LINE["bart"]}),
)
FLORENCE: Mapping[str, Family] = {
    "florence2": Family(
        "Florence2",
        {
            "Model": Assembly(*FLORENCE2),
            "ForConditionalGeneration": Assembly(
                At("model", *FLORENCE2),
                Rest(Linear("lm_head", "text_config.vocab_size", "text_config.d_model", False, weight=UNTIED)),
            ),
        },
        "ForConditionalGeneration",
    )
}
