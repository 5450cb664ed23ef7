from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from equipoise.errors import PlanError
from equipoise.stats import (
    minimum_detectable_difference,
    paired_difference,
    planned_power,
    power_at,
    tost,
)
from equipoise.stats.power import behrens_fisher_quantile


def test_behrens_fisher_reduces_to_student_at_both_ends() -> None:
    low, high = behrens_fisher_quantile(np.array([0.0, np.inf]), 60, 2, 0.975)
    assert low == pytest.approx(stats.t.ppf(0.975, 60), rel=0.005)
    assert high == pytest.approx(stats.t.ppf(0.975, 2), rel=0.005)


@pytest.mark.parametrize(("first", "second"), [(19, 2), (99, 4), (5, 5)])
@pytest.mark.parametrize("ratio", [0.3, 1.0, 3.0])
def test_behrens_fisher_agrees_with_draws(first: int, second: int, ratio: float) -> None:
    rng, angle, count = np.random.default_rng(0), np.arctan(ratio), 400_000
    draws = np.cos(angle) * rng.standard_t(first, count) + np.sin(angle) * rng.standard_t(second, count)
    # 400,000 draws place the quantile within about 1 % on the heavy tail of 2 degrees of freedom.
    assert behrens_fisher_quantile(ratio, first, second, 0.975) == pytest.approx(np.quantile(draws, 0.975), rel=0.02)


def test_one_replicate_agrees_with_the_noncentral_t() -> None:
    effect = 0.4 * np.sqrt(40)
    exact = stats.nct.sf(stats.t.ppf(0.975, 39), 39, effect)
    assert power_at(0.4, 40, 1, 1.0, 0.0) == pytest.approx(exact, abs=0.005)


def test_minimum_detectable_difference_has_the_power_it_names() -> None:
    for power in (0.5, 0.8, 0.95):
        size = minimum_detectable_difference(50, 3, 0.05, 0.01, power=power)
        assert power_at(size, 50, 3, 0.05, 0.01) == pytest.approx(power, abs=1e-3)
    assert minimum_detectable_difference(50, 3, 0.0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("patients", "replicates", "sd_p", "sd_r"), [(40, 3, 0.05, 0.005), (40, 5, 0.05, 0.02), (60, 3, 0.02, 0.02)]
)
def test_power_is_what_simulated_trials_find(patients: int, replicates: int, sd_p: float, sd_r: float) -> None:
    rng, size, found, trials = np.random.default_rng(4), 0.04, 0, 500
    for _ in range(trials):
        values = size + sd_p * rng.standard_normal(patients) + sd_r * rng.standard_normal((replicates, 1))
        found += paired_difference(values, np.zeros_like(values), rng, resamples=600).low > 0
    promised = power_at(size, patients, replicates, sd_p, sd_r)
    # 500 trials know a share within 4.5 points (two errors); 2 points more for 600 resamples.
    assert found / trials == pytest.approx(promised, abs=0.065)


def test_power_of_equivalence_is_what_simulated_trials_find() -> None:
    rng, margin, found, trials = np.random.default_rng(5), 0.02, 0, 400
    for _ in range(trials):
        values = 0.03 * rng.standard_normal(60) + 0.004 * rng.standard_normal((5, 1))
        found += tost(paired_difference(values, np.zeros_like(values), rng, resamples=600), margin).verdict == "equal"
    assert found / trials == pytest.approx(power_at(margin, 60, 5, 0.03, 0.004, claim="equal"), abs=0.065)


def test_claims_are_ordered() -> None:
    size = (60, 3, 0.03, 0.005)
    # At equal true arms, "not inferior" asks for one bound and a difference of the margin for its mirror image.
    assert power_at(0.02, *size, claim="not inferior") == pytest.approx(power_at(0.02, *size))
    assert power_at(0.02, *size, claim="not inferior", true_difference=0.01) > power_at(
        0.02, *size, claim="not inferior"
    )
    assert power_at(0.02, *size, claim="equal", true_difference=0.02) <= 0.05


def test_power_grows_with_patients_and_replicates() -> None:
    base = power_at(0.03, 40, 3, 0.06, 0.01)
    assert power_at(0.03, 80, 3, 0.06, 0.01) > base
    assert power_at(0.03, 40, 5, 0.06, 0.01) > base
    assert minimum_detectable_difference(80, 5, 0.06, 0.01) < minimum_detectable_difference(40, 3, 0.06, 0.01)


def test_range_without_a_pilot_is_told_in_one_sentence() -> None:
    plan = planned_power(0.02, 60, 3, (0.03, 0.06), (0.004, 0.01))
    assert plan.power_low < plan.power_high
    assert plan.detectable_low < plan.detectable_high
    assert f"{100 * plan.power_low:.0f} to {100 * plan.power_high:.0f} %" in plan.sentence
    assert "these fits only" in planned_power(0.02, 60, 1, (0.03, 0.03), (0.0, 0.0)).sentence


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(PlanError, match="at least 2 patients"):
        power_at(0.01, 1, 3, 0.1, 0.1)
    with pytest.raises(PlanError, match="not negative"):
        minimum_detectable_difference(10, 3, -0.1, 0.1)
    with pytest.raises(PlanError, match="claim must be one of"):
        power_at(0.01, 10, 3, 0.1, 0.1, claim="same")  # type: ignore[arg-type]
    with pytest.raises(PlanError, match=r"smallest, largest"):
        planned_power(0.01, 10, 3, (0.2, 0.1), (0.0, 0.0))
    with pytest.raises(PlanError, match="margin"):
        power_at(-0.01, 10, 3, 0.1, 0.1)
