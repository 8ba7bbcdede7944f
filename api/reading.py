"""Body -> bytes -> JSON -> a request model, within bounds that hold before anything is built."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from fastewq.errors import InvalidConfig
from fastewq.jsonio import parse_config

from .errors import BodyTooLarge, ClientGone, InvalidRequest, MalformedRequest, SlowRequest, UnsupportedMediaType

Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: Request, *, limit: int, seconds: float) -> bytes:
    """The whole body of a JSON request, at most `limit` bytes, sent within `seconds`.

    Raises UnsupportedMediaType, BodyTooLarge (before reading, where the length is declared), SlowRequest, ClientGone.
    """
    headers = dict(request.scope["headers"])
    _check_media_type(headers)
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        raise BodyTooLarge(f"the body has {declared[:20].decode()} bytes; expected at most {limit}")
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise BodyTooLarge(f"the body has more than {limit} bytes; expected at most that many")
                parts.append(part)
    except TimeoutError:
        raise SlowRequest(f"the body did not arrive within {seconds:g} seconds") from None
    except ClientDisconnect:
        raise ClientGone from None
    return b"".join(parts)


def _check_media_type(headers: Mapping[bytes, bytes]) -> None:
    kind = headers.get(b"content-type", b"")
    if kind != b"application/json":
        name, _, parameters = kind.decode("latin-1").partition(";")
        if name.strip().lower() != "application/json":
            raise UnsupportedMediaType(f"Content-Type is {name[:80]!r}; expected 'application/json'")
        charset = parameters.strip().lower().removeprefix("charset=").strip('"')
        if charset not in ("", "utf-8", "utf8"):
            raise UnsupportedMediaType(f"Content-Type says {parameters[:80]!r}; expected UTF-8")
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1")
    if encoding.lower() != "identity":
        raise UnsupportedMediaType(f"Content-Encoding is {encoding[:80]!r}; expected none")


def parse_json(body: bytes, *, max_values: int, max_depth: int) -> Any:
    """The JSON document in a body. Raises MalformedRequest.

    orjson reads nearly all bodies. Published configs may hold Infinity or NaN, which JSON does not have but Python's
    writer makes; such bodies are read a second time by the parser of the command line, with its bounds.
    """
    containers = body.count(b"[") + body.count(b"{")
    values = body.count(b",") + containers
    if values > max_values:
        raise MalformedRequest(f"the body holds about {values} JSON values; expected at most {max_values}")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        document = _parse_with_infinity(body, str(error))
    if containers > max_depth and depth_exceeds(document, max_depth):
        raise MalformedRequest(f"the body is nested too deeply; expected at most {max_depth} levels")
    return document


def _parse_with_infinity(body: bytes, message: str) -> Any:
    if b"Infinity" not in body and b"NaN" not in body:
        raise MalformedRequest(f"the body is not JSON: {message}")
    try:
        document = parse_config(body, "the body")
        orjson.dumps(document)  # refuses what no JSON answer could hold: lone surrogates, integers above 64 bits
    except InvalidConfig as error:
        raise MalformedRequest(error.message) from None
    except TypeError as error:
        raise MalformedRequest(f"the body is not JSON: {error}") from None
    return document


def depth_exceeds(document: Any, limit: int) -> bool:
    """Whether objects and arrays are nested more than `limit` deep. Walks level by level, so depth costs no stack."""
    level = [document]
    for _ in range(limit):
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return False
    return any(isinstance(value, dict | list) for value in level)


def parse_model(model: type[Model], document: Any) -> Model:
    """The request model in a parsed body. Raises InvalidRequest, which names every field at fault."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidRequest(describe_problems(error.errors())) from None


def describe_problems(problems: Sequence[Any]) -> str:
    """The first problems pydantic found, each as `field: what is wrong`."""
    return "; ".join(_problem(problem["loc"], problem["msg"]) for problem in problems[:5])


def _problem(location: tuple[int | str, ...], message: str) -> str:
    where = ".".join(str(part)[:80] for part in location) or "the body"
    message = message.removeprefix("Value error, ")
    return f"{where}: {message[:1].lower()}{message[1:]}"
