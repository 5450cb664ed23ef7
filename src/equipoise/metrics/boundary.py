"""The surface points of a mask, in either of the two conventions in use.

``"monai"``
    Surface points are the *edge voxels*: inside voxels with an outside face neighbour. They lie on voxel centres, and
    each counts once, whatever its orientation.
``"deepmind"``
    Surface points are the *voxel corners* where the 8 (in 2-D: 4) voxels around are not all alike. Each carries the
    area of the marching-cubes surface through it (`equipoise.metrics.surfels`).

In both, what lies beyond the image is outside: a structure cut by the border has a surface there. Both peers do so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from equipoise.metrics.inputs import Mask
from equipoise.metrics.nearest import Indices
from equipoise.metrics.surfels import surfel_areas

Convention = Literal["monai", "deepmind"]
CONVENTIONS: tuple[Convention, ...] = ("monai", "deepmind")


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """Surface points of one mask.

    Parameters
    ----------
    points
        Lattice positions, shape (n, d): voxel indices ("monai"), or for "deepmind" the index of the voxel after the
        corner, so that position p lies half a voxel before the centre of voxel p.
    weights
        Shape (n,): area in mm² (2-D: length in mm), or 1 each for "monai".
    """

    points: Indices
    weights: NDArray[np.float64]


def surface_of(mask: Mask, spacing: tuple[float, ...], convention: Convention) -> Surface:
    """Find the surface points of a 2-D or 3-D boolean mask; spacing in mm."""
    box = bounding_box(mask)
    if box is None:
        return Surface(np.empty((0, mask.ndim), np.int64), np.empty(0))
    start = np.array([side.start for side in box])
    if convention == "monai":
        points = _positions(_edge_voxels(mask[box]))
        return Surface(points + start, np.ones(len(points)))
    codes = neighbour_codes(mask[box])
    full = 2 ** (2**mask.ndim) - 1
    found = (codes != 0) & (codes != full)
    return Surface(_positions(found) + start, surfel_areas(spacing)[codes[found]])


def bounding_box(mask: Mask) -> tuple[slice, ...] | None:
    """Slices of the smallest box that holds every inside voxel; None if there is none."""
    # Slabs across the axis that memory runs slowest over are read at memory speed, in C and Fortran order alike; only
    # the occupied ones are then read again.
    slow = int(np.argmax(np.abs(mask.strides)))
    slabs = np.moveaxis(mask, slow, 0)
    extent = occupied_range(slabs)
    if extent.stop == 0:
        return None
    shadow = np.bitwise_or.reduce(slabs[extent], axis=0)
    sides: list[slice] = []
    for axis in range(shadow.ndim):
        line = shadow.any(axis=tuple(other for other in range(shadow.ndim) if other != axis))
        occupied = np.flatnonzero(line)
        sides.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    sides.insert(slow, extent)
    return tuple(sides)


def occupied_range(mask: Mask) -> slice:
    """Slice from the first to the last index of the first axis that holds an inside voxel; empty if there is none."""
    rows = mask.reshape(len(mask), -1) if mask.flags.c_contiguous and mask.size else mask
    if rows.ndim == 2 and rows.flags.c_contiguous and rows.shape[1] % 8 == 0:
        occupied = np.flatnonzero(rows.view(np.uint64).max(axis=1))  # eight voxels at a time
    else:
        occupied = np.flatnonzero(rows.any(axis=tuple(range(1, rows.ndim))))
    return slice(int(occupied[0]), int(occupied[-1]) + 1) if len(occupied) else slice(0, 0)


def neighbour_codes(mask: Mask) -> NDArray[np.uint8]:
    """Bit pattern of the 2**d voxels around each voxel corner, outside the array counting as background.

    Parameters
    ----------
    mask
        Boolean, d = 2 or 3 axes.

    Returns
    -------
    numpy.ndarray
        Each axis one longer than the mask's; entry p is the corner between voxels p - 1 and p. Bits as in
        `equipoise.metrics.surfels.surfel_areas`.
    """
    codes = np.pad(mask, 1).view(np.uint8)
    # One axis at a time: joining neighbours along the last axis makes 2 bits, the one before it 4, the first 8.
    for axis, bits in zip(reversed(range(mask.ndim)), (1, 2, 4), strict=False):
        before = codes[(slice(None),) * axis + (slice(None, -1),)]
        after = codes[(slice(None),) * axis + (slice(1, None),)]
        codes = before << np.uint8(bits)
        codes |= after
    return codes


def _edge_voxels(mask: Mask) -> Mask:
    """Inside voxels with an outside neighbour across a face."""
    padded = np.pad(mask, 1)
    middle = (slice(1, -1),) * mask.ndim
    deep = padded[middle].copy()
    for axis in range(mask.ndim):
        for side in (slice(None, -2), slice(2, None)):
            deep &= padded[(*middle[:axis], side, *middle[axis + 1 :])]
    return np.asarray(padded[middle] & ~deep)


def _positions(found: Mask) -> Indices:
    """List the indices of the true voxels, shape (n, d); quicker than `numpy.argwhere` for sparse arrays."""
    flat = np.flatnonzero(found)
    return np.stack(np.unravel_index(flat, found.shape), axis=1).astype(np.int64, copy=False)
