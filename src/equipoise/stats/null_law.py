"""The law in which synthetic cases do nothing, and the test of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equipoise.errors import DataError
from equipoise.stats.inputs import as_score_draws
from equipoise.stats.interval import Interval
from equipoise.stats.power_law import PowerLaw, fit_power_law


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
    sizes, real = as_score_draws(n, real_draws)
    mixed_sizes, mixed = as_score_draws(n_mixed, mixed_draws)
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
    excess = tuple(Interval.of_draws(float(column.mean()), column, level) for column in columns)
    average = np.mean(columns, axis=0)
    mean_excess = Interval.of_draws(float(average.mean()), average, level)
    beyond = min(int((average <= 0).sum()), int((average >= 0).sum()))
    p_value = min(1.0, 2.0 * (1 + beyond) / (1 + average.size))
    return NullLaw(pooled, excess, mean_excess, p_value, _null_sentence(mean_excess))


def _null_sentence(excess: Interval) -> str:
    if excess.low > 0:
        return f"Synthetic cases add to the score beyond what the real cases explain: {excess}."
    if excess.high < 0:
        return f"Synthetic cases take from the score that the real cases alone would give: {excess}."
    return f"That synthetic cases do nothing is not disproven: {excess} beyond what the real cases explain."
