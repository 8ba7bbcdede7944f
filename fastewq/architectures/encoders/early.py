"""Encoders of the years after BERT that are neither BERT nor RoBERTa in their heads: XLNet, XLM, DPR."""

from __future__ import annotations

from typing import Any

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
    Under,
    Variant,
    When,
    both,
    linears,
    positive,
    quotient,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.encoders.bert import BERT
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Part, Tensors, norm, prefixed

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


def summary(width: Size) -> BodyBuilder:
    """One vector for a text. Its projection has as many outputs as there are labels where the config says so."""

    def outputs(f: Fields) -> int:
        return labels(f) if f.flag("summary_proj_to_labels", False) else f[width]

    return Assembly(
        Expect("summary_type", "last", "first", "mean"),
        Only("summary_use_proj", Rest(Linear("sequence_summary.summary", outputs, width))),
    )


def questions(width: str) -> tuple[Part, ...]:
    """Where an answer begins, where it ends, and whether there is one."""
    return (
        Linear("start_logits.dense", 1, width),
        Linear("end_logits.dense_0", width, f"2*{width}"),
        Norm("end_logits.LayerNorm", width),
        Linear("end_logits.dense_1", 1, width),
        Linear("answer_class.dense_0", width, f"2*{width}"),
        Linear("answer_class.dense_1", 1, width, False),
    )


SUMMARY = summary(DEPTH)
XLNET_CLASSES = {
    "Model": XLNET,
    "LMHeadModel": Assembly(XLNET_BODY, Rest(Linear("lm_loss", "vocab_size", DEPTH, weight=UNTIED))),
    "ForSequenceClassification": Assembly(XLNET_BODY, SUMMARY, Rest(Linear("logits_proj", labels, DEPTH))),
    "ForMultipleChoice": Assembly(XLNET_BODY, SUMMARY, Rest(Linear("logits_proj", 1, DEPTH))),
    "ForTokenClassification": Assembly(XLNET_BODY, Rest(Linear("classifier", labels, DEPTH))),
    "ForQuestionAnsweringSimple": Assembly(XLNET_BODY, Rest(Linear("qa_outputs", labels, DEPTH))),
    "ForQuestionAnswering": Assembly(XLNET_BODY, Rest(*questions(DEPTH))),
}

# -- XLM and FlauBERT: attention and feed-forward in lists of their own -----------------------------------------------

XLM_WIDTH = "emb_dim"


def norms(name: str) -> Part:
    """One for every block."""

    def part(f: Fields) -> Tensors:
        once = norm("", f[XLM_WIDTH], True)
        return tuple(t for i in range(f.layers("n_layers")) for t in prefixed(f"{name}.{i}", once))

    return part


XLM_LAYERS: dict[str, Any] = {
    "count": "n_layers",
    "width": XLM_WIDTH,
    "heads": "n_heads",
    "ffn": f"4*{XLM_WIDTH}",
}
XLM = Assembly(
    Expect("is_encoder", True),
    Rest(
        Embedding("position_embeddings", "max_position_embeddings", XLM_WIDTH),
        When(both(lambda f: f["n_langs"] > 1, "use_lang_emb"), Embedding("lang_embeddings", "n_langs", XLM_WIDTH)),
        Embedding("embeddings", "vocab_size", XLM_WIDTH),
        Norm("layer_norm_emb", XLM_WIDTH),
        norms("layer_norm1"),
        norms("layer_norm2"),
    ),
    Layers(
        "attentions",
        linears("", "q_lin k_lin v_lin out_lin", XLM_WIDTH, XLM_WIDTH),
        name="attentions",
        variants={"": Variant(feed_forward="none")},
        **XLM_LAYERS,
    ),
    Layers(
        "ffns",
        (Linear("lin1", f"4*{XLM_WIDTH}", XLM_WIDTH), Linear("lin2", XLM_WIDTH, f"4*{XLM_WIDTH}")),
        name="feed_forwards",
        variants={"": Variant(mixer="none")},
        **XLM_LAYERS,
    ),
)
XLM_BODY, XLM_SUMMARY = At("transformer", XLM), summary(XLM_WIDTH)
XLM_CLASSES = {
    "Model": XLM,
    "WithLMHeadModel": Assembly(
        Expect("asm", False), XLM_BODY, Rest(Linear("pred_layer.proj", "vocab_size", XLM_WIDTH, weight=UNTIED))
    ),
    "ForSequenceClassification": Assembly(XLM_BODY, XLM_SUMMARY),
    "ForMultipleChoice": Assembly(XLM_BODY, XLM_SUMMARY, Rest(Linear("logits_proj", 1, labels))),
    "ForTokenClassification": Assembly(XLM_BODY, Rest(Linear("classifier", labels, XLM_WIDTH))),
    "ForQuestionAnsweringSimple": Assembly(XLM_BODY, Rest(Linear("qa_outputs", labels, XLM_WIDTH))),
    "ForQuestionAnswering": Assembly(XLM_BODY, Rest(Under("qa_outputs", *questions(XLM_WIDTH)))),
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
    "xlm": Family("XLM", XLM_CLASSES, default="WithLMHeadModel"),
    "flaubert": Family("Flaubert", XLM_CLASSES, default="WithLMHeadModel"),
    "dpr": Family("DPR", DPR_CLASSES, default="ContextEncoder", base="ContextEncoder"),
}
