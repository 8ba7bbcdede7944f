"""Models that embed pages of documents: ModernVBERT, and ColPali, ColQwen2 and ColModernVBERT around other models."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastewq.architectures.assembly import (
    UNTIED,
    Assembly,
    At,
    Family,
    In,
    Linear,
    Nested,
    Norm,
    Rest,
    labels,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.encoders import MODERN_NORM
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.multimodal import MULTIMODAL
from fastewq.architectures.text import TEXT
from fastewq.architectures.vision import VISION

READ = "text_config.hidden_size"


def shuffled(f: Fields) -> int:
    """Features of a square of patches, which become one token."""
    return f["vision_config.hidden_size"] * f["pixel_shuffle_factor"] ** 2


MODERNVBERT = Assembly(
    Nested("vision_config", "vision_model", VISION),
    Rest(Linear("connector.modality_projection", READ, shuffled, False)),
    Nested("text_config", "text_model", TEXT),
)


def transform(path: str) -> BodyBuilder:
    return In(
        "text_config",
        Rest(Linear("dense", "hidden_size", "hidden_size", "classifier_bias"), Norm("norm", bias=MODERN_NORM)),
        path=path,
    )


CLASSIFIER = Assembly(transform("head"), Rest(Linear("classifier", labels, READ)))
MODERNVBERT_LM = Assembly(
    transform("projection_head"),
    In("text_config", Rest(Linear("lm_head", "vocab_size", "hidden_size", "decoder_bias", False)), path=""),
    Rest(Linear("lm_head", "text_config.vocab_size", READ, False, UNTIED)),
)
PAGES: dict[str, Family] = {
    "modernvbert": Family(
        "ModernVBert",
        {
            "Model": MODERNVBERT,
            "ForMaskedLM": Assembly(At("model", MODERNVBERT), MODERNVBERT_LM),
            "ForSequenceClassification": Assembly(At("model", MODERNVBERT), CLASSIFIER),
            "ForTokenClassification": Assembly(At("model", MODERNVBERT), CLASSIFIER),
        },
        "ForMaskedLM",
    )
}


def same(f: Fields) -> Fields:
    return f


def once_flat(f: Fields) -> Fields:
    """Older Qwen2-VL configs have no `text_config`, but its fields at the top."""
    return f.unflattened("text_config")


def embedding_of(models: Mapping[str, Model], completed: Callable[[Fields], Fields] = same) -> dict[str, BodyBuilder]:
    """A model and the projection of each of its tokens to a vector that is compared."""
    return {
        "ForRetrieval": Assembly(
            Nested("vlm_config", "vlm", models),
            Rest(Linear("embedding_proj_layer", "embedding_dim", lambda f: completed(f.sub("vlm_config"))[READ])),
        )
    }


RETRIEVAL: Mapping[str, Family] = {
    **PAGES,
    "colpali": Family("ColPali", embedding_of(MULTIMODAL), "ForRetrieval", "ForRetrieval"),
    "colqwen2": Family("ColQwen2", embedding_of(MULTIMODAL, once_flat), "ForRetrieval", "ForRetrieval"),
    "colmodernvbert": Family("ColModernVBert", embedding_of(PAGES), "ForRetrieval", "ForRetrieval"),
}
