"""Single lesions, cut out of label maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from equipoise.core import LabelMap

TOGETHER = 2
"""Lesions nearer to each other than this many voxels on either side are one: specks belong to what they lie beside."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A lesion: what is labelled in its bounding box.

    Parameters
    ----------
    array
        Instance numbers, one channel per lesion label of the engine, shape ``(N, I, J, K)``.
    centre
        Of its voxels in the map that it was cut from.
    """

    array: np.ndarray
    centre: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """Where it is, bool, shape ``(I, J, K)``."""
        return np.asarray((self.array > 0).any(axis=0))

    def at_spacing(self, own: Sequence[float], wanted: Sequence[float]) -> Piece:
        """Return the piece with the size in mm that it had, on a grid of another spacing."""
        factor = [1.0 if n == 1 else a / b for n, a, b in zip(self.array.shape[1:], own, wanted, strict=True)]
        if np.allclose(factor, 1, atol=0.01):
            return self
        shape = [max(round(n * f), 1) for n, f in zip(self.array.shape[1:], factor, strict=True)]
        index = [((np.arange(m) + 0.5) * n / m).astype(int) for n, m in zip(self.array.shape[1:], shape, strict=True)]
        return Piece(self.array[:, *np.ix_(*index)], self.centre)


def pieces_of(labels: LabelMap, names: Sequence[str]) -> list[Piece]:
    """Return the lesions of a map, each whole; those cut off by the picture's border only if there is no other.

    Parameters
    ----------
    labels
        The map; labels that its scheme lacks are empty.
    names
        Labels that are lesions.
    """
    known = labels.scheme.names
    empty = np.zeros(labels.geometry.shape, labels.array.dtype)
    lesions = np.stack([labels.array[known.index(name)] if name in known else empty for name in names])
    mask = np.asarray((lesions > 0).any(axis=0))
    if not mask.any():
        return []
    groups, _ = ndimage.label(grown(mask, TOGETHER), np.ones((3, 3, 3)))
    groups[~mask] = 0
    whole: list[Piece] = []
    cut: list[Piece] = []
    for number, box in enumerate(ndimage.find_objects(groups), 1):
        if box is None:
            continue
        own = groups[box] == number
        centre = np.array([s.start for s in box]) + np.argwhere(own).mean(axis=0)
        inside = all(s.start > 0 and s.stop < n for s, n in zip(box[:2], mask.shape[:2], strict=True))
        (whole if inside else cut).append(Piece(lesions[:, *box] * own, centre))
    return whole or cut


def grown(mask: np.ndarray, voxels: int) -> np.ndarray:
    """Return a mask grown by whole voxels along its axes, diagonals included; a slice stays one."""
    size = [1 if n == 1 else 2 * voxels + 1 for n in mask.shape]
    return np.asarray(ndimage.maximum_filter(mask, size)) if voxels else mask


__all__ = ["Piece", "grown", "pieces_of"]
