"""What the class named in a config's `architectures` adds to the body."""

from __future__ import annotations

from dataclasses import replace

from fastewq.architecture import Outside, Tensor
from fastewq.architectures.body import Body, BodyBuilder
from fastewq.architectures.fields import Fields


def causal_lm(body: BodyBuilder, f: Fields, path: str = "model") -> Body:
    """The body under `model.` and an LM head, which is the token embedding itself where the config ties them."""
    built = body(f, path)
    if f.flag("tie_word_embeddings"):
        return built
    head = Tensor("weight", (f.size("vocab_size"), f.size("hidden_size")), "linear")
    return replace(built, outside=(*built.outside, Outside("lm_head", (head,))))
