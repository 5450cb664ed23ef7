"""Solids that the head is put together from: signed distances in mm, negative inside, and how two of them blend."""

from __future__ import annotations

import math

import numpy as np
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
def waves(lattice, x, y, z, out):  # type: ignore[no-untyped-def]
    """Put the values of periodic fields ``(N, N, N, F)`` between their nodes into ``out``; N is a power of two."""
    n = lattice.shape[0] - 1  # a mask of bits
    fx, fy, fz = math.floor(x), math.floor(y), math.floor(z)
    i, j, k = int(fx) & n, int(fy) & n, int(fz) & n
    u, v, w = np.float32(x - fx), np.float32(y - fy), np.float32(z - fz)
    _mix(lattice, i, j, k, (i + 1) & n, (j + 1) & n, (k + 1) & n, u, v, w, out)


@njit(cache=True, nogil=True)
def within(lattice, origin, mm, x, y, z, out):  # type: ignore[no-untyped-def]
    """Put the values of fields ``(I, J, K, F)`` at a place in mm into ``out``; outside, those at the border."""
    x, y, z = (x - origin[0]) / mm, (y - origin[1]) / mm, (z - origin[2]) / mm
    x = min(max(x, 0.0), lattice.shape[0] - 1.001)
    y = min(max(y, 0.0), lattice.shape[1] - 1.001)
    z = min(max(z, 0.0), lattice.shape[2] - 1.001)
    i, j, k = int(x), int(y), int(z)
    _mix(lattice, i, j, k, i + 1, j + 1, k + 1, np.float32(x - i), np.float32(y - j), np.float32(z - k), out)


@njit(cache=True, nogil=True, inline="always")
def _mix(lattice, i, j, k, i1, j1, k1, u, v, w, out):  # type: ignore[no-untyped-def]
    one = np.float32(1.0)
    a, b, c, d = (one - u) * (one - v), (one - u) * v, u * (one - v), u * v
    p, q, r, s = lattice[i, j, k], lattice[i, j1, k], lattice[i1, j, k], lattice[i1, j1, k]
    p1, q1, r1, s1 = lattice[i, j, k1], lattice[i, j1, k1], lattice[i1, j, k1], lattice[i1, j1, k1]
    for f in range(lattice.shape[3]):
        low = a * p[f] + b * q[f] + c * r[f] + d * s[f]
        high = a * p1[f] + b * q1[f] + c * r1[f] + d * s1[f]
        out[f] = low + w * (high - low)


__all__ = ["blend", "carve", "chain", "ellipsoid", "waves", "within"]
