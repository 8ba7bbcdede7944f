"""Errors of the service, and the one table that turns any error into an HTTP status.

FastEWQError
├── ...                          the errors of the library, see `fastewq.errors`; here one more InputError:
│   └── InvalidSettings          an environment variable of the service cannot be used; it does not start
└── ServiceError                 the request did not reach the planner, or its answer was not finished
    ├── MalformedRequest         the request is not HTTP, or its body not JSON within the bounds
    ├── VersionNotSupported      the request is of another version of HTTP
    ├── CodingNotSupported       the body is compressed on its way, or coded otherwise
    ├── InvalidRequest           the body is JSON, but not the document the route expects
    ├── Unauthorized             no key or an unknown key, where keys are required
    ├── RouteNotFound            no such path
    ├── MethodNotAllowed         the path exists, the method does not
    ├── SlowRequest              the body did not arrive in time
    ├── TooLarge                 more than the service takes or gives in one exchange
    │   ├── BodyTooLarge
    │   ├── BatchTooLarge        too many requests in one batch
    │   └── AnswerTooLarge       the plans of one batch, or one answer, take too many bytes
    ├── UnsupportedMediaType     the body is not declared as JSON
    ├── RetryLater               passes by itself; the answer has Retry-After
    │   ├── RateLimited          too many requests with one key or from one address
    │   ├── Overloaded           too many requests in work
    │   ├── OutOfTime            the answer took longer than the service allows
    │   └── NotReady             no verified predictor is loaded, or the service is shutting down
    └── InternalError            a defect; the log has the traceback under the request id
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from fastewq import errors
from fastewq.errors import FastEWQError


class InvalidSettings(errors.InputError):
    """An environment variable or option of the service cannot be used: it does not start."""

    code = "invalid_settings"
    default_hint = "`fastewq serve --show-settings` lists every setting."


class ServiceError(FastEWQError):
    """Base of the errors that exist only in the service. `headers` go into the answer."""

    code = "service_error"
    headers: Mapping[str, str] = {}


class MalformedRequest(ServiceError):
    """The request is not HTTP/1.1, or its body not one JSON document within the bounds."""

    code = "malformed_request"
    default_hint = "Send one JSON document in UTF-8."


class VersionNotSupported(ServiceError):
    """The request is of another version of HTTP than 1.1 and 1.0."""

    code = "version_not_supported"
    default_hint = "Send HTTP/1.1; a proxy in front can take other versions."


class CodingNotSupported(ServiceError):
    """The request has a transfer coding besides "chunked"."""

    code = "coding_not_supported"
    default_hint = "Send the body without compression."


class InvalidRequest(ServiceError):
    """The body is JSON, but not the document the route expects; or a parameter is not one of the route's."""

    code = "invalid_request"
    default_hint = "/docs describes every request; in a body, the model's config.json goes under the key 'config'."


class Unauthorized(ServiceError):
    """The request has no key, or an unknown one, where keys are required."""

    code = "unauthorized"
    default_hint = "Send the header 'Authorization: Bearer KEY'."
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class RouteNotFound(ServiceError):
    """There is no such path."""

    code = "route_not_found"
    default_hint = "/docs lists every route."


class MethodNotAllowed(ServiceError):
    """The path exists, but not with this method."""

    code = "method_not_allowed"
    default_hint = "The Allow header lists the methods of this path."

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.headers = {"Allow": allow}


class SlowRequest(ServiceError):
    """The body did not arrive in time."""

    code = "slow_request"


class TooLarge(ServiceError):
    """More than the service takes or gives in one exchange."""

    code = "too_large"


class BodyTooLarge(TooLarge):
    """The body has more bytes than the service takes."""

    code = "body_too_large"
    default_hint = "A config.json is a few kilobytes; send many of them in several batches."


class BatchTooLarge(TooLarge):
    """The batch has more requests than the service takes."""

    code = "batch_too_large"
    default_hint = "Send several batches."


class AnswerTooLarge(TooLarge):
    """The plans of one batch, or one answer, take more bytes than the service gives."""

    code = "answer_too_large"
    default_hint = "Ask for less at a time: fewer plans in a batch, fewer models of the catalog."


class UnsupportedMediaType(ServiceError):
    """The body is not declared as JSON in UTF-8, or is compressed."""

    code = "unsupported_media_type"
    default_hint = "Send the header 'Content-Type: application/json', and the body without compression."


class RetryLater(ServiceError):
    """What passes by itself. `seconds` becomes the Retry-After header."""

    code = "retry_later"
    default_hint = "Wait for the time in the Retry-After header, then send the request again."

    def __init__(self, message: str, *, seconds: float = 1) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(max(1, math.ceil(seconds)))}


class RateLimited(RetryLater):
    """More requests with one key, or from one address, than the rate allows."""

    code = "rate_limited"


class Overloaded(RetryLater):
    """Too many requests are in work."""

    code = "overloaded"


class OutOfTime(RetryLater):
    """The answer took longer than the service allows."""

    code = "out_of_time"


class NotReady(RetryLater):
    """No verified predictor is loaded, or the service is shutting down."""

    code = "not_ready"


class InternalError(ServiceError):
    """A defect; the log has the traceback under the request id."""

    code = "internal_error"
    default_hint = "This is a defect of FastEWQ: report it with the request id."


class ClientGone(Exception):
    """The client left before its request was complete. Not an answer: nobody is there to read one."""


HTTP_STATUS: dict[type[FastEWQError], int] = {
    errors.InputError: 422,
    errors.InvalidArtefact: 503,
    errors.NotFound: 404,
    errors.AccessDenied: 403,
    errors.MissingExtra: 503,
    errors.UnavailableError: 503,
    errors.HubUnavailable: 502,
    InvalidSettings: 500,
    ServiceError: 500,
    MalformedRequest: 400,
    VersionNotSupported: 505,
    CodingNotSupported: 501,
    InvalidRequest: 422,
    Unauthorized: 401,
    RouteNotFound: 404,
    MethodNotAllowed: 405,
    SlowRequest: 408,
    TooLarge: 413,
    UnsupportedMediaType: 415,
    RateLimited: 429,
    Overloaded: 503,
    OutOfTime: 503,
    NotReady: 503,
}
"""The status of each error and of the errors below it; a test walks the tree and finds a status for each class."""


def http_status(error: FastEWQError) -> int:
    """The HTTP status of an error: that of its nearest ancestor in HTTP_STATUS."""
    return next(HTTP_STATUS[cls] for cls in type(error).__mro__ if cls in HTTP_STATUS)


def error_document(error: FastEWQError, request_id: str) -> dict[str, Any]:
    """The one error shape. Text that is not valid Unicode (it can come from a config) is shown escaped."""
    fields = {key: _printable(value) for key, value in error.as_dict().items()}
    return {"error": {**fields, "request_id": request_id}}


def error_response(error: FastEWQError, request_id: str) -> Response:
    headers = {"Cache-Control": "no-store", **getattr(error, "headers", {})}
    body = orjson.dumps(error_document(error, request_id))
    return Response(body, http_status(error), headers, media_type="application/json")


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
