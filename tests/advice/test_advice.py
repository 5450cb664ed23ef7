from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import toys
from toys import finished_in

from equipoise.advice import advise
from equipoise.advice.money_map import GRID, money_map
from equipoise.core import registry
from equipoise.errors import PlanError
from equipoise.experiment.contrasts import Scores
from equipoise.experiment.plan import PricePlan
from equipoise.experiment.run import Finished
from equipoise.stats import exchange_rate, fit_power_law
from equipoise.workspace import Workspace

ARMS = {"sizes": [2, 4, 8], "replicates": 3, "ratios": [1.0], "budgets": ["steps"]}
DATA = {"kind": "toy-cases", "count": 60}
MARGIN = 0.03
CURVE = 0.4
"""The scores are set to .8 - .4 / n: .75 at the 8 real cases at hand, .7636 at 11, .7778 at 18, .7857 at 28."""


@pytest.fixture(autouse=True, scope="module")
def _toys_are_registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "entry_points", lambda group: toys.ENTRIES.get(group, []))
        yield


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    with Workspace(tmp_path_factory.mktemp("w")) as workspace:
        return finished_in(workspace, arms=ARMS, data=DATA, metric={"margin": MARGIN})


def scored(finished: Finished, gain: dict[str, float], noise: float = 0.002, slope: float = CURVE) -> Finished:
    """The experiment with scores that are set: a gain per arm and a learning curve, with noise per row."""
    rng = np.random.default_rng(0)
    rows = finished.rows
    base = 0.8 - slope / pl.col("n")
    patient = pl.col("patient").hash(0) % 1000 / 10_000
    bonus = pl.lit(0.0)
    for arm, value in gain.items():
        bonus = bonus + pl.when(pl.col("arm") == arm).then(value).otherwise(0.0)
    jitter = pl.Series(rng.normal(0, noise, rows.height))
    return replace(finished, rows=rows.with_columns(dice=base + patient + bonus + jitter))


def with_plan(finished: Finished, **changes: Any) -> Finished:
    """The experiment under a plan with another part."""
    plan = finished.prepared.plan.model_copy(update=changes)
    return replace(finished, prepared=replace(finished.prepared, context=replace(finished.prepared.context, plan=plan)))


def metric(finished: Finished, margin: float) -> Finished:
    return with_plan(finished, metric=finished.prepared.plan.metric.model_copy(update={"margin": margin}))


# --- the outcomes --------------------------------------------------------------------------------------------------


def test_a_proven_mix_is_advised_above_always_real(experiment: Finished) -> None:
    advice = advise(Scores(scored(experiment, {"mixed 1:1": 0.3})), budget=60.0).advice
    assert advice.action == "buy mix"
    assert advice.synthetic >= 8
    assert "calls relevant" not in advice.sentence


def test_a_mix_that_is_hardly_better_than_real_is_advised_and_said_to_be(experiment: Finished) -> None:
    # Real cases gain .0136 for this money and the mix .034: a proven difference, but less than the margin of .03.
    advice = advise(Scores(scored(experiment, {"mixed 1:1": 0.034}, noise=0.0005)), budget=180.0).advice
    assert advice.action == "buy mix"
    assert "proven, but below the 0.03 that this plan calls relevant" in advice.sentence


def test_synthetic_cases_that_do_nothing_are_not_advised(experiment: Finished) -> None:
    advised = advise(Scores(scored(experiment, {})), budget=6000.0)
    assert advised.advice.action == "buy real"
    assert advised.advice.real == 100
    # 100 more gain .0463: all of its interval lies above the margin.
    assert "calls relevant" not in advised.advice.sentence
    assert advised.exchange.real_equivalent is None
    assert "No exchange rate" in advised.exchange.message


def test_real_cases_that_gain_less_than_the_margin_are_not_advised(experiment: Finished) -> None:
    # 10 more real cases gain .0278. The margin is gained by .78 = .8 - .4 / 20: 12 more, at 60 each.
    advice = advise(Scores(scored(experiment, {}, noise=0.0005)), budget=600.0).advice
    assert advice.action == "buy nothing yet"
    assert (advice.real, advice.synthetic, advice.train_next) == (0, 0, [])
    assert advice.expected_gain is not None
    assert 0 < advice.expected_gain.low < 0.0278 < advice.expected_gain.high < MARGIN
    assert "below the difference that this plan calls relevant, 0.03" in advice.sentence
    assert "takes 12 more real cases" in advice.sentence
    assert "about 7" in advice.sentence


def test_a_gain_that_may_not_matter_is_advised_with_that_reserve(experiment: Finished) -> None:
    # 12 more real cases gain .03, the margin itself: proven to be a gain, not to be one that matters.
    advice = advise(Scores(scored(experiment, {}, noise=0.0005)), budget=720.0).advice
    assert advice.action == "buy real"
    assert "That it reaches the 0.03 that this plan calls relevant is not proven" in advice.sentence


def test_a_mix_that_gains_less_than_the_margin_is_not_advised(experiment: Finished) -> None:
    # Ten euros pay for no real case, but for eight synthetic ones.
    advice = advise(Scores(scored(experiment, {"mixed 1:1": 0.02}, noise=0.0005)), budget=10.0).advice
    assert advice.action == "buy nothing yet"
    assert "the mix" in advice.sentence


def test_a_plateau_below_the_margin_is_said_to_be_one(experiment: Finished) -> None:
    advice = advise(Scores(metric(scored(experiment, {}, noise=0.0005), 0.2)), budget=6000.0).advice
    assert advice.action == "buy nothing yet"
    assert "no number of real cases that can be foreseen gains that" in advice.sentence


def test_noise_is_not_enough_evidence_to_spend_money(experiment: Finished) -> None:
    advice = advise(Scores(scored(experiment, {}, noise=0.01, slope=0.0)), budget=5000.0).advice
    assert advice.action == "not enough evidence"
    assert advice.train_next == ["real at n = 16", "mixed 1:1 at n = 16", "two more replicates"]


def test_money_for_no_case_and_a_price_of_nothing(experiment: Finished) -> None:
    finished = scored(experiment, {})
    advice = advise(Scores(finished), budget=59.0).advice
    assert advice.action == "not enough evidence"
    assert "59 EUR buys no real case at 60 EUR each" in advice.sentence
    free = with_plan(finished, prices=PricePlan(real_case=0.0))
    assert "no price of a real case" in advise(Scores(free), budget=100.0).advice.sentence


@pytest.mark.parametrize("budget", [-1.0, float("nan"), float("inf")])
def test_a_budget_is_an_amount(experiment: Finished, budget: float) -> None:
    with pytest.raises(PlanError, match="a budget must be 0 or more"):
        advise(Scores(experiment), budget=budget)


# --- what it rests on ----------------------------------------------------------------------------------------------


def test_few_replicates_are_conditional(experiment: Finished) -> None:
    advised = advise(Scores(scored(experiment, {"mixed 1:1": 0.02}, noise=0.0005)), 6000.0)
    assert advised.advice.expected_gain is not None
    assert advised.advice.expected_gain.conditional
    assert advised.exchange.real_equivalent is not None
    assert advised.exchange.real_equivalent.conditional


def test_advice_reads_validation_only(experiment: Finished) -> None:
    finished = scored(experiment, {})
    sealed = (pl.col("where") == "inside") & (pl.col("arm") == "mixed 1:1")
    flattered = finished.rows.with_columns(dice=pl.when(sealed).then(0.99).otherwise(pl.col("dice")))
    a, b = (advise(Scores(replace(finished, rows=rows)), 600.0) for rows in (finished.rows, flattered))
    assert a == b


def test_more_money_buys_more(experiment: Finished) -> None:
    finished = scored(experiment, {})
    assert [advise(Scores(finished), budget).advice.real for budget in (1800.0, 3600.0)] == [30, 60]


def test_an_instrument_is_not_for_sale(tmp_path_factory: pytest.TempPathFactory) -> None:
    engines = {"mine": {"kind": "toy-engine"}, "zero": {"kind": "toy-engine", "gap": 0.1, "known_gap": "zero"}}
    with Workspace(tmp_path_factory.mktemp("w")) as workspace:
        finished = finished_in(workspace, arms={**ARMS, "sizes": [2, 4]}, data=DATA, engines=engines)
    names = {a.arm.name for a in finished.prepared.arms if a.family == "mix" and a.arm.engine == "zero"}
    assert len(names) == 1
    advised = advise(Scores(scored(finished, dict.fromkeys(names, 0.3))), 60.0)
    assert advised.advice.action != "buy mix"
    assert advised.exchange.real_equivalent is None


def test_a_mix_of_few_real_cases_is_held_against_all_those_at_hand(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # At 2 real cases the mix gains .1 or .3 over .6; with the 8 at hand real cases alone reach .75.
    with Workspace(tmp_path_factory.mktemp("w")) as workspace:
        finished = finished_in(workspace, arms={**ARMS, "all_arms_at": [2]}, data=DATA, metric={"margin": MARGIN})
    less, more = (advise(Scores(scored(finished, {"mixed 1:1": g}, noise=0.0005)), 60.0).advice for g in (0.1, 0.3))
    assert less.action != "buy mix"
    assert more.action == "buy mix"
    assert more.expected_gain is not None
    assert more.expected_gain.value == pytest.approx(0.15, abs=0.005)


def test_the_exchange_rate_recovers_a_known_one(experiment: Finished) -> None:
    # 8 synthetic cases are given the gain from 8 to 12 real ones.
    gain = CURVE / 8 - CURVE / 12
    advised = advise(Scores(scored(experiment, {"mixed 1:1": gain}, noise=0.0005)), budget=60.0)
    worth = advised.exchange.real_equivalent
    assert worth is not None
    assert worth.low < 4 < worth.high


# --- the map of money ----------------------------------------------------------------------------------------------


def test_the_map_holds_its_prices(experiment: Finished) -> None:
    prices = PricePlan(real_case=10.0, synthetic_case=1.0, engine_fit=5.0)
    money = advise(Scores(with_plan(scored(experiment, {}), prices=prices)), 100.0).money
    assert money.cost[0][0] == 10 * money.real_counts[0]
    assert money.cost[2][1] == pytest.approx(10 * money.real_counts[1] + money.synthetic_counts[2] + 5)


def test_the_map_has_an_interval_that_holds_the_true_curve(experiment: Finished) -> None:
    money = advise(Scores(scored(experiment, {})), 100.0).money
    low, mid, high = (np.array(v) for v in (money.expected_low, money.expected, money.expected_high))
    assert low.shape == mid.shape == high.shape == (GRID, GRID)
    assert (low < mid).all()
    assert (mid < high).all()
    lift = float(scored(experiment, {}, noise=0.0).rows.filter(where="validation", arm="real", n=8)["dice"].mean())
    true = lift - 0.75 + 0.8 - CURVE / np.array(money.real_counts)
    assert (low[0] < true).all()
    assert (true < high[0]).all()


def curve_draws(noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return draws of real-only scores at 4, 8 and 16 cases, and of a gain at 4 that is worth 4 more real ones."""
    rng = np.random.default_rng(5)
    sizes = np.array([4.0, 8.0, 16.0])
    shared = noise * rng.standard_normal((3000, 1))
    real = 0.8 - CURVE / sizes + shared + 0.2 * noise * rng.standard_normal((3000, 3))
    return real, CURVE / 4 - CURVE / 8 + noise * rng.standard_normal(3000)


def test_the_map_takes_curve_and_exchange_rate_from_the_same_draw() -> None:
    real, gains = curve_draws(0.003)
    law = fit_power_law([4, 8, 16], real, upper=1.0)
    rate = exchange_rate(law, 4, 4, gains)
    money = money_map(PricePlan(), [4, 8, 16], law, rate, 4.0, "")
    assert (money.real_counts[0], money.synthetic_counts[-1]) == (4, 4)
    # By what an exchange rate is, 4 real and 4 synthetic cases score law(4) + gain, draw by draw.
    bounds = np.quantile(law.predict_draws(4) + gains, [0.025, 0.975])
    assert money.expected is not None
    assert money.expected_low is not None
    assert money.expected_high is not None
    assert (money.expected_low[-1][0], money.expected_high[-1][0]) == pytest.approx(tuple(bounds), abs=1e-9)
    assert money.expected[-1][0] == pytest.approx(0.75, abs=0.001)
    # Without synthetic cases it is the curve's own interval.
    alone = law.predict(4)
    assert (money.expected_low[0][0], money.expected_high[0][0]) == pytest.approx((alone.low, alone.high), abs=1e-4)


def test_an_exchange_rate_without_an_upper_bound_expects_the_plateau() -> None:
    real, gains = curve_draws(0.003)
    law = fit_power_law([4, 8, 16], real, upper=1.0)
    rate = exchange_rate(law, 4, 4, gains + 0.04)
    assert rate.draws is not None
    assert np.isinf(rate.draws).any()
    money = money_map(PricePlan(), [4, 8, 16], law, rate, 4.0, "")
    assert np.isfinite(money.expected_high).all()  # type: ignore[arg-type]
    assert np.max(money.expected_high) <= np.quantile(law.draws[:, 0], 0.9751)  # type: ignore[arg-type]


def test_without_a_law_the_map_holds_costs_only(experiment: Finished) -> None:
    money = advise(Scores(scored(experiment, {}, noise=0.01, slope=0.0)), 100.0).money
    assert (money.expected, money.expected_low, money.expected_high) == (None, None, None)
    assert "No rise of the score is shown" in money.message
