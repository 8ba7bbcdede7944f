"""What BERT and RoBERTa are made of, and what their model classes add. Relatives are in bert_relatives.py."""

from __future__ import annotations

from fastewq.architectures.assembly import (
    FFN,
    UNTIED,
    WIDTH,
    Assembly,
    At,
    Embedding,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    linears,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Option, Part

# -- BERT -----------------------------------------------------------------------------------------------------------


def embedding_width(f: Fields) -> int:
    """Of relatives whose embeddings can be narrower than their blocks."""
    return f.optional_size("embedding_size") or f[WIDTH]


def widened(f: Fields) -> bool:
    return embedding_width(f) != f[WIDTH]


def word_embeddings(width: Size = WIDTH, *extra: Part, positions: Size = "max_position_embeddings") -> Rest:
    return Rest(
        Under(
            "embeddings",
            Embedding("word_embeddings", "vocab_size", width),
            Embedding("position_embeddings", positions, width),
            Embedding("token_type_embeddings", "type_vocab_size", width),
            *extra,
            Norm("LayerNorm", width),
        )
    )


SELF_ATTENTION: tuple[Part, ...] = (
    *linears("attention.self", "query key value"),
    Linear("attention.output.dense", WIDTH, WIDTH),
)
BERT_FEED_FORWARD: tuple[Part, ...] = (Linear("intermediate.dense", FFN, WIDTH), Linear("output.dense", WIDTH, FFN))
POST_NORMS: tuple[Part, ...] = (Norm("attention.output.LayerNorm"), Norm("output.LayerNorm"))
CROSS_ATTENTION: tuple[Part, ...] = (
    *linears("crossattention.self", "query key value"),
    Linear("crossattention.output.dense", WIDTH, WIDTH),
)
BERT_CROSS = When("add_cross_attention", *CROSS_ATTENTION, Norm("crossattention.output.LayerNorm"))
PLAIN_BERT_LAYER: tuple[Part, ...] = (*SELF_ATTENTION, *BERT_FEED_FORWARD, *POST_NORMS)
PLAIN_LAYERS = Layers("encoder.layer", PLAIN_BERT_LAYER)
BERT_LAYER: tuple[Part, ...] = (*PLAIN_BERT_LAYER, BERT_CROSS)


def bert_layers(*extra: Part) -> Layers:
    return Layers("encoder.layer", (*BERT_LAYER, *extra))


BERT_EMBEDDINGS = word_embeddings()
BERT = Assembly(BERT_EMBEDDINGS, bert_layers())
POOLER = Rest(Linear("pooler.dense", WIDTH, WIDTH))


def mlm(norm: str = "LayerNorm", width: Size = WIDTH, untied: Option = UNTIED) -> Rest:
    """BERT's language-modelling head; its bias is shared with the decoder's."""
    return Rest(
        Parameter("cls.predictions.bias", ("vocab_size",), "bias"),
        Linear("cls.predictions.transform.dense", width, WIDTH),
        Norm(f"cls.predictions.transform.{norm}", width),
        Linear("cls.predictions.decoder", "vocab_size", width, bias=untied, weight=untied),
    )


BERT_MLM = mlm()
NEXT_SENTENCE = Rest(Linear("cls.seq_relationship", 2, WIDTH))
ONE_SCORE = Rest(Linear("classifier", 1, WIDTH))
ONE_MATRIX = Rest(Linear("classifier", labels, WIDTH))
DENSE_CLASSIFIER = Rest(Linear("classifier.dense", WIDTH, WIDTH), Linear("classifier.out_proj", labels, WIDTH))
SPAN = Rest(Linear("qa_outputs", labels, WIDTH))
START_AND_END = Rest(Linear("qa_outputs", 2, WIDTH))
"""Where the class sets the number of labels itself."""


def bert_classes(
    prefix: str, body: BodyBuilder, pooler: BodyBuilder = POOLER, *, head: BodyBuilder = BERT_MLM, base: str = "Model"
) -> dict[str, BodyBuilder]:
    """What BERT's model classes add to the body; some of them keep the pooler."""
    alone, pooled = At(prefix, body), At(prefix, body, pooler)
    return {
        base: Assembly(body, pooler),
        "ForPreTraining": Assembly(pooled, head, NEXT_SENTENCE),
        "ForMaskedLM": Assembly(alone, head),
        "ForCausalLM": Assembly(alone, head),
        "LMHeadModel": Assembly(alone, head),
        "ForNextSentencePrediction": Assembly(pooled, NEXT_SENTENCE),
        "ForSequenceClassification": Assembly(pooled, ONE_MATRIX),
        "ForMultipleChoice": Assembly(pooled, ONE_SCORE),
        "ForTokenClassification": Assembly(alone, ONE_MATRIX),
        "ForQuestionAnswering": Assembly(alone, SPAN),
    }


# -- RoBERTa --------------------------------------------------------------------------------------------------------


def roberta_lm(decoder_bias: Option = UNTIED) -> Rest:
    return Rest(
        Parameter("lm_head.bias", ("vocab_size",), "bias"),
        Linear("lm_head.dense", WIDTH, WIDTH),
        Norm("lm_head.layer_norm"),
        Linear("lm_head.decoder", "vocab_size", WIDTH, decoder_bias, weight=UNTIED),
    )


ROBERTA_LM = roberta_lm()


def roberta_classes(
    prefix: str, body: BodyBuilder, pooler: BodyBuilder = POOLER, *, head: BodyBuilder = ROBERTA_LM
) -> dict[str, BodyBuilder]:
    alone, pooled = At(prefix, body), At(prefix, body, pooler)
    return {
        "Model": Assembly(body, pooler),
        "ForMaskedLM": Assembly(alone, head),
        "ForCausalLM": Assembly(alone, head),
        "ForSequenceClassification": Assembly(alone, DENSE_CLASSIFIER),
        "ForMultipleChoice": Assembly(pooled, ONE_SCORE),
        "ForTokenClassification": Assembly(alone, ONE_MATRIX),
        "ForQuestionAnswering": Assembly(alone, SPAN),
    }


ROBERTA = roberta_classes("roberta", BERT)
PRE_NORMS: tuple[Part, ...] = (Norm("attention.LayerNorm"), Norm("intermediate.LayerNorm"))
ROBERTA_PRE_NORM = Assembly(
    BERT_EMBEDDINGS,
    Layers(
        "encoder.layer",
        (
            *SELF_ATTENTION,
            *BERT_FEED_FORWARD,
            *PRE_NORMS,
            When("add_cross_attention", *CROSS_ATTENTION, Norm("crossattention.LayerNorm")),
        ),
    ),
    Rest(Norm("LayerNorm")),
)
XLM_ROBERTA_XL = Assembly(
    Rest(
        Embedding("embeddings.word_embeddings", "vocab_size"),
        Embedding("embeddings.position_embeddings", "max_position_embeddings"),
        Embedding("embeddings.token_type_embeddings", "type_vocab_size"),
        Norm("encoder.LayerNorm"),
    ),
    Layers(
        "encoder.layer",
        (
            *SELF_ATTENTION,
            *BERT_FEED_FORWARD,
            Norm("attention.self_attn_layer_norm"),
            Norm("LayerNorm"),
            When("add_cross_attention", *CROSS_ATTENTION, Norm("crossattention.self_attn_layer_norm")),
        ),
    ),
)
