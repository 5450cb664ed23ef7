"""The simplest correct advice: a law of real cases, a null law of synthetic ones, and what the money buys.

Advice reads validation patients only. Every candidate purchase is compared, draw by draw, with *the best real purchase
for the same money*; a mix is advised only if its lower bound lies above that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.core import rng_for
from equipoise.experiment.arms import PlannedArm
from equipoise.experiment.contrasts import RESAMPLES, Scores
from equipoise.experiment.findings import Advice, Estimate, Exchange, Money
from equipoise.experiment.plan import PricePlan
from equipoise.stats import PowerLaw, crossed_draws, exchange_rate, fit_power_law, null_law

GRID = 9
"""Points along each axis of the money figure."""


@dataclass(frozen=True, slots=True)
class Advised:
    """The three parts of the findings that advice fills."""

    exchange: Exchange
    money: Money
    advice: Advice


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What validation says: the real-only law, and the mixes at the largest size, as joint draws."""

    where: str
    sizes: list[int]
    law: PowerLaw
    mixes: list[PlannedArm]
    gains: np.ndarray
    synthetic_does_nothing: str


def advise(scores: Scores, budget: float | None = None) -> Advised:
    """Return exchange rate, money figure and advice for a budget (by default: the price of doubling the real cases)."""
    prices = scores.finished.prepared.plan.prices
    sizes = sorted({arm.n for arm in scores.finished.prepared.arms if arm.family == "real"})
    money = budget if budget is not None else prices.real_case * sizes[-1]
    evidence = _evidence(scores, sizes)
    if isinstance(evidence, str):
        exchange = Exchange(None, evidence)
        return Advised(
            exchange, _money(prices, sizes, None, 0.0, 0.0, evidence), _no_evidence(evidence, money, prices, sizes)
        )
    best = _best_mix(evidence)
    exchange, per_synthetic = _exchange(evidence, best)
    most = sizes[-1] * (4.0 if best is None else evidence.mixes[best].ratio or 0.0)
    figure = _money(prices, sizes, evidence.law, per_synthetic, most, exchange.message)
    return Advised(exchange, figure, _advice(evidence, best, money, prices))


def _evidence(scores: Scores, sizes: Sequence[int]) -> _Evidence | str:
    """Return the joint draws, or a sentence that says why there are none."""
    finished = scores.finished
    plan = finished.prepared.plan
    where = "target validation" if "target validation" in scores.places() else "validation"
    run = [arm for arm in finished.prepared.arms if arm.budget == plan.arms.budgets[0] and (arm, 0) in finished.trained]
    real = sorted((a for a in run if a.family == "real"), key=lambda a: a.n)
    full = [a.n for a in run if a.family == "mix"]
    if not full:
        return "No mix was trained, so nothing can be said about synthetic cases."
    mixes = [a for a in run if a.family == "mix" and a.n == max(full)]
    cube = [scores.matrix(arm, where, plan.metric.primary)[0] for arm in (*real, *mixes)]
    shared = np.isfinite(np.stack(cube)).all(axis=(0, 1)) if len({c.shape for c in cube}) == 1 else np.zeros(1, bool)
    if shared.sum() < 3:
        return f"Fewer than three {where} patients have the metric in every arm; annotate more of them."
    values = np.stack(cube)[:, :, shared]
    drawn = crossed_draws(values, rng_for(plan.seed, "advice", where), RESAMPLES).draws
    alone, mixed = drawn[:, : len(real)], drawn[:, len(real) :]
    law = fit_power_law([a.n for a in real], alone, upper=1.0)
    base = alone[:, [a.n for a in real].index(max(full))]
    null = null_law([a.n for a in real], alone, [a.n for a in mixes], mixed, upper=1.0)
    return _Evidence(where, [a.n for a in real], law, mixes, mixed - base[:, None], null.message)


def _best_mix(evidence: _Evidence) -> int | None:
    """Return the mix with the highest lower bound, if that lies above 0: only then is it worth money."""
    low = np.quantile(evidence.gains, 0.025, axis=0)
    best = int(np.argmax(low))
    return best if low[best] > 0 else None


def _exchange(evidence: _Evidence, best: int | None) -> tuple[Exchange, float]:
    """Return the exchange rate and how many real cases one synthetic case is worth (0 where none is proven)."""
    if best is None:
        return Exchange(None, f"No exchange rate: {_lower_first(evidence.synthetic_does_nothing)}"), 0.0
    mix = evidence.mixes[best]
    count = (mix.ratio or 0.0) * mix.n
    rate = exchange_rate(evidence.law, mix.n, count, evidence.gains[:, best])
    if rate.worth is None:
        return Exchange(None, rate.message), 0.0
    worth = Estimate(rate.worth.estimate, rate.worth.low, rate.worth.high, rate.worth.level)
    return Exchange(worth, rate.message), rate.worth.estimate / count


def _money(
    prices: PricePlan, sizes: Sequence[int], law: PowerLaw | None, per_synthetic: float, most: float, message: str
) -> Money:
    """Return the grid of costs, and of expected scores where a law could be fitted."""
    real = np.linspace(sizes[0], 2 * sizes[-1], GRID)
    synthetic = np.linspace(0, max(most, 1.0), GRID)
    cost = prices.real_case * real[None, :] + prices.synthetic_case * synthetic[:, None]
    cost += prices.engine_fit * (synthetic[:, None] > 0)
    expected = None
    if law is not None and law.identifiable:
        worth = real[None, :] + per_synthetic * synthetic[:, None]
        expected = (law.a - law.b * worth**-law.c).tolist()
    elif law is not None:
        message = f"{law.message} {message}" if law.message else message
    book = {"real case": prices.real_case, "synthetic case": prices.synthetic_case, "engine fit": prices.engine_fit}
    return Money(prices.currency, book, real.tolist(), synthetic.tolist(), expected, cost.tolist(), message)


def _advice(evidence: _Evidence, best: int | None, budget: float, prices: PricePlan) -> Advice:
    now = evidence.sizes[-1]
    more = int(budget / prices.real_case) if prices.real_case else 0
    always_real = evidence.law.predict_draws(now + more) - evidence.law.predict_draws(now) if more else np.zeros(1)
    always = _estimate(always_real)
    money = f"{budget:,.0f} {prices.currency}"
    if best is not None:
        bought = _mix_purchase(evidence, best, budget, prices)
        if bought is not None:
            real, synthetic, gain = bought
            beyond = _estimate(gain - always_real)
            if beyond.low > 0:
                sentence = (
                    f"Buy the mix: for {money}, {real} more real and {synthetic} synthetic cases; expected gain "
                    f"{_words(_estimate(gain))}, which is {_words(beyond)} above the best real purchase for that money."
                )
                return Advice("buy mix", sentence, budget, prices.currency, real, synthetic, _estimate(gain), always)
    if evidence.law.identifiable and always.low > 0:
        sentence = (
            f"Buy real annotations: for {money}, {more} more real cases; expected gain {_words(always)} by the curve "
            f"of real-only training. No mix is proven to beat that."
        )
        return Advice("buy real", sentence, budget, prices.currency, more, 0, always, always)
    why = evidence.law.message or "the curve of real-only training is flat within its noise"
    return _no_evidence(_upper_first(why), budget, prices, evidence.sizes)


def _mix_purchase(
    evidence: _Evidence, best: int, budget: float, prices: PricePlan
) -> tuple[int, int, np.ndarray] | None:
    """Return real cases, synthetic cases and draws of the gain of buying the best mix, the rest spent on real cases.

    The mix was measured at the largest size only. What further real cases would add beside it is not known, so they are
    bought but not credited: the gain is a lower bound.
    """
    mix = evidence.mixes[best]
    ratio = mix.ratio or 0.0
    each = prices.real_case + ratio * prices.synthetic_case
    left = budget - prices.engine_fit - ratio * mix.n * prices.synthetic_case
    if left < 0:
        return None
    real = int(left / each) if each else 0
    return real, round(ratio * (mix.n + real)), evidence.gains[:, best]


def _no_evidence(why: str, budget: float, prices: PricePlan, sizes: Sequence[int]) -> Advice:
    following = [f"real at n = {2 * sizes[-1]}", f"mixed 1:1 at n = {2 * sizes[-1]}", "two more replicates"]
    sentence = f"Not enough evidence to spend money on either: {_lower_first(why)} Train next: {', '.join(following)}."
    return Advice("not enough evidence", sentence, budget, prices.currency, 0, 0, None, None, following)


def _estimate(draws: np.ndarray) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(float(draws.mean()), float(low), float(high))


def _words(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def _lower_first(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:] if not sentence[:2].isupper() else sentence


def _upper_first(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
