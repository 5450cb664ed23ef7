"""Overlap of two masks, voxel by voxel.

All functions take boolean arrays of one shape, of any number of dimensions, and an optional ``ignore`` mask of voxels
that do not count on either side (an ambiguous rim, tissue nobody annotated).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from equipoise.metrics.boundary import occupied_range
from equipoise.metrics.inputs import Mask, check_pair

_CHUNK = 1 << 18  # voxels; two chunks and their product stay in the processor's cache


@dataclass(frozen=True, slots=True)
class VoxelCounts:
    """How many voxels two masks share.

    Parameters
    ----------
    both
        Voxels inside both masks (true positives).
    truth
        Voxels inside the truth.
    predicted
        Voxels inside the prediction.
    """

    both: int
    truth: int
    predicted: int


def voxel_counts(truth: Mask, predicted: Mask, ignore: Mask | None = None) -> VoxelCounts:
    """Count the voxels of both masks and of their intersection, in one pass.

    Parameters
    ----------
    truth, predicted
        Boolean, any shape, the same for both.
    ignore
        Boolean, the same shape: voxels that do not count.

    Raises
    ------
    equipoise.errors.LabelError
        A mask is not boolean.
    equipoise.errors.GeometryMismatchError
        The shapes differ.
    """
    check_pair(truth, predicted, ignore)
    arrays = [truth, predicted] if ignore is None else [truth, predicted, ignore]
    if all(array.flags.f_contiguous for array in arrays):
        arrays = [array.T for array in arrays]  # voxel order does not matter: read memory in its own order
    if not all(array.flags.c_contiguous for array in arrays):
        return VoxelCounts(*_count(arrays))
    extents = [occupied_range(array) for array in arrays[:2]] if truth.ndim > 1 else []
    if extents:
        # A lesion fills a few slices of its scan: the rest is empty on both sides and counts nothing.
        filled = [extent for extent in extents if extent.stop]
        reach = slice(min((e.start for e in filled), default=0), max((e.stop for e in filled), default=0))
        arrays = [array[reach] for array in arrays]
    total = np.zeros(3, np.int64)
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, _CHUNK):
        total += _count([array[start : start + _CHUNK] for array in flat])
    return VoxelCounts(*(int(value) for value in total))


def _count(arrays: list[Mask]) -> tuple[int, int, int]:
    truth, predicted = arrays[:2]
    if len(arrays) == 3:
        counted = ~arrays[2]
        truth, predicted = truth & counted, predicted & counted
    return (
        int(np.count_nonzero(truth & predicted)),
        int(np.count_nonzero(truth)),
        int(np.count_nonzero(predicted)),
    )


def _ratio(part: float, whole: int, counts: VoxelCounts) -> float:
    if counts.truth == 0 and counts.predicted == 0:
        return math.nan
    return part / whole if whole else 0.0


def dice(truth: Mask, predicted: Mask, ignore: Mask | None = None) -> float:
    """Dice overlap ``2 |A ∩ B| / (|A| + |B|)``, in [0, 1]; higher is better.

    Both masks empty gives NaN (nothing to find, nothing found: aggregators leave it out and count it), one empty
    gives 0. Parameters and errors as in `voxel_counts`.

    References
    ----------
    Dice LR. Measures of the amount of ecologic association between species. Ecology 1945. doi:10.2307/1932409

    Examples
    --------
    >>> dice(np.array([1, 1, 0], bool), np.array([0, 1, 1], bool))
    0.5
    """
    counts = voxel_counts(truth, predicted, ignore)
    return _ratio(2.0 * counts.both, counts.truth + counts.predicted, counts)


def iou(truth: Mask, predicted: Mask, ignore: Mask | None = None) -> float:
    """Intersection over union (Jaccard index), in [0, 1]; higher is better.

    Both masks empty gives NaN, one empty gives 0. Parameters and errors as in `voxel_counts`.

    References
    ----------
    Jaccard P. The distribution of the flora in the alpine zone. New Phytologist 1912.
    doi:10.1111/j.1469-8137.1912.tb05611.x

    Examples
    --------
    >>> iou(np.array([1, 1, 0, 0], bool), np.array([1, 1, 1, 1], bool))
    0.5
    """
    counts = voxel_counts(truth, predicted, ignore)
    return _ratio(float(counts.both), counts.truth + counts.predicted - counts.both, counts)


def precision(truth: Mask, predicted: Mask, ignore: Mask | None = None) -> float:
    """Share of predicted voxels that are true (positive predictive value), in [0, 1]; higher is better.

    Both masks empty gives NaN, one empty gives 0 (also where nothing was predicted: an empty prediction is a miss and
    must not leave the average). Parameters and errors as in `voxel_counts`.

    Examples
    --------
    >>> precision(np.array([1, 1, 0, 0], bool), np.array([1, 1, 1, 1], bool))
    0.5
    """
    counts = voxel_counts(truth, predicted, ignore)
    return _ratio(float(counts.both), counts.predicted, counts)


def recall(truth: Mask, predicted: Mask, ignore: Mask | None = None) -> float:
    """Share of true voxels that were found (sensitivity), in [0, 1]; higher is better.

    Both masks empty gives NaN, one empty gives 0. Parameters and errors as in `voxel_counts`.

    Examples
    --------
    >>> recall(np.array([1, 1, 1, 1], bool), np.array([1, 1, 0, 0], bool))
    0.5
    """
    counts = voxel_counts(truth, predicted, ignore)
    return _ratio(float(counts.both), counts.truth, counts)
