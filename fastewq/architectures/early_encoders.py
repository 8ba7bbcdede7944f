"""Encoders of the years after BERT that are neither BERT nor RoBERTa in their heads: XLNet, DPR."""

from __future__ import annotations

from fastewq.architectures.assembly import (
    UNTIED,
    Assembly,
    At,
    Embedding,
    Expect,
    Family,
    Layers,
    Linear,
    Norm,
    Only,
    Parameter,
    Rest,
    labels,
    positive,
    quotient,
)
from fastewq.architectures.bert import BERT
from fastewq.architectures.fields import Fields, Size

# -- XLNet ------------------------------------------------------------------------------------------------------------

DEPTH = "d_model"
HEAD_SHAPE: tuple[Size, ...] = ("n_head", quotient(DEPTH, "n_head"))

XLNET = Assembly(
    Rest(Embedding("word_embedding", "vocab_size", DEPTH), Parameter("mask_emb", (1, 1, DEPTH))),
    Layers(
        "layer",
        (
            *(Parameter(f"rel_attn.{name}", (DEPTH, *HEAD_SHAPE)) for name in "qkvor"),
            *(Parameter(f"rel_attn.{name}_bias", HEAD_SHAPE) for name in ("r_r", "r_s", "r_w")),
            Parameter("rel_attn.seg_embed", (2, *HEAD_SHAPE)),
            Norm("rel_attn.layer_norm", DEPTH),
            Norm("ff.layer_norm", DEPTH),
            Linear("ff.layer_1", "d_inner", DEPTH),
            Linear("ff.layer_2", DEPTH, "d_inner"),
        ),
        count="n_layer",
        width=DEPTH,
        heads="n_head",
        ffn="d_inner",
    ),
)
XLNET_BODY = At("transformer", XLNET)


def summarized(f: Fields) -> int:
    """Outputs of the summary's projection: the labels where the config says so."""
    return labels(f) if f.flag("summary_proj_to_labels", False) else f[DEPTH]


SUMMARY = Assembly(
    Expect("summary_type", "last", "first", "mean"),
    Only("summary_use_proj", Rest(Linear("sequence_summary.summary", summarized, DEPTH))),
)
XLNET_QUESTIONS = Rest(
    Linear("start_logits.dense", 1, DEPTH),
    Linear("end_logits.dense_0", DEPTH, "2*d_model"),
    Norm("end_logits.LayerNorm", DEPTH),
    Linear("end_logits.dense_1", 1, DEPTH),
    Linear("answer_class.dense_0", DEPTH, "2*d_model"),
    Linear("answer_class.dense_1", 1, DEPTH, False),
)
XLNET_CLASSES = {
    "Model": XLNET,
    "LMHeadModel": Assembly(XLNET_BODY, Rest(Linear("lm_loss", "vocab_size", DEPTH, weight=UNTIED))),
    "ForSequenceClassification": Assembly(XLNET_BODY, SUMMARY, Rest(Linear("logits_proj", labels, DEPTH))),
    "ForMultipleChoice": Assembly(XLNET_BODY, SUMMARY, Rest(Linear("logits_proj", 1, DEPTH))),
    "ForTokenClassification": Assembly(XLNET_BODY, Rest(Linear("classifier", labels, DEPTH))),
    "ForQuestionAnsweringSimple": Assembly(XLNET_BODY, Rest(Linear("qa_outputs", labels, DEPTH))),
    "ForQuestionAnswering": Assembly(XLNET_BODY, XLNET_QUESTIONS),
}

# -- DPR --------------------------------------------------------------------------------------------------------------


def passage_width(f: Fields) -> int:
    return f.count("projection_dim") or f["hidden_size"]


DPR_ENCODER = Assembly(
    At("bert_model", BERT),
    Only(positive("projection_dim"), Rest(Linear("encode_proj", "projection_dim", "hidden_size"))),
)
DPR_CLASSES = {
    "ContextEncoder": At("ctx_encoder", DPR_ENCODER),
    "QuestionEncoder": At("question_encoder", DPR_ENCODER),
    "Reader": At(
        "span_predictor",
        At("encoder", DPR_ENCODER),
        Rest(Linear("qa_outputs", 2, passage_width), Linear("qa_classifier", 1, passage_width)),
    ),
}

EARLY: dict[str, Family] = {
    "xlnet": Family("XLNet", XLNET_CLASSES, default="LMHeadModel"),
    "dpr": Family("DPR", DPR_CLASSES, default="ContextEncoder", base="ContextEncoder"),
}
