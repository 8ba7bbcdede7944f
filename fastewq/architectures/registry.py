"""model_type -> Model, gathered from the family modules."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.decoders import DECODERS
from fastewq.architectures.heads import Model

MODELS: Mapping[str, Model] = {**DECODERS}
