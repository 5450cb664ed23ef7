"""What a trial of this size can show, said before anything is trained.

The rule that will be applied later (the interval of `paired_difference`) rejects when the estimate lies further from
the bound than ``h``, the quantile of ``sp / sqrt(P) * t[P-1] + sr / sqrt(k) * t[k-1]`` (Behrens-Fisher) at the spreads
that the trial will happen to observe. Power is therefore a normal probability averaged over the chi-squared laws of
both observed spreads; with 2 to 5 replicates the plain normal formula would promise far too much.

References
----------
Fisher RA. The fiducial argument in statistical inference. Ann Eugen 1935;6:391.
Julious SA. Sample sizes for clinical trials with normal data. Stat Med 2004;23:1921 (superiority, equivalence).
Obuchowski NA. Sample size tables for receiver operating characteristic studies. AJR 2000;175:603 (two factors).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaincinv, ndtr, stdtr, stdtrit

from equipoise.errors import PlanError
from equipoise.stats.inputs import Floats, require_fraction, require_margin

Claim = Literal["difference", "not inferior", "equal"]

_ANGLES = np.linspace(0.0, np.pi / 2, 49)


@dataclass(frozen=True)
class PlannedPower:
    """Power and smallest detectable difference over a range of assumed spreads.

    Parameters
    ----------
    margin
        Difference that matters, in the units of the metric.
    power_low, power_high
        Chance to show a difference of ``margin``, under the larger and the smaller assumed spreads.
    detectable_low, detectable_high
        Smallest difference found with the stated power, under the smaller and the larger assumed spreads.
    power
        The stated power.
    sentence
        The same in one plain sentence, to be printed before training.
    """

    margin: float
    power_low: float
    power_high: float
    detectable_low: float
    detectable_high: float
    power: float
    sentence: str


def power_at(
    margin: float,
    patients: int,
    replicates: int,
    sd_between_patients: float,
    sd_between_replicates: float,
    alpha: float = 0.05,
    claim: Claim = "difference",
    true_difference: float = 0.0,
) -> float:
    """Chance that the planned comparison reaches its claim.

    Parameters
    ----------
    margin
        For ``claim="difference"`` the true difference that should be found; for the others the declared margin. Units
        of the metric.
    patients, replicates
        Size of the trial. With 1 replicate the answer is conditional on these fits.
    sd_between_patients
        SD over patients of the paired difference averaged over replicates (a pilot's `Difference` carries it).
    sd_between_replicates
        SD over replicates of the mean difference; not used with 1 replicate.
    alpha
        Two-sided level of the interval for ``"difference"`` and ``"not inferior"``; level of each one-sided test for
        ``"equal"``.
    claim
        ``"difference"``: the interval excludes 0 on the right side. ``"not inferior"``: its lower bound lies above
        -margin. ``"equal"``: TOST.
    true_difference
        Assumed truth for the last two claims; 0 is the usual one.

    Returns
    -------
    Probability in [0, 1].

    Raises
    ------
    PlanError
        If a size is too small or a spread negative or not finite.
    """
    width = require_margin(margin)
    if claim not in get_args(Claim):
        raise PlanError(f"claim must be one of {', '.join(get_args(Claim))}, got {claim!r}.")
    level = alpha if claim == "equal" else alpha / 2
    require_fraction(2 * level, "alpha")
    error, half = _half_widths(patients, replicates, sd_between_patients, sd_between_replicates, level)
    return _power(width, error, half, claim, true_difference)


def minimum_detectable_difference(
    patients: int,
    replicates: int,
    sd_between_patients: float,
    sd_between_replicates: float,
    power: float = 0.8,
    alpha: float = 0.05,
) -> float:
    """Smallest true difference that the planned comparison shows with the given power.

    Parameters
    ----------
    patients, replicates, sd_between_patients, sd_between_replicates, alpha
        As in `power_at`.
    power
        Wanted chance of an interval that excludes 0.

    Returns
    -------
    The difference, in the units of the metric; 0 if both spreads are 0.

    Examples
    --------
    >>> round(minimum_detectable_difference(100, 5, 0.05, 0.0), 3)
    0.014
    """
    wanted = require_fraction(power, "power")
    level = require_fraction(alpha, "alpha") / 2
    error, half = _half_widths(patients, replicates, sd_between_patients, sd_between_replicates, level)
    if error == 0:
        return 0.0
    top = float(half.max()) + 10 * error
    return float(
        brentq(lambda size: _power(size, error, half, "difference", 0.0) - wanted, 0.0, top, xtol=1e-6 * error)
    )


def planned_power(
    margin: float,
    patients: int,
    replicates: int,
    sd_between_patients: tuple[float, float],
    sd_between_replicates: tuple[float, float],
    power: float = 0.8,
    alpha: float = 0.05,
) -> PlannedPower:
    """Power at the margin and the smallest detectable difference, over a range of spreads when there is no pilot.

    Parameters
    ----------
    margin, patients, replicates, power, alpha
        As in `power_at` and `minimum_detectable_difference`.
    sd_between_patients, sd_between_replicates
        Smallest and largest plausible spread, each a pair; a pair of equal values where a pilot has measured it.

    Returns
    -------
    PlannedPower
        With the sentence to print before training.
    """
    ranges = [_require_range(sd_between_patients, "patients"), _require_range(sd_between_replicates, "replicates")]
    small, large = [pair[0] for pair in ranges], [pair[1] for pair in ranges]
    high = power_at(margin, patients, replicates, small[0], small[1], alpha)
    low = power_at(margin, patients, replicates, large[0], large[1], alpha)
    least = minimum_detectable_difference(patients, replicates, small[0], small[1], power, alpha)
    most = minimum_detectable_difference(patients, replicates, large[0], large[1], power, alpha)
    chance = f"{100 * low:.0f} %" if small == large else f"{100 * low:.0f} to {100 * high:.0f} %"
    size = f"{most:.3g}" if small == large else f"{least:.3g} to {most:.3g}"
    sentence = (
        f"With {patients} patients and {replicates} replicate{'' if replicates == 1 else 's'}, a true difference of "
        f"{margin:g} is shown with a chance of {chance}; the smallest difference shown with {100 * power:.0f} % "
        f"power is {size}."
    )
    if replicates == 1:
        sentence += " One replicate: this holds for these fits only, not for training again."
    return PlannedPower(margin, low, high, least, most, power, sentence)


def behrens_fisher_quantile(ratio: Floats | float, df_first: float, df_second: float, probability: float) -> Floats:
    """Quantile of ``cos(angle) * t[df_first] + sin(angle) * t[df_second]`` with ``tan(angle) = ratio``.

    Parameters
    ----------
    ratio
        Scale of the second part over the scale of the first, any shape; infinity is allowed.
    df_first, df_second
        Degrees of freedom.
    probability
        Above 0.5.

    Returns
    -------
    Quantiles for a total scale of ``sqrt(first^2 + second^2) = 1``; accurate to about 0.5 %.

    References
    ----------
    Sukhatme PV. On Fisher and Behrens' test of significance. Sankhya 1938;4:39 (the tables this reproduces).
    """
    angle = np.arctan(np.asarray(ratio, float))
    swap = df_first < df_second  # the lighter tail is summed on a grid, the heavier is exact
    light, heavy = (df_second, df_first) if swap else (df_first, df_second)
    edge = float(np.arcsinh(stdtrit(light, 1 - 1e-5)))
    steps = np.linspace(-edge, edge, 401)
    nodes = np.sinh(steps)  # even in the middle, sparse in the tail
    weights = np.cosh(steps) * (1 + nodes**2 / light) ** (-(light + 1) / 2)  # t density times the stretch of the grid
    weights /= weights.sum()
    light_scale, heavy_scale = (np.sin(angle), np.cos(angle)) if swap else (np.cos(angle), np.sin(angle))
    low = np.zeros(angle.shape)
    high = np.full(angle.shape, 1.5 * float(stdtrit(heavy, probability)))
    floor = np.maximum(heavy_scale, 0.02)  # wider than the grid's step, so that the sum stays smooth in the quantile
    for _ in range(26):
        middle = (low + high) / 2
        reach = (middle[..., None] - light_scale[..., None] * nodes) / floor[..., None]
        below = stdtr(heavy, reach) @ weights < probability
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2)


def _half_widths(patients: int, replicates: int, sd_p: float, sd_r: float, tail: float) -> tuple[float, Floats]:
    """Return the true standard error, and half-widths of the interval at equally likely pairs of observed spreads."""
    _require_design(patients, replicates, sd_p, sd_r)
    first = sd_p / np.sqrt(patients)
    spread_p = first * _chi_nodes(patients - 1, 24)
    if replicates == 1:
        return float(first), spread_p * float(stdtrit(patients - 1, 1 - tail))
    second = sd_r / np.sqrt(replicates)
    spread_p, spread_r = np.meshgrid(spread_p, second * _chi_nodes(replicates - 1, 100))
    table = behrens_fisher_quantile(np.tan(_ANGLES), patients - 1, replicates - 1, 1 - tail)
    quantile = np.interp(np.arctan2(spread_r, spread_p), _ANGLES, table)
    half: Floats = (np.hypot(spread_p, spread_r) * quantile).ravel()
    return float(np.hypot(first, second)), half


def _chi_nodes(df: int, nodes: int) -> Floats:
    """Observed SD over true SD at equally likely points of its chi law."""
    chances = (np.arange(nodes) + 0.5) / nodes
    values: Floats = np.sqrt(2.0 * gammaincinv(df / 2.0, chances) / df)
    return values


def _power(width: float, error: float, half: Floats, claim: str, truth: float) -> float:
    scale = max(error, 1e-300)
    if claim == "difference":
        return float(ndtr((width - half) / scale).mean())
    if claim == "not inferior":
        return float(ndtr((width + truth - half) / scale).mean())
    upper, lower = ndtr((width - half - truth) / scale), ndtr((half - width - truth) / scale)
    return float(np.maximum(0.0, upper - lower).mean())


def _require_design(patients: int, replicates: int, sd_p: float, sd_r: float) -> None:
    if patients < 2 or replicates < 1:
        raise PlanError(
            f"a comparison needs at least 2 patients and 1 replicate, got {patients} and {replicates}.",
            fix="plan 3 replicates or more (5 for a published claim)",
        )
    if not (np.isfinite(sd_p) and np.isfinite(sd_r) and sd_p >= 0 and sd_r >= 0):
        raise PlanError(
            f"spreads must be finite and not negative, got {sd_p} between patients and {sd_r} between replicates.",
            fix="take them from a pilot's Difference, or state a plausible range to planned_power",
        )


def _require_range(pair: tuple[float, float], name: str) -> tuple[float, float]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not 0 <= pair[0] <= pair[1]:
        raise PlanError(
            f"the range of the spread between {name} must be (smallest, largest), got {pair}.",
            fix="give the same value twice where a pilot has measured it",
        )
    return float(pair[0]), float(pair[1])
