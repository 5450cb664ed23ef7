from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit

from equipoise.errors import DataError
from equipoise.stats import crossed_draws, exchange_rate, fit_power_law, null_law

SIZES = [8.0, 16.0, 32.0, 64.0, 128.0]


def truth(n: np.ndarray | float) -> np.ndarray:
    return 0.9 - 0.8 * np.asarray(n) ** -0.6


def noisy(sizes: list[float], error: float, count: int = 2000, seed: int = 0, centre: bool = False) -> np.ndarray:
    """Draws around scores that are themselves off by one error (or exact, with ``centre``)."""
    rng = np.random.default_rng(seed)
    scores = truth(np.array(sizes)) + (0 if centre else error) * rng.standard_normal(len(sizes))
    return scores + error * rng.standard_normal((count, len(sizes)))


def test_exact_scores_give_back_the_curve() -> None:
    law = fit_power_law(SIZES, np.tile(truth(np.array(SIZES)), (5, 1)))
    assert (law.a, law.b, law.c) == pytest.approx((0.9, 0.8, 0.6), rel=1e-3)
    assert law.predict(1000).estimate == pytest.approx(truth(1000.0), abs=1e-4)
    assert law.identifiable
    assert law.message is None


def test_fit_agrees_with_scipy() -> None:
    draws = noisy(SIZES, 0.004)
    law = fit_power_law(SIZES, draws)

    def curve(n: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
        return a - b * n**-c

    for index in (3, 77):
        best, _ = curve_fit(
            curve, np.array(SIZES), draws[index], p0=(0.9, 0.8, 0.6), sigma=draws.std(axis=0), maxfev=20_000
        )
        assert law.draws[index] == pytest.approx(best, rel=0.02)


def test_interval_of_the_prediction_covers() -> None:
    held = {200.0: 0, 24.0: 0}
    for seed in range(200):
        law = fit_power_law(SIZES, noisy(SIZES, 0.003, 400, seed))
        for size in held:
            found = law.predict(size)
            held[size] += int(found.low <= truth(size) <= found.high)
    # Parametric-bootstrap intervals of a curved model are a little short; 200 repetitions have an error of 1.5 points.
    assert min(held.values()) / 200 >= 0.90


def test_bounds_hold() -> None:
    law = fit_power_law([8, 16, 32], noisy([8, 16, 32], 0.05), upper=1.0)
    a, b, c = law.draws.T
    assert a.max() <= 1.0
    assert b.min() >= 0
    assert c.min() >= 0.1 - 1e-9
    assert c.max() <= 2.0 + 1e-9


def test_pinned_plateau_is_the_best_on_its_bound() -> None:
    draws = noisy(SIZES, 0.002, 3)
    law = fit_power_law(SIZES, draws, upper=0.85)
    assert law.a == pytest.approx(0.85)
    weights = 1 / draws.var(axis=0)

    def misfit(b: float, c: float) -> float:
        return float((weights * (draws.mean(axis=0) - 0.85 + b * np.array(SIZES) ** -c) ** 2).sum())

    best = misfit(law.b, law.c)
    assert all(misfit(law.b * f, law.c * g) >= best - 1e-9 for f in (0.99, 1, 1.01) for g in (0.99, 1, 1.01))


def test_two_sizes_spread_over_a_stated_family_of_exponents() -> None:
    draws = noisy([20, 80], 0.002, centre=True)
    law = fit_power_law([20, 80], draws)
    assert law.identifiable
    assert law.message is not None
    assert "0.25, 0.5 and 1" in law.message
    assert set(np.unique(law.draws[:, 2])) == {0.25, 0.5, 1.0}
    assert law.predict(20).estimate == pytest.approx(draws[:, 0].mean())
    between, beyond = law.predict(40), law.predict(400)
    assert beyond.high - beyond.low > 3 * (between.high - between.low)


def test_one_size_and_a_flat_curve_say_so() -> None:
    one = fit_power_law([50], noisy([50], 0.01))
    assert not one.identifiable
    assert one.message is not None
    assert "Only one size" in one.message
    assert one.predict(500).estimate == pytest.approx(one.predict(50).estimate)
    flat = fit_power_law([50, 100, 200], 0.8 + 0.01 * np.random.default_rng(0).standard_normal((1000, 3)))
    assert not flat.identifiable
    assert flat.message is not None
    assert "No rise" in flat.message


def test_an_exponent_that_is_not_pinned_down_is_said() -> None:
    scores = np.array([0.5, 0.6, 0.7])  # a straight line in log n: the exponent runs to its lower bound
    law = fit_power_law([10, 20, 40], scores + 0.01 * np.random.default_rng(0).standard_normal((1000, 3)))
    assert law.message is not None
    assert "do not trust it beyond 40" in law.message


def test_needed_inverts_predict_and_knows_its_reach() -> None:
    law = fit_power_law(SIZES, noisy(SIZES, 0.001, centre=True))
    assert law.needed(law.predict(60).estimate).estimate == pytest.approx(60, rel=1e-3)
    assert np.isinf(law.needed(0.99).estimate)
    assert np.isinf(law.needed(float(truth(5000.0))).estimate)  # more than ten times the largest size


def test_exchange_rate_recovers_a_known_worth() -> None:
    draws = noisy(SIZES, 0.001, centre=True)
    law = fit_power_law(SIZES, draws)
    gain = float(truth(48.0) - truth(32.0))  # 64 synthetic cases that are worth 16 real ones
    rate = exchange_rate(law, 32, 64, gain + 0.001 * np.random.default_rng(1).standard_normal(2000))
    assert rate.worth is not None
    assert rate.per_real is not None
    assert rate.worth.estimate == pytest.approx(16, rel=0.05)
    assert rate.worth.low < 16 < rate.worth.high
    assert rate.per_real.estimate == pytest.approx(4, rel=0.05)
    assert rate.per_real.low <= rate.per_real.estimate <= rate.per_real.high
    assert "64 synthetic cases are worth" in rate.message


@pytest.mark.parametrize(("gain", "words"), [(0.0, "no gain"), (-0.05, "lower the score")])
def test_no_proven_gain_has_no_rate(gain: float, words: str) -> None:
    law = fit_power_law(SIZES, noisy(SIZES, 0.001))
    rate = exchange_rate(law, 32, 64, gain + 0.005 * np.random.default_rng(1).standard_normal(2000))
    assert rate.worth is None
    assert rate.per_real is None
    assert words in rate.message


def test_a_gain_beyond_the_curve_has_no_rate_and_one_near_it_an_open_bound() -> None:
    law = fit_power_law(SIZES, noisy(SIZES, 0.001, centre=True))
    noise = np.random.default_rng(1).standard_normal(2000)
    beyond = exchange_rate(law, 32, 64, 0.3 + 0.001 * noise)
    assert beyond.worth is None
    assert "more than the real-only curve can reach" in beyond.message
    near = exchange_rate(law, 32, 64, float(truth(400.0) - truth(32.0)) + 0.02 * noise)
    assert near.worth is not None
    assert np.isinf(near.worth.high)
    assert near.per_real is not None
    assert near.per_real.low == 0.0
    assert "more than the curve can tell" in near.message


def test_a_curve_without_rise_gives_no_rate() -> None:
    rng = np.random.default_rng(0)
    flat = fit_power_law([50, 100], 0.8 + 0.01 * rng.standard_normal((1000, 2)))
    rate = exchange_rate(flat, 50, 100, 0.05 + 0.001 * rng.standard_normal(1000))
    assert rate.worth is None
    assert "No rise" in rate.message


def _trial(effect: float, seed: int) -> np.ndarray:
    """Joint draws of real arms at 8, 16, 32 and mixed arms at 8, 32, from simulated patients and replicates."""
    rng = np.random.default_rng(seed)
    scores = np.array([*truth(np.array([8.0, 16.0, 32.0])), *(truth(np.array([8.0, 32.0])) + effect)])
    patients = 0.05 * rng.standard_normal(80)
    values = (
        scores[:, None, None]
        + patients
        + 0.003 * rng.standard_normal((5, 4, 1))
        + 0.02 * rng.standard_normal((5, 4, 80))
    )
    return crossed_draws(values, rng, 800).draws


def test_null_law_holds_its_level_and_sees_an_effect() -> None:
    wrong = right = 0
    for seed in range(50):
        nothing, something = _trial(0.0, seed), _trial(0.03, seed)
        wrong += null_law([8, 16, 32], nothing[:, :3], [8, 32], nothing[:, 3:]).p_value < 0.05
        right += null_law([8, 16, 32], something[:, :3], [8, 32], something[:, 3:]).p_value < 0.05
    assert wrong <= 6  # 5 % of 50 are 2.5; more than 6 happen in 1 of 70 such tests
    assert right >= 45


def test_null_law_measures_the_excess() -> None:
    draws = _trial(0.05, 1)
    found = null_law([8, 16, 32], draws[:, :3], [8, 32], draws[:, 3:])
    assert len(found.excess) == 2
    assert found.mean_excess.low < 0.05 < found.mean_excess.high
    assert found.message.startswith("Synthetic cases add")
    lost = null_law([8, 16, 32], draws[:, :3], [8, 32], draws[:, 3:] - 0.2)
    assert lost.message.startswith("Synthetic cases take")
    same = null_law([8, 16, 32], draws[:, :3], [8, 32], draws[:, [0, 2]])
    assert same.p_value == 1.0
    assert "not disproven" in same.message


def test_ten_thousand_draws_are_fitted_at_once() -> None:
    assert fit_power_law(SIZES, noisy(SIZES, 0.004, 10_000)).draws.shape == (10_000, 3)


def test_bad_curves_are_refused() -> None:
    good = noisy([8, 16], 0.01, 200)
    with pytest.raises(DataError, match="positive numbers"):
        fit_power_law([0, 16], good)
    with pytest.raises(DataError, match=r"shape \(draws, 3\)"):
        fit_power_law([8, 16, 32], good)
    with pytest.raises(DataError, match="without NaN"):
        fit_power_law([8, 16], np.full((5, 2), np.nan))
    with pytest.raises(DataError, match="one for each draw"):
        exchange_rate(fit_power_law([8, 16], good), 8, 10, np.zeros(3))
    with pytest.raises(DataError, match="positive and finite"):
        fit_power_law([8, 16], good).predict(0)
    with pytest.raises(DataError, match="one call of crossed_draws"):
        null_law([8, 16], good, [8], noisy([8], 0.01, 100))
