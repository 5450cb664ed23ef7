"""What spoils a CT scan: metal in the patient, and patients who move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.engines.parts.grid import Grid
from equipoise.engines.parts.projection import Ellipse

METALS = ("titanium", "iron")
BONE_ABOVE_HU, TISSUE_ABOVE_HU = 150.0, -200.0
LENGTH_MM = (15.0, 60.0)
"""How long screws and rods are across the slices."""


@dataclass(frozen=True)
class Implant:
    """A rod of metal across some slices.

    Parameters
    ----------
    shape
        Its cross-section; as an ellipse of attenuation 1, so that its chords are lengths in mm.
    material
        ``"titanium"`` or ``"iron"`` (steel).
    first, last
        Slices that show it.
    """

    shape: Ellipse
    material: str
    first: int
    last: int


@dataclass(frozen=True)
class Motion:
    """A swing of the whole patient along one direction of the slice plane, about the place that the labels state.

    Parameters
    ----------
    span_mm
        From one end to the other of what happens during the scan.
    degrees
        Direction from I towards J.
    cycles
        Periods in a whole turn of the gantry: breath and heartbeats last 4 s and 1 s, a turn 0.3 to 1 s.
    phase
        At the first view, in cycles.
    """

    span_mm: float
    degrees: float
    cycles: float
    phase: float

    def places(self, turned: np.ndarray) -> np.ndarray:
        """Return where the patient is, mm, shape ``(views, 2)``, when the gantry has turned by an angle in radians."""
        course = np.cos(2 * np.pi * (self.cycles * turned / (2 * np.pi) + self.phase))
        course = course - course.mean()
        span = course.max() - course.min()
        direction = np.radians(self.degrees)
        scaled = self.span_mm * course / max(span, 1e-6)
        return np.asarray(scaled[:, None] * [np.cos(direction), np.sin(direction)])


def draw_motion(span_mm: float, rng: np.random.Generator) -> Motion | None:
    """Draw the course of a motion; ``None`` without any."""
    degrees, cycles, phase = rng.uniform(0, 180), rng.uniform(0.2, 1.2), rng.random()
    return Motion(span_mm, float(degrees), float(cycles), float(phase)) if span_mm > 0 else None


def draw_implants(
    scene: np.ndarray, grid: Grid, free: np.ndarray, diameter_mm: Sequence[float], metal: str, rng: np.random.Generator
) -> tuple[Implant, ...]:
    """Draw one to three rods of metal into a scene: in bone if there is any, else in soft tissue.

    Parameters
    ----------
    scene
        HU, shape ``(N, N, K)``.
    free
        Where metal may be, bool, of that shape: not on a lesion that is to be found.
    diameter_mm
        Range of the rods' width.
    """
    place, sizes = rng.spawn(2)
    tissue = free & (scene > BONE_ABOVE_HU)
    if tissue.sum() < 20:
        tissue = free & (scene > TISSUE_ABOVE_HU)
    if not tissue.any():
        tissue = free
    found = np.flatnonzero(tissue)
    implants = []
    for _ in range(int(sizes.integers(1, 4))):
        i, j, k = np.unravel_index(found[int(place.integers(len(found)))] if len(found) else 0, scene.shape)
        radius = float(sizes.uniform(diameter_mm[0], diameter_mm[1])) / 2
        shape = Ellipse(
            1.0,
            (float(grid.axis(0)[i]), float(grid.axis(1)[j])),
            (radius * float(sizes.uniform(1, 2.5)), radius),
            float(sizes.uniform(0, 180)),
        )
        half = sizes.uniform(*LENGTH_MM) / 2 / grid.voxel[2]
        implants.append(Implant(shape, metal, int(np.ceil(k - half)), int(np.floor(k + half))))
    return tuple(implants)


def along_rays(
    ellipses: Sequence[Ellipse], angle: np.ndarray, distance: np.ndarray, moved_mm: np.ndarray | None
) -> np.ndarray:
    """Return closed-form line integrals of ellipses that move, shape of the broadcast rays.

    Parameters
    ----------
    angle, distance
        Of the rays' normals, radians, and of the rays from the field of view's centre, mm; views first.
    moved_mm
        Place of the patient in each view, shape ``(views, 2)``.
    """
    if moved_mm is not None:
        distance = distance - moved_mm[:, :1] * np.cos(angle) - moved_mm[:, 1:] * np.sin(angle)
    out = np.zeros(np.broadcast_shapes(angle.shape, distance.shape))
    for ellipse in ellipses:
        out += ellipse.chords(angle, distance)
    return out


__all__ = ["METALS", "Implant", "Motion", "along_rays", "draw_implants", "draw_motion"]
