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
            share = np.broadcast_to(((u - self.left) / (self.right - self.left))[:, None], shape)
            return share.astype(np.float32), np.broadcast_to(v[None], shape).astype(np.float32)
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
            x, y = np.broadcast_to(self.x + across, shape), np.broadcast_to((self.y + depths)[:, None], shape)
        else:
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

    Parameters
    ----------
    values
        float32, shape ``(P, I, J)``.
    x, y
        Places in mm, float32, any one shape.
    pixel
        Size of a pixel along I and J, mm.

    Returns
    -------
    numpy.ndarray
        float32, shape ``(P, *x.shape)``.
    """
    out = np.empty((values.shape[0], *x.shape), np.float32)
    flat = out.reshape(values.shape[0], -1)
    _read(np.ascontiguousarray(np.moveaxis(values, 0, 2)), x.ravel(), y.ravel(), 1 / pixel[0], 1 / pixel[1], flat)
    return out


def scan_convert(lines: np.ndarray, share: np.ndarray, depth: np.ndarray, step: float, outside: float) -> np.ndarray:
    """Return beams as a picture, linearly between samples.

    Parameters
    ----------
    lines
        One value per sample, float32, shape ``(samples, beams)``; sample k lies ``(k + 0.5) * step`` deep.
    share, depth
        From `Sector.beams_of`, shape ``(I, J)``.
    step
        Distance of samples, mm.
    outside
        Value of pixels that no beam reaches.

    Returns
    -------
    numpy.ndarray
        float32, shape ``(I, J)``.
    """
    out = np.empty(share.shape, np.float32)
    _convert(lines, share, depth, np.float32(1 / step), np.float32(outside), out)
    return out


@njit(cache=True, nogil=True, fastmath=True)
def _fan(u, v, radius, left, right, share, depth):  # type: ignore[no-untyped-def]
    for i in range(u.size):
        for j in range(v.size):
            share[i, j] = (np.arctan2(u[i], v[j]) - left) / (right - left)
            depth[i, j] = np.sqrt(u[i] * u[i] + v[j] * v[j]) - radius


@njit(cache=True, nogil=True, fastmath=True)
def _read(values, x, y, per_x, per_y, out):  # type: ignore[no-untyped-def]
    ni, nj, channels = values.shape
    half = np.float32(0.5)
    for k in range(x.size):
        p = min(max(np.float32(x[k] * per_x) - half, np.float32(0)), np.float32(ni - 1))
        q = min(max(np.float32(y[k] * per_y) - half, np.float32(0)), np.float32(nj - 1))
        i, j = min(int(p), max(ni - 2, 0)), min(int(q), max(nj - 2, 0))
        a, b = min(i + 1, ni - 1), min(j + 1, nj - 1)
        f, g = p - np.float32(i), q - np.float32(j)
        for c in range(channels):
            low = values[i, j, c] * (1 - f) + values[a, j, c] * f
            high = values[i, b, c] * (1 - f) + values[a, b, c] * f
            out[c, k] = low * (1 - g) + high * g


@njit(cache=True, nogil=True, fastmath=True)
def _convert(lines, share, depth, per_mm, outside, out):  # type: ignore[no-untyped-def]
    samples, beams = lines.shape
    half = np.float32(0.5)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            p, r = share[i, j] * np.float32(beams), depth[i, j] * per_mm
            if p < 0 or p > beams or r < 0 or r > samples:
                out[i, j] = outside
                continue
            p, r = min(max(p - half, np.float32(0)), np.float32(beams - 1)), max(r - half, np.float32(0))
            r = min(r, np.float32(samples - 1))
            b, k = min(int(p), beams - 2), min(int(r), samples - 2)
            f, g = p - np.float32(b), r - np.float32(k)
            low = lines[k, b] * (1 - f) + lines[k, b + 1] * f
            high = lines[k + 1, b] * (1 - f) + lines[k + 1, b + 1] * f
            out[i, j] = low * (1 - g) + high * g


__all__ = ["STRAIGHT", "Sector", "sample", "scan_convert"]
