"""Smaller families of text encoders from BERT's years: Splinter, MobileBERT, SqueezeBERT, CANINE, RoCBERT, Funnel."""

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
    Family,
    Layers,
    Linear,
    Named,
    Norm,
    Parameter,
    Rest,
    Stages,
    Under,
    When,
    entry,
    length,
    linears,
    quotient,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.encoders.bert import (
    BERT_EMBEDDINGS,
    BERT_MLM,
    PLAIN_BERT_LAYER,
    PLAIN_LAYERS,
    POOLER,
    bert_classes,
    bert_layers,
)
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Part, Tensors

# -- Splinter: BERT that points at spans ------------------------------------------------------------------------------


def transformed(name: str) -> Part:
    return Under(name, Linear("dense", WIDTH, WIDTH), Norm("LayerNorm"))


SPLINTER = Assembly(BERT_EMBEDDINGS, PLAIN_LAYERS)
SPAN_HEAD = At(
    "splinter_qass",
    Rest(
        *(transformed(f"{name}_transform") for name in ("query_start", "query_end", "start", "end")),
        *linears("", "start_classifier end_classifier", bias=False),
    ),
)

# -- MobileBERT: narrow blocks between wide ones ----------------------------------------------------------------------


def true_width(f: Fields) -> int:
    given = f.optional_size("true_hidden_size")
    return given or (f["intra_bottleneck_size"] if f.flag("use_bottleneck") else f[WIDTH])


def value_inputs(f: Fields) -> int:
    return true_width(f) if f.flag("use_bottleneck_attention") else f[WIDTH]


def all_heads(f: Fields) -> int:
    return f[HEADS] * (true_width(f) // f[HEADS])


def further_networks(f: Fields) -> int:
    return f.count("num_feedforward_networks") - 1


def bottleneck(name: str) -> Part:
    return Under(name, Linear("dense", "intra_bottleneck_size", WIDTH), Norm("LayerNorm", "intra_bottleneck_size"))


MOBILE_FEED_FORWARD: tuple[Part, ...] = (
    Linear("intermediate.dense", FFN, true_width),
    Linear("output.dense", true_width, FFN),
    Norm("output.LayerNorm", true_width),
)
MOBILEBERT = Assembly(
    Rest(
        Under(
            "embeddings",
            Embedding("word_embeddings", "vocab_size", "embedding_size"),
            Embedding("position_embeddings", "max_position_embeddings"),
            Embedding("token_type_embeddings", "type_vocab_size"),
            Linear(
                "embedding_transformation",
                WIDTH,
                lambda f: f["embedding_size"] * (3 if f.flag("trigram_input") else 1),
            ),
            Norm("LayerNorm"),
        )
    ),
    Layers(
        "encoder.layer",
        (
            *linears("attention.self", "query key", all_heads, true_width),
            Linear("attention.self.value", all_heads, value_inputs),
            Linear("attention.output.dense", true_width, true_width),
            Norm("attention.output.LayerNorm", true_width),
            *MOBILE_FEED_FORWARD,
            When(
                "use_bottleneck",
                Linear("output.bottleneck.dense", WIDTH, true_width),
                Norm("output.bottleneck.LayerNorm"),
                bottleneck("bottleneck.input"),
                When("key_query_shared_bottleneck", bottleneck("bottleneck.attention")),
            ),
            When(lambda f: further_networks(f) > 0, Each("ffn", further_networks, MOBILE_FEED_FORWARD)),
        ),
        head_dim=quotient(true_width, HEADS),
    ),
)

MOBILEBERT_POOLER = Rest(When("classifier_activation", Linear("pooler.dense", WIDTH, WIDTH)))


def wider(f: Fields) -> bool:
    return f[WIDTH] > f["embedding_size"]


MOBILEBERT_LM = Rest(
    Under(
        "cls.predictions",
        Parameter("bias", ("vocab_size",), "bias"),
        Linear("transform.dense", WIDTH, WIDTH),
        Norm("transform.LayerNorm"),
        When(wider, Linear("dense", lambda f: f[WIDTH] - f["embedding_size"], "vocab_size", False)),
        Linear("decoder", "vocab_size", "embedding_size", UNTIED, UNTIED),
    )
)

# -- SqueezeBERT: grouped convolutions of one token instead of matrices -----------------------------------------------


def grouped(name: str, rows: Size, columns: Size, groups: str) -> Part:
    return Convolution(name, rows, quotient(columns, groups), (1,))


SQUEEZEBERT = Assembly(
    BERT_EMBEDDINGS,
    Layers(
        "encoder.layers",
        (
            *(grouped(f"attention.{name}", WIDTH, WIDTH, f"{name[0]}_groups") for name in ("query", "key", "value")),
            grouped("post_attention.conv1d", WIDTH, WIDTH, "post_attention_groups"),
            Norm("post_attention.layernorm"),
            grouped("intermediate.conv1d", FFN, WIDTH, "intermediate_groups"),
            grouped("output.conv1d", WIDTH, FFN, "output_groups"),
            Norm("output.layernorm"),
        ),
    ),
    POOLER,
)

# -- CANINE: characters, some blocks around them ----------------------------------------------------------------------


def hashed(f: Fields) -> Tensors:
    tables = f.count("num_hash_functions", low=1, high=128)
    width = quotient(WIDTH, "num_hash_functions")
    return tuple(
        t
        for i in range(tables)
        for t in Embedding(f"char_embeddings.HashBucketCodepointEmbedder_{i}", "num_hash_buckets", width)(f)
    )


def character_layer(path: str) -> BodyBuilder:
    return Named(path, At(path, Layers("layer", PLAIN_BERT_LAYER, count=1)))


CANINE = Assembly(
    Rest(
        hashed,
        Embedding("char_embeddings.char_position_embeddings", "num_hash_buckets"),
        Embedding("char_embeddings.token_type_embeddings", "type_vocab_size"),
        Norm("char_embeddings.LayerNorm"),
    ),
    character_layer("initial_char_encoder"),
    Rest(
        Convolution("chars_to_molecules.conv", WIDTH, WIDTH, ("downsampling_rate",)),
        Norm("chars_to_molecules.LayerNorm"),
    ),
    PLAIN_LAYERS,
    Rest(
        Convolution("projection.conv", WIDTH, "2*hidden_size", ("upsampling_kernel_size",)),
        Norm("projection.LayerNorm"),
    ),
    character_layer("final_char_encoder"),
    POOLER,
)


def always_pooled(prefix: str, body: BodyBuilder, head: BodyBuilder = BERT_MLM) -> dict[str, BodyBuilder]:
    """BERT's heads on a body that has its pooler for every one of them."""
    return bert_classes(prefix, body, Rest(), head=head)


# -- RoCBERT: how a character sounds and looks ------------------------------------------------------------------------


def concatenated(f: Fields) -> int:
    width = f[WIDTH]
    for kind in ("pronunciation", "shape"):
        width += f[f"{kind}_embed_dim"] if f.flag(f"enable_{kind}") else 0
    return width


ROC_BERT = Assembly(
    Rest(
        Under(
            "embeddings",
            Embedding("word_embeddings", "vocab_size"),
            Embedding("pronunciation_embed", "pronunciation_vocab_size", "pronunciation_embed_dim"),
            Embedding("shape_embed", "shape_vocab_size", "shape_embed_dim"),
            Embedding("position_embeddings", "max_position_embeddings"),
            Embedding("token_type_embeddings", "type_vocab_size"),
            When("concat_input", Linear("map_inputs_layer", WIDTH, concatenated)),
            Norm("LayerNorm"),
        )
    ),
    bert_layers(),
)
ROC_BERT_CLASSES: dict[str, BodyBuilder] = {
    **bert_classes("roc_bert", ROC_BERT),
    "ForPreTraining": Assembly(At("roc_bert", ROC_BERT, POOLER), BERT_MLM),
}

# -- BertGeneration: BERT without types of tokens ---------------------------------------------------------------------

GENERATION = Assembly(
    Rest(
        Under(
            "embeddings",
            Embedding("word_embeddings", "vocab_size"),
            Embedding("position_embeddings", "max_position_embeddings"),
            Norm("LayerNorm"),
        )
    ),
    bert_layers(),
)
GENERATION_LM = Rest(
    Parameter("lm_head.bias", ("vocab_size",), "bias"), Linear("lm_head.decoder", "vocab_size", WIDTH, UNTIED, UNTIED)
)

# -- Funnel: each list of blocks halves the sequence ------------------------------------------------------------------

INNER = "n_head*d_head"
HEAD_SHAPE: tuple[Size, ...] = ("n_head", "d_head")
FUNNEL_LAYER: tuple[Part, ...] = (
    Linear("attention.q_head", INNER, "d_model", False),
    *linears("attention", "k_head v_head", INNER, "d_model"),
    Linear("attention.post_proj", "d_model", INNER),
    *(Parameter(f"attention.{name}", HEAD_SHAPE) for name in ("r_w_bias", "r_r_bias", "r_s_bias")),
    Parameter("attention.r_kernel", ("d_model", *HEAD_SHAPE)),
    Parameter("attention.seg_embed", (2, *HEAD_SHAPE)),
    Norm("attention.layer_norm", "d_model"),
    Linear("ffn.linear_1", "d_inner", "d_model"),
    Linear("ffn.linear_2", "d_model", "d_inner"),
    Norm("ffn.layer_norm", "d_model"),
)


def funnel_layers(path: str, count: Size, name: str) -> Layers:
    return Layers(
        path,
        FUNNEL_LAYER,
        count=count,
        name=name,
        width="d_model",
        heads="n_head",
        head_dim="d_head",
        ffn="d_inner",
    )


FUNNEL_BASE = Assembly(
    Rest(
        Embedding("embeddings.word_embeddings", "vocab_size", "d_model"),
        Norm("embeddings.layer_norm", "d_model"),
    ),
    Stages(length("block_sizes"), lambda i: funnel_layers(f"encoder.blocks.{i}", entry("block_sizes", i), "encoder")),
)
FUNNEL = Assembly(FUNNEL_BASE, funnel_layers("decoder.layers", "num_decoder_layers", "decoder"))


def funnel_score(outputs: Size) -> BodyBuilder:
    return Rest(
        Linear("classifier.linear_hidden", "d_model", "d_model"), Linear("classifier.linear_out", outputs, "d_model")
    )


FUNNEL_CLASSES: dict[str, BodyBuilder] = {
    "Model": FUNNEL,
    "BaseModel": FUNNEL_BASE,
    "ForMaskedLM": Assembly(At("funnel", FUNNEL), Rest(Linear("lm_head", "vocab_size", "d_model", weight=UNTIED))),
    "ForPreTraining": Assembly(
        At("funnel", FUNNEL),
        Rest(
            Linear("discriminator_predictions.dense", "d_model", "d_model"),
            Linear("discriminator_predictions.dense_prediction", 1, "d_model"),
        ),
    ),
    "ForSequenceClassification": Assembly(At("funnel", FUNNEL_BASE), funnel_score(labels)),
    "ForMultipleChoice": Assembly(At("funnel", FUNNEL_BASE), funnel_score(1)),
    "ForTokenClassification": Assembly(At("funnel", FUNNEL), Rest(Linear("classifier", labels, "d_model"))),
    "ForQuestionAnswering": Assembly(At("funnel", FUNNEL), Rest(Linear("qa_outputs", labels, "d_model"))),
}

CLASSIC_ENCODERS: Mapping[str, Family] = {
    "splinter": Family(
        "Splinter",
        {
            "Model": SPLINTER,
            "ForQuestionAnswering": Assembly(At("splinter", SPLINTER), SPAN_HEAD),
            "ForPreTraining": Assembly(At("splinter", SPLINTER), SPAN_HEAD),
        },
    ),
    "mobilebert": Family("MobileBert", bert_classes("mobilebert", MOBILEBERT, MOBILEBERT_POOLER, head=MOBILEBERT_LM)),
    "squeezebert": Family("SqueezeBert", always_pooled("transformer", SQUEEZEBERT)),
    "canine": Family("Canine", always_pooled("canine", CANINE)),
    "roc_bert": Family("RoCBert", ROC_BERT_CLASSES),
    "bert-generation": Family(
        "BertGeneration",
        {"Encoder": GENERATION, "Decoder": Assembly(At("bert", GENERATION), GENERATION_LM)},
        "Decoder",
        "Encoder",
    ),
    "funnel": Family("Funnel", FUNNEL_CLASSES),
}
