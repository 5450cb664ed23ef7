"""What surrounds a lung nodule on CT: parenchyma, vessel trees, chest wall. All values in HU, lengths in mm.

References
----------
Hansell DM et al. Fleischner Society: glossary of terms for thoracic imaging. Radiology 2008.
doi:10.1148/radiol.2462070712
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.engines.parts.chest_wall import place_wall, wall_hu
from equipoise.engines.parts.grid import Grid, power_law
from equipoise.engines.parts.vessels import grow_vessels, vessel_share


@dataclass(frozen=True, eq=False)
class Surroundings:
    """A drawn background, arrays of the grid's shape, float32.

    Parameters
    ----------
    parenchyma
        HU about the lung's mean.
    vessel, wall
        Share of each voxel that they fill.
    tissue
        HU of what lies outside the pleura.
    """

    parenchyma: np.ndarray
    vessel: np.ndarray
    tissue: np.ndarray
    wall: np.ndarray


@dataclass(frozen=True)
class LungModel:
    """What the lung looks like where nothing is labelled.

    Parameters
    ----------
    texture_hu
        Standard deviation of the parenchyma's fine structure.
    vessels
        Vessel trees that start in a litre of lung.
    pleural
        Share of cases whose outermost label touches the pleura.
    wall_mm
        Mean distance (exponential) of the others from it.
    fed
        Share of labelled objects that a vessel runs to.
    """

    texture_hu: float
    vessels: float
    pleural: float
    wall_mm: float
    fed: float

    def draw(
        self, grid: Grid, points: np.ndarray, objects: Sequence[tuple[np.ndarray, float]], rng: np.random.Generator
    ) -> Surroundings:
        """Draw the surroundings of labelled objects.

        Parameters
        ----------
        points
            I-J coordinates in mm of the labelled voxels, shape ``(n, 2)``: the wall leaves them free.
        objects
            Centre (3 coordinates) and radius of each object, in mm.
        """
        # A stream for each part, so that a parameter of one does not shift the draws of the others.
        place, wall_stream, fine, trees = rng.spawn(4)
        touches, gap = place.random() < self.pleural, self.wall_mm * place.exponential()
        wall = place_wall(points, 0.0 if touches else gap, place)
        feeds = [o for o, u in zip(objects, place.random(len(objects)), strict=True) if u < self.fed]
        gravity, slope = place.uniform(0, 2 * np.pi), place.uniform(0.0, 1.2)  # HU/mm: dependent lung is denser
        downhill = slope * (np.cos(gravity) * grid.axis(0)[:, None] + np.sin(gravity) * grid.axis(1))
        parenchyma = self.texture_hu * power_law(grid, 2.2, 12.0, fine) + downhill[..., None].astype(np.float32)
        vessel = vessel_share(grow_vessels(grid, self.vessels, wall, feeds, trees), grid)
        tissue, share = wall_hu(wall, grid, wall_stream)
        return Surroundings(parenchyma, vessel, tissue, share)


__all__ = ["LungModel", "Surroundings"]
