"""Requests -> plans, one or many, with the latest answers kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import orjson
from cachetools import LRUCache
from numpy.typing import NDArray

from fastewq.architecture import Architecture
from fastewq.config import read_config
from fastewq.errors import FastEWQError
from fastewq.plan import Plan, plan
from fastewq.predictor import Predictor
from fastewq.shown import shown

from . import metrics
from .answers import Answer
from .errors import AnswerTooLarge, BatchTooLarge, InvalidRequest, OutOfTime, error_document
from .reading import parse_json, parse_model
from .schemas import BatchRequest, PlanRequest
from .settings import Settings

Asked = TypeVar("Asked", bound=PlanRequest)

KEPT_OVERHEAD: Final = 1280
"""Bytes of memory beside the body of an answer that is kept: its headers, its key, its place in order."""
BLOCKS_AT_ONCE: Final = 65_536
"""Blocks of a batch predicted in one call: those of a thousand models, but no more than memory has room for."""


class Item(NamedTuple):
    """One request of a batch, or why it is none; its blocks and their probabilities, where its config can be read."""

    request: PlanRequest | FastEWQError
    architecture: Architecture | None = None
    probabilities: NDArray[np.float64] | None = None


class Planner:
    """Plans by one predictor unless a request asks for another objective.

    A plan is a function of the request and the predictor, so answers can be kept.
    """

    def __init__(self, predictor: Predictor, settings: Settings, others: Sequence[Predictor] = ()) -> None:
        self._default = predictor
        self._predictors = {known.objective: known for known in (*others, predictor)}
        self._settings = settings
        self._kept: LRUCache[bytes, Answer] = LRUCache(settings.plan_cache_bytes, _memory)

    def predictor(self, objective: str | None) -> Predictor:
        """The one trained for an objective. Raises InvalidRequest for one that this service does not have."""
        if objective is None:
            return self._default
        if objective not in self._predictors:
            known = " or ".join(sorted(self._predictors))
            raise InvalidRequest(f"objective is {shown(objective, 40)}, which is not served here; expected {known}")
        return self._predictors[objective]

    def kept(self, body: bytes) -> Answer | None:
        """The answer to a request of exactly these bytes, if it is still there."""
        if not self._kept.maxsize:
            return None
        answer = self._kept.get(_key(body))
        (metrics.CACHE_MISS if answer is None else metrics.CACHE_HIT).inc()
        return answer

    def keep(self, body: bytes, answer: Answer) -> None:
        """Remember the answer to a request of these bytes."""
        if _memory(answer) <= self._kept.maxsize:
            # A copy takes the memory it needs. What orjson writes is the beginning of a far larger piece, of which the
            # rest is too small for its next answer, and stays empty for as long as this one is kept.
            answer.body = bytes(memoryview(answer.body))
            self._kept[_key(body)] = answer

    def read(self, body: bytes, model: type[Asked]) -> Asked:
        """The request in a body. Raises MalformedRequest, InvalidRequest."""
        return parse_model(model, self._parse(body))

    def plan(
        self,
        request: PlanRequest,
        architecture: Architecture | None = None,
        probabilities: NDArray[np.float64] | None = None,
    ) -> Plan:
        """Raises InvalidRequest where the request has no config, and the errors of `fastewq.plan`."""
        if request.config is None:
            raise InvalidRequest("config is missing; a model named without its config is not looked up here")
        made = plan(
            request.config,
            predictor=self.predictor(request.objective),
            architecture=architecture,
            probabilities=probabilities,
            model_id=request.model,
            revision=request.revision,
            policy=request.policy,
            target=request.target,
            memory=request.memory,
            devices=tuple(request.devices),
            context=request.context,
            batch=request.batch,
            cache_bits=request.cache_bits,
            reserve=request.reserve,
        )
        metrics.PLAN_BLOCKS.observe(sum([len(stack.blocks) for stack in made.stacks]))
        return made

    def batch(self, body: bytes, request_id: str) -> Answer:
        """The answer to a batch: one result per request, in their order; a refused request does not stop the others.

        Raises MalformedRequest, InvalidRequest, BatchTooLarge, OutOfTime.
        """
        requests = parse_model(BatchRequest, self._parse(body)).requests
        limit = self._settings.max_batch_items
        if len(requests) > limit:
            raise BatchTooLarge(f"the batch has {len(requests)} requests; expected at most {limit}")
        return Answer(orjson.dumps({"results": list(self._results(requests, request_id))}))

    def _results(self, documents: list[Any], request_id: str) -> Iterator[orjson.Fragment]:
        deadline = time.monotonic() + self._settings.work_seconds
        room = self._settings.max_batch_answer_bytes
        for item in self._items(documents):
            if time.monotonic() > deadline:
                raise OutOfTime(f"the batch took longer than {self._settings.work_seconds:g} seconds")
            try:
                if isinstance(item.request, FastEWQError):
                    raise item.request
                made = self.plan(item.request, item.architecture, item.probabilities)
                result = orjson.dumps({"plan": orjson.Fragment(made.as_json())})
                if len(result) > room:
                    raise AnswerTooLarge(
                        f"the plans of this batch take more than {self._settings.max_batch_answer_bytes} bytes"
                    )
            except FastEWQError as error:
                result = orjson.dumps(error_document(error, request_id))
            room -= len(result)
            yield orjson.Fragment(result)

    def _items(self, documents: list[Any]) -> Iterator[Item]:
        """The requests of a batch in order, their blocks predicted many models at a time."""
        waiting: list[Item] = []
        blocks = 0
        for document in documents:
            item = self._item(document)
            waiting.append(item)
            blocks += sum(len(stack.blocks) for stack in item.architecture.stacks) if item.architecture else 0
            if blocks >= BLOCKS_AT_ONCE:
                yield from self._predicted(waiting)
                waiting, blocks = [], 0
        yield from self._predicted(waiting)

    def _item(self, document: Any) -> Item:
        try:
            request = parse_model(PlanRequest, document)
        except InvalidRequest as error:
            return Item(error)
        if request.objective not in (None, self._default.objective):
            return Item(request)  # for another predictor, which is asked one model at a time
        try:
            return Item(request, read_config(request.config or {}))
        except FastEWQError:
            return Item(request)  # planning will say what is wrong, in the order in which it looks

    def _predicted(self, items: list[Item]) -> Iterator[Item]:
        probabilities = iter(self._default.of_models([item.architecture for item in items if item.architecture]))
        for item in items:
            yield item._replace(probabilities=next(probabilities)) if item.architecture else item

    def _parse(self, body: bytes) -> Any:
        settings = self._settings
        return parse_json(body, max_values=settings.max_json_values, max_depth=settings.max_json_depth)


def _memory(answer: Answer) -> int:
    return len(answer.body) + KEPT_OVERHEAD


def _key(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=32).digest()
