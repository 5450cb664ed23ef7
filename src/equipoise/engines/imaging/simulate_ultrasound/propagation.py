"""What happens to the pulse on its way: absorption, the shadow of reflectors, echoes of interfaces.

References
----------
Szabo TL. Diagnostic Ultrasound Imaging: Inside Out. 2nd ed. 2014: attenuation (ch. 4), reflection (ch. 3).
"""

from __future__ import annotations

import numpy as np
from numba import njit

NEPER_DB = 8.685889638065035
"""Decibels of one neper of amplitude."""
SPECULAR_RADIANS = 0.45
"""Angle between beam and normal at which a smooth interface's echo has fallen to 1/e: the aperture catches no more."""
ROUGH_SHARE = 0.2
"""Share of an interface's amplitude that is scattered into all directions."""


def echo_loss(
    attenuation: np.ndarray,
    reflection: np.ndarray,
    frequency_mhz: float,
    step_mm: float,
    spread: np.ndarray,
    edge_mm: float = 1.0,
) -> np.ndarray:
    """Return the amplitude that is left of each sample's echo after the way there and back.

    Parameters
    ----------
    attenuation
        dB/cm/MHz, float32, shape ``(samples, beams)``.
    reflection
        Change of ln(Z) / 2 along the beam in each sample, same shape: over an interface it adds up to atanh(R). What an
        interface sends back is missing behind it: ``1 - R²`` both ways, however many samples it extends over.
    frequency_mhz
        Centre frequency: attenuation is taken there for the whole pulse.
    step_mm
        Distance of samples.
    spread
        Share of a beam's energy that each neighbour gets per sample, shape ``(samples,)``. The aperture looks around
        a small obstacle, so its shadow fades with depth.
    edge_mm
        Extent of an interface on this grid; changes farther apart are two interfaces.

    Returns
    -------
    numpy.ndarray
        1 at the probe, float32, shape ``(samples, beams)``.
    """
    out = np.empty_like(attenuation)
    per_step = np.float32(2 * frequency_mhz * step_mm / 10 / NEPER_DB)
    kept = np.float32(np.exp(-step_mm / (2 * edge_mm)))
    _lose(attenuation, reflection, per_step, np.asarray(spread, np.float32), kept, out)
    return out


def sharing(
    depths: np.ndarray, step_mm: float, f_number: float, aperture_mm: float, pitch_mm: np.ndarray
) -> np.ndarray:
    """Return the share of energy that a beam exchanges with each neighbour per sample.

    Of a point at depth z the aperture of width ``D = min(aperture, z / F#)`` sees an obstacle at z - dz over
    ``D dz / z`` only. Taken as a random walk, its standard deviation across grows to D / sqrt(12) at the depth z.
    """
    aperture = np.minimum(aperture_mm, np.maximum(depths, step_mm) / f_number)
    variance_per_mm = aperture**2 / 12 / np.maximum(depths, 5.0)
    share: np.ndarray = np.minimum(0.5 * variance_per_mm * step_mm / pitch_mm**2, 0.32)
    return share


def interfaces(impedance: np.ndarray, pixel: tuple[float, float]) -> np.ndarray:
    """Return the gradient of the interfaces' reflection coefficient, per mm along I and J, float32, ``(2, I, J)``.

    ``R = ln(Z2 / Z1) / 2`` for small steps (exact: tanh of it), so its gradient integrates to R across any interface.
    """
    log = 0.5 * np.log(impedance)
    out = np.zeros((2, *impedance.shape), np.float32)
    for axis in range(2):
        if impedance.shape[axis] > 1:
            out[axis] = np.gradient(log, pixel[axis], axis=axis)
    return out


def echoes(gradient: np.ndarray, tilt: np.ndarray, step_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return what the interface in each sample sends back, and its part in the change of impedance.

    Parameters
    ----------
    gradient
        As from `interfaces`, at the samples: shape ``(2, samples, beams)``.
    tilt
        Angle of each beam from the vertical, radians.
    step_mm
        Distance of samples.

    Returns
    -------
    tuple
        Echo amplitude, which depends on the angle at which the beam meets the interface, and change of ln(Z) / 2 along
        the beam; both float32, shape ``(samples, beams)``.
    """
    seen, whole = np.empty(gradient.shape[1:], np.float32), np.empty(gradient.shape[1:], np.float32)
    _echo(gradient, np.sin(tilt), np.cos(tilt), np.float32(step_mm), seen, whole)
    return seen, whole


@njit(cache=True, nogil=True, fastmath=True)
def _lose(attenuation, reflection, per_step, spread, kept, out):  # type: ignore[no-untyped-def]
    samples, beams = attenuation.shape
    # Steps up and steps down are summed apart, so that the two faces of a thin bone do not cancel.
    faces = np.zeros((2, beams), np.float32)
    energy, mixed = np.ones(beams, np.float32), np.empty(beams, np.float32)
    for k in range(samples):
        s = spread[k]
        for b in range(beams):
            left, right = energy[max(b - 1, 0)], energy[min(b + 1, beams - 1)]
            mixed[b] = energy[b] + s * (left + right - 2 * energy[b])
        for b in range(beams):
            left_over = np.exp(-per_step * attenuation[k, b])
            # The echo of a sample is attenuated by what lies before it, and by half of itself.
            out[k, b] = mixed[b] * np.sqrt(left_over)
            energy[b] = mixed[b] * left_over
            r = reflection[k, b]
            which = 0 if r > 0 else 1
            before = faces[which, b]
            faces[0, b] *= kept
            faces[1, b] *= kept
            if r != 0:
                faces[which, b] = before + abs(r)
                # 1 - tanh² = 1 / cosh²: the loss of the interface so far is replaced by that of the whole of it.
                ratio = np.cosh(before) / np.cosh(before + abs(r))
                energy[b] *= ratio * ratio


@njit(cache=True, nogil=True, fastmath=True)
def _echo(gradient, sine, cosine, step, seen, whole):  # type: ignore[no-untyped-def]
    for k in range(seen.shape[0]):
        for b in range(seen.shape[1]):
            gx, gy = gradient[0, k, b], gradient[1, k, b]
            size = np.sqrt(gx * gx + gy * gy)
            if size < 1e-7:
                seen[k, b] = whole[k, b] = 0
                continue
            along = gx * sine[b] + gy * cosine[b]
            cos = min(abs(along) / size, np.float32(1))
            angle = np.arccos(cos) / np.float32(SPECULAR_RADIANS)
            lobe = ROUGH_SHARE * cos + (1 - ROUGH_SHARE) * np.exp(-angle * angle)
            seen[k, b] = np.tanh(size * step) * lobe
            whole[k, b] = along * step


__all__ = ["NEPER_DB", "echo_loss", "echoes", "interfaces", "sharing"]
