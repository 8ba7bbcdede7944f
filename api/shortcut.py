"""A short way through the framework for the routes that need nothing from it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send


class Shortcut:
    """ASGI middleware around the framework: calls at once a handler that takes the request alone and gives a response.

    FastAPI documents such a route like any other; but its share of a request (eight layers, matching the path,
    resolving parameters, keeping four stacks of exits) takes longer than the service needs for a plan it has kept.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self.app = app
        self._routes = {
            (method, route.path): route
            for route in routes
            if isinstance(route, APIRoute) and _takes_the_request_alone(route)
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await self.app(scope, receive, send)
            return
        scope["route"] = route
        response: Response = await route.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


def _takes_the_request_alone(route: APIRoute) -> bool:
    signature = inspect.signature(route.endpoint, eval_str=True)
    return [*signature.parameters] == ["request"] and signature.return_annotation is Response
