"""The learning curve ``score(n) = a - b * n^-c``: what the n-th real case adds shrinks as a power of n.

The curve is fitted to every joint draw of the scores (`equipoise.stats.crossed_draws`, one column per size), so
everything derived from it has an interval, and the sizes' common patients are accounted for.

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

from equipoise.stats.inputs import Floats, as_score_draws, require_fraction, require_size
from equipoise.stats.interval import Interval

#: Bounds of the exponent c. Below the first, a power law cannot be told from a logarithm over the sizes of a trial.
EXPONENT_BOUNDS = (0.1, 2.0)

#: With two sizes a and b fit any exponent; the draws are dealt equally to these, and the interval holds all of them.
TWO_SIZE_EXPONENTS = (0.25, 0.5, 1.0)

#: Beyond this multiple of the largest size tried, a number of cases is reported as "more than" (infinite).
REACH = 10.0


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
        scores: Floats = a - b * require_size(n) ** -c
        return scores

    def predict(self, n: float) -> Interval:
        """Score at ``n`` real cases, with its interval."""
        return Interval.of_draws(self.a - self.b * require_size(n) ** -self.c, self.predict_draws(n), self.level)

    def gain(self, start: float, end: float) -> Interval:
        """Gain in score from ``start`` to ``end`` real cases."""
        point = self.b * (require_size(start) ** -self.c - require_size(end) ** -self.c)
        return Interval.of_draws(point, self.predict_draws(end) - self.predict_draws(start), self.level)

    def needed(self, score: float) -> Interval:
        """Real cases needed for ``score``; infinite beyond ten times the largest size tried or above the plateau."""
        point = _inverse(np.array([[self.a, self.b, self.c]]), np.array([score]), REACH * max(self.sizes))
        return Interval.of_draws(float(point[0]), self.needed_draws(np.full(len(self.draws), score)), self.level)

    def needed_draws(self, scores: Floats) -> Floats:
        """Real cases needed for one score per draw, shape (B,); infinite as in `needed`."""
        return _inverse(self.draws, scores, REACH * max(self.sizes))


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
    sizes, scores = as_score_draws(n, score_draws)
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
    shown = Interval.of_draws(float(rise.mean()), rise, level)
    if shown.low <= 0:
        return False, (f"No rise of the score is shown between {low_n:g} and {high_n:g} real cases: {shown}.")
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
