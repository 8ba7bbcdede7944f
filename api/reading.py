"""Body -> bytes -> JSON -> a request model, within bounds that hold before anything is built."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.types import Message, Receive

from fastewq import jsonio
from fastewq.errors import InvalidConfig

from .errors import BodyTooLarge, ClientGone, InvalidRequest, MalformedRequest, SlowRequest, UnsupportedMediaType

Model = TypeVar("Model", bound=BaseModel)

MAX_FIELDS: Final = 64
"""Of a request, of which none has so many. Beyond it, the unknown ones are not named one by one."""
LOOKS: Final = 4
"""Turns of the event loop in which bytes that wait in the socket become a message: one to receive them, one to wake who
waits for them; and as many again in case the loop was in the middle of a turn."""
BODY_IS_HERE: Final = "body_is_here"
"""Set in a request's state by our protocol once the whole body has arrived: a timer would cost more than reading it."""


async def read_body(request: Request, *, limit: int, seconds: float) -> bytes:
    """The whole body of a JSON request, at most `limit` bytes, sent within `seconds`.

    Raises UnsupportedMediaType, BodyTooLarge (before reading, where the length is declared), SlowRequest, ClientGone.
    """
    headers = dict(request.scope["headers"])
    _check_media_type(headers)
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        raise BodyTooLarge(f"the body has {declared[:20].decode()} bytes; expected at most {limit}")
    if BODY_IS_HERE in request.scope["state"]:
        return await _receive(request.receive, limit)
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        return await _receive(partial(_in_time, request.receive, deadline), limit)
    except TimeoutError:
        raise SlowRequest(f"the body did not arrive within {seconds:g} seconds") from None


async def _in_time(receive: Receive, deadline: float) -> Message:
    """The next message, if it arrives before the deadline, or is on this machine by then. Raises TimeoutError.

    A busy service takes its time to receive what the client has sent long ago, and that is not the client's fault:
    after the deadline it goes on for as long as there is more each time that it looks.
    """
    loop = asyncio.get_running_loop()
    message = asyncio.ensure_future(receive())
    try:
        await asyncio.wait([message], timeout=max(0, deadline - loop.time()))
        for _ in range(LOOKS):
            if message.done():
                return message.result()
            await asyncio.sleep(0)
        raise TimeoutError
    finally:
        message.cancel()


async def _receive(receive: Receive, limit: int) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size > limit:
            raise BodyTooLarge(f"the body has more than {limit} bytes; expected at most that many")
        parts.append(part)
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
    """The JSON document in a body. Raises MalformedRequest."""
    if values := jsonio.values_beyond(max_values, body):
        raise MalformedRequest(f"the body holds about {values} JSON values; expected at most {max_values}")
    try:
        document = jsonio.parse_json(body, "the body")
    except InvalidConfig as error:
        raise MalformedRequest(error.message) from None
    if body.count(b"[") + body.count(b"{") > max_depth and depth_exceeds(document, max_depth):
        raise MalformedRequest(f"the body is nested too deeply; expected at most {max_depth} levels")
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
    """The request model in a parsed body. Raises InvalidRequest, which names the fields at fault."""
    if isinstance(document, dict) and len(document) > MAX_FIELDS:  # each unknown one would take a kilobyte
        known = ", ".join(model.model_fields)
        raise InvalidRequest(f"the request has {len(document)} fields; expected no others than {known}")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidRequest(describe_problems(error.errors())) from None


def describe_problems(problems: Sequence[Any]) -> str:
    """The first problems pydantic found, each as `field: what is wrong`."""
    return "; ".join(_problem(problem["loc"], problem["msg"]) for problem in problems[:5])


def _problem(location: tuple[int | str, ...], message: str) -> str:
    where = ".".join(str(part)[:80] for part in location) or "the request"
    message = message.removeprefix("Value error, ")
    return f"{where}: {message[:1].lower()}{message[1:]}"
