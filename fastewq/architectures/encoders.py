"""The text encoders FastEWQ reads: relatives of BERT, each declared by what differs."""

from __future__ import annotations

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    UNTIED,
    WIDTH,
    Adjusted,
    Assembly,
    At,
    Convolution,
    Embedding,
    Expect,
    Family,
    Layers,
    Linear,
    Norm,
    Only,
    Parameter,
    Rest,
    Stages,
    Under,
    Variant,
    When,
    either,
    equals,
    key_width,
    labels,
    linears,
    plus,
    positive,
    present,
    query_width,
    quotient,
    unless,
)
from fastewq.architectures.bert import (
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
    SPAN,
    START_AND_END,
    XLM_ROBERTA_XL,
    bert_classes,
    bert_layers,
    mlm,
    roberta_classes,
    roberta_lm,
    word_embeddings,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import MAX_SIZE, Fields, Size
from fastewq.architectures.parts import Option, Part, Tensors, head_dim, kv_heads, prefixed

# -- embeddings narrower than the blocks: ELECTRA, RoFormer, ConvBERT, RemBERT, ALBERT ------------------------------


def embedding_width(f: Fields) -> int:
    return f.optional_size("embedding_size") or f[WIDTH]


def widened(f: Fields) -> bool:
    return embedding_width(f) != f[WIDTH]


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
ALBERT_POOLER = Rest(Linear("pooler", WIDTH, WIDTH))
ALBERT_CLASSES: dict[str, BodyBuilder] = {
    **bert_classes("albert", ALBERT, ALBERT_POOLER, head=ALBERT_MLM),
    "ForPreTraining": Assembly(
        At("albert", ALBERT, ALBERT_POOLER), ALBERT_MLM, Rest(Linear("sop_classifier.classifier", labels, WIDTH))
    ),
}

# -- other attention: DistilBERT, MPNet, DeBERTa, Longformer, ESM ---------------------------------------------------

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


DEBERTA_V2 = Assembly(
    DEBERTA_EMBEDDINGS,
    Layers(
        "encoder.layer",
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
        When("relative_attention", Embedding("encoder.rel_embeddings", deberta_relative_positions)),
        When(normed_positions, Norm("encoder.LayerNorm")),
        When(
            positive("conv_kernel_size"),
            Convolution(
                "encoder.conv.conv",
                WIDTH,
                conv_inputs,
                ("conv_kernel_size",),
            ),
            Norm("encoder.conv.LayerNorm"),
        ),
    ),
)


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
DEBERTA_POOLED = either("pooler_hidden_size", WIDTH)
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


LONGFORMER = Assembly(BERT_EMBEDDINGS, bert_layers(*linears("attention.self", "query_global key_global value_global")))
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
    Layers(
        "encoder.layer",
        (
            *SELF_ATTENTION,
            Norm("attention.LayerNorm"),
            *BERT_FEED_FORWARD,
            Norm("LayerNorm"),
            When("add_cross_attention", *CROSS_ATTENTION, Norm("crossattention.LayerNorm")),
        ),
    ),
)
MEGATRON_BERT = Assembly(
    Rest(
        Embedding("embeddings.word_embeddings", "vocab_size"),
        Embedding("embeddings.position_embeddings", "max_position_embeddings"),
        Embedding("embeddings.token_type_embeddings", "type_vocab_size"),
        Norm("encoder.ln"),
    ),
    Layers(
        "encoder.layer",
        (
            *SELF_ATTENTION,
            Norm("attention.ln"),
            *BERT_FEED_FORWARD,
            Norm("ln"),
            When("add_cross_attention", *CROSS_ATTENTION, Norm("crossattention.ln")),
        ),
    ),
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
BIG_BIRD_POOLER = Rest(Linear("pooler", WIDTH, WIDTH))
BIG_BIRD_POOLED = At("bert", BIG_BIRD, BIG_BIRD_POOLER)
BIG_BIRD_CLASSES: dict[str, BodyBuilder] = {
    **bert_classes("bert", BIG_BIRD, BIG_BIRD_POOLER),
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

# -- rotary positions: ModernBERT, NomicBERT, GTE, Jina, EuroBERT ---------------------------------------------------

MODERN_NORM: Option = "norm_bias"
MODERNBERT = Assembly(
    Rest(
        Embedding("embeddings.tok_embeddings", "vocab_size"),
        Norm("embeddings.norm", bias=MODERN_NORM),
        Norm("final_norm", bias=MODERN_NORM),
    ),
    Layers(
        "layers",
        (
            Linear("attn.Wqkv", "3*hidden_size", WIDTH, "attention_bias"),
            Linear("attn.Wo", WIDTH, WIDTH, "attention_bias"),
            Linear("mlp.Wi", "2*intermediate_size", WIDTH, "mlp_bias"),
            Linear("mlp.Wo", WIDTH, FFN, "mlp_bias"),
            Norm("mlp_norm", bias=MODERN_NORM),
        ),
        variants={"first": Variant(), "later": Variant((Norm("attn_norm", bias=MODERN_NORM),))},
        schedule=lambda _, count: ["first", *["later"] * (count - 1)][:count],
    ),
)


def modernbert_classes() -> dict[str, BodyBuilder]:
    inner = At("model", MODERNBERT)
    head = Rest(Linear("head.dense", WIDTH, WIDTH, "classifier_bias"), Norm("head.norm", bias=MODERN_NORM))
    return {
        "Model": MODERNBERT,
        "ForMaskedLM": Assembly(inner, head, Rest(Linear("decoder", "vocab_size", WIDTH, "decoder_bias", UNTIED))),
        "ForSequenceClassification": Assembly(inner, head, ONE_MATRIX),
        "ForTokenClassification": Assembly(inner, head, ONE_MATRIX),
        "ForQuestionAnswering": Assembly(inner, head, ONE_MATRIX),
        "ForMultipleChoice": Assembly(inner, head, ONE_SCORE),
    }


def rotary_layer(attention_bias: Option) -> tuple[Part, ...]:
    """Separate projections below `self_attn`, norms after attention and after the feed-forward."""
    return (
        *linears("self_attn", "q_proj k_proj v_proj", query_width, WIDTH, attention_bias),
        Linear("self_attn.o_proj", WIDTH, query_width, attention_bias),
        Norm("post_attention_layernorm"),
        Norm("post_mlp_layernorm"),
    )


ROTARY_EMBEDDINGS = Rest(
    Embedding("embeddings.word_embeddings", "vocab_size"),
    When(positive("type_vocab_size"), Embedding("embeddings.token_type_embeddings", "type_vocab_size")),
    Norm("embeddings.LayerNorm"),
)


def gated_mlp(down_bias: Option = False) -> tuple[Part, ...]:
    return (*linears("mlp", "gate_proj up_proj", FFN, WIDTH, False), Linear("mlp.down_proj", WIDTH, FFN, down_bias))


HEAD_WIDTH = quotient(WIDTH, HEADS)


def nomic_untied(f: Fields) -> bool:
    return not f.flag("tie_word_embeddings", True)


NOMIC_SPELLINGS = {
    "n_embd": WIDTH,
    "n_head": HEADS,
    "n_layer": "num_hidden_layers",
    "n_inner": FFN,
}
"""As the files say it that were written for the code in their repository."""


def nomic_gated(f: Fields) -> bool:
    return f.value("activation_function", "swiglu") in ("swiglu", "geglu", "glu")


def nomic_flag(name: str) -> Option:
    return lambda f: f.flag(name, False)


def nomic_schedule(f: Fields, count: int) -> list[str]:
    """nomic-ai/nomic-embed-text-v2-moe: experts in every second layer, beginning with the second."""
    every = f.count("moe_every_n_layers", 0)
    return ["experts" if every and i % every == 1 else "dense" for i in range(count)]


NOMIC_DENSE = (
    When(nomic_gated, *gated_mlp()),
    When(
        unless(nomic_gated),
        Linear("mlp.fc1", FFN, WIDTH, nomic_flag("mlp_fc1_bias")),
        Linear("mlp.fc2", WIDTH, FFN, nomic_flag("mlp_fc2_bias")),
    ),
)
NOMIC_EXPERTS = (
    Linear("mlp.router.layer", "num_experts", WIDTH, False, role="router"),
    Parameter("mlp.experts.mlp.w1", ("num_experts", FFN, WIDTH), "experts"),
    Parameter("mlp.experts.mlp.w2", ("num_experts", FFN, WIDTH), "experts"),
    Parameter("mlp.experts.bias", (WIDTH,), "bias"),
)
NOMIC_BERT = Adjusted(
    Assembly(
        Expect("rotary_emb_fraction", 1.0, 1),
        Expect("num_shared_experts", 0),
        ROTARY_EMBEDDINGS,
        Layers(
            "layers",
            rotary_layer(nomic_flag("qkv_proj_bias")),
            head_dim=head_dim,
            experts=lambda f: f.count("num_experts", 0),
            variants={"dense": Variant(NOMIC_DENSE), "experts": Variant(NOMIC_EXPERTS, feed_forward="experts")},
            schedule=nomic_schedule,
        ),
    ),
    lambda f: f.renamed(NOMIC_SPELLINGS),
)
GTE = Assembly(ROTARY_EMBEDDINGS, Layers("layers", (*rotary_layer(True), *gated_mlp(True)), head_dim=head_dim))
GTE_LM = Rest(
    Linear("lm_head.dense", WIDTH, WIDTH),
    Norm("lm_head.layer_norm"),
    Linear("lm_head.decoder", "vocab_size", WIDTH, weight=UNTIED),
)
JINA_V3 = Assembly(
    ROTARY_EMBEDDINGS,
    Layers(
        "layers",
        (*rotary_layer(True), Linear("mlp.fc1", FFN, WIDTH), Linear("mlp.fc2", WIDTH, FFN)),
        head_dim=head_dim,
    ),
)
EUROBERT = Assembly(
    Rest(Embedding("embed_tokens", "vocab_size"), Norm("norm", bias=False)),
    Layers(
        "layers",
        (
            Linear("self_attn.q_proj", query_width, WIDTH, "attention_bias"),
            *linears("self_attn", "k_proj v_proj", key_width, WIDTH, "attention_bias"),
            Linear("self_attn.o_proj", WIDTH, query_width, "attention_bias"),
            *linears("mlp", "gate_proj up_proj", FFN, WIDTH, "mlp_bias"),
            Linear("mlp.down_proj", WIDTH, FFN, "mlp_bias"),
            Norm("input_layernorm", bias=False),
            Norm("post_attention_layernorm", bias=False),
        ),
        kv_heads=kv_heads,
        head_dim=head_dim,
        norm="rms",
    ),
)
EUROBERT_CLASSES: dict[str, BodyBuilder] = {
    "Model": EUROBERT,
    "ForMaskedLM": Assembly(At("model", EUROBERT), Rest(Linear("lm_head", "vocab_size", WIDTH, "mlp_bias", UNTIED))),
    "ForSequenceClassification": Assembly(At("model", EUROBERT), Rest(Linear("dense", WIDTH, WIDTH)), ONE_MATRIX),
    "ForTokenClassification": Assembly(At("model", EUROBERT), ONE_MATRIX),
}


def pooled_when_classifying(prefix: str, body: BodyBuilder, head: BodyBuilder) -> dict[str, BodyBuilder]:
    inner = At(prefix, body)
    return {
        "Model": body,
        "ForMaskedLM": Assembly(inner, head),
        "ForSequenceClassification": Assembly(At(prefix, body, POOLER), ONE_MATRIX),
        "ForTokenClassification": Assembly(inner, ONE_MATRIX),
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
    inner = f[WIDTH] // f["adapter_reduction_factor"]
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
    "deberta": Family("Deberta", deberta_classes(DEBERTA)),
    "deberta-v2": Family("DebertaV2", deberta_classes(DEBERTA_V2)),
    "longformer": Family("Longformer", roberta_classes("longformer", LONGFORMER)),
    "big_bird": Family("BigBird", BIG_BIRD_CLASSES),
    "megatron-bert": Family("MegatronBert", bert_classes("bert", MEGATRON_BERT)),
    "esm": Family("Esm", roberta_classes("esm", ESM, head=roberta_lm(decoder_bias=False))),
    "modernbert": Family("ModernBert", modernbert_classes()),
    "nomic_bert": Family(
        "NomicBert", pooled_when_classifying("nomic_bert", NOMIC_BERT, mlm("layer_norm", untied=nomic_untied))
    ),
    "gte": Family("Gte", pooled_when_classifying("gte", GTE, GTE_LM)),
    "jina_embeddings_v3": Family("JinaEmbeddingsV3", roberta_classes("roberta", JINA_V3)),
    "eurobert": Family("EuroBert", EUROBERT_CLASSES),
    "nystromformer": Family(
        "Nystromformer", unpooled_classes("nystromformer", past_padding(head_convolution("conv_kernel_size")))
    ),
    "yoso": Family("Yoso", unpooled_classes("yoso", past_padding(head_convolution("conv_window")))),
    "mra": Family("Mra", unpooled_classes("mra", past_padding())),
    "fnet": Family("FNet", bert_classes("fnet", Assembly(FNET, POOLER), Rest())),
}
