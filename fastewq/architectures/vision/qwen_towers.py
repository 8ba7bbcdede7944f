"""The vision towers of the Qwen-VL line: patches of frames, fused attention, and a merger of neighbours."""

from __future__ import annotations

from fastewq.architectures.assembly import (
    FFN,
    WIDTH,
    Assembly,
    Convolution,
    Each,
    Embedding,
    Family,
    Linear,
    Norm,
    Rest,
    Under,
    length,
    linears,
    scaled,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Option, Part
from fastewq.architectures.vision.clip import vision_layers

PATCH_VOLUME = ("temporal_patch_size", "patch_size", "patch_size")


def merged(width: Size) -> Size:
    """Features of the patches that are merged into one token."""
    return lambda f: f[width] * f["spatial_merge_size"] ** 2


def qwen_tower(
    *mlp: Part,
    width: str = WIDTH,
    ffn: Size = FFN,
    norm_bias: Option = True,
    patch_bias: Option = False,
    kv_heads: str = "num_heads",
) -> BodyBuilder:
    """Fused attention, two norms and the feed-forward `mlp` in every block."""

    def qkv(f: Fields) -> int:
        return f[width] + 2 * f[kv_heads] * (f[width] // f["num_heads"])

    return Assembly(
        Rest(Convolution("patch_embed.proj", width, "in_channels", PATCH_VOLUME, patch_bias)),
        vision_layers(
            "blocks",
            Norm("norm1", width, norm_bias),
            Norm("norm2", width, norm_bias),
            Linear("attn.qkv", qkv, width),
            Linear("attn.proj", width, width),
            *mlp,
            count="depth",
            width=width,
            heads="num_heads",
            kv_heads=kv_heads,
            ffn=ffn,
            norm="layer" if norm_bias else "rms",
        ),
    )


QWEN2_VL_FFN = scaled("embed_dim", "mlp_ratio")
QWEN2_VL_BLOCKS = qwen_tower(
    Linear("mlp.fc1", QWEN2_VL_FFN, "embed_dim"),
    Linear("mlp.fc2", "embed_dim", QWEN2_VL_FFN),
    width="embed_dim",
    ffn=QWEN2_VL_FFN,
)
QWEN2_VL_TOWER = Assembly(
    QWEN2_VL_BLOCKS,
    Rest(
        Norm("merger.ln_q", "embed_dim"),
        Linear("merger.mlp.0", merged("embed_dim"), merged("embed_dim")),
        Linear("merger.mlp.2", WIDTH, merged("embed_dim")),
    ),
)


def qwen2_5_tower(kv_heads: str = "num_heads") -> BodyBuilder:
    return Assembly(
        qwen_tower(
            *linears("mlp", "gate_proj up_proj", FFN, WIDTH),
            Linear("mlp.down_proj", WIDTH, FFN),
            norm_bias=False,
            kv_heads=kv_heads,
        ),
        Rest(
            Norm("merger.ln_q", bias=False),
            Linear("merger.mlp.0", merged(WIDTH), merged(WIDTH)),
            Linear("merger.mlp.2", "out_hidden_size", merged(WIDTH)),
        ),
    )


QWEN2_5_VL_TOWER = qwen2_5_tower()


def qwen3_merger(norm: Size, names: tuple[str, str, str] = ("norm", "linear_fc1", "linear_fc2")) -> tuple[Part, ...]:
    """The patches of a square as one; `norm` is the width of the norm before it."""
    before, first, second = names
    return (
        Norm(before, norm),
        Linear(first, merged(WIDTH), merged(WIDTH)),
        Linear(second, "out_hidden_size", merged(WIDTH)),
    )


QWEN3_BLOCKS = qwen_tower(Linear("mlp.linear_fc1", FFN, WIDTH), Linear("mlp.linear_fc2", WIDTH, FFN), patch_bias=True)
QWEN3_5_TOWER = Assembly(
    QWEN3_BLOCKS,
    Rest(Embedding("pos_embed", "num_position_embeddings"), Under("merger", *qwen3_merger(WIDTH))),
)
QWEN3_VL_TOWER = Assembly(
    QWEN3_5_TOWER,
    Rest(Each("deepstack_merger_list", length("deepstack_visual_indexes"), qwen3_merger(merged(WIDTH)))),
)

QWEN_TOWERS: dict[str, Family] = {
    "qwen2_vl_vision": Family(
        "Qwen2VisionTransformer", {"PretrainedModel": QWEN2_VL_TOWER}, default="PretrainedModel", base="PretrainedModel"
    ),
    "qwen2_5_vl_vision": Family(
        "Qwen2_5_VisionTransformer",
        {"PretrainedModel": QWEN2_5_VL_TOWER},
        default="PretrainedModel",
        base="PretrainedModel",
    ),
    "exaone4_5_vision": Family("Exaone4_5_Vision", {"Model": qwen2_5_tower("num_key_value_heads")}),
    "qwen3_vl_vision": Family("Qwen3VLVision", {"Model": QWEN3_VL_TOWER}),
    "qwen3_vl_moe_vision": Family("Qwen3VLMoeVision", {"Model": QWEN3_VL_TOWER}),
    "qwen3_5_vision": Family("Qwen3_5Vision", {"Model": QWEN3_5_TOWER}),
    "qwen3_5_moe_vision": Family("Qwen3_5MoeVision", {"Model": QWEN3_5_TOWER}),
}
