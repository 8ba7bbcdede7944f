"""Compiled dequantization against the `gguf` package's own, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize as package_dequantize

from fastewq.analysis.dequantize import _COMPILED, block_layout, can_dequantize, dequantize

THROUGH_PACKAGE = ("Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4")


@pytest.mark.parametrize("dtype", [*_COMPILED, *THROUGH_PACKAGE])
def test_values_are_those_of_the_package(dtype):
    """Random bytes: every code, every packed scale, and float16 scales of every size, NaN and infinity among them."""
    _, size = block_layout(dtype)
    raw = np.random.default_rng(7).integers(0, 256, 999 * size, dtype=np.uint8)
    with np.errstate(all="ignore"):
        expected = np.ravel(package_dequantize(raw.reshape(1, -1), GGMLQuantizationType[dtype]))
    found = dequantize(raw, dtype)
    finite = np.isfinite(expected)
    assert found.dtype == np.float32
    assert finite.mean() > 0.9
    np.testing.assert_array_equal(np.isfinite(found), finite)
    np.testing.assert_array_equal(found[finite].view(np.uint32), expected[finite].view(np.uint32))


@pytest.mark.parametrize("dtype", _COMPILED)
def test_blocks_are_independent(dtype):
    values, size = block_layout(dtype)
    raw = np.random.default_rng(1).integers(0, 128, 10 * size, dtype=np.uint8)
    np.testing.assert_array_equal(
        dequantize(raw, dtype)[3 * values : 5 * values], dequantize(raw[3 * size : 5 * size], dtype)
    )


def test_types_that_hold_no_blocks_are_not_dequantized():
    assert [t for t in ("F32", "F16", "BF16", "I8", "I32", "Q8_1", "Q8_K", "Q4_K") if can_dequantize(t)] == ["Q4_K"]
