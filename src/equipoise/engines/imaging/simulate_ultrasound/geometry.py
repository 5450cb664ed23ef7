"""The field of view of a probe, and the way between its beams and the picture on the screen.

Lateral positions are x, depths on the screen y, both in mm; x grows to the right and y downwards. Beams leave an arc
(curvilinear and phased probes) or a line (linear probes) at the top.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

STRAIGHT = 0.0
"""Radius that stands for a linear array."""


@dataclass(frozen=True)
class Sector:
    """What a probe sees.

    Parameters
    ----------
    x, y
        Where the middle beam leaves the probe, mm. ``y`` may be negative: a zoomed picture starts below the probe.
    radius
        Of the arc that beams leave from, mm; 0 is a straight line of parallel beams.
    left, right
        Outermost beams: angles from the vertical in radians, or lateral distances from ``x`` in mm if ``radius`` is 0.
    depth
        Length of a beam, mm.
    """

    x: float
    y: float
    radius: float
    left: float
    right: float
    depth: float

    @property
    def straight(self) -> bool:
        """Whether beams are parallel."""
        return self.radius == STRAIGHT

    def width_at(self, depth: float) -> float:
        """Return the length of the arc at a depth along the beams, mm."""
        return float(self.widths_at(np.array([depth]))[0])

    def widths_at(self, depths: np.ndarray) -> np.ndarray:
        """Return the length of the arc at each depth, mm."""
        widths: np.ndarray = (self.right - self.left) * (
            np.ones_like(depths) if self.straight else self.radius + depths
        )
        return widths

    def beams_of(self, shape: tuple[int, int], pixel: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        """Return beam position (0 left to 1 right) and depth (mm) of every pixel, float32, each of shape ``(I, J)``."""
        u, v = self._axes(shape, pixel)
        if self.straight:
            across = ((u - self.left) / (self.right - self.left)).astype(np.float32)
            return np.broadcast_to(across[:, None], shape), np.broadcast_to(v[None], shape)
        share, depth = np.empty(shape, np.float32), np.empty(shape, np.float32)
        _fan(u, v + np.float32(self.radius), self.radius, self.left, self.right, share, depth)
        return share, depth

    def _axes(self, shape: tuple[int, int], pixel: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        u = (np.arange(shape[0], dtype=np.float32) + np.float32(0.5)) * np.float32(pixel[0]) - np.float32(self.x)
        v = (np.arange(shape[1], dtype=np.float32) + np.float32(0.5)) * np.float32(pixel[1]) - np.float32(self.y)
        return u, v

    def places_of(self, beams: int, depths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return x and y in mm of every sample of evenly spaced beams, float32, each of shape ``(len(depths), beams)``.

        Beam b lies at the share ``(b + 0.5) / beams`` of the width, so that the outline halves no beam.
        """
        across = self.left + (np.arange(beams) + 0.5) / beams * (self.right - self.left)
        shape = (len(depths), beams)
        if self.straight:
            row, column = (self.x + across).astype(np.float32), (self.y + depths).astype(np.float32)
            return np.broadcast_to(row, shape), np.broadcast_to(column[:, None], shape)
        x = self.x + (self.radius + depths)[:, None] * np.sin(across)
        y = self.y - self.radius + (self.radius + depths)[:, None] * np.cos(across)
        return x.astype(np.float32), y.astype(np.float32)

    def tilt_of(self, beams: int) -> np.ndarray:
        """Return the angle of every beam from the vertical in radians, float32, shape ``(beams,)``."""
        across = self.left + (np.arange(beams) + 0.5) / beams * (self.right - self.left)
        return (np.zeros(beams) if self.straight else across).astype(np.float32)

    def seen(self, shape: tuple[int, int], pixel: tuple[float, float]) -> np.ndarray:
        """Return which pixels lie in the field of view, bool, shape ``(I, J)``."""
        share, depth = self.beams_of(shape, pixel)
        inside: np.ndarray = (share >= 0) & (share <= 1) & (depth >= 0) & (depth <= self.depth)
        return inside


def sample(values: np.ndarray, x: np.ndarray, y: np.ndarray, pixel: tuple[float, float]) -> np.ndarray:
    """Return pictures read at places, linearly between pixels; beyond the border the nearest pixel counts.

    Places on a grid (``np.broadcast_to`` a row and a column, as straight beams are) are read one axis after the other,
    which costs a fifth.

    Parameters
    ----------
    values
        float32, shape ``(P, I, J)``.
    x, y
        Places in mm, float32, shape ``(M, N)``.
    pixel
        Size of a pixel along I and J, mm.

    Returns
    -------
    numpy.ndarray
        float32, shape ``(P, M, N)``.
    """
    if x.strides[0] == y.strides[1] == 0:
        return _along(_along(values, x[0], pixel[0]).swapaxes(1, 2), y[:, 0], pixel[1])
    if x.strides[1] == y.strides[0] == 0:
        return _along(_along(values.swapaxes(1, 2), y[0], pixel[1]).swapaxes(1, 2), x[:, 0], pixel[0])
    out = np.empty((values.shape[0], *x.shape), np.float32)
    _read(np.ascontiguousarray(values), x, y, 1 / pixel[0], 1 / pixel[1], out)
    return out


def _along(values: np.ndarray, places: np.ndarray, pixel: float) -> np.ndarray:
    """Return ``(P, N, J)`` of ``(P, I, J)``, read at ``N`` places in mm along I."""
    last = values.shape[1] - 1
    at = np.clip((places * (1 / pixel)).astype(np.float32) - np.float32(0.5), 0, last)
    first = np.minimum(at.astype(np.int64), max(last - 1, 0))
    out = np.empty((values.shape[0], len(places), values.shape[2]), np.float32)
    _mix(np.ascontiguousarray(values), first, at - first.astype(np.float32), out)
    return out


def scan_convert(lines: np.ndarray, share: np.ndarray, depth: np.ndarray, step: float) -> np.ndarray:
    """Return beams as a picture, linearly between samples; pixels that no beam reaches show the nearest sample.

    Parameters
    ----------
    lines
        One value per sample, float32, shape ``(samples, beams)``; sample k lies ``(k + 0.5) * step`` deep.
    share, depth
        From `Sector.beams_of`, shape ``(I, J)``.
    step
        Distance of samples, mm.

    Returns
    -------
    numpy.ndarray
        float32, shape ``(I, J)``.
    """
    picture: np.ndarray = sample(lines[None], depth, share, (step, 1 / lines.shape[1]))[0]
    return picture


@njit(cache=True, nogil=True, fastmath=True)
def _fan(u, v, radius, left, right, share, depth):  # type: ignore[no-untyped-def]
    for i in range(u.size):
        for j in range(v.size):
            share[i, j] = (np.arctan2(u[i], v[j]) - left) / (right - left)
            depth[i, j] = np.sqrt(u[i] * u[i] + v[j] * v[j]) - radius


@njit(cache=True, nogil=True, fastmath=True)
def _mix(values, first, weight, out):  # type: ignore[no-untyped-def]
    after, one = 1 if values.shape[1] > 1 else 0, np.float32(1)
    for c in range(out.shape[0]):
        for n in range(out.shape[1]):
            low, high, w, row = values[c, first[n]], values[c, first[n] + after], weight[n], out[c, n]
            for m in range(out.shape[2]):
                row[m] = low[m] * (one - w) + high[m] * w


@njit(cache=True, nogil=True, fastmath=True)
def _read(values, x, y, per_x, per_y, out):  # type: ignore[no-untyped-def]
    channels, ni, nj = values.shape
    flat, count, half, one = values.reshape(channels, ni * nj), x.shape[1], np.float32(0.5), np.float32(1)
    after_i, after_j = nj if ni > 1 else 0, 1 if nj > 1 else 0
    base, f, g = np.empty(count, np.int64), np.empty(count, np.float32), np.empty(count, np.float32)
    for r in range(x.shape[0]):
        # Places first, then one channel after the other: the first loop runs on vectors.
        for k in range(count):
            p = min(max(np.float32(x[r, k] * per_x) - half, np.float32(0)), np.float32(ni - 1))
            q = min(max(np.float32(y[r, k] * per_y) - half, np.float32(0)), np.float32(nj - 1))
            i, j = min(np.int64(p), max(ni - 2, 0)), min(np.int64(q), max(nj - 2, 0))
            base[k], f[k], g[k] = i * nj + j, p - np.float32(i), q - np.float32(j)
        for c in range(channels):
            v, row = flat[c], out[c, r]
            for k in range(count):
                a = base[k]
                low = v[a] * (one - f[k]) + v[a + after_i] * f[k]
                high = v[a + after_j] * (one - f[k]) + v[a + after_i + after_j] * f[k]
                row[k] = low * (one - g[k]) + high * g[k]


__all__ = ["STRAIGHT", "Sector", "sample", "scan_convert"]
