"""Shapes of lesions, and how they are painted at an exact size into what surrounds them.

A shape is a height over the voxels: how deep a place lies within an ideal body of lobules and spicules. Painting starts
at the centre and takes, again and again, the highest voxel that touches what is painted, until the size is reached. So
a lesion is always one piece, measures what was asked for whatever the grid, and where it meets a border that it cannot
cross, such as the pleura, it lies flat against it and grows elsewhere.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, replace

import numpy as np
from numba import njit

from equipoise.engines.parts.grid import Grid, power_law
from equipoise.engines.parts.nodule import Nodule, draw_nodule

LOBULES = 0.22
"""SD of the radius by lobules at a lobulation of 1, as a fraction of it."""
SPICULES = (9.0, 40.0)
"""Mean number of spicules at a spiculation of 1, in a slice and in a volume: as many are cut by a slice."""
HEIGHTS = (0.25, 0.7)
"""Range of their heights, as fractions of the radius."""
RAGGED = 0.45
"""SD of the border's place at a margin of 1, as a fraction of the radius."""


@dataclass(frozen=True)
class Look:
    """How one lesion is shaped.

    Parameters
    ----------
    size
        Diameter in mm of the sphere, in a slice of the circle, of equal size; of a line its length.
    sphericity
        Cube root of the product of the shorter two axes over the square of the longest (Krumbein's intercept
        sphericity); in a slice the square root of the shorter over the longer axis. 1 is round.
    spiculation, lobulation, margin
        0 to 1.

    References
    ----------
    Krumbein WC. Measurement and geological significance of shape and roundness of sedimentary particles. J Sediment
    Petrol 1941;11:64-72. doi:10.1306/D42690F3-2B26-11D7-8648000102C1865D
    """

    size: float
    sphericity: float = 1.0
    spiculation: float = 0.0
    lobulation: float = 0.0
    margin: float = 0.0


def draw_shape(centre: np.ndarray, look: Look, flat: bool, rng: np.random.Generator) -> Nodule:
    """Draw a body that looks as asked, centred at ``centre`` in mm; in a slice (``flat``) it lies in the plane."""
    body = draw_nodule(centre, look.size, 0.0, LOBULES * look.lobulation, 0.0, rng)
    if flat:
        axes, turn = np.array([1.0, look.sphericity**2, 1.0]), np.eye(3)
        angle = rng.uniform(0, 2 * np.pi)
        turn[:2, :2] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
        axes[:2] /= math.sqrt(axes[1])
    else:
        # From a rod (both shorter axes alike) to a disc (two long ones), all of one sphericity.
        between = rng.random()
        axes = look.sphericity ** np.array([0.0, 1.5 * (1 - between), 1.5 * (1 + between)])
        axes /= np.cbrt(axes.prod())
        turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    spikes = rng.standard_normal((int(rng.poisson(SPICULES[0 if flat else 1] * look.spiculation)), 3))
    if flat:
        spikes[:, 2] = 0
    spikes /= np.linalg.norm(spikes, axis=1, keepdims=True)
    heights = rng.uniform(*HEIGHTS, len(spikes)) * (0.5 + 0.5 * look.spiculation)
    return replace(body, frame=turn / axes[:, None], spikes=spikes, heights=heights)


def heights_of(
    body: Nodule, points: np.ndarray, voxel: np.ndarray, margin: float, rng: np.random.Generator
) -> np.ndarray:
    """Return how deep points lie in a body whose border is ragged, in mm, float64 ``(i, j, k)``.

    Parameters
    ----------
    body
        The shape.
    points
        mm, shape ``(i, j, k, 3)``: a block of the grid.
    voxel
        Its voxels in mm.
    margin
        0: as sharp as the grid; 1: an ill-defined border.
    """
    depth = body.depth(points)
    if margin > 0:
        shape = (points.shape[0], points.shape[1], points.shape[2])
        grid = Grid(shape, (float(voxel[0]), float(voxel[1]), float(voxel[2])))
        depth = depth + RAGGED * margin * body.radius * power_law(grid, 4.0, 0.7 * body.radius, rng)
    return depth


def crack_heights(
    centre: np.ndarray, points: np.ndarray, look: Look, width: float, flat: bool, rng: np.random.Generator
) -> np.ndarray:
    """Return heights above 0 within a crack: a rough sheet through the centre, as long as ``look.size``.

    Parameters
    ----------
    width
        In mm; in a voxel grid it is at least as wide as one voxel, or it would have holes.
    """
    normal = rng.standard_normal(3)
    if flat:
        normal[2] = 0.0
    normal /= np.linalg.norm(normal)
    local = points - centre
    away = local @ normal
    along = local - away[..., None] * normal
    # A break runs in steps: three waves across it whose slopes stay small, so that it has no folds.
    for octave in (1, 2, 4):
        wave = rng.standard_normal(3)
        wave -= (wave @ normal) * normal
        wave /= max(float(np.linalg.norm(wave)), 1e-9)
        turns = 2 * np.pi * octave / look.size
        away = away + (0.02 + 0.18 * look.margin) / turns * np.sin(turns * (along @ wave) + rng.uniform(0, 2 * np.pi))
    reach = look.size / 2 - np.linalg.norm(along, axis=-1)
    height: np.ndarray = np.minimum(width / 2 - np.abs(away), reach)
    return height


def grow(height: np.ndarray, allowed: np.ndarray, start: tuple[int, int, int], count: int, floor: float) -> np.ndarray:
    """Return the connected voxels that a rising lesion fills first, bool ``(i, j, k)``.

    Parameters
    ----------
    height
        The highest are filled first.
    allowed
        Where it may grow.
    start
        First voxel; it has to be allowed.
    count
        Voxels to fill; fewer where it runs out of what is allowed.
    floor
        Lowest height that is filled.
    """
    filled = np.zeros(height.shape, np.bool_)
    _grow(np.ascontiguousarray(height, np.float64), np.ascontiguousarray(allowed), *start, count, floor, filled)
    return filled


@njit(cache=True, nogil=True)
def _grow(height, allowed, si, sj, sk, count, floor, filled):  # type: ignore[no-untyped-def]
    ni, nj, nk = height.shape
    queued = np.zeros(height.shape, np.bool_)
    queued[si, sj, sk] = True
    heap = [(-height[si, sj, sk], si, sj, sk)]
    while len(heap) > 0 and count > 0:
        _, i, j, k = heapq.heappop(heap)
        filled[i, j, k] = True
        count -= 1
        for axis in range(3):
            for side in (-1, 1):
                a = i + (side if axis == 0 else 0)
                b = j + (side if axis == 1 else 0)
                c = k + (side if axis == 2 else 0)
                if a < 0 or b < 0 or c < 0 or a >= ni or b >= nj or c >= nk:
                    continue
                if allowed[a, b, c] and not queued[a, b, c] and height[a, b, c] > floor:
                    queued[a, b, c] = True
                    heapq.heappush(heap, (-height[a, b, c], a, b, c))


def diameter_of(voxels: int, spacing: np.ndarray, flat: bool) -> float:
    """Return the diameter in mm of the sphere, in a slice of the circle, as large as so many voxels."""
    if flat:
        return 2 * math.sqrt(voxels * float(spacing[0] * spacing[1]) / math.pi)
    return 2 * float(np.cbrt(voxels * float(np.prod(spacing)) * 0.75 / math.pi))


def voxels_of(diameter: float, spacing: np.ndarray, flat: bool) -> float:
    """Return how many voxels, as a fraction, a sphere or circle of a diameter in mm fills."""
    if flat:
        return math.pi / 4 * diameter**2 / float(spacing[0] * spacing[1])
    return math.pi / 6 * diameter**3 / float(np.prod(spacing))


def length_of(mask: np.ndarray, spacing: np.ndarray) -> float:
    """Return the longest distance between two voxels of an object, plus the voxel's own size, in mm."""
    at = np.argwhere(mask) * spacing
    # The ends lie farthest along some direction; 400 of them find a distance to within 1 %.
    golden = np.arange(400) * math.pi * (3 - math.sqrt(5))
    z = np.linspace(-1, 1, 400)
    ring = np.sqrt(1 - z**2)
    shadows = at @ np.stack([ring * np.cos(golden), ring * np.sin(golden), z])
    return float(np.ptp(shadows, axis=0).max() + spacing[: 2 if mask.shape[2] == 1 else 3].min())


__all__ = ["Look", "crack_heights", "diameter_of", "draw_shape", "grow", "heights_of", "length_of", "voxels_of"]
