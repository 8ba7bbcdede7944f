"""Write a trained predictor: `booster.json` as XGBoost saves it and `card.json` beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from fastewq.files import save, writable_folder
from fastewq.predictor import FORMAT

GOLDEN_ROWS = 16


def write_artefact(
    folder: Path, booster: xgb.Booster, matrix: NDArray[np.float32], card: Mapping[str, Any]
) -> dict[str, Any]:
    """Write both files and return the whole card. The same arguments give the same bytes.

    `card` brings what the caller knows (threshold, calibration, domain, metrics ...); the format, the features, the
    booster's hash and golden predictions on rows of `matrix` are added here. The version is the hash's first digits.
    Raises StorageFailure.
    """
    saved = bytes(booster.save_raw("json"))
    digest = hashlib.sha256(saved).hexdigest()
    chosen = np.unique(np.linspace(0, len(matrix) - 1, GOLDEN_ROWS).astype(int))
    names = list(booster.feature_names or ())
    rows = matrix[chosen]
    margins = booster.predict(xgb.DMatrix(rows, feature_names=names), output_margin=True)
    complete = {
        "format": FORMAT,
        "version": f"{card['objective']}-{digest[:12]}",
        **card,
        "features": names,
        "booster_sha256": digest,
        "golden": {"rows": rows.astype(float).tolist(), "margins": margins.astype(float).tolist()},
    }
    writable_folder(folder)
    save(folder / "booster.json", saved)
    save(folder / "card.json", (json.dumps(complete, indent=1, allow_nan=False) + "\n").encode())
    return complete
