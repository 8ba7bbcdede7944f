"""The application: layers, routes, documentation and life cycle."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from fastewq.errors import FastEWQError

from . import logs
from .access import Access
from .envelope import CLIENT_GONE, Envelope
from .errors import ClientGone, InternalError, InvalidRequest, MethodNotAllowed, RouteNotFound, error_response
from .guard import Guard
from .reading import describe_problems
from .routes import router
from .schemas import REQUESTS
from .server import drained_before_exit
from .service import SERVICE, Service
from .settings import Settings
from .shortcut import Shortcut
from .threads import beside

STATIC = Path(__file__).with_name("static")
DESCRIPTION = """
Which transformer blocks can be quantized, and which must keep their precision: answered from a model's config alone.

Errors have one shape, whatever went wrong: `{"error": {code, message, hint, request_id}}`.
Every answer carries `X-Request-ID` (yours, if you send one) and `X-Predictor-Version`.
"""


def create_app(settings: Settings | None = None) -> ASGIApp:
    """The service as an ASGI application. The predictor is loaded when the server starts it.

    What every request passes lies around the framework, not within it, where it would come after layers of the
    framework's own.
    """
    settings = settings or Settings()
    logs.configure(settings.log_level)
    service, access = Service(settings), Access(settings)
    app = framework(service, access)
    guard = Guard(
        Shortcut(WholeFiles(app), router.routes),
        access=access,
        max_concurrency=settings.max_concurrency,
        max_held_bytes=settings.max_held_bytes,
    )
    return Envelope(guard, service=service, access_log=logs.AccessLog(settings.log_level))


def framework(service: Service, access: Access) -> FastAPI:
    """The routes, their documentation, and the page."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Service]]:
        service.load()
        async with beside(access.keep_reloading()), beside(service.keep_loading()):
            with drained_before_exit(service.settings.drain_seconds):
                yield {SERVICE: service}  # for handlers, and for the protocol, which does not see the application

    # The documentation page must not load scripts from other hosts; this package brings them along.
    app = FastAPIOffline(
        title="FastEWQ",
        version=version("fastewq"),
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        static_url="/docs/static",
        redirect_slashes=False,
    )
    # First in line, and not by include_router, which would match every request twice.
    app.router.routes[:0] = router.routes
    app.mount("/static", StaticFiles(directory=STATIC), name="page")
    app.add_api_route("/", lambda: FileResponse(STATIC / "index.html"), include_in_schema=False)
    app.add_exception_handler(FastEWQError, _answer)
    app.add_exception_handler(ClientGone, _answer_nobody)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_parameters)
    app.add_exception_handler(Exception, _fail)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


class WholeFiles:
    """ASGI middleware: no parts of files, which a server need not send (RFC 9110, section 14.2). The framework would
    refuse ranges without the error shape.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["headers"] = [field for field in scope["headers"] if field[0] != b"range"]
        await self.app(scope, receive, send)


async def _answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, FastEWQError)
    return error_response(error, request.state.request_id)


async def _answer_nobody(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


async def _fail(request: Request, _: Exception) -> Response:
    """The framework raises the error once more after this answer, and the envelope logs it."""
    return error_response(InternalError("the request could not be answered"), request.state.request_id)


async def _refuse(request: Request, error: Exception) -> Response:
    """The routing errors of the framework as errors of the service."""
    assert isinstance(error, HTTPException)
    refusal: FastEWQError
    if error.status_code == 404:
        refusal = RouteNotFound(f"there is no {request.scope['path'][:200]!r}")
    elif error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "").replace("GET", "GET, HEAD")  # see Envelope
        refusal = MethodNotAllowed(f"{request.method} is not possible here; expected {allow}", allow=allow)
    else:
        refusal = InvalidRequest(str(error.detail))
    return error_response(refusal, request.state.request_id)


async def _refuse_parameters(request: Request, error: Exception) -> Response:
    """What the framework finds wrong in a path or query, as an error of the service."""
    assert isinstance(error, RequestValidationError)
    return error_response(InvalidRequest(describe_problems(error.errors())), request.state.request_id)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the request models that the routes parse themselves."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        _, definitions = models_json_schema(
            [(model, "validation") for model in REQUESTS], ref_template="#/components/schemas/{model}"
        )
        document["components"]["schemas"].update(definitions["$defs"])
        app.openapi_schema = document
    return app.openapi_schema
