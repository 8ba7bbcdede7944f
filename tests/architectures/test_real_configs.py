"""Published configs, block by block, against counts of the transformers library."""

from __future__ import annotations

import json
from pathlib import Path

from fastewq.config import read_config

DERIVED = {
    "MiniMaxAI--MiniMax-M3": 426_174_565_632,
    "XiaomiMiMo--MiMo-7B-Base": 7_833_409_536,
    "moonshotai--Kimi-K2-Instruct": 1_026_408_209_408,
    "nvidia--Llama-3_3-Nemotron-Super-49B-v1": 49_867_145_216,
}
"""Totals of models that the library does not have, from their definitions; the second is also the published size."""


def test_every_block_of_every_config(real_configs: Path) -> None:
    models = json.loads((real_configs / "expected.json").read_text("utf-8"))["models"]
    assert len(models) >= 30
    for name, expected in models.items():
        architecture = read_config(json.loads((real_configs / f"{name}.json").read_text("utf-8")))
        total = DERIVED[name] if expected["blocks"] is None else expected["total_parameters"]
        assert architecture.parameters == total, name
        if expected["blocks"] is not None:
            counts = {b.path: b.layout.parameters for s in architecture.stacks for b in s.blocks}
            assert counts == expected["blocks"], name
