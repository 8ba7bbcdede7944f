"""GIT and Kosmos: text that continues an image, in blocks of BERT and of Magneto."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    FFN,
    MAX_ENTRIES,
    UNTIED,
    WIDTH,
    Assembly,
    At,
    Embedding,
    Family,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    linears,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.encoders.bert import PLAIN_BERT_LAYER
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Option, Part, Tensors, present
from fastewq.architectures.vision.clip import CLIP_VISION, text_layers
from fastewq.architectures.vision_language.early import pix2struct_tower
from fastewq.architectures.vision_language.multimodal import text_untied, untied_everywhere

SEEN = "vision_config.hidden_size"

# -- towers -----------------------------------------------------------------------------------------------------------


def kosmos_text(*more: Part) -> BodyBuilder:
    """Blocks of Magneto, with a norm inside the feed-forward; `more` are further tensors of a block."""
    return text_layers(
        "layers",
        *linears("self_attn", "k_proj v_proj q_proj out_proj", "embed_dim", "embed_dim"),
        *more,
        Norm("self_attn_layer_norm", "embed_dim"),
        Linear("ffn.fc1", "ffn_dim", "embed_dim"),
        Linear("ffn.fc2", "embed_dim", "ffn_dim"),
        Norm("ffn.ffn_layernorm", "ffn_dim"),
        Norm("final_layer_norm", "embed_dim"),
        count="layers",
        width="embed_dim",
        heads="attention_heads",
        ffn="ffn_dim",
        role="decoder",
    )


KOSMOS_AROUND = Rest(Embedding("embed_tokens", "vocab_size", "embed_dim"), Norm("layer_norm", "embed_dim"))
KOSMOS_TEXT = At(
    "model",
    KOSMOS_AROUND,
    kosmos_text(
        Norm("self_attn.inner_attn_ln", "embed_dim"),
        When(
            "add_cross_attention",
            *linears("encoder_attn", "k_proj v_proj q_proj out_proj", "embed_dim", "embed_dim"),
            Norm("encoder_attn_layer_norm", "embed_dim"),
        ),
    ),
)
# Kosmos-2.5's text tells what is image from what is not; it reads pages with Pix2Struct's tower.
KOSMOS25_TEXT = At("model", KOSMOS_AROUND, Rest(Embedding("segment_emb", 2, "embed_dim")), kosmos_text())
KOSMOS25_VISION = pix2struct_tower("max_num_patches", "head_dim", FFN)
TOWERS: dict[str, Family] = {
    "git_vision_model": Family("GitVision", {"Model": At("vision_model", CLIP_VISION)}),
    "kosmos_2_vision_model": Family("Kosmos2Vision", {"Model": At("model", CLIP_VISION)}),
    "kosmos_2_text_model": Family("Kosmos2Text", {"Model": KOSMOS_TEXT}),
    "kosmos_2_5_vision_model": Family("Kosmos2_5Vision", {"Model": KOSMOS25_VISION}),
    "kosmos_2_5_text_model": Family("Kosmos2_5Text", {"Model": KOSMOS25_TEXT}),
}

# -- whole models -----------------------------------------------------------------------------------------------------


def parameters(name: str, count: str, shape: tuple[Size, ...]) -> Part:
    """A list of bare tensors of one shape."""

    def part(f: Fields) -> Tensors:
        return tuple(t for i in range(f.count(count, high=MAX_ENTRIES)) for t in Parameter(f"{name}.{i}", shape)(f))

    return part


GIT = Assembly(
    Rest(
        Embedding("embeddings.word_embeddings", "vocab_size"),
        Embedding("embeddings.position_embeddings", "max_position_embeddings"),
        Norm("embeddings.LayerNorm"),
        Linear("visual_projection.visual_projection.0", WIDTH, SEEN),
        Norm("visual_projection.visual_projection.1"),
        When(
            present("num_image_with_embedding"),
            parameters("img_temporal_embedding", "num_image_with_embedding", (1, 1, SEEN)),
        ),
    ),
    text_layers("encoder.layer", *PLAIN_BERT_LAYER, name="decoder", role="decoder"),
    Nested("vision_config", "image_encoder", TOWERS),
)
KOSMOS = Assembly(
    Nested("vision_config", "vision_model", TOWERS),
    Nested("text_config", "text_model", TOWERS),
    Rest(
        Under(
            "image_to_text_projection",
            Parameter("latent_query", ("latent_query_num", "text_config.embed_dim")),
            Linear("dense", "text_config.embed_dim", SEEN),
            *linears("x_attn", "k_proj v_proj q_proj out_proj", "text_config.embed_dim", "text_config.embed_dim"),
        )
    ),
)


def kosmos_classes(untied: Option) -> dict[str, BodyBuilder]:
    head = Rest(Linear("text_model.lm_head", "text_config.vocab_size", "text_config.embed_dim", False, untied))
    return {"Model": KOSMOS, "ForConditionalGeneration": Assembly(KOSMOS, head)}


KOSMOS_LINE: Mapping[str, Family] = {
    **TOWERS,
    "git": Family(
        "Git",
        {
            "Model": GIT,
            "ForCausalLM": Assembly(At("git", GIT), Rest(Linear("output", "vocab_size", WIDTH, weight=UNTIED))),
        },
        "ForCausalLM",
    ),
    "kosmos-2": Family("Kosmos2", kosmos_classes(untied_everywhere), "ForConditionalGeneration"),
    "kosmos-2.5": Family("Kosmos2_5", kosmos_classes(text_untied), "ForConditionalGeneration"),
}
