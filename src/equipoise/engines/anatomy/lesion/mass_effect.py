"""How a growing lesion pushes aside what surrounds it, without folds.

Tissue does not vanish: a shell that lay at radius s around a point lesion lies at r, r³ = s³ + f R³ (in a slice with
squares), once the lesion has the radius R and has displaced the share f of its volume; the rest it has replaced. With
distance the tissue gives way and the push fades to nothing. Along every ray from the centre s grows with r, so no two
places are mapped to one: the deformation is one-to-one by construction, whatever the lesion's shape. Bone and skin do
not move, and what is pushed against them is compressed.

References
----------
Hogea C, Davatzikos C, Biros G. An image-driven parameter estimation problem for a reaction-diffusion glioma growth
model with mass effects. J Math Biol 2008;56:793-825. doi:10.1007/s00285-007-0139-x (mass effect as displacement)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from equipoise.engines.parts.nodule import Nodule
from equipoise.engines.parts.placement import Box, Placement, Push, pushed
from equipoise.engines.parts.retina import Eye

REACH = 3.0
"""Radii within which tissue is displaced."""


def undisplaced(r: np.ndarray, radius: np.ndarray, share: float, dimension: int) -> np.ndarray:
    """Return the distance from the centre at which tissue lay that lies at ``r`` now, in the unit of both.

    Parameters
    ----------
    r
        Distances from the lesion's centre.
    radius
        Of the lesion in the same directions.
    share
        Of the lesion's volume that it has displaced, 0 to below 1.
    dimension
        2 or 3.
    """
    inner = 1 - (1 - share) ** (1 / dimension)
    outside = np.maximum(r, radius)
    moved = outside - (outside**dimension - share * radius**dimension) ** (1 / dimension)
    far = np.clip((outside / radius - 1) / (REACH - 1), 0, 1)
    fading = 1 - far * far * (3 - 2 * far)
    before: np.ndarray = r - np.where(r < radius, inner * r, fading * moved)
    return before


def push_aside(
    body: Nodule, share: float, points: np.ndarray, box: Box, rigid: np.ndarray, voxel: np.ndarray, start: np.ndarray
) -> Push:
    """Return how a body displaces the voxels around it.

    Parameters
    ----------
    body
        The lesion.
    share
        Of its volume that displaces, 0 to below 1; the rest replaces.
    points
        mm, shape ``(i, j, k, 3)``: the voxels of the box.
    box
        `REACH` radii around the lesion, cut at the grid.
    rigid
        Bool, shape ``(i, j, k)``: what does not move.
    voxel
        mm.
    start
        The centre's voxel in the box.
    """
    shape = (rigid.shape[0], rigid.shape[1], rigid.shape[2])
    r = np.linalg.norm((points - body.center) @ body.frame.T, axis=-1)
    radius = np.maximum(body.depth(points) + r, 1e-6)
    factor = undisplaced(r, radius, share, 2 if shape[2] == 1 else 3) / np.maximum(r, 1e-9)
    was = (points - body.center) * (factor - 1)[..., None] / voxel + np.moveaxis(np.indices(shape), 0, -1)
    index = [np.clip(np.rint(was[..., a]).astype(np.intp), 0, shape[a] - 1) for a in range(3)]
    source = np.ravel_multi_index(index, shape)
    # What a bone separates from the lesion stays: tissue is not pushed through it.
    regions, _ = ndimage.label(~rigid)
    here = regions == regions[tuple(start)]
    here &= ~rigid
    stays = ~(here & here.ravel()[source])
    source[stays] = np.arange(source.size).reshape(shape)[stays]
    return Push(box, source.ravel())


def displaced(placement: Placement, pushes: tuple[Push, ...]) -> Placement:
    """Return a placement after pushes; the blood and the landmarks of an eye move with its labels."""
    if not pushes or not isinstance(placement, Eye):
        return placement.displaced(pushes)
    columns, rows, _ = placement.shape
    still = np.arange(columns * rows).reshape(1, columns, rows, 1)
    was = pushed(still, pushes)
    i, j = np.divmod(was[0, ..., 0], rows)
    blood, glance = placement.lumen_um[:, i, j], placement.axis[:, i, j]
    marks = placement.landmarks
    fovea = np.unravel_index(int(np.hypot(i - marks.fovea[0], j - marks.fovea[1]).argmin()), (columns, rows))
    if was[0, fovea[0], fovea[1], 0] != still[0, fovea[0], fovea[1], 0]:
        marks = replace(marks, fovea=(float(fovea[0]), float(fovea[1])))
    # A disc that was pushed is no ellipse any more: its label, where there is one, says where it is.
    whole = not (marks.disc.holds(i, j) & (was != still)[0, ..., 0]).any()
    return replace(placement, landmarks=marks, lumen_um=blood, axis=glance, exact=placement.exact and whole)


__all__ = ["REACH", "displaced", "push_aside", "undisplaced"]
