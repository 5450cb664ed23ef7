"""From the light of a fundus to a picture: aperture, illumination, scatter, exposure and white balance, blur."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import ndimage

from equipoise.engines.imaging.simulate_fundus import optics
from equipoise.engines.imaging.simulate_fundus.cameras import CAMERAS, Camera, Exposure
from equipoise.engines.imaging.simulate_fundus.development import developed, finished, grain_of
from equipoise.engines.parts.appearance import blur
from equipoise.engines.parts.retina import Field

COARSE = 8
"""Pixels per sample of what scatter spreads."""
SCATTER_SHARE = 0.25
"""SD of the light that media scatter, over the field's radius."""
AVERAGE_EYE = optics.Fundus(45.0, 0.14, 0.75, 80.0, 0.4, 0.012)
"""That cameras are balanced on."""
AUTOMATIC = 0.6
"""How far exposure and balance follow the fundus at hand, 0 to 1: dark fundi get more light."""
EDGE_PX = 1.2
"""Softness of the aperture's edge."""


@dataclass(frozen=True, eq=False)
class Aperture:
    """What of a picture shows fundus.

    Parameters
    ----------
    open
        Share of light let through, float32 ``(I, J)``.
    field
        Its circle.
    """

    open: np.ndarray
    field: Field


def aperture_of(shape: tuple[int, int], field: Field, camera: Camera, tab_angle: float) -> Aperture:
    """Return a camera's aperture: a circle, cut off above and below, with a tab on its edge."""
    x, y = (np.float32(field.radius * f(tab_angle)) for f in (np.cos, np.sin))
    tab = np.float32(0.045 * field.radius if camera.tab else -1e9)
    flat = np.float32(camera.flat * field.radius if camera.flat < 1 else 1e9)
    i = np.arange(shape[0], dtype=np.float32) - np.float32(field.x)
    j = np.arange(shape[1], dtype=np.float32) - np.float32(field.y)
    share = np.empty(shape, np.float32)
    _open(i, j, np.float32(field.radius + 0.5), flat, (x, y, tab), np.float32(1 / EDGE_PX), share)
    return Aperture(share, field)


def exposed(
    light: np.ndarray, exposure: Exposure, aperture: Aperture, um_per_px: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the picture of a fundus, grey values 0 to 255, uint8 ``(B, I, J)``.

    Parameters
    ----------
    light
        Reflectance in the bands of the camera, ``(B, I, J)`` with B = 3, or 1 for its green alone.
    exposure
        How it is taken.
    aperture
        Of the picture.
    um_per_px
        Scale.
    rng
        Of the noise.
    """
    camera = CAMERAS[exposure.camera]
    linear = scattered(light, illumination(exposure, aperture, light.shape[1:], COARSE), exposure, aperture)
    sigma = exposure.blur_um / um_per_px
    chromatic = (1.1, 1.0, 1.2) if len(light) == 3 else (1.0,)  # the eye is not corrected for colour
    gain = gains(camera, exposure, len(light)) * automatic(camera, light, aperture)
    grain = grain_of(linear.shape, camera.mosaic, rng)
    blurred = [
        blur(colour[None, :, :, None], (factor * sigma, factor * sigma, 0.0))[0, :, :, 0]
        for colour, factor in zip(linear, chromatic, strict=True)
    ]
    developed(blurred, grain, exposure.photons, gain, exposure.gamma, linear)
    return finished(linear, exposure.sharpening, aperture.open, camera.black, exposure.quality, rng)


def illumination(exposure: Exposure, aperture: Aperture, shape: tuple[int, ...], step: int = 1) -> np.ndarray:
    """Return the light that falls on every ``step``-th pixel of a fundus ``(I, J)``, 1 in the middle, float32."""
    x, y = _about(aperture.field, shape)
    x, y = x[::step], y[:, ::step]
    r2 = x * x + y * y
    even = 1 - np.float32(exposure.vignetting) * r2 * (0.6 + 0.4 * r2)
    even = even * (1 + np.float32(exposure.tilt) * (x * np.cos(exposure.tilt_angle) + y * np.sin(exposure.tilt_angle)))
    if exposure.shadow > 0:
        along = x * np.float32(np.cos(exposure.shadow_angle)) + y * np.float32(np.sin(exposure.shadow_angle))
        even = even * (1 - np.float32(exposure.shadow) / (1 + np.exp(-(along - 0.55) / 0.16)))
    return np.asarray(np.clip(even, 0.02, 3.0), np.float32)


def scattered(light: np.ndarray, lit: np.ndarray, exposure: Exposure, aperture: Aperture) -> np.ndarray:
    """Return a lit fundus with a share of its light spread widely by turbid media, and haze from the pupil's edge.

    Parameters
    ----------
    light
        Reflectance, float32 ``(B, I, J)``.
    lit
        Illumination at every `COARSE`-th pixel, float32.
    exposure, aperture
        How much is spread, and from where.
    """
    few = light[:, ::COARSE, ::COARSE] * lit * aperture.open[::COARSE, ::COARSE]
    sigma = SCATTER_SHARE * aperture.field.radius / COARSE
    wide = ndimage.gaussian_filter(few, (0, sigma, sigma), mode="constant")
    more = np.array([0.8, 1.0, 1.9]) if len(light) == 3 else np.array([1.0])  # short waves are scattered more
    share = np.minimum(exposure.opacity * more, 0.95).astype(np.float32)
    mean = few.mean(axis=(1, 2))
    x, y = _about(aperture.field, light.shape[1:])
    x, y = x[::COARSE], y[:, ::COARSE]
    edge = np.exp(np.minimum((np.sqrt(x * x + y * y) - 1) / 0.13, 1))
    edge = edge * (1 + np.cos(np.arctan2(y, x) - exposure.haze_angle)) * np.float32(0.5 * exposure.haze)
    # Haze is light that never reached the fundus: whiter than what comes back from there.
    white = (0.35 * mean + 0.65 * mean[min(1, len(mean) - 1)]).astype(np.float32)
    added = wide * share[:, None, None] + edge * white[:, None, None]
    out = np.empty(light.shape, np.float32)
    wider = ((0, 0), (0, 1), (0, 1))
    factors = (1 - share)[:, None, None] * lit
    _spread(light, *(np.pad(f, wider, mode="edge").astype(np.float32) for f in (factors, added)), out)
    return out


def gains(camera: Camera, exposure: Exposure, colours: int) -> np.ndarray:
    """Return the factor from reflectance to linear grey values of each colour."""
    sensitivity = optics.bands(camera.centres_nm, camera.widths_nm)
    gain = np.array(camera.average) / (sensitivity @ AVERAGE_EYE.reflectance())
    gain = gain * exposure.level * np.array(exposure.tint)
    if colours == 1:
        return np.asarray(gain[1:2] * 1.5, np.float32)
    return np.asarray(gain, np.float32)


def automatic(camera: Camera, light: np.ndarray, aperture: Aperture) -> np.ndarray:
    """Return the factors by which exposure and white balance follow the fundus."""
    every = light[:, ::4, ::4]
    mean = (every * aperture.open[::4, ::4]).mean(axis=(1, 2)) / max(float(aperture.open[::4, ::4].mean()), 1e-6)
    sensitivity = optics.bands(camera.centres_nm, camera.widths_nm)
    usual = sensitivity @ AVERAGE_EYE.reflectance()
    return np.asarray(((usual if len(mean) == 3 else usual[1:2]) / mean) ** AUTOMATIC, np.float32)


def _about(field: Field, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return places in radii from the field's centre, float32 ``(I, 1)`` and ``(1, J)``."""
    x = (np.arange(shape[0], dtype=np.float32) - np.float32(field.x)) / np.float32(field.radius)
    y = (np.arange(shape[1], dtype=np.float32) - np.float32(field.y)) / np.float32(field.radius)
    return x[:, None], y[None]


@njit(cache=True, nogil=True, fastmath=True)
def _open(x, y, radius, flat, tab, sharp, share):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        for j in range(len(y)):
            outside = max(np.sqrt(x[i] * x[i] + y[j] * y[j]) - radius, abs(y[j]) - flat)
            u, v = x[i] - tab[0], y[j] - tab[1]
            outside = min(outside, np.sqrt(u * u + v * v) - tab[2])
            share[i, j] = min(max(np.float32(0.5) - outside * sharp, np.float32(0.0)), np.float32(1.0))


@njit(cache=True, nogil=True, fastmath=True)
def _spread(light, kept, added, out):  # type: ignore[no-untyped-def]
    """Write the light times what is kept, and what is added, both given at every `COARSE`-th pixel."""
    step = np.float32(1.0 / COARSE)
    for k in range(out.shape[0]):
        for i in range(out.shape[1]):
            a = i // COARSE
            f = np.float32(i % COARSE) * step
            for b in range(kept.shape[2] - 1):
                m0 = (1 - f) * kept[k, a, b] + f * kept[k, a + 1, b]
                m1 = (1 - f) * kept[k, a, b + 1] + f * kept[k, a + 1, b + 1]
                p0 = (1 - f) * added[k, a, b] + f * added[k, a + 1, b]
                p1 = (1 - f) * added[k, a, b + 1] + f * added[k, a + 1, b + 1]
                for j in range(b * COARSE, min((b + 1) * COARSE, out.shape[2])):
                    g = np.float32(j - b * COARSE) * step
                    out[k, i, j] = light[k, i, j] * (m0 + g * (m1 - m0)) + p0 + g * (p1 - p0)


__all__ = ["Aperture", "aperture_of", "exposed", "illumination", "scattered"]
