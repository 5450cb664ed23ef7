"""Vessel trees that fill an organ: every branch supplies a share of its points, and splits where they part."""

from __future__ import annotations

import numpy as np
from numba import njit

from equipoise.engines.anatomy.torso.body import Profiles
from equipoise.engines.anatomy.torso.canvas import Canvas
from equipoise.engines.anatomy.torso.filling import CODES, codes_at
from equipoise.engines.anatomy.torso.organs import HILA
from equipoise.engines.anatomy.torso.structures import LOBES, index_of, indices_of

MURRAY = 2.8
"""Exponent k of r^k = Σ r_i^k at a branching: between Murray's 3 and what lungs show (2.7, Huang 1996)."""


def grow_tree(
    root: np.ndarray, points: np.ndarray, radius: float, rng: np.random.Generator, reach: float = 0.45
) -> np.ndarray:
    """Grow a tree from a root to points.

    A branch runs some way towards the middle of the points that it supplies; these are then parted across their
    longest extent, and each part gets a branch whose radius follows from the number of its points (Murray's law).

    Parameters
    ----------
    root
        Start, mm.
    points
        Ends, mm, shape ``(n, 3)``.
    radius
        Of the root, mm.
    reach
        Share of the way to the middle of the points that a branch runs before it parts.

    Returns
    -------
    numpy.ndarray
        Straight tapering pieces: start, end, and radius at both, shape ``(m, 8)``.

    References
    ----------
    Kitaoka H, Takaki R, Suki B. A three-dimensional model of the human airway tree. J Appl Physiol 1999.
    doi:10.1152/jappl.1999.87.6.2207
    """
    if not len(points):
        return np.zeros((0, 8))
    count = 2 * len(points)
    jitter, cuts = rng.standard_normal((count, 3)), rng.uniform(0.32, 0.68, count)
    return np.asarray(_grow(np.asarray(root, float), np.asarray(points, float), radius, reach, jitter, cuts))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _grow(
    root: np.ndarray, points: np.ndarray, radius: float, reach: float, jitter: np.ndarray, cuts: np.ndarray
) -> np.ndarray:
    total = len(points)
    points = points.copy()
    pieces = np.empty((2 * total, 8))
    # Work: first and last but one of the points (each branch's lie side by side), and where the branch starts.
    first, last, starts = np.zeros(2 * total, np.int64), np.zeros(2 * total, np.int64), np.empty((2 * total, 3))
    first[0], last[0], starts[0] = 0, total, root
    waiting, done = 1, 0
    while waiting > 0:
        waiting -= 1
        low, high = first[waiting], last[waiting]
        start = starts[waiting].copy()
        mine = points[low:high]
        n = high - low
        thick = radius * (n / total) ** (1 / MURRAY)
        middle = np.zeros(3)
        for p in range(n):
            middle += mine[p] / n
        pieces[done, :3], pieces[done, 6] = start, thick
        if n == 1:
            pieces[done, 3:6], pieces[done, 7] = middle, 0.75 * thick
            done += 1
            continue
        # Trunks part early, small branches run on.
        run = (0.55 * reach if n > 0.12 * total else reach) * (middle - start)
        end = start + run + 0.09 * np.sqrt((run**2).sum()) * jitter[done]
        pieces[done, 3:6], pieces[done, 7] = end, 0.95 * thick
        order = np.argsort(_longest(mine, middle))
        mine[:] = mine[order].copy()
        cut = low + min(max(np.int64(np.rint(n * cuts[done])), 1), n - 1)
        for a, b in ((low, cut), (cut, high)):
            first[waiting], last[waiting], starts[waiting] = a, b, end
            waiting += 1
        done += 1
    return pieces[:done]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _longest(points: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Return the place of points along their longest extent (power iteration on their covariance)."""
    cov = np.zeros((3, 3))
    for p in range(len(points)):
        for a in range(3):
            for b in range(3):
                cov[a, b] += (points[p, a] - middle[a]) * (points[p, b] - middle[b])
    axis = np.array([0.58, 0.57, 0.59])
    for _ in range(12):
        turned = np.zeros(3)
        for a in range(3):
            for b in range(3):
                turned[a] += cov[a, b] * axis[b]
        axis = turned / max(np.sqrt((turned**2).sum()), 1e-12)
    along = np.empty(len(points))
    for p in range(len(points)):
        along[p] = (
            (points[p, 0] - middle[0]) * axis[0]
            + (points[p, 1] - middle[1]) * axis[1]
            + (points[p, 2] - middle[2]) * axis[2]
        )
    return along


def paint_lung_vessels(canvas: Canvas, profiles: Profiles, ends: int, rng: np.random.Generator) -> None:
    """Paint the arteries and veins of both lungs, each with about ``ends`` ends, out to 6 mm below the pleura."""
    lungs = indices_of(*LOBES)
    index = index_of("lung vessel")
    for side, hilum in zip((-1, 1), HILA, strict=True):
        (stream,) = rng.spawn(1)
        points = _points_in_lung(profiles, side, 2 * ends, stream)
        above = points[:, 2] > hilum[2] + 5
        for vein in (False, True):
            half = stream.random(len(points)) < 0.5
            for upper, lift in ((True, 8.0), (False, -16.0)):
                mine = points[half & (above == upper)]
                # Veins enter lower and further to the front than the arteries leave.
                root = hilum + np.array([side * 4.0, -10.0 if vein else 4.0, lift - (20 if vein else 0)])
                radius = (6.0 if upper else 7.6) * (0.92 if vein else 1.0)
                canvas.pieces(index, grow_tree(root, mine, radius, stream, 0.4), lungs)


def paint_liver_vessels(canvas: Canvas, profiles: Profiles, ends: int, rng: np.random.Generator) -> None:
    """Paint the portal tree and the hepatic veins."""
    right = float(profiles.domes[0])
    liver = [index_of("liver")]
    cloud = np.array([-58.0, -8.0, right - 48]) + rng.uniform(-1, 1, (6 * ends, 3)) * [85, 70, 62]
    inside = (((cloud - [-60, -6, right - 48]) / [74, 74, 60]) ** 2).sum(axis=1) < 0.8
    cloud = cloud[inside]
    half = rng.random(len(cloud)) < 0.5
    for mine, root, radius in ((cloud[half], [-22, 0, right - 62], 6.5), (cloud[~half], [-22, 8, right - 16], 6.0)):
        canvas.pieces(index_of("liver vessel"), grow_tree(np.array(root), mine[:ends], radius, rng, 0.42), liver)


def _points_in_lung(profiles: Profiles, side: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return places in one lung, evenly spread, 6 mm and more from its surface."""
    found = np.zeros((0, 3))
    lobes = CODES[4:]
    while len(found) < count:
        points = rng.uniform([0, -110, -190], [150, 110, 160], (6 * count, 3)) * [side, 1, 1]
        inside = np.isin(codes_at(points, profiles), lobes)
        for push in ([6.0, 0, 0], [-6.0, 0, 0], [0, 6.0, 0], [0, -6.0, 0], [0, 0, 6.0], [0, 0, -6.0]):
            inside[inside] = np.isin(codes_at(points[inside] + push, profiles), lobes)
        found = np.concatenate([found, points[inside]])
    return found[:count]


__all__ = ["MURRAY", "grow_tree", "paint_liver_vessels", "paint_lung_vessels"]
