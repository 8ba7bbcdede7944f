"""What one worker holds: settings, the verified predictor, and whether it should get traffic."""

from __future__ import annotations

import logging
import threading

from fastewq.errors import InvalidArtefact
from fastewq.predictor import Predictor, load_predictor

from . import metrics
from .answers import PlanAnswers
from .errors import NotReady
from .settings import Settings

log = logging.getLogger("fastewq.api")

draining = threading.Event()
"""Set once the process has been asked to stop. A signal is the process's, so this is too."""


class Service:
    """`predictor` is None until `load` has read and verified the artefact; then the service is ready."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._predictor: Predictor | None = None
        self._plans: PlanAnswers | None = None
        self._problem = "the predictor is being loaded"

    def load(self) -> None:
        """Load the artefact and verify its hash and golden predictions. A failure is kept, and the service unready."""
        try:
            predictor = load_predictor(self.settings.artefact)
        except InvalidArtefact as error:
            self._problem = "no usable predictor"
            log.error("the predictor is refused: %s", error.message)
        else:
            self._predictor, self._plans = predictor, PlanAnswers(predictor, self.settings)
            metrics.PREDICTOR.labels(predictor.version).set(1)

    @property
    def version(self) -> str:
        """The predictor's version, for the header of every answer; "none" without one."""
        return self._predictor.version if self._predictor else "none"

    @property
    def predictor(self) -> Predictor:
        """Raises NotReady where none is loaded."""
        if self._predictor is None:
            raise NotReady(self._problem, seconds=10)
        return self._predictor

    @property
    def plans(self) -> PlanAnswers:
        """Raises NotReady where no predictor is loaded."""
        if self._plans is None:
            raise NotReady(self._problem, seconds=10)
        return self._plans

    def check_ready(self) -> None:
        """Raises NotReady unless the service should get new traffic."""
        if draining.is_set():
            raise NotReady("the service is shutting down", seconds=10)
        _ = self.predictor
