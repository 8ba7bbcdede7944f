"""Request bodies -> plans as JSON bytes. A plan is a function of the request and the predictor, so it can be kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import orjson
from cachetools import LRUCache

from fastewq.plan import Plan
from fastewq.plan import plan as make_plan
from fastewq.predictor import Predictor

from . import metrics
from .reading import parse_json, parse_model
from .schemas import PlanRequest
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Answer:
    """JSON bytes and their entity tag."""

    body: bytes
    etag: str

    @classmethod
    def of(cls, body: bytes) -> Answer:
        return cls(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')

    def matches(self, if_none_match: str) -> bool:
        """Whether an If-None-Match header names this answer (RFC 9110, section 13.1.2: weak comparison)."""
        tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
        return self.etag in tags or tags == ["*"]


class PlanAnswers:
    """Plans for one predictor, with the latest answers kept by the hash of the request body."""

    def __init__(self, predictor: Predictor, settings: Settings) -> None:
        self._predictor = predictor
        self._settings = settings
        self._kept: LRUCache[bytes, Answer] = LRUCache(settings.plan_cache_bytes, lambda answer: len(answer.body))

    def answer(self, body: bytes) -> Answer:
        """The plan for a POST /v1/plans body. Raises MalformedRequest, InvalidRequest and the errors of `plan`."""
        key = hashlib.sha256(body).digest()
        kept = self._kept.get(key)
        if kept is not None:
            metrics.CACHE_HIT.inc()
            return kept
        metrics.CACHE_MISS.inc()
        answer = Answer.of(self._plan(body))
        if len(answer.body) <= self._kept.maxsize:
            self._kept[key] = answer
        return answer

    def _plan(self, body: bytes) -> bytes:
        s = self._settings
        document = parse_json(body, max_values=s.max_json_values, max_depth=s.max_json_depth)
        plan = self.plan(parse_model(PlanRequest, document))
        metrics.PLAN_BLOCKS.observe(sum(len(stack.blocks) for stack in plan.stacks))
        return orjson.dumps(plan.as_dict())

    def plan(self, request: PlanRequest) -> Plan:
        return make_plan(
            request.config,
            policy=request.policy,
            predictor=self._predictor,
            model_id=request.model,
            revision=request.revision,
        )
