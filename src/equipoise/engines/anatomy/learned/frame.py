"""From label maps to aligned signed distances on one grid of bounded size, and back to a grid of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from equipoise.core import Geometry, LabelMap
from equipoise.engines.anatomy.learned.structures import Structures

MARGIN = 0.3
"""Empty room around the structures on the working grid, in units of their size."""

BAND = 0.6
"""Distance from a boundary, in units of the structures' size, beyond which it no longer matters how far it is."""

FINEST = {2: 384, 3: 112}
"""Voxels along the longest side of a map that distances are computed on; larger maps are halved until they fit."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Where structures lie, and how large they are.

    Parameters
    ----------
    centre
        As shares of the field of view along I, J, K, from 0 to 1.
    size
        Root mean square distance of their voxels from the centre, in the maps' unit.
    """

    centre: tuple[float, float, float]
    size: float


@dataclass(frozen=True, eq=False)
class Frame:
    """The working grid, in units of the structures' size about their centre.

    Parameters
    ----------
    shape
        ``(I, J, K)``; K is 1 in 2-D.
    low
        Of its first point, shape ``(3,)``.
    step
        Between its points, the same along all axes.
    align
        Whether structures are moved to one centre and brought to one size; else maps lie as they are.
    usual
        The pose of all maps that are not aligned.
    """

    shape: tuple[int, int, int]
    low: np.ndarray
    step: float
    align: bool
    usual: float

    @classmethod
    def of(cls, maps: Sequence[LabelMap], structures: Structures, resolution: int, align: bool, even: int = 1) -> Frame:
        """Return the working grid that holds every structure of the maps.

        Parameters
        ----------
        maps
            At least one has a labelled voxel.
        structures
            Of the maps.
        resolution
            Points along its longest side.
        align
            See `Frame`.
        even
            Its sides are multiples of this, which a network may need.
        """
        maps = [m for m in maps if m.masks().any()]
        flat = maps[0].geometry.ndim == 2
        usual = float(np.median([_rms(m, _any(m.masks()))[1] for m in maps]))
        scaled = [_reach(m, structures, align, usual) for m in maps]
        low = np.min([a for a, _ in scaled], axis=0) - MARGIN
        high = np.max([b for _, b in scaled], axis=0) + MARGIN
        if flat:
            low[2] = high[2] = 0.0
        step = float((high - low).max() / (resolution - 1))
        counts = np.maximum(np.ceil((high - low) / step - 1e-9).astype(int) + 1, 1)
        counts = np.where(counts > 1, -(-counts // even) * even, 1)
        i, j, k = (int(n) for n in counts)
        return cls((i, j, k), (low + high) / 2 - step * (counts - 1) / 2, step, align, usual)

    @property
    def gap(self) -> float:
        """Distance, in units of the structures' size, below which the working grid tells no two boundaries apart."""
        return self.step / 2

    def pose(self, labels: LabelMap, structures: Structures) -> Pose:
        """Return the pose of a map with a labelled voxel."""
        return _pose(labels, structures, self.align, self.usual)

    def fields(self, labels: LabelMap, pose: Pose, structures: Structures) -> np.ndarray:
        """Return signed distances to each structure on the working grid, float32, shape ``(S, *shape)``.

        In units of the pose's size, negative inside, held within ±`BAND`; `BAND` everywhere for an absent structure.
        Beyond the field of view a map goes on as its border voxels do.
        """
        masks, spacing, first = _reduced(structures.masks(labels.array), np.array(labels.spacing))
        corner = _corner(labels.geometry, pose)
        # Index of a reduced voxel from a point of the working grid: both lie along the map's own axes.
        scale = self.step * pose.size / spacing
        offset = (self.low * pose.size - corner - first) / spacing
        out = np.full((len(masks), *self.shape), BAND, np.float32)
        for number, mask in enumerate(masks):
            if mask.any():
                distance = signed_distance(mask, spacing) / pose.size
                out[number] = _seen(distance, scale, offset, self.shape, order=1)
        return np.clip(out, -BAND, BAND)

    def draw(self, fields: np.ndarray, pose: Pose, geometry: Geometry) -> np.ndarray:
        """Return signed distances on a map's grid, shape ``(S, I, J, K)``, cubic between the working grid's points."""
        spacing = np.array(geometry.spacing)
        scale = spacing / (self.step * pose.size)
        offset = (_corner(geometry, pose) / pose.size - self.low) / self.step
        order = 3 if min(n for n in self.shape if n > 1) > 3 else 1
        out = np.full((len(fields), *geometry.shape), BAND, np.float32)
        box, offset = _within(geometry.shape, scale, offset, self.shape, fields)
        shape = tuple(s.stop - s.start for s in box)
        if min(shape) > 0:
            for number, field in enumerate(fields):
                out[(number, *box)] = _seen(field, scale, offset, shape, order)
        return out


def signed_distance(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Return the distance of each voxel centre to the boundary of a mask, negative inside, in the spacing's unit.

    The field of view is no boundary: a structure that is cut by it goes on. A mask of all voxels is all inside.
    """
    axes = tuple(float(s) for s in spacing)
    half = min(s for s, n in zip(axes, mask.shape, strict=True) if n > 1) / 2 if max(mask.shape) > 1 else 0.5
    if mask.all():
        return np.full(mask.shape, -float(np.linalg.norm(np.array(mask.shape) * spacing)), np.float32)
    outside = np.maximum(ndimage.distance_transform_edt(~mask, sampling=axes) - half, 0)
    inside = np.maximum(ndimage.distance_transform_edt(mask, sampling=axes) - half, 0)
    # Each is 0 on the far side; the boundary lies half a voxel from the nearest centre on either side.
    distance: np.ndarray = np.where(mask, -np.maximum(inside, half * 1e-3), np.maximum(outside, half * 1e-3))
    return distance.astype(np.float32)


def _pose(labels: LabelMap, structures: Structures, align: bool, usual: float) -> Pose:
    if not align:
        return Pose((0.5, 0.5, 0.5), usual)
    masks = structures.masks(labels.array)
    anchored = _any(masks[list(structures.anchors)])
    centre, size = _rms(labels, anchored if anchored.any() else _any(masks))
    shares = (centre + 0.5) / np.array(labels.geometry.shape)
    return Pose((float(shares[0]), float(shares[1]), float(shares[2])), size)


def _any(masks: np.ndarray) -> np.ndarray:
    anywhere: np.ndarray = np.any(masks, axis=0)
    return anywhere


def _rms(labels: LabelMap, mask: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the centre in voxels and the size in the map's unit; never less than half a voxel."""
    at = np.argwhere(mask)
    centre = at.mean(axis=0)
    spacing = np.array(labels.spacing)
    axes = slice(0, labels.geometry.ndim)
    squared = np.square((at - centre) * spacing)[:, axes].sum(axis=1).mean()
    return centre, float(max(np.sqrt(squared), 0.5 * spacing[axes].min()))


def _reach(labels: LabelMap, structures: Structures, align: bool, usual: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of the box around a map's structures, in units of its size about its centre."""
    pose = _pose(labels, structures, align, usual)
    at = np.argwhere(labels.masks().any(axis=0))
    ends = np.array([at.min(axis=0) - 0.5, at.max(axis=0) + 0.5]) * np.array(labels.spacing)
    low, high = (ends + _corner(labels.geometry, pose)) / pose.size
    return low, high


def _corner(geometry: Geometry, pose: Pose) -> np.ndarray:
    """Return where the first voxel of a grid lies, in its unit, from the pose's centre."""
    spacing = np.array(geometry.spacing)
    centre = np.array(pose.centre) * np.array(geometry.shape) - 0.5
    if geometry.ndim == 2:
        centre[2] = 0.0
    corner: np.ndarray = -centre * spacing
    return corner


def _reduced(masks: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return masks halved until their longest side fits, with their spacing and where their first voxel now lies."""
    finest = FINEST[2 if masks.shape[3] == 1 else 3]
    first = np.zeros(3)
    while max(masks.shape[1:]) > finest:
        # Only axes that are long, so that the few thick slices of a stack are not merged.
        halved = [n > max(finest / 2, 2) for n in masks.shape[1:]]
        values: np.ndarray = masks.astype(np.float32)
        for axis, halves in enumerate(halved, 1):
            if halves:
                even = values.shape[axis] // 2 * 2
                pairs = np.moveaxis(values, axis, 0)[:even]
                values = np.moveaxis((pairs[::2] + pairs[1::2]) / 2, 0, axis)
        masks = values >= 0.5
        first = first + np.where(halved, spacing / 2, 0)
        spacing = spacing * np.where(halved, 2, 1)
    return masks, spacing, first


def _seen(values: np.ndarray, scale: np.ndarray, offset: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    """Return values at ``scale * index + offset``; flat axes are left alone."""
    flat = values.shape[2] == 1 and shape[2] == 1
    if flat:
        values, scale, offset, shape = values[..., 0], scale[:2], offset[:2], shape[:2]
    out: np.ndarray = ndimage.affine_transform(
        values, np.diag(scale), offset, shape, np.float32, order=order, mode="nearest", prefilter=order > 1
    )
    return out[..., None] if flat else out


def _within(
    shape: tuple[int, int, int],
    scale: np.ndarray,
    offset: np.ndarray,
    working: tuple[int, int, int],
    fields: np.ndarray,
) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    """Return the box of a grid that the working grid covers, and the offset there: all of it, if structures go on."""
    faces = [np.take(fields, end, axis) for axis in (1, 2, 3) if fields.shape[axis] > 1 for end in (0, -1)]
    if any((face < 0).any() for face in faces):
        first, last = np.zeros(3, int), np.array(shape)
    else:
        first = np.clip(np.floor(-offset / scale).astype(int), 0, shape)
        last = np.clip(np.ceil((np.array(working) - 1 - offset) / scale).astype(int) + 1, 0, shape)
        if working[2] == 1:
            first[2], last[2] = 0, 1
        last = np.maximum(first, last)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return (i, j, k), offset + scale * first


__all__ = ["BAND", "Frame", "Pose", "signed_distance"]
