"""RAG: an encoder of questions that finds passages, and a seq2seq model that answers from them."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import Adjusted, Assembly, At, Family, Nested
from fastewq.architectures.body import Body
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.text import TEXT

ASKS: Mapping[str, Model] = {"dpr": TEXT["dpr"]}
WRITES: Mapping[str, Model] = {"bart": TEXT["bart"]}


def completed(f: Fields) -> Fields:
    """With the types that the class assumes where the config or a half of it names none."""
    halves = {"question_encoder": "dpr", "generator": "bart"}
    given = {name: f.value(name, None) or {} for name in halves}
    for name, value in given.items():
        if not isinstance(value, Mapping):
            raise f.refuse(name, value, "an object")
    return f.replaced(**{name: {"model_type": halves[name], **value} for name, value in given.items()})


def asks(f: Fields, path: str) -> Body:
    """The encoder of questions, whose vocabulary is not that of the answers."""
    body = Nested("question_encoder", "question_encoder", ASKS, "QuestionEncoder", name="questions")(f, path)
    return body._replace(vocab_size=0)


BODY = Adjusted(
    Assembly(
        asks,
        Nested("generator", "generator", WRITES, "ForConditionalGeneration"),
    ),
    completed,
)
INSIDE = At("rag", BODY)
RAG: Mapping[str, Family] = {
    "rag": Family("Rag", {"Model": BODY, "SequenceForGeneration": INSIDE, "TokenForGeneration": INSIDE})
}
