"""The exchange rate between the two kinds of case: how many real ones the synthetic ones are worth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from equipoise.errors import DataError
from equipoise.stats.inputs import Floats, as_floats, require_size
from equipoise.stats.interval import Interval
from equipoise.stats.power_law import REACH, PowerLaw


@dataclass(frozen=True)
class ExchangeRate:
    """How many real cases the synthetic ones are worth.

    Parameters
    ----------
    worth
        Real cases whose purchase gives the same gain as the ``synthetic`` cases do, or None if there is no such number.
    per_real
        Synthetic cases that replace one real case (the reciprocal), or None.
    gain
        Gain in score by the synthetic cases, with its interval.
    real, synthetic
        Real cases at hand, and synthetic cases added to them.
    message
        One plain sentence; it says why where there is no rate.
    draws
        ``worth`` under every draw of the curve, shape (B,), infinite where the curve cannot tell; None where there is
        no rate.
    """

    worth: Interval | None
    per_real: Interval | None
    gain: Interval
    real: float
    synthetic: float
    message: str
    draws: Floats | None = field(default=None, repr=False, compare=False)


def exchange_rate(law: PowerLaw, real: float, synthetic: float, gain_draws: ArrayLike) -> ExchangeRate:
    """Count the real cases that would give the same gain as the synthetic ones.

    Parameters
    ----------
    law
        Curve of the real-only arms.
    real
        Real cases at hand, n.
    synthetic
        Synthetic cases added to them, m.
    gain_draws
        Draws (B,) of the mixed arm's score minus that of ``real`` alone, from the same resamples as the curve's.

    Returns
    -------
    ExchangeRate
        ``worth`` solves ``law(n + worth) = law(n) + gain`` in every draw. There is no rate, and ``worth`` is None,
        when the gain's interval touches 0 (Fieller's problem: a ratio of something that may be nothing), or when the
        real-only curve shows no rise. A bound is infinite where no affordable number of real cases would do it.

    Raises
    ------
    DataError
        If the draws do not match the curve's, or a count is not positive.
    """
    count = require_size(synthetic)
    start = require_size(real)
    gains = as_floats(gain_draws, "gain_draws")
    if gains.shape != (len(law.draws),) or np.isnan(gains).any():
        raise DataError(
            f"gain_draws must be {len(law.draws)} numbers, one for each draw of the curve, got shape {gains.shape}.",
            fix="draw the mixed and the real-only arms in one call of crossed_draws",
        )
    gain = Interval.of_draws(float(gains.mean()), gains, law.level)
    if gain.low <= 0:
        return ExchangeRate(None, None, gain, start, count, _no_rate(gain, count))
    if not law.identifiable:
        text = f"No exchange rate: {law.message}"
        return ExchangeRate(None, None, gain, start, count, text)
    point = law.needed(law.predict(start).estimate + gain.estimate).estimate - start
    drawn: Floats = law.needed_draws(law.predict_draws(start) + gains) - start
    worth = Interval.of_draws(point, drawn, law.level)
    if np.isinf(worth.low):
        text = (
            f"No exchange rate: the gain of {gain.estimate:.3g} is more than the real-only curve can reach within "
            f"{REACH:g} times the largest size tried."
        )
        return ExchangeRate(None, None, gain, start, count, text)
    per_real = Interval(count / worth.estimate, count / worth.high, count / worth.low, law.level)
    return ExchangeRate(worth, per_real, gain, start, count, _rate_sentence(worth, start, count, law.message), drawn)


def _no_rate(gain: Interval, count: float) -> str:
    if gain.high < 0:
        return f"No exchange rate: the {count:g} synthetic cases lower the score, by {gain}."
    return f"No exchange rate: no gain of the {count:g} synthetic cases is proven, {gain}."


def _rate_sentence(worth: Interval, real: float, count: float, caution: str | None) -> str:
    def cases(value: float) -> str:
        return f"{value:.3g}" if np.isfinite(value) else "more than the curve can tell"

    text = (
        f"At {real:g} real cases, {count:g} synthetic cases are worth {cases(worth.estimate)} real ones "
        f"[{cases(worth.low)}, {cases(worth.high)}]."
    )
    return f"{text} {caution}" if caution else text
