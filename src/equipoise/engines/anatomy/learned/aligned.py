"""Training maps brought to one working grid, with how well they can be learned there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.core import Geometry, LabelMap
from equipoise.engines.anatomy.learned.frame import Frame, Pose
from equipoise.engines.anatomy.learned.structures import Structures
from equipoise.engines.anatomy.learned.suitability import Suitability, suitability_of

RESOLUTION = {("pca", 2): 96, ("pca", 3): 40, ("diffusion", 2): 32, ("diffusion", 3): 24}
"""Points along the longest side of the working grid."""

Named = tuple[str, str, LabelMap]
"""A case's id, its patient, and its label map or a crop of it."""


@dataclass(frozen=True, eq=False)
class Aligned:
    """Training maps on a working grid.

    Parameters
    ----------
    ids, maps
        All of them.
    structures, frame
        What they show, and the working grid.
    shown
        Numbers of the maps that show anything; what follows is of these only.
    present, patients
        Which structures each shows, bool, shape ``(N, S)``, and whose it is.
    fields
        Signed distances, shape ``(N, S, I, J, K)``.
    rows
        Poses as numbers that vary together: the centre and the logarithm of the size, shape ``(N, 4)``.
    suits
        How well they can be learned.
    """

    ids: tuple[str, ...]
    maps: tuple[LabelMap, ...]
    structures: Structures
    frame: Frame
    shown: np.ndarray
    present: np.ndarray
    patients: tuple[str, ...]
    fields: np.ndarray
    rows: np.ndarray
    suits: Suitability

    @classmethod
    def of(cls, kind: Any, model: str, named: Sequence[Named]) -> Aligned:
        """Return maps aligned for a model, ``"pca"`` or ``"diffusion"``, by an anatomy's parameters."""
        ids, everyone, maps = zip(*named, strict=True)
        structures = Structures.of(maps)
        resolution = kind.resolution or RESOLUTION[model, maps[0].geometry.ndim]
        even = 2 ** len(kind.channels) if model == "diffusion" else 1
        frame = Frame.of(maps, structures, resolution, kind.align, even)
        shown = np.flatnonzero(structures.present.any(axis=1))
        present = structures.present[shown]
        there = [maps[n] for n in shown]
        patients = tuple(everyone[n] for n in shown)
        poses = [frame.pose(labels, structures) for labels in there]
        fields = np.stack([frame.fields(m, pose, structures) for m, pose in zip(there, poses, strict=True)])
        variance = kind.variance if model == "pca" else None
        suits = suitability_of(there, poses, fields, frame, structures, present, patients, variance)
        rows = np.array([_row(pose, m.geometry) for m, pose in zip(there, poses, strict=True)])
        return cls(ids, maps, structures, frame, shown, present, patients, fields, rows, suits)

    @property
    def sizes(self) -> np.ndarray:
        """Size of what each of all maps shows, by `yardstick`; NaN where it shows nothing."""
        sizes = np.full(len(self.maps), np.nan)
        sizes[self.shown] = np.exp(self.rows[:, 3])
        return sizes


def pose_on(row: np.ndarray, grid: Geometry) -> Pose:
    """Return the pose that a row of numbers stands for on a grid."""
    i, j, k = (float(x) for x in row[:3])
    return Pose((i, j, k), float(np.exp(row[3])) * yardstick(grid))


def yardstick(grid: Geometry) -> float:
    """Return what sizes are told in: mm, or where a picture states none, the mean side of its field of view.

    A picture in pixels was taken at any scale, and what is twice as large on it is so because it has twice the pixels.
    """
    return 1.0 if grid.unit == "mm" else float(np.prod(grid.shape) ** (1 / grid.ndim))


def _row(pose: Pose, grid: Geometry) -> list[float]:
    return [*pose.centre, float(np.log(pose.size / yardstick(grid)))]


__all__ = ["Aligned", "Named", "pose_on"]
