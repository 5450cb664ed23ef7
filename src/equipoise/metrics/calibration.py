"""Whether a predicted probability means what it says, and at which prevalence it was learned.

Synthetic cases often change how common a class is in training. A model trained so is miscalibrated at the real
prevalence even if its images are perfect; `shift_prevalence` takes that part away, so that what remains is the
model's own fault.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from equipoise.errors import DataError, GeometryMismatchError

Floats = NDArray[np.float64]

TENTHS: Floats = np.arange(1, 10) / 10
EDGES: Floats = np.unique(np.concatenate([TENTHS, expit(np.arange(-8.0, 9.0))]))
"""Inner edges of `ReliabilityBins`: every tenth, and every whole log-odds from -8 to 8, because a shift of prevalence
moves log-odds by a constant: rare classes live where a tenth is far too wide."""


@dataclass(frozen=True, slots=True, eq=False)
class ReliabilityTable:
    """Predicted against observed frequency, in bins of equal case count.

    Parameters
    ----------
    predicted
        Mean predicted probability per bin, ascending.
    observed
        Share of positive outcomes per bin.
    count
        Cases per bin; bins differ by at most one case, unless equal probabilities had to stay together.
    """

    predicted: Floats
    observed: Floats
    count: NDArray[np.int64]


def _checked(probability: ArrayLike, outcome: ArrayLike) -> tuple[Floats, Floats]:
    given, came = np.asarray(probability, np.float64).ravel(), np.asarray(outcome).ravel()
    if given.shape != came.shape:
        raise GeometryMismatchError(
            f"{given.size} probabilities but {came.size} outcomes", fix="give one outcome for each probability"
        )
    _check_probability(given)
    if came.dtype != np.bool_ and not np.isin(came, (0, 1)).all():
        raise DataError(
            f"outcomes must be 0 or 1, got {np.unique(came)[:5].tolist()}",
            fix="ask about one class at a time: outcome == that class, probability[:, that class]",
        )
    return given, came.astype(np.float64)


def _check_probability(given: Floats) -> None:
    # NaN spreads to minimum and maximum, and compares false.
    if not (given.min(initial=0.0) >= 0 and given.max(initial=0.0) <= 1):
        raise DataError(
            f"probabilities must lie in [0, 1], got values from {given.min()} to {given.max()}",
            fix="pass logits through a sigmoid (two classes) or a softmax (more) first",
        )


def reliability_table(probability: ArrayLike, outcome: ArrayLike, bins: int = 10) -> ReliabilityTable:
    """Predicted and observed frequency in bins that hold equally many cases.

    Bins of equal count put the detail where the predictions are; bins of equal width leave most of them empty for a
    rare class. Equal probabilities are never split between two bins, so the order of cases does not matter.

    Parameters
    ----------
    probability
        Predicted probability of the positive class, any shape, in [0, 1].
    outcome
        Boolean or 0 and 1, of the same size.
    bins
        Number of bins wanted, 1 or more; fewer are returned for fewer distinct probabilities.

    Raises
    ------
    equipoise.errors.DataError
        The arrays do not match, or hold what is neither a probability nor an outcome.

    Examples
    --------
    >>> reliability_table([0.2, 0.2, 0.8, 0.8], [0, 0, 1, 1], bins=2).observed.tolist()
    [0.0, 1.0]
    """
    if bins < 1:
        raise DataError(f"bins must be 1 or more, got {bins}", fix="use 10 bins, or 15 for 10,000 cases and more")
    given, came = _checked(probability, outcome)
    values, which, repeats = np.unique(given, return_inverse=True, return_counts=True)
    # A distinct value goes to the bin in which the middle of its cases falls.
    middle = np.cumsum(repeats) - repeats / 2
    bin_of_value = np.minimum((middle * bins / max(given.size, 1)).astype(np.int64), bins - 1)
    bin_of_case = bin_of_value[which] if values.size else np.empty(0, np.int64)
    count = np.bincount(bin_of_case, minlength=bins)
    filled = count > 0
    size = count[filled]
    return ReliabilityTable(
        predicted=np.bincount(bin_of_case, weights=given, minlength=bins)[filled] / size,
        observed=np.bincount(bin_of_case, weights=came, minlength=bins)[filled] / size,
        count=size,
    )


def expected_calibration_error(probability: ArrayLike, outcome: ArrayLike, bins: int = 10) -> float:
    """Mean gap between predicted and observed frequency, in [0, 1]; lower is better.

    Over the bins of `reliability_table`, weighted by their cases. No case gives NaN. The figure is biased upwards for
    few cases (noise in a bin reads as a gap), so compare arms on the same cases and bins. Parameters and errors as in
    `reliability_table`.

    References
    ----------
    Nguyen K, O'Connor B. Posterior calibration and exploratory analysis for natural language processing models. EMNLP
    2015 (equal-count bins). doi:10.18653/v1/D15-1182

    Examples
    --------
    >>> round(expected_calibration_error([0.25, 0.25, 0.75, 0.75], [0, 0, 1, 1], bins=2), 3)
    0.25
    """
    table = reliability_table(probability, outcome, bins)
    total = int(table.count.sum())
    return float((np.abs(table.predicted - table.observed) * table.count).sum() / total) if total else math.nan


def brier_score(probability: ArrayLike, outcome: ArrayLike) -> float:
    """Mean squared difference between probability and outcome, in [0, 1]; lower is better.

    A proper score: only the true probability minimises it. No case gives NaN. Parameters and errors as in
    `reliability_table`.

    References
    ----------
    Brier GW. Verification of forecasts expressed in terms of probability. Mon Weather Rev 1950.
    doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2

    Examples
    --------
    >>> brier_score([0.5, 1.0], [0, 1])
    0.125
    """
    given, came = _checked(probability, outcome)
    return float(np.square(given - came).mean()) if given.size else math.nan


@dataclass(frozen=True, slots=True, eq=False)
class ReliabilityBins:
    """Sums of probabilities and outcomes in fixed bins (`EDGES`); those of many cases are added with ``+``.

    For voxels, which are too many to keep: most of them are sure background, so that bins of equal count, as in
    `reliability_table`, would lump everything else together. Figures are read in ten bins of equal width; never
    compare them with those of equal count.

    Parameters
    ----------
    count
        Voxels (cases) per bin, shape (B,), B = ``len(EDGES) + 1``; a bin holds its lower edge.
    predicted
        Sum of their probabilities, shape (B,).
    positive
        How many of them were positive, shape (B,).

    References
    ----------
    Guo C et al. On calibration of modern neural networks. ICML 2017. arXiv:1706.04599 (ten bins of equal width)

    Examples
    --------
    >>> bins = ReliabilityBins.of([0.05, 0.05, 0.95, 0.95], [0, 0, 1, 0])
    >>> round(bins.calibration_error(), 3)
    0.25
    """

    count: NDArray[np.int64]
    predicted: Floats
    positive: NDArray[np.int64]

    @classmethod
    def of(cls, probability: ArrayLike, outcome: ArrayLike) -> ReliabilityBins:
        """Return the sums over some voxels; parameters and errors as in `reliability_table`."""
        given, came = _checked(probability, outcome)
        bins, place = len(EDGES) + 1, np.searchsorted(EDGES, given, side="right")
        return cls(
            np.bincount(place, minlength=bins),
            np.bincount(place, given, bins).astype(np.float64),
            np.bincount(place, came, bins).astype(np.int64),
        )

    def __add__(self, other: ReliabilityBins) -> ReliabilityBins:
        return ReliabilityBins(
            self.count + other.count, self.predicted + other.predicted, self.positive + other.positive
        )

    def tenths(self) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64]]:
        """Return count, sum of probabilities and positives in ten bins of equal width, shape (10,) each."""
        # Bins lie within tenths by construction; after a shift a bin counts where its mean probability went.
        place = np.searchsorted(TENTHS, self._mean() + 1e-12, side="right")
        count, predicted, positive = (
            np.bincount(place, x, 10).astype(np.float64) for x in (self.count, self.predicted, self.positive)
        )
        return count.astype(np.int64), predicted, positive.astype(np.int64)

    def calibration_error(self) -> float:
        """Mean gap between predicted and observed frequency over ten bins of equal width, in [0, 1]; lower is better.

        NaN without voxels. It is the expected calibration error of the reference, biased upwards for few voxels.
        """
        count, predicted, positive = self.tenths()
        total = int(count.sum())
        return float(np.abs(predicted - positive).sum() / total) if total else math.nan

    def brier_score(self) -> float:
        """Brier score with each probability replaced by the mean of its bin; NaN without voxels.

        What happens within a bin is lost (a probability is known to a tenth or better), but it cancels in the
        difference of the bins before and after `shifted`, for which this is made.
        """
        mean, total = self._mean(), int(self.count.sum())
        squares = self.count * mean**2 - 2 * mean * self.positive + self.positive
        return float(squares.sum() / total) if total else math.nan

    def shifted(self, trained_prevalence: float, real_prevalence: float) -> ReliabilityBins:
        """Return the bins with every probability moved to another prevalence, as `shift_prevalence` does."""
        moved = shift_prevalence(self._mean(), trained_prevalence, real_prevalence)
        return ReliabilityBins(self.count, np.where(self.count > 0, moved, 0.0) * self.count, self.positive)

    def _mean(self) -> Floats:
        return np.divide(self.predicted, self.count, out=np.zeros(len(self.count)), where=self.count > 0)


def shift_prevalence(
    probability: ArrayLike, trained_prevalence: float | Sequence[float], real_prevalence: float | Sequence[float]
) -> Floats:
    """Turn probabilities learned at one prevalence into those at another, by Bayes' rule.

    Right if only the class frequencies differ between training and use, not how a class looks.

    Parameters
    ----------
    probability
        For one number as prevalence: probability of the positive class, any shape. For c numbers: shape (..., c),
        summing to 1 along the last axis.
    trained_prevalence
        Share of the positive class, or of each class, among the cases trained on (as sampled, synthetic ones included).
        Each strictly between 0 and 1.
    real_prevalence
        The same where the model is to be read, each in [0, 1].

    Returns
    -------
    numpy.ndarray
        Probabilities at the real prevalence, shape as given.

    Raises
    ------
    equipoise.errors.DataError
        A prevalence or probability is none, or the shapes do not fit.

    References
    ----------
    Saerens M, Latinne P, Decaestecker C. Adjusting the outputs of a classifier to new a priori probabilities. Neural
    Comput 2002. doi:10.1162/089976602753284446

    Examples
    --------
    >>> shift_prevalence(0.5, trained_prevalence=0.5, real_prevalence=0.1).round(3).tolist()
    0.1
    """
    given = np.asarray(probability, np.float64)
    _check_probability(given.ravel())
    trained, real = np.atleast_1d(trained_prevalence).astype(float), np.atleast_1d(real_prevalence).astype(float)
    two_classes = np.ndim(trained_prevalence) == 0
    if two_classes:
        trained, real = np.r_[1 - trained, trained], np.r_[1 - real, real]
        given = np.stack([1 - given, given], axis=-1)
    if trained.shape != real.shape or given.shape[-1:] != trained.shape:
        raise GeometryMismatchError(
            f"{trained.size} trained and {real.size} real prevalences for probabilities of shape {given.shape}",
            fix="give one prevalence per class, in the order of the last axis",
        )
    sums_to_one = bool(np.isclose(trained.sum(), 1) and np.isclose(real.sum(), 1))
    if not ((trained > 0).all() and (trained < 1).all() and (real >= 0).all() and (real <= 1).all() and sums_to_one):
        raise DataError(
            f"prevalences must be shares that sum to 1, those trained at above 0; got {trained} and {real}",
            why="a class that was never trained on has no probability to correct",
            fix="count the classes among the cases as sampled in training, and among real patients",
        )
    weighed = given * (real / trained)
    total = weighed.sum(axis=-1, keepdims=True)
    # A sure prediction of a class that does not occur has no posterior: no class is left.
    shifted = np.divide(weighed, total, out=np.full_like(weighed, np.nan), where=total > 0)
    return np.asarray(shifted[..., 1] if two_classes else shifted)
