"""Predictors and configs for the catalog's tests; nothing here depends on the shipped artefact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from fastewq.features import SELECTED
from fastewq.training.artefact import write_artefact


def make_artefact(folder: Path, seed: int) -> Path:
    """A small booster fitted on noise: its plans mean nothing, but they vary from block to block."""
    generator = np.random.default_rng(seed)
    matrix = (generator.normal(size=(300, len(SELECTED))) * 20).astype(np.float32)
    data = xgb.DMatrix(matrix, (generator.normal(size=300) > 0).astype(int), feature_names=list(SELECTED))
    model = xgb.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1, "seed": seed}, data, 15)
    card = {
        "objective": "entropy",
        "threshold": 0.5,
        "aggressive_share": 0.3,
        "calibration": {"slope": 1.0, "intercept": 0.0},
        "domain": {"ranges": {"num_blocks": [1, 40]}, "kinds": ["attention+dense"]},
        "trained_on": {"blocks": 300},
    }
    write_artefact(folder, model, matrix, card)
    return folder


@pytest.fixture(scope="session")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artefact(tmp_path_factory.mktemp("artefact") / "a", 1)


@pytest.fixture(scope="session")
def other_artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artefact(tmp_path_factory.mktemp("artefact") / "b", 2)


BROKEN = {
    "broken/text": "{not json",
    "broken/list": "[]",
    "broken/type": '{"model_type": 3}',
    "broken/unknown": '{"model_type": "never_heard_of"}',
    "broken/huge": '{"model_type": "llama", "hidden_size": 1e30, "num_hidden_layers": 4}',
    "broken/deep": "[" * 5000 + "]" * 5000,
}


def make_configs(root: Path, count: int = 40) -> dict[str, str]:
    """id -> config text: variations of the project's example, copies, published configs, the defaults of every third
    class of the transformers library, real configs where there are any, broken ones."""
    base: dict[str, Any] = json.loads((root / "examples" / "llama-3.1-8b.json").read_text("utf-8"))
    generator = np.random.default_rng(0)
    found: dict[str, str] = {}
    for index in range(count):
        config = {
            **base,
            "num_hidden_layers": int(generator.integers(1, 60)),
            "intermediate_size": int(generator.integers(10, 200)) * 64,
            "vocab_size": int(generator.integers(1000, 200_000)),
            "tie_word_embeddings": bool(index % 2),
            "torch_dtype": ["bfloat16", "float16", "float32"][index % 3],
        }
        found[f"made/m{index:03}"] = json.dumps(config)
    found["copy/one"] = json.dumps({**base, "_name_or_path": "one"})
    found["copy/two"] = json.dumps({**base, "_name_or_path": "two", "transformers_version": "4.0"}, indent=1)
    found["copy/quantized"] = json.dumps({**base, "quantization_config": {"quant_method": "gptq", "bits": 4}})
    tables = root / "tests" / "architectures"
    published = json.loads((tables / "configs" / "published.json").read_text("utf-8"))
    for number, model in enumerate(published.values()):
        found[f"published/m{number:03}"] = json.dumps(model["config"])
    for path in sorted((tables / "golden").glob("*.json"))[::3]:
        found[f"defaults/{path.stem}"] = json.dumps(json.loads(path.read_text("utf-8"))["cases"][0]["config"])
    real = root.parent / "shared" / "configs"
    for path in sorted(real.glob("*--*.json")) if real.is_dir() else []:
        found[path.stem.replace("--", "/", 1)] = path.read_text("utf-8")
    return found | BROKEN


@pytest.fixture(scope="session")
def configs(root: Path) -> dict[str, str]:
    return make_configs(root)
