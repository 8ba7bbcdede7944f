"""Whether the heads of these models are the token embedding itself; for most it depends on what configs leave out."""

from __future__ import annotations

from fastewq.architectures.assembly import tied
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import LMHead, heads_with


def tied_by_default(f: Fields) -> bool:
    """As configs of the library's version 4 were read."""
    return f.flag("tie_word_embeddings", True)


TIED_BY_DEFAULT = heads_with(ForCausalLM=LMHead(tied=tied_by_default))
UNTIED_BY_DEFAULT = heads_with(ForCausalLM=LMHead(tied=tied))
