"""Outlines of masks: marching squares, and as few points as a screen can show."""

from __future__ import annotations

import math

import contourpy
import numpy as np


def marching_squares(
    mask: np.ndarray, factors: tuple[int, int] = (1, 1), tolerance: float = 0.0
) -> list[list[list[float]]]:
    """Return the closed outlines of a mask, in pixels of the reduced picture.

    The corner of the picture is ``(0, 0)``, so the centre of its first pixel is ``(0.5, 0.5)``. An outline runs
    half-way between a pixel inside and its neighbour outside.

    Parameters
    ----------
    mask
        Bool, shape ``(rows, columns)``.
    factors
        Rows and columns that one pixel of the picture stands for.
    tolerance
        How far a simplified outline may lie from the exact one, in pixels of the picture.

    References
    ----------
    Maple C. Geometric design and space planning using the marching squares and marching cube algorithms. 2003.
    doi:10.1109/GMAG.2003.1219671
    """
    if not mask.any():
        return []
    padded = np.pad(mask.astype(np.float64), 1)
    lines = contourpy.contour_generator(z=padded, line_type=contourpy.LineType.Separate).lines(0.5)
    paths = []
    for line in lines:
        x, y = (np.asarray(line)[:, i] - 0.5 for i in (0, 1))
        keep = _simplified(np.column_stack([x / factors[1], y / factors[0]]), tolerance).round(2)
        if len(keep) > 2:
            paths.append([[float(px), float(py)] for px, py in keep])
    return paths


def _simplified(ring: np.ndarray, tolerance: float) -> np.ndarray:
    """Return a closed path with the fewest points that stay within ``tolerance`` of it.

    References
    ----------
    Douglas DH, Peucker TK. Algorithms for the reduction of the number of points required to represent a digitized line
    or its caricature. Cartographica 1973. doi:10.3138/FM57-6770-U75U-7727
    """
    points = ring[:-1] if len(ring) > 1 and np.array_equal(ring[0], ring[-1]) else ring
    if len(points) < 4:
        return points
    # A ring has no ends: it is cut at its first point and at the point farthest from it.
    far = int(np.argmax(((points - points[0]) ** 2).sum(axis=1)))
    closed = np.vstack([points, points[:1]])
    keep = np.zeros(len(closed), bool)
    keep[[0, far, -1]] = True
    spans = [(0, far), (far, len(closed) - 1)]
    while spans:
        start, end = spans.pop()
        if end - start < 2:
            continue
        chord = closed[end] - closed[start]
        away = closed[start + 1 : end] - closed[start]
        length = math.hypot(chord[0], chord[1])
        distance = np.abs(away[:, 0] * chord[1] - away[:, 1] * chord[0]) / length if length else np.hypot(*away.T)
        worst = int(np.argmax(distance))
        if distance[worst] > tolerance:
            middle = start + 1 + worst
            keep[middle] = True
            spans += [(start, middle), (middle, end)]
    return closed[:-1][keep[:-1]]
