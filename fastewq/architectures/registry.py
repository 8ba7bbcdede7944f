"""model_type -> Model, gathered from the family modules."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.audio import AUDIO
from fastewq.architectures.decoders import DECODERS
from fastewq.architectures.encoders import ENCODERS
from fastewq.architectures.heads import Model
from fastewq.architectures.seq2seq import SEQ2SEQ

MODELS: Mapping[str, Model] = {**DECODERS, **ENCODERS, **SEQ2SEQ, **AUDIO}
