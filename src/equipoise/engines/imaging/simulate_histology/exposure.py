"""From stain concentrations to the picture of a slide scanner: absorption, optics, sensor, colours, compression."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as Pictures

from equipoise.engines.imaging.simulate_histology.scanners import Acquisition
from equipoise.engines.imaging.simulate_histology.stains import optical_density
from equipoise.engines.parts.appearance import blur

UNCOMPRESSED = 100
"""JPEG quality from which the picture is not compressed."""


def transmitted(
    concentrations: np.ndarray, acquisition: Acquisition, thickness: np.ndarray | float = 1.0
) -> np.ndarray:
    """Return the share of light that passes, in red, green and blue: Beer-Lambert, without optics.

    Parameters
    ----------
    concentrations
        float32, shape ``(3, I, J, K)``: haematoxylin, eosin, red cells.
    acquisition
        Names the stain vectors and the mean thickness.
    thickness
        Relative to the mean, a number or of shape ``(I, J, K)``.
    """
    density = optical_density(concentrations, acquisition.vectors, acquisition.thickness_um * np.asarray(thickness))
    np.multiply(density, np.float32(-np.log(10.0)), out=density)
    light: np.ndarray = np.exp(density, out=density)
    return light


def expose(light: np.ndarray, acquisition: Acquisition, um: float, rng: np.random.Generator) -> np.ndarray:
    """Return the picture of a scanner, uint8, shape ``(3, I, J, K)``.

    Lenses blur light, not density: a dense nucleus beside glass gets a bright rim within, as in practice.

    Parameters
    ----------
    light
        Of `transmitted`.
    um
        Size of a pixel.
    rng
        Of the sensor's noise.
    """
    sensed = np.stack([_through_lens(light[c], acquisition, c, um) for c in range(3)])
    if acquisition.gamma != 1.0:
        np.power(np.maximum(sensed, 1e-6), np.float32(acquisition.gamma), out=sensed)
    sensed = saturated(sensed, acquisition.saturation)
    sensed *= acquisition.white.astype(np.float32)[:, None, None, None]
    if acquisition.noise > 0:
        grain = rng.standard_normal(sensed.shape, np.float32)
        sensed += grain * np.float32(acquisition.noise) * np.sqrt(np.maximum(sensed, 0) / np.float32(255.0))
    picture = np.rint(np.clip(sensed, 0, 255)).astype(np.uint8)
    return compressed(picture, acquisition.jpeg, acquisition.subsampled)


def saturated(colours: np.ndarray, factor: float) -> np.ndarray:
    """Return colours, shape ``(3, ...)``, whose distance from their mean is multiplied; glass stays as it is."""
    if factor == 1.0:
        return colours
    grey = colours.mean(axis=0)
    changed: np.ndarray = grey + np.float32(factor) * (colours - grey)
    return changed


def compressed(picture: np.ndarray, quality: int, subsampled: bool) -> np.ndarray:
    """Return an 8-bit picture ``(3, I, J, K)`` after JPEG, slice by slice."""
    if quality >= UNCOMPRESSED:
        return picture
    out = np.empty_like(picture)
    for k in range(picture.shape[3]):
        file = io.BytesIO()
        pixels = np.ascontiguousarray(picture[..., k].transpose(2, 1, 0))
        Pictures.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=2 if subsampled else 0)
        out[..., k] = np.asarray(Pictures.open(file)).transpose(2, 1, 0)
    return out


def _through_lens(light: np.ndarray, acquisition: Acquisition, colour: int, um: float) -> np.ndarray:
    """Return one colour, blurred, and shifted against green; shape ``(I, J, K)``."""
    sigma = acquisition.blur_um[colour] / um
    seen: np.ndarray = blur(light[None], (sigma, sigma, 0.0))[0]
    shift = acquisition.chromatic_um * (1 - colour) / um
    if abs(shift) < 0.02:
        return seen
    whole = int(np.floor(shift))
    part = np.float32(shift - whole)
    index = np.arange(seen.shape[0])
    first = np.clip(index + whole, 0, len(index) - 1)
    second = np.clip(index + whole + 1, 0, len(index) - 1)
    moved: np.ndarray = seen[first] * (1 - part) + seen[second] * part
    return moved


__all__ = ["UNCOMPRESSED", "compressed", "expose", "saturated", "transmitted"]
