"""Where a voxel grid lies in the patient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from equipoise.errors import GeometryMismatchError

Unit = Literal["mm", "px"]

AFFINE_TOLERANCE = 1e-3
"""Largest difference, in mm, between two affines of one grid. NIfTI stores the quaternion in single precision, which
moves a voxel 300 mm from the origin by about 1e-4 mm."""

OF_A_VOXEL = 0.05
"""Share of the smallest voxel that two affines of one grid may differ by: pixels of a microscope are below 1e-3 mm."""


def _identity() -> np.ndarray:
    return np.eye(4)


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """A voxel grid and its place in the patient.

    Parameters
    ----------
    shape
        ``(I, J, K)``; a 2-D image has ``K == 1``.
    affine
        4 x 4, voxel index to RAS+ world coordinates in mm.
    frame
        Frame-of-reference UID; two grids may be overlaid only if it matches where both state one.
    unit
        ``"px"`` where the file states no physical size (PNG, JPEG): lengths are then given in pixels, never as mm.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray = field(default_factory=_identity)
    frame: str | None = None
    unit: Unit = "mm"

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=float)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryMismatchError(f"affine must be a finite 4 x 4 matrix, got shape {affine.shape}: {affine}")
        # Against the voxel's own volume, which is 1e-12 mm³ and less under a microscope.
        if not abs(np.linalg.det(affine[:3, :3])) > 1e-6 * np.prod(np.linalg.norm(affine[:3, :3], axis=0)):
            raise GeometryMismatchError(
                f"affine is singular (spacing {np.linalg.norm(affine[:3, :3], axis=0)}): voxels would have no volume",
                fix="correct the spacing or the orientation in the file's header",
            )
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along I, J, K, in `unit`."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def ndim(self) -> int:
        """2 for one slice, else 3."""
        return 2 if self.shape[2] == 1 else 3

    @classmethod
    def from_spacing(
        cls, shape: tuple[int, int, int], spacing: tuple[float, float, float], unit: Unit = "mm"
    ) -> Geometry:
        """Return a grid along the world axes with its first voxel in the origin."""
        return cls(shape, np.diag([*spacing, 1.0]), unit=unit)

    def require_same(self, other: Geometry, what: str = "image and label map", file: str | None = None) -> None:
        """Raise `GeometryMismatchError` unless both are one grid: shape, affine and frame of reference."""
        problem = self._difference(other)
        if problem:
            raise GeometryMismatchError(
                f"{what} do not lie on one grid: {problem}",
                file=file,
                why="a mask on another grid marks other tissue than the reader drew",
                fix="resample one onto the other with the tool that drew it, or correct the header, then run "
                "`equipoise check` again",
            )

    def _difference(self, other: Geometry) -> str | None:
        if self.shape != other.shape:
            return f"shapes differ, {self.shape} and {other.shape}"
        tolerance = min(AFFINE_TOLERANCE, OF_A_VOXEL * min(self.spacing))
        if not np.allclose(self.affine, other.affine, rtol=0, atol=tolerance):
            if np.allclose(self.spacing, other.spacing, atol=tolerance):
                return "same shape and spacing, but another origin or orientation"
            return f"same shape, but spacing {_mm(self.spacing)} and {_mm(other.spacing)} {self.unit}"
        if self.frame and other.frame and self.frame != other.frame:
            return f"frames of reference differ, {self.frame} and {other.frame}: these are different scans"
        return None


def _mm(spacing: tuple[float, float, float]) -> str:
    return " x ".join(f"{s:.4g}" for s in spacing)
