"""Requests -> plans, one or many, with the latest answers kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import orjson
from cachetools import LRUCache

from fastewq.errors import FastEWQError
from fastewq.plan import Plan, plan
from fastewq.predictor import Predictor

from . import metrics
from .answers import Answer
from .errors import AnswerTooLarge, BatchTooLarge, InvalidRequest, OutOfTime, error_document
from .reading import parse_json, parse_model
from .schemas import BatchRequest, PlanRequest
from .settings import Settings

Asked = TypeVar("Asked", bound=PlanRequest)

OPTIONS: Final = ("revision", "policy", "target", "memory", "devices", "context", "batch", "cache_bits", "reserve")
"""The fields of a request that `fastewq.plan` takes under the same name."""


class Planner:
    """Plans by one predictor. A plan is a function of the request and the predictor, so answers can be kept."""

    def __init__(self, predictor: Predictor, settings: Settings) -> None:
        self._predictor = predictor
        self._settings = settings
        self._kept: LRUCache[bytes, Answer] = LRUCache(settings.plan_cache_bytes, lambda answer: len(answer.body))

    def kept(self, body: bytes) -> Answer | None:
        """The answer to a request of exactly these bytes, if it is still there."""
        answer = self._kept.get(_key(body))
        (metrics.CACHE_MISS if answer is None else metrics.CACHE_HIT).inc()
        return answer

    def keep(self, body: bytes, answer: Answer) -> None:
        if len(answer.body) <= self._kept.maxsize:
            self._kept[_key(body)] = answer

    def read(self, body: bytes, model: type[Asked]) -> Asked:
        """The request in a body. Raises MalformedRequest, InvalidRequest."""
        return parse_model(model, self._parse(body))

    def plan(self, request: PlanRequest) -> Plan:
        """Raises InvalidRequest where the request has no config, and the errors of `fastewq.plan`."""
        if request.config is None:
            raise InvalidRequest("config: field required; a model named without its config is not looked up here")
        options = {name: getattr(request, name) for name in OPTIONS}
        made = plan(request.config, predictor=self._predictor, model_id=request.model, **options)
        metrics.PLAN_BLOCKS.observe(sum(len(stack.blocks) for stack in made.stacks))
        return made

    def batch(self, body: bytes, request_id: str) -> Answer:
        """The answer to a batch: one result per request, in their order; a refused request does not stop the others.

        Raises MalformedRequest, InvalidRequest, BatchTooLarge, OutOfTime.
        """
        requests = parse_model(BatchRequest, self._parse(body)).requests
        limit = self._settings.max_batch_items
        if len(requests) > limit:
            raise BatchTooLarge(f"the batch has {len(requests)} requests; expected at most {limit}")
        return Answer({"results": list(self._results(requests, request_id))})

    def _results(self, requests: list[Any], request_id: str) -> Iterator[orjson.Fragment]:
        deadline = time.monotonic() + self._settings.work_seconds
        room = self._settings.max_batch_answer_bytes
        for request in requests:
            if time.monotonic() > deadline:
                raise OutOfTime(f"the batch took longer than {self._settings.work_seconds:g} seconds")
            try:
                result = orjson.dumps({"plan": self.plan(parse_model(PlanRequest, request)).as_dict()})
                if len(result) > room:
                    raise AnswerTooLarge(
                        f"the plans of this batch take more than {self._settings.max_batch_answer_bytes} bytes"
                    )
            except FastEWQError as error:
                result = orjson.dumps(error_document(error, request_id))
            room -= len(result)
            yield orjson.Fragment(result)

    def _parse(self, body: bytes) -> Any:
        settings = self._settings
        return parse_json(body, max_values=settings.max_json_values, max_depth=settings.max_json_depth)


def _key(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=32).digest()
