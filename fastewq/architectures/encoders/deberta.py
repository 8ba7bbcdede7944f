"""DeBERTa and its second version: attention to what a token is and, apart from that, to how far away it is."""

from __future__ import annotations

from fastewq.architectures.assembly import (
    HEADS,
    WIDTH,
    Assembly,
    At,
    Convolution,
    Embedding,
    Family,
    Layers,
    Linear,
    Norm,
    Only,
    Parameter,
    Rest,
    Under,
    When,
    linears,
    positive,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.encoders.bert import (
    BERT_FEED_FORWARD,
    ONE_MATRIX,
    ONE_SCORE,
    POST_NORMS,
    SPAN,
    embedding_width,
    mlm,
    widened,
)
from fastewq.architectures.fields import MAX_SIZE, Fields
from fastewq.architectures.parts import Option, field_or, unless


def attends(kind: str) -> Option:
    """Whether DeBERTa's relative attention has content-to-position (c2p) or position-to-content (p2c) terms."""

    def option(f: Fields) -> bool:
        kinds = f.value("pos_att_type", None) or ()
        if isinstance(kinds, str):
            kinds = [part.strip() for part in kinds.lower().split("|")]
        if not isinstance(kinds, list | tuple):
            raise f.refuse("pos_att_type", kinds, "a list such as ['c2p', 'p2c']")
        return f.flag("relative_attention", False) and kind in kinds

    return option


def deberta_relative_positions(f: Fields) -> int:
    """Rows of the relative-position table: both directions of the longest distance, or of the buckets."""
    buckets = f.count("position_buckets", -1, low=-1)
    distance = f.count("max_relative_positions", -1, low=-MAX_SIZE)
    return 2 * (buckets if buckets > 0 else distance if distance > 0 else f["max_position_embeddings"])


def deberta_farthest(f: Fields) -> int:
    distance = f.count("max_relative_positions", -1, low=-MAX_SIZE)
    return 2 * (distance if distance > 0 else f["max_position_embeddings"])


def position_biased(f: Fields) -> bool:
    return f.flag("position_biased_input", True)


DEBERTA_EMBEDDINGS = Rest(
    Under(
        "embeddings",
        Embedding("word_embeddings", "vocab_size", embedding_width),
        When(position_biased, Embedding("position_embeddings", "max_position_embeddings", embedding_width)),
        When(positive("type_vocab_size"), Embedding("token_type_embeddings", "type_vocab_size", embedding_width)),
        When(
            widened,
            Linear("embed_proj", WIDTH, embedding_width, False),
        ),
        Norm("LayerNorm"),
    )
)
DEBERTA = Assembly(
    DEBERTA_EMBEDDINGS,
    Layers(
        "encoder.layer",
        (
            Parameter("attention.self.q_bias", (WIDTH,), "bias"),
            Parameter("attention.self.v_bias", (WIDTH,), "bias"),
            Linear("attention.self.in_proj", "3*hidden_size", WIDTH, False),
            When(
                "talking_head",
                Linear("attention.self.head_logits_proj", HEADS, HEADS, False),
                Linear("attention.self.head_weights_proj", HEADS, HEADS, False),
            ),
            When(attends("c2p"), Linear("attention.self.pos_proj", WIDTH, WIDTH, False)),
            When(attends("p2c"), Linear("attention.self.pos_q_proj", WIDTH, WIDTH)),
            Linear("attention.output.dense", WIDTH, WIDTH),
            *BERT_FEED_FORWARD,
            *POST_NORMS,
        ),
    ),
    Rest(When("relative_attention", Embedding("encoder.rel_embeddings", deberta_farthest))),
)


def deberta_inner(f: Fields) -> int:
    heads = f[HEADS]
    return heads * (f.optional_size("attention_head_size") or f[WIDTH] // heads)


def conv_inputs(f: Fields) -> int:
    return f[WIDTH] // f.size("conv_groups", 1)


def normed_positions(f: Fields) -> bool:
    return "layer_norm" in [part.strip() for part in f.text("norm_rel_ebd", "none").lower().split("|")]


DEBERTA_V2_ENCODER = Assembly(
    Layers(
        "layer",
        (
            *linears("attention.self", "query_proj key_proj value_proj", deberta_inner),
            When(
                unless("share_att_key"),
                When(attends("c2p"), Linear("attention.self.pos_key_proj", deberta_inner, WIDTH)),
                When(attends("p2c"), Linear("attention.self.pos_query_proj", deberta_inner, WIDTH)),
            ),
            Linear("attention.output.dense", WIDTH, WIDTH),
            *BERT_FEED_FORWARD,
            *POST_NORMS,
        ),
    ),
    Rest(
        When("relative_attention", Embedding("rel_embeddings", deberta_relative_positions)),
        When(normed_positions, Norm("LayerNorm")),
        When(
            positive("conv_kernel_size"),
            Convolution(
                "conv.conv",
                WIDTH,
                conv_inputs,
                ("conv_kernel_size",),
            ),
            Norm("conv.LayerNorm"),
        ),
    ),
)
DEBERTA_V2 = Assembly(DEBERTA_EMBEDDINGS, At("encoder", DEBERTA_V2_ENCODER))


DEBERTA_MLM = Assembly(
    Only(
        unless("legacy"),
        Rest(
            Parameter("lm_predictions.lm_head.bias", ("vocab_size",), "bias"),
            Linear("lm_predictions.lm_head.dense", WIDTH, WIDTH),
            Norm("lm_predictions.lm_head.LayerNorm"),
        ),
    ),
    Only("legacy", mlm(width=embedding_width)),
)
DEBERTA_POOLED = field_or("pooler_hidden_size", WIDTH)
DEBERTA_POOLER = Rest(Linear("pooler.dense", DEBERTA_POOLED, DEBERTA_POOLED))


def deberta_classes(body: BodyBuilder) -> dict[str, BodyBuilder]:
    inner = At("deberta", body)
    return {
        "Model": body,
        "ForMaskedLM": Assembly(inner, DEBERTA_MLM),
        "ForSequenceClassification": Assembly(inner, DEBERTA_POOLER, ONE_MATRIX),
        "ForMultipleChoice": Assembly(inner, DEBERTA_POOLER, ONE_SCORE),
        "ForTokenClassification": Assembly(inner, ONE_MATRIX),
        "ForQuestionAnswering": Assembly(inner, SPAN),
    }


DEBERTA_LINE: dict[str, Family] = {
    "deberta": Family("Deberta", deberta_classes(DEBERTA)),
    "deberta-v2": Family("DebertaV2", deberta_classes(DEBERTA_V2)),
}
