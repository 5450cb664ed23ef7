"""An object that moves while its k-space is measured, line by line.

References
----------
Godenschweger F, Kägebein U, Stucht D, et al. Motion correction in MRI of the brain. Phys Med Biol 2016;61:R32.
doi:10.1088/0031-9155/61/5/R32
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import fft

STRIP = 32
"""Rows of a plane that are turned together: their part of the volume fits into a core's own cache."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the object lies while some lines are measured.

    Parameters
    ----------
    start
        Share of the lines that were measured before it took this pose, 0 to 1.
    shift
        Along I, J, K in voxels.
    turn
        About I, J, K through the middle of the grid, in degrees.
    """

    start: float
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)


def moved(image: np.ndarray, poses: Sequence[Pose], phase_axis: int) -> np.ndarray:
    """Return the image of an object that changes its pose between the lines of a fully sampled k-space.

    Lines are weighed along the phase axis alone, so all other transforms cancel and each pose costs one axis. A shift
    is exact (a phase ramp); a turn is interpolated linearly.

    Parameters
    ----------
    image
        float32, shape ``(I, J, K)``.
    poses
        Rising in `Pose.start`.
    phase_axis
        Whose lines follow each other.

    Returns
    -------
    np.ndarray
        complex64, shape ``(I, J, K)``.
    """
    n = image.shape[phase_axis]
    (start, *_), *others = _measured_in(poses, n)
    still = _posed(image, start)
    spectrum = np.zeros(image.shape, np.complex64)
    # All lines together are the identity: only what differs from the first pose is transformed.
    for pose, first, last in others:
        half = fft.rfft(_posed(image, pose) - still, axis=phase_axis, overwrite_x=True)
        # Of a real object the lines at negative frequencies mirror those at positive ones.
        above, below = np.arange(max(first, 0), last), np.arange(first, min(last, 0))
        spectrum[_lines(phase_axis, above)] = half[_lines(phase_axis, above)]
        np.conj(half[_lines(phase_axis, -below)], out=spectrum[_lines(phase_axis, below + n)])
    seen = np.asarray(fft.ifft(spectrum, axis=phase_axis, overwrite_x=True)) if others else spectrum
    seen.real += still
    return seen


def _lines(axis: int, lines: np.ndarray) -> tuple[slice, ...]:
    """Return an index of consecutive lines, rising or falling."""
    if not len(lines):
        return tuple(slice(0, 0) if a == axis else slice(None) for a in range(3))
    step = int(lines[1] - lines[0]) if len(lines) > 1 else 1
    stop: int | None = int(lines[-1]) + step
    return tuple(
        slice(int(lines[0]), None if stop == -1 else stop, step) if a == axis else slice(None) for a in range(3)
    )


def _posed(image: np.ndarray, pose: Pose) -> np.ndarray:
    if any(pose.turn):
        return turned(image, pose.turn, pose.shift)
    for axis, shift in enumerate(pose.shift):
        if shift and image.shape[axis] > 1:
            n = image.shape[axis]
            ramp = np.exp(-2j * np.pi * shift * fft.rfftfreq(n)).astype(np.complex64)
            ramp = ramp.reshape([-1 if a == axis else 1 for a in range(3)])
            image = fft.irfft(fft.rfft(image, axis=axis) * ramp, n, axis=axis)
    return image


def _measured_in(poses: Sequence[Pose], n: int) -> list[tuple[Pose, int, int]]:
    """Return the first and beyond the last line of each pose, in cycles per field of view, from ``-(n // 2)`` on."""
    starts = [round(pose.start * n) for pose in poses] + [n]
    starts[0] = 0
    spans = zip(poses, starts[:-1], starts[1:], strict=True)
    return [(pose, a - n // 2, b - n // 2) for pose, a, b in spans if b > a]


def turned(image: np.ndarray, degrees: Sequence[float], shift: Sequence[float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Return a map turned about I, then J, then K through the middle of its grid, and shifted by voxels.

    Linear interpolation; beyond the grid the map goes on as at its border.
    """
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        c, s = np.cos(angle), np.sin(angle)
        p, q = [a for a in range(3) if a != axis]
        one = np.eye(3)
        one[p, p] = one[q, q] = c
        one[p, q], one[q, p] = s, -s
        matrix = matrix @ one
    middle = (np.array(image.shape) - 1) / 2
    out = np.empty(image.shape, np.float32)
    flat = np.ascontiguousarray(image, np.float32)
    _turn(flat, matrix, middle - matrix @ (middle + np.asarray(shift, float)), out)
    return out


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _turn(image, matrix, offset, out):  # type: ignore[no-untyped-def]
    ni, nj, nk = image.shape
    n, flat, zero = out.shape[2], image.ravel(), np.float32(0.0)
    # A place on the last voxel is taken a thousandth before it: its cell then has a next voxel, and no case apart.
    top0, top1, top2 = np.float32(ni - 1.001), np.float32(nj - 1.001), np.float32(nk - 1.001)
    m0, m1, m2 = np.float32(matrix[0, 2]), np.float32(matrix[1, 2]), np.float32(matrix[2, 2])
    plane, row = np.int32(nj * nk), np.int32(nk)
    # An axis of one voxel has no next.
    dp, dq, dr = np.uint32(plane * (ni > 1)), np.uint32(row * (nj > 1)), np.uint32(nk > 1)
    cell, part = np.empty(n, np.uint32), np.empty((3, n), np.float32)
    fp, fq, fr = part[0], part[1], part[2]
    read = zero
    for strip in range(out.shape[0] * ((out.shape[1] + STRIP - 1) // STRIP)):
        i = strip % out.shape[0]  # strips of rows go through the whole volume: what one plane has read is still at hand
        j0 = strip // out.shape[0] * STRIP
        read += _fetched(flat, image.shape, matrix, offset, i, j0, min(j0 + STRIP, out.shape[1]) - 1, n - 1)
        for j in range(j0, min(j0 + STRIP, out.shape[1])):
            r0 = np.float32(matrix[0, 0] * i + matrix[0, 1] * j + offset[0])
            r1 = np.float32(matrix[1, 0] * i + matrix[1, 1] * j + offset[1])
            r2 = np.float32(matrix[2, 0] * i + matrix[2, 1] * j + offset[2])
            for k in range(n):  # places of a whole row first: this loop runs on vectors, the next one cannot
                at = np.float32(np.int32(k))
                p, q = max(min(r0 + m0 * at, top0), zero), max(min(r1 + m1 * at, top1), zero)
                r = max(min(r2 + m2 * at, top2), zero)
                a, b, c = np.int32(p), np.int32(q), np.int32(r)
                cell[k] = np.int32(a * plane + b * row) + c
                fp[k], fq[k], fr[k] = p - np.float32(a), q - np.float32(b), r - np.float32(c)
            target = out[i, j]
            for k in range(n):
                v = cell[k]
                y, z = v + dq, v + dp
                w = z + dq
                v00 = flat[v] + fr[k] * (flat[v + dr] - flat[v])
                v01 = flat[y] + fr[k] * (flat[y + dr] - flat[y])
                v10 = flat[z] + fr[k] * (flat[z + dr] - flat[z])
                v11 = flat[w] + fr[k] * (flat[w + dr] - flat[w])
                near, far = v00 + fq[k] * (v01 - v00), v10 + fq[k] * (v11 - v10)
                target[k] = near + fp[k] * (far - near)
    return read


@njit(cache=True, nogil=True, fastmath=True)
def _fetched(flat, shape, matrix, offset, i, j0, j1, k1):  # type: ignore[no-untyped-def]
    """Read the part of the plane that a strip needs next, in order, into the cache; return a sum, so that it is read.

    A turned row jumps from line to line of the memory, which nothing foresees: without this half of the time is spent
    waiting for it.
    """
    p, low, high = 0.0, 1e9, 0.0
    for j in (j0, j1):
        for k in (0, k1):
            p = max(p, matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 2] * k + offset[0])
            q = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 2] * k + offset[1]
            low, high = min(low, q), max(high, q)
    plane = min(int(p) + 1, shape[0] - 1) * shape[1]
    first, last = min(max(int(low), 0), shape[1]), min(int(high) + 2, shape[1])
    total = np.float32(0.0)
    for v in range((plane + first) * shape[2], (plane + last) * shape[2], 16):  # a line holds 16 numbers
        total += flat[v]
    return total


__all__ = ["Pose", "moved", "turned"]
