"""Encoders of text whose code lies in the model's repository and is never run.

XLM-RoBERTa with rotary positions and adapters: jinaai/jina-embeddings-v3, whose code is that of
jinaai/xlm-roberta-flash-implementation, modeling_xlm_roberta.py and modeling_lora.py. Its config says `xlm-roberta`, as
those of the transformers library do; `meant` of `fastewq.architectures` tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    FFN,
    WIDTH,
    Assembly,
    Embedding,
    Expect,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    When,
    assuming,
)
from fastewq.architectures.fields import MAX_LAYERS, Fields, Size
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import Part
from fastewq.architectures.remote.heads import one_class


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
REMOTE_ENCODERS: Mapping[str, Model] = {
    "xlm-roberta-flash": one_class(
        "XLMRoberta",
        "Model",
        assuming(Assembly(FLASH, Rest(*matrix("pooler.dense", WIDTH, WIDTH))), **FLASH_DEFAULTS),
        "XLMRobertaLoRA",
    )
}
