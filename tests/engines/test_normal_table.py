from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from equipoise.core import rng_for
from equipoise.engines.parts.normal_table import quick_normal


def test_numbers_are_normal_and_independent() -> None:
    drawn = quick_normal((3, 300, 301), rng_for(0, "normal"))
    assert drawn.dtype == np.float32
    values = drawn.ravel().astype(float)
    assert stats.kstest(values, "norm").pvalue > 0.01
    assert values.var() == pytest.approx(1, abs=0.01)  # 4 standard errors of 270,900 draws are 0.011
    assert stats.kurtosis(values) == pytest.approx(0, abs=0.04)
    for lag in (1, 2, 3, 4, 301):  # four numbers share a random word
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 0.008


@pytest.mark.parametrize("shape", [(0,), (1,), (5, 3), (2, 7, 1)])
def test_any_shape_is_filled_and_the_stream_decides(shape: tuple[int, ...]) -> None:
    one, same, other = (quick_normal(shape, rng_for(s, "shape")) for s in (1, 1, 2))
    assert one.shape == shape
    np.testing.assert_array_equal(one, same)
    assert one.size == 0 or not np.array_equal(one, other)
