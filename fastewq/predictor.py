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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastewq.architecture import Architecture, Stack
from fastewq.errors import InputError, InvalidArtefact
from fastewq.features import FEATURES, STACK_FACTS, Columns, block_columns, feature_matrix
from fastewq.profiles import DECIMALS, Profiles
from fastewq.shown import shown

OBJECTIVES: Final = ("entropy", "sensitivity")
"""What a shipped predictor was trained to find: blocks of low entropy, or those that measurably matter least."""
DEFAULT_OBJECTIVE: Final = "entropy"

FORMAT: Final = 1
"""Raised whenever card.json or its meaning changes; a card of another format is refused."""
MAX_FILE_BYTES: Final = 64 * 2**20
MAX_DEPTH: Final = 8
"""So that a byte counts the leaves of a tree."""
ROWS_AT_ONCE: Final = 4096
"""Rows per walk of the trees: what it allocates grows with rows times trees."""
MAX_CELLS: Final = 2**14
"""Making a table takes as long as predicting that many blocks: some hundredths of a second."""


@dataclass(frozen=True)
class Trees:
    """A boosted ensemble as complete binary trees of one depth, so that every tree is walked in step.

    features, thresholds   the distinct conditions "feature >= threshold", which send a row to the right (XGBoost's
                           rule); the trees ask few different ones, many times
    nodes                  shape (inner nodes, trees): the number of each node's condition
    leaves                 shape (trees, leaves), float32; those of the first tree include the base margin
    """

    features: NDArray[np.intp]
    thresholds: NDArray[np.float32]
    nodes: NDArray[np.intp]
    leaves: NDArray[np.float32]

    def margins(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-odds per row of `matrix`, shape (rows, features), summed in tree order like XGBoost does."""
        parts = range(0, max(len(matrix), 1), ROWS_AT_ONCE)
        return np.concatenate([self._margins(matrix[start : start + ROWS_AT_ONCE]) for start in parts])

    def _margins(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        trees, leaves = self.leaves.shape
        met = (matrix.T.take(self.features, axis=0) >= self.thresholds[:, None]).view(np.uint8)
        right = met.take(self.nodes, axis=0)
        # From the lowest level up, each node learns which of the leaves below it a row reaches: bytes, and no branch.
        first, width = leaves // 2 - 1, 1
        reached = right[first:]
        while first > 0:
            last, first, width = first, (first - 1) // 2, width * 2
            left = reached[::2]
            reached = left + right[first:last] * (reached[1::2] - left + np.uint8(width))
        values = self.leaves.take(reached[0] + np.arange(0, trees * leaves, leaves)[:, None])
        # cumsum adds strictly in order, tree after tree, like XGBoost; a plain sum depends on the number of
        # rows, and a batch must give the same bytes as its items.
        return np.asarray(np.cumsum(values, axis=0, dtype=np.float32)[-1])


@dataclass(frozen=True)
class Grid:
    """The same ensemble tabulated: between two neighbouring thresholds of a feature, every row gets the same answer.

    edges    per feature, its thresholds in ascending order
    values   the margin of each cell, float32, with an axis for each feature
    """

    edges: tuple[NDArray[np.float32], ...]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, trees: Trees, features: int) -> Grid | None:
        """The table of an ensemble; None where it would have more than MAX_CELLS cells."""
        # np.unique would do, but its first use imports numpy.ma, which takes longer than all of this.
        asked = [set(trees.thresholds[trees.features == number].tolist()) for number in range(features)]
        edges = tuple(np.array(sorted(thresholds), dtype=np.float32) for thresholds in asked)
        shape = [len(edge) + 1 for edge in edges]
        if prod(shape) > MAX_CELLS:
            return None
        inside = np.meshgrid(*(np.insert(edge, 0, -np.inf) for edge in edges), indexing="ij")
        return cls(edges, trees.margins(np.stack([values.ravel() for values in inside], axis=1)).reshape(shape))

    def cells(self, matrix: NDArray[np.float32]) -> tuple[NDArray[np.intp], ...]:
        """The index into `values` for each row of a matrix."""
        return tuple([edge.searchsorted(column, "right") for column, edge in zip(matrix.T, self.edges, strict=True)])

    def margins(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """What `Trees.margins` gives, bit for bit."""
        return self.values[self.cells(matrix)]


def _complete(tree: Mapping[str, Any], depth: int) -> tuple[list[tuple[int, float]], list[float]]:
    """The conditions and leaves of a tree as a complete one of `depth` levels: a leaf higher up is repeated below."""
    left, right = tree["left_children"], tree["right_children"]
    feature, condition = tree["split_indices"], tree["split_conditions"]
    level, conditions = [0], []
    for _ in range(depth):
        below = []
        for node in level:
            leaf = left[node] < 0
            conditions.append((0, float("inf")) if leaf else (int(feature[node]), float(condition[node])))
            below += [node, node] if leaf else [int(left[node]), int(right[node])]
        level = below
    return conditions, [float(condition[node]) for node in level]


def _depth(tree: Mapping[str, Any]) -> int:
    left, right = tree["left_children"], tree["right_children"]
    depth, level = 0, [0]
    while level := [child for node in level if left[node] >= 0 for child in (left[node], right[node])]:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"a tree is deeper than {MAX_DEPTH} levels")
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
        depth = max(1, *(_depth(tree) for tree in trees))
        complete = [_complete(tree, depth) for tree in trees]
        score = float(np.ravel(json.loads(learner["learner_model_param"]["base_score"]))[0])
        conditions = sorted({condition for inner, _ in complete for condition in inner})
        number = {condition: i for i, condition in enumerate(conditions)}
        nodes = [[number[condition] for condition in inner] for inner, _ in complete]
        leaves = np.array([values for _, values in complete], dtype=np.float32)
        leaves[0] += np.float32(np.log(score / (1 - score)))
        return Trees(
            features=np.array([feature for feature, _ in conditions], dtype=np.intp),
            thresholds=np.array([threshold for _, threshold in conditions], dtype=np.float32),
            nodes=np.array(nodes, dtype=np.intp).T.copy(),
            leaves=leaves,
        ), tuple(learner["feature_names"])
    except (KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise InvalidArtefact(f"booster.json is not an XGBoost binary:logistic model: {error!r}") from error


@dataclass(frozen=True)
class Predictor:
    """A loaded and verified artefact."""

    card: Mapping[str, Any]
    ensemble: Trees | Grid
    features: tuple[str, ...]

    @property
    def version(self) -> str:
        return str(self.card["version"])

    @property
    def objective(self) -> str:
        """What the labels it learned from mean."""
        return str(self.card["objective"])

    @property
    def about(self) -> dict[str, Any]:
        """What a plan says of its predictor; each plan has its own, which may be changed."""
        return {
            "version": self.version,
            "objective": self.objective,
            "features": list(self.features),
            "trained_on": dict(self.card["trained_on"]),
        }

    def probabilities(self, columns: Columns) -> NDArray[np.float64]:
        """The probability of "quantize" for every block of `fastewq.features.block_columns`."""
        matrix = feature_matrix(columns, self.features)
        if isinstance(self.ensemble, Grid):
            return self._tabulated[self.ensemble.cells(matrix)]
        return self.calibrate(self.ensemble.margins(matrix))

    @cached_property
    def _tabulated(self) -> NDArray[np.float64]:
        """The probability of each cell of a table."""
        assert isinstance(self.ensemble, Grid)
        return self.calibrate(self.ensemble.values)

    @cached_property
    def _profiles(self) -> Profiles | None:
        """What gives the probabilities of a stack at once, where that is possible."""
        if not isinstance(self.ensemble, Grid) or not Profiles.possible(self.features):
            return None
        return Profiles(self.features, self.ensemble.edges, self._tabulated)

    def of_model(self, architecture: Architecture) -> tuple[float, ...]:
        """What `probabilities` gives for the blocks of a model, rounded as in a plan."""
        profiles = self._profiles
        if profiles is None:
            return rounded(self.probabilities(block_columns(architecture)))
        found = [profiles(architecture, stack) for stack in architecture.stacks]
        return found[0] if len(found) == 1 else tuple(chain.from_iterable(found))

    def of_models(self, architectures: Sequence[Architecture]) -> list[NDArray[np.float64]]:
        """The probabilities of the blocks of each of many models, from one call of the ensemble."""
        if not architectures:
            return []
        ends = np.cumsum([sum(len(stack.blocks) for stack in model.stacks) for model in architectures])
        return np.split(self.probabilities(block_columns(*architectures)), ends[:-1])

    def calibrate(self, margins: NDArray[np.float32]) -> NDArray[np.float64]:
        """Platt scaling of the log-odds, with what the card's `calibration` says; the identity where that helps not."""
        slope, intercept = self.card["calibration"]["slope"], self.card["calibration"]["intercept"]
        return np.asarray(1 / (1 + np.exp(-(slope * margins.astype(np.float64) + intercept))))

    @cached_property
    def _ranges(self) -> list[tuple[str, Callable[[Architecture, Stack], float] | None, float, float, str]]:
        """Of the training domain: the name of a fact, how it is read off a stack, its bounds, and these in words.

        One fact is read off layouts: `num_parameters`.
        """
        return [
            (name, None if name == "num_parameters" else STACK_FACTS[name], low, high, f"{low:.15g} to {high:.15g}")
            for name, (low, high) in self.card["domain"]["ranges"].items()
        ]

    def outside_domain(self, architecture: Architecture) -> list[str]:
        """The facts in which a model lies outside the blocks the booster was trained on, in words; empty if none."""
        layouts = architecture.layouts
        if not layouts:
            return []
        stacks = [stack for stack in architecture.stacks if stack.blocks.paths]
        found = []
        for name, fact, low, high, trained_on in self._ranges:
            if fact is None:
                values: list[float] = [layout.parameters for layout in layouts]
            else:
                values = [fact(architecture, stack) for stack in stacks]
            lowest, highest = min(values), max(values)
            if lowest < low or highest > high:
                words = f"{lowest:.15g}" if lowest == highest else f"{lowest:.15g} to {highest:.15g}"
                found.append(f"{name} is {words}; the predictor was trained on {trained_on}")
        known = self.card["domain"]["kinds"]
        if kinds := sorted({layout.kind for layout in layouts}.difference(known)):
            found.append(f"block kind is {', '.join(kinds)}; the predictor was trained on {', '.join(known)}")
        return found


def rounded(probabilities: NDArray[np.float64]) -> tuple[float, ...]:
    """Probabilities as in a plan."""
    return tuple(probabilities.round(DECIMALS).tolist())


def load_predictor(folder: Path | None = None, objective: str | None = None) -> Predictor:
    """The artefact in `folder`, or the one shipped with the package for an objective.

    objective   one of OBJECTIVES; DEFAULT_OBJECTIVE, or whatever the folder's is, unless given

    Raises InputError for another objective than there is, and InvalidArtefact where a file is missing or too large, the
    format is unknown, the booster's SHA-256 is not the card's, a feature is not one of this version, or the golden
    predictions on the card are not reproduced.
    """
    if folder is None:
        return _shipped(known_objective(DEFAULT_OBJECTIVE if objective is None else objective))
    predictor = _load(folder)
    if objective is not None and predictor.objective != known_objective(objective):
        raise InputError(f"objective is {objective!r}; the predictor in {folder} has {predictor.objective!r}")
    return predictor


def shipped_folder(objective: str) -> Path:
    """Where the package keeps the artefact of an objective."""
    return Path(str(files("fastewq.models"))) / known_objective(objective)


def known_objective(objective: str) -> str:
    """The name itself. Raises InputError unless it is one of OBJECTIVES."""
    if objective not in OBJECTIVES:
        raise InputError(f"objective is {shown(objective, 40)}; expected one of {', '.join(OBJECTIVES)}")
    return objective


@cache
def _shipped(objective: str) -> Predictor:
    return _load(shipped_folder(objective))


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
        predictor = Predictor(card, Grid.of(trees, len(names)) or trees, names)
        _check_golden(predictor, folder)
    except (KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise InvalidArtefact(f"{folder}/card.json is damaged: {error!r}") from error
    return predictor


def _check_golden(predictor: Predictor, folder: Path) -> None:
    """Predict the rows on the card and compare with what XGBoost itself gave when they were written."""
    golden = predictor.card["golden"]
    margins = predictor.ensemble.margins(np.array(golden["rows"], dtype=np.float32))
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
