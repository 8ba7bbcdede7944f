"""What a request must pass before a route sees it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastewq.jsonio import values_in

from .access import Access
from .errors import AnswerTooLarge, BodyTooLarge, Overloaded, TooLarge

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/metrics"})
"""Answered even when the service is full: whoever watches it must be able to."""
KEYED: Final = "/v1/"
"""Only what is below needs a key and counts towards the rate: the pages around it say nothing that is not public."""
VALUE_BYTES: Final = 80
"""Of memory that a JSON value takes beside its text: 8 for a small number in a list, 240 for an object in an object."""
OWN_BYTES: Final = 128 * 2**10
"""Of memory that every request may hold: enough for a plan of usual size."""


class Places:
    """A context that so many may be in at a time; for one more it raises Overloaded."""

    def __init__(self, count: int, what: str) -> None:
        self._count, self._what = count, what
        self._taken = 0

    def take(self) -> None:
        """Raises Overloaded."""
        if self._taken >= self._count:
            raise Overloaded(f"{self._taken} {self._what} are in work; expected at most that many at a time")
        self._taken += 1

    def leave(self) -> None:
        self._taken -= 1

    def __enter__(self) -> None:
        self.take()

    def __exit__(self, *_: object) -> None:
        self.leave()


class Memory:
    """What requests in work may hold together, in bytes: their bodies, what is read from these, and their answers.
    What each may hold in any case is not counted, so that large ones keep no small one out.
    """

    def __init__(self, size: int) -> None:
        self.size = self.free = size


class Held:
    """What one request holds: a place until its answer begins, so that slow readers keep nobody out, and memory until
    its end. Takes the place of the request's `receive` and `send`. Raises Overloaded where there is no place.
    """

    def __init__(self, places: Places, memory: Memory, receive: Receive, send: Send) -> None:
        places.take()
        self._places: Places | None = places
        self._memory, self._receive, self._send = memory, receive, send
        self._size = -OWN_BYTES
        self._taken = 0
        self.refusal: Overloaded | TooLarge | None = None

    async def receive(self) -> Message:
        """Raises Overloaded, BodyTooLarge."""
        message = await self._receive()
        if body := message.get("body"):
            self.take_text(body)
        return message

    def take_text(self, text: bytes) -> None:
        """Count a JSON text and what will be read from it. Raises Overloaded, BodyTooLarge."""
        self._take(len(text) + VALUE_BYTES * values_in(text), BodyTooLarge)

    async def send(self, message: Message) -> None:
        """Raises Overloaded or AnswerTooLarge instead of sending the head of an answer that cannot be held until it is
        read.
        """
        if message["type"] == "http.response.start":
            if message["status"] < 400:  # an error is short, and may say that there is no memory
                try:
                    for name, value in message["headers"]:
                        if name == b"content-length":
                            self._take(int(value), AnswerTooLarge)
                except (Overloaded, TooLarge) as refusal:
                    self.refusal = refusal
                    raise
            self._leave()
        await self._send(message)

    def _take(self, size: int, never: type[TooLarge]) -> None:
        """Raises Overloaded where others hold the memory, `never` where all of it would not do."""
        self._size += size
        if self._size > self._memory.size:
            raise never(f"the request alone takes more memory than the {self._memory.size} bytes for all in work")
        if (more := self._size - self._taken) > 0:
            if more > self._memory.free:
                raise Overloaded("the requests in work hold all the memory that they may")
            self._memory.free -= more
            self._taken += more

    def _leave(self) -> None:
        if self._places is not None:
            self._places.leave()
            self._places = None

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()
        self._memory.free += self._taken


_held: ContextVar[Held | None] = ContextVar("held", default=None)
"""What the request in work holds."""


def hold(text: bytes) -> None:
    """Count a JSON text that was looked up for the request in work like one that was sent. Raises as `take_text`."""
    if held := _held.get():
        held.take_text(text)


class Guard:
    """ASGI middleware inside the envelope, which turns the errors raised here into answers.

    There is no timer here: a plan is made in one go, so a timer could not interrupt it. What can wait has limits of
    its own: reading a body, a batch, a look-up at the Hub.
    """

    def __init__(self, app: ASGIApp, access: Access, max_concurrency: int, max_held_bytes: int) -> None:
        self.app = app
        self.access = access
        self._places = Places(max_concurrency, "requests")
        self._memory = Memory(max_held_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        with Held(self._places, self._memory, receive, send) as held:
            _held.set(held)
            if scope["path"].startswith(KEYED):
                self.access.admit(scope)
            try:
                await self.app(scope, held.receive, held.send)
            except Exception:
                if held.refusal is not None:  # the framework takes an answer that was refused for one that began
                    raise held.refusal from None
                raise
