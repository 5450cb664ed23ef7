"""What surrounds a lung nodule on CT: parenchyma, vessel trees, chest wall with ribs. All values in HU, lengths in mm.

References
----------
Murray CD. The physiological principle of minimum work. PNAS 1926. doi:10.1073/pnas.12.3.207 (r³ = r1³ + r2³)
Huang W, Yen RT, McLaurine M, Bledsoe G. Morphometry of the human pulmonary vasculature. J Appl Physiol 1996.
doi:10.1152/jappl.1996.81.5.2123 (radii and lengths of the orders)
Hansell DM et al. Fleischner Society: glossary of terms for thoracic imaging. Radiology 2008.
doi:10.1148/radiol.2462070712
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numba import njit

BLOOD_HU, MUSCLE_HU, FAT_HU, MARROW_HU, CORTEX_HU, AIR_HU = 40.0, 55.0, -100.0, 180.0, 800.0, -1000.0
SMALLEST_VESSEL_MM = 0.3
"""Radius at which a branch ends; thinner ones are part of the parenchyma's texture."""
PLEURA_FREE_MM = 4.0
"""Breadth of lung below the pleura in which no vessel is seen."""
_REACH_MM = 20.0
_FEED_MM = 60.0


@dataclass(frozen=True)
class Grid:
    """Voxel centres about the origin.

    Parameters
    ----------
    shape
        ``(I, J, K)``.
    voxel
        Size along I, J, K in mm.
    """

    shape: tuple[int, int, int]
    voxel: tuple[float, float, float]

    @property
    def half(self) -> np.ndarray:
        """Half the extent along I, J, K in mm."""
        return np.array(self.shape) * self.voxel / 2

    def axis(self, k: int) -> np.ndarray:
        """Return the coordinates along one axis in mm."""
        return (np.arange(self.shape[k]) - (self.shape[k] - 1) / 2) * self.voxel[k]


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


def power_law(grid: Grid, exponent: float, longest: float, rng: np.random.Generator) -> np.ndarray:
    """Return a Gaussian random field of mean 0 and variance 1, power ~ 1/(f² + 1/longest²)^(exponent/2), float32.

    Such spectra describe anatomical background (Burgess et al., Med Phys 2001, doi:10.1118/1.1355308).
    """
    f = [scipy.fft.fftfreq(n, d) for n, d in zip(grid.shape, grid.voxel, strict=True)]
    half = np.abs(f[1][: grid.shape[1] // 2 + 1])  # the real transform keeps half of the second axis
    f2 = f[0][:, None, None] ** 2 + half[None, :, None] ** 2 + f[2][None, None] ** 2
    gain = ((f2 + longest**-2.0) ** (-exponent / 4)).astype(np.float32)
    # Divided by its expected, not its sample, spread: a small grid may hold a calm or a restless piece of lung.
    twice = np.where((half == 0) | (2 * np.arange(len(half)) == grid.shape[1]), 1, 2)[None, :, None]
    gain /= np.sqrt((gain**2 * twice).sum() / np.prod(grid.shape))
    axes = (0, 2, 1)
    spectrum = scipy.fft.rfftn(rng.standard_normal(grid.shape, np.float32), axes=axes) * gain
    return np.asarray(scipy.fft.irfftn(spectrum, s=[grid.shape[k] for k in axes], axes=axes), np.float32)


def _unit(v: np.ndarray) -> np.ndarray:
    return np.asarray(v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9))


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
