"""Text encoders: BERT and its relatives. The parts say what differs; the tables say what each model class adds."""

from __future__ import annotations

from fastewq.architectures.assembly import (
    FFN,
    UNTIED,
    WIDTH,
    Assembly,
    At,
    Embedding,
    Family,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    When,
    labels,
    linears,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.parts import Part

BERT_EMBEDDINGS = Rest(
    Embedding("embeddings.word_embeddings", "vocab_size"),
    Embedding("embeddings.position_embeddings", "max_position_embeddings"),
    Embedding("embeddings.token_type_embeddings", "type_vocab_size"),
    Norm("embeddings.LayerNorm"),
)
BERT_LAYER: tuple[Part, ...] = (
    *linears("attention.self", "query key value"),
    Linear("attention.output.dense", WIDTH, WIDTH),
    Norm("attention.output.LayerNorm"),
    Linear("intermediate.dense", FFN, WIDTH),
    Linear("output.dense", WIDTH, FFN),
    Norm("output.LayerNorm"),
)
BERT_CROSS = When(
    "add_cross_attention",
    *linears("crossattention.self", "query key value"),
    Linear("crossattention.output.dense", WIDTH, WIDTH),
    Norm("crossattention.output.LayerNorm"),
)
BERT = Assembly(BERT_EMBEDDINGS, Layers("encoder.layer", (*BERT_LAYER, BERT_CROSS)))
POOLER = Rest(Linear("pooler.dense", WIDTH, WIDTH))

BERT_MLM = Rest(
    Parameter("cls.predictions.bias", ("vocab_size",), "bias"),
    Linear("cls.predictions.transform.dense", WIDTH, WIDTH),
    Norm("cls.predictions.transform.LayerNorm"),
    Linear("cls.predictions.decoder", "vocab_size", WIDTH, bias=UNTIED, weight=UNTIED),
)
NEXT_SENTENCE = Rest(Linear("cls.seq_relationship", 2, WIDTH))


def bert_classes(prefix: str, body: BodyBuilder, pooled: BodyBuilder) -> dict[str, BodyBuilder]:
    """What BERT's model classes add; `pooled` is the body with its pooler."""
    body, inner = At(prefix, body), At(prefix, pooled)
    return {
        "Model": pooled,
        "ForPreTraining": Assembly(inner, BERT_MLM, NEXT_SENTENCE),
        "ForMaskedLM": Assembly(body, BERT_MLM),
        "LMHeadModel": Assembly(body, BERT_MLM),
        "ForNextSentencePrediction": Assembly(inner, NEXT_SENTENCE),
        "ForSequenceClassification": Assembly(inner, Rest(Linear("classifier", labels, WIDTH))),
        "ForMultipleChoice": Assembly(inner, Rest(Linear("classifier", 1, WIDTH))),
        "ForTokenClassification": Assembly(body, Rest(Linear("classifier", labels, WIDTH))),
        "ForQuestionAnswering": Assembly(body, Rest(Linear("qa_outputs", labels, WIDTH))),
    }


ENCODERS: dict[str, Family] = {
    "bert": Family("Bert", bert_classes("bert", BERT, Assembly(BERT, POOLER)), "ForMaskedLM"),
}
