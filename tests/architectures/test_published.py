"""Totals that the publishers' own checkpoints have, for configs written from published sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastewq.config import read_config

PUBLISHED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "configs" / "published.json").read_text("utf-8")
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_total_is_the_published_one(name: str) -> None:
    architecture = read_config(PUBLISHED[name]["config"])
    if "billions" in PUBLISHED[name]:  # the three digits on the page of the model
        assert f"{architecture.parameters / 1e9:.3g}" == f"{PUBLISHED[name]['billions']:.3g}"
    else:
        assert architecture.parameters == PUBLISHED[name]["parameters"]
    assert architecture.exact, architecture.warnings


def test_quantization_and_remote_code_do_not_change_counts() -> None:
    entry = PUBLISHED["Qwen2.5-7B"]
    extra = {
        "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128},
        "auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"},
    }
    assert read_config(entry["config"] | extra).parameters == entry["parameters"]
