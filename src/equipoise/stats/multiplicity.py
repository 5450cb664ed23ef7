"""Several contrasts planned at once: the chance of any false finding is held, not the chance of each."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from equipoise.errors import DataError, PlanError
from equipoise.stats.inputs import Floats, as_floats, require_fraction


def holm(p_values: ArrayLike) -> Floats:
    """Adjust p-values by Holm's step-down method; needs no assumption on how the contrasts depend on each other.

    Parameters
    ----------
    p_values
        Shape (m,): the p-values of all contrasts that the plan names, those that "did not work out" included.

    Returns
    -------
    Adjusted p-values in the given order. All contrasts with an adjusted value of at most alpha may be called findings,
    with a chance of at most alpha that any of them is false.

    Raises
    ------
    DataError
        If a value is NaN or outside [0, 1].

    References
    ----------
    Holm S. A simple sequentially rejective multiple test procedure. Scand J Stat 1979;6:65.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = as_floats(p_values, "p_values")
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise DataError(
            f"p_values must be a list of numbers from 0 to 1, got shape {values.shape} with {values.tolist()}.",
            why="a contrast without a p-value would change the adjustment of all others",
            fix="give 1.0 to a planned contrast that could not be computed",
        )
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    steps = values[order] * np.arange(values.size, 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps)) if values.size else steps
    return adjusted


def bonferroni_level(level: float, contrasts: int) -> float:
    """Level of each of ``contrasts`` intervals so that all hold together with at least ``level``.

    Holm adjusts p-values; his method has no simple interval that belongs to it. Where intervals must hold jointly,
    draw each at this level (Dunn OJ. Multiple comparisons among means. J Am Stat Assoc 1961;56:52).

    Examples
    --------
    >>> round(bonferroni_level(0.95, 5), 3)
    0.99
    """
    if contrasts < 1:
        raise PlanError(
            f"contrasts must be at least 1, got {contrasts}.", fix="count the contrasts that the plan names"
        )
    return 1.0 - (1.0 - require_fraction(level, "level")) / contrasts
