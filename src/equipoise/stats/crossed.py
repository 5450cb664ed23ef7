"""Draws of a mean over patients and replicates, with both sources of uncertainty.

The design is crossed: every replicate is tested on the same patients. With

    value[r, p] = mu + A[r] + B[p] + E[r, p],      r = 1 … k replicates, p = 1 … P patients

the variance of the grand mean is ``sA^2 / k + sB^2 / P + sE^2 / (k P)``. Resampling patients of the mean over
replicates captures ``sB^2 / P + sE^2 / (k P)``: the interaction E is already in it. What is missing is ``sA^2 / k``:
another training subset, engine fit and initialisation would have moved all patients together, and no resampling of
patients shows that.

**Replicate component.** The replicate means have sample variance ``S^2`` with expectation ``sA^2 + sE^2 / P``. Three
rules were simulated (``tests/stats/coverage_grid.py``):

* all of it, ``S / sqrt(k) * t[k-1]``: counts the interaction twice; covers, and is up to 16 % wider;
* plug-in, ``sqrt(max(0, S^2 - MSE / P) / k) * t[k-1]``: undercovers (down to 92 %), for at two degrees of
  freedom ``S^2`` is often small by chance, and subtracting from it then removes real uncertainty;
* the rule used here, on the draw: ``Z * sqrt(max(0, S^2 (k-1) / chi2[k-1] - MSE / P) / k)``. Each draw first lets the
  replicates' variance be as large as k - 1 degrees of freedom allow, and only then takes off the interaction. Without
  interaction this is exactly ``S / sqrt(k) * t[k-1]``. It is the generalised pivotal quantity of the crossed model.

**Patient component.** The deviation of each bootstrap mean is multiplied by ``sqrt(P / (P-1))`` and by
``sqrt((P-1) / chi2[P-1])``: a bootstrap knows neither the lost degree of freedom nor that the spread itself is
estimated, and at 20 patients its plain percentile interval covers about 92 %.

References
----------
Davison AC, Hinkley DV. Bootstrap Methods and their Application. Cambridge 1997, sections 2.2 and 3.8.
Owen AB. The pigeonhole bootstrap. Ann Appl Stat 2007;1:386 (crossed designs).
Gallas BD. One-shot estimate of MRMC variance: AUC. Acad Radiol 2006;13:353 (readers x cases, the same decomposition).
Weerahandi S. Generalized confidence intervals. J Am Stat Assoc 1993;88:899.
Burdick RK, Graybill FA. Confidence Intervals on Variance Components. Dekker 1992.
Hesterberg TC. What teachers should know about the bootstrap. Am Stat 2015;69:371 (narrowness bias).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincinv

from equipoise.errors import DataError
from equipoise.stats.bootstrap import patient_bootstrap
from equipoise.stats.inputs import Floats, Integers, as_floats, stratum_numbers


@dataclass(frozen=True, eq=False)
class CrossedDraws:
    """Grand means of several columns (arms, differences) and their joint draws.

    Parameters
    ----------
    estimate
        Mean over replicates and patients, shape (C,).
    draws
        Shape (B, C); row b is one joint draw of all columns, so functions of several columns may be taken row by row.
    patients, excluded
        Patients counted and left out in each column, shape (C,).
    sd_between_patients
        SD over patients of the mean over replicates, shape (C,).
    sd_between_replicates
        SD over replicates of the mean over patients, shape (C,); NaN with one replicate.
    sd_interaction
        Root mean square of what neither patient nor replicate explains, shape (C,); NaN with one replicate.
    """

    estimate: Floats
    draws: Floats
    patients: Integers
    excluded: Integers
    sd_between_patients: Floats
    sd_between_replicates: Floats
    sd_interaction: Floats


def crossed_draws(
    values: ArrayLike,
    rng: np.random.Generator,
    resamples: int = 10_000,
    strata: Sequence[object] | NDArray[np.generic] | None = None,
) -> CrossedDraws:
    """Draw the grand means of C columns with patient and replicate uncertainty (see the module's text).

    Parameters
    ----------
    values
        Shape (C, R, P): columns (arms, or differences of arms), replicates, patients. NaN in any replicate leaves the
        patient out of that column, so that all replicates of a column are averaged over the same patients.
    rng
        Keyed random stream.
    resamples
        Number of draws B.
    strata
        One label per patient; resampling keeps the strata's sizes.

    Returns
    -------
    CrossedDraws
        All columns share patients' resamples and replicates' draws. For one contrast of two arms give the contrast
        itself as a column (`paired_difference` does): the interaction is then judged on the contrast.

    Raises
    ------
    DataError
        If fewer than 2 patients of a column have a value in every replicate, or the shape is wrong.
    """
    cube = as_floats(values, "values")
    if cube.ndim != 3 or cube.size == 0:
        raise DataError(f"values must have shape (columns, replicates, patients), got {cube.shape}.")
    complete = np.asarray(np.isfinite(cube).all(axis=1))
    _require_patients(cube, complete)
    cube = np.where(complete[:, None, :], cube, np.nan)
    patient_means = cube.mean(axis=1)
    estimate = np.nanmean(patient_means, axis=1)
    deviation = patient_bootstrap(patient_means, rng, resamples, strata) - estimate
    if np.isnan(deviation).any():
        raise DataError(
            f"a column has values for only {int(complete.sum(axis=1).min())} of {cube.shape[2]} patients, "
            "and some resamples met none of them.",
            fix="compute that column by itself (mean_interval and paired_difference drop such patients first)",
        )
    deviation *= _tail_factor(patient_means, stratum_numbers(strata, cube.shape[2]), rng.random(deviation.shape[0]))
    replicate_means, residual = _replicate_spread(cube, estimate, patient_means)
    used = complete.sum(axis=1)
    draws = estimate + deviation
    if cube.shape[1] > 1:
        draws += _replicate_deviation(replicate_means - estimate[:, None], residual / used, deviation.shape[0], rng)
    several = cube.shape[1] > 1
    nothing = np.full(cube.shape[0], np.nan)
    return CrossedDraws(
        estimate=estimate,
        draws=draws,
        patients=used.astype(np.int64),
        excluded=(cube.shape[2] - used).astype(np.int64),
        sd_between_patients=np.nanstd(patient_means, axis=1, ddof=1),
        sd_between_replicates=replicate_means.std(axis=1, ddof=1) if several else nothing,
        sd_interaction=np.sqrt(residual) if several else nothing,
    )


def _require_patients(cube: Floats, complete: NDArray[np.bool_]) -> None:
    for column, row in enumerate(complete):
        if row.sum() >= 2:
            continue
        empty = [index for index, values in enumerate(cube[column]) if np.isnan(values).all()]
        cause = f"replicate(s) {empty} have no value at all" if empty else "the others have NaN in some replicate"
        raise DataError(
            f"column {column}: {int(row.sum())} of {row.size} patients have a value in every replicate, 2 are needed; "
            f"{cause}.",
            why="the spread between patients cannot be measured on fewer than two",
            fix="leave out replicates that failed, or test on more patients that have the structure",
        )


def _tail_factor(patient_means: Floats, strata: Integers, uniform: Floats) -> Floats:
    """Factors (B, C) that give bootstrap deviations the spread and tails of Student's t (Satterthwaite over strata)."""
    factor = np.empty((uniform.size, patient_means.shape[0]))
    for column, row in enumerate(patient_means):
        present = np.isfinite(row)
        sizes, variances = [], []
        for stratum in np.unique(strata[present]):
            members = row[present & (strata == stratum)]
            sizes.append(members.size)
            variances.append(float(members.var(ddof=1)) if members.size > 1 else 0.0)
        n, s2 = np.asarray(sizes, float), np.asarray(variances)
        share = n * s2  # (n / P)^2 s^2 / n, times P^2: each stratum's part of the variance of the mean
        freedom = np.maximum(n - 1, 1)
        if share.sum() <= 0:
            factor[:, column] = 1.0
            continue
        widen = share.sum() / (share * freedom / n).sum()
        df = share.sum() ** 2 / (share**2 / freedom).sum()
        factor[:, column] = np.sqrt(widen * df / (2.0 * gammaincinv(df / 2.0, uniform)))
    return factor


def _replicate_spread(cube: Floats, estimate: Floats, patient_means: Floats) -> tuple[Floats, Floats]:
    """Means of the replicates (C, R), and the mean square of the interaction (C,); 0 with one replicate."""
    replicate_means = np.nanmean(cube, axis=2)
    replicates = cube.shape[1]
    if replicates == 1:
        return replicate_means, np.zeros(cube.shape[0])
    left = cube - patient_means[:, None, :] - replicate_means[:, :, None] + estimate[:, None, None]
    patients = np.isfinite(patient_means).sum(axis=1)
    square: Floats = np.nansum(left**2, axis=(1, 2)) / ((replicates - 1) * (patients - 1))
    return replicate_means, square


def _replicate_deviation(centred: Floats, interaction: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Draws (B, C) of the replicates' part; normal weights on the replicates keep columns that share them together."""
    replicates = centred.shape[1]
    spread = (centred**2).sum(axis=1) / (replicates - 1)
    chance = rng.chisquare(replicates - 1, resamples) / (replicates - 1)
    normal = rng.standard_normal((resamples, replicates)) @ centred.T / np.sqrt(replicates - 1)
    explained = np.divide(interaction, spread, out=np.zeros_like(spread), where=spread > 0)
    kept: Floats = np.sqrt(np.maximum(0.0, 1.0 / chance[:, None] - explained) / replicates)
    deviation: Floats = normal * kept
    return deviation
