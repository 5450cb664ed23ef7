"""What every metric demands of its arrays, checked once, with messages that say what to change."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from equipoise.errors import DataError, GeometryMismatchError, LabelError

Mask = NDArray[np.bool_]


def check_mask(mask: Mask, name: str) -> None:
    """Raise `LabelError` unless ``mask`` is a boolean array of at least one dimension."""
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        got = f"an array of {mask.dtype}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise LabelError(
            f"{name} must be a boolean numpy array, got {got}",
            fix=f"choose one structure of a label map with {name} == value, or cut a probability with {name} > 0.5",
        )
    if mask.ndim == 0:
        raise LabelError(f"{name} must have at least one dimension, got a single value", fix="pass the whole mask")


def check_pair(truth: Mask, predicted: Mask, ignore: Mask | None = None) -> None:
    """Raise `LabelError` unless the masks are boolean, `GeometryMismatchError` unless they lie on one grid."""
    named = [("truth", truth), ("predicted", predicted)]
    if ignore is not None:
        named.append(("ignore", ignore))
    for name, mask in named:
        check_mask(mask, name)
        if mask.shape != truth.shape:
            raise GeometryMismatchError(
                f"truth has shape {truth.shape} and {name} has {mask.shape}, but both must lie on one grid",
                fix=f"resample {name} onto the grid of the truth first (nearest neighbour)",
            )


def check_spacing(spacing: Sequence[float], dimensions: int) -> tuple[float, ...]:
    """Return the spacing as floats; raise `DataError` unless it is ``dimensions`` positive numbers."""
    values = tuple(float(value) for value in spacing)
    if len(values) != dimensions:
        raise DataError(
            f"spacing needs one number for each of the {dimensions} axes of the mask, got {len(values)}: {values}",
            fix="give the voxel size in mm in the order of the axes",
        )
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise DataError(f"spacing must be positive and finite, got {values}", fix="give the voxel size in mm")
    return values


def check_tolerances(tolerances: Sequence[float]) -> tuple[float, ...]:
    """Return the tolerances as floats; raise `DataError` unless they are finite and not negative."""
    values = tuple(float(value) for value in tolerances)
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise DataError(f"a tolerance must be finite and 0 or more, got {values}", fix="give it in mm, for example 1.0")
    return values


def as_plane_or_volume(truth: Mask, predicted: Mask, spacing: Sequence[float]) -> tuple[Mask, Mask, tuple[float, ...]]:
    """Check a pair and its spacing, and turn ``(I, J, 1)`` into ``(I, J)``.

    A picture has no thickness: a volume of one slice is measured in its plane, because in 3-D every one of its pixels
    would touch the outside and so count as surface.
    """
    check_pair(truth, predicted)
    if truth.ndim not in (2, 3):
        raise GeometryMismatchError(
            f"surfaces are measured on masks of 2 or 3 axes, got shape {truth.shape}",
            fix="pass one channel of one case, for example array[0]",
        )
    values = check_spacing(spacing, truth.ndim)
    if truth.ndim == 3 and truth.shape[2] == 1:
        return truth[:, :, 0], predicted[:, :, 0], values[:2]
    return truth, predicted, values
