"""What a radiologist measures on a mask: volume, diameter, and where the outline lies.

Signed errors are *predicted minus truth*: positive means too large, or outside. Judge them by their size; keep the
sign, because a reader's or a training set's habit of drawing outside is a bias that no average of |error| shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from equipoise.errors import GeometryMismatchError
from equipoise.metrics.boundary import bounding_box
from equipoise.metrics.inputs import Mask, as_plane_or_volume, check_mask, check_pair, check_spacing
from equipoise.metrics.nearest import lattice_distances


@dataclass(frozen=True, slots=True)
class MeasurementError:
    """How far a predicted measurement is from the true one.

    Parameters
    ----------
    absolute
        Predicted minus truth, in the unit measured.
    relative
        The same as a fraction of the truth; NaN where the truth measures 0.
    """

    absolute: float
    relative: float


def _error(truth: float, predicted: float) -> MeasurementError:
    difference = predicted - truth
    return MeasurementError(difference, difference / truth if truth else math.nan)


def volume(mask: Mask, spacing: Sequence[float]) -> float:
    """Volume in mm³, or area in mm² of a 2-D mask: voxels inside times voxel size.

    An empty mask gives 0.

    Parameters
    ----------
    mask
        Boolean, any shape.
    spacing
        Voxel size in mm, one number per axis.

    Raises
    ------
    equipoise.errors.DataError
        The mask is not boolean, or the spacing does not fit it.

    Examples
    --------
    >>> volume(np.ones((2, 2, 2), bool), (0.5, 0.5, 3.0))
    6.0
    """
    check_mask(mask, "mask")
    return int(np.count_nonzero(mask)) * math.prod(check_spacing(spacing, mask.ndim))


def volume_error(truth: Mask, predicted: Mask, spacing: Sequence[float]) -> MeasurementError:
    """Signed error of the predicted volume, in mm³ (2-D: mm²) and as a fraction of the true one.

    Both masks empty gives an error of 0 with relative NaN; truth empty gives the predicted volume with relative NaN;
    prediction empty gives relative -1. Parameters and errors as in `volume`.
    """
    check_pair(truth, predicted)
    return _error(volume(truth, spacing), volume(predicted, spacing))


def diameter(mask: Mask, spacing: Sequence[float]) -> float:
    """Longest diameter within one slice, mm, largest over the slices: the measure that RECIST 1.1 follows.

    The outline runs half-way between inside and outside pixels (marching squares), so that one pixel of 1 mm measures
    1 mm and a disc of radius r measures 2 r on average. Slices are the planes of the last axis. The mask is measured as
    one lesion; with several, measure each by itself.

    Parameters
    ----------
    mask
        Boolean, shape (I, J) or (I, J, K).
    spacing
        Voxel size in mm, one number per axis.

    Returns
    -------
    float
        The largest Feret diameter, mm; 0 for an empty mask.

    Raises
    ------
    equipoise.errors.DataError
        The mask is not boolean or has other than 2 or 3 axes, or the spacing does not fit it.

    References
    ----------
    Eisenhauer EA et al. New response evaluation criteria in solid tumours: revised RECIST guideline (version 1.1).
    Eur J Cancer 2009. doi:10.1016/j.ejca.2008.10.026

    Examples
    --------
    >>> line = np.zeros((9, 9), bool)
    >>> line[4, 1:6] = True
    >>> diameter(line, (1.0, 2.0))
    10.0
    """
    check_mask(mask, "mask")
    if mask.ndim not in (2, 3):
        raise GeometryMismatchError(
            f"a diameter is measured on a mask of 2 or 3 axes, got shape {mask.shape}",
            fix="pass one channel of one case, for example array[0]",
        )
    size = check_spacing(spacing, mask.ndim)
    box = bounding_box(mask)
    if box is None:
        return 0.0
    volume_in_box = mask[box] if mask.ndim == 3 else mask[box][:, :, None]
    longest = 0.0
    for index in range(volume_in_box.shape[2]):
        longest = max(longest, _feret(volume_in_box[:, :, index], (size[0], size[1]), longest))
    return longest


def _feret(plane: Mask, spacing: tuple[float, float], at_least: float) -> float:
    """Largest distance between outline points of one slice; 0 where it cannot exceed ``at_least``."""
    rows = np.flatnonzero(plane.any(axis=1))
    columns = np.flatnonzero(plane.any(axis=0))
    if len(rows) == 0:
        return 0.0
    height = (rows[-1] - rows[0] + 1) * spacing[0]
    if math.hypot(height, (columns[-1] - columns[0] + 1) * spacing[1]) <= at_least:
        return 0.0
    # Only the first and last pixel of a row can be furthest from anything.
    first = np.argmax(plane[rows], axis=1)
    last = plane.shape[1] - 1 - np.argmax(plane[rows][:, ::-1], axis=1)
    centres = np.concatenate([np.stack([rows, first], axis=1), np.stack([rows, last], axis=1)])
    halves = np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])
    outline = ((centres[:, None, :] + halves).reshape(-1, 2)) * np.array(spacing)
    # One pixel already gives four points that span the plane, so the hull always exists.
    return float(pdist(outline[ConvexHull(outline).vertices]).max())


def diameter_error(truth: Mask, predicted: Mask, spacing: Sequence[float]) -> MeasurementError:
    """Signed error of the predicted longest diameter, in mm and as a fraction of the true one.

    Both masks empty gives an error of 0 with relative NaN; truth empty gives the predicted diameter with relative NaN;
    prediction empty gives relative -1. Parameters and errors as in `diameter`.
    """
    check_pair(truth, predicted)
    return _error(diameter(truth, spacing), diameter(predicted, spacing))


def boundary_offset(truth: Mask, predicted: Mask, spacing: Sequence[float]) -> float:
    """Mean signed distance of the predicted boundary from the true boundary, mm; positive is outside.

    The boundary is the set of voxel faces (2-D: pixel edges) between inside and outside. Every face of the predicted
    boundary counts by its area, at the distance from its centre to the nearest face centre of the true boundary:
    negative inside the truth, positive outside, 0 on it. The stairs of a voxel surface pull the figure towards 0 by
    less than a third of a voxel (measured on spheres). Neither of the two surface conventions is used: the band of
    voxel corners of "deepmind" would pull by half a voxel.

    NaN if either mask is empty, for then there is no boundary to be beside: count such cases (Dice and NSD show them).

    Parameters
    ----------
    truth, predicted
        Boolean, shape (I, J), (I, J, 1) or (I, J, K).
    spacing
        Voxel size in mm, one number per axis.

    Raises
    ------
    equipoise.errors.DataError
        The masks are not boolean or not on one grid, or the spacing does not fit them.
    """
    truth, predicted, size = as_plane_or_volume(truth, predicted, spacing)
    box = bounding_box(truth | predicted)
    if box is None or not truth.any() or not predicted.any():
        return math.nan
    truth, predicted = np.pad(truth[box], 1), np.pad(predicted[box], 1)
    true_faces, _ = _faces(truth)
    faces, axis = _faces(predicted)
    # Face centres lie half-way between voxels: on a lattice of half the spacing.
    distance = lattice_distances(faces, true_faces, tuple(step / 2 for step in size))
    before = faces // 2
    after = before + np.eye(truth.ndim, dtype=np.int64)[axis]
    within = truth[tuple(before.T)].astype(np.int64) + truth[tuple(after.T)]
    sign = 1 - within  # both voxels outside the truth +1, both inside -1; one each: a face of the truth itself
    area = math.prod(size) / np.array(size)[axis]
    return float((sign * distance * area).sum() / area.sum())


def _faces(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Find the centres of the faces between inside and outside, in half voxels (n, d), and the axis each is normal to.

    Voxel p lies at 2 p; the mask must be empty on its rim.
    """
    centres, axes = [], []
    for axis in range(mask.ndim):
        along = np.moveaxis(mask, axis, 0)
        found = 2 * np.argwhere(np.moveaxis(along[1:] != along[:-1], 0, axis))
        found[:, axis] += 1
        centres.append(found)
        axes.append(np.full(len(found), axis, np.intp))
    return np.concatenate(centres), np.concatenate(axes)
