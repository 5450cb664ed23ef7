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


def test_intervals_of_components_by_hand() -> None:
    # MSA = 6 and MSB = 4.5 as above, plus an interaction that leaves all means: MSE = 4 * 0.5**2 / 2. Quantiles are
    # those of printed tables.
    table = np.array([[0.5, 2.0, 3.5], [2.5, 4.0, 5.5]]) + 0.5 * np.array([[1, -1, 0], [-1, 1, 0]])
    found = variance_components(table)
    assert found.interaction == pytest.approx(0.5)
    assert found.interaction_interval == pytest.approx((2 * 0.5 / 7.3778, 2 * 0.5 / 0.050636), rel=1e-4)
    # F(1, 2) at 0.975 and 0.025: 38.506 and 0.0012516; chi-square of 1: 5.0239 and 0.00098207.
    low, high = found.replicate_interval
    assert low == 0.0  # (6 - 0.5 * 38.506) is below 0
    assert high == pytest.approx((6 - 0.5 * 0.0012516) / (3 * 0.00098207), rel=1e-4)


@pytest.mark.parametrize("sd", [0.0, 0.1, 0.5])
def test_intervals_of_components_cover(sd: float) -> None:
    rng, runs = np.random.default_rng(3), 1500
    hits = np.zeros(3)
    for _ in range(runs):
        values = sd * rng.standard_normal((4, 1)) + 0.5 * rng.standard_normal(25) + 0.4 * rng.standard_normal((4, 25))
        found = variance_components(values)
        pairs = zip(
            (sd**2, 0.25, 0.16),
            (found.replicate_interval, found.patient_interval, found.interaction_interval),
            strict=True,
        )
        hits += [low <= true <= high for true, (low, high) in pairs]
    # Two sided at 95 %; at a true 0 the lower bound cannot miss, so one tail remains.
    expected = np.array([0.975 if sd == 0 else 0.95, 0.95, 0.95])
    np.testing.assert_allclose(hits / runs, expected, atol=4 * np.sqrt(0.05 * 0.95 / runs))
