"""Gemma 4's assistants: blocks that guess what the large model will say, from its keys and values alone.

Version 5.23 of the transformers library builds none: it looks in the assistant for the layers whose keys are shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fastewq.architectures.assembly import NOTHING, UNTIED, Assembly, Expect, Family, Linear, Nested, Rest, When
from fastewq.architectures.body import Body, always
from fastewq.architectures.decoders.gemma import GEMMA4
from fastewq.architectures.fields import Fields

GUESSES = "ForCausalLM"


def shares_all(f: Fields, path: str) -> Body:  # noqa: ARG001
    """Refuses layers with keys and values of their own; 0 says that all share, too."""
    shared, layers = f.count("num_kv_shared_layers"), f.layers()
    if shared not in (0, layers):
        raise f.refuse("num_kv_shared_layers", shared, f"{layers}, as many as there are layers, or 0")
    return NOTHING


READER = Assembly(
    shares_all,
    Expect("hidden_size_per_layer_input", 0),
    Expect("enable_moe_block", False),
    Expect("use_double_wide_mlp", False),
    replace(GEMMA4, mixer_schedule=always("reusing"), feed_forward_schedule=always("dense"), extras=(), beside=()),
)
WIDTH = "text_config.hidden_size"


def assistant(prefix: str, text: str) -> Family:
    """`text` is the model type of its blocks."""
    reader = {text: Family("", {"Model": READER})}
    build = Assembly(
        Nested("text_config", "model", reader),
        Rest(
            Linear("lm_head", "text_config.vocab_size", WIDTH, False, UNTIED),
            Linear("pre_projection", WIDTH, "2*backbone_hidden_size", False),
            Linear("post_projection", "backbone_hidden_size", WIDTH, False),
            When("use_ordered_embeddings", Linear("masked_embedding.centroids", "num_centroids", WIDTH, False)),
        ),
    )
    return Family(prefix, {GUESSES: build}, GUESSES, GUESSES)


GEMMA_ASSISTANTS: Mapping[str, Family] = {
    "gemma4_assistant": assistant("Gemma4Assistant", "gemma4_text"),
    "gemma4_unified_assistant": assistant("Gemma4UnifiedAssistant", "gemma4_unified_text"),
}
