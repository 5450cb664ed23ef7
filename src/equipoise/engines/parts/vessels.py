"""Vessel trees of the lung, grown from the hilum towards the pleura. Lengths in mm.

References
----------
Murray CD. The physiological principle of minimum work. PNAS 1926. doi:10.1073/pnas.12.3.207 (r³ = r1³ + r2³)
Huang W, Yen RT, McLaurine M, Bledsoe G. Morphometry of the human pulmonary vasculature. J Appl Physiol 1996.
doi:10.1152/jappl.1996.81.5.2123 (radii and lengths of the orders)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from equipoise.engines.parts.chest_wall import Wall
from equipoise.engines.parts.grid import Grid

BLOOD_HU = 40.0
SMALLEST_VESSEL_MM = 0.3
"""Radius at which a branch ends; thinner ones are part of the parenchyma's texture."""
PLEURA_FREE_MM = 4.0
"""Breadth of lung below the pleura in which no vessel is seen."""
_REACH_MM = 20.0
_FEED_MM = 60.0


def grow_vessels(
    grid: Grid, per_litre: float, wall: Wall, feed: Sequence[tuple[np.ndarray, float]], rng: np.random.Generator
) -> np.ndarray:
    """Draw the vessel trees that cross a grid: they grow away from the hilum and end before the pleura.

    Parameters
    ----------
    per_litre
        Trees that start in a litre of lung.
    wall
        The pleura; the hilum lies opposite.
    feed
        Places (mm) and radii (mm) of nodules that a vessel runs to.

    Returns
    -------
    numpy.ndarray
        Straight tapering pieces, shape ``(n, 8)``: start and end (mm) and radius (mm) at both.
    """
    outward = np.array([np.cos(wall.direction), np.sin(wall.direction), 0.0])
    reach = grid.half + _REACH_MM
    count = int(rng.poisson(per_litre * np.prod(2 * reach) / 1e6))
    at = rng.uniform(-reach, reach, (count, 3))
    toward = _unit(outward + 0.45 * rng.standard_normal((count, 3)))
    # Few large trees, many small ones; the nearer to the pleura, the thinner.
    radius = np.minimum(0.55 * (1 - rng.random(count)) ** -0.5, 2.6)
    radius *= np.clip(-wall.depth(at[:, 0], at[:, 1]) / 50, 0.3, 1)
    pieces = [_feeding(place, size, outward, rng) for place, size in feed]
    while len(at):
        end, heading, piece = _one_generation(at, toward, radius, rng)
        pieces.append(piece)
        at, toward, radius = _branch(end, heading, piece[:, 7], rng)
        near = (np.abs(at) <= reach + 5).all(axis=1) & (radius >= SMALLEST_VESSEL_MM)
        near &= wall.depth(at[:, 0], at[:, 1]) < -PLEURA_FREE_MM
        at, toward, radius = at[near], toward[near], radius[near]
    return np.concatenate([np.zeros((0, 8)), *pieces])


def _feeding(place: np.ndarray, size: float, outward: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the pieces of a vessel that runs from the hilum's side to a nodule of radius ``size``."""
    heading = _unit(outward + 0.4 * rng.standard_normal(3))
    start = place - _FEED_MM * heading
    width = float(np.clip(0.25 * size, 0.6, 1.5))
    bend = (start + place) / 2 + 2.0 * rng.standard_normal(3)
    return np.array([[*start, *bend, 1.2 * width, width], [*bend, *place, width, 0.9 * width]])


def _one_generation(
    at: np.ndarray, toward: np.ndarray, radius: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return end, direction and pieces of one generation: each vessel is bent once on its way."""
    n = len(at)
    length = radius * rng.uniform(4.5, 10.0, n) + 1.0
    middle = at + toward * length[:, None] / 2
    heading = _unit(toward + 0.18 * rng.standard_normal((n, 3)))
    end = middle + heading * length[:, None] / 2
    waist, tip = 0.96 * radius, 0.92 * radius
    first = np.column_stack([at, middle, radius, waist])
    return end, heading, np.concatenate([np.column_stack([middle, end, waist, tip]), first])


def _branch(
    end: np.ndarray, heading: np.ndarray, tips: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return starts, directions and radii of two daughters per vessel; the thinner one turns more (Murray)."""
    n = len(end)
    parent = tips[:n]
    ratio = rng.uniform(0.35, 1.0, n)
    major = parent / np.cbrt(1 + ratio**3)
    side = _unit(np.cross(heading, rng.standard_normal((n, 3))))
    small, large = np.tan(np.radians(rng.uniform(30, 60, n))), np.tan(np.radians(rng.uniform(8, 25, n)))
    daughters = np.concatenate([_unit(heading + side * large[:, None]), _unit(heading - side * small[:, None])])
    return np.concatenate([end, end]), daughters, np.concatenate([major, ratio * major])


def vessel_share(pieces: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the share of each voxel that vessels fill, ``grid.shape``, float32."""
    share = np.zeros(grid.shape, np.float32)
    blur = grid.voxel[0]
    wide = np.maximum(pieces[:, 6], pieces[:, 7])[:, None] + blur
    low = (np.minimum(pieces[:, :3], pieces[:, 3:6]) - wide + grid.half) / grid.voxel - 0.5
    high = (np.maximum(pieces[:, :3], pieces[:, 3:6]) + wide + grid.half) / grid.voxel - 0.5
    start = np.maximum(np.ceil(low), 0).astype(np.int64)
    stop = np.minimum(np.floor(high) + 1, grid.shape).astype(np.int64)
    seen = (start < stop).all(axis=1)
    _fill(share, np.array(grid.voxel), grid.half, np.ascontiguousarray(pieces[seen]), start[seen], stop[seen])
    return share


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fill(
    share: np.ndarray, voxel: np.ndarray, half: np.ndarray, pieces: np.ndarray, start: np.ndarray, stop: np.ndarray
) -> None:
    """Raise ``share`` to what each piece fills of the voxels of its box."""
    for n in range(pieces.shape[0]):
        a, line, thick = pieces[n, :3], pieces[n, 3:6] - pieces[n, :3], pieces[n, 7] - pieces[n, 6]
        square = max(line[0] ** 2 + line[1] ** 2 + line[2] ** 2, 1e-9)
        for i in range(start[n, 0], stop[n, 0]):
            x = (i + 0.5) * voxel[0] - half[0] - a[0]
            for j in range(start[n, 1], stop[n, 1]):
                y = (j + 0.5) * voxel[1] - half[1] - a[1]
                for k in range(start[n, 2], stop[n, 2]):
                    z = (k + 0.5) * voxel[2] - half[2] - a[2]
                    t = min(max((x * line[0] + y * line[1] + z * line[2]) / square, 0.0), 1.0)
                    away = (x - t * line[0]) ** 2 + (y - t * line[1]) ** 2 + (z - t * line[2]) ** 2
                    r = pieces[n, 6] + t * thick
                    cover = min(max((r - np.sqrt(away)) / voxel[0] + 0.5, 0.0), 1.0)
                    # A vessel thinner than a voxel fills a part of it: its area, not a full voxel.
                    cover *= min(1.0, (2 * r / voxel[0]) ** 2)
                    share[i, j, k] = max(share[i, j, k], cover)


def _unit(v: np.ndarray) -> np.ndarray:
    return np.asarray(v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9))


__all__ = ["BLOOD_HU", "grow_vessels", "vessel_share"]
