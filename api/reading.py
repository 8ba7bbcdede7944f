"""Body -> bytes -> JSON -> a request model, within bounds that hold before anything is built."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.types import Message, Receive

from fastewq import jsonio
from fastewq.errors import InvalidConfig
from fastewq.shown import shown

from .errors import BodyTooLarge, ClientGone, InvalidRequest, MalformedRequest, SlowRequest, UnsupportedMediaType

Model = TypeVar("Model", bound=BaseModel)

MAX_FIELDS: Final = 64
"""Of a request, of which none has so many. Beyond it, the unknown ones are not named one by one."""
MAX_PROBLEMS: Final = 5
"""Named in one error."""
MAX_SHOWN: Final = 60
"""Characters of a value in an error."""
EXPECTED: Final = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "an object",
    "float_parsing": "a number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge}",
    "int_parsing": "an integer",
    "int_parsing_size": "an integer",
    "int_type": "an integer",
    "is_instance_of": "an object",
    "less_than_equal": "at most {le}",
    "list_type": "a list",
    "model_type": "an object",
    "string_pattern_mismatch": "a match of {pattern}",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "{min_length} or more characters",
    "string_type": "a string",
    "too_long": "at most {max_length} entries",
    "too_short": "{min_length} or more entries",
}
"""In requests and settings, by pydantic's type of error, where its own words are those of Python, or no continuation of
"expected"."""
LOOKS: Final = 4
"""Turns of the event loop in which bytes that wait in the socket become a message: one to receive them, one to wake who
waits for them; and as many again in case the loop was in the middle of a turn."""
BODY_IS_HERE: Final = "body_is_here"
"""Set in a request's state by our protocol once the whole body has arrived: a timer would cost more than reading it."""


async def read_body(request: Request, *, limit: int, seconds: float) -> bytes:
    """The whole body of a JSON request, at most `limit` bytes, sent within `seconds`.

    Raises UnsupportedMediaType, BodyTooLarge (before reading, where the length is declared), SlowRequest, ClientGone,
    and InvalidRequest where fields stand in the query, where nobody would read them.
    """
    if request.scope["query_string"]:
        check_query(request)
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


def check_query(request: Request, known: Collection[str] = ()) -> None:
    """Raises InvalidRequest for a parameter that is not known, or given twice: which was meant cannot be known."""
    names = [name for name, _ in parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)]
    if unknown := [name for name in dict.fromkeys(names) if name not in known]:
        raise InvalidRequest(unknown_names("parameters", unknown, known))
    for name in known:
        if names.count(name) > 1:
            raise InvalidRequest(f"{name} is given {names.count(name)} times; expected once")


def _check_media_type(headers: Mapping[bytes, bytes]) -> None:
    kind = headers.get(b"content-type", b"")
    if kind != b"application/json":
        name, _, parameters = kind.decode("latin-1").partition(";")
        if name.strip().lower() != "application/json":
            raise UnsupportedMediaType(f"Content-Type is {name[:80]!r}; expected 'application/json'")
        charset = parameters.strip().lower().removeprefix("charset=").strip('"')
        if charset not in ("", "utf-8", "utf8"):
            raise UnsupportedMediaType(f"Content-Type says {parameters[:80]!r}; expected UTF-8")
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding.lower() != b"identity":
        raise UnsupportedMediaType(f"Content-Encoding is {encoding[:80].decode('latin-1')!r}; expected none")


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
        problems = error.errors(include_url=False)
        unknown = [problem["loc"][0] for problem in problems if problem["type"] == "extra_forbidden"]
        if unknown:
            raise InvalidRequest(unknown_names("fields", unknown, model.model_fields)) from None
        raise InvalidRequest(describe_problems(problems)) from None


def unknown_names(kind: str, names: Sequence[object], known: Collection[str]) -> str:
    """What is wrong with a request in which nobody knows these names of `kind`."""
    named = ", ".join(shown(name, MAX_SHOWN) for name in names[:MAX_PROBLEMS])
    expected = f"no others than {', '.join(known)}" if known else "none"
    return f"the request has unknown {kind}: {named}; expected {expected}"


def describe_problems(problems: Iterable[Mapping[str, Any]]) -> str:
    """The first fields at fault that pydantic found, each as `field is VALUE; expected WHAT`."""
    described: dict[str, str] = {}
    for problem in problems:
        where = _field(problem["loc"])
        # A value that is no member of a union is a problem of each member, one after the other.
        described[where] = f"{described[where]} or {wanted(problem)}" if where in described else _problem(problem)
    return "; ".join([*described.values()][:MAX_PROBLEMS])


def _field(location: Sequence[int | str]) -> str:
    """Where a problem is, as the user wrote it.

    Requests are flat: beyond a field's name there are only places in a list, and pydantic's own names for the members
    of a union. Before the name of a parameter there is where it comes from.
    """
    name, *rest = location[1:] if location[:1] in (("query",), ("path",)) else location or ("the request",)
    return f"{name}{''.join(f'[{place}]' for place in rest if isinstance(place, int))}"


def _problem(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "value_error":  # of a validator of ours, which says it all
        return str(problem["ctx"]["error"])
    where = _field(problem["loc"])
    if problem["type"] == "missing":
        return f"{where} is missing"
    return f"{where} is {shown(problem['input'], MAX_SHOWN)}; expected {wanted(problem)}"


def wanted(problem: Mapping[str, Any]) -> str:
    """What pydantic, or a validator of ours, expected in place of a value."""
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    words = EXPECTED.get(problem["type"])
    if words is None:
        return str(problem["msg"].removeprefix("Input should be "))
    return words.format(**problem.get("ctx", {}))
