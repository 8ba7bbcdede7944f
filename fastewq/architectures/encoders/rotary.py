"""Text encoders with rotary positions: ModernBERT, NomicBERT, GTE, Jina's, EuroBERT and the encoders after it."""

from __future__ import annotations

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    UNTIED,
    WIDTH,
    Adjusted,
    Assembly,
    At,
    Embedding,
    Expect,
    Family,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    Variant,
    When,
    key_width,
    linears,
    positive,
    query_width,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.encoders.bert import (
    ONE_MATRIX,
    ONE_SCORE,
    POOLER,
    mlm,
    roberta_classes,
)
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Option, Part, head_dim, kv_heads, unless

PIXELS = "3*patch_size*patch_size"
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

# -- ESM C: proteins --------------------------------------------------------------------------------------------------

ESMC = Assembly(
    Rest(Embedding("embed_tokens", "vocab_size"), Norm("norm", bias=False)),
    Layers(
        "layers",
        (
            *linears("self_attn", "q_proj k_proj v_proj", query_width, WIDTH, "attention_bias"),
            Linear("self_attn.o_proj", WIDTH, query_width, "attention_bias"),
            Norm("self_attn.q_norm", bias=False),
            Norm("self_attn.k_norm", bias=False),
            *linears("mlp", "gate_proj up_proj", FFN, WIDTH, "mlp_bias"),
            Linear("mlp.down_proj", WIDTH, FFN, "mlp_bias"),
            Norm("input_layernorm"),
            Norm("post_attention_layernorm"),
        ),
        head_dim=head_dim,
    ),
)
ESMC_CLASSES: dict[str, BodyBuilder] = {
    "Model": ESMC,
    "ForMaskedLM": Assembly(
        At("esmc", ESMC),
        Rest(
            Linear("lm_head.dense", WIDTH, WIDTH),
            Norm("lm_head.layer_norm"),
            Linear("lm_head.decoder", "vocab_size", WIDTH),
        ),
    ),
    "ForSequenceClassification": Assembly(
        At("esmc", ESMC), Rest(Linear("classifier.dense", WIDTH, WIDTH), Linear("classifier.out_proj", labels, WIDTH))
    ),
    "ForTokenClassification": Assembly(At("esmc", ESMC), Rest(Linear("score", labels, WIDTH))),
}

# -- UltraBERT: a llama that reads both ways --------------------------------------------------------------------------

NARROW = "prediction_head_size"
ULTRABERT_CLASSES: dict[str, BodyBuilder] = {
    "Model": EUROBERT,
    "ForMaskedLM": Assembly(
        At("model", EUROBERT),
        Rest(
            Linear("head.linear1", NARROW, WIDTH, False),
            Linear("head.linear2", WIDTH, NARROW, False),
            Linear("head.decoder", "vocab_size", WIDTH, False, UNTIED),
        ),
    ),
    "ForSequenceClassification": Assembly(At("model", EUROBERT), ONE_MATRIX),
    "ForTokenClassification": Assembly(At("model", EUROBERT), ONE_MATRIX),
    "ForQuestionAnswering": Assembly(At("model", EUROBERT), Rest(Linear("qa_outputs", 2, WIDTH))),
}

# -- NeoMME: a text encoder that reads patches of pages, too, and has no norms of its own -----------------------------

NEOMME = Assembly(
    Rest(
        Embedding("embed_tokens.word_embeddings", "vocab_size", "embedding_rank"),
        Linear("embed_tokens.embedding_projection", WIDTH, "embedding_rank", False),
        Norm("patch_embeddings.norm", PIXELS),
        Linear("patch_embeddings.up_proj", f"2*{WIDTH}", PIXELS, False),
        Linear("patch_embeddings.down_proj", WIDTH, f"2*{WIDTH}"),
        Embedding("value_embeddings", "vocab_size", key_width),
    ),
    Layers(
        "layers",
        (
            Linear("self_attn.q_proj", query_width, WIDTH, "attention_bias"),
            *linears("self_attn", "k_proj v_proj", key_width, WIDTH, "attention_bias"),
            Parameter("self_attn.exclusive_self_attention.alpha", (HEADS,)),
            Linear("self_attn.output_projection.gate_proj", query_width, WIDTH, False),
            Linear("self_attn.output_projection.o_proj", WIDTH, query_width, "attention_bias"),
            Linear("mlp.up_proj", FFN, WIDTH, "mlp_bias"),
            Linear("mlp.down_proj", WIDTH, FFN, "mlp_bias"),
            Parameter("lambdas", (2,)),
        ),
        kv_heads=kv_heads,
        head_dim=head_dim,
        norm="none",
    ),
)
NEOMME_CLASSES: dict[str, BodyBuilder] = {
    "Model": NEOMME,
    "ForMaskedLM": Assembly(
        At("model", NEOMME),
        Rest(
            When(
                UNTIED,
                Linear("lm_head", "vocab_size", "embedding_rank", False),
                Linear("unembedding_projection", WIDTH, "embedding_rank", False),
            )
        ),
    ),
    "ForRetrieval": Assembly(
        At("model", NEOMME), Rest(Linear("multi_vector_head.proj", "embedding_dim", WIDTH, False))
    ),
}


def pooled_when_classifying(prefix: str, body: BodyBuilder, head: BodyBuilder) -> dict[str, BodyBuilder]:
    inner = At(prefix, body)
    return {
        "Model": body,
        "ForMaskedLM": Assembly(inner, head),
        "ForSequenceClassification": Assembly(At(prefix, body, POOLER), ONE_MATRIX),
        "ForTokenClassification": Assembly(inner, ONE_MATRIX),
    }


ROTARY_ENCODERS: dict[str, Family] = {
    "modernbert": Family("ModernBert", modernbert_classes()),
    "nomic_bert": Family(
        "NomicBert", pooled_when_classifying("nomic_bert", NOMIC_BERT, mlm("layer_norm", untied=nomic_untied))
    ),
    "gte": Family("Gte", pooled_when_classifying("gte", GTE, GTE_LM)),
    "jina_embeddings_v3": Family("JinaEmbeddingsV3", roberta_classes("roberta", JINA_V3)),
    "eurobert": Family("EuroBert", EUROBERT_CLASSES),
    "esmc": Family("Esmc", ESMC_CLASSES, "ForMaskedLM"),
    "ultrabert": Family("Ultrabert", ULTRABERT_CLASSES),
    "neomme": Family("NeoMME", NEOMME_CLASSES),
}
