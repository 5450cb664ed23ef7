from __future__ import annotations

import numpy as np
import pytest

from equipoise.errors import DataError
from equipoise.stats import variance_components


def test_components_by_hand() -> None:
    # Means: rows 2, 4; columns 1.5, 3, 4.5; no interaction. MSA = 3 * 2 = 6, MSB = 2 * 2.25 = 4.5, MSE = 0.
    found = variance_components([[0.5, 2.0, 3.5], [2.5, 4.0, 5.5]])
    assert found.mean == 3.0
    assert (found.replicate, found.patient, found.interaction) == pytest.approx((2.0, 2.25, 0.0))
    assert found.standard_error == pytest.approx(np.sqrt((6 + 4.5) / 6))
    # Satterthwaite: 10.5^2 / (6^2 / 1 + 4.5^2 / 2)
    assert found.degrees_of_freedom == pytest.approx(10.5**2 / (36 + 10.125))


def test_components_are_unbiased() -> None:
    rng, found = np.random.default_rng(1), []
    for _ in range(400):
        values = 0.3 * rng.standard_normal((6, 1)) + 0.5 * rng.standard_normal(40) + 0.4 * rng.standard_normal((6, 40))
        one = variance_components(values)
        found.append((one.replicate, one.patient, one.interaction))
    # Truncation at 0 does not bite at these spreads. Relative errors of the means: 3 %, 1.2 %, 0.5 %; three of each.
    np.testing.assert_allclose(np.mean(found, axis=0), [0.09, 0.25, 0.16], rtol=0.1)


def test_the_variance_is_never_below_what_the_model_allows() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        values = rng.standard_normal((3, 10))  # interaction only: mean squares fall in any order
        found = variance_components(values)
        rows, columns = values.mean(axis=1).var(ddof=1) / 3, values.mean(axis=0).var(ddof=1) / 10
        assert found.standard_error**2 >= max(rows, columns) - 1e-12


def test_counts_and_refusals() -> None:
    values = np.random.default_rng(0).normal(size=(3, 10))
    values[0, 0] = np.nan
    found = variance_components(values)
    assert (found.replicates, found.patients, found.excluded) == (3, 9, 1)
    assert variance_components(np.ones((3, 4))).low == 1.0
    with pytest.raises(DataError, match="at least 2 replicates"):
        variance_components([1.0, 2.0, 3.0])
