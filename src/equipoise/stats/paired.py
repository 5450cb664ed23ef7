"""Intervals of one arm's mean and of the difference of two arms, over patients and replicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equipoise.errors import DataError
from equipoise.stats.crossed import CrossedDraws, crossed_draws
from equipoise.stats.inputs import Floats, as_replicates, require_fraction, stratum_numbers


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Parameters
    ----------
    estimate
        Mean over replicates and patients, in the units of the metric.
    low, high
        Bounds of the interval at ``level``.
    level
        Confidence level, for example 0.95.
    patients
        Patients counted: those with a value in every replicate (of both arms, for a difference).
    replicates
        Replicates; each redraws training subset, engine fit and initialisation.
    excluded
        Patients left out because a value is NaN (the metric does not exist for them).
    sd_between_patients
        SD over patients of the mean over replicates.
    sd_between_replicates
        SD over replicates of the mean over patients, the dots of the plot; NaN with one replicate.
    conditional
        True with one replicate: the interval then speaks of these fitted models only, not of what training again
        would give ("conditional on these fits").
    draws
        Sorted draws behind the interval, shape (B,), read-only; not shown, compared or exported.
    """

    estimate: float
    low: float
    high: float
    level: float
    patients: int
    replicates: int
    excluded: int
    sd_between_patients: float
    sd_between_replicates: float
    conditional: bool
    draws: Floats = field(repr=False, compare=False)

    def quantile(self, probability: float) -> float:
        """Quantile of the draws, in the units of the metric."""
        return float(np.quantile(self.draws, require_fraction(probability, "probability")))

    def interval(self, level: float) -> tuple[float, float]:
        """Interval at any ``level``, with equal tails, from the same draws."""
        tail = (1.0 - require_fraction(level, "level")) / 2.0
        return self.quantile(tail), self.quantile(1.0 - tail)

    def one_sided_p(self, bound: float, side: str) -> float:
        """P-value of the one-sided test against ``bound``.

        Parameters
        ----------
        bound
            Value of the mean under the null hypothesis, in the units of the metric.
        side
            ``"above"``: the claim is that the mean lies above ``bound``; ``"below"``: that it lies below.

        Returns
        -------
        Share of draws on the wrong side, with one added to both counts so that it is never 0 (Davison & Hinkley 1997,
        section 4.2): a p-value below ``level`` and a one-sided bound beyond ``bound`` are the same statement.
        """
        if side not in ("above", "below"):
            raise DataError(f'side must be "above" or "below", got {side!r}.')
        count = self.draws.size
        if side == "above":
            wrong = int(np.searchsorted(self.draws, bound, side="right"))
        else:
            wrong = count - int(np.searchsorted(self.draws, bound, side="left"))
        return (1 + wrong) / (1 + count)

    def as_row(self) -> dict[str, float | int | bool]:
        """Everything but the draws, for a table or JSON file, with the 90 % interval that TOST reads."""
        row: dict[str, float | int | bool] = {
            name: value for name, value in vars(self).items() if isinstance(value, (bool, int, float))
        }
        row["low90"], row["high90"] = self.interval(0.90)
        return row

    def sentence(self, unit: str = "") -> str:
        """One plain sentence: value, interval, patients, replicates, and whether it is conditional on these fits."""
        unit = f" {unit}" if unit else ""
        text = (
            f"{self.estimate:.4g}{unit} [{self.low:.4g}, {self.high:.4g}] "
            f"({100 * self.level:g} % interval, {self.patients} patients, {self.replicates} replicate"
            f"{'' if self.replicates == 1 else 's'}"
        )
        if self.excluded:
            text += f", {self.excluded} patient{'' if self.excluded == 1 else 's'} without the metric left out"
        return text + (", conditional on these fits)" if self.conditional else ")")


@dataclass(frozen=True)
class Difference(Estimate):
    """The difference of two arms' means on the same patients; see `Estimate` for the other fields.

    Parameters
    ----------
    p_value
        Two-sided, for "no difference": twice the smaller share of draws beyond 0. It agrees with the interval.
    """

    p_value: float


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 10_000,
    strata: Sequence[object] | NDArray[np.generic] | None = None,
) -> Difference:
    """Mean of ``a`` minus mean of ``b``, with an interval over patients **and** replicates.

    Parameters
    ----------
    a, b
        Values of two arms, both of shape (R, P): the same replicates (row r of both arms shares its draw of training
        patients) and the same patients in the same order. Shape (P,) means one replicate.
    rng
        Keyed random stream.
    level
        Confidence level.
    resamples
        Number of draws.
    strata
        One label per patient; resampling keeps the strata's sizes.

    Returns
    -------
    Difference
        The interval joins a bootstrap of patients (of the mean over replicates, crossed design) with a component
        between replicates on R - 1 degrees of freedom: ``S / sqrt(R) * t[R-1]`` less the part of S that patients'
        interaction with replicates explains, for that part is already in the resampling of patients. The exact rule,
        and why it was chosen, is told in `equipoise.stats.crossed`; how it covers, in ``docs/statistics.md``. With one
        replicate there is no such component, and ``conditional`` is True.

    Raises
    ------
    DataError
        If shapes differ, or fewer than two patients have values in every replicate of both arms.

    References
    ----------
    Davison AC, Hinkley DV. Bootstrap Methods and their Application. Cambridge 1997, section 3.8.
    Fisher RA. The fiducial argument in statistical inference. Ann Eugen 1935;6:391 (sum of two t-type errors with
    different degrees of freedom: the Behrens-Fisher problem).
    Bouthillier X et al. Accounting for variance in machine learning benchmarks. MLSys 2021.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> b = rng.normal(0.80, 0.05, size=(3, 50))
    >>> round(paired_difference(b + 0.02, b, rng, resamples=1000).low, 6)
    0.02
    """
    first, second = as_replicates(a, "a"), as_replicates(b, "b")
    if first.shape != second.shape:
        raise DataError(
            f"a has shape {first.shape} and b {second.shape}; both need the same replicates and patients.",
            why="differences are taken patient by patient within a replicate",
            fix="keep the patients and replicates that both arms have, in the same order",
        )
    fields, draws = _summary(first - second, rng, level, resamples, strata)
    beyond = min(float((draws <= 0).sum()), float((draws >= 0).sum()))
    p_value = min(1.0, 2.0 * (1.0 + beyond) / (1.0 + draws.size))
    return Difference(**fields, draws=draws, p_value=p_value)  # type: ignore[arg-type]


def mean_interval(
    values: ArrayLike,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 10_000,
    strata: Sequence[object] | NDArray[np.generic] | None = None,
) -> Estimate:
    """Mean of one arm, with the interval of `paired_difference`; ``values`` of shape (R, P) or (P,)."""
    fields, draws = _summary(as_replicates(values, "values"), rng, level, resamples, strata)
    return Estimate(**fields, draws=draws)  # type: ignore[arg-type]


def _summary(
    values: Floats,
    rng: np.random.Generator,
    level: float,
    resamples: int,
    strata: Sequence[object] | NDArray[np.generic] | None,
) -> tuple[dict[str, float | int | bool], Floats]:
    tail = (1.0 - require_fraction(level, "level")) / 2.0
    result, excluded = _complete_patients(values, rng, resamples, strata)
    draws = np.sort(result.draws[:, 0])
    draws.setflags(write=False)
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    fields: dict[str, float | int | bool] = {
        "estimate": float(result.estimate[0]),
        "low": float(low),
        "high": float(high),
        "level": float(level),
        "patients": int(result.patients[0]),
        "replicates": values.shape[0],
        "excluded": excluded,
        "sd_between_patients": float(result.sd_between_patients[0]),
        "sd_between_replicates": float(result.sd_between_replicates[0]),
        "conditional": values.shape[0] == 1,
    }
    return fields, draws


def _complete_patients(
    values: Floats,
    rng: np.random.Generator,
    resamples: int,
    strata: Sequence[object] | NDArray[np.generic] | None,
) -> tuple[CrossedDraws, int]:
    """Drop patients with a NaN before resampling, so that every resample has the same number of patients."""
    keep = np.asarray(np.isfinite(values).all(axis=0))
    if keep.sum() < 2:  # crossed_draws explains what is missing
        return crossed_draws(values[None], rng, resamples), 0
    if strata is not None:
        stratum_numbers(strata, keep.size)  # refuses a wrong number of labels, before patients are dropped
        strata = [label for label, kept in zip(strata, keep, strict=True) if kept]
    return crossed_draws(values[None, :, keep], rng, resamples, strata), int((~keep).sum())
