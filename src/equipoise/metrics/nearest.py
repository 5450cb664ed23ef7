"""Exact distance from each point of one lattice surface to the nearest point of another.

A distance transform visits every voxel of the box although only its surface is asked for, and a KD-tree walks its
branches for every point although most answers lie within a few voxels. So the offsets of a small ball are tried in
order of their length, all points at once, and only the points that found nothing go on: to a KD-tree, or, where the
surfaces are so far apart that a tree has to open most of its branches, to a distance transform.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

Indices = NDArray[np.int64]
Distances = NDArray[np.float64]

# One gather costs a few nanoseconds a point, one KD-tree query and its share of the tree about a microsecond:
# a ball of this many offsets costs less than half of what it saves.
_BALL = 250
_FEW = 600  # points; below this the tree answers faster than numpy can be called per offset

# Measured on surfaces of 1e5 points: a query takes about 1 us + 0.05 us x (distance in voxels)², because the number of
# target points that are nearly nearest grows with the distance; a distance transform takes about 0.1 us a voxel.
_QUERY, _QUERY_FAR, _VOXEL = 1.0, 0.05, 0.1
_SMALL_BOX = 8_000
"""Voxels up to which a distance transform costs less than building a tree to ask it whether it would."""

_LARGEST_BOX = 30_000_000  # voxels; a distance transform needs 12 bytes for each
_SAMPLE = 200


def lattice_distances(start: Indices, target: Indices, spacing: tuple[float, ...]) -> Distances:
    """Distance in mm from every point of ``start`` to the nearest point of ``target``.

    Parameters
    ----------
    start, target
        Lattice positions, shapes (n, d) and (m, d), integers.
    spacing
        Lattice constant along each of the d axes, mm.

    Returns
    -------
    numpy.ndarray
        Shape (n,), mm: the square root of the summed squares of (steps x spacing), evaluated from whole steps so that
        a distance equal to a tolerance is not lost in rounding; inf if ``target`` is empty.
    """
    if len(target) == 0:
        return np.full(len(start), np.inf)
    if len(start) == 0:
        return np.empty(0)
    if min(len(start), len(target)) < _FEW:
        return _far(start, target, spacing)
    groups, reach = _ball(spacing)
    low = np.minimum(start.min(axis=0), target.min(axis=0)) - reach
    shape = np.maximum(start.max(axis=0), target.max(axis=0)) + reach + 1 - low
    strides = np.array([math.prod(shape[axis + 1 :].tolist()) for axis in range(len(shape))])
    occupied = np.zeros(math.prod(shape.tolist()), np.bool_)
    occupied[(target - low) @ strides] = True
    distances = np.full(len(start), np.nan)
    position = (start - low) @ strides
    waiting = np.arange(len(start))
    for distance, offsets in groups:
        hit = np.zeros(len(position), np.bool_)
        for step in (offsets @ strides).tolist():
            hit |= occupied[position + step]
        distances[waiting[hit]] = distance
        waiting, position = waiting[~hit], position[~hit]
        if len(waiting) == 0:
            return distances
    distances[waiting] = _far(start[waiting], target, spacing)
    return distances


@lru_cache(maxsize=64)
def _ball(spacing: tuple[float, ...]) -> tuple[list[tuple[float, Indices]], Indices]:
    """All lattice offsets within a radius, grouped by length from short to long, and the largest steps per axis."""
    dimensions = len(spacing)
    unit = math.pi if dimensions == 2 else 4 / 3 * math.pi
    radius = (_BALL * math.prod(spacing) / unit) ** (1 / dimensions)
    reach = np.array([int(radius / size) for size in spacing])
    axes = [np.arange(-steps, steps + 1) for steps in reach]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, dimensions)
    lengths = _lengths(offsets, spacing)
    keep = lengths <= radius
    offsets, lengths = offsets[keep], lengths[keep]
    order = np.argsort(lengths, kind="stable")
    offsets, lengths = offsets[order], lengths[order]
    # Only bit-equal lengths share a group: a distance must not depend on which of two near-equal offsets came first.
    starts = np.flatnonzero(np.r_[True, np.diff(lengths) > 0])
    ends = [*starts[1:].tolist(), len(lengths)]
    return [(float(lengths[a]), offsets[a:b]) for a, b in zip(starts.tolist(), ends, strict=True)], reach


def _far(start: Indices, target: Indices, spacing: tuple[float, ...]) -> Distances:
    """Answer for the points beyond the ball by the method that a sample of them says is cheaper."""
    low = np.minimum(start.min(axis=0), target.min(axis=0))
    shape = tuple((np.maximum(start.max(axis=0), target.max(axis=0)) + 1 - low).tolist())
    voxels = math.prod(shape)
    if voxels <= _SMALL_BOX:
        return _by_transform(start - low, target - low, shape, spacing)
    if len(start) > _SAMPLE and voxels <= _LARGEST_BOX:
        sample = _by_tree(start[:: len(start) // _SAMPLE], target, spacing)
        squared_steps = float(np.square(sample).mean()) / math.prod(spacing) ** (2 / len(spacing))
        if len(start) * (_QUERY + _QUERY_FAR * squared_steps) > voxels * _VOXEL:
            return _by_transform(start - low, target - low, shape, spacing)
    return _by_tree(start, target, spacing)


def _by_transform(start: Indices, target: Indices, shape: tuple[int, ...], spacing: tuple[float, ...]) -> Distances:
    outside = np.ones(shape, np.bool_)
    outside[tuple(target.T)] = False
    nearest = ndimage.distance_transform_edt(outside, sampling=spacing, return_distances=False, return_indices=True)
    return _lengths(start - nearest[(slice(None), *start.T)].T, spacing)


def _by_tree(start: Indices, target: Indices, spacing: tuple[float, ...]) -> Distances:
    scale = np.array(spacing)
    tree = cKDTree(target * scale, leafsize=16, balanced_tree=False, compact_nodes=len(target) > 20_000)
    _, nearest = tree.query(start * scale)
    return _lengths(start - target[nearest], spacing)


def _lengths(steps: Indices, spacing: tuple[float, ...]) -> Distances:
    """Length of whole steps, in the order of operations of `scipy.ndimage.distance_transform_edt`."""
    return np.asarray(np.sqrt(np.square(steps * np.array(spacing)).T.copy().sum(axis=0)))
