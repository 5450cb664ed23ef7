"""Better, worse, not inferior, equal, or not proven: what a difference allows one to say.

A margin is the largest difference that does not matter, in the units of the metric, written into the plan before the
test set is opened. Without one, nothing can be called equal or not inferior, however small the difference: absence of
proof of a difference is no proof of its absence.

References
----------
Schuirmann DJ. A comparison of the two one-sided tests procedure. J Pharmacokinet Biopharm 1987;15:657.
Lakens D. Equivalence tests: a practical primer. Soc Psychol Personal Sci 2017;8:355.
Piaggio G et al. Reporting of noninferiority and equivalence randomized trials. JAMA 2012;308:2594 (CONSORT extension).
ICH E9. Statistical Principles for Clinical Trials. 1998, section 3.3.2 (one-sided 2.5 %, that is a 95 % interval).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from equipoise.errors import PlanError
from equipoise.stats.inputs import require_fraction, require_margin
from equipoise.stats.paired import Estimate

Direction = Literal["higher", "lower"]
Verdict = Literal["better", "worse", "not inferior", "equal", "not proven"]


@dataclass(frozen=True)
class Equivalence:
    """Outcome of two one-sided tests.

    Parameters
    ----------
    verdict
        ``"equal"`` if the whole interval lies inside (-margin, +margin), else ``"not proven"``. Never "different".
    low90, high90
        Interval at level 1 - 2 alpha: 90 % for tests at 5 %.
    margin
        The margin, declared beforehand.
    p_value
        The larger of the two one-sided p-values.
    """

    verdict: Literal["equal", "not proven"]
    low90: float
    high90: float
    margin: float
    p_value: float


@dataclass(frozen=True)
class NonInferiority:
    """Outcome of a one-sided test against the margin.

    Parameters
    ----------
    verdict
        ``"not inferior"`` or ``"not proven"``.
    bound
        The bound of the two-sided 95 % interval on the bad side, in the units of the metric: the low one where higher
        is better, the high one where lower is better.
    margin
        The margin, declared beforehand.
    p_value
        One-sided, to be compared with alpha / 2.
    """

    verdict: Literal["not inferior", "not proven"]
    bound: float
    margin: float
    p_value: float


def tost(difference: Estimate, margin: float, alpha: float = 0.05) -> Equivalence:
    """Two one-sided tests of equivalence, each at ``alpha``, as an interval at level 1 - 2 alpha.

    Parameters
    ----------
    difference
        From `paired_difference`.
    margin
        Largest difference that does not matter, in the units of the metric, declared beforehand.
    alpha
        Level of each one-sided test.

    Raises
    ------
    PlanError
        If the margin is not positive.
    """
    width = require_margin(margin)
    require_fraction(2.0 * alpha, "twice alpha")
    low, high = difference.interval(1.0 - 2.0 * alpha)
    p_value = max(difference.one_sided_p(-width, "above"), difference.one_sided_p(width, "below"))
    return Equivalence("equal" if -width < low and high < width else "not proven", low, high, width, p_value)


def non_inferiority(
    difference: Estimate, margin: float, better: Direction = "higher", alpha: float = 0.05
) -> NonInferiority:
    """Test whether the first arm is worse than the second by no more than the margin.

    Parameters
    ----------
    difference
        First arm minus second arm, from `paired_difference`.
    margin
        Largest loss that is acceptable, positive, in the units of the metric, declared beforehand.
    better
        ``"higher"`` for a metric such as Dice, ``"lower"`` for one such as HD95 in mm.
    alpha
        Two-sided level of the interval whose bound is read: 0.05 means the 95 % interval, a one-sided test at 2.5 %
        as regulators ask for (ICH E9).

    Raises
    ------
    PlanError
        If the margin is not positive or ``better`` is unknown.
    """
    width = require_margin(margin)
    low, high = difference.interval(1.0 - require_fraction(alpha, "alpha"))
    if _require_direction(better) == "higher":
        bound, shown, p_value = low, low > -width, difference.one_sided_p(-width, "above")
    else:
        bound, shown, p_value = high, high < width, difference.one_sided_p(width, "below")
    return NonInferiority("not inferior" if shown else "not proven", bound, width, p_value)


def verdict(difference: Estimate, margin: float | None = None, better: Direction = "higher") -> Verdict:
    """Return the one word that a difference of two arms allows, by fixed rules in this order.

    With the difference turned so that positive is good (``better="lower"`` flips it):

    1. **better**: the 95 % interval lies above 0.
    2. **worse**: the 95 % interval lies below 0.
    3. **equal**: the 90 % interval lies inside (-margin, +margin), the two one-sided tests at 5 %.
    4. **not inferior**: the 95 % interval lies above -margin.
    5. **not proven**: none of these. It means "this trial cannot tell", not "there is no difference".

    Without a margin only 1, 2 and 5 can occur. A difference can be "better" and yet smaller than the margin: then it is
    real and does not matter, and `tost` says so beside the verdict.

    Parameters
    ----------
    difference
        First arm minus second arm, from `paired_difference`; the 95 % and 90 % intervals are read from its draws,
        whatever its own level.
    margin
        Largest difference that does not matter, declared beforehand, or None if the plan has none.
    better
        Which direction of the metric is good.

    Raises
    ------
    PlanError
        If the margin is not positive or ``better`` is unknown.
    """
    sign = 1.0 if _require_direction(better) == "higher" else -1.0
    low, high = sorted(sign * bound for bound in difference.interval(0.95))
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    if margin is None:
        return "not proven"
    if tost(difference, margin).verdict == "equal":
        return "equal"
    return non_inferiority(difference, margin, better).verdict


def _require_direction(better: str) -> str:
    if better not in ("higher", "lower"):
        raise PlanError(
            f'better must be "higher" or "lower", got {better!r}.',
            fix='write "higher" for Dice or sensitivity, "lower" for HD95 or volume error',
        )
    return better
