"""The text encoders FastEWQ reads: relatives of BERT, each declared by what differs."""

from __future__ import annotations

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    UNTIED,
    WIDTH,
    Assembly,
    At,
    Convolution,
    Embedding,
    Family,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    Stages,
    Under,
    Variant,
    When,
    equals,
    linears,
    plus,
    quotient,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.encoders.bert import (
    BERT,
    BERT_EMBEDDINGS,
    BERT_FEED_FORWARD,
    BERT_MLM,
    CROSS_ATTENTION,
    DENSE_CLASSIFIER,
    ONE_MATRIX,
    ONE_SCORE,
    POOLER,
    POST_NORMS,
    ROBERTA,
    ROBERTA_PRE_NORM,
    SELF_ATTENTION,
    START_AND_END,
    XLM_ROBERTA_XL,
    bert_classes,
    bert_layers,
    embedding_width,
    mlm,
    roberta_classes,
    roberta_lm,
    widened,
    word_embeddings,
)
from fastewq.architectures.encoders.deberta import DEBERTA_LINE
from fastewq.architectures.encoders.rotary import ROTARY_ENCODERS
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Part, Tensors, prefixed, present, unless

# -- embeddings narrower than the blocks: ELECTRA, RoFormer, ConvBERT, RemBERT, ALBERT ------------------------------


PROJECTED = Rest(When(widened, Linear("embeddings_project", WIDTH, embedding_width)))
NARROW_EMBEDDINGS = Assembly(word_embeddings(embedding_width), PROJECTED)
ELECTRA = Assembly(NARROW_EMBEDDINGS, bert_layers())
GENERATOR = Rest(
    Norm("generator_predictions.LayerNorm", embedding_width),
    Linear("generator_predictions.dense", embedding_width, WIDTH),
    Linear("generator_lm_head", "vocab_size", embedding_width, weight=UNTIED),
)


SUMMARY = Rest(When("summary_use_proj", Linear("sequence_summary.summary", WIDTH, WIDTH)))
ELECTRA_CLASSES: dict[str, BodyBuilder] = {
    **roberta_classes("electra", ELECTRA, Rest(), head=GENERATOR),
    "ForMultipleChoice": Assembly(At("electra", ELECTRA), SUMMARY, ONE_SCORE),
    "ForPreTraining": Assembly(
        At("electra", ELECTRA),
        Rest(
            Linear("discriminator_predictions.dense", WIDTH, WIDTH),
            Linear("discriminator_predictions.dense_prediction", 1, WIDTH),
        ),
    ),
}
ROFORMER = Assembly(
    Rest(
        Embedding("embeddings.word_embeddings", "vocab_size", embedding_width),
        Embedding("embeddings.token_type_embeddings", "type_vocab_size", embedding_width),
        Norm("embeddings.LayerNorm", embedding_width),
        Embedding("encoder.embed_positions", "max_position_embeddings", quotient(WIDTH, HEADS)),
    ),
    PROJECTED,
    bert_layers(),
)

ROFORMER_CLASSES: dict[str, BodyBuilder] = {
    **roberta_classes("roformer", ROFORMER, Rest(), head=mlm(width=embedding_width)),
    "ForQuestionAnswering": Assembly(At("roformer", ROFORMER), START_AND_END),
}


def convbert_heads(f: Fields) -> int:
    """Attention heads left after the convolution took its share; at least one."""
    return max(f[HEADS] // f["head_ratio"], 1)


def convbert_inner(f: Fields) -> int:
    return convbert_heads(f) * (f[WIDTH] // convbert_heads(f) // 2)


def convbert_kernels(f: Fields) -> int:
    return convbert_heads(f) * f["conv_kernel_size"]


def grouped(name: str, rows: Size, columns: Size) -> Part:
    """One matrix, or `num_groups` smaller ones in one tensor."""
    part = Under(
        name,
        Parameter("weight", ("num_groups", quotient(columns, "num_groups"), quotient(rows, "num_groups")), "linear"),
        Parameter("bias", (rows,), "bias"),
    )
    one = equals("num_groups", 1)
    return lambda f: (*When(one, Linear(name, rows, columns))(f), *When(unless(one), part)(f))


CONVBERT = Assembly(
    NARROW_EMBEDDINGS,
    Layers(
        "encoder.layer",
        (
            *linears("attention.self", "query key value", convbert_inner),
            Parameter("attention.self.key_conv_attn_layer.bias", (convbert_inner, 1), "bias"),
            Parameter("attention.self.key_conv_attn_layer.depthwise.weight", (WIDTH, 1, "conv_kernel_size"), "conv"),
            Parameter("attention.self.key_conv_attn_layer.pointwise.weight", (convbert_inner, WIDTH, 1), "conv"),
            Linear("attention.self.conv_kernel_layer", convbert_kernels, convbert_inner),
            Linear("attention.self.conv_out_layer", convbert_inner, WIDTH),
            Linear("attention.output.dense", WIDTH, WIDTH),
            grouped("intermediate.dense", FFN, WIDTH),
            grouped("output.dense", WIDTH, FFN),
            *POST_NORMS,
        ),
    ),
)
CONVBERT_CLASSES = roberta_classes("convbert", CONVBERT, Rest(), head=GENERATOR)

REMBERT = Assembly(
    word_embeddings("input_embedding_size"),
    Rest(Linear("encoder.embedding_hidden_mapping_in", WIDTH, "input_embedding_size")),
    bert_layers(),
)
REMBERT_LM = Rest(
    Linear("cls.predictions.dense", "output_embedding_size", WIDTH),
    Linear("cls.predictions.decoder", "vocab_size", "output_embedding_size"),
    Norm("cls.predictions.LayerNorm", "output_embedding_size"),
)

ALBERT = Assembly(
    word_embeddings("embedding_size"),
    Rest(Linear("encoder.embedding_hidden_mapping_in", WIDTH, "embedding_size")),
    Stages(
        "num_hidden_groups",
        lambda i: Layers(
            f"encoder.albert_layer_groups.{i}.albert_layers",
            (
                Norm("full_layer_layer_norm"),
                *linears("attention", "query key value dense"),
                Norm("attention.LayerNorm"),
                Linear("ffn", FFN, WIDTH),
                Linear("ffn_output", WIDTH, FFN),
            ),
            count="inner_group_num",
        ),
    ),
)
ALBERT_MLM = Rest(
    Parameter("predictions.bias", ("vocab_size",), "bias"),
    Norm("predictions.LayerNorm", "embedding_size"),
    Linear("predictions.dense", "embedding_size", WIDTH),
    Linear("predictions.decoder", "vocab_size", "embedding_size", bias=UNTIED, weight=UNTIED),
)
PLAIN_POOLER = Rest(Linear("pooler", WIDTH, WIDTH))
ALBERT_CLASSES: dict[str, BodyBuilder] = {
    **bert_classes("albert", ALBERT, PLAIN_POOLER, head=ALBERT_MLM),
    "ForPreTraining": Assembly(
        At("albert", ALBERT, PLAIN_POOLER), ALBERT_MLM, Rest(Linear("sop_classifier.classifier", labels, WIDTH))
    ),
}

# -- other attention: DistilBERT, MPNet, Longformer, ESM ------------------------------------------------------------

DISTILBERT = Assembly(
    Rest(
        Embedding("embeddings.word_embeddings", "vocab_size", "dim"),
        Embedding("embeddings.position_embeddings", "max_position_embeddings", "dim"),
        Norm("embeddings.LayerNorm", "dim"),
    ),
    Layers(
        "transformer.layer",
        (
            *linears("attention", "q_lin k_lin v_lin out_lin", "dim", "dim"),
            Norm("sa_layer_norm", "dim"),
            Linear("ffn.lin1", "hidden_dim", "dim"),
            Linear("ffn.lin2", "dim", "hidden_dim"),
            Norm("output_layer_norm", "dim"),
        ),
        count="n_layers",
        width="dim",
        heads="n_heads",
        ffn="hidden_dim",
    ),
)


def distilbert_classes() -> dict[str, BodyBuilder]:
    body, pooled = At("distilbert", DISTILBERT), Rest(Linear("pre_classifier", "dim", "dim"))
    head = Rest(
        Linear("vocab_transform", "dim", "dim"),
        Norm("vocab_layer_norm", "dim"),
        Linear("vocab_projector", "vocab_size", "dim", weight=UNTIED),
    )
    return {
        "Model": DISTILBERT,
        "ForMaskedLM": Assembly(body, head),
        "ForSequenceClassification": Assembly(body, pooled, Rest(Linear("classifier", labels, "dim"))),
        "ForMultipleChoice": Assembly(body, pooled, Rest(Linear("classifier", 1, "dim"))),
        "ForTokenClassification": Assembly(body, Rest(Linear("classifier", labels, WIDTH))),
        "ForQuestionAnswering": Assembly(body, Rest(Linear("qa_outputs", labels, "dim"))),
    }


MPNET = Assembly(
    Rest(
        Embedding("embeddings.word_embeddings", "vocab_size"),
        Embedding("embeddings.position_embeddings", "max_position_embeddings"),
        Norm("embeddings.LayerNorm"),
        Embedding("encoder.relative_attention_bias", "relative_attention_num_buckets", HEADS),
    ),
    Layers(
        "encoder.layer",
        (
            *linears("attention.attn", "q k v o"),
            Norm("attention.LayerNorm"),
            *BERT_FEED_FORWARD,
            Norm("output.LayerNorm"),
        ),
    ),
)


LONGFORMER = Assembly(BERT_EMBEDDINGS, bert_layers(*linears("attention.self", "query_global key_global value_global")))


def pre_norm_layers(norm: str) -> Layers:
    """BERT's blocks with norms, of this name, before attention and feed-forward."""
    return Layers(
        "encoder.layer",
        (
            *SELF_ATTENTION,
            Norm(f"attention.{norm}"),
            *BERT_FEED_FORWARD,
            Norm(norm),
            When("add_cross_attention", *CROSS_ATTENTION, Norm(f"crossattention.{norm}")),
        ),
    )


ESM = Assembly(
    Rest(
        Embedding("embeddings.word_embeddings", "vocab_size"),
        When("emb_layer_norm_before", Norm("embeddings.layer_norm")),
        When(
            equals("position_embedding_type", "absolute"),
            Embedding("embeddings.position_embeddings", "max_position_embeddings"),
        ),
        Norm("encoder.emb_layer_norm_after"),
        Linear("contact_head.regression", 1, "num_hidden_layers*num_attention_heads"),
    ),
    pre_norm_layers("LayerNorm"),
)
MEGATRON_BERT = Assembly(
    Rest(
        Embedding("embeddings.word_embeddings", "vocab_size"),
        Embedding("embeddings.position_embeddings", "max_position_embeddings"),
        Embedding("embeddings.token_type_embeddings", "type_vocab_size"),
        Norm("encoder.ln"),
    ),
    pre_norm_layers("ln"),
)
BIG_BIRD = Assembly(
    BERT_EMBEDDINGS,
    Layers(
        "encoder.layer",
        (
            *linears("attention.self", "query key value", bias="use_bias"),
            Linear("attention.output.dense", WIDTH, WIDTH),
            *BERT_FEED_FORWARD,
            *POST_NORMS,
            When(
                "add_cross_attention",
                *linears("crossattention.self", "query key value", bias="use_bias"),
                Linear("crossattention.output.dense", WIDTH, WIDTH),
                Norm("crossattention.output.LayerNorm"),
            ),
        ),
    ),
)
BIG_BIRD_POOLED = At("bert", BIG_BIRD, PLAIN_POOLER)
BIG_BIRD_CLASSES: dict[str, BodyBuilder] = {
    **bert_classes("bert", BIG_BIRD, PLAIN_POOLER),
    "ForMaskedLM": Assembly(BIG_BIRD_POOLED, BERT_MLM),
    "ForCausalLM": Assembly(BIG_BIRD_POOLED, BERT_MLM),
    "ForSequenceClassification": Assembly(BIG_BIRD_POOLED, DENSE_CLASSIFIER),
    "ForTokenClassification": Assembly(BIG_BIRD_POOLED, ONE_MATRIX),
    "ForQuestionAnswering": Assembly(
        At("bert", BIG_BIRD),
        Rest(
            Linear("qa_classifier.intermediate.dense", FFN, WIDTH),
            Linear("qa_classifier.output.dense", WIDTH, FFN),
            Norm("qa_classifier.output.LayerNorm"),
            Linear("qa_classifier.qa_outputs", 2, WIDTH),
        ),
    ),
}

# -- adapters and convolutions: ERNIE, X-MOD, Nyströmformer, FNet ---------------------------------------------------

ERNIE = Assembly(
    word_embeddings(WIDTH, When("use_task_id", Embedding("task_type_embeddings", "task_type_vocab_size"))),
    bert_layers(),
)


def languages(f: Fields) -> Tensors:
    """One adapter per language."""
    names = f.value("languages")
    if not isinstance(names, list | tuple) or len(names) > 512 or not all(isinstance(n, str) for n in names):
        raise f.refuse("languages", names, "a list of at most 512 names")
    inner = quotient(WIDTH, "adapter_reduction_factor")
    adapter = (*Linear("dense1", inner, WIDTH)(f), *Linear("dense2", WIDTH, inner)(f))
    return tuple(t for name in names for t in prefixed(f"output.adapter_modules.{name}", adapter))


XMOD = Assembly(
    BERT_EMBEDDINGS,
    bert_layers(When("adapter_layer_norm", Norm("output.adapter_layer_norm")), languages),
    Rest(When("pre_norm", Norm("encoder.LayerNorm"))),
)


def past_padding(*extra: Part) -> Assembly:
    """BERT with two more positions: Nyströmformer, YOSO and MRA."""
    layers = Layers("encoder.layer", (*SELF_ATTENTION, *BERT_FEED_FORWARD, *POST_NORMS, *extra))
    return Assembly(word_embeddings(positions=plus("max_position_embeddings", 2)), layers)


def head_convolution(kernel: str) -> Part:
    return When(present(kernel), Convolution("attention.self.conv", HEADS, 1, (kernel, 1), bias=False))


PRE_CLASSIFIED_CHOICE = Rest(Linear("pre_classifier", WIDTH, WIDTH), Linear("classifier", 1, WIDTH))


def unpooled_classes(prefix: str, body: BodyBuilder) -> dict[str, BodyBuilder]:
    """Nyströmformer, YOSO and MRA: BERT's language head, RoBERTa's classifier, no pooler."""
    return {
        **roberta_classes(prefix, body, Rest(), head=BERT_MLM),
        "ForMultipleChoice": Assembly(At(prefix, body), PRE_CLASSIFIED_CHOICE),
        "ForQuestionAnswering": Assembly(At(prefix, body), START_AND_END),
    }


FNET = Assembly(
    BERT_EMBEDDINGS,
    Rest(Linear("embeddings.projection", WIDTH, WIDTH)),
    Layers(
        "encoder.layer",
        (Norm("fourier.output.LayerNorm"), *BERT_FEED_FORWARD, Norm("output.LayerNorm")),
        heads=0,
        head_dim=0,
        variants={"": Variant(mixer="none")},
    ),
)

ENCODERS: dict[str, Family] = {
    **DEBERTA_LINE,
    **ROTARY_ENCODERS,
    "bert": Family("Bert", bert_classes("bert", BERT)),
    "ernie": Family("Ernie", bert_classes("ernie", ERNIE)),
    "roberta": Family("Roberta", ROBERTA),
    "xlm-roberta": Family("XLMRoberta", ROBERTA),
    "camembert": Family("Camembert", ROBERTA),
    "data2vec-text": Family("Data2VecText", roberta_classes("data2vec_text", BERT)),
    "ibert": Family("IBert", roberta_classes("ibert", BERT)),
    "roberta-prelayernorm": Family("RobertaPreLayerNorm", roberta_classes("roberta_prelayernorm", ROBERTA_PRE_NORM)),
    "xlm-roberta-xl": Family("XLMRobertaXL", roberta_classes("roberta", XLM_ROBERTA_XL)),
    "xmod": Family("Xmod", roberta_classes("roberta", XMOD)),
    "electra": Family("Electra", ELECTRA_CLASSES),
    "roformer": Family("RoFormer", ROFORMER_CLASSES),
    "convbert": Family("ConvBert", CONVBERT_CLASSES),
    "rembert": Family("RemBert", bert_classes("rembert", REMBERT, head=REMBERT_LM)),
    "albert": Family("Albert", ALBERT_CLASSES),
    "distilbert": Family("DistilBert", distilbert_classes()),
    "mpnet": Family("MPNet", roberta_classes("mpnet", MPNET)),
    "longformer": Family("Longformer", roberta_classes("longformer", LONGFORMER)),
    "big_bird": Family("BigBird", BIG_BIRD_CLASSES),
    "megatron-bert": Family("MegatronBert", bert_classes("bert", MEGATRON_BERT)),
    "esm": Family("Esm", roberta_classes("esm", ESM, head=roberta_lm(decoder_bias=False))),
    "nystromformer": Family(
        "Nystromformer", unpooled_classes("nystromformer", past_padding(head_convolution("conv_kernel_size")))
    ),
    "yoso": Family("Yoso", unpooled_classes("yoso", past_padding(head_convolution("conv_window")))),
    "mra": Family("Mra", unpooled_classes("mra", past_padding())),
    "fnet": Family("FNet", bert_classes("fnet", Assembly(FNET, POOLER), Rest())),
}
