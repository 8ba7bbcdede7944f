"""A float32 checkpoint of extremes, through the whole analysis, against the definition with 60 digits."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from safetensors.numpy import save_file

from fastewq.analysis.report import analyze

from .making import EPSILONS, exact_entropies

SHAPE = (20, 32)


def normal(seed: int, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(SHAPE) * scale).astype(np.float32)


def with_outlier(value: float, seed: int) -> np.ndarray:
    weights = normal(seed)
    weights[13, 11] = value
    return weights


TENSORS = {
    "an outlier of 1e30": with_outlier(1e30, 1),
    "an outlier of -1e30": with_outlier(-1e30, 2),
    "the largest float32": with_outlier(float(np.finfo(np.float32).max), 3),
    "an outlier of 20": with_outlier(20.0, 4),
    "two outliers of 1e30": np.where(np.arange(math.prod(SHAPE)).reshape(SHAPE) % 320 == 7, 1e30, normal(5)),
    "subnormal": (np.arange(math.prod(SHAPE)).reshape(SHAPE) * 1e-45).astype(np.float32),
    "subnormal and an outlier of 1e30": np.where(normal(6) == normal(6).max(), 1e30, normal(7, 1e-42)),
    "constant": np.full(SHAPE, 0.7),
    "constant zero": np.zeros(SHAPE),
    "constant subnormal": np.full(SHAPE, 1e-44),
}


@pytest.fixture(scope="module")
def readings(tmp_path_factory):
    path = tmp_path_factory.mktemp("extremes") / "model.safetensors"
    named = {f"h.{n // 2}.{'ab'[n % 2]}.weight": t.astype(np.float32) for n, t in enumerate(TENSORS.values())}
    save_file(named, path)
    (stack,) = analyze(path, more_epsilons=EPSILONS).stacks
    found = {tensor.info.name: tensor.readings[0] for block in stack.blocks for tensor in block.tensors}
    return dict(zip(TENSORS, [found[name] for name in named], strict=True)), stack


@pytest.mark.parametrize("case", TENSORS)
def test_entropies_are_correct_to_1e12(readings, case):
    found = readings[0][case].entropies
    for eps, exact in zip(EPSILONS, exact_entropies(TENSORS[case].astype(np.float32), EPSILONS), strict=True):
        assert abs(found[eps] - exact) <= 1e-12 * abs(exact) + 1e-300, f"eps {eps}: {found[eps]!r}, exactly {exact}"


@pytest.mark.parametrize("case", TENSORS)
def test_moments_are_correct_to_1e12(readings, case):
    found, weights = readings[0][case], TENSORS[case].astype(np.float32)
    with mpmath.workdps(120):
        values = [mpmath.mpf(float(w)) for w in weights.ravel()]
        mean = mpmath.fsum(values) / len(values)
        second = mpmath.fsum((w - mean) ** 2 for w in values) / len(values)
        fourth = mpmath.fsum((w - mean) ** 4 for w in values) / len(values)
    largest = float(np.abs(weights).max())
    assert abs(found.mean - mean) <= 1e-12 * max(abs(mean), largest / len(values))
    assert (found.minimum, found.maximum) == (weights.min(), weights.max())
    assert found.zeros == float((weights == 0).mean())
    if weights.min() == weights.max():
        assert (found.variance, found.kurtosis) == (pytest.approx(0, abs=1e-30), None)
    else:
        assert abs(found.variance - second) <= 1e-12 * second
        assert found.kurtosis is None or abs(found.kurtosis - fourth / second**2) <= 1e-12 * fourth / second**2


def test_a_block_of_outliers_is_quantized_and_one_of_constants_kept(readings):
    blocks = readings[1].blocks
    assert blocks[1].quantized
    assert blocks[-1].label == "keep"
