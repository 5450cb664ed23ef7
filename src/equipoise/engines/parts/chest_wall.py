"""The chest wall about a lung: pleura, muscle with ribs, fat, skin. HU and mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.engines.parts.grid import Grid, power_law

MUSCLE_HU, FAT_HU, MARROW_HU, CORTEX_HU, AIR_HU = 55.0, -100.0, 180.0, 800.0, -1000.0


@dataclass(frozen=True)
class Wall:
    """The pleura as a cylinder of large radius about the lung, with the chest wall outside.

    Parameters
    ----------
    direction
        Angle of the outward normal in the I-J plane, radians.
    distance
        Of the pleura from the grid's centre along it, in mm.
    radius
        Of the pleura's curvature, in mm.
    """

    direction: float
    distance: float
    radius: float

    def depth(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Return the distance outside the pleura in mm, negative in the lung, at broadcast coordinates."""
        ci, cj = (self.distance - self.radius) * np.array([np.cos(self.direction), np.sin(self.direction)])
        return np.asarray(np.hypot(i - ci, j - cj) - self.radius)


def place_wall(points: np.ndarray, gap: float, rng: np.random.Generator) -> Wall:
    """Draw a pleura that leaves all labelled points in the lung, ``gap`` mm from the nearest of them.

    Parameters
    ----------
    points
        I-J coordinates in mm, shape ``(n, 2)``; without any, the grid's centre counts.
    gap
        0 lets the outermost point touch the pleura.
    """
    direction, radius = rng.uniform(0, 2 * np.pi), rng.uniform(70, 130)
    normal = np.array([np.cos(direction), np.sin(direction)])
    points = points if len(points) else np.zeros((1, 2))
    along, across = points @ normal, points @ np.array([-normal[1], normal[0]])
    # Points outside the cylinder's breadth cannot be kept inside it: it is widened first.
    radius = max(radius, 1.2 * float(np.abs(across).max()) + gap)
    inner = radius - gap
    distance = float((along + radius - np.sqrt(np.maximum(0, inner**2 - across**2))).max())
    return Wall(direction, distance, radius)


def wall_hu(wall: Wall, grid: Grid, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return HU of the chest wall and its share of each voxel, both ``grid.shape``, float32.

    From the pleura outwards: intercostal muscle with ribs (cortex about marrow), muscle and fat, skin, air.
    """
    i, j, k = grid.axis(0)[:, None, None], grid.axis(1)[None, :, None], grid.axis(2)[None, None]
    depth = wall.depth(i, j)
    if depth.max() < -grid.voxel[0]:  # out of the picture
        return np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    center = wall.distance - wall.radius
    angle = np.arctan2(j - center * np.sin(wall.direction), i - center * np.cos(wall.direction)) - wall.direction
    arc = wall.radius * ((angle + np.pi) % (2 * np.pi) - np.pi)
    muscle, skin = rng.uniform(13, 18), rng.uniform(28, 55)
    layers = power_law(grid, 3.5, 25.0, rng)
    hu = np.where((depth < muscle) | (layers > 0.9), MUSCLE_HU, FAT_HU) + 8 * layers
    pitch, slope, start = rng.uniform(34, 46), rng.uniform(0.8, 1.6), rng.uniform(0, 40)
    along = (arc - start - slope * k + pitch / 2) % pitch - pitch / 2  # ribs run obliquely through the slices
    half = (rng.uniform(9, 15), rng.uniform(3.5, 5.0))
    edge = np.sqrt((along / half[0]) ** 2 + ((depth - 3 - half[1]) / half[1]) ** 2)
    inside = (1 - edge) * half[1]  # mm below the rib's surface, near enough for a shell of 1.2 mm
    hu = np.where(inside > 1.2, MARROW_HU + 30 * layers, np.where(inside > 0, CORTEX_HU, hu))
    hu = np.where(depth > skin, AIR_HU, np.where(depth > skin - 2, MUSCLE_HU, hu))
    share = np.clip(depth / grid.voxel[0] + 0.5, 0, 1)
    return hu.astype(np.float32), np.broadcast_to(share, grid.shape).astype(np.float32)


__all__ = ["AIR_HU", "FAT_HU", "MUSCLE_HU", "Wall", "place_wall", "wall_hu"]
