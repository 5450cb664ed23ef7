"""The simplest correct advice: a law of real cases, a null law of synthetic ones, and what the money buys.

Advice reads validation patients only. Every candidate purchase is compared, draw by draw, with *the best real purchase
for the same money*; a mix is advised only if its lower bound lies above that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from equipoise.advice.evidence import Evidence, gather
from equipoise.advice.money_map import money_map
from equipoise.advice.purchase import Terms, best_purchase, no_evidence
from equipoise.errors import PlanError
from equipoise.experiment.contrasts import Scores
from equipoise.experiment.findings import Advice, Estimate, Exchange, Money
from equipoise.stats import ExchangeRate

RICHEST = 4.0
"""Synthetic cases per real one at the upper end of the map, where no mix is proven."""


@dataclass(frozen=True, slots=True)
class Advised:
    """The three parts of the findings that advice fills."""

    exchange: Exchange
    money: Money
    advice: Advice


def advise(scores: Scores, budget: float | None = None) -> Advised:
    """Return exchange rate, map of money and advice.

    Parameters
    ----------
    scores
        Rows of a finished experiment.
    budget
        Money to spend, in the plan's currency; by default the price of doubling the real cases.

    Raises
    ------
    PlanError
        The budget is negative or not a number.
    """
    plan = scores.finished.prepared.plan
    prices = plan.prices
    sizes = sorted({arm.n for arm in scores.finished.prepared.arms if arm.family == "real"})
    spent = budget if budget is not None else prices.real_case * sizes[-1]
    if not (math.isfinite(spent) and spent >= 0):
        raise PlanError(f"a budget must be 0 or more, got {spent:g}", fix="give --budget an amount, such as 5000")
    terms = Terms(spent, prices, plan.metric.margin)
    evidence = gather(scores, sizes)
    if isinstance(evidence, str):
        figure = money_map(prices, sizes, None, None, 0.0, evidence)
        return Advised(Exchange(None, evidence), figure, no_evidence(evidence, terms, sizes))
    best = evidence.best_mix()
    rate = None if best is None else evidence.rate(best)
    exchange = _exchange(evidence, rate)
    most = sizes[-1] * (RICHEST if best is None else evidence.mixes[best].ratio or 0.0)
    figure = money_map(prices, sizes, evidence.law, rate, most, exchange.message)
    return Advised(exchange, figure, best_purchase(evidence, best, terms))


def _exchange(evidence: Evidence, rate: ExchangeRate | None) -> Exchange:
    """Return the exchange rate of the best mix, or why there is none."""
    if rate is None:
        return Exchange(None, f"No exchange rate: {evidence.null[:1].lower()}{evidence.null[1:]}")
    if rate.worth is None:
        return Exchange(None, rate.message)
    worth, patients = rate.worth, evidence.patients
    found = Estimate(
        worth.estimate, worth.low, worth.high, worth.level, patients=patients, conditional=evidence.conditional
    )
    return Exchange(found, rate.message)
