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
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import fft

from equipoise.engines.imaging.simulate_mri.motion import Pose, moved
from equipoise.engines.parts.legal import require_within


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
        _add_power(seen, total)
    return np.sqrt(total, out=total)


@njit(cache=True, nogil=True, fastmath=True)
def _add_power(seen, total):  # type: ignore[no-untyped-def]
    """Add the squared magnitude to ``total``: numpy's way reads the parts twice and keeps three copies."""
    for i in range(total.shape[0]):
        for j in range(total.shape[1]):
            for k in range(total.shape[2]):
                value = seen[i, j, k]
                total[i, j, k] += value.real * value.real + value.imag * value.imag


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


__all__ = ["Sampling", "measure"]
