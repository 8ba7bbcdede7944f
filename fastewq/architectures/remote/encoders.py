"""Encoders of text whose code lies in the model's repository and is never run.

XLM-RoBERTa with rotary positions and adapters: jinaai/jina-embeddings-v3, whose code is that of
jinaai/xlm-roberta-flash-implementation, modeling_xlm_roberta.py and modeling_lora.py.

BERT with ALiBi and gated feed-forwards: mosaicml/mosaic-bert-base, bert_layers.py; jinaai/jina-embeddings-v2-base-en,
whose code is that of jinaai/jina-bert-implementation, modeling_bert.py (text-embeddings-inference, models/jina.rs and
jina_code.rs).

ESM with gated feed-forwards: InstaDeepAI/nucleotide-transformer-v2-50m-multi-species, modeling_esm.py.

Their configs say `xlm-roberta`, `bert` or `esm`, as those of the transformers library do; `meant` of
`fastewq.architectures` tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    FFN,
    WIDTH,
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
    When,
    assuming,
    times,
)
from fastewq.architectures.encoders.bert import SELF_ATTENTION, bert_classes, roberta_classes, roberta_lm
from fastewq.architectures.fields import MAX_LAYERS, Fields, Size
from fastewq.architectures.heads import Model, labels
from fastewq.architectures.parts import Part, unless
from fastewq.architectures.remote.heads import one_class, tied_by_default


def tasks(f: Fields) -> int:
    """The tasks that have adapters."""
    named = f.value("lora_adaptations", None)
    if not isinstance(named, list | tuple) or len(named) > MAX_LAYERS:
        raise f.refuse("lora_adaptations", named, "a list of tasks")
    return len(named)


def has_adapters(f: Fields) -> bool:
    return bool(f.value("lora_adaptations", None))


def rank(f: Fields) -> int:
    return f.size("lora_rank", 4)


def adapted(name: str, rows: Size, columns: Size) -> Part:
    """Two matrices of low rank for each task, whose product is added to a weight."""
    at = f"{name}.parametrizations.weight.0"
    return When(
        has_adapters,
        Parameter(f"{at}.lora_A", (tasks, rank, columns)),
        Parameter(f"{at}.lora_B", (tasks, rows, rank)),
    )


def matrix(name: str, rows: Size, columns: Size) -> tuple[Part, ...]:
    return Linear(name, rows, columns), adapted(name, rows, columns)


def table(name: str, rows: Size) -> tuple[Part, ...]:
    return Embedding(name, rows), adapted(name, rows, WIDTH)


FLASH = Assembly(
    Expect("position_embedding_type", "rotary"),
    Rest(
        *table("embeddings.word_embeddings", "vocab_size"),
        *table("embeddings.token_type_embeddings", "type_vocab_size"),
        Norm("emb_ln"),
    ),
    Layers(
        "encoder.layers",
        (
            *matrix("mixer.Wqkv", "3*hidden_size", WIDTH),
            *matrix("mixer.out_proj", WIDTH, WIDTH),
            Norm("norm1"),
            *matrix("mlp.fc1", FFN, WIDTH),
            *matrix("mlp.fc2", WIDTH, FFN),
            Norm("norm2"),
        ),
    ),
)
FLASH_DEFAULTS = {
    "vocab_size": 250002,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "type_vocab_size": 1,
    "position_embedding_type": "rotary",
}
ALIBI_EMBEDDINGS = Rest(
    Embedding("embeddings.word_embeddings", "vocab_size"),
    Embedding("embeddings.token_type_embeddings", "type_vocab_size"),
    Norm("embeddings.LayerNorm"),
)
GATED: tuple[Part, ...] = (
    Norm("attention.output.LayerNorm"),
    Linear("mlp.gated_layers", times(2, FFN), WIDTH, False),
    Linear("mlp.wo", WIDTH, FFN),
    Norm("mlp.layernorm"),
)
FUSED_ATTENTION: tuple[Part, ...] = (
    Linear("attention.self.Wqkv", "3*hidden_size", WIDTH),
    Linear("attention.output.dense", WIDTH, WIDTH),
)
NORMALIZED: tuple[Part, ...] = (
    *(Norm(f"attention.{name}") for name in ("self.layer_norm_q", "self.layer_norm_k", "output.LayerNorm")),
    Linear("mlp.up_gated_layer", times(2, FFN), WIDTH, False),
    Linear("mlp.down_layer", WIDTH, FFN),
    Norm("layer_norm_1"),
    Norm("layer_norm_2"),
)
"""What jinaai/jina-bert-v2-qk-post-norm has instead, the code of jina-embeddings-v2-base-code and of the rerankers."""


def normalizes_queries(f: Fields) -> bool:
    """Whether `auto_map` names the second of the two repositories; nothing else in these configs tells them apart."""
    named = f.value("auto_map", None)
    return isinstance(named, Mapping) and any("qk-post-norm" in str(place)[:200] for place in named.values())


JINA = Assembly(
    Expect("feed_forward_type", "geglu", "reglu"),
    ALIBI_EMBEDDINGS,
    Layers(
        "encoder.layer",
        (*SELF_ATTENTION, When(unless(normalizes_queries), *GATED), When(normalizes_queries, *NORMALIZED)),
    ),
)
MOSAIC = Assembly(
    Expect("long_conv_l_max", None), ALIBI_EMBEDDINGS, Layers("encoder.layer", (*FUSED_ATTENTION, *GATED))
)
TASKS = ("Model", "ForMaskedLM", "ForSequenceClassification")


def alibi_bert(prefix: str, body: Assembly) -> Family:
    classes = {task: assuming(built, tie_word_embeddings=True) for task, built in bert_classes("bert", body).items()}
    return Family(prefix, classes, classes=tuple(f"{prefix}{task}" for task in TASKS), tied=tied_by_default)


# -- Nucleotide Transformer 2: its table of positions is there, with rotary positions too ------------------------------

NUCLEOTIDES = Assembly(
    Expect("position_embedding_type", "absolute", "rotary"),
    Rest(
        Embedding("embeddings.word_embeddings", "vocab_size"),
        When("emb_layer_norm_before", Norm("embeddings.layer_norm")),
        Embedding("embeddings.position_embeddings", "max_position_embeddings"),
        Norm("encoder.emb_layer_norm_after"),
        Linear("contact_head.regression", 1, "num_hidden_layers*num_attention_heads"),
    ),
    Layers(
        "encoder.layer",
        (
            *SELF_ATTENTION,
            Norm("attention.LayerNorm"),
            Linear("intermediate.dense", times(2, FFN), WIDTH, "add_bias_fnn"),
            Linear("output.dense", WIDTH, FFN, "add_bias_fnn"),
            Norm("LayerNorm"),
        ),
    ),
)

# -- NeoBERT: chandar-lab/NeoBERT, model.py ----------------------------------------------------------------------------


def neo_inner(f: Fields) -> int:
    """Two thirds, since a gate comes with it, rounded up to a multiple of 8."""
    return -(-(2 * f[FFN] // 3) // 8) * 8


NEO_BERT = Assembly(
    Rest(Embedding("encoder", "vocab_size"), Norm("layer_norm", bias=False)),
    Layers(
        "transformer_encoder",
        (
            Linear("qkv", "3*hidden_size", WIDTH, False),
            Linear("wo", WIDTH, WIDTH, False),
            Linear("ffn.w12", times(2, neo_inner), WIDTH, False),
            Linear("ffn.w3", WIDTH, neo_inner, False),
            Norm("attention_norm", bias=False),
            Norm("ffn_norm", bias=False),
        ),
        ffn=neo_inner,
        norm="rms",
    ),
)
NEO_CLASSES = {
    "": NEO_BERT,
    "LMHead": Assembly(At("model", NEO_BERT), Rest(Linear("decoder", "vocab_size", WIDTH))),
    "ForSequenceClassification": Assembly(
        At("model", NEO_BERT), Rest(Linear("dense", WIDTH, WIDTH), Linear("classifier", labels, WIDTH))
    ),
}

REMOTE_ENCODERS: Mapping[str, Model] = {
    "neobert": Family("NeoBERT", NEO_CLASSES, "", "", tuple(f"NeoBERT{name}" for name in NEO_CLASSES)),
    "jina_bert": alibi_bert("JinaBert", JINA),
    "mosaic_bert": alibi_bert("Bert", MOSAIC),
    "nucleotide_transformer": Family(
        "Esm", roberta_classes("esm", NUCLEOTIDES, head=roberta_lm(decoder_bias=False)), "ForMaskedLM"
    ),
    "xlm-roberta-flash": one_class(
        "XLMRoberta",
        "Model",
        assuming(Assembly(FLASH, Rest(*matrix("pooler.dense", WIDTH, WIDTH))), **FLASH_DEFAULTS),
        "XLMRobertaLoRA",
    ),
}
