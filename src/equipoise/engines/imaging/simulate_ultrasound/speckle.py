"""The fast tier: a complex scatterer field, convolved with a point-spread function that changes with depth.

On the grid of the beams the two-way point-spread function separates into the pulse (axial) and the beam (lateral);
both are taken as Gaussian. The phase 2 k r of a scatterer is uniform, so the demodulated field of the scatterers in
one sample is a complex number of random phase, and the kernels are real.

References
----------
Wagner RF, Smith SW, Sandrik JM, Lopez H. Statistics of speckle in ultrasound B-scans. IEEE Trans Sonics Ultrason 1983.
doi:10.1109/T-SU.1983.31404
Bamber JC, Dickinson RJ. Ultrasonic B-scanning: a computer simulation. Phys Med Biol 1980.
doi:10.1088/0031-9155/25/3/006
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

SOUND_MM_PER_US = 1.54
"""Mean speed of sound in soft tissue, mm/µs."""
FWHM = 2.3548
"""Full width at half maximum of a Gaussian over its standard deviation; half of an amplitude is -6 dB."""
ONE_WAY, BLUR_OF_DEFOCUS = 1.21, 0.6
"""-6 dB width of a uniform aperture over λF#; width of the aperture's geometric shadow out of focus over its size."""
FULLY_DEVELOPED = 60.0
"""Mean number of scatterers in one sample from which their number no longer shows."""
MOST_IN_SAMPLE = 128
"""Of a Poisson variable of mean 60, more are drawn once in 10^13 samples."""
GUIDES = 32
"""Even chances whose Poisson numbers are looked up once for a row of samples."""


@dataclass(frozen=True)
class Beam:
    """The two-way point-spread function of one acquisition.

    Parameters
    ----------
    frequency_mhz
        Centre frequency.
    bandwidth
        -6 dB width of the pulse's two-way spectrum over the centre frequency.
    f_number
        Of the receive aperture, which grows with depth until all elements are in use.
    aperture_mm
        Size of the whole array.
    focus_mm
        Depth of the transmit focus.
    transmit_f_number
        Of the transmit aperture at the focus.
    widen
        Factor on both widths: 1 is diffraction-limited, a real scanner's tissue aberration and filters are above.
    """

    frequency_mhz: float
    bandwidth: float
    f_number: float
    aperture_mm: float
    focus_mm: float
    transmit_f_number: float
    widen: tuple[float, float] = (1.0, 1.0)

    @property
    def wavelength_mm(self) -> float:
        """Of the centre frequency, mm."""
        return SOUND_MM_PER_US / self.frequency_mhz

    @property
    def axial_sd_mm(self) -> float:
        """Standard deviation of the echo's envelope along the beam, mm."""
        spectrum_mhz = self.bandwidth * self.frequency_mhz / FWHM
        return self.widen[0] * SOUND_MM_PER_US / 2 / (2 * np.pi * spectrum_mhz)

    def lateral_sd_mm(self, depths: np.ndarray) -> np.ndarray:
        """Return the standard deviation of the two-way amplitude across the beam at each depth, mm."""
        unit = ONE_WAY * self.wavelength_mm
        receive = np.maximum(unit * self.f_number, unit * depths / self.aperture_mm)
        sending = min(self.aperture_mm, self.focus_mm / self.transmit_f_number)
        defocus = BLUR_OF_DEFOCUS * sending * (1 - depths / self.focus_mm)
        transmit = np.hypot(unit * np.maximum(depths, self.focus_mm / 2) / sending, defocus)
        width: np.ndarray = self.widen[1] / np.hypot(1 / receive, 1 / transmit) / FWHM
        return width

    def cell_mm2(self, depths: np.ndarray) -> np.ndarray:
        """Return the area of a resolution cell (-6 dB, both ways) at each depth, mm²."""
        return FWHM**2 * self.axial_sd_mm * self.lateral_sd_mm(depths)


def scatter(per_sample: np.ndarray, beams: int, rng: np.random.Generator) -> np.ndarray:
    """Return the field of randomly placed scatterers of mean power 1, float32, shape ``(2, len(per_sample), beams)``.

    Parameters
    ----------
    per_sample
        Mean number of scatterers in a sample, for each depth; all are equally strong and have random phases.
    """
    field: np.ndarray = rng.standard_normal((2, len(per_sample), beams), dtype=np.float32)
    if per_sample.min() < FULLY_DEVELOPED / 4:
        chance = rng.random((len(per_sample), beams), dtype=np.float32)
        _thin(field, chance, np.asarray(per_sample, np.float64))
    field *= np.float32(np.sqrt(0.5))
    return field


def convolve(field: np.ndarray, axial_sd: float, lateral_sd: np.ndarray) -> np.ndarray:
    """Return the field seen through the point-spread function, float32, same shape; mean power is kept.

    Parameters
    ----------
    field
        Real and imaginary part, float32, shape ``(2, samples, beams)``.
    axial_sd
        In samples.
    lateral_sd
        In beams, one for each depth.
    """
    out = np.empty_like(field)
    reach = max(1, int(np.ceil(3 * axial_sd)))
    x = np.arange(-reach, reach + 1)
    pulse = np.exp(-0.5 * (x / max(axial_sd, 1e-3)) ** 2)
    pulse = (pulse / np.sqrt((pulse**2).sum())).astype(np.float32)
    wide = max(1, int(np.ceil(3 * lateral_sd.max())))
    wide = min(wide, field.shape[2] - 1)
    taps = np.exp(-0.5 * (np.arange(wide + 1) / np.maximum(lateral_sd, 1e-3)[:, None]) ** 2)
    taps /= np.sqrt(2 * (taps[:, 1:] ** 2).sum(axis=1) + taps[:, 0] ** 2)[:, None]
    reaches = np.minimum(np.ceil(3 * lateral_sd).astype(np.int64), wide)
    _through(field, pulse, taps.astype(np.float32), reaches, out)
    return out


def envelope(field: np.ndarray) -> np.ndarray:
    """Return the magnitude of a field, float32, shape ``(samples, beams)``."""
    out = np.empty(field.shape[1:], np.float32)
    _magnitude(field, out)
    return out


@njit(cache=True, nogil=True)
def _thin(field, chance, means):  # type: ignore[no-untyped-def]
    """Turn complex Gaussian numbers into sums of a Poisson number of unit phasors (inverse distribution function).

    The sum of n phasors has |s|² of mean n and mean square 2n² - n. The Gaussian number's phase is kept, its
    squared magnitude mixed with 1 so that both hold; n = 1 is one phasor, large n the Gaussian itself.
    """
    below = np.empty(MOST_IN_SAMPLE, np.float32)
    mixed, root = np.empty(MOST_IN_SAMPLE, np.float32), np.empty(MOST_IN_SAMPLE, np.float32)
    guide = np.empty(GUIDES + 1, np.int64)
    one, least = np.float32(1), np.float32(1e-9)
    mixed[0] = one
    for n in range(1, MOST_IN_SAMPLE):
        mixed[n] = np.sqrt(1.0 - 1.0 / n)
    for k in range(means.size):
        mean = means[k]
        if mean > FULLY_DEVELOPED:
            continue
        term = np.exp(-mean)
        total = term
        below[0], root[0], last = total, 0, 0
        while last < MOST_IN_SAMPLE - 1 and (last < mean or term > 1e-9):
            last += 1
            term *= mean / last
            total += term
            below[last], root[last] = total, np.sqrt(last / mean)
        # The search starts at the answer for the next lower of a few even chances, not at 0.
        n = 0
        for c in range(GUIDES + 1):
            while n < last and below[n] < c / GUIDES:
                n += 1
            guide[c] = n
        for b in range(field.shape[2]):
            n = guide[int(chance[k, b] * GUIDES)]
            while n < last and below[n] < chance[k, b]:
                n += 1
            re, im = field[0, k, b], field[1, k, b]
            power = max(np.float32(0.5) * (re * re + im * im), least)
            factor = root[n] * np.sqrt((one - mixed[n]) / power + mixed[n])
            field[0, k, b] *= factor
            field[1, k, b] *= factor


@njit(cache=True, nogil=True, fastmath=True)
def _through(field, pulse, taps, reaches, out):  # type: ignore[no-untyped-def]
    """Convolve along the beam, then across; beyond the border the field is its mirror image, a quarter period later.

    The quarter period keeps the mean power: a plain mirror would add up in phase and draw a bright rim.
    """
    samples, beams = field.shape[1], field.shape[2]
    reach, margin = pulse.size // 2, taps.shape[1] - 1
    lines = np.zeros((2, beams + 2 * margin), np.float32)
    for k in range(samples):
        lines[:] = 0
        for t in range(-reach, reach + 1):
            at, weight, turned = k + t, pulse[t + reach], False
            if at < 0:
                at, turned = min(-1 - at, samples - 1), True
            elif at >= samples:
                at, turned = max(2 * samples - 1 - at, 0), True
            for part in range(2):
                source = field[1 - part if turned else part, at]
                signed = -weight if turned and part == 0 else weight
                middle = lines[part, margin : margin + beams]
                for b in range(beams):
                    middle[b] += signed * source[b]
        for b in range(margin):
            left, right = margin + b, margin + beams - 1 - b
            lines[0, margin - 1 - b], lines[1, margin - 1 - b] = -lines[1, left], lines[0, left]
            lines[0, margin + beams + b], lines[1, margin + beams + b] = -lines[1, right], lines[0, right]
        for part in range(2):
            target, row, line = out[part, k], taps[k], lines[part]
            middle = line[margin : margin + beams]
            for b in range(beams):
                target[b] = row[0] * middle[b]
            for t in range(1, reaches[k] + 1):
                before, after = line[margin - t : margin - t + beams], line[margin + t : margin + t + beams]
                for b in range(beams):
                    target[b] += row[t] * (before[b] + after[b])


@njit(cache=True, nogil=True, fastmath=True)
def _magnitude(field, out):  # type: ignore[no-untyped-def]
    for k in range(out.shape[0]):
        for b in range(out.shape[1]):
            out[k, b] = np.sqrt(field[0, k, b] ** 2 + field[1, k, b] ** 2)


__all__ = ["FULLY_DEVELOPED", "SOUND_MM_PER_US", "Beam", "convolve", "envelope", "scatter"]
