"""The trained artefact -> the probability that a block can be quantized.

The artefact is a folder with two files, neither of which can run code: `booster.json`, as XGBoost writes it, and
`card.json` (format number, features in order, hashes, calibration, training domain, metrics). XGBoost trains the
booster; here its trees are evaluated with numpy, because importing XGBoost takes longer than this project may take to
answer, and because one small booster on the blocks of one model is mostly call overhead there. A test holds both to
the same float32 margins.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastewq.errors import InvalidArtefact
from fastewq.features import FEATURES, Columns, feature_matrix

FORMAT: Final = 1
"""Raised whenever card.json or its meaning changes; a card of another format is refused."""
MAX_FILE_BYTES: Final = 64 * 2**20


@dataclass(frozen=True)
class Trees:
    """A boosted ensemble as complete binary trees of one depth, so that every tree is walked in step.

    features, thresholds   shape (inner nodes, trees); leaves   shape (leaves, trees), float32
    A row goes left where its feature is below the threshold (XGBoost's rule).
    """

    features: NDArray[np.intp]
    thresholds: NDArray[np.float32]
    leaves: NDArray[np.float32]
    base_margin: np.float32

    def margins(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-odds per row of `matrix`, shape (rows, features), summed in tree order like XGBoost does."""
        columns = np.ascontiguousarray(matrix.T)
        right = columns.take(self.features, axis=0) >= self.thresholds[:, :, None]
        values = np.broadcast_to(self.leaves[:, :, None], (*self.leaves.shape, len(matrix)))
        # From the lowest level up, each node takes the value of the child a row would go to: no walk, no look-up.
        first = len(right)
        while first:
            last, first = first, (first - 1) // 2
            values = np.where(right[first:last], values[1::2], values[::2])
        # cumsum adds strictly in order, tree after tree, like XGBoost; a plain sum depends on the number of
        # rows, and a batch must give the same bytes as its items.
        terms = np.vstack([np.full(len(matrix), self.base_margin), values[0]])
        return np.asarray(np.cumsum(terms, axis=0, dtype=np.float32)[-1])


def _complete(tree: Mapping[str, Any], depth: int) -> tuple[list[int], list[float], list[float]]:
    """One XGBoost tree as a complete tree of `depth` levels: a leaf above them is repeated below itself."""
    left, right = tree["left_children"], tree["right_children"]
    feature, condition = tree["split_indices"], tree["split_conditions"]
    level, features, thresholds = [0], [], []
    for _ in range(depth):
        below = []
        for node in level:
            leaf = left[node] < 0
            features.append(0 if leaf else int(feature[node]))
            thresholds.append(float("inf") if leaf else float(condition[node]))
            below += [node, node] if leaf else [int(left[node]), int(right[node])]
        level = below
    return features, thresholds, [float(condition[node]) for node in level]


def _depth(tree: Mapping[str, Any]) -> int:
    left, right = tree["left_children"], tree["right_children"]
    depth, level = 0, [0]
    while level := [child for node in level if left[node] >= 0 for child in (left[node], right[node])]:
        depth += 1
        if depth > 16:
            raise ValueError("a tree is deeper than 16 levels")
    return depth


def parse_booster(text: bytes) -> tuple[Trees, tuple[str, ...]]:
    """The trees and feature names of a binary:logistic model in XGBoost's JSON format.

    Source of the format: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html
    Raises InvalidArtefact where the document is not such a model.
    """
    try:
        learner = json.loads(text)["learner"]
        if learner["objective"]["name"] != "binary:logistic":
            raise ValueError(f"objective is {learner['objective']['name']!r}")
        trees = learner["gradient_booster"]["model"]["trees"]
        depth = max((_depth(tree) for tree in trees), default=0)
        complete = [_complete(tree, depth) for tree in trees]
        score = float(np.ravel(json.loads(learner["learner_model_param"]["base_score"]))[0])
        names = tuple(learner["feature_names"])
        count = len(trees)
        return Trees(
            features=np.array([t[0] for t in complete], dtype=np.intp).reshape(count, -1).T.copy(),
            thresholds=np.array([t[1] for t in complete], dtype=np.float32).reshape(count, -1).T.copy(),
            leaves=np.array([t[2] for t in complete], dtype=np.float32).reshape(count, -1).T.copy(),
            base_margin=np.float32(np.log(score / (1 - score))),
        ), names
    except (KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise InvalidArtefact(f"booster.json is not an XGBoost binary:logistic model: {error!r}") from error


@dataclass(frozen=True)
class Predictor:
    """A loaded and verified artefact."""

    card: Mapping[str, Any]
    trees: Trees
    features: tuple[str, ...]

    @property
    def version(self) -> str:
        return str(self.card["version"])

    def probabilities(self, columns: Columns) -> NDArray[np.float64]:
        """The calibrated probability of "quantize" for every block of `fastewq.features.block_columns`."""
        return self.calibrate(self.trees.margins(feature_matrix(columns, self.features)))

    def calibrate(self, margins: NDArray[np.float32]) -> NDArray[np.float64]:
        """Platt scaling of the log-odds, fitted on held-out families (card: calibration)."""
        slope, intercept = self.card["calibration"]["slope"], self.card["calibration"]["intercept"]
        return np.asarray(1 / (1 + np.exp(-(slope * margins.astype(np.float64) + intercept))))

    def outside_domain(self, columns: Columns) -> list[str]:
        """The facts in which a model lies outside the blocks the booster was trained on, in words; empty if none."""
        domain = self.card["domain"]
        found = []
        for name, (low, high) in domain["ranges"].items():
            values = columns[name].astype(np.float64)
            if len(values) and (values.min() < low or values.max() > high):
                found.append(f"{name} is {_span(values)}; the predictor was trained on {low:.15g} to {high:.15g}")
        kinds = sorted(set(columns["kind"].tolist()) - set(domain["kinds"]))
        if kinds:
            found.append(f"block kind is {', '.join(kinds)}; the predictor was trained on {', '.join(domain['kinds'])}")
        return found


def _span(values: NDArray[np.float64]) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.15g}" if low == high else f"{low:.15g} to {high:.15g}"


def load_predictor(folder: Path | None = None) -> Predictor:
    """The artefact in `folder`, or the one shipped with the package.

    Raises InvalidArtefact where a file is missing or too large, the format is unknown, the booster's SHA-256 is not
    the card's, a feature is not one of this version, or the golden predictions on the card are not reproduced.
    """
    return _shipped() if folder is None else _load(folder)


@cache
def _shipped() -> Predictor:
    return _load(Path(str(files("fastewq.models"))))


def _load(folder: Path) -> Predictor:
    booster = _read(folder / "booster.json")
    try:
        card = json.loads(_read(folder / "card.json"))
        found = card["format"]
        if found != FORMAT:
            raise InvalidArtefact(
                f"{folder}/card.json has format {found!r}; this version of fastewq reads format {FORMAT}"
            )
        digest = hashlib.sha256(booster).hexdigest()
        if digest != card["booster_sha256"]:
            raise InvalidArtefact(
                f"{folder}/booster.json has SHA-256 {digest}; card.json expects {card['booster_sha256']}"
            )
        trees, names = parse_booster(booster)
        unknown = [name for name in card["features"] if name not in FEATURES]
        if unknown or tuple(card["features"]) != names:
            raise InvalidArtefact(f"{folder}/card.json lists features {card['features']}; the booster reads {names}")
        predictor = Predictor(card, trees, names)
        _check_golden(predictor, folder)
    except (KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise InvalidArtefact(f"{folder}/card.json is damaged: {error!r}") from error
    return predictor


def _check_golden(predictor: Predictor, folder: Path) -> None:
    """Predict the rows on the card and compare with what XGBoost itself gave when they were written."""
    golden = predictor.card["golden"]
    margins = predictor.trees.margins(np.array(golden["rows"], dtype=np.float32))
    if not np.allclose(margins, np.array(golden["margins"], dtype=np.float32), rtol=1e-6, atol=1e-6):
        raise InvalidArtefact(f"{folder}: the booster does not reproduce the golden predictions on its card")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidArtefact(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise InvalidArtefact(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    return data
