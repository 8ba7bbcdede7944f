"""What tools/oracle.py tries beside single changes of a class's default config."""

from __future__ import annotations

from typing import Any

BASE: dict[str, dict[str, Any]] = {
    "gpt_neo": {"num_layers": 4, "attention_types": [[["global", "local"], 2]]},
    "hunyuan_v1_dense": {"num_hidden_layers": 4, "head_dim": 128},
    "ministral": {"num_hidden_layers": 4, "head_dim": 128},
    "nemotron": {"num_hidden_layers": 4, "head_dim": 128},
}
"""A shallow config to change, for types whose default config cannot be built or cannot be cut by its layer count."""

EXTRA: dict[str, list[dict[str, Any]]] = {}
"""Further configs: schedules and options that a change of one default cannot reach."""
