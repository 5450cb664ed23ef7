"""Resampling of patients: the unit that is exchangeable, and the one that readers generalise to.

A resample of P patients with replacement is the same thing as a draw of multinomial counts (how often each patient was
picked). Means of many columns under all resamples are then one matrix product, ``counts @ values``, in place of a loop.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equipoise.errors import DataError, PatientUnknownError
from equipoise.stats.inputs import (
    Floats,
    Integers,
    as_floats,
    require_generator,
    require_resamples,
    stratum_numbers,
)

#: Cells of the count matrix held at once: a block that stays in the processor's cache is twice as fast as one that does
#: not, and it bounds the memory for any number of patients.
_BLOCK_CELLS = 30_000


def patient_bootstrap(
    values: ArrayLike,
    rng: np.random.Generator,
    resamples: int = 10_000,
    strata: Sequence[object] | NDArray[np.generic] | None = None,
) -> Floats:
    r"""Means over patients under resampling of the patients, for many columns at once.

    Parameters
    ----------
    values
        One value per patient on the **last** axis: shape (P,), (arms, P), (arms, metrics, P) … . All columns share the
        same resamples, so differences between columns of the result are paired. NaN marks a patient without that
        metric; a resample's mean is then taken over the patients that have one.
    rng
        Keyed random stream.
    resamples
        Number of resamples B.
    strata
        One label per patient; each resample keeps the number of patients of every stratum. Strata of a single patient
        are joined (`equipoise.stats.inputs.stratum_numbers`).

    Returns
    -------
    Array of shape (B, \*leading axes of ``values``), in the units of ``values``. A cell is NaN where a resample met no
    patient that has the metric. Values that vary over replicates are averaged over replicates by the caller, or given
    to `equipoise.stats.crossed_draws`, which adds the uncertainty that comes from the replicates.

    Raises
    ------
    DataError
        If there is no patient, a column has no value at all, or a value is infinite.

    References
    ----------
    Efron B, Tibshirani RJ. An Introduction to the Bootstrap. Chapman & Hall 1993, chapters 6 and 8.
    Davison AC, Hinkley DV. Bootstrap Methods and their Application. Cambridge 1997, sections 2.2 and 3.2 (strata).

    Examples
    --------
    >>> draws = patient_bootstrap([[0.8, 0.9, 0.7], [0.7, 0.9, 0.6]], np.random.default_rng(0), resamples=500)
    >>> draws.shape
    (500, 2)
    """
    array = as_floats(values, "values")
    stream, count = require_generator(rng), require_resamples(resamples)
    if array.ndim == 0 or array.size == 0:
        raise DataError(f"values must hold at least one patient on the last axis, got shape {array.shape}.")
    patients = array.shape[-1]
    columns = array.reshape(-1, patients)
    present = np.isfinite(columns)
    if not present.any(axis=1).all():
        empty = np.flatnonzero(~present.any(axis=1)).tolist()
        raise DataError(
            f"column(s) {empty} have no patient with a value.",
            fix="leave the metric out, and report that no patient has it",
        )
    # Centring first loses no digits when the spread is small beside the mean (volumes in mm3, for example).
    centre = np.nanmean(columns, axis=1)
    numerator = np.where(present, columns - centre[:, None], 0.0)
    summed = numerator if present.all() else np.concatenate([numerator, present.astype(np.float64)])
    groups, width = stratum_numbers(strata, patients), columns.shape[0]
    draws = np.empty((count, width))
    step = max(1, _BLOCK_CELLS // patients)
    for start in range(0, count, step):
        total = _sums(summed, resample_patients(groups, min(step, count - start), stream))
        if summed is numerator:
            draws[start : start + step] = total / patients
        else:
            means = np.full((total.shape[0], width), np.nan)
            draws[start : start + step] = np.divide(
                total[:, :width], total[:, width:], out=means, where=total[:, width:] > 0
            )
    draws += centre
    return draws.reshape(count, *array.shape[:-1])


def resample_patients(strata: Integers, resamples: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Pick patients with replacement, stratum by stratum.

    Parameters
    ----------
    strata
        Stratum number of each patient, shape (P,), counted from 0.
    resamples
        Number of rows wanted.
    rng
        Random stream.

    Returns
    -------
    Shape (resamples, P): the positions of the patients picked. Each row holds as many of every stratum as there are.
    """
    picks = np.empty((resamples, strata.size), np.intp)
    for stratum in range(int(strata.max()) + 1):
        members = np.flatnonzero(strata == stratum)
        # Picks of 16 bits take half the time of 64; counted, they have the law of Generator.multinomial.
        kind = np.uint16 if members.size <= 65_535 else np.uint32
        found = rng.integers(members.size, size=(resamples, members.size), dtype=kind)
        if members.size == strata.size:
            return found.astype(np.intp)
        picks[:, members] = members[found]
    return picks


def _sums(columns: Floats, picks: NDArray[np.intp]) -> Floats:
    """Sum each column (C, P) over each row of picks (B, P): shape (B, C).

    One or two columns are gathered directly; for more, counting how often each patient was picked costs about as much
    as gathering three of them, and the product with the counts is then nearly free.
    """
    if len(columns) <= 2:
        return np.stack([column.take(picks).sum(axis=1) for column in columns], axis=1)
    resamples, patients = picks.shape
    cells = picks + patients * np.arange(resamples, dtype=np.intp)[:, None]
    counts = np.bincount(cells.ravel(), minlength=picks.size).reshape(resamples, patients)
    product: Floats = counts.astype(np.float64) @ columns.T
    return product


def by_patient(values: ArrayLike, patients: Sequence[str]) -> tuple[Floats, list[str]]:
    """Average cases within patients, so that a patient with many cases counts once.

    Parameters
    ----------
    values
        Shape (..., N): N cases on the last axis; NaN for a case without the metric.
    patients
        The patient of each case, length N.

    Returns
    -------
    (matrix, names)
        ``matrix`` has shape (..., P), the mean over each patient's cases that have a value, NaN where none has;
        ``names`` are the P patients in sorted order.

    Raises
    ------
    PatientUnknownError
        If the list of patients does not match the cases, or a name is empty.

    Examples
    --------
    >>> by_patient([[1.0, 3.0, 5.0]], ["b", "b", "a"])
    (array([[5., 2.]]), ['a', 'b'])
    """
    array = as_floats(values, "values")
    owners = list(patients)
    if array.ndim == 0 or array.shape[-1] != len(owners) or not owners:
        raise PatientUnknownError(
            f"got {len(owners)} patient names for values of shape {array.shape}.",
            fix="name one patient for every case on the last axis",
        )
    missing = [index for index, owner in enumerate(owners) if not str(owner).strip()]
    if missing:
        raise PatientUnknownError(
            f"case(s) {missing[:5]} have an empty patient name.",
            why="cases of one patient are alike; counted as separate patients they make every interval too narrow",
            fix="name the patient of every case; if each image is its own patient, say so in the plan",
        )
    names = sorted({str(owner) for owner in owners})
    place = {name: index for index, name in enumerate(names)}
    member = np.zeros((len(owners), len(names)))
    member[np.arange(len(owners)), [place[str(owner)] for owner in owners]] = 1.0
    present = np.isfinite(array)
    total = np.where(present, array, 0.0) @ member
    count = present.astype(np.float64) @ member
    matrix = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return matrix, names
