"""The classes of these models: most types have one, and what configs leave out says whether a head is tied."""

from __future__ import annotations

from fastewq.architectures.assembly import Family, tied
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import LMHead, heads_with


def tied_by_default(f: Fields) -> bool:
    """As configs of the library's version 4 were read."""
    return f.flag("tie_word_embeddings", True)


TIED_BY_DEFAULT = heads_with(ForCausalLM=LMHead(tied=tied_by_default))
UNTIED_BY_DEFAULT = heads_with(ForCausalLM=LMHead(tied=tied))


def one_class(prefix: str, ending: str, builder: BodyBuilder, *others: str) -> Family:
    """A type of one model class, `prefix` and `ending` together; `others` are further names of it."""
    return Family(prefix, {ending: builder}, ending, ending, (f"{prefix}{ending}", *others))
