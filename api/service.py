"""What one worker holds: settings, the verified predictor, and whether it should get traffic."""

from __future__ import annotations

import asyncio
import threading
from typing import Final, TypeVar

import structlog

from fastewq.architecture import Architecture
from fastewq.architectures import supported
from fastewq.errors import FastEWQError, InvalidArtefact
from fastewq.plan import Plan
from fastewq.predictor import OBJECTIVES, Predictor, load_predictor

from . import metrics
from .errors import NotReady
from .guard import Places
from .lookup import Lookup
from .planner import Asked, Planner
from .schemas import PlanRequest
from .settings import Settings
from .threads import Threads

SERVICE: Final = "service"
"""Where the application leaves its service for handlers and protocol, in the state of its life cycle."""

THREADS: Final = 4
"""Long work at a time. They share one interpreter, so more would only wait for each other."""

LONG_BODY: Final = 128 * 2**10
"""Bytes that are read in a millisecond or so; configs have a few thousand."""

RETRY_SECONDS: Final = 5
"""Between two attempts to load what was missing at the start."""

Part = TypeVar("Part")

log = structlog.get_logger()

draining = threading.Event()
"""Set once the process has been asked to stop. A signal is the process's, so this is too."""


class Service:
    """Unready until `load` has read and verified the predictor and opened the catalog, if there is one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._predictor: Predictor | None = None
        self._planner: Planner | None = None
        self._lookup: Lookup | None = None
        self._problem = "the predictor is being loaded"
        self._reason = ""
        self.threads = Threads(THREADS, settings.work_seconds)
        self.batches = Places(settings.max_batches, "batches")

    def load(self) -> None:
        """Verify the artefact's hash and golden predictions, open the catalog.

        A failure leaves the service unready, and is logged unless it is the one of the last attempt.
        """
        try:
            predictor = load_predictor(self.settings.artefact)
            supported()  # imports every family now, so that no request has to wait for it
            # A service with an artefact of its own serves that one alone.
            others = [] if self.settings.artefact else [load_predictor(objective=name) for name in OBJECTIVES]
            self._lookup = Lookup(self.settings)
        except FastEWQError as error:
            self._problem = "no usable predictor" if isinstance(error, InvalidArtefact) else "no usable catalog"
            if error.message != self._reason:
                self._reason = error.message
                log.error(self._problem, code=error.code, reason=error.message)
        else:
            self._predictor, self._planner = predictor, Planner(predictor, self.settings, others)
            metrics.PREDICTOR.labels(predictor.version).set(1)

    async def keep_loading(self) -> None:
        """Until the service is ready: an artefact or a catalog may come to its place later."""
        while self._planner is None:
            await asyncio.sleep(RETRY_SECONDS)
            await asyncio.to_thread(self.load)

    @property
    def version(self) -> str:
        """The predictor's version, for the header of every answer; "none" without one."""
        return self._predictor.version if self._predictor else "none"

    @property
    def planner(self) -> Planner:
        """Raises NotReady."""
        return self._loaded(self._planner)

    @property
    def lookup(self) -> Lookup:
        """Raises NotReady."""
        return self._loaded(self._lookup)

    def _loaded(self, part: Part | None) -> Part:
        if part is None:
            raise NotReady(self._problem, seconds=RETRY_SECONDS)
        return part

    async def read(self, body: bytes, model: type[Asked]) -> Asked:
        """The request in a body; a long one is read in a thread, so that nobody has to wait for it."""
        if len(body) > LONG_BODY:
            return await self.threads.run(self.planner.read, body, model)
        return self.planner.read(body, model)

    async def plan(self, request: PlanRequest) -> Plan:
        """The plan of a request, whose config is looked up where only the model is named."""
        if request.config is None and request.model is not None:
            found = await self.lookup.config(request.model, request.revision)
            request = request.model_copy(update={"config": found.config, "revision": found.commit})
            plan = await self._plan(request, found.architecture)
            return plan._replace(warnings=(*plan.warnings, found.warning)) if found.warning else plan
        return await self._plan(request)

    async def _plan(self, request: PlanRequest, architecture: Architecture | None = None) -> Plan:
        """At once, in about the time that a thread would take to start; but a budget has to be searched for, and
        overrides in every module."""
        if request.memory is not None or request.devices or "overrides" in request.policy:
            return await self.threads.run(self.planner.plan, request, architecture)
        return self.planner.plan(request, architecture)

    def check_ready(self) -> None:
        """Raises NotReady unless the service should get new traffic."""
        if draining.is_set():
            raise NotReady("the service is shutting down", seconds=10)
        self._loaded(self._planner)
