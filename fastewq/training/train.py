"""Labelled blocks -> the artefact: fit on everything, evaluate by holding out, and write both on the card."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from fastewq.features import FACTS, feature_matrix
from fastewq.files import writable_folder
from fastewq.training.artefact import write_artefact
from fastewq.training.card import write_card
from fastewq.training.evaluation import Booster
from fastewq.training.fit import ROUNDS, SEED, Calibration, fit_booster, parameters
from fastewq.training.levels import aggressive_share
from fastewq.training.study import study
from fastewq.training.table import SENSITIVITIES, Blocks, load_blocks

DOMAIN_FACTS: Final = ("num_blocks", "num_parameters", "width", "experts")
"""The facts in which a model can lie outside what was trained on."""


def train(data: Path, output: Path, *, objective: str = "entropy", epsilon: float = 0.01) -> dict[str, Any]:
    """Fit, evaluate and write `booster.json`, `card.json` and `model-card.md` with its plots to `output`.

    Returns the card. The same table gives the same bytes. Raises NotFound, InvalidDataset, StorageFailure.
    """
    blocks = load_blocks(data, objective=objective, epsilon=epsilon)
    writable_folder(output)
    chosen = blocks.objective
    predict = Booster()
    calibration = predict.calibration(blocks, np.arange(len(blocks))) if predict.calibrated else Calibration(1.0, 0.0)
    booster = fit_booster(blocks)
    entropy = {"epsilon": epsilon, "tensors": "matrices"} if objective == "entropy" else {}
    card = {
        "objective": chosen.name,
        "label": {"definition": chosen.definition, **entropy},
        "threshold": None,
        "aggressive_share": round(aggressive_share(blocks), 6),
        "aggressive_order": chosen.aggressive_order,
        "calibration": {
            "method": "none: the booster's own probabilities",
            "slope": calibration.slope,
            "intercept": calibration.intercept,
        },
        "domain": domain(blocks),
        "trained_on": {
            "table": data.name,
            "sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
            **_measured(data, chosen.name),
            "blocks": len(blocks),
            "stacks": len(np.unique(blocks.stacks)),
            "families": np.unique(blocks.families).tolist(),
        },
        "facts": list(FACTS),
        "parameters": {**parameters(chosen, chosen.features), "rounds": ROUNDS},
        "seed": SEED,
        "versions": {
            "python": ".".join(platform.python_version_tuple()[:2]),
            **{name: version(name) for name in ("fastewq", "numpy", "scikit-learn", "pandas")},
            "xgboost": _xgboost_version(),
        },
        "metrics": study(data, objective=objective, epsilon=epsilon),
    }
    written = write_artefact(output, booster, feature_matrix(blocks.columns, chosen.features), card)
    write_card(written, blocks, output)
    return written


def _measured(data: Path, objective: str) -> dict[str, str]:
    """The digest of the table of sensitivities, where the labels came from it."""
    if objective != "sensitivity":
        return {}
    return {"sensitivity_sha256": hashlib.sha256(data.with_name(SENSITIVITIES).read_bytes()).hexdigest()}


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
