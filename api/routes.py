"""The routes. A handler turns one received body into one answer; everything else happens in the layers around it."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from . import metrics, schemas
from .answers import Answer
from .reading import read_body
from .service import Service

router = APIRouter()


def _body(model: type[schemas.Request]) -> dict[str, Any]:
    """OpenAPI's note of a request body that the route parses itself."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": schemas.Error} for status in statuses}


REFUSALS = _errors(400, 408, 413, 415, 422, 429, 503)
"""The errors of every route that takes a body."""


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


@router.post(
    "/v1/plans",
    tags=["plans"],
    openapi_extra=_body(schemas.PlanRequest),
    responses={200: {"model": schemas.Plan}, 304: {"description": "If-None-Match names this plan."}, **REFUSALS},
)
async def create_plan(request: Request) -> Response:
    """The precision of every block of one model.

    The same request gives the same bytes, so the answer has an ETag and If-None-Match gives 304: nothing is created.
    """
    service = _service(request)
    body = await read_body(request, limit=service.settings.max_body_bytes, seconds=service.settings.body_seconds)
    return _conditional(request, service.plans.answer(body))


@router.get("/v1/predictor", tags=["predictor"], responses={200: {"model": schemas.Card}, **_errors(503)})
async def read_predictor(request: Request) -> Response:
    """The predictor's card: version, features, training data, measured quality."""
    return _conditional(request, Answer.of(orjson.dumps(_service(request).predictor.card)))


@router.get("/livez", tags=["operation"])
async def live() -> schemas.Status:
    """200 while the process can answer at all."""
    return schemas.Status(status="live")


@router.get("/readyz", tags=["operation"], responses=_errors(503))
async def ready(request: Request) -> schemas.Status:
    """200 once the predictor is loaded, its hash checked and its golden predictions reproduced."""
    _service(request).check_ready()
    return schemas.Status(status="ready")


@router.get("/metrics", tags=["operation"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def read_metrics() -> Response:
    """Metrics in Prometheus text."""
    body, media_type = metrics.exposition()
    return Response(body, media_type=media_type)


def _conditional(request: Request, answer: Answer) -> Response:
    """The answer, or 304 where the client has it. Caches must ask again: another predictor gives another plan."""
    headers = {"ETag": answer.etag, "Cache-Control": "no-cache"}
    wanted = request.headers.get("if-none-match")
    if wanted is not None and answer.matches(wanted):
        return Response(status_code=304, headers=headers)
    return Response(answer.body, headers=headers, media_type="application/json")
