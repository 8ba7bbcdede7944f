"""The routes. A handler turns one received body into one answer; everything else happens in the layers around it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from fastewq.document import read_plan
from fastewq.exports import TOOLS, export, tool_named
from fastewq.policy import DEFAULT_POLICY

from . import metrics, schemas
from .answers import Answer
from .reading import check_query, parse_model, read_body
from .service import SERVICE, Service

router = APIRouter()


def _body(model: type[schemas.Request]) -> dict[str, Any]:
    """OpenAPI's note of a request body that the route parses itself."""
    content = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}, "example": model.example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": schemas.Error} for status in statuses}


REFUSALS = _errors(400, 401, 408, 413, 415, 422, 429, 503)
"""The errors of every route that takes a body."""
READ_ERRORS = _errors(401, 413, 422, 429, 503)
"""The errors of every route without a body."""
LOOKUP_ERRORS = READ_ERRORS | _errors(403, 404, 502)
"""The errors of every route that may ask the Hub."""
OBJECTIVE = "entropy or sensitivity; unset: the service's own."
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "If-None-Match names this answer."}}


def _service(request: Request) -> Service:
    service: Service = request.scope["state"][SERVICE]
    return service


async def _only_known_parameters(request: Request) -> None:
    route: APIRoute = request.scope["route"]
    check_query(request, [parameter.alias for parameter in route.dependant.query_params])


ONLY_KNOWN = [Depends(_only_known_parameters)]
"""Of the routes that take no body."""


@router.post(
    "/v1/plans",
    tags=["plans"],
    openapi_extra=_body(schemas.PlanRequest),
    responses={200: {"model": schemas.Plan}, **REFUSALS, **LOOKUP_ERRORS},
)
async def create_plan(request: Request) -> Response:
    """The precision of every block of one model. The same request gives the same bytes, and the same ETag."""
    service = _service(request)
    planner, settings = service.planner, service.settings
    body = await read_body(request, limit=settings.max_body_bytes, seconds=settings.body_seconds)
    answer = planner.kept(body)
    if answer is None:
        plan_request = await service.read(body, schemas.PlanRequest)
        answer = Answer((await service.plan(plan_request)).as_json())
        if plan_request.config is not None:
            planner.keep(body, answer)
    return answer


@router.post(
    "/v1/plans/batch",
    tags=["plans"],
    openapi_extra=_body(schemas.BatchRequest),
    responses={200: {"model": schemas.Batch}, **REFUSALS},
)
async def create_plans(request: Request) -> Response:
    """The plans of many models, each the same as it would be alone. A request at fault gets an error in its place."""
    service = _service(request)
    planner, settings = service.planner, service.settings
    with service.batches:
        body = await read_body(request, limit=settings.max_batch_body_bytes, seconds=settings.body_seconds)
        answer: Answer = await service.threads.run(planner.batch, body, request.state.request_id)
    return answer


@router.get(
    "/v1/models/{org}/{name}/plan",
    tags=["plans"],
    dependencies=ONLY_KNOWN,
    responses={200: {"model": schemas.Plan}, **NOT_MODIFIED, **LOOKUP_ERRORS},
)
async def read_model_plan(
    request: Request,
    org: Annotated[str, Path(pattern=schemas.NAME)],
    name: Annotated[str, Path(pattern=schemas.NAME)],
    revision: Annotated[str, Query(pattern=schemas.REVISION, description=schemas.REVISION_OF)] = "main",
    objective: Annotated[str | None, Query(description=OBJECTIVE)] = None,
    policy: Annotated[str, Query(description=schemas.POLICY)] = DEFAULT_POLICY,
    target: Annotated[str, Query(description=schemas.TARGET)] = "plain",
    memory: Annotated[str | None, Query(description=schemas.SIZE)] = None,
) -> Response:
    """The plan of a published model, from its config in the catalog, or at the Hub where that is allowed."""
    fields = {
        "model": f"{org}/{name}",
        "revision": revision,
        "objective": objective,
        "policy": policy,
        "target": target,
        "memory": memory,
    }
    plan = await _service(request).plan(parse_model(schemas.PlanRequest, fields))
    return Answer(plan.as_json()).unless_known(request)


@router.get(
    "/v1/catalog",
    tags=["catalog"],
    dependencies=ONLY_KNOWN,
    responses={200: {"model": schemas.CatalogPage}, **NOT_MODIFIED, **READ_ERRORS, **_errors(404)},
)
async def search_catalog(
    request: Request,
    text: Annotated[str | None, Query(max_length=200, description="Part of the id.")] = None,
    model_type: Annotated[str | None, Query(max_length=100, description="Of the config, such as llama.")] = None,
    task: Annotated[str | None, Query(max_length=100, description="Such as text-generation.")] = None,
    min_parameters: Annotated[int | None, Query(ge=0, le=2**62, description="At least so many.")] = None,
    max_parameters: Annotated[int | None, Query(ge=0, le=2**62, description="At most so many.")] = None,
    max_bytes: Annotated[
        int | None, Query(ge=0, le=2**62, description="Of all weights under `policy`, at most.")
    ] = None,
    policy: Annotated[str, Query(description=schemas.POLICY)] = DEFAULT_POLICY,
    error_code: Annotated[str | None, Query(max_length=100, description="Refused models with this error.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Models per page.")] = 20,
    cursor: Annotated[str | None, Query(max_length=100, description="The cursor of the page before.")] = None,
) -> Response:
    """The models of the catalog that fit all that is given, a page at a time."""
    page, version = await _service(request).lookup.search(
        text=text,
        model_type=model_type,
        task=task,
        min_parameters=min_parameters,
        max_parameters=max_parameters,
        max_bytes=max_bytes,
        policy=policy,
        error_code=error_code,
        limit=limit,
        cursor=cursor,
    )
    entries = [entry.as_dict() for entry in page.entries]
    return Answer(orjson.dumps({"version": version, "entries": entries, "cursor": page.cursor})).unless_known(request)


@router.post(
    "/v1/exports/{tool}",
    tags=["exports"],
    openapi_extra=_body(schemas.ExportRequest),
    responses={200: {"model": schemas.Export}, **REFUSALS, **LOOKUP_ERRORS},
)
async def create_export(request: Request, tool: Annotated[str, Path(json_schema_extra={"enum": [*TOOLS]})]) -> Response:
    """A plan in the form that a deployment tool loads, with the way to use it."""
    service = _service(request)
    settings, chosen = service.settings, tool_named(tool)
    body = await read_body(request, limit=settings.max_body_bytes, seconds=settings.body_seconds)
    asked = await service.read(body, schemas.ExportRequest)
    if "target" not in asked.model_fields_set:
        asked.target = chosen.target
    plan = await service.plan(asked) if asked.plan is None else read_plan(asked.plan)
    made = await service.threads.run(partial(export, plan, tool, nearest=asked.nearest))
    return Answer(orjson.dumps(made.as_dict()))


@router.get("/v1/exports", tags=["exports"], dependencies=ONLY_KNOWN, responses=READ_ERRORS)
async def list_exports() -> schemas.Tools:
    """The deployment tools a plan can be exported to."""
    return schemas.Tools(
        tools=[schemas.Tool(name=t.name, target=t.target, verified=t.verified) for t in TOOLS.values()]
    )


@router.get(
    "/v1/predictor",
    tags=["predictor"],
    dependencies=ONLY_KNOWN,
    responses={200: {"model": schemas.Card}, **NOT_MODIFIED, **READ_ERRORS},
)
async def read_predictor(
    request: Request,
    objective: Annotated[str | None, Query(description=OBJECTIVE)] = None,
) -> Response:
    """The predictor's card: version, features, training data, measured quality."""
    return Answer(orjson.dumps(_service(request).planner.predictor(objective).card)).unless_known(request)


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
