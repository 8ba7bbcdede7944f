"""Labelled blocks -> the artefact: fit on everything, evaluate by holding out, and write both on the card."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from fastewq.features import FACTS, SELECTED, feature_matrix
from fastewq.training.artefact import write_artefact
from fastewq.training.card import write_card
from fastewq.training.evaluation import Booster
from fastewq.training.fit import ROUNDS, SEED, Calibration, fit_booster, parameters
from fastewq.training.levels import aggressive_share
from fastewq.training.study import study
from fastewq.training.table import Blocks, load_blocks

DOMAIN_FACTS: Final = ("num_blocks", "num_parameters", "width", "experts")
"""The facts in which a model can lie outside what was trained on."""


def train(data: Path, output: Path, *, epsilon: float = 0.01) -> dict[str, Any]:
    """Fit, evaluate and write `booster.json`, `card.json` and `model-card.md` with its plots to `output`.

    Returns the card.

    The same table gives the same bytes. Raises NotFound, InvalidDataset, StorageFailure.
    """
    blocks = load_blocks(data, epsilon=epsilon)
    names = SELECTED
    matrix = feature_matrix(blocks.columns, names)
    predict = Booster(names)
    calibration = predict.calibration(blocks, np.arange(len(blocks))) if predict.calibrated else Calibration(1.0, 0.0)
    booster = fit_booster(matrix, blocks.labels, blocks.stacks, names)
    card = {
        "objective": "entropy",
        "label": {
            "definition": "H_block <= mean of its stack (arXiv 2503.04704)",
            "epsilon": epsilon,
            "tensors": "matrices",
        },
        "threshold": None,
        "aggressive_share": round(aggressive_share(blocks), 6),
        "calibration": {
            "method": "none: the booster's own probabilities",
            "slope": calibration.slope,
            "intercept": calibration.intercept,
        },
        "domain": domain(blocks),
        "trained_on": {
            "table": data.name,
            "sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
            "blocks": len(blocks),
            "stacks": len(np.unique(blocks.stacks)),
            "families": np.unique(blocks.families).tolist(),
        },
        "facts": list(FACTS),
        "parameters": {**parameters(names), "rounds": ROUNDS},
        "seed": SEED,
        "versions": {
            "python": ".".join(platform.python_version_tuple()[:2]),
            **{name: version(name) for name in ("fastewq", "numpy", "scikit-learn", "pandas")},
            "xgboost": _xgboost_version(),
        },
        "metrics": study(data, epsilon=epsilon),
    }
    written = write_artefact(output, booster, matrix, card)
    write_card(written, blocks, output)
    return written


def domain(blocks: Blocks) -> dict[str, Any]:
    """What was trained on: the range of each of DOMAIN_FACTS, and the kinds of block."""
    return {
        "ranges": {
            name: [float(blocks.columns[name].min()), float(blocks.columns[name].max())] for name in DOMAIN_FACTS
        },
        "kinds": np.unique(blocks.columns["kind"]).tolist(),
    }


def _xgboost_version() -> str:
    import xgboost

    return str(xgboost.__version__)
