"""The application: layers, routes, documentation and life cycle."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from . import logs
from .access import Access
from .envelope import Envelope
from .errors import InvalidRequest, MethodNotAllowed, RouteNotFound
from .guard import Guard
from .protocol import SERVICE
from .reading import describe_problems
from .routes import router
from .schemas import REQUESTS
from .server import drained_before_exit
from .service import Service
from .settings import Settings
from .shortcut import Shortcut
from .threads import beside

STATIC = Path(__file__).with_name("static")
DESCRIPTION = """
Which transformer blocks can be quantized, and which must keep their precision: answered from a model's config alone.

Errors have one shape, whatever went wrong: `{"error": {code, message, hint, request_id}}`.
Every answer carries `X-Request-ID` (yours, if you send one) and `X-Predictor-Version`.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service as an ASGI application. The predictor is loaded when the server starts it."""
    settings = settings or Settings()
    logs.configure(settings.log_level)
    service, access = Service(settings), Access(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Service]]:
        service.load()
        async with beside(access.keep_reloading()), beside(service.keep_loading()):
            with drained_before_exit(settings.drain_seconds):
                yield {SERVICE: service}  # for the protocol, which does not see the application

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
    app.state.service = service
    # First in line, and not by include_router, which would match every request twice.
    app.router.routes[:0] = router.routes
    app.mount("/static", StaticFiles(directory=STATIC), name="page")
    app.add_api_route("/", lambda: FileResponse(STATIC / "index.html"), include_in_schema=False)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_parameters)
    app.add_middleware(WholeFiles)
    app.add_middleware(Shortcut, routes=router.routes)
    app.add_middleware(
        Guard, access=access, max_concurrency=settings.max_concurrency, max_held_bytes=settings.max_held_bytes
    )
    app.add_middleware(Envelope, service=service, access_log=logs.AccessLog(settings.log_level))
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


def _refuse(request: Request, error: Exception) -> NoReturn:
    """The routing errors of the framework as errors of the service."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        raise RouteNotFound(f"there is no {request.scope['path'][:200]!r}") from None
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "").replace("GET", "GET, HEAD")  # see Envelope
        raise MethodNotAllowed(f"{request.method} is not possible here; expected {allow}", allow=allow) from None
    raise InvalidRequest(str(error.detail)) from None


def _refuse_parameters(_: Request, error: Exception) -> NoReturn:
    """What the framework finds wrong in a path or query, as an error of the service."""
    assert isinstance(error, RequestValidationError)
    raise InvalidRequest(describe_problems(error.errors())) from None


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
