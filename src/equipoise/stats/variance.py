"""Variance components of the crossed patient x replicate design: the mixed-effects check of the interval.

``value[r, p] = mu + A[r] + B[p] + E[r, p]`` with independent effects, estimated from the mean squares of the two-way
table (method of moments, "ANOVA estimators"). It shares no code with the bootstrap and draws no random number, so the
two intervals check each other.

References
----------
Williams JS. A confidence interval for variance components. Biometrika 1962;49:278 (Tukey's interval of 1951).
Searle SR, Casella G, McCulloch CE. Variance Components. Wiley 1992, sections 4.2 and 4.4.
Satterthwaite FE. An approximate distribution of estimates of variance components. Biometrics 1946;2:110.
Baayen RH, Davidson DJ, Bates DM. Mixed-effects modeling with crossed random effects. J Mem Lang 2008;59:390.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtri, fdtri, stdtrit

from equipoise.errors import DataError
from equipoise.stats.inputs import as_replicates, require_fraction


@dataclass(frozen=True)
class VarianceComponents:
    """Where the spread comes from, and the interval that follows.

    Parameters
    ----------
    mean
        Grand mean, in the units of the metric.
    replicate, patient, interaction
        Variances, in squared units; a negative moment estimate is reported as 0. The interaction holds what remains.
    replicate_interval, patient_interval, interaction_interval
        Interval of each variance at ``level``, in squared units: Williams and Tukey's for the first two, the exact one
        of chi-square for the last; a bound below 0 is reported as 0.
    standard_error
        Of the grand mean, in the units of the metric.
    degrees_of_freedom
        Satterthwaite's approximation.
    low, high, level
        Interval of Student's t.
    patients, replicates, excluded
        Counts; a patient with NaN in any replicate is excluded.
    """

    mean: float
    replicate: float
    patient: float
    interaction: float
    replicate_interval: tuple[float, float]
    patient_interval: tuple[float, float]
    interaction_interval: tuple[float, float]
    standard_error: float
    degrees_of_freedom: float
    low: float
    high: float
    level: float
    patients: int
    replicates: int
    excluded: int

    def agrees_with(self, low: float, high: float, tolerance: float = 0.35) -> bool:
        """Whether an interval [low, high] of the same mean is like this one.

        Both centre and half-width may differ by ``tolerance`` times the larger half-width. The two methods treat the
        few degrees of freedom differently, so equality is not expected; a disagreement means skewed or mixed data.
        """
        mine, other = (self.high - self.low) / 2, (high - low) / 2
        slack = tolerance * max(mine, other)
        return bool(abs((self.high + self.low - high - low) / 2) <= slack and abs(mine - other) <= slack)


def variance_components(values: ArrayLike, level: float = 0.95) -> VarianceComponents:
    """Estimate the components for values (or paired differences) of shape (R, P).

    Parameters
    ----------
    values
        Shape (R, P), at least 2 replicates by 2 patients without NaN.
    level
        Confidence level of the interval of the mean.

    Returns
    -------
    VarianceComponents
        The variance of the mean is ``(MSA + MSB - MSE) / (k P)``, and never below the larger of ``MSA`` and ``MSB``
        alone, which the model guarantees and chance may break; its degrees of freedom are Satterthwaite's over the
        mean squares that enter.

    Raises
    ------
    DataError
        If there are fewer than 2 replicates or 2 complete patients.
    """
    table = as_replicates(values, "values")
    keep = np.isfinite(table).all(axis=0)
    table, excluded = table[:, keep], int((~keep).sum())
    k, p = table.shape
    if k < 2 or p < 2:
        raise DataError(
            f"variance components need at least 2 replicates and 2 complete patients, got {k} and {p}.",
            why="one replicate cannot show how much another training run would differ",
            fix="run more replicates (3 by default, 5 for a published claim)",
        )
    mean = float(table.mean())
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    left = table - rows[:, None] - columns[None] + mean
    ms_a, ms_b = p * float(rows.var(ddof=1)), k * float(columns.var(ddof=1))
    ms_e = float((left**2).sum()) / ((k - 1) * (p - 1))
    used, freedom = np.array([ms_a, ms_b, ms_e]), np.array([k - 1, p - 1, (k - 1) * (p - 1)], float)
    weights = np.array([1.0, 1.0, -1.0])
    if ms_e > min(ms_a, ms_b):  # one component is 0: the other mean square alone estimates the variance of the mean
        weights = np.array([1.0, 0.0, 0.0]) if ms_a > ms_b else np.array([0.0, 1.0, 0.0])
    variance = float(weights @ used) / (k * p)
    spread = float(((weights * used) ** 2 / freedom).sum())
    df = (variance * k * p) ** 2 / spread if spread > 0 else float(p - 1)
    error = float(np.sqrt(variance))
    tail = (1 - require_fraction(level, "level")) / 2
    half = error * float(stdtrit(df, 1 - tail))
    return VarianceComponents(
        mean=mean,
        replicate=max(0.0, (ms_a - ms_e) / p),
        patient=max(0.0, (ms_b - ms_e) / k),
        interaction=ms_e,
        replicate_interval=_component(ms_a, ms_e, k - 1, freedom[2], p, tail),
        patient_interval=_component(ms_b, ms_e, p - 1, freedom[2], k, tail),
        interaction_interval=(
            float(ms_e * freedom[2] / chdtri(freedom[2], tail)),
            float(ms_e * freedom[2] / chdtri(freedom[2], 1 - tail)),
        ),
        standard_error=error,
        degrees_of_freedom=float(df),
        low=mean - half,
        high=mean + half,
        level=float(level),
        patients=p,
        replicates=k,
        excluded=excluded,
    )


def _component(square: float, rest: float, df: float, df_rest: float, each: int, tail: float) -> tuple[float, float]:
    """Return Williams and Tukey's interval of the variance ``(square - rest) / each`` of two expected mean squares.

    Its coverage is at least the nominal level less one tail for any true variance, and in practice the level.
    """
    spread = square * df / each
    bounds = (
        (spread - rest * float(fdtri(df, df_rest, at)) * df / each) / float(chdtri(df, 1 - at))
        for at in (1 - tail, tail)
    )
    low, high = (max(0.0, float(bound)) for bound in bounds)
    return low, high
