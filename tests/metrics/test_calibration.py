from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.errors import DataError, GeometryMismatchError
from equipoise.metrics import (
    ReliabilityBins,
    brier_score,
    expected_calibration_error,
    reliability_table,
    shift_prevalence,
)


def test_error_of_a_constant_prediction_is_its_distance_from_the_rate() -> None:
    outcome = np.arange(100) < 30
    assert expected_calibration_error(np.full(100, 0.5), outcome) == pytest.approx(0.2)
    assert expected_calibration_error(np.full(100, 0.3), outcome) == pytest.approx(0.0)


def test_brier_score_of_certainty_and_of_a_coin() -> None:
    assert brier_score([1.0, 0.0], [True, False]) == 0.0
    assert brier_score([0.0, 1.0], [True, False]) == 1.0
    assert brier_score([0.5, 0.5], [True, False]) == 0.25


def test_bins_hold_equally_many_cases() -> None:
    rng = np.random.default_rng(0)
    probability = rng.beta(0.3, 5, 1003)  # a rare class: bins of equal width would be nearly empty above 0.5
    table = reliability_table(probability, rng.random(1003) < probability, bins=10)
    assert table.count.sum() == 1003
    assert table.count.max() - table.count.min() <= 1
    assert (np.diff(table.predicted) > 0).all()


def test_calibrated_predictions_have_little_error_and_overconfident_ones_have_theirs() -> None:
    rng = np.random.default_rng(1)
    true = rng.uniform(0.2, 0.8, 200_000)
    outcome = rng.random(200_000) < true
    # Noise of a bin of 20,000 cases is sqrt(.25 / 20,000) = .0035.
    assert expected_calibration_error(true, outcome) < 0.006
    # 0.5 + 1.5 (p - 0.5) is off by |p - 0.5| / 2, whose mean over U(0.2, 0.8) is 0.075.
    assert expected_calibration_error(0.5 + 1.5 * (true - 0.5), outcome) == pytest.approx(0.075, abs=0.005)


def test_equal_probabilities_are_never_split() -> None:
    probability = np.r_[np.full(50, 0.1), np.full(50, 0.9)]
    outcome = np.r_[np.zeros(50), np.ones(50)]
    order = np.random.default_rng(2).permutation(100)
    table = reliability_table(probability[order], outcome[order], bins=7)
    assert (table.predicted.round(9).tolist(), table.count.tolist()) == ([0.1, 0.9], [50, 50])


def test_no_case_is_no_figure() -> None:
    assert math.isnan(brier_score([], []))
    assert math.isnan(expected_calibration_error([], []))


def test_shift_recovers_bayes_for_two_gaussians() -> None:
    # Classes N(0, 1) and N(1, 1): log likelihood ratio x - 1/2. Trained at .5, read at .02.
    x = np.linspace(-4, 6, 50)

    def posterior(prevalence: float) -> np.ndarray:
        return 1 / (1 + (1 - prevalence) / prevalence * np.exp(0.5 - x))

    np.testing.assert_allclose(shift_prevalence(posterior(0.5), 0.5, 0.02), posterior(0.02), rtol=1e-12)


def test_shift_repairs_calibration_at_the_real_prevalence() -> None:
    rng = np.random.default_rng(3)
    sick = rng.random(200_000) < 0.05
    x = rng.standard_normal(200_000) + sick
    balanced = 1 / (1 + np.exp(0.5 - x))  # the right posterior for training at one half
    assert expected_calibration_error(balanced, sick) > 0.3
    assert expected_calibration_error(shift_prevalence(balanced, 0.5, 0.05), sick) < 0.005


@given(
    p=st.floats(0.001, 0.999),
    trained=st.floats(0.01, 0.99),
    real=st.floats(0.01, 0.99),
)
def test_shift_there_and_back_changes_nothing_and_two_classes_are_two_columns(
    p: float, trained: float, real: float
) -> None:
    there = shift_prevalence(p, trained, real)
    assert shift_prevalence(there, real, trained) == pytest.approx(p)
    assert (there > p) == (real > trained) or math.isclose(float(there), p)
    both = shift_prevalence([[1 - p, p]], [1 - trained, trained], [1 - real, real])
    assert both.tolist() == [pytest.approx([1 - float(there), float(there)])]


def test_a_class_that_does_not_occur_gets_nothing() -> None:
    shifted = shift_prevalence([[0.2, 0.3, 0.5], [0.0, 0.0, 1.0]], [0.3, 0.3, 0.4], [0.5, 0.5, 0.0])
    assert shifted[0].tolist() == pytest.approx([0.4, 0.6, 0.0])
    assert np.isnan(shifted[1]).all()


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: brier_score([0.5, 0.5], [1]), GeometryMismatchError, "2 probabilities but 1"),
        (lambda: brier_score([1.5], [1]), DataError, "softmax"),
        (lambda: brier_score([math.nan], [1]), DataError, r"\[0, 1\]"),
        (lambda: brier_score([0.5], [2]), DataError, "one class at a time"),
        (lambda: reliability_table([0.5], [1], bins=0), DataError, "1 or more"),
        (lambda: shift_prevalence(0.5, 0.0, 0.5), DataError, "never trained on"),
        (lambda: shift_prevalence([0.5, 0.5], [0.5, 0.4], [0.5, 0.5]), DataError, "sum to 1"),
        (lambda: shift_prevalence([0.5, 0.5], [0.2, 0.3, 0.5], [0.2, 0.3, 0.5]), GeometryMismatchError, "per class"),
    ],
)
def test_bad_input_is_named_with_its_fix(call, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call()


def test_bins_by_hand_and_edges_belong_to_the_bin_above() -> None:
    bins = ReliabilityBins.of([0.0, 0.1, 0.15, 0.95, 1.0], [0, 0, 1, 1, 0])
    count, predicted, positive = bins.tenths()
    assert count.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0, 2]
    assert predicted[[0, 1, 9]] == pytest.approx([0, 0.25, 1.95])
    assert positive[[0, 1, 9]].tolist() == [0, 1, 1]
    assert bins.calibration_error() == pytest.approx((0 + 0.75 + 0.95) / 5)


def test_bins_of_cases_add_up_to_the_bins_of_all_voxels() -> None:
    rng = np.random.default_rng(1)
    p, y = rng.random((2, 500)), rng.random((2, 500)) < 0.3
    added, whole = ReliabilityBins.of(p[0], y[0]) + ReliabilityBins.of(p[1], y[1]), ReliabilityBins.of(p, y)
    assert added.count.tolist() == whole.count.tolist()
    assert added.positive.tolist() == whole.positive.tolist()
    np.testing.assert_allclose(added.predicted, whole.predicted)


@pytest.mark.parametrize(("trained", "real"), [(0.2, 0.1), (0.02, 0.001), (0.1, 0.4)])
def test_shifted_bins_are_the_bins_of_shifted_voxels(trained: float, real: float) -> None:
    rng = np.random.default_rng(2)
    p = 1 / (1 + np.exp(-(3 * rng.standard_normal(50_000) - 2)))
    y = rng.random(p.size) < p
    bins = ReliabilityBins.of(p, y)
    moved = shift_prevalence(p, trained, real)
    exact, quick = ReliabilityBins.of(moved, y), bins.shifted(trained, real)
    assert quick.predicted.sum() == pytest.approx(moved.sum(), rel=0.01)
    assert quick.calibration_error() == pytest.approx(exact.calibration_error(), rel=0.09)
    change = brier_score(moved, y) - brier_score(p, y)
    assert quick.brier_score() - bins.brier_score() == pytest.approx(change, rel=0.09)


def test_shift_back_and_forth_changes_nothing() -> None:
    bins = ReliabilityBins.of([0.01, 0.2, 0.5, 0.99], [0, 0, 1, 1])
    back = bins.shifted(0.3, 0.05).shifted(0.05, 0.3)
    np.testing.assert_allclose(back.predicted, bins.predicted, atol=1e-12)


def test_bins_of_no_voxel_have_no_figure() -> None:
    none = ReliabilityBins.of([], [])
    assert math.isnan(none.calibration_error())
    assert math.isnan(none.brier_score())
    assert math.isnan(none.shifted(0.2, 0.1).calibration_error())
