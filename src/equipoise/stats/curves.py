"""Learning curves, the law in which synthetic cases do nothing, and the exchange rate between the two kinds of case.

``score(n) = a - b * n^-c``: what the n-th real case adds shrinks as a power of n. The curve is fitted to every joint
draw of the scores (`equipoise.stats.crossed_draws`, one column per size), so everything derived from it has an
interval, and the sizes' common patients are accounted for.

References
----------
Figueroa RL et al. Predicting sample size required for classification performance. BMC Med Inform Decis Mak 2012;12:8
(the same law, weighted least squares, clinical text).
Hestness J et al. Deep learning scaling is predictable, empirically. 2017, arXiv:1712.00409 (exponents 0.07 to 0.35).
Mahmood R et al. How much more data do I need? CVPR 2022 (extrapolation from few sizes is often wrong).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from equipoise.errors import DataError
from equipoise.stats.inputs import Floats, as_floats, require_fraction

#: Bounds of the exponent c. Below the first, a power law cannot be told from a logarithm over the sizes of a trial.
EXPONENT_BOUNDS = (0.1, 2.0)

#: With two sizes a and b fit any exponent; the draws are dealt equally to these, and the interval holds all of them.
TWO_SIZE_EXPONENTS = (0.25, 0.5, 1.0)

#: Beyond this multiple of the largest size tried, a number of cases is reported as "more than" (infinite).
REACH = 10.0


@dataclass(frozen=True)
class Interval:
    """A value with its interval; a bound may be infinite ("more than the curve can tell")."""

    estimate: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class PowerLaw:
    """A fitted curve ``a - b * n^-c``, with one curve per draw.

    Parameters
    ----------
    sizes
        Numbers of real cases it was fitted on.
    a, b, c
        Curve of the mean scores: plateau, amplitude (score units), exponent.
    level
        Level of all intervals.
    identifiable
        Whether a rise was shown; if not, the curve must not be used to buy anything.
    message
        What the curve cannot tell, or None.
    draws
        Parameters of each draw, shape (B, 3).
    """

    sizes: tuple[float, ...]
    a: float
    b: float
    c: float
    level: float
    identifiable: bool
    message: str | None
    draws: Floats = field(repr=False, compare=False)

    def predict_draws(self, n: float) -> Floats:
        """Score at ``n`` real cases under every draw, shape (B,)."""
        a, b, c = self.draws.T
        scores: Floats = a - b * _require_size(n) ** -c
        return scores

    def predict(self, n: float) -> Interval:
        """Score at ``n`` real cases, with its interval."""
        return _interval(self.a - self.b * _require_size(n) ** -self.c, self.predict_draws(n), self.level)

    def gain(self, start: float, end: float) -> Interval:
        """Gain in score from ``start`` to ``end`` real cases."""
        point = self.b * (_require_size(start) ** -self.c - _require_size(end) ** -self.c)
        return _interval(point, self.predict_draws(end) - self.predict_draws(start), self.level)

    def needed(self, score: float) -> Interval:
        """Real cases needed for ``score``; infinite beyond ten times the largest size tried or above the plateau."""
        point = _inverse(np.array([[self.a, self.b, self.c]]), np.array([score]), REACH * max(self.sizes))
        return _interval(float(point[0]), self._needed_draws(np.full(len(self.draws), score)), self.level)

    def _needed_draws(self, scores: Floats) -> Floats:
        return _inverse(self.draws, scores, REACH * max(self.sizes))


@dataclass(frozen=True)
class NullLaw:
    """The law in which synthetic cases do nothing, and what speaks against it.

    Parameters
    ----------
    law
        One curve of the number of *real* cases, fitted to real-only and mixed scores alike.
    excess
        For each mixed score, its distance from the curve of the real-only scores, with interval.
    mean_excess
        The mean of these.
    p_value
        Two-sided, for "the mean excess is 0".
    message
        One plain sentence.
    """

    law: PowerLaw
    excess: tuple[Interval, ...]
    mean_excess: Interval
    p_value: float
    message: str


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
    """

    worth: Interval | None
    per_real: Interval | None
    gain: Interval
    real: float
    synthetic: float
    message: str


def fit_power_law(
    n: Sequence[float], score_draws: ArrayLike, *, upper: float | None = None, level: float = 0.95
) -> PowerLaw:
    """Fit ``score(n) = a - b * n^-c`` to every draw by weighted least squares with bounds.

    Parameters
    ----------
    n
        Numbers of real cases, shape (S,), S sizes; repeated sizes are allowed.
    score_draws
        Joint draws of the mean scores, shape (B, S), higher is better (give minus the value of a distance).
    upper
        Highest possible score (1 for Dice), a bound of the plateau ``a``; None for no bound.
    level
        Level of the intervals.

    Returns
    -------
    PowerLaw
        Bounds: ``b >= 0``, ``0.1 <= c <= 2``, ``a <= upper``. Each size is weighted by the inverse variance of its
        draws. For given c the best a and b have a closed form, so c is searched on a grid and refined by golden
        section, for all draws at once. With two distinct sizes c cannot be fitted: the draws are shared out over
        c = 0.25, 0.5 and 1, and the message says so. With one size the curve is flat and not identifiable.

    Raises
    ------
    DataError
        If sizes are not positive, shapes do not match or a draw is NaN.
    """
    sizes, scores = _require_scores(n, score_draws)
    require_fraction(level, "level")
    unit = float(np.exp(np.log(sizes).mean()))  # n / unit near 1 keeps a and b of like magnitude
    weights = _weights(scores)
    every = np.vstack([scores.mean(axis=0), scores])
    distinct = np.unique(sizes).size
    if distinct == 1:
        flat = every @ (weights / weights.sum())
        curves = np.column_stack([flat, np.zeros_like(flat), np.full_like(flat, 0.5)])
    else:
        c = _exponents(sizes / unit, every, weights, upper, distinct)
        a, b, _ = _solve(sizes / unit, every, weights, c, upper)
        curves = np.column_stack([a, b * unit**c, c])
    a0, b0, c0 = (float(value) for value in curves[0])
    identifiable, message = _judge(sizes, scores, curves[1:], level)
    return PowerLaw(tuple(sizes.tolist()), a0, b0, c0, level, identifiable, message, curves[1:])


def null_law(
    n: Sequence[float],
    real_draws: ArrayLike,
    n_mixed: Sequence[float],
    mixed_draws: ArrayLike,
    *,
    upper: float | None = None,
    level: float = 0.95,
) -> NullLaw:
    """Fit the law in which the score depends on the number of real cases only, and test it.

    Parameters
    ----------
    n, real_draws
        Sizes (S,) and joint draws (B, S) of the real-only arms.
    n_mixed, mixed_draws
        For each mixed arm the number of its *real* cases (M,), and its draws (B, M) from the same resamples.
    upper, level
        As in `fit_power_law`.

    Returns
    -------
    NullLaw
        The excess of a mixed arm is taken over the real-only arm of the same size where there is one (no curve is
        needed then), else over the real-only curve.
    """
    sizes, real = _require_scores(n, real_draws)
    mixed_sizes, mixed = _require_scores(n_mixed, mixed_draws)
    if len(real) != len(mixed):
        raise DataError(
            f"real-only arms have {len(real)} draws and mixed arms {len(mixed)}.",
            why="differences are taken draw by draw, within the same resample of patients",
            fix="draw all arms in one call of crossed_draws",
        )
    alone = fit_power_law(sizes.tolist(), real, upper=upper, level=level)
    pooled = fit_power_law([*sizes, *mixed_sizes], np.hstack([real, mixed]), upper=upper, level=level)
    columns = []
    for size, scores in zip(mixed_sizes, mixed.T, strict=True):
        same = sizes == size
        columns.append(scores - (real[:, same].mean(axis=1) if same.any() else alone.predict_draws(float(size))))
    excess = tuple(_interval(float(column.mean()), column, level) for column in columns)
    average = np.mean(columns, axis=0)
    mean_excess = _interval(float(average.mean()), average, level)
    beyond = min(int((average <= 0).sum()), int((average >= 0).sum()))
    p_value = min(1.0, 2.0 * (1 + beyond) / (1 + average.size))
    return NullLaw(pooled, excess, mean_excess, p_value, _null_sentence(mean_excess))


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
    count = _require_size(synthetic)
    start = _require_size(real)
    gains = as_floats(gain_draws, "gain_draws")
    if gains.shape != (len(law.draws),) or np.isnan(gains).any():
        raise DataError(
            f"gain_draws must be {len(law.draws)} numbers, one for each draw of the curve, got shape {gains.shape}.",
            fix="draw the mixed and the real-only arms in one call of crossed_draws",
        )
    gain = _interval(float(gains.mean()), gains, law.level)
    if gain.low <= 0:
        return ExchangeRate(None, None, gain, start, count, _no_rate(gain, count))
    if not law.identifiable:
        text = f"No exchange rate: {law.message}"
        return ExchangeRate(None, None, gain, start, count, text)
    base = law.a - law.b * start**-law.c
    limit = REACH * max(law.sizes)
    point = float(_inverse(np.array([[law.a, law.b, law.c]]), np.array([base + gain.estimate]), limit)[0]) - start
    worth = _interval(point, law._needed_draws(law.predict_draws(start) + gains) - start, law.level)
    if np.isinf(worth.low):
        text = (
            f"No exchange rate: the gain of {gain.estimate:.3g} is more than the real-only curve can reach within "
            f"{REACH:g} times the largest size tried."
        )
        return ExchangeRate(None, None, gain, start, count, text)
    per_real = Interval(count / worth.estimate, count / worth.high, count / worth.low, law.level)
    return ExchangeRate(worth, per_real, gain, start, count, _rate_sentence(worth, start, count, law.message))


def _exponents(x: Floats, scores: Floats, weights: Floats, upper: float | None, distinct: int) -> Floats:
    """Best exponent of every row: dealt out for two sizes, else grid and golden section."""
    if distinct == 2:
        dealt = np.resize(np.array(TWO_SIZE_EXPONENTS), len(scores) - 1)
        return np.concatenate([[TWO_SIZE_EXPONENTS[1]], dealt])
    grid = np.geomspace(*EXPONENT_BOUNDS, 41)
    misfit = np.stack([_solve(x, scores, weights, np.full(len(scores), c), upper)[2] for c in grid], axis=1)
    best = misfit.argmin(axis=1)
    low, high = np.log(grid[np.maximum(best - 1, 0)]), np.log(grid[np.minimum(best + 1, grid.size - 1)])
    golden = (np.sqrt(5.0) - 1) / 2
    for _ in range(16):
        left, right = high - golden * (high - low), low + golden * (high - low)
        keep_left = (
            _solve(x, scores, weights, np.exp(left), upper)[2] <= _solve(x, scores, weights, np.exp(right), upper)[2]
        )
        low, high = np.where(keep_left, low, left), np.where(keep_left, right, high)
    return np.asarray(np.exp((low + high) / 2))


def _solve(x: Floats, scores: Floats, weights: Floats, c: Floats, upper: float | None) -> tuple[Floats, Floats, Floats]:
    """Best a and b >= 0 of every row for its exponent c, and the weighted sum of squares that remains."""
    basis = x[None, :] ** -c[:, None]
    share = weights / weights.sum()
    mean_x, mean_y = basis @ share, scores @ share
    dx, dy = basis - mean_x[:, None], scores - mean_y[:, None]
    b = np.maximum(0.0, -((dx * dy) @ share) / ((dx * dx) @ share))
    a = mean_y + b * mean_x
    if upper is not None:
        over = a > upper
        pinned = np.maximum(0.0, ((upper - scores) * basis) @ share / ((basis * basis) @ share))
        a, b = np.where(over, upper, a), np.where(over, pinned, b)
    left = scores - a[:, None] + b[:, None] * basis
    return a, b, (left * left) @ share


def _inverse(curves: Floats, scores: Floats, limit: float) -> Floats:
    """Real cases at which each curve reaches its score; infinite if it never does, or only past the limit."""
    a, b, c = curves.T
    gap = a - scores
    able = (gap > 0) & (b > 0)
    logs = np.full(scores.shape, np.inf)
    logs[able] = (np.log(b[able]) - np.log(gap[able])) / c[able]
    inside = logs <= np.log(limit)
    cases = np.full(scores.shape, np.inf)
    cases[inside] = np.exp(logs[inside])
    return cases


def _judge(sizes: Floats, scores: Floats, curves: Floats, level: float) -> tuple[bool, str | None]:
    """Whether the curve may be used, and what to say of it."""
    low_n, high_n = float(sizes.min()), float(sizes.max())
    if low_n == high_n:
        return False, f"Only one size ({low_n:g} real cases) was tried: train a second one, at half or twice the size."
    rise = scores[:, sizes == high_n].mean(axis=1) - scores[:, sizes == low_n].mean(axis=1)
    shown = _interval(float(rise.mean()), rise, level)
    if shown.low <= 0:
        return False, (
            f"No rise of the score is shown between {low_n:g} and {high_n:g} real cases: "
            f"{shown.estimate:.3g} [{shown.low:.3g}, {shown.high:.3g}]."
        )
    if np.unique(sizes).size == 2:
        return True, (
            "Two sizes cannot tell how fast the curve flattens: "
            "exponents of 0.25, 0.5 and 1 were assumed in equal parts."
        )
    margin = 1.02
    edge = (curves[:, 2] < EXPONENT_BOUNDS[0] * margin) | (curves[:, 2] > EXPONENT_BOUNDS[1] / margin)
    if edge.mean() > 0.25:
        return True, (
            f"The sizes do not pin down how fast the curve flattens (the exponent lies at a bound in "
            f"{100 * edge.mean():.0f} % of the draws): do not trust it beyond {high_n:g} real cases."
        )
    return True, None


def _weights(scores: Floats) -> Floats:
    """Inverse variances of the columns; a floor keeps one lucky size from taking all the weight."""
    variances = scores.var(axis=0)
    if variances.max() <= 0:
        return np.ones_like(variances)
    weights: Floats = 1.0 / np.maximum(variances, 1e-3 * variances.max())
    return weights


def _interval(point: float, draws: Floats, level: float) -> Interval:
    # Infinite draws are legal here, and interpolating towards one would give NaN: take order statistics outwards.
    tail = (1.0 - level) / 2.0
    low = float(np.quantile(draws, tail, method="lower"))
    high = float(np.quantile(draws, 1.0 - tail, method="higher"))
    return Interval(float(point), low, high, level)


def _require_size(n: float) -> float:
    if not (np.isfinite(n) and n > 0):
        raise DataError(f"a number of cases must be positive and finite, got {n}.")
    return float(n)


def _require_scores(n: Sequence[float], score_draws: ArrayLike) -> tuple[Floats, Floats]:
    sizes, scores = as_floats(n, "n"), as_floats(score_draws, "score_draws")
    if sizes.ndim != 1 or sizes.size == 0 or not (sizes > 0).all():
        raise DataError(f"n must list positive numbers of real cases, got {sizes.tolist()}.")
    if scores.ndim != 2 or scores.shape[1] != sizes.size or len(scores) < 2 or np.isnan(scores).any():
        raise DataError(
            f"score_draws must have shape (draws, {sizes.size}) without NaN, got {scores.shape}.",
            fix="give one column per size, from crossed_draws(...).draws",
        )
    return sizes, scores


def _null_sentence(excess: Interval) -> str:
    numbers = f"{excess.estimate:.3g} [{excess.low:.3g}, {excess.high:.3g}]"
    if excess.low > 0:
        return f"Synthetic cases add to the score beyond what the real cases explain: {numbers}."
    if excess.high < 0:
        return f"Synthetic cases take from the score that the real cases alone would give: {numbers}."
    return f"That synthetic cases do nothing is not disproven: {numbers} beyond what the real cases explain."


def _no_rate(gain: Interval, count: float) -> str:
    numbers = f"{gain.estimate:.3g} [{gain.low:.3g}, {gain.high:.3g}]"
    if gain.high < 0:
        return f"No exchange rate: the {count:g} synthetic cases lower the score, by {numbers}."
    return f"No exchange rate: no gain of the {count:g} synthetic cases is proven, {numbers}."


def _rate_sentence(worth: Interval, real: float, count: float, caution: str | None) -> str:
    def cases(value: float) -> str:
        return f"{value:.3g}" if np.isfinite(value) else "more than the curve can tell"

    text = (
        f"At {real:g} real cases, {count:g} synthetic cases are worth {cases(worth.estimate)} real ones "
        f"[{cases(worth.low)}, {cases(worth.high)}]."
    )
    return f"{text} {caution}" if caution else text
