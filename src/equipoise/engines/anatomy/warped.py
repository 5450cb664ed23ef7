"""Kind ``warped``: the label maps of the training patients, turned, scaled and smoothly deformed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from equipoise.core import LabelMap
from equipoise.engines.parts.legal import require_within
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.training_maps import DrawsTrainingMaps, TrainingMaps, Window
from equipoise.engines.parts.warp import SAFE_2D, SAFE_3D, node_counts


@dataclass(frozen=True)
class Warped(DrawsTrainingMaps):
    """Label maps of training patients under a random affine map and a free-form deformation without folds.

    Control nodes move by less than the bound under which a cubic B-spline deformation is one-to-one (Choi and Lee
    2000), so structures keep their topology.

    Parameters
    ----------
    amount
        Size of the deformation, 0 to 1, as a share of that bound.
    coarseness
        Distance of the control nodes, as a share of the map's longest side.
    degrees
        Standard deviation of the rotation: in plane for a slice, about each axis for a volume.
    scale
        Standard deviation of the logarithm of the size, common to all axes.
    flip
        Whether half of the maps are mirrored along their first axis. Off unless left and right are alike.
    patch, foreground
        Side of a patch in voxels (0: whole maps), and the share of patches around a labelled voxel.

    References
    ----------
    Choi Y, Lee S. Injectivity conditions of 2D and 3D uniform cubic B-spline functions. Graphical Models 2000.
    doi:10.1006/gmod.2000.0531
    """

    kind: ClassVar[str] = "warped"

    amount: float = 0.6
    coarseness: float = 0.25
    degrees: float = 8.0
    scale: float = 0.1
    flip: bool = False
    patch: int = 0
    foreground: float = 0.5
    _maps: TrainingMaps | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_within("warped.amount", self.amount, 0, 1)
        require_within("warped.coarseness", self.coarseness, 0.02, 1, "of the longest side")
        require_within("warped.degrees", self.degrees, 0, 180, "degrees")
        require_within("warped.scale", self.scale, 0, 1)
        self.require_patches()

    def laid(self, window: Window, rng: np.random.Generator) -> tuple[LabelMap, Placement]:
        """Return the label map of a window, turned, scaled and deformed."""
        truth = window.of.labels
        flat = window.shape[2] == 1
        matrix = self._affine(np.array(truth.spacing), flat, rng)
        nodes, step = self._deformation(window.shape, truth.geometry.shape, flat, rng)
        return window.placed(matrix, nodes, step)

    def _affine(self, spacing: np.ndarray, flat: bool, rng: np.random.Generator) -> np.ndarray:
        """Return the map from drawn to source voxels: a rotation and scale in mm, and perhaps a mirror."""
        turn = np.deg2rad(self.degrees) * rng.standard_normal(3)
        size, mirrored = math.exp(self.scale * rng.standard_normal()), rng.random() < 0.5
        turned = (
            _rotation(2, turn[2]) if flat else _rotation(0, turn[0]) @ _rotation(1, turn[1]) @ _rotation(2, turn[2])
        )
        turned = turned / size
        if flat:
            turned[2, 2] = 1.0
        if self.flip and mirrored:
            turned[:, 0] *= -1
        # Rotations are made in mm, so that voxels which are no cubes shear nothing.
        in_voxels: np.ndarray = turned * spacing[None, :] / spacing[:, None]
        return in_voxels

    def _deformation(
        self, shape: tuple[int, int, int], full: tuple[int, int, int], flat: bool, rng: np.random.Generator
    ) -> tuple[np.ndarray, tuple[float, float, float]]:
        """Return displacements of the control nodes in voxels, uniform within the share of the safe bound."""
        distance = max(self.coarseness * max(full), 4.0)
        step = (distance, distance, 1.0 if flat else max(min(distance, full[2] / 2), 1.0))
        counts = node_counts(shape, step)
        bound = self.amount * (SAFE_2D if flat else SAFE_3D) * np.array(step)
        nodes = rng.uniform(-1, 1, (3, *counts)) * bound[:, None, None, None]
        if flat:
            nodes[2] = 0
        return nodes.astype(np.float32), step


def _rotation(axis: int, angle: float) -> np.ndarray:
    """Return the rotation about one axis."""
    a, b = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = math.cos(angle)
    matrix[a, b], matrix[b, a] = -math.sin(angle), math.sin(angle)
    return matrix
