"""Permutation, Holm, equivalence and verdicts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from equipoise.errors import DataError, PlanError
from equipoise.stats import (
    Difference,
    bonferroni_level,
    holm,
    non_inferiority,
    paired_difference,
    sign_flip,
    tost,
    verdict,
)


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal_difference(mean: float, error: float) -> Difference:
    """A difference whose draws are the exact quantiles of a normal law."""
    draws = stats.norm.ppf((np.arange(9999) + 0.5) / 9999, mean, error)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Difference(mean, float(low), float(high), 0.95, 50, 3, 0, 0.1, 0.01, False, draws, 0.5)


def test_exact_sign_flip_counts_every_pattern() -> None:
    values = stream().normal(0.3, 1, 9)
    sums = np.array([abs(np.dot(signs, values)) for signs in itertools.product([-1, 1], repeat=9)])
    assert sign_flip(values, stream()) == np.mean(sums >= abs(values.sum()) - 1e-9)


def test_exact_sign_flip_agrees_with_scipy() -> None:
    values = stream(4).normal(0.5, 1, 11)
    theirs = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True, axis=-1
    )
    assert sign_flip(values, stream()) == pytest.approx(theirs.pvalue)


def test_random_sign_flip_agrees_with_the_exact_one() -> None:
    from equipoise.stats import permutation

    values = stream(2).normal(0.35, 1, 20)
    exact = sign_flip(values, stream())
    sums = permutation._all_sums(np.abs(np.r_[values, 1e-13]))
    assert sums.size == 2**20
    # The 21st patient is negligible but takes the test over the limit of exactness.
    drawn = sign_flip(np.r_[values, 1e-13], stream(1), permutations=40_000)
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 40_000))


def test_sign_flip_holds_its_level() -> None:
    rng = stream(3)
    rejected = np.mean(
        [sign_flip(rng.exponential(size=30) * rng.choice([-1, 1], 30), rng, 500) <= 0.05 for _ in range(800)]
    )
    assert 0.02 < rejected <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 800)


def test_sign_flip_averages_replicates_and_leaves_nan_out() -> None:
    values = stream().normal(0.5, 1, (3, 8))
    values[1, 0] = np.nan
    assert sign_flip(values, stream()) == sign_flip(values[:, 1:].mean(axis=0), stream())
    assert sign_flip(np.zeros(5), stream()) == 1.0
    with pytest.raises(DataError, match="every value is NaN"):
        sign_flip([np.nan, np.nan], stream())


def test_holm_by_hand() -> None:
    # sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04, made monotone: .02 .03 .06 .06
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([]).size == 0
    assert holm([0.5, 0.6]).tolist() == [1.0, 1.0]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_raw_and_bonferroni_and_keeps_the_order(p_values: list[float]) -> None:
    raw, adjusted = np.array(p_values), holm(p_values)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(1, raw * raw.size) + 1e-12).all()
    order = np.argsort(raw, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


@pytest.mark.parametrize("p_values", [[0.1, np.nan], [1.2], [-0.1], [[0.1, 0.2]]])
def test_holm_refuses_what_is_no_p_value(p_values: list[float]) -> None:
    with pytest.raises(DataError, match="from 0 to 1"):
        holm(p_values)


def test_bonferroni_level() -> None:
    assert bonferroni_level(0.95, 1) == pytest.approx(0.95)
    assert bonferroni_level(0.95, 10) == pytest.approx(0.995)
    with pytest.raises(PlanError, match="at least 1"):
        bonferroni_level(0.95, 0)


# Half-widths with error 1: 95 % 1.960, 90 % 1.645.
@pytest.mark.parametrize(
    ("mean", "margin", "better", "word"),
    [
        (2.0, None, "higher", "better"),
        (1.9, None, "higher", "not proven"),
        (-2.0, None, "higher", "worse"),
        (-2.0, None, "lower", "better"),
        (2.0, None, "lower", "worse"),
        (2.0, 10.0, "higher", "better"),
        (-2.0, 10.0, "higher", "worse"),
        (0.0, 1.7, "higher", "equal"),
        (0.0, 1.6, "higher", "not proven"),
        (0.0, 1.7, "lower", "equal"),
        (1.0, 1.2, "higher", "not inferior"),
        (-1.0, 1.2, "lower", "not inferior"),
        (-1.0, 1.2, "higher", "not proven"),
        (1.0, 1.2, "lower", "not proven"),
        (0.0, 2.0, "higher", "equal"),
    ],
)
def test_verdicts_follow_the_written_rules(mean: float, margin: float | None, better: str, word: str) -> None:
    assert verdict(normal_difference(mean, 1.0), margin, better) == word  # type: ignore[arg-type]


def test_tost_matches_the_normal_formula() -> None:
    found = tost(normal_difference(0.3, 1.0), 2.5)
    assert found.verdict == "equal"
    assert (found.low90, found.high90) == pytest.approx((0.3 - 1.645, 0.3 + 1.645), abs=0.01)
    assert found.p_value == pytest.approx(stats.norm.sf(2.2), abs=3e-4)
    assert tost(normal_difference(0.3, 1.0), 1.9).verdict == "not proven"


def test_non_inferiority_reads_the_bad_side() -> None:
    up = non_inferiority(normal_difference(0.0, 1.0), 2.0)
    down = non_inferiority(normal_difference(0.0, 1.0), 2.0, "lower")
    assert (up.verdict, down.verdict) == ("not inferior", "not inferior")
    assert up.bound == pytest.approx(-1.96, abs=0.01)
    assert down.bound == pytest.approx(1.96, abs=0.01)
    assert up.p_value == pytest.approx(stats.norm.sf(2.0), abs=5e-4)
    assert non_inferiority(normal_difference(0.0, 1.0), 1.9).verdict == "not proven"


def test_tost_p_value_and_verdict_agree() -> None:
    for mean in np.linspace(-1.5, 1.5, 31):
        found = tost(normal_difference(float(mean), 1.0), 2.5)
        if abs(found.p_value - 0.05) > 0.001:
            assert (found.verdict == "equal") == (found.p_value < 0.05)


@pytest.mark.parametrize("margin", [0.0, -0.1, np.nan, np.inf])
def test_a_margin_must_be_declared_and_positive(margin: float) -> None:
    for test in (tost, non_inferiority, verdict):
        with pytest.raises(PlanError, match="margin must be a positive number"):
            test(normal_difference(0.0, 1.0), margin)


def test_unknown_direction_is_refused() -> None:
    with pytest.raises(PlanError, match="higher"):
        verdict(normal_difference(0.0, 1.0), better="up")  # type: ignore[arg-type]


def test_truly_different_arms_are_seldom_called_equal() -> None:
    """At a true difference of exactly the margin, TOST at 5 % errs in at most 5 % of trials."""
    rng, margin, equal = stream(8), 0.02, 0
    for _ in range(300):
        a = margin + 0.03 * rng.standard_normal(60) + 0.003 * rng.standard_normal((3, 1)) + np.zeros((3, 60))
        equal += tost(paired_difference(a, np.zeros((3, 60)), rng, resamples=500), margin).verdict == "equal"
    assert equal / 300 <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 300)
