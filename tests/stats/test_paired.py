from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from equipoise.errors import DataError, PlanError
from equipoise.stats import crossed_draws, mean_interval, paired_difference, variance_components


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def arms(k: int = 3, p: int = 60, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = stream(seed)
    b = 0.8 + 0.05 * rng.standard_normal(p) + 0.01 * rng.standard_normal((k, 1)) + 0.02 * rng.standard_normal((k, p))
    return b + 0.01 + 0.03 * rng.standard_normal((k, p)) + 0.02 * rng.standard_normal((k, 1)), b


def test_one_replicate_is_students_interval_and_says_it_is_conditional() -> None:
    a, b = arms(k=1)
    found = paired_difference(a, b, stream(), resamples=50_000)
    exact = stats.ttest_rel(a[0], b[0])
    low, high = exact.confidence_interval(0.95)
    assert found.conditional
    assert "conditional on these fits" in found.sentence()
    # Normal data, 60 patients: bootstrap with the tail correction and Student agree to a few per cent of the width.
    assert found.low == pytest.approx(low, abs=0.05 * (high - low))
    assert found.high == pytest.approx(high, abs=0.05 * (high - low))
    assert math.isnan(found.sd_between_replicates)


def test_replicates_alone_give_students_interval_on_k_minus_one() -> None:
    shift = np.array([0.010, 0.025, 0.013])
    found = paired_difference(
        np.full((3, 40), 0.8) + shift[:, None], np.full((3, 40), 0.8), stream(), resamples=200_000
    )
    half = stats.t.ppf(0.975, 2) * shift.std(ddof=1) / np.sqrt(3)
    assert found.estimate == pytest.approx(shift.mean())
    # 200,000 draws place the 2.5 % quantile of t on 2 degrees of freedom within about 1.5 %.
    assert found.high - found.estimate == pytest.approx(half, rel=0.02)
    assert found.estimate - found.low == pytest.approx(half, rel=0.02)


def test_swapping_the_arms_mirrors_the_interval() -> None:
    a, b = arms()
    one, two = paired_difference(a, b, stream(), resamples=40_000), paired_difference(b, a, stream(), resamples=40_000)
    assert one.estimate == pytest.approx(-two.estimate)
    assert one.low == pytest.approx(-two.high, abs=0.05 * (one.high - one.low))


def test_p_value_and_interval_make_the_same_statement() -> None:
    for seed in range(20):
        a, b = arms(seed=seed)
        found = paired_difference(a, b, stream(seed), resamples=1000)
        if abs(found.p_value - 0.05) > 0.005:  # quantiles interpolate between draws, counts do not
            assert (found.low > 0 or found.high < 0) == (found.p_value < 0.05)


def test_more_replicates_that_disagree_widen_what_one_replicate_hides() -> None:
    a, b = arms(k=3)
    alone, crossed = paired_difference(a[:1], b[:1], stream()), paired_difference(a, b, stream())
    assert crossed.high - crossed.low > alone.high - alone.low


def test_pairing_removes_the_patients_own_level() -> None:
    a, b = arms(k=1)
    difference, arm = paired_difference(a, b, stream()), mean_interval(a, stream())
    assert difference.high - difference.low < arm.high - arm.low


def test_patients_without_the_metric_are_left_out_and_counted() -> None:
    a, b = arms()
    whole = paired_difference(a[:, 5:], b[:, 5:], stream())
    a[1, :3], b[2, 2:5] = np.nan, np.nan
    found = paired_difference(a, b, stream())
    assert (found.patients, found.excluded) == (55, 5)
    assert found == replace(whole, excluded=5)
    assert "5 patients without the metric left out" in found.sentence()


def test_identical_arms_do_not_differ() -> None:
    a, _ = arms()
    found = paired_difference(a, a, stream())
    assert (found.estimate, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_another_level_is_read_from_the_same_draws() -> None:
    a, b = arms()
    found = paired_difference(a, b, stream(), level=0.95)
    assert found.interval(0.95) == (found.low, found.high)
    low90, high90 = found.interval(0.90)
    assert found.low < low90 < high90 < found.high
    assert paired_difference(a, b, stream(), level=0.90).low == low90


def test_the_row_is_json_without_draws() -> None:
    row = paired_difference(*arms(), stream()).as_row()
    assert json.loads(json.dumps(row))["low90"] == row["low90"]
    assert "draws" not in row
    assert row["p_value"] <= 1


def test_draws_cannot_be_changed() -> None:
    found = paired_difference(*arms(), stream())
    with pytest.raises(ValueError, match="read-only"):
        found.draws[0] = 0.0


def test_strata_narrow_the_interval_where_they_explain_the_spread() -> None:
    rng = stream(3)
    site = np.repeat([0.0, 0.2], 30)
    values = site + 0.01 * rng.standard_normal((1, 60))
    plain = mean_interval(values, stream())
    stratified = mean_interval(values, stream(), strata=["A"] * 30 + ["B"] * 30)
    spread = np.sqrt(values[0, :30].var(ddof=1) / 30 / 4 + values[0, 30:].var(ddof=1) / 30 / 4)
    assert plain.high - plain.low > 5 * (stratified.high - stratified.low)
    # Stratified standard error in closed form, with Student's quantile on about 58 degrees of freedom.
    assert stratified.high - stratified.low == pytest.approx(2 * 2.0 * spread, rel=0.05)


def test_mixed_effects_check_agrees() -> None:
    a, b = arms(k=5, p=100)
    found, check = paired_difference(a, b, stream()), variance_components(a - b)
    assert check.mean == pytest.approx(found.estimate)
    assert check.agrees_with(found.low, found.high)
    assert not check.agrees_with(found.low + 0.05, found.high + 0.05)


def test_joint_draws_keep_arms_that_share_replicates_together() -> None:
    a, b = arms()
    joint = crossed_draws(np.stack([a, b, a]), stream())
    np.testing.assert_array_equal(joint.draws[:, 0], joint.draws[:, 2])
    assert np.asarray(np.corrcoef(joint.draws[:, :2].T))[0, 1] > 0.2
    np.testing.assert_allclose(joint.estimate, [a.mean(), b.mean(), a.mean()])


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.zeros((3, 5)), np.zeros((3, 6)), "same replicates and patients"),
        (np.zeros((3, 1)), np.zeros((3, 1)), "2 are needed"),
        (np.zeros((2, 3, 4)), np.zeros((2, 3, 4)), r"shape \(replicates, patients\)"),
        (np.array([[1.0, 2.0, 3.0], [np.nan] * 3]), np.zeros((2, 3)), r"replicate\(s\) \[1\] have no value"),
    ],
)
def test_bad_arms_are_refused(a: np.ndarray, b: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        paired_difference(a, b, stream())


def test_bad_options_are_refused() -> None:
    a, b = arms()
    with pytest.raises(PlanError, match=r"level=0\.95"):
        paired_difference(a, b, stream(), level=95)
    with pytest.raises(DataError, match="2 stratum labels for 60 patients"):
        paired_difference(a, b, stream(), strata=["x", "y"])
    with pytest.raises(DataError, match="side must be"):
        paired_difference(a, b, stream()).one_sided_p(0.0, "left")
    with pytest.raises(DataError, match="columns, replicates, patients"):
        crossed_draws(a, stream())
