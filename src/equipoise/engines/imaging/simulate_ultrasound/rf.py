"""The RF tier: element signals of point scatterers, and delay-and-sum beamforming.

Signals are quadrature-demodulated at the centre frequency: for a Gaussian pulse that is the RF signal without its
carrier, and nothing is lost. Every scatterer hears the pulses of all transmitting elements, each delayed, weighted and
with the directivity of a soft-baffled piston, and sends them back to every element the same way. Two dimensions:
amplitudes fall with the square root of the distance, as the elevation focus holds the beam together.

References
----------
Selfridge AR, Kino GS, Khuri-Yakub BT. A theory for the radiation pattern of a narrow-strip acoustic transducer.
Appl Phys Lett 1980. doi:10.1063/1.91692
Perrot V, Polichetti M, Varray F, Garcia D. So you think you can DAS? Ultrasonics 2021.
doi:10.1016/j.ultras.2020.106309
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit

from equipoise.engines.imaging.simulate_ultrasound.speckle import FWHM, SOUND_MM_PER_US

OVERSAMPLING = 4.0
"""Complex samples per period of the carrier."""
PULSE_REACH = 3.5
"""Standard deviations after which the pulse is cut."""
NEAREST_MM = 0.5
"""Scatterers nearer to an element count as this far away, where a point in two dimensions would be infinitely loud."""


@dataclass(frozen=True, eq=False)
class Array:
    """The elements of a probe.

    Parameters
    ----------
    x, z
        Centres in mm, shape ``(elements,)``; z grows away from the probe.
    normal
        Angle of each element's axis from z, radians.
    width_mm
        Of an element.
    frequency_mhz, bandwidth
        Centre frequency, and -6 dB width of the two-way spectrum as a fraction of it.
    """

    x: np.ndarray
    z: np.ndarray
    normal: np.ndarray
    width_mm: float
    frequency_mhz: float
    bandwidth: float

    @classmethod
    def linear(cls, elements: int, pitch_mm: float, frequency_mhz: float, bandwidth: float = 0.7) -> Array:
        """Return a straight array around x = 0."""
        x = (np.arange(elements) - (elements - 1) / 2) * pitch_mm
        return cls(x, np.zeros(elements), np.zeros(elements), 0.9 * pitch_mm, frequency_mhz, bandwidth)

    @classmethod
    def curved(
        cls, elements: int, pitch_mm: float, radius_mm: float, frequency_mhz: float, bandwidth: float = 0.7
    ) -> Array:
        """Return a convex array: the middle of its arc lies in the origin."""
        angle = (np.arange(elements) - (elements - 1) / 2) * pitch_mm / radius_mm
        x, z = radius_mm * np.sin(angle), radius_mm * (np.cos(angle) - 1)
        return cls(x, z, angle, 0.9 * pitch_mm, frequency_mhz, bandwidth)

    @property
    def rate_mhz(self) -> float:
        """Complex samples per µs."""
        return OVERSAMPLING * self.frequency_mhz

    @property
    def pulse_sd_us(self) -> float:
        """Standard deviation of the two-way pulse's envelope, µs."""
        return FWHM / (2 * np.pi * self.bandwidth * self.frequency_mhz)


@dataclass(frozen=True, eq=False)
class Transmit:
    """One firing.

    Parameters
    ----------
    delays_us, weights
        Of each element; a weight of 0 does not fire.
    angle
        Of a plane wave from z, radians, or ``None``.
    focus
        ``(x, z)`` in mm of a focus; one behind the array (z < 0) is the source of a diverging wave; or ``None``.
    """

    delays_us: np.ndarray
    weights: np.ndarray
    angle: float | None = None
    focus: tuple[float, float] | None = field(default=None)

    @classmethod
    def plane(cls, array: Array, angle: float = 0.0) -> Transmit:
        """Return a plane wave with all elements."""
        delays = (array.x * np.sin(angle) + array.z * np.cos(angle)) / SOUND_MM_PER_US
        return cls(delays, np.ones_like(delays), angle=angle)

    @classmethod
    def focused(cls, array: Array, x: float, z: float, f_number: float | None = None) -> Transmit:
        """Return a wave that meets in (x, z), or diverges from there if z < 0; aperture ``z / f_number``, or all."""
        away = np.hypot(array.x - x, array.z - z)
        if z < 0:
            return cls(away / SOUND_MM_PER_US, np.ones_like(away), focus=(x, z))
        used = np.ones(len(away), bool) if f_number is None else np.abs(array.x - x) <= z / f_number / 2 + 1e-9
        return cls(-away / SOUND_MM_PER_US, used.astype(float), focus=(x, z))

    def arrival_us(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return when the ideal wavefront reaches places, µs."""
        if self.angle is not None:
            return np.asarray((x * np.sin(self.angle) + z * np.cos(self.angle)) / SOUND_MM_PER_US)
        fx, fz = self.focus or (0.0, 0.0)
        away = np.hypot(x - fx, z - fz)
        return np.asarray((away if fz < 0 else np.where(z < fz, -away, away)) / SOUND_MM_PER_US)


def element_signals(
    array: Array,
    transmit: Transmit,
    scatterers: np.ndarray,
    duration_mm: float,
    loss_db_per_mm: float = 0.0,
    ideal: bool = False,
) -> tuple[np.ndarray, float]:
    """Return what every element receives.

    Parameters
    ----------
    array, transmit
        Probe and firing.
    scatterers
        x, z in mm and strength, shape ``(N, 3)``.
    duration_mm
        Depth down to which echoes are recorded.
    loss_db_per_mm
        Attenuation of one way at the centre frequency, beside what the strengths contain.
    ideal
        One wavefront instead of the sum of all elements' waves: no edge waves, several times faster. For plane and
        diverging waves only; a focus has a width that a wavefront does not know.

    Returns
    -------
    tuple
        Demodulated signals, complex64, shape ``(elements, samples)``, and the time of the first sample in µs. Sample n
        was taken ``n / rate`` later.
    """
    found = np.ascontiguousarray(scatterers, np.float64)
    start = float(np.min(transmit.delays_us[transmit.weights > 0])) - 4 * array.pulse_sd_us
    reach = np.hypot(duration_mm, np.ptp(array.x))
    last = transmit.arrival_us(np.array([0.0]), np.array([duration_mm]))[0] + reach / SOUND_MM_PER_US
    samples = int(np.ceil((last - start) * array.rate_mhz)) + 8
    out = np.zeros((array.x.size, samples), np.complex64)
    wave = np.zeros((0,)) if not ideal else transmit.arrival_us(found[:, 0], found[:, 1])
    sd = array.pulse_sd_us * array.rate_mhz
    _receive(
        found,
        np.column_stack([array.x, array.z, np.sin(array.normal), np.cos(array.normal)]),
        np.column_stack([transmit.delays_us, transmit.weights]),
        wave,
        np.array([array.frequency_mhz, array.rate_mhz, sd, array.width_mm, start, loss_db_per_mm / 8.685889638065035]),
        out,
    )
    return out, start


def beamform(
    array: Array,
    transmit: Transmit,
    signals: np.ndarray,
    start_us: float,
    x: np.ndarray,
    z: np.ndarray,
    f_number: float,
    hann: bool = False,
) -> np.ndarray:
    """Return the delay-and-sum of the element signals at places, complex64, shape of ``x``.

    Parameters
    ----------
    x, z
        Places in mm.
    f_number
        Depth over receive aperture: elements within ``z / f_number / 2`` of the foot of the perpendicular are summed
        (along the arc of a curved array: those whose axis lies within that angle), and the sum divided by their number.
    hann
        Weight them by a Hann window instead of uniformly: lower side lobes, a wider main lobe.
    """
    out = np.empty(x.shape, np.complex64)
    _sum(
        signals,
        np.column_stack([array.x, array.z, np.sin(array.normal), np.cos(array.normal)]),
        transmit.arrival_us(x, z).ravel(),
        x.ravel().astype(np.float64),
        z.ravel().astype(np.float64),
        np.array([array.frequency_mhz, array.rate_mhz, start_us, 0.5 / f_number, float(hann)]),
        out.reshape(-1),
    )
    return out


@njit(cache=True, nogil=True, fastmath=True)
def _way(sx, sz, element, width, per_mm):  # type: ignore[no-untyped-def]
    """Distance between a scatterer and an element in mm, and the amplitude of that way without attenuation."""
    dx, dz = sx - element[0], sz - element[1]
    r = max(np.sqrt(dx * dx + dz * dz), 1e-6)
    cosine = (dx * element[2] + dz * element[3]) / r
    sine = (dx * element[3] - dz * element[2]) / r
    u = np.pi * width * per_mm * sine
    directed = 1.0 if abs(u) < 1e-4 else np.sin(u) / u
    return r, max(cosine, 0.0) * directed / np.sqrt(max(r, NEAREST_MM))


@njit(cache=True, nogil=True, fastmath=True)
def _add_pulse(re, im, at, sd, phase, weight):  # type: ignore[no-untyped-def]
    """Add a Gaussian pulse centred on sample ``at``; exp(-x²/2) by recurrence, so one exponential per pulse."""
    reach = int(PULSE_REACH * sd) + 1
    first = max(int(at) - reach, 0)
    last = min(int(at) + reach + 1, re.size - 1)
    c, s = weight * np.cos(phase), weight * np.sin(phase)
    d = (first - at) / sd
    value, ratio, shrink = np.exp(-0.5 * d * d), np.exp(-(d + 0.5 / sd) / sd), np.exp(-1.0 / (sd * sd))
    for n in range(first, last + 1):
        re[n] += c * value
        im[n] += s * value
        value *= ratio
        ratio *= shrink


@njit(cache=True, nogil=True, fastmath=True)
def _receive(scatterers, elements, firing, wave, numbers, out):  # type: ignore[no-untyped-def]
    frequency, rate, sd, width, start, nepers = numbers
    per_mm, turn = frequency / SOUND_MM_PER_US, 2 * np.pi * frequency
    count, samples = out.shape
    reach = int(PULSE_REACH * sd) + 2
    longest = samples + 2 * reach
    re, im = np.zeros(longest, np.float32), np.zeros(longest, np.float32)
    ways, gains = np.empty(count), np.empty(count)
    flat = np.zeros((count, 2, samples), np.float32)
    for k in range(scatterers.shape[0]):
        sx, sz, strength = scatterers[k, 0], scatterers[k, 1], scatterers[k, 2]
        first, last = 1e30, -1e30
        for e in range(count):
            r, gain = _way(sx, sz, elements[e], width, per_mm)
            ways[e], gains[e] = r / SOUND_MM_PER_US, gain * np.exp(-nepers * r)
            if wave.size == 0 and firing[e, 1] != 0:
                t = firing[e, 0] + ways[e]
                first, last = min(first, t), max(last, t)
        if wave.size:
            first = last = wave[k]
        if strength == 0 or first >= 1e29:
            continue
        length = min(int((last - first) * rate) + 2 * reach + 2, longest)
        re[: length + 3], im[: length + 3] = 0, 0
        if wave.size:
            travelled = np.exp(-nepers * max(wave[k], 0.0) * SOUND_MM_PER_US)
            _add_pulse(re[:length], im[:length], np.float64(reach), sd, -turn * wave[k], travelled)
        else:
            for e in range(count):
                if firing[e, 1] != 0:
                    t = firing[e, 0] + ways[e]
                    weight = firing[e, 1] * gains[e]
                    _add_pulse(re[:length], im[:length], (t - first) * rate + reach, sd, -turn * t, weight)
        for e in range(count):
            at = (first + ways[e] - start) * rate - reach
            whole = int(np.floor(at))
            if gains[e] <= 0 or whole + length < 2 or whole > samples - 3:
                continue
            _add_delayed(flat[e], re, im, length, whole, np.float32(at - whole), -turn * ways[e], strength * gains[e])
    for e in range(count):
        for n in range(samples):
            out[e, n] = complex(flat[e, 0, n], flat[e, 1, n])


@njit(cache=True, nogil=True, fastmath=True)
def _add_delayed(target, re, im, length, whole, f, phase, weight):  # type: ignore[no-untyped-def]
    """Add a waveform delayed by ``whole + f`` samples: cubic Lagrange interpolation, constant taps per way."""
    one, two, six = np.float32(1), np.float32(2), np.float32(1 / 6)
    a = f * (one - f) * (one + f) * -six  # weight of the sample two later in the source
    b = f * (one + f) * (two - f) * np.float32(0.5)
    c = (one - f) * (one + f) * (two - f) * np.float32(0.5)
    d = -f * (one - f) * (two - f) * six
    g, h = np.float32(weight * np.cos(phase)), np.float32(weight * np.sin(phase))
    low, high = max(0, 2 - whole), min(length - 2, target.shape[1] - whole)
    for n in range(max(low, 2), high):
        p = a * re[n - 2] + b * re[n - 1] + c * re[n] + d * re[n + 1]
        q = a * im[n - 2] + b * im[n - 1] + c * im[n] + d * im[n + 1]
        target[0, whole + n] += g * p - h * q
        target[1, whole + n] += g * q + h * p


@njit(cache=True, nogil=True, fastmath=True)
def _sum(signals, elements, arrival, x, z, numbers, out):  # type: ignore[no-untyped-def]
    frequency, rate, start, half, hann = numbers
    turn = 2 * np.pi * frequency
    samples = signals.shape[1]
    for p in range(x.size):
        total_re, total_im, weights = 0.0, 0.0, 0.0
        for e in range(elements.shape[0]):
            dx, dz = x[p] - elements[e, 0], z[p] - elements[e, 1]
            ahead = dx * elements[e, 2] + dz * elements[e, 3]
            aside = abs(dx * elements[e, 3] - dz * elements[e, 2])
            if ahead <= 0 or aside > half * ahead:
                continue
            weight = 0.5 + 0.5 * np.cos(np.pi * aside / (half * ahead)) if hann > 0 else 1.0
            weights += weight
            t = arrival[p] + np.sqrt(dx * dx + dz * dz) / SOUND_MM_PER_US
            at = (t - start) * rate
            n = int(at)
            if at < 0 or n > samples - 2:
                continue
            f = np.float32(at - n)
            v = signals[e, n] * (1 - f) + signals[e, n + 1] * f
            c, s = weight * np.cos(turn * t), weight * np.sin(turn * t)
            total_re += v.real * c - v.imag * s
            total_im += v.real * s + v.imag * c
        out[p] = complex(total_re, total_im) / weights if weights > 0 else 0j


__all__ = ["Array", "Transmit", "beamform", "element_signals"]
