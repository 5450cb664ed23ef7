"""What the scanner measures of a signal map: k-space, line by line, with what goes wrong on the way.

k-space is the discrete Fourier transform of the map along the encoded axes. The acquired matrix is its centre; zero
filling brings the image back to the map's grid, as scanners interpolate. Lines along the phase axis are measured one
after the other, from one end to the other.

References
----------
[1] Gudbjartsson H, Patz S. The Rician distribution of noisy MRI data. MRM 1995;34:910. doi:10.1002/mrm.1910340618
[2] Constantinides CD, Atalar E, McVeigh ER. Signal-to-noise measurements in magnitude images from NMR phased arrays.
MRM 1997;38:852. doi:10.1002/mrm.1910380524 (non-central chi)
[3] Haacke EM, Brown RW, Thompson MR, Venkatesan R. Magnetic Resonance Imaging. 1999. (truncation, partial Fourier,
ghosts)
[4] Godenschweger F, Kägebein U, Stucht D, et al. Motion correction in MRI of the brain. Phys Med Biol 2016;61:R32.
doi:10.1088/0031-9155/61/5/R32
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import fft

from equipoise.engines.parts.legal import require_within


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


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which part of k-space is measured, and what goes wrong.

    Parameters
    ----------
    axes
        Encoded axes: two for slices, three for a volume.
    phase_axis
        Of the axes, the one whose lines follow each other.
    resolution
        Share of k-space that is acquired along I, J, K, above 0 to 1: 0.5 is an acquired voxel twice as large.
    partial_fourier
        Share of the acquired lines along the phase axis that is measured, 0.5 to 1; the others are zero.
    taper
        Share of the acquired matrix, at its border, over which a Hann window falls to 0: less ringing, more blur.
    ghost
        Relative modulation of the lines by pulsation: ghosts of half this strength at a distance of the field of view
        divided by `ghost_period`.
    ghost_period
        In lines.
    spikes
        ``(share along I, J, K of the acquired matrix, strength)``: discharges that add a wave of ``strength`` to the
        image.
    poses
        Of the object; the first starts at 0. Empty: it lies still.
    """

    axes: tuple[int, ...] = (0, 1, 2)
    phase_axis: int = 1
    resolution: tuple[float, float, float] = (1.0, 1.0, 1.0)
    partial_fourier: float = 1.0
    taper: float = 0.0
    ghost: float = 0.0
    ghost_period: int = 2
    spikes: tuple[tuple[tuple[float, float, float], float], ...] = ()
    poses: tuple[Pose, ...] = ()

    def __post_init__(self) -> None:
        for share in self.resolution:
            require_within("resolution", share, 0.02, 1.0)
        require_within("partial_fourier", self.partial_fourier, 0.5, 1.0)
        require_within("taper", self.taper, 0.0, 1.0)
        require_within("ghost", self.ghost, 0.0, 1.0)
        require_within("ghost_period", self.ghost_period, 2, 1024, "lines")
        for pose in self.poses:
            require_within("pose.start", pose.start, 0.0, 1.0)


def measure(
    image: np.ndarray, sampling: Sampling, sd: float, channels: int, rng: np.random.Generator | None
) -> np.ndarray:
    """Return the magnitude image of a signal map.

    Parameters
    ----------
    image
        float32, shape ``(I, J, K)``: signal at the echo.
    sampling
        Of k-space.
    sd
        Standard deviation of the real and the imaginary part of a receiver channel's noise in a fully sampled image;
        0 needs no ``rng``.
    channels
        Receivers whose squares are added: 1 gives Rician noise, more a non-central chi law of ``2 channels`` degrees of
        freedom. The signal is what they see together.
    rng
        Of the noise.

    Returns
    -------
    np.ndarray
        float32, shape ``(I, J, K)``.
    """
    acquired = _acquired(image.shape, sampling)
    lines = _weights(image.shape, acquired, sampling)
    still = moved(image, sampling.poses, sampling.phase_axis) if sampling.poses else image
    spectrum = np.asarray(fft.fftn(still, axes=sampling.axes))[np.ix_(*acquired)]
    _spoil(spectrum, acquired, sampling, image.size)
    total = np.zeros(image.shape, np.float32)
    for channel in range(channels if sd > 0 else 1):
        if channel:
            spectrum = np.zeros(spectrum.shape, np.complex64)
        if sd > 0 and rng is not None:
            _add_noise(spectrum, sd * np.sqrt(_encoded(image.shape, sampling)), rng)
        for weights in lines:
            spectrum *= weights
        seen = _reconstruct(spectrum, acquired, image.shape, sampling.axes)
        total += seen.real**2
        total += seen.imag**2
    return np.sqrt(total, out=total)


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
    spectrum = np.empty(image.shape, np.complex64)
    for pose, first, last in _measured_in(poses, n):
        half = fft.rfft(_posed(image, pose), axis=phase_axis)
        # Of a real object the lines at negative frequencies mirror those at positive ones.
        above, below = np.arange(max(first, 0), last), np.arange(first, min(last, 0))
        spectrum[_lines(phase_axis, above)] = half[_lines(phase_axis, above)]
        np.conj(half[_lines(phase_axis, -below)], out=spectrum[_lines(phase_axis, below + n)])
    return np.asarray(fft.ifft(spectrum, axis=phase_axis, overwrite_x=True))


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
            image = fft.irfft(fft.rfft(image, axis=axis) * _along(ramp, axis), n, axis=axis)
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
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
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


def _acquired(shape: tuple[int, ...], sampling: Sampling) -> list[np.ndarray]:
    """Return the indices of the acquired frequencies along each axis, from the most negative one."""
    found = []
    for axis, n in enumerate(shape):
        frequency = np.arange(n) - n // 2
        if axis in sampling.axes:
            half = max(1.0, sampling.resolution[axis] * n / 2)
            # A whole k-space keeps its unpaired frequency, a truncated one is symmetric.
            keep = (np.abs(frequency) < half) | (np.full(n, half >= n / 2))
            found.append(frequency[keep] % n)
        else:
            found.append(np.arange(n))
    return found


def _weights(shape: tuple[int, ...], acquired: list[np.ndarray], sampling: Sampling) -> list[np.ndarray]:
    """Return the factors that partial Fourier and the taper put on the acquired lines."""
    weights = []
    for axis in sampling.axes:
        n = len(acquired[axis])
        if sampling.taper > 0:
            distance = np.abs(np.arange(n) - n // 2) / (n / 2)
            outer = np.clip((distance - (1 - sampling.taper)) / sampling.taper, 0, 1)
            weights.append(_along((0.5 + 0.5 * np.cos(np.pi * outer)).astype(np.float32), axis))
    n = len(acquired[sampling.phase_axis])
    missing = round((1 - sampling.partial_fourier) * n)
    if missing:
        kept = np.ones(n, np.float32)
        kept[:missing] = 0
        weights.append(_along(kept, sampling.phase_axis))
    return weights


def _spoil(spectrum: np.ndarray, acquired: list[np.ndarray], sampling: Sampling, size: int) -> None:
    """Modulate the lines and add spikes, in place."""
    if sampling.ghost > 0:
        line = np.arange(len(acquired[sampling.phase_axis]))
        beat = 1 + sampling.ghost * np.cos(2 * np.pi * line / sampling.ghost_period)
        spectrum *= _along(beat.astype(np.float32), sampling.phase_axis)
    for place, strength in sampling.spikes:
        at = tuple(min(int(p * n), n - 1) for p, n in zip(place, spectrum.shape, strict=True))
        encoded = size // np.prod([len(acquired[a]) for a in range(3) if a not in sampling.axes], dtype=int)
        spectrum[at] += strength * encoded


def _add_noise(spectrum: np.ndarray, sd: float, rng: np.random.Generator) -> None:
    noise = rng.standard_normal((*spectrum.shape, 2), np.float32)
    noise *= np.float32(sd)
    spectrum += noise.view(np.complex64)[..., 0]


def _reconstruct(
    spectrum: np.ndarray, acquired: list[np.ndarray], shape: tuple[int, ...], axes: tuple[int, ...]
) -> np.ndarray:
    whole = np.zeros(shape, np.complex64)
    whole[np.ix_(*acquired)] = spectrum
    return np.asarray(fft.ifftn(whole, axes=axes, overwrite_x=True))


def _encoded(shape: tuple[int, ...], sampling: Sampling) -> float:
    return float(np.prod([shape[a] for a in sampling.axes]))


def _along(values: np.ndarray, axis: int) -> np.ndarray:
    shape = [1, 1, 1]
    shape[axis] = -1
    return values.reshape(shape)


__all__ = ["Pose", "Sampling", "measure", "moved", "turned"]
