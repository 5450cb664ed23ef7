from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.errors import DataError, PatientUnknownError, PlanError
from equipoise.stats import by_patient, patient_bootstrap
from equipoise.stats.bootstrap import resample_patients
from equipoise.stats.inputs import stratum_numbers


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_mean_and_spread_are_those_of_the_exact_bootstrap() -> None:
    values = stream().beta(8, 2, 120)
    draws = patient_bootstrap(values, stream(1), 20_000)
    error = values.std() / np.sqrt(120)  # exact standard deviation of a bootstrap mean
    assert draws.mean() == pytest.approx(values.mean(), abs=4 * error / np.sqrt(20_000))
    assert draws.std() == pytest.approx(error, rel=4 * 0.71 / np.sqrt(20_000))


def test_agrees_with_a_loop_over_resamples_with_nan() -> None:
    values = stream().normal(size=(2, 40))
    values[1, :10] = np.nan
    rng = stream(2)
    loop = np.array([np.nanmean(values[:, rng.integers(40, size=40)], axis=1) for _ in range(5000)])
    ours = patient_bootstrap(values, stream(3), 5000)
    for q in (0.025, 0.5, 0.975):
        # standard error of a 2.5 % quantile is 2.67 SD / sqrt(B); two of them differ by sqrt(2) times that
        slack = 4 * 2.67 * np.sqrt(2 / 5000) * loop.std(axis=0)
        assert (np.abs(np.quantile(loop, q, axis=0) - np.quantile(ours, q, axis=0)) < slack).all()


def test_all_columns_share_the_resamples() -> None:
    values = stream().normal(size=(3, 2, 30))
    values[2] = values[0] + 0.5
    draws = patient_bootstrap(values, stream(1), 300)
    assert draws.shape == (300, 3, 2)
    np.testing.assert_allclose(draws[:, 2] - draws[:, 0], 0.5, atol=1e-12)


def test_one_stream_one_result_and_another_another() -> None:
    values = stream().normal(size=50)
    one, same, other = (patient_bootstrap(values, stream(seed), 200) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_many_patients_are_drawn_in_blocks_from_all_of_them() -> None:
    picks = resample_patients(np.zeros(70_000, np.int64), 3, stream())
    assert picks.shape == (3, 70_000)
    # 13,392 picks are expected beyond the range of 16 bits, give or take 112.
    assert (picks >= 65_536).sum() == pytest.approx(3 * (70_000 - 65_536), rel=0.05)


@pytest.mark.parametrize("missing", [0, 4])
def test_few_columns_and_many_give_the_same_draws(missing: int) -> None:
    """Few columns are gathered and many are counted: two ways to one sum."""
    values = stream().normal(size=(5, 33))
    values[:, :missing] = np.nan
    many = patient_bootstrap(values, stream(1), 700)
    for column in range(5):
        np.testing.assert_allclose(patient_bootstrap(values[column], stream(1), 700), many[:, column], atol=1e-13)


def test_strata_keep_their_sizes_and_lose_the_variance_between_them() -> None:
    strata = ["a"] * 30 + ["b"] * 10
    picks = resample_patients(stratum_numbers(strata, 40), 50, stream())
    assert ((picks < 30).sum(axis=1) == 30).all()
    assert np.unique(picks).tolist() == list(range(40))
    values = np.r_[np.zeros(30), np.ones(10)]
    assert patient_bootstrap(values, stream(), 200, strata).std() < 1e-12
    assert patient_bootstrap(values, stream(), 200).std() > 0.05


def test_strata_of_one_patient_are_joined() -> None:
    assert stratum_numbers(["a", "a", "b", "c"], 4).tolist() == [0, 0, 1, 1]
    assert stratum_numbers(["a", "a", "a", "b", "b", "c"], 6).tolist() == [0, 0, 0, 1, 1, 1]
    assert stratum_numbers(["a"], 1).tolist() == [0]


def test_a_resample_without_any_value_is_nan() -> None:
    draws = patient_bootstrap([1.0, np.nan, np.nan, np.nan], stream(), 500)
    assert set(np.unique(draws[np.isfinite(draws)])) == {1.0}
    assert np.isnan(draws).mean() == pytest.approx(0.75**4, abs=0.1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "at least one patient"),
        ([[1.0, 2.0], [np.nan, np.nan]], "no patient with a value"),
        ([1.0, np.inf], "infinite"),
        (["a", "b"], "must be numbers"),
        ([[1.0], [1.0, 2.0]], "rectangular"),
    ],
)
def test_bad_values_are_refused_with_a_reason(values: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        patient_bootstrap(values, stream())  # type: ignore[arg-type]


def test_bad_options_are_refused() -> None:
    with pytest.raises(DataError, match=r"numpy\.random\.Generator"):
        patient_bootstrap([1.0, 2.0], 3)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="at least 100"):
        patient_bootstrap([1.0, 2.0], stream(), 5)
    with pytest.raises(DataError, match="3 stratum labels for 2 patients"):
        patient_bootstrap([1.0, 2.0], stream(), strata=["a", "b", "c"])


def test_cases_are_averaged_within_patients() -> None:
    matrix, names = by_patient([[1, 3, 5, np.nan], [np.nan, 2, 4, np.nan]], ["b", "b", "a", "c"])
    assert names == ["a", "b", "c"]
    np.testing.assert_array_equal(matrix, [[5, 2, np.nan], [4, 2, np.nan]])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(-1e3, 1e3)), min_size=1, max_size=20))
def test_patient_means_do_not_depend_on_the_order_of_cases(cases: list[tuple[str, float]]) -> None:
    one, names = by_patient([[value for _, value in cases]], [owner for owner, _ in cases])
    two, _ = by_patient([[value for _, value in cases[::-1]]], [owner for owner, _ in cases[::-1]])
    np.testing.assert_allclose(one, two, atol=1e-9)
    assert names == sorted({owner for owner, _ in cases})


@pytest.mark.parametrize("patients", [["a"], ["a", ""], []])
def test_cases_without_a_patient_are_refused(patients: list[str]) -> None:
    with pytest.raises(PatientUnknownError):
        by_patient([[1.0, 2.0]], patients)
