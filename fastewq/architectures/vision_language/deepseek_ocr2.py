"""DeepSeek-OCR 2 and Unlimited OCR: SAM's tower, a second encoder that reads what it saw, a mixture of experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastewq.architectures.assembly import (
    WIDTH,
    Adjusted,
    Assembly,
    Convolution,
    Embedding,
    Family,
    In,
    Linear,
    Named,
    Nested,
    Norm,
    Parameter,
    Rest,
    entry,
    patches,
    plus,
    scaled,
)
from fastewq.architectures.body import Decoder, listed
from fastewq.architectures.decoders.dense import LLAMA_MLP, uniform, whole_head_dim
from fastewq.architectures.decoders.experts import several_shared, sparse
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import Model, decoder
from fastewq.architectures.parts import Attention, GatedMLP, MixtureOfExperts
from fastewq.architectures.vision.clip import CLIP_LAYER, vision_layers
from fastewq.architectures.vision.towers import GOT_OCR_VISION
from fastewq.architectures.vision_language.multimodal import GENERATE, MOUTH, speaking

# -- towers -----------------------------------------------------------------------------------------------------------

MIDDLE, LAST = (entry("downsample_channels", i) for i in (0, 1))


def with_widths(f: Fields) -> Fields:
    """The same with the widths that DeepSeek-OCR 2 derives."""
    inner = {} if f.value("mlp_dim", None) is not None else {"mlp_dim": f[scaled(WIDTH, "mlp_ratio")]}
    channels = {} if f.value("downsample_channels", None) is not None else {"downsample_channels": [512, 896]}
    return f.replaced(**inner, **channels)


SAM = Adjusted(
    Assembly(
        GOT_OCR_VISION,
        Rest(
            Convolution("proj.conv1", MIDDLE, "output_channels", (3, 3), bias=False),
            Convolution("proj.conv2", LAST, MIDDLE, (3, 3), bias=False),
        ),
    ),
    with_widths,
)
READER: Decoder = uniform(Attention(bias=True, out_bias=False), GatedMLP(), embed="", name="encoder", role="vision")
VISION2 = Assembly(
    In("sam_config", Named("sam", SAM), path="sam_encoder"),
    In("encoder_config", READER, path="vision_encoder"),
    In(
        "encoder_config",
        Rest(Embedding("query_768_resolution", 144), Embedding("query_1024_resolution", 256)),
        path="",
    ),
)
CLIP = Assembly(
    Rest(
        Parameter("embeddings.class_embedding", (WIDTH,)),
        Embedding("embeddings.position_embedding", plus(patches, 1)),
        Norm("pre_layrnorm"),
    ),
    vision_layers("encoder.layers", *CLIP_LAYER),
)
UNLIMITED_VISION = Assembly(
    In("sam_config", Named("sam", SAM), path="sam_encoder"), In("encoder_config", CLIP, path="vision_encoder")
)
EYES = {
    "deepseek_ocr2_vision": Family("DeepseekOcr2Vision", {"Model": VISION2}),
    "unlimited_ocr_vision": Family("UnlimitedOcrVision", {"Model": UNLIMITED_VISION}),
}

# -- text -------------------------------------------------------------------------------------------------------------


def first_dense(f: Fields, layers: int) -> Sequence[str]:
    n = min(f.count("first_k_dense_replace", 1), layers)
    return ["dense"] * n + ["sparse"] * (layers - n)


TEXT: Mapping[str, Model] = dict.fromkeys(
    ("deepseek_ocr2_text", "unlimited_ocr_text"),
    decoder(
        sparse(
            Attention(bias="attention_bias", dim=whole_head_dim),
            MixtureOfExperts(experts="n_routed_experts", shared=several_shared(bias="mlp_bias")),
            LLAMA_MLP,
            listed("mlp_layer_types", first_dense),
        )
    ),
)


def read_width(f: Fields) -> int:
    return f.sub("vision_config").sub("encoder_config")[WIDTH]


def both_widths(f: Fields) -> int:
    """Features of the two towers side by side; the last channels are those of the list's end."""
    sam = with_widths(f.sub("vision_config").sub("sam_config"))
    return read_width(f) + sam[entry("downsample_channels", -1)]


def spelled(f: Fields) -> Fields:
    return f if f.has("text_config") else f.renamed({"language_config": "text_config"})


def ocr(prefix: str, seen: Size, *marks: str) -> Family:
    classes = speaking(
        Nested("vision_config", "vision_tower", EYES),
        Rest(
            Linear("multi_modal_projector", MOUTH, seen),
            *(Parameter(mark, (MOUTH,)) for mark in ("view_separator", *marks)),
        ),
        Nested("text_config", "language_model", TEXT),
    )
    return Family(prefix, {ending: Adjusted(build, spelled) for ending, build in classes.items()}, GENERATE)


DEEPSEEK_OCR2: Mapping[str, Model] = {
    **TEXT,
    **EYES,
    "deepseek_ocr2": ocr("DeepseekOcr2", read_width),
    "unlimited_ocr": ocr("UnlimitedOcr", both_widths, "image_newline"),
}
