"""Shapes of lung nodules: ellipsoids with lobules and spicules.

The radius of a nodule is a function of direction. Lobulation is a random sum of zonal spherical harmonics (Legendre
polynomials about random poles, degrees 2 to 6), spiculation a few narrow cones.

References
----------
Hansell DM et al. Fleischner Society: glossary of terms for thoracic imaging. Radiology 2008.
doi:10.1148/radiol.2462070712 (a nodule measures up to 30 mm; spicules, lobulation)
Armato SG et al. The Lung Image Database Consortium (LIDC). Med Phys 2011. doi:10.1118/1.3528204 (3 mm and more)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import eval_legendre

from equipoise.core import LabelMap
from equipoise.engines.parts.grid import Grid

SMALLEST_MM, LARGEST_MM = 3.0, 30.0
_DEGREES = np.arange(2, 7)


@dataclass(frozen=True)
class Nodule:
    """One nodule as a function of place.

    Parameters
    ----------
    center
        In mm, in the frame of the grid.
    radius
        Of the sphere of about equal volume, before lobules and spicules, in mm.
    frame
        3 x 3: rows are the half axes' directions divided by their relative lengths.
    poles, weights
        Of the lobules, shapes ``(n, 3)`` and ``(n,)``: a pole for each harmonic, of degrees 2, 3, … 6, 2, 3, ….
    spikes, heights
        Directions ``(m, 3)`` and heights ``(m,)`` of the spicules, in units of the radius.
    """

    center: np.ndarray
    radius: float
    frame: np.ndarray
    poles: np.ndarray
    weights: np.ndarray
    spikes: np.ndarray
    heights: np.ndarray

    def depth(self, points: np.ndarray) -> np.ndarray:
        """Return how far points lie inside the surface along their radius, in mm (negative outside).

        Parameters
        ----------
        points
            In mm, shape ``(..., 3)``.
        """
        local = (points - self.center) @ self.frame.T
        r = np.linalg.norm(local, axis=-1)
        direction = local / np.maximum(r, 1e-6)[..., None]
        surface = np.ones(r.shape)
        for degree, pole, weight in zip(np.resize(_DEGREES, len(self.weights)), self.poles, self.weights, strict=True):
            surface += weight * eval_legendre(degree, np.clip(direction @ pole, -1, 1))
        surface = np.maximum(surface, 0.4)  # a deep notch must not cut the nodule in two
        for spike, height in zip(self.spikes, self.heights, strict=True):
            surface += height * np.exp(60.0 * (direction @ spike - 1))
        return np.asarray(self.radius * surface - r)


def draw_nodule(
    center: np.ndarray,
    diameter: float,
    elongation: float,
    lobulation: float,
    spicules: float,
    rng: np.random.Generator,
) -> Nodule:
    """Draw a nodule.

    Parameters
    ----------
    center
        In mm.
    diameter
        Of the sphere of equal volume, in mm.
    elongation
        Standard deviation of the logarithm of the half axes.
    lobulation
        Standard deviation of the radius by lobules, as a fraction of it.
    spicules
        Mean number of spicules (Poisson).
    """
    axes = np.exp(elongation * rng.standard_normal(3))
    axes /= np.cbrt(axes.prod())
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    count = 2 * len(_DEGREES)
    degree = np.resize(_DEGREES, count)
    # The mean square of P_l on the sphere is 1/(2l+1); amplitudes fall with the degree, as a smooth surface's do.
    weights = rng.standard_normal(count) * np.sqrt(2 * degree + 1) / degree**1.5
    weights *= lobulation / np.sqrt(np.sum(1 / degree**3))
    spikes = _directions(int(rng.poisson(spicules)), rng)
    heights = rng.uniform(0.25, 0.8, len(spikes))
    return Nodule(
        np.asarray(center, float), diameter / 2, turn / axes[:, None], _directions(count, rng), weights, spikes, heights
    )


def draw_diameter(median: float, log_sd: float, rng: np.random.Generator) -> float:
    """Draw a diameter in mm: log-normal, within the bounds of what is called a nodule (3 to 30 mm)."""
    return float(np.clip(median * np.exp(log_sd * rng.standard_normal()), SMALLEST_MM, LARGEST_MM))


def paint(nodules: Sequence[Nodule], grid: Grid) -> np.ndarray:
    """Return instance numbers, ``grid.shape``, uint8: voxels whose centre lies in a nodule, at least one each.

    A nodule smaller than the grid can show fills the voxel nearest to its centre, so that no map is empty.
    """
    out = np.zeros(grid.shape, np.uint8)
    for number, nodule in reversed(list(enumerate(nodules, 1))):  # the first is painted last: it is never hidden
        reach = 3 * nodule.radius
        box = tuple(
            slice(*np.searchsorted(grid.axis(k), nodule.center[k] + np.array([-reach, reach]))) for k in range(3)
        )
        axes = [grid.axis(k)[box[k]] for k in range(3)]
        inside = nodule.depth(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)) > 0
        if inside.any():
            out[box][inside] = number
        else:
            out[tuple(int(np.abs(grid.axis(k) - nodule.center[k]).argmin()) for k in range(3))] = number
    return out


def diameters_of(labels: LabelMap) -> list[float]:
    """Return the diameter in mm of every object: of the circle (slice) or sphere (volume) of equal size."""
    di, dj, dk = labels.spacing
    sizes = []
    for channel in labels.array:
        counts = np.bincount(channel.astype(np.int64).ravel())[1:]
        for voxels in counts[counts > 0]:
            if labels.geometry.ndim == 2:
                sizes.append(2 * float(np.sqrt(voxels * di * dj / np.pi)))
            else:
                sizes.append(2 * float(np.cbrt(voxels * di * dj * dk * 0.75 / np.pi)))
    return sizes


def _directions(n: int, rng: np.random.Generator) -> np.ndarray:
    v = rng.standard_normal((n, 3))
    return np.asarray(v / np.linalg.norm(v, axis=1, keepdims=True))
