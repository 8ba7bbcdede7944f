"""A Hugging Face config (a dict) -> Architecture. Pure: no file, no network, no code from the repository is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastewq.architecture import Architecture
from fastewq.architectures import read
from fastewq.errors import InvalidConfig
from fastewq.quantized import with_stored
from fastewq.shown import json_kind

MAX_PARAMETERS: Final = 2**50
"""Hundreds of times the largest model published. Their bytes, at most 2**53, every reader of JSON holds exactly."""


def read_config(config: Mapping[str, Any]) -> Architecture:
    """The exact blocks of the model a config describes.

    Matrices that the checkpoint stores quantized are marked so (`Tensor.stored`).

    Raises InvalidConfig where a field is missing, of the wrong type or out of bounds, and UnsupportedArchitecture
    where no layout is known for the `model_type`.
    """
    if not isinstance(config, Mapping):
        raise InvalidConfig(f"the config is {json_kind(config)}; expected a JSON object")
    return bounded(with_stored(read(config), config))


def bounded(architecture: Architecture) -> Architecture:
    """The architecture itself. Raises InvalidConfig where it has more than MAX_PARAMETERS."""
    if architecture.parameters > MAX_PARAMETERS:
        raise InvalidConfig(f"the model has {architecture.parameters} parameters; expected at most {MAX_PARAMETERS}")
    return architecture
