"""Every architecture FastEWQ reads exactly, by `model_type`.

fields.py    checked access to one config
parts.py     attention, feed-forward, expert and norm tensors
body.py      parts -> blocks -> stacks
decoders.py  the registry of decoder-only text models; further families in modules beside it
heads.py     what the class named in `architectures` adds to the body: LM head, classifier, pooler
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastewq.architecture import Architecture
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.decoders import DECODERS
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import causal_lm
from fastewq.errors import InvalidConfig, UnsupportedArchitecture

BODIES: dict[str, BodyBuilder] = {**DECODERS}


def supported() -> list[str]:
    """The model types with an exact layout, sorted."""
    return sorted(BODIES)


def read(config: Mapping[str, Any]) -> Architecture:
    """The architecture of a config; see `fastewq.config.read_config`."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise InvalidConfig(f"model_type is {model_type!r}; expected a string such as 'llama'")
    if model_type not in BODIES:
        raise UnsupportedArchitecture(f"model_type is {model_type[:80]!r}; no exact block layout is known for it")
    f = Fields(config, model_type)
    body = causal_lm(BODIES[model_type], f)
    dtype = f.get("dtype", None) or f.get("torch_dtype", None) or "float32"
    return Architecture(
        model_type=model_type,
        dtype=str(dtype),
        stacks=body.stacks,
        outside=body.outside,
        vocab_size=f.size("vocab_size"),
        tied_embeddings=f.flag("tie_word_embeddings"),
        initializer_range=float(f.get("initializer_range", 0.02)),
        exact=not body.warnings,
        warnings=body.warnings,
    )
