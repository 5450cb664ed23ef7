"""From what the rays of a picture met to its grey values: fine structure, spectrum, scatter, detector, collimator."""

from __future__ import annotations

import numpy as np

from equipoise.engines.imaging.simulate_xray.detector import add_scatter, attenuation_of, detect, displayed
from equipoise.engines.imaging.simulate_xray.film import Shadow
from equipoise.engines.imaging.simulate_xray.rooms import Exposure
from equipoise.engines.parts.grid import Grid, power_law
from equipoise.engines.parts.spectrum import MATERIALS, Spectrum, transmission

LUNG_GRAIN = (0.012, 3.6, 22.0)
BONE_GRAIN = (0.012, 2.8, 5.0)
"""Spread in g/cm² per square root of a mm, exponent of the power spectrum, and longest wave in mm."""
BORDER = 0.06
"""Widest border of a collimator, as a share of the picture."""


def read(
    shadow: Shadow,
    exposure: Exposure,
    pixel: float,
    texture: float,
    tissue: np.random.Generator,
    noise: np.random.Generator,
) -> np.ndarray:
    """Return grey values from 0 to 1 of what the rays met, shape ``(columns, rows)``.

    Parameters
    ----------
    shadow
        Areal densities of the picture's rays.
    exposure
        How it is taken.
    pixel
        mm.
    texture
        Strength of the lung's and the bones' fine structure.
    tissue, noise
        Streams of both.
    """
    areal = _grained(shadow, pixel, texture, tissue) if texture else shadow.areal
    spectrum = Spectrum.of_tube(exposure.kvp, *exposure.filter_mm)
    primary = transmission(areal, *spectrum.coarse())
    mass = areal.sum(axis=2)
    signal = add_scatter(primary, mass, exposure, pixel)
    inside = mass > 1.0
    detected = detect(signal, inside, exposure, pixel, noise)
    return displayed(attenuation_of(detected), inside, exposure, pixel)


def _grained(shadow: Shadow, pixel: float, texture: float, rng: np.random.Generator) -> np.ndarray:
    """Return areal densities with what voxels cannot hold: fine vessels in lung, trabeculae in bone."""
    areal = shadow.areal.copy()
    grid = Grid((*shadow.lung_mm.shape, 1), (pixel, pixel, 1.0))
    for material, way, (amount, exponent, longest) in (
        ("lung", shadow.lung_mm, LUNG_GRAIN),
        ("cortical bone", shadow.bone_mm, BONE_GRAIN),
    ):
        # Independent layers add up as the square root of their number.
        grain = texture * amount * np.sqrt(way) * power_law(grid, exponent, longest, rng)[..., 0]
        part = areal[..., MATERIALS.index(material)]
        part += np.maximum(grain, -0.5 * part)
    return areal


def collimated(grey: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return the picture with the dark border of a collimator; a ``share`` of pictures has one."""
    if rng.random() >= share:
        return grey
    grey = grey.copy()
    columns, rows = grey.shape
    left, right, top, bottom = (rng.uniform(0, BORDER, 4) * [columns, columns, rows, rows]).astype(int)
    grey[:left], grey[columns - right :], grey[:, :top], grey[:, rows - bottom :] = 0.0, 0.0, 0.0, 0.0
    return grey


__all__ = ["collimated", "read"]
