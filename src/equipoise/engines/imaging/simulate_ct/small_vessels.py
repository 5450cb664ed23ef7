"""Vessels of the lung that are too small to be labelled: dots and short lines among the vessels that are.

References
----------
Huang W, Yen RT, McLaurine M, Bledsoe G. Morphometry of the human pulmonary vasculature. J Appl Physiol 1996 (radii and
lengths of the orders: 0.3 to 0.9 mm belong to branches of 5 to 20 mm)
"""

from __future__ import annotations

import numpy as np

from equipoise.engines.parts.grid import Grid
from equipoise.engines.parts.vessels import BLOOD_HU, vessel_share

RADIUS_MM = (0.3, 0.95)
LENGTH_MM = (6.0, 20.0)
"""Range of radii and lengths; thin ones are common, and as long as their radius allows."""
PER_TREE = 5.0
"""Branches without a label for each tree that starts in a litre of lung (`vessels`)."""
MOST_PLANES = 3
"""That a slice thicker than its pixels is averaged from."""


def add_small_vessels(
    scene: np.ndarray, lung: np.ndarray, grid: Grid, trees_per_litre: float, rng: np.random.Generator
) -> None:
    """Draw small vessels into the lung of a scene; they run outwards from the middle of each lung's inner side.

    Parameters
    ----------
    scene
        HU, shape ``(I, J, K)``; changed in place.
    lung
        Where parenchyma is, bool, of that shape.
    """
    at = np.flatnonzero(lung)
    if not len(at):
        return
    litres = (len(at) * grid.voxel[0] * grid.voxel[1] * (grid.voxel[2] * grid.shape[2] + LENGTH_MM[1])) / 1e6
    litres /= grid.shape[2]
    count = int(rng.poisson(PER_TREE * trees_per_litre * litres))
    chosen = np.column_stack(np.unravel_index(at[rng.integers(len(at), size=count)], scene.shape))
    middle = (chosen - (np.array(grid.shape) - 1) / 2) * grid.voxel
    middle[:, 2] += rng.uniform(-0.5, 0.5, count) * (LENGTH_MM[1] + grid.voxel[2])
    root = np.array([0.0, float(np.mean(middle[:, 1])), 0.0]) if count else np.zeros(3)
    toward = middle - root
    toward = toward / np.maximum(np.linalg.norm(toward, axis=1, keepdims=True), 1.0) + rng.normal(0, 0.6, (count, 3))
    toward /= np.maximum(np.linalg.norm(toward, axis=1, keepdims=True), 1e-6)
    thin = rng.random(count) ** 2
    radius = RADIUS_MM[0] + (RADIUS_MM[1] - RADIUS_MM[0]) * thin
    reach = toward * (LENGTH_MM[0] + (LENGTH_MM[1] - LENGTH_MM[0]) * thin * rng.uniform(0.5, 1, count))[:, None] / 2
    pieces = np.column_stack([middle - reach, middle + reach, radius, 0.7 * radius])
    planes = int(np.clip(np.round(grid.voxel[2] / grid.voxel[0]), 1, MOST_PLANES))
    fine = Grid((*grid.shape[:2], grid.shape[2] * planes), (*grid.voxel[:2], grid.voxel[2] / planes))
    share = vessel_share(pieces, fine).reshape(*grid.shape, planes).mean(axis=3)
    share *= lung
    scene += share * np.maximum(BLOOD_HU - scene, 0)


__all__ = ["add_small_vessels"]
