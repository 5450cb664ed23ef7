"""Checks of what comes into the statistics: matrices of values, random streams, levels and strata."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equipoise.errors import DataError, PlanError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Fewest resamples that still place a 95 % bound with some meaning.
FEWEST_RESAMPLES = 100


def as_floats(values: ArrayLike, name: str) -> Floats:
    """Return ``values`` as float64, refusing text and infinities (NaN is allowed: it means "no value here").

    Raises
    ------
    DataError
        If the values are not numbers, or one of them is infinite.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name} must be numbers in a rectangular array, got something else ({error}).",
            fix="give one number per replicate and patient, and NaN where the metric does not exist",
        ) from None
    if np.isinf(array).any():
        raise DataError(
            f"{name} holds {int(np.isinf(array).sum())} infinite value(s).",
            why="one infinite value makes every mean infinite",
            fix="let the metric return its stated finite penalty, or NaN where it does not exist",
        )
    return array


def as_replicates(values: ArrayLike, name: str) -> Floats:
    """Return ``values`` with shape (R, P): replicates by patients; one row of P patients becomes (1, P).

    Raises
    ------
    DataError
        If the array has no or more than two axes, or is empty.
    """
    array = as_floats(values, name)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.size == 0:
        raise DataError(
            f"{name} must have shape (replicates, patients), got {array.shape}.",
            fix="give one row per replicate and one column per held-out patient",
        )
    return array


def as_score_draws(n: Sequence[float], score_draws: ArrayLike) -> tuple[Floats, Floats]:
    """Return sizes, shape (S,), and the draws of their scores, shape (B, S), with B of 2 or more and no NaN.

    Raises
    ------
    DataError
        If a size is not positive, a draw is NaN, or there is not one column per size.
    """
    sizes, scores = as_floats(n, "n"), as_floats(score_draws, "score_draws")
    if sizes.ndim != 1 or sizes.size == 0 or not (sizes > 0).all():
        raise DataError(f"n must list positive numbers of real cases, got {sizes.tolist()}.")
    if scores.ndim != 2 or scores.shape[1] != sizes.size or len(scores) < 2 or np.isnan(scores).any():
        raise DataError(
            f"score_draws must have shape (draws, {sizes.size}) without NaN, got {scores.shape}.",
            fix="give one column per size, from crossed_draws(...).draws",
        )
    return sizes, scores


def require_generator(rng: object) -> np.random.Generator:
    """Return ``rng`` if it is a `numpy.random.Generator`, else raise `DataError`."""
    if not isinstance(rng, np.random.Generator):
        raise DataError(
            f"rng must be a numpy.random.Generator, got {type(rng).__name__}.",
            why="without a keyed stream the interval cannot be reproduced",
            fix="pass numpy.random.default_rng(seed) or a keyed stream",
        )
    return rng


def require_resamples(resamples: int) -> int:
    """Return ``resamples`` if there are enough of them to place the tail of an interval."""
    if isinstance(resamples, bool) or int(resamples) != resamples or resamples < FEWEST_RESAMPLES:
        raise PlanError(
            f"resamples must be a whole number of at least {FEWEST_RESAMPLES}, got {resamples}.",
            why="the bounds of an interval are quantiles far out in the tail",
            fix="use the default of 10,000",
        )
    return int(resamples)


def require_fraction(value: float, name: str) -> float:
    """Return ``value`` if it lies strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise PlanError(f"{name} must lie strictly between 0 and 1, got {value}.", fix=f"write 95 % as {name}=0.95")
    return float(value)


def require_size(n: float) -> float:
    """Return ``n`` if it is a positive finite number of cases."""
    if not (np.isfinite(n) and n > 0):
        raise DataError(f"a number of cases must be positive and finite, got {n}.")
    return float(n)


def require_margin(margin: float) -> float:
    """Return ``margin`` if it is a positive finite number, in the units of the metric."""
    if not (np.isfinite(margin) and margin > 0):
        raise PlanError(
            f"margin must be a positive number in the units of the metric, got {margin}.",
            why="the margin is the largest difference that does not matter, declared before the test set is opened",
            fix="state it in the plan, for example margin = 0.01 for Dice",
        )
    return float(margin)


def stratum_numbers(strata: Sequence[object] | NDArray[np.generic] | None, patients: int) -> Integers:
    """Return the strata of the patients as numbers from 0, joining strata too small to have a spread.

    Parameters
    ----------
    strata
        One label per patient (site, scanner, size class …), or None for a single stratum.
    patients
        How many patients there are.

    Returns
    -------
    Array of shape (patients,). Strata of one patient are joined with each other, and if that leaves one patient,
    with the smallest other stratum ("collapsed strata", Cochran 1977, section 5A.12): a single patient has no
    measurable spread, and would silently narrow the interval.

    Raises
    ------
    DataError
        If there is not exactly one label per patient.
    """
    if strata is None:
        return np.zeros(patients, np.int64)
    labels = [str(label) for label in strata]
    if len(labels) != patients:
        raise DataError(
            f"got {len(labels)} stratum labels for {patients} patients.",
            fix="give one label per patient, in the order of the columns",
        )
    _, numbers = np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)
    numbers = numbers.astype(np.int64).reshape(-1)
    counts = np.bincount(numbers)
    alone = np.flatnonzero(counts == 1)
    if alone.size:
        numbers[np.isin(numbers, alone)] = alone[0]
        counts = np.bincount(numbers, minlength=counts.size)
        others = np.flatnonzero(counts > 1)
        if counts[alone[0]] == 1 and others.size:
            numbers[numbers == alone[0]] = others[np.argmin(counts[others])]
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64).reshape(-1)
