"""Slide scanners by name, and how one section is stained, cut and scanned.

The profiles are typical of classes of scanners (objective, aperture, compression as data sheets give them), not of one
product. Grey values of glass and gamma are those that slides from several archives show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.engines.imaging.simulate_histology.stains import LABORATORIES, matrix_of, turned

WAVELENGTH_UM = (0.61, 0.54, 0.46)
"""Middle of a colour sensor's red, green and blue band."""

GAUSSIAN = 0.225
"""Standard deviation of the Gaussian that is nearest to an in-focus wide-field point-spread function, in units of
wavelength over numerical aperture (Zhang B, Zerubia J, Olivo-Marin J-C. Applied Optics 2007;46:1819-1829.
doi:10.1364/AO.46.001819)."""


@dataclass(frozen=True)
class Scanner:
    """A slide scanner.

    Parameters
    ----------
    aperture
        Numerical aperture of the objective.
    white
        Range of the grey value of glass.
    tint
        Range of its red and its blue against its green, as factors: white balance is never exact.
    gamma
        Range of the exponent of transmitted light; the published stain vectors are of images with 1.
    saturation
        Range of the factor on the distance of colours from grey.
    chromatic_um
        Range of the shift of red against green, and of blue the other way.
    electrons
        Range of the photo-electrons of a pixel that sees glass.
    jpeg
        Range of the quality of its compression.
    subsampled
        Whether the compression halves the resolution of colours.
    """

    aperture: float
    white: tuple[float, float]
    tint: tuple[float, float]
    gamma: tuple[float, float]
    saturation: tuple[float, float]
    chromatic_um: tuple[float, float]
    electrons: tuple[float, float]
    jpeg: tuple[int, int]
    subsampled: bool


PROFILES: Mapping[str, Scanner] = {
    "line scanner 20x/0.75 doubled": Scanner(
        0.75, (232, 246), (1.0, 1.04), (0.95, 1.15), (0.8, 1.0), (0.0, 0.12), (9e3, 2e4), (70, 90), False
    ),
    "line scanner 40x/0.95": Scanner(
        0.95, (236, 250), (1.0, 1.03), (0.9, 1.1), (0.85, 1.05), (0.0, 0.1), (1e4, 3e4), (80, 92), False
    ),
    "time-delay scanner 20x/0.75": Scanner(
        0.75, (220, 238), (1.0, 1.04), (0.9, 1.1), (0.75, 1.0), (0.0, 0.2), (1.5e4, 4e4), (75, 90), True
    ),
    "tile scanner 20x/0.8": Scanner(
        0.80, (240, 253), (0.99, 1.04), (1.0, 1.25), (0.85, 1.1), (0.0, 0.15), (8e3, 2e4), (75, 92), True
    ),
    "camera on microscope 40x/0.65": Scanner(
        0.65, (215, 248), (0.97, 1.06), (0.85, 1.3), (0.75, 1.1), (0.0, 0.3), (4e3, 1e4), (80, 95), True
    ),
}


@dataclass(frozen=True, eq=False)
class Acquisition:
    """How one section was stained, cut and scanned.

    Parameters
    ----------
    scanner, laboratory
        Names of the profiles.
    vectors
        Optical densities of haematoxylin, eosin and red cells as columns of unit length, shape ``(3, 3)``.
    thickness_um
        Of the section.
    blur_um
        Standard deviation of the point-spread function in red, green and blue.
    white
        Grey values of glass.
    gamma, saturation, chromatic_um
        As in `Scanner`.
    noise
        Standard deviation of the sensor's noise at glass, in grey values; it falls with the square root of the light.
    jpeg
        Quality; 100 and more is no compression.
    subsampled
        Whether the compression halves the resolution of colours.
    """

    scanner: str
    laboratory: str
    vectors: np.ndarray
    thickness_um: float
    blur_um: tuple[float, float, float]
    white: np.ndarray
    gamma: float
    saturation: float
    chromatic_um: float
    noise: float
    jpeg: int
    subsampled: bool

    def attributes(self) -> dict[str, str | float]:
        """Return it as numbers and short texts."""
        return {
            "laboratory": self.laboratory,
            "thickness_um": round(self.thickness_um, 3),
            "blur_um": round(self.blur_um[1], 4),
            "gamma": round(self.gamma, 3),
            "saturation": round(self.saturation, 3),
            "white": round(float(self.white.mean()), 1),
            "noise": round(self.noise, 3),
            "jpeg": float(self.jpeg),
        }


def blur_of(aperture: float, defocus_um: float) -> tuple[float, float, float]:
    """Return the standard deviation of the point-spread function in red, green, blue, µm.

    Out of focus by z, a point becomes a disc of radius z tan(asin NA), whose standard deviation per axis is half that.

    Parameters
    ----------
    aperture
        Numerical aperture in air.
    defocus_um
        Distance from the plane of focus.
    """
    disc = 0.5 * abs(defocus_um) * math.tan(math.asin(min(aperture, 0.95)))
    red, green, blue = (math.hypot(GAUSSIAN * wave / aperture, disc) for wave in WAVELENGTH_UM)
    return red, green, blue


@dataclass(frozen=True)
class Settings:
    """Ranges that an acquisition is drawn from; ``None`` is the profile's own."""

    stain_degrees: float
    thickness_um: tuple[float, float]
    aperture: tuple[float, float] | None
    defocus_um: tuple[float, float]
    gamma: tuple[float, float] | None
    saturation: tuple[float, float] | None
    chromatic_um: tuple[float, float] | None
    electrons: tuple[float, float] | None
    jpeg: tuple[int, int] | None

    def draw(self, scanner: str, laboratory: str, rng: np.random.Generator) -> Acquisition:
        """Return one acquisition with a named scanner and laboratory."""
        of = PROFILES[scanner]
        angles = self.stain_degrees * np.abs(rng.standard_normal(3)) * (1.0, 1.0, 0.5)
        unit = matrix_of(LABORATORIES[laboratory]).T
        vectors = np.stack([turned(v, float(a), rng) for v, a in zip(unit, angles, strict=True)], axis=1)
        aperture = float(rng.uniform(*(self.aperture or (of.aperture,) * 2)))
        low, high = self.jpeg or of.jpeg
        return Acquisition(
            scanner,
            laboratory,
            vectors,
            float(rng.uniform(*self.thickness_um)),
            blur_of(aperture, float(rng.uniform(*self.defocus_um))),
            _glass(of, rng),
            _drawn(self.gamma or of.gamma, rng),
            _drawn(self.saturation or of.saturation, rng),
            _drawn(self.chromatic_um or of.chromatic_um, rng),
            255.0 / math.sqrt(_drawn(self.electrons or of.electrons, rng)),
            int(rng.integers(low, high + 1)),
            of.subsampled,
        )


def _glass(scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Return the grey values of glass in red, green, blue."""
    red, blue = rng.uniform(*scanner.tint, 2)
    glass: np.ndarray = np.minimum(rng.uniform(*scanner.white) * np.array([red, 1.0, blue]), 255.0)
    return glass


def _drawn(pair: Sequence[float], rng: np.random.Generator) -> float:
    low, high = pair
    return float(rng.uniform(low, high))


__all__ = ["PROFILES", "Acquisition", "Scanner", "Settings", "blur_of"]
