"""MiniCPM-V 4.6 and 4.7: SigLIP's tower, which merges windows of patches half way, before Qwen3.5."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    FFN,
    WIDTH,
    Assembly,
    Each,
    Family,
    Linear,
    Nested,
    Norm,
    Rest,
    Under,
    linears,
    pair,
)
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Part, Tensors, prefixed
from fastewq.architectures.vision.towers import IDEFICS_VISION
from fastewq.architectures.vision_language.multimodal import EYE, GENERATE, MOUTH, speaking, speaks


def windowed(size: str) -> Size:
    """A width times the patches of a window."""

    def width(f: Fields) -> int:
        rows, columns = pair(f, "window_kernel_size")
        return f[size] * rows * columns

    return width


TOWER = Assembly(
    IDEFICS_VISION,
    Rest(
        Under(
            "vit_merger",
            *linears("self_attn", "k_proj v_proj q_proj out_proj"),
            Norm("layer_norm1"),
            Norm("pre_norm", windowed(WIDTH)),
            Linear("linear_1", windowed(FFN), windowed(WIDTH)),
            Linear("linear_2", WIDTH, windowed(FFN)),
        ),
    ),
)
MERGED = "4*vision_config.hidden_size"


def merging(outputs: Size) -> tuple[Part, ...]:
    """Four tokens become one."""
    return (Norm("pre_norm", MERGED), Linear("linear_1", MERGED, MERGED), Linear("linear_2", outputs, MERGED))


def merger(f: Fields) -> Tensors:
    """Several steps; the last one ends in the text model's width."""
    before = max(f.count("merger_times") - 1, 0)
    last = tuple(t for part in merging(MOUTH) for t in part(f))
    return (*Each("mlp", lambda _: before, merging(EYE))(f), *prefixed(f"mlp.{before}", last))


def minicpm(model_type: str, prefix: str) -> Mapping[str, Family]:
    tower = {f"{model_type}_vision": Family(f"{prefix}Vision", {"Model": TOWER})}
    classes = speaking(
        Nested("vision_config", "vision_tower", tower), speaks("language_model"), Rest(Under("merger", merger))
    )
    return {**tower, model_type: Family(prefix, classes, GENERATE)}


MINICPM_V: Mapping[str, Family] = {
    **minicpm("minicpmv4_6", "MiniCPMV4_6"),
    **minicpm("minicpmv4_7", "MiniCPMV4_7"),
    **minicpm("minicpm_ocr", "MiniCPMOcr"),
}
