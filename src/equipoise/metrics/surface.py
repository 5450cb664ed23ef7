"""Distances between the surfaces of two masks: HD95, Hausdorff distance, NSD and ASSD.

Two conventions are in use and give different figures for one pair (an NSD of .316 and .417 in one of our trials), so
every function takes ``convention`` and a table must never mix them. `equipoise.metrics.boundary` defines the surfaces.

=========  ============================================  ======================================================
figure     ``"deepmind"`` (default)                      ``"monai"``
=========  ============================================  ======================================================
surface    voxel corners, weighted by area               edge voxels, one each
HD95       larger of the two directed percentiles of     larger of the two directed percentiles, interpolated
           the area, no interpolation                    between points
NSD        area within the tolerance / area of both      points within the tolerance / points of both
ASSD       mean over both surfaces, by area              mean over both sets of points
equals     ``surface-distance`` 0.1                      ``monai.metrics`` 1.6 (``use_subvoxels=False``)
=========  ============================================  ======================================================

**Empty masks.** Both empty: every figure is NaN (nothing to find, nothing found); aggregators leave the case out and
print how many. One empty: HD95, Hausdorff distance and ASSD are inf, NSD is 0. (MONAI's own HD95 is NaN there, which a
mean would silently skip; DeepMind's figures for two empty masks are inf and 0/0.) An inf must not be averaged and must
not be dropped either: a mean over the found cases alone rewards missing the hard ones. Compare NSD instead, or put
`image_diagonal` in its place for every arm alike and say so.

**Borders.** What lies beyond the image is outside: a structure cut by the border has a surface there.

**2-D.** Masks of shape (I, J), and (I, J, 1) with its third spacing unused, are measured in their plane.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from equipoise.errors import DataError, did_you_mean
from equipoise.metrics.boundary import CONVENTIONS, Convention, surface_of
from equipoise.metrics.inputs import Mask, as_plane_or_volume, check_spacing, check_tolerances
from equipoise.metrics.nearest import Distances, lattice_distances

_DEFAULT: Convention = "deepmind"


@dataclass(frozen=True, slots=True)
class SurfaceMetrics:
    """What `surface_metrics` measures.

    Parameters
    ----------
    hd95
        95th percentile Hausdorff distance, mm; lower is better.
    nsd
        Normalised surface Dice in [0, 1] by tolerance in mm; higher is better.
    assd
        Average symmetric surface distance, mm; lower is better.
    hd
        Hausdorff distance (the maximum), mm; lower is better.
    convention
        ``"deepmind"`` or ``"monai"``.
    """

    hd95: float
    nsd: Mapping[float, float]
    assd: float
    hd: float
    convention: Convention


@dataclass(frozen=True, slots=True, eq=False)
class SurfaceDistances:
    """Distance from each surface point of one mask to the nearest of the other.

    Parameters
    ----------
    truth_to_predicted, predicted_to_truth
        Distances in mm, shapes (n,) and (m,), in scan order; inf where the other mask is empty.
    truth_weights, predicted_weights
        Area of each point in mm² (2-D: mm), or 1 in the "monai" convention.
    convention
        ``"deepmind"`` or ``"monai"``.
    """

    truth_to_predicted: Distances
    predicted_to_truth: Distances
    truth_weights: NDArray[np.float64]
    predicted_weights: NDArray[np.float64]
    convention: Convention


def surface_metrics(
    truth: Mask,
    predicted: Mask,
    spacing: Sequence[float],
    tolerances: Sequence[float] = (),
    convention: Convention = _DEFAULT,
) -> SurfaceMetrics:
    """HD95, NSD at each tolerance, ASSD and Hausdorff distance from one search of the surfaces.

    Parameters
    ----------
    truth, predicted
        Boolean, shape (I, J), (I, J, 1) or (I, J, K).
    spacing
        Voxel size in mm, one number per axis.
    tolerances
        Tolerances of the NSD in mm; a distance equal to the tolerance is within it.
    convention
        ``"deepmind"`` or ``"monai"``; see the head of this module.

    Returns
    -------
    SurfaceMetrics
        Both masks empty: all NaN. One empty: distances inf, NSD 0.

    Raises
    ------
    equipoise.errors.DataError
        The masks are not boolean or not on one grid, or spacing, tolerance or convention make no sense.

    References
    ----------
    Nikolov S et al. Clinically applicable segmentation of head and neck anatomy for radiotherapy. J Med Internet Res
    2021. doi:10.2196/26151

    Maier-Hein L, Reinke A et al. Metrics reloaded: recommendations for image analysis validation. Nat Methods 2024.
    doi:10.1038/s41592-023-02151-z

    Examples
    --------
    >>> truth = np.zeros((8, 8), bool)
    >>> truth[2:6, 2:6] = True
    >>> surface_metrics(truth, np.roll(truth, 1, axis=0), spacing=(2.0, 1.0), convention="monai").hd
    2.0
    """
    limits = check_tolerances(tolerances)
    found = surface_distances(truth, predicted, spacing, convention)
    here, there = found.truth_to_predicted, found.predicted_to_truth
    if len(here) + len(there) == 0:
        return SurfaceMetrics(math.nan, dict.fromkeys(limits, math.nan), math.nan, math.nan, convention)
    if len(here) == 0 or len(there) == 0:
        return SurfaceMetrics(math.inf, dict.fromkeys(limits, 0.0), math.inf, math.inf, convention)
    return SurfaceMetrics(
        hd95=_hd95(found),
        nsd={limit: _nsd(found, limit) for limit in limits},
        assd=_assd(found),
        hd=float(max(here.max(), there.max())),
        convention=convention,
    )


def surface_distances(
    truth: Mask, predicted: Mask, spacing: Sequence[float], convention: Convention = _DEFAULT
) -> SurfaceDistances:
    """Distances between all points of two surfaces, both ways. Parameters and errors as in `surface_metrics`."""
    if convention not in CONVENTIONS:
        raise DataError(
            f"convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}."
            + did_you_mean(str(convention), CONVENTIONS)
        )
    truth, predicted, size = as_plane_or_volume(truth, predicted, spacing)
    one, two = surface_of(truth, size, convention), surface_of(predicted, size, convention)
    return SurfaceDistances(
        lattice_distances(one.points, two.points, size),
        lattice_distances(two.points, one.points, size),
        one.weights,
        two.weights,
        convention,
    )


def hd95(truth: Mask, predicted: Mask, spacing: Sequence[float], convention: Convention = _DEFAULT) -> float:
    """95th percentile Hausdorff distance in mm: the larger of the two directed percentiles; lower is better.

    Both masks empty gives NaN, one empty gives inf. Parameters and errors as in `surface_metrics`, which is the way to
    get several figures for the price of one.
    """
    return surface_metrics(truth, predicted, spacing, (), convention).hd95


def hausdorff(truth: Mask, predicted: Mask, spacing: Sequence[float], convention: Convention = _DEFAULT) -> float:
    """Hausdorff distance in mm (the maximum); lower is better.

    Both masks empty gives NaN, one empty gives inf. Parameters and errors as in `surface_metrics`.
    """
    return surface_metrics(truth, predicted, spacing, (), convention).hd


def nsd(
    truth: Mask, predicted: Mask, spacing: Sequence[float], tolerance: float, convention: Convention = _DEFAULT
) -> float:
    """Normalised surface Dice: share of both surfaces within ``tolerance`` mm of the other, in [0, 1].

    Higher is better. Both masks empty gives NaN, one empty gives 0. Parameters and errors as in `surface_metrics`.
    """
    return surface_metrics(truth, predicted, spacing, (tolerance,), convention).nsd[float(tolerance)]


def assd(truth: Mask, predicted: Mask, spacing: Sequence[float], convention: Convention = _DEFAULT) -> float:
    """Average symmetric surface distance in mm: the mean over both surfaces pooled; lower is better.

    Both masks empty gives NaN, one empty gives inf. Parameters and errors as in `surface_metrics`.
    """
    return surface_metrics(truth, predicted, spacing, (), convention).assd


def image_diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Largest distance that two voxels of an image can have, mm: the penalty to put in place of an inf distance.

    Examples
    --------
    >>> image_diagonal((4, 5), (1.0, 1.0))
    5.0
    """
    size = check_spacing(spacing, len(shape))
    return math.hypot(*((count - 1) * step for count, step in zip(shape, size, strict=True)))


def _hd95(found: SurfaceDistances) -> float:
    if found.convention == "monai":
        return max(_percentile(found.truth_to_predicted), _percentile(found.predicted_to_truth))
    return max(
        _percentile_by_area(found.truth_to_predicted, found.truth_weights),
        _percentile_by_area(found.predicted_to_truth, found.predicted_weights),
    )


def _percentile(distances: Distances) -> float:
    """95th percentile, linear between points."""
    # Single precision on purpose: torch.quantile, which MONAI calls, finds the rank in it, and for many points
    # rounding the rank moves the result by more than 1e-6.
    rank = np.float32(0.95) * np.float32(len(distances) - 1)
    low, high = math.floor(rank), math.ceil(rank)
    ordered = np.partition(distances, (low, high))
    return float(ordered[low] + (float(rank) - low) * (ordered[high] - ordered[low]))


def _percentile_by_area(distances: Distances, weights: NDArray[np.float64]) -> float:
    """Smallest distance within which 95 % of the area lies."""
    # Areas break ties so that the running sum does not depend on the order of points.
    order = np.lexsort((weights, distances))
    share = np.cumsum(weights[order]) / weights.sum()
    return float(distances[order[min(int(np.searchsorted(share, 0.95)), len(order) - 1)]])


def _nsd(found: SurfaceDistances, tolerance: float) -> float:
    here, there = found.truth_to_predicted, found.predicted_to_truth
    if found.convention == "monai":
        # MONAI compares in single precision, which also keeps a distance of 3 x 0.7 mm within 2.1 mm.
        limit = np.float32(tolerance)
        within = (here.astype(np.float32) <= limit).sum() + (there.astype(np.float32) <= limit).sum()
        return float(within) / (len(here) + len(there))
    within = found.truth_weights[here <= tolerance].sum() + found.predicted_weights[there <= tolerance].sum()
    return float(within / (found.truth_weights.sum() + found.predicted_weights.sum()))


def _assd(found: SurfaceDistances) -> float:
    weighed = (found.truth_to_predicted * found.truth_weights).sum()
    weighed += (found.predicted_to_truth * found.predicted_weights).sum()
    return float(weighed / (found.truth_weights.sum() + found.predicted_weights.sum()))
