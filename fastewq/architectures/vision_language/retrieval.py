"""Models that embed text or pages of documents around other models: NV-Embed, ModernVBERT, ColPali and its like."""

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
    Parameter,
    Rest,
    Under,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.encoders.rotary import MODERN_NORM
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model, labels
from fastewq.architectures.text import TEXT
from fastewq.architectures.vision.clip import VISION
from fastewq.architectures.vision_language.multimodal import MULTIMODAL

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
NARROW = "text_config.prediction_head_size"
ULTRAVBERT = Assembly(MODERNVBERT, Rest(Norm("connector.norm", READ, False)))
ULTRAVBERT_LM = Rest(
    Linear("projection_head.linear1", NARROW, READ, False),
    Linear("projection_head.linear2", READ, NARROW, False),
    Linear("lm_head", "text_config.vocab_size", READ, False, UNTIED),
)
ONE_MATRIX = Rest(Linear("classifier", labels, READ))


def reads_pages(name: str, body: BodyBuilder, words: BodyBuilder, classifier: BodyBuilder) -> Family:
    classifies = Assembly(At("model", body), classifier)
    return Family(
        name,
        {
            "Model": body,
            "ForMaskedLM": Assembly(At("model", body), words),
            "ForSequenceClassification": classifies,
            "ForTokenClassification": classifies,
        },
        "ForMaskedLM",
    )


PAGES: dict[str, Family] = {
    "ultravbert": reads_pages("UltraVBert", ULTRAVBERT, ULTRAVBERT_LM, ONE_MATRIX),
    "modernvbert": reads_pages("ModernVBert", MODERNVBERT, MODERNVBERT_LM, CLASSIFIER),
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


# -- NV-Embed: nvidia/NV-Embed-v2, modeling_nvembed.py. Mistral's body, and attention to a table of vectors ------------

INSIDE = "num_cross_heads*cross_dim_head"
LATENT_ATTENTION = Rest(
    Parameter("latents", ("num_latents_value", "latent_dim")),
    Under(
        "cross_attend_blocks.0",
        Norm("norm", "latent_dim"),
        Norm("norm_context", "hidden_dim"),
        Linear("fn.to_q", INSIDE, "latent_dim", False),
        Linear("fn.to_kv", f"2*{INSIDE}", "hidden_dim", False),
        Linear("fn.to_out", "latent_dim", INSIDE, False),
    ),
    Under(
        "cross_attend_blocks.1",
        Norm("norm", "latent_dim"),
        Linear("fn.net.0", "8*latent_dim", "latent_dim"),
        Linear("fn.net.2", "latent_dim", "4*latent_dim"),
    ),
)
NVEMBED = Assembly(
    Nested("text_config", "embedding_model", {"bidir_mistral": TEXT["mistral"]}),
    In("latent_attention_config", LATENT_ATTENTION, path="latent_attention_model"),
)

RETRIEVAL: Mapping[str, Family] = {
    **PAGES,
    "nvembed": Family("NVEmbed", {"Model": NVEMBED}, classes=("NVEmbedModel",)),
    "colpali": Family("ColPali", embedding_of(MULTIMODAL), "ForRetrieval", "ForRetrieval"),
    "colqwen2": Family("ColQwen2", embedding_of(MULTIMODAL, once_flat), "ForRetrieval", "ForRetrieval"),
    "colmodernvbert": Family("ColModernVBert", embedding_of(PAGES), "ForRetrieval", "ForRetrieval"),
}
