"""Probes by name, and how one picture is taken with one.

The profiles are typical of their class of probe (frequency, pitch, radius and angle as manufacturers' data sheets give
them), not of one product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from equipoise.engines.imaging.simulate_ultrasound.display import SLIDERS
from equipoise.engines.imaging.simulate_ultrasound.geometry import STRAIGHT, Sector
from equipoise.engines.imaging.simulate_ultrasound.rf import Array
from equipoise.engines.imaging.simulate_ultrasound.speckle import SOUND_MM_PER_US, Beam

SMALLEST_RADIUS_MM = 0.5
"""Of a phased array, whose beams all leave from its middle."""


@dataclass(frozen=True)
class Scanner:
    """A probe with its preset.

    Parameters
    ----------
    geometry
        ``"linear"``, ``"curvilinear"`` or ``"phased"``.
    frequency_mhz
        Range of centre frequencies, MHz.
    bandwidth
        -6 dB two-way width over the centre frequency.
    f_number
        Of the receive aperture.
    elements, pitch_mm
        Of the array.
    radius_mm, angle_deg
        Of the arc and of the whole fan; of curvilinear and phased probes.
    elevation_mm
        Thickness of the slice, -6 dB.
    depth_mm
        Range of depths that the probe is used for.
    dynamic_range_db, gamma, looks
        Ranges of the display: dynamic range, exponent of the grey map, pictures averaged by compounding.
    """

    geometry: str
    frequency_mhz: tuple[float, float]
    bandwidth: float
    f_number: float
    elements: int
    pitch_mm: float
    radius_mm: float
    angle_deg: float
    elevation_mm: float
    depth_mm: tuple[float, float]
    dynamic_range_db: tuple[float, float]
    gamma: tuple[float, float]
    looks: tuple[int, int]

    @property
    def aperture_mm(self) -> float:
        """Length of the array."""
        return self.elements * self.pitch_mm

    def array(self, frequency_mhz: float, elements: int) -> Array:
        """Return the array for the RF tier, with fewer and wider elements if asked for, but never beyond a wavelength.

        Wider elements look to the front only, so pitch grows to one wavelength and the array gets shorter instead.
        """
        used = min(elements, self.elements)
        widest = max(SOUND_MM_PER_US / frequency_mhz, self.pitch_mm)
        pitch = min(self.aperture_mm / used, widest)
        if self.geometry == "curvilinear":
            return Array.curved(used, pitch, self.radius_mm, frequency_mhz, self.bandwidth)
        return Array.linear(used, pitch, frequency_mhz, self.bandwidth)

    def sector(self, width_mm: float, height_mm: float) -> Sector:
        """Return the field of view that fits a picture: as deep as it is high, in the middle of it."""
        if self.geometry == "linear":
            half = min(width_mm, self.aperture_mm) / 2
            return Sector(width_mm / 2, 0.0, STRAIGHT, -half, half, height_mm)
        radius = max(self.radius_mm, SMALLEST_RADIUS_MM)
        half = np.radians(self.angle_deg) / 2
        top = min(radius * (1 - np.cos(half)), 0.4 * height_mm)
        return Sector(width_mm / 2, float(top), radius, -float(half), float(half), height_mm - float(top))


PROFILES: Mapping[str, Scanner] = {
    "linear 12 MHz": Scanner(
        "linear", (10.0, 14.0), 0.7, 2.0, 192, 0.2, 0, 0, 1.2, (10, 60), (58, 72), (0.9, 1.2), (1, 4)
    ),
    "linear 7.5 MHz": Scanner(
        "linear", (6.0, 9.0), 0.65, 2.0, 128, 0.3, 0, 0, 1.6, (15, 80), (55, 70), (0.9, 1.2), (1, 3)
    ),
    "curvilinear 3.5 MHz": Scanner(
        "curvilinear", (2.8, 4.5), 0.7, 2.5, 128, 0.47, 60, 60, 4.0, (70, 250), (55, 70), (0.9, 1.2), (1, 3)
    ),
    "curvilinear 5 MHz": Scanner(
        "curvilinear", (4.0, 6.0), 0.75, 2.0, 192, 0.3, 50, 66, 3.0, (60, 200), (55, 72), (0.9, 1.3), (1, 4)
    ),
    "endocavity 6.5 MHz": Scanner(
        "curvilinear", (5.5, 8.0), 0.75, 2.0, 128, 0.19, 11, 120, 2.0, (50, 90), (55, 70), (0.9, 1.2), (1, 3)
    ),
    "phased 2.5 MHz": Scanner(
        "phased", (2.0, 3.2), 0.65, 3.0, 64, 0.3, 0, 80, 4.5, (80, 250), (45, 62), (0.9, 1.3), (1, 2)
    ),
}


def suitable(width_mm: float, height_mm: float) -> list[str]:
    """Return the probes that are used for a picture of this size; if none is, all, or the deep ones."""
    fits = [
        name
        for name, x in PROFILES.items()
        if x.depth_mm[0] <= height_mm <= x.depth_mm[1] and (x.geometry != "linear" or width_mm <= 1.1 * x.aperture_mm)
    ]
    deepest = [name for name, x in PROFILES.items() if x.depth_mm[1] >= 150] if height_mm > 60 else list(PROFILES)
    return fits or deepest


@dataclass(frozen=True, eq=False)
class Acquisition:
    """How one picture is taken.

    Parameters
    ----------
    scanner
        Name of the profile.
    sector
        Field of view.
    beam
        Point-spread function.
    tgc
        Attenuation that the time-gain compensation assumes, dB/cm/MHz.
    sliders_db
        Settings of its sliders.
    gain_db
        Level of liver above black, dB.
    dynamic_range_db, gamma, looks
        Of the display, see `Scanner`.
    speckle
        Share of the speckle's contrast in dB that the scanner's filter leaves; 1 is no filter.
    noise_db, clutter_db
        Electronic noise against liver at the probe; echoes from beside the beam against what lies around. dB.
    reverberation_db
        Level of the repeated echoes under the probe against liver, dB, falling over `reverberation_mm`.
    reverberation_mm
        Depth over which they fall by 8.7 dB.
    scatterers
        In a resolution cell.
    elevation_mm
        Thickness of the slice.
    """

    scanner: str
    sector: Sector
    beam: Beam
    tgc: float
    sliders_db: np.ndarray
    gain_db: float
    dynamic_range_db: float
    gamma: float
    looks: int
    speckle: float
    noise_db: float
    clutter_db: float
    reverberation_db: float
    reverberation_mm: float
    scatterers: float
    elevation_mm: float

    def attributes(self) -> dict[str, str | float]:
        """Return the acquisition as numbers and short texts."""
        return {
            "geometry": PROFILES[self.scanner].geometry,
            "frequency_mhz": round(self.beam.frequency_mhz, 3),
            "focus_mm": round(self.beam.focus_mm, 2),
            "depth_mm": round(self.sector.depth, 2),
            "tgc_db_cm_mhz": round(self.tgc, 3),
            "gain_db": round(self.gain_db, 2),
            "dynamic_range_db": round(self.dynamic_range_db, 2),
            "gamma": round(self.gamma, 3),
            "looks": float(self.looks),
            "speckle": round(self.speckle, 3),
            "noise_db": round(self.noise_db, 2),
            "clutter_db": round(self.clutter_db, 2),
            "reverberation_db": round(self.reverberation_db, 2),
            "scatterers": round(self.scatterers, 1),
        }


@dataclass(frozen=True)
class Settings:
    """Ranges that acquisitions are drawn from, uniformly; ``None`` is the profile's own. Units as in `Acquisition`."""

    frequency_mhz: tuple[float, float] | None
    focus: tuple[float, float]
    tgc: tuple[float, float]
    slider_db: float
    gain_db: tuple[float, float]
    dynamic_range_db: tuple[float, float] | None
    gamma: tuple[float, float] | None
    looks: tuple[int, int] | None
    speckle: tuple[float, float]
    noise_db: tuple[float, float]
    clutter_db: tuple[float, float]
    reverberation_db: tuple[float, float]
    scatterers: tuple[float, float]
    widen: tuple[float, float]

    def draw(self, name: str, width_mm: float, height_mm: float, rng: np.random.Generator) -> Acquisition:
        """Draw an acquisition with a named profile for a picture of a size in mm."""
        scanner = PROFILES[name]
        sector = scanner.sector(width_mm, height_mm)
        frequency = float(rng.uniform(*(self.frequency_mhz or scanner.frequency_mhz)))
        widen = float(rng.uniform(*self.widen))
        beam = Beam(
            frequency,
            scanner.bandwidth,
            scanner.f_number,
            scanner.aperture_mm,
            sector.depth * float(rng.uniform(*self.focus)),
            1.5 * scanner.f_number,
            (1.0, widen),
        )
        fewest, most = self.looks or scanner.looks
        return Acquisition(
            scanner=name,
            sector=sector,
            beam=beam,
            tgc=float(rng.uniform(*self.tgc)),
            sliders_db=self.slider_db * rng.standard_normal(SLIDERS),
            gain_db=float(rng.uniform(*self.gain_db)),
            dynamic_range_db=float(rng.uniform(*(self.dynamic_range_db or scanner.dynamic_range_db))),
            gamma=float(rng.uniform(*(self.gamma or scanner.gamma))),
            looks=int(rng.integers(fewest, most + 1)),
            speckle=float(rng.uniform(*self.speckle)),
            noise_db=float(rng.uniform(*self.noise_db)),
            clutter_db=float(rng.uniform(*self.clutter_db)),
            reverberation_db=float(rng.uniform(*self.reverberation_db)),
            reverberation_mm=float(rng.uniform(0.03, 0.08)) * sector.depth,
            scatterers=float(rng.uniform(*self.scatterers)),
            elevation_mm=scanner.elevation_mm,
        )


def with_sector(acquisition: Acquisition, sector: Sector) -> Acquisition:
    """Return the acquisition with another field of view; the focus keeps its share of the depth."""
    share = sector.depth / acquisition.sector.depth
    beam = replace(acquisition.beam, focus_mm=acquisition.beam.focus_mm * share)
    return replace(acquisition, sector=sector, beam=beam)


__all__ = ["PROFILES", "Acquisition", "Scanner", "Settings", "suitable", "with_sector"]
