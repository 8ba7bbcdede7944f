"""The kernel against the definition with 60 digits, and the properties that make its results comparable."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastewq.analysis import kernel
from fastewq.analysis.kernel import ROUNDING_BITS, Reading, measure, rounding_errors
from fastewq.analysis.numerics import BATCH, TILE, count_words16
from fastewq.analysis.weights import SAMPLE, bit_values
from fastewq.errors import InputError, InvalidCheckpoint, NonFiniteWeights

from .making import EPSILONS, InMemory, bits_of, exact_entropies, numbers_of

VALUE_TYPES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")


def normal(count: int, std: float = 0.02, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count) * std


def with_outlier(value: float) -> np.ndarray:
    weights = normal(800)
    weights[567] = value
    return weights


CASES = {
    "normal": normal(1500),
    "one weight of 1": with_outlier(1.0),
    "one weight of 10": with_outlier(10.0),
    "one weight of 80": with_outlier(80.0),
    "one weight of -80": with_outlier(-80.0),
    "spread of 30": normal(800, 30),
    "constant": np.full(700, 0.5),
    "single": np.array([3.0]),
    "two maxima": np.array([1.0, -2.0, 1.0, 0.5]),
    "three heavy maxima": np.array([50.0, 50.0, 50.0, 1.0, 2.0]),
    "zeros of both signs": np.array([0.0, -0.0, 0.0, -0.0]),
    "denormal": np.arange(600) * 1e-42,
    "runs end unevenly": normal(513),
}


@pytest.mark.parametrize("value_type", VALUE_TYPES)
@pytest.mark.parametrize("case", CASES)
def test_entropies_are_those_of_the_definition(case, value_type):
    bits = bits_of(CASES[case], value_type)
    numbers = numbers_of(bits, value_type)
    if not np.isfinite(numbers).all():
        pytest.skip("beyond the range of the type")
    found = measure(InMemory(bits.reshape(1, -1), value_type), EPSILONS).entropies
    for eps, exact in zip(EPSILONS, exact_entropies(numbers, EPSILONS), strict=True):
        assert abs(found[eps] - exact) <= 1e-13 * abs(exact), f"eps {eps}: {found[eps]!r}, exactly {exact}"


@pytest.mark.parametrize("value_type", ["F64", "F32", "F16", "BF16"])
def test_an_outlier_of_10000_leaves_only_its_own_term(value_type):
    """exp(-10000) is not a float64: with eps = 0 the entropy is 0, otherwise -log(1 + eps)."""
    found = measure(InMemory(bits_of(with_outlier(1e4), value_type), value_type), EPSILONS).entropies
    assert found[0.0] == 0
    for eps in EPSILONS[1:]:
        assert found[eps] == pytest.approx(-math.log1p(eps), rel=1e-15)


@pytest.mark.parametrize("eps", [1e-100, 1e-30, 0.3, 1.0, 7.0, 1e50])
@pytest.mark.parametrize("value_type", ["F32", "BF16"])
def test_any_epsilon(value_type, eps):
    bits = bits_of(normal(600, 2.0), value_type)
    (exact,) = exact_entropies(numbers_of(bits, value_type), [eps])
    assert abs(measure(InMemory(bits, value_type), [eps]).entropies[eps] - exact) <= 1e-13 * abs(exact)


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no 80-bit floats here to compare with")
@pytest.mark.parametrize("value_type", ["F64", "F32", "F16", "BF16"])
def test_large_matrices_against_extended_precision(value_type):
    bits = bits_of(normal(16 * TILE + 777), value_type)
    weights = numbers_of(bits, value_type).astype(np.longdouble)
    e = np.exp(weights - weights.max())
    p = e / e.sum()
    found = measure(InMemory(bits.reshape(-1, 1), value_type), EPSILONS)
    for eps in EPSILONS:
        exact = -(p * np.log(p + np.longdouble(eps))).sum()
        assert abs(found.entropies[eps] - exact) <= 1e-14 * exact
    centred = weights - weights.mean()
    assert found.mean == pytest.approx(float(weights.mean()), rel=1e-10)
    assert found.variance == pytest.approx(float((centred**2).mean()), rel=1e-13)
    assert found.kurtosis == pytest.approx(float((centred**4).mean() / (centred**2).mean() ** 2), rel=1e-13)


def test_the_spread_that_labels_live_in_is_resolved():
    """Two matrices of a million weights whose entropies differ by 1e-11 are told apart, in the right order."""
    weights = normal(1 << 20).astype(np.float32)
    wider = (weights * np.float32(1.0001)).astype(np.float32)
    narrow, wide = (measure(InMemory(w, "F32"), [0.01]).entropies[0.01] for w in (weights, wider))
    p = [np.exp(w.astype(np.longdouble)) / np.exp(w.astype(np.longdouble)).sum() for w in (weights, wider)]
    exact = [-(q * np.log1p(q / np.longdouble(0.01))).sum() for q in p]
    assert wide < narrow
    assert narrow - wide == pytest.approx(float(exact[0] - exact[1]), rel=1e-3)


@dataclass
class Counting(InMemory):
    """Counts how often values are handed out."""

    values_read: int = 0

    def chunk(self, start, stop):
        self.values_read += stop - start
        return super().chunk(start, stop)


@pytest.mark.parametrize(
    ("count", "outlier", "eps", "readings"),
    [
        (1 << 18, None, 0.01, 1),  # every p is small beside eps
        (1 << 18, None, 1e-12, 1),  # every p is large beside eps
        (1 << 18, None, 0.0, 1),
        (1 << 18, 80.0, 0.01, 1),  # one p is 1, the others are nothing
        (1 << 18, 12.0, 0.01, 1),  # one p is 0.4
        (1 << 18, None, 1e-5, 2),  # p is about eps
        (1 << 12, None, 0.01, 2),
    ],
)
def test_float32_is_read_a_second_time_only_where_the_series_is_too_short(count, outlier, eps, readings, monkeypatch):
    weights = normal(count).astype(np.float32)
    if outlier is not None:
        weights[count // 3] = outlier
    matrix = Counting(weights, "F32", 2 * TILE)
    by_series = measure(matrix, [eps]).entropies[eps]
    assert matrix.values_read == readings * count
    monkeypatch.setattr(kernel._Scan, "small_series", lambda *_: (0.0, math.inf))
    monkeypatch.setattr(kernel._Scan, "large_series", lambda *_: (0.0, math.inf))
    assert by_series == pytest.approx(measure(matrix, [eps]).entropies[eps], rel=1e-15)
    assert matrix.values_read == (readings + (2 if eps else 1)) * count


@settings(max_examples=150)
@given(
    st.integers(1, 600),
    st.floats(-12, 2),
    st.floats(-30, 3),
    st.floats(0, 100),
    st.integers(0, 2**31),
)
def test_no_spread_epsilon_or_outlier_falls_between_the_methods(count, log_spread, log_eps, outlier, seed):
    """All three ways to compute the terms in eps, and the seams between them, against the definition."""
    weights = normal(count, 10**log_spread, seed)
    weights[seed % count] += outlier
    eps = 10**log_eps
    (exact,) = exact_entropies(weights, [eps])
    found = measure(InMemory(weights, "F64"), [eps]).entropies[eps]
    assert abs(found - exact) <= 1e-14 * max(abs(exact), abs(math.log(eps)) * min(1.0, eps * count))


matrices = st.builds(
    lambda rows, columns, std, seed: normal(rows * columns, std, seed).reshape(rows, columns),
    st.integers(1, 700),
    st.integers(1, 700),
    st.sampled_from([1e-30, 1e-3, 0.02, 1.0, 20.0]),
    st.integers(0, 1000),
)


@settings(max_examples=25)
@given(matrices, st.sampled_from(["F64", "F32", "BF16"]), st.integers(1, 5), st.integers(1, 3))
def test_chunk_size_and_threads_do_not_change_a_bit(matrix, value_type, chunk_tiles, threads):
    bits = bits_of(matrix, value_type)
    whole = measure(InMemory(bits, value_type, 64 * TILE), EPSILONS, threads=1)
    assert measure(InMemory(bits, value_type, chunk_tiles * TILE), EPSILONS, threads=threads) == whole


@settings(max_examples=25)
@given(matrices, st.sampled_from(["F64", "F32", "F16"]), st.integers(0, 1000))
def test_the_order_of_values_does_not_matter(matrix, value_type, seed):
    bits = bits_of(matrix, value_type).ravel()
    order = np.random.default_rng(seed).permutation(len(bits))
    before, after = (measure(InMemory(b, value_type), EPSILONS) for b in (bits, bits[order]))
    for eps in EPSILONS:
        assert after.entropies[eps] == pytest.approx(before.entropies[eps], rel=1e-13)
    assert (after.minimum, after.maximum, after.zeros) == (before.minimum, before.maximum, before.zeros)


@settings(max_examples=40)
@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=60), st.sampled_from(EPSILONS))
def test_any_values_at_all(values, eps):
    weights = np.array(values, np.float32)
    (exact,) = exact_entropies(weights, [eps])
    found = measure(InMemory(weights, "F32"), [eps]).entropies[eps]
    # Where one weight takes all of the mass the terms cancel: the bound is on the sum of their magnitudes.
    assert abs(found - exact) <= 1e-14 * max(abs(exact), min(1, eps * 100)) + 1e-300


@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_a_matrix_of_float32_values_reads_the_same_in_every_type(value_type):
    """float8 values are exact in every other type, so all readings but the count's type must agree."""
    bits = bits_of(normal(5000, 0.5), "F8_E5M2").reshape(50, 100)
    numbers = numbers_of(bits, "F8_E5M2")
    reference = measure(InMemory(numbers, "F64"), EPSILONS)
    if value_type.startswith("F8_E4M3"):
        pytest.skip("E4M3 has a smaller range")
    own = bits if value_type == "F8_E5M2" else bits_of(numbers, value_type)
    found = measure(InMemory(own, value_type), EPSILONS)
    for name in ("count", "minimum", "maximum", "zeros", "rounding_rows"):
        assert getattr(found, name) == getattr(reference, name)
    for name in ("mean", "variance", "kurtosis"):
        assert getattr(found, name) == pytest.approx(getattr(reference, name), rel=1e-12)
    assert found.entropies == pytest.approx(reference.entropies, rel=1e-14)
    assert found.rounding_error == pytest.approx(reference.rounding_error, rel=1e-12)


@pytest.mark.parametrize("value_type", ["F32", "BF16"])
def test_other_readings(value_type):
    weights = np.array([[0.0, -0.0, 1.0, -2.0], [0.5, 0.25, 0.0, 4.0]])
    found = measure(InMemory(bits_of(weights, value_type), value_type), [0])
    assert (found.count, found.minimum, found.maximum) == (8, -2.0, 4.0)
    assert found.zeros == 3 / 8
    assert found.mean == weights.mean()
    assert found.variance == pytest.approx(weights.var(), rel=1e-15)
    assert found.kurtosis == pytest.approx(((weights - weights.mean()) ** 4).mean() / weights.var() ** 2, rel=1e-15)
    assert found.rounding_rows == 2


def test_a_constant_matrix_has_no_kurtosis():
    found = measure(InMemory(np.full((3, 5), 0.25, np.float32), "F32"), [0.01])
    assert (found.variance, found.kurtosis) == (0.0, None)


def test_a_small_spread_around_a_large_mean_keeps_its_variance():
    weights = (1000 + normal(100_000, 1e-3)).astype(np.float64)
    exact = float((weights.astype(np.longdouble) - weights.astype(np.longdouble).mean()).__pow__(2).mean())
    assert measure(InMemory(weights, "F64"), [0.01]).variance == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -math.nan])
@pytest.mark.parametrize("value_type", ["F64", "F32", "F16", "BF16"])
@pytest.mark.parametrize("position", [0, 5, TILE - 1, TILE, 3 * TILE + 12])
def test_nan_and_infinity_are_refused_by_name(value_type, bad, position):
    weights = normal(3 * TILE + 13)
    weights[position] = bad
    matrix = InMemory(bits_of(weights, value_type), value_type, chunk_size=TILE, name="h.3.mlp.weight", file="m.bin")
    with pytest.raises(NonFiniteWeights, match=r"m\.bin: tensor h\.3\.mlp\.weight holds 1 NaN or infinite of 196621"):
        measure(matrix)


@pytest.mark.parametrize("weight", [1.7e308, -1.7e308, 1e71])
def test_float64_weights_that_no_model_has_are_refused(weight):
    with pytest.raises(InvalidCheckpoint, match=r"layers\.0\.weight holds 1.*; expected weights up to 1e\+70"):
        measure(InMemory(np.array([[0.0, weight], [weight, 1.0]]), "F64"))


@pytest.mark.parametrize("value_type", ["F32", "BF16"])
def test_the_largest_float32_weights_are_read(value_type):
    largest = float(np.finfo(np.float32).max) * (1 if value_type == "F32" else 0.99)
    found = measure(InMemory(bits_of(np.array([largest, -largest, 0.0]), value_type), value_type), EPSILONS)
    assert all(map(math.isfinite, (*found.entropies.values(), found.variance, found.kurtosis, found.mean)))


@pytest.mark.parametrize(
    ("value_type", "pattern"), [("F8_E4M3", 0x7F), ("F8_E4M3", 0xFF), ("F8_E5M2", 0x7C), ("F8_E5M2FNUZ", 0x80)]
)
def test_float8_without_a_number_is_refused(value_type, pattern):
    bits = np.zeros(100, np.uint8)
    bits[[3, 99]] = pattern
    with pytest.raises(NonFiniteWeights, match="holds 2 NaN"):
        measure(InMemory(bits, value_type))


@pytest.mark.parametrize("eps", [-0.01, math.nan, math.inf, 1e-200])
def test_impossible_epsilons_are_refused(eps):
    with pytest.raises(InputError, match="epsilon is"):
        measure(InMemory(np.ones(4, np.float32), "F32"), [eps])


def test_an_empty_matrix_is_refused():
    with pytest.raises(InputError, match=r"empty \(shape \(0, 4\)\)"):
        measure(InMemory(np.ones((0, 4), np.float32), "F32"))


def test_chunks_need_no_alignment():
    raw = np.zeros(4 * 1000 + 1, np.uint8)
    raw[1:] = normal(1000).astype(np.float32).view(np.uint8)
    for value_type, array in (("F32", raw[1:].view(np.float32)), ("BF16", raw[1:].view(np.uint16))):
        assert array.ctypes.data % 2 == 1
        if value_type == "BF16":
            array[:] = bits_of(normal(2000), "BF16")
        assert measure(InMemory(array, value_type)) == measure(InMemory(array.copy(), value_type))


@pytest.mark.parametrize("frequent", [0, 0x8000, 0x3C12])
@pytest.mark.parametrize("share", [0.0, 0.002, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("words", [1, 20_479, 20_480, 61_447])
def test_patterns_of_any_frequency_are_counted(words, share, frequent):
    """One that occurs more than 255 times in a batch overflows a counter of one byte."""
    generator = np.random.default_rng(words)
    bits = bits_of(normal(4 * words), "BF16")
    bits[generator.random(bits.size) < share] = frequent
    histogram = np.zeros(1 << 16, np.uint32)
    count_words16(bits.view(np.uint64), histogram, BATCH["BF16"])
    np.testing.assert_array_equal(histogram, np.bincount(bits, minlength=1 << 16))


def test_full_counters_are_emptied(monkeypatch):
    bits = bits_of(normal(10 * TILE), "BF16")
    whole = measure(InMemory(bits, "BF16", TILE))
    monkeypatch.setattr(kernel, "COUNTER_LIMIT", 2 * TILE)
    assert measure(InMemory(bits, "BF16", TILE), threads=1) == whole


@pytest.mark.parametrize("value_type", ["F32", "BF16"])
def test_progress_adds_up_to_the_whole(value_type):
    shares: list[float] = []
    measure(InMemory(bits_of(normal(7 * TILE + 5), value_type), value_type, TILE), progress=shares.append, threads=2)
    assert math.fsum(shares) == pytest.approx(1.0)
    assert len(shares) >= 8


def test_a_failing_source_stops_all_lanes():
    """The error comes out, and the lane that did not fail takes no further chunks."""

    class Broken(InMemory):
        reads = 0

        def chunk(self, start, stop):
            Broken.reads += 1
            if start == TILE:
                raise ConnectionError("gone")
            return super().chunk(start, stop)

    with pytest.raises(ConnectionError, match="gone"):
        measure(Broken(np.ones(5000 * TILE // 100, np.float32), "F32", TILE), threads=2)
    assert Broken.reads < 50


# --- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value_type", "largest", "smallest", "numbers"),
    [
        ("F8_E4M3", 448.0, 2.0**-9, 254),
        ("F8_E5M2", 57344.0, 2.0**-16, 248),
        ("F8_E4M3FNUZ", 240.0, 2.0**-10, 255),
        ("F8_E5M2FNUZ", 57344.0, 2.0**-17, 255),
        ("F16", 65504.0, 2.0**-24, 63488),
        ("BF16", 3.3895313892515355e38, 2.0**-133, 65280),
    ],
)
def test_bit_patterns_stand_for_the_numbers_of_the_type(value_type, largest, smallest, numbers):
    values = bit_values(value_type)
    finite = values[np.isfinite(values)]
    assert (finite.max(), finite[finite > 0].min(), len(finite)) == (largest, smallest, numbers)
    assert (finite.min(), finite[finite < 0].max()) == (-largest, -smallest)
    positive = values[: len(values) // 2]
    assert (np.diff(positive[np.isfinite(positive)]) > 0).all()


# --- rounding error ---------------------------------------------------------------------------------------------------


def rounded(rows: np.ndarray, bits: int) -> np.ndarray:
    """Symmetric round-to-nearest in groups of 64, weight by weight."""
    out = rows.copy()
    half = 2 ** (bits - 1)
    for row in out:
        for begin in range(0, len(row), 64):
            group = row[begin : begin + 64]
            if scale := abs(group).max() / (half - 0.5):
                group[:] = np.clip(np.round(group / scale), -half, half - 1) * scale
    return out


@pytest.mark.parametrize("shape", [(10, 256), (3, 100), (64, 1), (2, 63)])
def test_rounding_error_is_that_of_rounding_weight_by_weight(shape):
    rows = normal(math.prod(shape)).reshape(shape)
    for bits, error in rounding_errors(rows).items():
        expected = np.linalg.norm(rows - rounded(rows, bits)) / np.linalg.norm(rows)
        assert error == pytest.approx(expected, rel=1e-12)


def test_rounding_errors_are_ordered_and_zero_for_zeros():
    errors = rounding_errors(normal(64 * 100).reshape(100, 64))
    assert 0 < errors[8] < errors[4] < errors[3] < 1
    assert rounding_errors(np.zeros((3, 64))) == dict.fromkeys(ROUNDING_BITS, 0.0)


@pytest.mark.parametrize("shape", [(1000, 512), (300, 8, 64), (SAMPLE + 5, 1)])
def test_the_sample_is_evenly_spaced_whole_rows(shape):
    weights = normal(math.prod(shape)).astype(np.float32).reshape(shape)
    found = measure(InMemory(weights, "F32", TILE), [0.01], threads=2)
    rows = weights.reshape(shape[0], -1)
    count = min(shape[0], SAMPLE // rows.shape[1])
    chosen = np.linspace(0, shape[0] - 1, count).astype(int)
    assert found.rounding_rows == count
    assert found.rounding_error == rounding_errors(rows[chosen])


def test_of_a_very_long_row_the_beginning_is_sampled():
    weights = normal(2 * (SAMPLE + 100)).astype(np.float32).reshape(2, -1)
    found = measure(InMemory(weights, "F32", TILE), [0.01])
    assert (found.rounding_rows, found.rounding_error) == (1, rounding_errors(weights[:1, :SAMPLE]))


def test_vectors_have_no_rounding_error():
    found = measure(InMemory(np.ones(100, np.float32), "F32"))
    assert (found.rounding_error, found.rounding_rows) == ({}, 0)


def test_readings_compare_by_value():
    weights = InMemory(np.ones((4, 4), np.float32), "F32")
    assert isinstance(measure(weights), Reading)
    assert measure(weights) == measure(weights)


def test_the_reference_is_right_where_the_answer_is_known():
    with mpmath.workdps(50):
        (h,) = exact_entropies([2.0] * 10, [0.0])
        assert abs(h - mpmath.log(10)) < mpmath.mpf(10) ** -48
