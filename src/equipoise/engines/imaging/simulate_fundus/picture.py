"""From the light of a fundus to a stored picture: illumination, scatter, blur, sensor, tones, aperture, JPEG."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numba import njit
from PIL import Image as Picture
from scipy import ndimage

from equipoise.engines.imaging.simulate_fundus import optics
from equipoise.engines.imaging.simulate_fundus.cameras import CAMERAS, Camera, Exposure
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
    i, j = (
        np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(field.x),
        np.arange(shape[1], dtype=np.float32)[None] - np.float32(field.y),
    )
    outside = np.hypot(i, j) - np.float32(field.radius + 0.5)
    if camera.flat < 1:
        outside = np.maximum(outside, np.abs(j) - np.float32(camera.flat * field.radius))
    if camera.tab:
        x, y = (1.0 * field.radius * f(tab_angle) for f in (np.cos, np.sin))
        outside = np.minimum(outside, np.hypot(i - np.float32(x), j - np.float32(y)) - np.float32(0.045 * field.radius))
    return Aperture(np.clip(0.5 - outside / np.float32(EDGE_PX), 0, 1), field)


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
    signal = np.empty_like(linear)
    for k, factor in enumerate(chromatic):
        signal[k] = blur(linear[k][None, :, :, None], (factor * sigma, factor * sigma, 0.0))[0, :, :, 0]
    grain = rng.standard_normal(signal.shape, np.float32)
    if camera.mosaic and len(light) == 3:
        grain = _interpolated(grain)
    _sense(signal, grain, np.float32(exposure.photons), gain.astype(np.float32))
    return finished(toned(signal, exposure.gamma), exposure, aperture, camera.black, rng)


def finished(
    grey: np.ndarray, exposure: Exposure, aperture: Aperture, black: float, rng: np.random.Generator
) -> np.ndarray:
    """Return grey values sharpened, cut out by the aperture, and compressed, uint8; the given ones may change."""
    if exposure.sharpening > 0.01:
        soft = blur(grey[..., None], (1.2, 1.2, 0))[..., 0]
        grey = grey + np.float32(exposure.sharpening) * (grey - soft)
    cut = np.ascontiguousarray(grey, np.float32)
    _cut_out(cut, aperture.open, rng.standard_normal(grey.shape[1:], np.float32), np.float32(black))
    return compressed(cut, exposure.quality)


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


def toned(signal: np.ndarray, gamma: float) -> np.ndarray:
    """Return grey values 0 to 255 of linear ones 0 to 1, with a soft shoulder near white."""
    out = np.empty_like(signal)
    # Above 0.8 a film-like shoulder, so that a bright disc keeps some drawing.
    nodes = np.linspace(0, 2, 2049)
    bent = np.where(nodes < 0.8, nodes, 0.8 + 0.2 * (1 - np.exp(-(nodes - 0.8) / 0.2)))
    _tone(signal, (255 * bent ** (1 / gamma)).astype(np.float32), out)
    return out


def compressed(grey: np.ndarray, quality: int) -> np.ndarray:
    """Return grey values after JPEG; above 100 they are only rounded."""
    pixels = np.rint(grey).astype(np.uint8)
    if quality > 100:
        return np.asarray(pixels)
    stored = io.BytesIO()
    array = np.ascontiguousarray(pixels.transpose(2, 1, 0) if len(pixels) == 3 else pixels[0].T)
    Picture.fromarray(array).save(stored, "jpeg", quality=quality, subsampling=2 if quality < 90 else 0)
    with Picture.open(io.BytesIO(stored.getvalue())) as read:
        back = np.asarray(read)
    return np.ascontiguousarray(back.transpose(2, 1, 0) if back.ndim == 3 else back.T[None])


def _about(field: Field, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return places in radii from the field's centre, float32 ``(I, 1)`` and ``(1, J)``."""
    x = (np.arange(shape[0], dtype=np.float32) - np.float32(field.x)) / np.float32(field.radius)
    y = (np.arange(shape[1], dtype=np.float32) - np.float32(field.y)) / np.float32(field.radius)
    return x[:, None], y[None]


def _interpolated(grain: np.ndarray) -> np.ndarray:
    """Return noise as a mosaic's colours have it after interpolation: coarser in red and blue, its variance smaller."""
    soft = blur(grain[..., None], (0.55, 0.55, 0))[..., 0]
    soft[::2] = blur(grain[::2, ..., None], (0.8, 0.8, 0))[..., 0]
    return soft


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


@njit(cache=True, nogil=True, fastmath=True)
def _sense(signal, grain, photons, gain):  # type: ignore[no-untyped-def]
    """Amplify and add photon and read noise in place; a colour that is amplified more had fewer electrons."""
    read = np.float32(9.0)
    for k in range(signal.shape[0]):
        per = photons * gain.min() / gain[k]
        for i in range(signal.shape[1]):
            for j in range(signal.shape[2]):
                s = max(signal[k, i, j] * gain[k], np.float32(0.0))
                signal[k, i, j] = s + grain[k, i, j] * np.sqrt(s * per + read * read) / per


@njit(cache=True, nogil=True, fastmath=True)
def _cut_out(grey, open_, dark, black):  # type: ignore[no-untyped-def]
    """Blend a picture into the dark around it, in place, and keep it between black and white."""
    for k in range(grey.shape[0]):
        for i in range(grey.shape[1]):
            for j in range(grey.shape[2]):
                under = black + np.float32(0.5) * dark[i, j]
                value = under + open_[i, j] * (grey[k, i, j] - under)
                grey[k, i, j] = min(max(value, np.float32(0.0)), np.float32(255.0))


@njit(cache=True, nogil=True, fastmath=True)
def _tone(signal, table, out):  # type: ignore[no-untyped-def]
    last = len(table) - 1
    for k in range(signal.shape[0]):
        for i in range(signal.shape[1]):
            for j in range(signal.shape[2]):
                u = min(max(signal[k, i, j], np.float32(0.0)), np.float32(1.9999)) * np.float32(last / 2)
                a = int(u)
                f = u - a
                out[k, i, j] = table[a] * (1 - f) + table[a + 1] * f


__all__ = ["Aperture", "aperture_of", "compressed", "exposed", "finished", "illumination", "scattered", "toned"]
