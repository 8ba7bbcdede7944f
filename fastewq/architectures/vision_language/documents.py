"""Text encoders that also read where things are: on a page, in a table, in an image, among entities."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    UNTIED,
    WIDTH,
    Assembly,
    At,
    Convolution,
    Each,
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
    When,
    linears,
    patches,
    plus,
    positive,
    quotient,
    sizes,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.encoders.bert import (
    BERT_EMBEDDINGS,
    BERT_LAYER,
    BERT_MLM,
    DENSE_CLASSIFIER,
    NEXT_SENTENCE,
    ONE_MATRIX,
    PLAIN_BERT_LAYER,
    PLAIN_LAYERS,
    POOLER,
    SPAN,
    bert_classes,
    bert_layers,
    roberta_classes,
    word_embeddings,
)
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Part, Tensors, field_or
from fastewq.architectures.vision.images import older_vit_layer, patch_embedding, position_table, token

# -- pages: LayoutLM, LiLT, BROS, MarkupLM ----------------------------------------------------------------------------

LAYOUTLM = Assembly(
    word_embeddings(
        WIDTH,
        *(Embedding(f"{axis}_position_embeddings", "max_2d_position_embeddings") for axis in "xyhw"),
    ),
    bert_layers(),
)
LAYOUTLM_POOLED = At("layoutlm", LAYOUTLM, POOLER)
BOX_POSITIONS: tuple[Part, ...] = (
    *(Embedding(f"{axis}_position_embeddings", "max_2d_position_embeddings", "coordinate_size") for axis in "xy"),
    *(Embedding(f"{axis}_position_embeddings", "max_2d_position_embeddings", "shape_size") for axis in "hw"),
)
LAYOUTLMV3 = Assembly(
    Expect("text_embed", True),
    word_embeddings(WIDTH, *BOX_POSITIONS),
    Rest(
        When(
            "visual_embed",
            Parameter("cls_token", (1, 1, WIDTH)),
            Parameter("pos_embed", (1, lambda f: (f["input_size"] // f["patch_size"]) ** 2 + 1, WIDTH)),
            Convolution("patch_embed.proj", WIDTH, "num_channels", ("patch_size", "patch_size")),
            Norm("LayerNorm"),
            Norm("norm"),
        ),
        When("has_relative_attention_bias", Linear("encoder.rel_pos_bias", HEADS, "rel_pos_bins", False)),
        When(
            "has_spatial_attention_bias",
            Linear("encoder.rel_pos_x_bias", HEADS, "rel_2d_pos_bins", False),
            Linear("encoder.rel_pos_y_bias", HEADS, "rel_2d_pos_bins", False),
        ),
    ),
    bert_layers(),
)
LAYOUTLMV3_CLASSES: dict[str, BodyBuilder] = {
    "Model": LAYOUTLMV3,
    "ForSequenceClassification": Assembly(At("layoutlmv3", LAYOUTLMV3), DENSE_CLASSIFIER),
    "ForTokenClassification": Assembly(
        At("layoutlmv3", LAYOUTLMV3),
        Only(lambda f: labels(f) < 10, ONE_MATRIX),
        Only(lambda f: labels(f) >= 10, DENSE_CLASSIFIER),
    ),
    "ForQuestionAnswering": Assembly(
        At("layoutlmv3", LAYOUTLMV3),
        Rest(Linear("qa_outputs.dense", WIDTH, WIDTH), Linear("qa_outputs.out_proj", labels, WIDTH)),
    ),
}

SIXTH = quotient(WIDTH, 6)
SHRUNK = quotient(WIDTH, "channel_shrink_ratio")
LILT = Assembly(
    BERT_EMBEDDINGS,
    Rest(
        Under(
            "layout_embeddings",
            *(Embedding(f"{axis}_position_embeddings", "max_2d_position_embeddings", SIXTH) for axis in "xyhw"),
            Embedding("box_position_embeddings", "max_position_embeddings", SHRUNK),
            Linear("box_linear_embeddings", SHRUNK, lambda f: f[WIDTH] // 6 * 6),
            Norm("LayerNorm", SHRUNK),
        )
    ),
    Layers(
        "encoder.layer",
        (
            *BERT_LAYER,
            *linears("attention.self", "layout_query layout_key layout_value", SHRUNK, SHRUNK),
            Linear("attention.layout_output.dense", SHRUNK, SHRUNK),
            Norm("attention.layout_output.LayerNorm", SHRUNK),
            Linear("layout_intermediate.dense", quotient(FFN, "channel_shrink_ratio"), SHRUNK),
            Linear("layout_output.dense", SHRUNK, quotient(FFN, "channel_shrink_ratio")),
            Norm("layout_output.LayerNorm", SHRUNK),
        ),
    ),
)
BOX_WIDTH = field_or("dim_bbox_projection", quotient(WIDTH, HEADS))
BOX_WAVES = field_or("dim_bbox_sinusoid_emb_2d", quotient(WIDTH, 4))
BROS = Assembly(
    BERT_EMBEDDINGS,
    Rest(Linear("bbox_embeddings.bbox_projection", BOX_WIDTH, BOX_WAVES, False)),
    bert_layers(),
    POOLER,
)


def relations(path: str) -> BodyBuilder:
    """Scores every token against every other one."""
    return Rest(
        Under(path, *linears("", "query key", "n_relations*hidden_size", WIDTH), Parameter("dummy_node", (1, WIDTH)))
    )


BROS_CLASSES: dict[str, BodyBuilder] = {
    "Model": BROS,
    "ForTokenClassification": Assembly(At("bros", BROS), ONE_MATRIX),
    "SpadeEEForTokenClassification": Assembly(
        At("bros", BROS),
        Rest(Linear("initial_token_classifier.1", WIDTH, WIDTH), Linear("initial_token_classifier.3", labels, WIDTH)),
        relations("subsequent_token_classifier"),
    ),
    "SpadeELForTokenClassification": Assembly(At("bros", BROS), relations("entity_linker")),
}
PATH_WIDTH = "xpath_unit_hidden_size*max_depth"
MARKUPLM = Assembly(
    word_embeddings(
        WIDTH,
        Under(
            "xpath_embeddings",
            Linear("xpath_unitseq2_embeddings", WIDTH, PATH_WIDTH),
            Linear("xpath_unitseq2_inner", "4*hidden_size", PATH_WIDTH),
            Linear("inner2emb", WIDTH, "4*hidden_size"),
            *(
                Each(
                    f"xpath_{kind}_sub_embeddings",
                    "max_depth",
                    (Embedding("", f"max_xpath_{kind}_unit_embeddings", "xpath_unit_hidden_size"),),
                )
                for kind in ("tag", "subs")
            ),
        ),
    ),
    PLAIN_LAYERS,
)

# -- tables: TAPAS ----------------------------------------------------------------------------------------------------


def tapas_types(f: Fields) -> Tensors:
    """A table for each of the things that are known of a cell: its row, its column, its rank ..."""
    rows = sizes(f, "type_vocab_sizes")
    return tuple(t for i, n in enumerate(rows) for t in Embedding(f"token_type_embeddings_{i}", n)(f))


TAPAS = Assembly(
    Rest(
        Under(
            "embeddings",
            Embedding("word_embeddings", "vocab_size"),
            Embedding("position_embeddings", "max_position_embeddings"),
            tapas_types,
            Norm("LayerNorm"),
        )
    ),
    bert_layers(),
)
TAPAS_POOLED = Assembly(TAPAS, POOLER)
TAPAS_CLASSES: dict[str, BodyBuilder] = {
    "Model": TAPAS_POOLED,
    "ForMaskedLM": Assembly(At("tapas", TAPAS), BERT_MLM),
    "ForSequenceClassification": Assembly(At("tapas", TAPAS_POOLED), ONE_MATRIX),
    "ForQuestionAnswering": Assembly(
        At("tapas", TAPAS_POOLED),
        Rest(
            Parameter("output_weights", (WIDTH,)),
            Parameter("column_output_weights", (WIDTH,)),
            Parameter("output_bias", (), "bias"),
            Parameter("column_output_bias", (), "bias"),
            When(
                positive("num_aggregation_labels"),
                Linear("aggregation_classifier", "num_aggregation_labels", WIDTH),
            ),
        ),
    ),
}

# -- images: VisualBERT, ViLT -----------------------------------------------------------------------------------------

VISUAL_BERT = Assembly(
    word_embeddings(
        WIDTH,
        Embedding("visual_token_type_embeddings", "type_vocab_size"),
        Embedding("visual_position_embeddings", "max_position_embeddings"),
        Linear("visual_projection", WIDTH, "visual_embedding_dim"),
    ),
    PLAIN_LAYERS,
    Rest(When("bypass_transformer", Under("additional_layer", *PLAIN_BERT_LAYER))),
    POOLER,
)
SEES = At("visual_bert", VISUAL_BERT)
VISUAL_BERT_CLASSES: dict[str, BodyBuilder] = {
    "Model": VISUAL_BERT,
    "ForPreTraining": Assembly(SEES, BERT_MLM, NEXT_SENTENCE),
    "ForMultipleChoice": Assembly(SEES, Rest(Linear("cls", 1, WIDTH))),
    "ForQuestionAnswering": Assembly(SEES, Rest(Linear("cls", labels, WIDTH))),
    "ForVisualReasoning": Assembly(SEES, Rest(Linear("cls", labels, WIDTH))),
    "ForRegionToPhraseAlignment": Assembly(
        SEES, BERT_MLM, NEXT_SENTENCE, Rest(*linears("attention", "query key value", quotient(WIDTH, HEADS)))
    ),
}

VILT = Assembly(
    Rest(
        token("cls_token"),
        position_table(plus(patches, 1)),
        patch_embedding(),
        Embedding("embeddings.token_type_embeddings", "modality_type_vocab_size"),
        Norm("layernorm"),
    ),
    Rest(
        Under(
            "embeddings.text_embeddings",
            Embedding("word_embeddings", "vocab_size"),
            Embedding("position_embeddings", "max_position_embeddings"),
            Embedding("token_type_embeddings", "type_vocab_size"),
            Norm("LayerNorm"),
        )
    ),
    Layers("encoder.layer", older_vit_layer()),
)
VILT_POOLED = At("vilt", VILT, POOLER)


def vilt_classifier(inner: str, read: str) -> BodyBuilder:
    return Rest(Linear("classifier.0", inner, read), Norm("classifier.1", inner), Linear("classifier.3", labels, inner))


IMAGES_READ = "num_images*hidden_size"
VILT_CLASSES: dict[str, BodyBuilder] = {
    "Model": Assembly(VILT, POOLER),
    "ForMaskedLM": Assembly(
        VILT_POOLED,
        Rest(
            Linear("mlm_score.transform.dense", WIDTH, WIDTH),
            Norm("mlm_score.transform.LayerNorm"),
            Linear("mlm_score.decoder", "vocab_size", WIDTH, weight=False),
        ),
    ),
    "ForQuestionAnswering": Assembly(VILT_POOLED, vilt_classifier("2*hidden_size", WIDTH)),
    "ForImagesAndTextClassification": Assembly(VILT_POOLED, vilt_classifier(IMAGES_READ, IMAGES_READ)),
    "ForImageAndTextRetrieval": Assembly(VILT_POOLED, Rest(Linear("rank_output", 1, WIDTH))),
    "ForTokenClassification": Assembly(At("vilt", VILT), ONE_MATRIX),
}

# -- entities: LUKE ---------------------------------------------------------------------------------------------------

LUKE = Assembly(
    BERT_EMBEDDINGS,
    Rest(
        Under(
            "entity_embeddings",
            Embedding("entity_embeddings", "entity_vocab_size", "entity_emb_size"),
            When(
                lambda f: f["entity_emb_size"] != f[WIDTH],
                Linear("entity_embedding_dense", WIDTH, "entity_emb_size", False),
            ),
            Embedding("position_embeddings", "max_position_embeddings"),
            Embedding("token_type_embeddings", "type_vocab_size"),
            Norm("LayerNorm"),
        )
    ),
    Layers(
        "encoder.layer",
        (
            *PLAIN_BERT_LAYER,
            When("use_entity_aware_attention", *linears("attention.self", "w2e_query e2w_query e2e_query")),
        ),
    ),
)
LUKE_POOLED = At("luke", LUKE, POOLER)
LUKE_CLASSES: dict[str, BodyBuilder] = {
    **roberta_classes("luke", LUKE),
    "ForMaskedLM": Assembly(
        LUKE_POOLED,
        Rest(
            Parameter("lm_head.bias", ("vocab_size",), "bias"),
            Linear("lm_head.dense", WIDTH, WIDTH),
            Norm("lm_head.layer_norm"),
            Linear("lm_head.decoder", "vocab_size", WIDTH, UNTIED),
            Parameter("entity_predictions.bias", ("entity_vocab_size",), "bias"),
            Linear("entity_predictions.transform.dense", "entity_emb_size", WIDTH),
            Norm("entity_predictions.transform.LayerNorm", "entity_emb_size"),
            Linear("entity_predictions.decoder", "entity_vocab_size", "entity_emb_size", False, UNTIED),
        ),
    ),
    "ForSequenceClassification": Assembly(LUKE_POOLED, ONE_MATRIX),
    "ForEntityClassification": Assembly(LUKE_POOLED, ONE_MATRIX),
    "ForEntityPairClassification": Assembly(LUKE_POOLED, Rest(Linear("classifier", labels, "2*hidden_size", False))),
    "ForEntitySpanClassification": Assembly(LUKE_POOLED, Rest(Linear("classifier", labels, "3*hidden_size"))),
}

DOCUMENTS: Mapping[str, Family] = {
    "layoutlm": Family(
        "LayoutLM",
        {
            "Model": Assembly(LAYOUTLM, POOLER),
            "ForMaskedLM": Assembly(LAYOUTLM_POOLED, BERT_MLM),
            "ForSequenceClassification": Assembly(LAYOUTLM_POOLED, ONE_MATRIX),
            "ForTokenClassification": Assembly(LAYOUTLM_POOLED, ONE_MATRIX),
            "ForQuestionAnswering": Assembly(LAYOUTLM_POOLED, SPAN),
        },
    ),
    "layoutlmv3": Family("LayoutLMv3", LAYOUTLMV3_CLASSES),
    "lilt": Family("Lilt", roberta_classes("lilt", LILT)),
    "bros": Family("Bros", BROS_CLASSES),
    "markuplm": Family("MarkupLM", bert_classes("markuplm", MARKUPLM)),
    "tapas": Family("Tapas", TAPAS_CLASSES),
    "visual_bert": Family("VisualBert", VISUAL_BERT_CLASSES),
    "vilt": Family("Vilt", VILT_CLASSES),
    "luke": Family("Luke", LUKE_CLASSES),
}
