"""What the money buys: each purchase compared, draw by draw, with the best real purchase for the same money.

One of four things is said, by fixed rules in this order:

1. **buy nothing yet**: a purchase has a proven gain, and even the upper bound of the best one's lies below the margin,
   the smallest difference that the plan calls relevant;
2. **buy mix**: the lower bound of its gain over the best real purchase lies above 0;
3. **buy real**: the lower bound of the gain of more real cases lies above 0;
4. **not enough evidence**: none of these, and the arms that would decide it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.advice.evidence import Evidence
from equipoise.experiment.findings import Advice, Estimate
from equipoise.experiment.plan import PricePlan


@dataclass(frozen=True, slots=True, eq=False)
class Purchase:
    """Cases to buy, and draws of the gain in score over the real cases at hand, shape ``(B,)``."""

    real: int
    synthetic: int
    gain: np.ndarray


@dataclass(frozen=True, slots=True)
class Terms:
    """What the buyer goes by: money, price book, and the smallest relevant difference, in units of the metric."""

    budget: float
    prices: PricePlan
    margin: float

    @property
    def money(self) -> str:
        """The budget in words."""
        return _money(self.budget, self.prices.currency)


def best_purchase(evidence: Evidence, best: int | None, terms: Terms) -> Advice:
    """Return what to buy; ``best`` is the mix whose gain over ``real`` is proven, if one is."""
    if terms.prices.real_case <= 0:
        free = "The price book has no price of a real case, so money cannot be turned into cases."
        return no_evidence(free, terms, evidence.sizes, evidence.mixed_at)
    real = _more_real(evidence, terms)
    always = evidence.estimate(real.gain)
    mix = None if best is None else _more_mixed(evidence, best, terms)
    if mix is not None:
        beyond = evidence.estimate(mix.gain - real.gain)
        if beyond.low > 0:
            gain = evidence.estimate(mix.gain)
            if gain.high < terms.margin:
                return _nothing(evidence, gain, always, terms, "the mix")
            return _buy_mix(mix, gain, always, beyond, terms)
    if evidence.law.identifiable and always.low > 0:
        if always.high < terms.margin:
            return _nothing(evidence, always, always, terms, f"{real.real} more real cases")
        return _buy_real(real, always, terms)
    why = evidence.law.message or "the curve of real-only training is flat within its noise."
    if real.real < 1:
        why = f"{terms.money} buys no real case at {_money(terms.prices.real_case, terms.prices.currency)} each."
    return no_evidence(why, terms, evidence.sizes, evidence.mixed_at)


def no_evidence(why: str, terms: Terms, sizes: list[int], mixed_at: int = 0) -> Advice:
    """Return that nothing can be advised, why, and what to train to find out."""
    # A mix that was tried with fewer real cases than there are is tried with all of them first.
    n = sizes[-1] if 0 < mixed_at < sizes[-1] else 2 * sizes[-1]
    following = [f"real at n = {2 * sizes[-1]}", f"mixed 1:1 at n = {n}", "two more replicates"]
    sentence = f"Not enough evidence to spend money on either: {_lower_first(why)} Train next: {', '.join(following)}."
    currency = terms.prices.currency
    return Advice("not enough evidence", sentence, terms.budget, currency, 0, 0, None, None, following)


def _more_real(evidence: Evidence, terms: Terms) -> Purchase:
    """Return the best real purchase; money for less than one case buys none and gains nothing."""
    more, now = int(terms.budget / terms.prices.real_case), evidence.at_hand
    return Purchase(more, 0, evidence.law.predict_draws(now + more) - evidence.law.predict_draws(now))


def _more_mixed(evidence: Evidence, best: int, terms: Terms) -> Purchase | None:
    """Return the purchase of a mix, the rest of the money spent on real cases; ``None`` where it cannot be paid.

    What the real cases bought beside the synthetic ones would add is not known, nor what a mix of fewer real cases
    would gain with all of those at hand: the score is credited as it was measured, so the gain is a lower bound.
    """
    prices, now, ratio = terms.prices, evidence.at_hand, evidence.mixes[best].ratio or 0.0
    each = prices.real_case + ratio * prices.synthetic_case
    left = terms.budget - prices.engine_fit - ratio * now * prices.synthetic_case
    if left < 0:
        return None
    real = int(left / each)
    return Purchase(real, round(ratio * (now + real)), evidence.mixed[:, best] - evidence.real[:, -1])


def _buy_mix(bought: Purchase, gain: Estimate, always: Estimate, beyond: Estimate, terms: Terms) -> Advice:
    sentence = (
        f"Buy the mix: for {terms.money}, {bought.real} more real and {bought.synthetic} synthetic cases; expected "
        f"gain {_words(gain)}, which is {_words(beyond)} above the best real purchase for that money."
    )
    if beyond.high < terms.margin:
        sentence += f" That advantage is proven, but below the {terms.margin:g} that this plan calls relevant."
    else:
        sentence += _relevance(gain, terms)
    currency = terms.prices.currency
    return Advice("buy mix", sentence, terms.budget, currency, bought.real, bought.synthetic, gain, always)


def _buy_real(bought: Purchase, gain: Estimate, terms: Terms) -> Advice:
    sentence = (
        f"Buy real annotations: for {terms.money}, {bought.real} more real cases; expected gain {_words(gain)} by the "
        f"curve of real-only training.{_relevance(gain, terms)} No mix is proven to beat that."
    )
    return Advice("buy real", sentence, terms.budget, terms.prices.currency, bought.real, 0, gain, gain)


def _relevance(gain: Estimate, terms: Terms) -> str:
    """Return what is owed where a gain is proven, and not proven to be one that matters."""
    if gain.low >= terms.margin:
        return ""
    return f" That it reaches the {terms.margin:g} that this plan calls relevant is not proven."


def _nothing(evidence: Evidence, gain: Estimate, always: Estimate, terms: Terms, what: str) -> Advice:
    sentence = (
        f"Buy nothing yet: for {terms.money} the best purchase, {what}, is expected to gain {_words(gain)}, and even "
        f"the upper bound is below the difference that this plan calls relevant, {terms.margin:g}. "
        f"{_when_relevant(evidence, terms)}"
    )
    return Advice("buy nothing yet", sentence, terms.budget, terms.prices.currency, 0, 0, gain, always)


def _when_relevant(evidence: Evidence, terms: Terms) -> str:
    """Return how many more real cases would gain the margin, by the curve."""
    law, now = evidence.law, evidence.at_hand
    if not law.identifiable:
        return "No curve tells how many more real cases would gain that."
    needed = law.needed(law.predict(now).estimate + terms.margin)
    if not np.isfinite(needed.estimate):
        return "By the curve, no number of real cases that can be foreseen gains that."

    def cases(value: float) -> str:
        return f"{max(value - now, 0):.0f}" if np.isfinite(value) else "more than the curve can tell"

    cost = _money((needed.estimate - now) * terms.prices.real_case, terms.prices.currency)
    return (
        f"By the curve that takes {cases(needed.estimate)} more real cases "
        f"[{cases(needed.low)}, {cases(needed.high)}], about {cost}."
    )


def _money(amount: float, currency: str) -> str:
    return f"{amount:,.0f} {currency}" if amount >= 100 or amount == round(amount) else f"{amount:,.2f} {currency}"


def _words(estimate: Estimate) -> str:
    # A gain of a few thousandths must not read as one whose bound is 0.
    decimals = 3 if max(abs(estimate.low), abs(estimate.high)) >= 0.02 else 4
    return f"{estimate.value:+.{decimals}f} [{estimate.low:+.{decimals}f}, {estimate.high:+.{decimals}f}]"


def _lower_first(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:] if not sentence[:2].isupper() else sentence
