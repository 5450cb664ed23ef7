"""Sign-flip permutation test of paired differences, patient by patient."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from equipoise.errors import DataError
from equipoise.stats.inputs import Floats, as_replicates, require_generator, require_resamples

#: Up to this many patients all sign patterns are visited (2^19 sums after using the symmetry): exact, in milliseconds.
EXACT_PATIENTS = 20

_BLOCK_CELLS = 4_000_000


def sign_flip(differences: ArrayLike, rng: np.random.Generator, permutations: int = 10_000) -> float:
    """Two-sided p-value of "the two arms are exchangeable within each patient".

    Under that hypothesis each patient's difference is as likely to carry the other sign. The statistic is the absolute
    mean difference. It holds at any sample size with no assumption on the distribution, but it is conditional on the
    fitted models: it says nothing about another training run. The interval of `paired_difference` does.

    Parameters
    ----------
    differences
        One difference per patient, shape (P,), or (R, P), then averaged over replicates first. Patients with NaN are
        left out.
    rng
        Keyed random stream; not used when the test is exact (up to 20 patients).
    permutations
        Random sign patterns when there are more than 20 patients.

    Returns
    -------
    P-value in (0, 1]. Exact: the share of all 2^P patterns at least as extreme. Otherwise one is added to both counts,
    for the observed pattern is one of them; a p-value of 0 is never returned.

    Raises
    ------
    DataError
        If no patient has a difference.

    References
    ----------
    Fisher RA. The Design of Experiments. 1935, section 21.
    Phipson B, Smyth GK. Permutation p-values should never be zero. Stat Appl Genet Mol Biol 2010;9:39.

    Examples
    --------
    >>> sign_flip([0.1, 0.2, 0.3], np.random.default_rng(0))  # 2 of 8 patterns are this extreme
    0.25
    """
    stream, count = require_generator(rng), require_resamples(permutations)
    means = as_replicates(differences, "differences").mean(axis=0)
    sizes = np.abs(means[np.isfinite(means)])
    if sizes.size == 0:
        raise DataError(
            "no patient has a difference: every value is NaN.", fix="leave this metric out of the comparison"
        )
    observed = abs(float(means[np.isfinite(means)].sum()))
    # Sums of the same numbers in another order differ in the last digits; equal patterns must count as equal.
    threshold = observed - 1e-12 * float(sizes.sum())
    if sizes.size <= EXACT_PATIENTS:
        return float(np.mean(np.abs(_all_sums(sizes)) >= threshold))
    beyond = 0
    step = max(1, _BLOCK_CELLS // sizes.size)
    for start in range(0, count, step):
        flips = stream.integers(0, 2, size=(min(step, count - start), sizes.size), dtype=np.int8)
        beyond += int((np.abs(2.0 * (flips @ sizes) - sizes.sum()) >= threshold).sum())
    return (1 + beyond) / (1 + count)


def _all_sums(sizes: Floats) -> Floats:
    """Signed sums of every pattern with the first sign fixed; the other half mirrors them."""
    sums = sizes[:1]
    for size in sizes[1:]:
        sums = np.concatenate([sums + size, sums - size])
    return sums
