"""Solids that the head is put together from: signed distances in mm, negative inside, and how two of them blend."""

from __future__ import annotations

import math

from numba import njit


@njit(cache=True, nogil=True)
def ellipsoid(x, y, z, e):  # type: ignore[no-untyped-def]
    """Return about the distance from an ellipsoid ``(cx, cy, cz, rx, ry, rz)``: exact at its surface."""
    u, v, w = (x - e[0]) / e[3], (y - e[1]) / e[4], (z - e[2]) / e[5]
    far = math.sqrt(u * u + v * v + w * w)
    u, v, w = u / e[3], v / e[4], w / e[5]
    slope = math.sqrt(u * u + v * v + w * w)
    return far * (far - 1.0) / slope if slope > 1e-9 else -min(e[3], e[4], e[5])


@njit(cache=True, nogil=True)
def chain(x, y, z, points):  # type: ignore[no-untyped-def]
    """Return the distance from a tube along points ``(P, 4)`` of place and radius, which changes linearly between."""
    best = 1e9
    for n in range(points.shape[0] - 1):
        a, b = points[n], points[n + 1]
        dx, dy, dz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        t = ((x - a[0]) * dx + (y - a[1]) * dy + (z - a[2]) * dz) / (dx * dx + dy * dy + dz * dz)
        t = min(max(t, 0.0), 1.0)
        px, py, pz = x - a[0] - t * dx, y - a[1] - t * dy, z - a[2] - t * dz
        best = min(best, math.sqrt(px * px + py * py + pz * pz) - a[3] - t * (b[3] - a[3]))
    return best


@njit(cache=True, nogil=True)
def blend(a, b, width):  # type: ignore[no-untyped-def]
    """Return the union of two solids with a fillet of about ``width``."""
    h = max(width - abs(a - b), 0.0) / width
    return min(a, b) - 0.25 * h * h * width


@njit(cache=True, nogil=True)
def carve(a, b, width):  # type: ignore[no-untyped-def]
    """Return what two solids share, with a rounded edge."""
    return -blend(-a, -b, width)


@njit(cache=True, nogil=True)
def periodic(lattice, x, y, z):  # type: ignore[no-untyped-def]
    """Return the value of a periodic field ``(N, N, N)`` between its nodes, linearly; N is a power of two."""
    n = lattice.shape[0] - 1  # a mask of bits
    fx, fy, fz = math.floor(x), math.floor(y), math.floor(z)
    i, j, k = int(fx) & n, int(fy) & n, int(fz) & n
    u, v, w = x - fx, y - fy, z - fz
    i1, j1, k1 = (i + 1) & n, (j + 1) & n, (k + 1) & n
    a = lattice[i, j, k] * (1 - w) + lattice[i, j, k1] * w
    b = lattice[i, j1, k] * (1 - w) + lattice[i, j1, k1] * w
    c = lattice[i1, j, k] * (1 - w) + lattice[i1, j, k1] * w
    d = lattice[i1, j1, k] * (1 - w) + lattice[i1, j1, k1] * w
    return (a * (1 - v) + b * v) * (1 - u) + (c * (1 - v) + d * v) * u


__all__ = ["blend", "carve", "chain", "ellipsoid", "periodic"]
