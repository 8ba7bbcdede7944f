"""What the class named in a config's `architectures` adds to the body, by the ending of its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from fastewq.architectures.body import Body, BodyBuilder, outside
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Option, Tensors, chosen, join, linear

Head = Callable[[Fields, Body], Tensors]
"""(fields, body) -> the head's tensors, named from the root of the model."""

ENDING = re.compile(r"(For[A-Z][A-Za-z0-9]*|[A-Z][a-z]*HeadsModel|(?:With)?LMHeadModel|Model)$")


@lru_cache(1024)
def ending(name: str) -> str:
    """The part of a class name that says which head it has: ForCausalLM, LMHeadModel, Model ...; "" if unknown."""
    found = ENDING.search(name)
    return found.group() if found else ""


def labels(f: Fields) -> int:
    """The classes of a classifier: as many as `id2label` names, else `num_labels`, else 2."""
    named = f.value("id2label", None)
    return len(named) if isinstance(named, Mapping) and named else f.size("num_labels", 2)


def no_head(f: Fields, body: Body) -> Tensors:  # noqa: ARG001
    return ()


@dataclass(frozen=True, kw_only=True)
class LMHead:
    """The matrix that predicts the next token: the token embedding itself where the config ties them."""

    path: str = "lm_head"
    bias: Option = False
    tied: Option = "tie_word_embeddings"

    def __call__(self, f: Fields, body: Body) -> Tensors:
        tensors = linear(self.path, body.vocab_size, body.width, chosen(f, self.bias))
        return tensors[1:] if chosen(f, self.tied) else tensors


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """One matrix from the last hidden state to the labels."""

    path: str = "score"
    bias: Option = False
    outputs: Size = labels

    def __call__(self, f: Fields, body: Body) -> Tensors:
        return linear(self.path, f[self.outputs], body.width, chosen(f, self.bias))


DECODER_HEADS: Mapping[str, Head] = {
    "ForCausalLM": LMHead(),
    "Model": no_head,
    "ForSequenceClassification": Classifier(),
    "ForTokenClassification": Classifier(bias=True),
    "ForQuestionAnswering": Classifier(path="qa_outputs", bias=True, outputs=2),
}


def heads_with(**changes: Head) -> Mapping[str, Head]:
    """The usual heads of a decoder, some of them replaced or added."""
    return {**DECODER_HEADS, **changes}


NEVER_TIED = heads_with(ForCausalLM=LMHead(tied=False))


class Model(Protocol):
    """What the registry holds for one model_type.

    A config's class is named by its ending (ForCausalLM, Model ...): `endings` are those described, `default` the one
    assumed where a config names no class, `base` the body alone. `classes` are names of classes that the transformers
    library does not have. `build` places the model at a module path, "" for the root. `ties` says whether the token
    embedding is the LM head.
    """

    @property
    def default(self) -> str: ...
    @property
    def base(self) -> str: ...
    @property
    def endings(self) -> Collection[str]: ...
    @property
    def classes(self) -> Collection[str]: ...
    def ending(self, name: str) -> str: ...
    def build(self, f: Fields, ending: str, path: str = "") -> Body: ...
    def ties(self, f: Fields, ending: str) -> bool: ...


@dataclass(frozen=True)
class BodyAndHeads:
    """A model whose classes all put one head on one body.

    A head holds the body under `prefix`, for some endings under another one (`prefixes`); the body of `Model` itself
    is at the root.
    """

    body: BodyBuilder
    heads: Mapping[str, Head]
    default: str
    prefix: str
    prefixes: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    base: str = "Model"

    @property
    def endings(self) -> Collection[str]:
        return self.heads.keys()

    def ending(self, name: str) -> str:
        return ending(name)

    def build(self, f: Fields, ending: str, path: str = "") -> Body:
        head = self.heads[ending]
        if head is no_head:
            return self.body(f, path)
        body = self.body(f, join(path, self.prefixes.get(ending, self.prefix)))
        around = body.outside + outside(path, head(f, body))
        return Body(body.stacks, around, body.warnings, body.width, body.vocab_size)

    def ties(self, f: Fields, ending: str) -> bool:
        head = self.heads[ending]
        return chosen(f, head.tied) if isinstance(head, LMHead) else f.flag("tie_word_embeddings", False)


def decoder(
    body: BodyBuilder,
    *,
    heads: Mapping[str, Head] = DECODER_HEADS,
    default: str = "ForCausalLM",
    prefix: str = "model",
    prefixes: Mapping[str, str] | None = None,
    classes: tuple[str, ...] = (),
) -> BodyAndHeads:
    """A decoder-only text model with the usual heads."""
    return BodyAndHeads(body, heads, default, prefix, prefixes or {}, classes)
