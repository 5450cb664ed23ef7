"""Fundus cameras by name, eyes as they are met, and how one picture is taken.

The profiles are typical of their class of camera (field, sensor, processing), not of one product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from equipoise.engines.imaging.simulate_fundus import optics
from equipoise.engines.imaging.simulate_fundus.fundus import Look


@dataclass(frozen=True)
class Camera:
    """A camera with its processing.

    Parameters
    ----------
    centres_nm, widths_nm
        Mean and SD of the sensitivity in red, green, blue.
    average
        Linear colour, 0 to 1, that it gives an average fundus: white balance and exposure in one.
    gamma
        Range of the exponent of its tone curve.
    photons
        Range of the electrons of a pixel at white: the depth of its wells.
    blur_um
        Range of the SD of its point spread on the retina, without the eye's defocus, µm.
    sharpening
        Range of the share of high frequencies that it adds again.
    mosaic
        Whether one chip sees the colours in turn, so that they are interpolated.
    vignetting
        Range of the loss of light at the edge of the field.
    tab, flat
        Whether the aperture has a small tab; share of the radius at which it is cut off above and below, 1 if not.
    black
        Grey value outside of the field.
    quality
        Range of JPEG's quality; 101 is not compressed.
    """

    centres_nm: tuple[float, float, float]
    widths_nm: tuple[float, float, float]
    average: tuple[float, float, float]
    gamma: tuple[float, float]
    photons: tuple[float, float]
    blur_um: tuple[float, float]
    sharpening: tuple[float, float]
    mosaic: bool
    vignetting: tuple[float, float]
    tab: bool
    flat: float
    black: float
    quality: tuple[int, int]


CAMERAS: Mapping[str, Camera] = {
    "non-mydriatic, three chips": Camera(
        (610, 540, 455), (32, 34, 25), (0.52, 0.155, 0.07), (2.0, 2.4), (2500, 6000), (10, 16), (0.0, 0.3), False,
        (0.05, 0.35), True, 1.0, 7.0, (90, 97),
    ),
    "mydriatic, one chip": Camera(
        (600, 535, 460), (36, 38, 28), (0.42, 0.125, 0.045), (2.0, 2.4), (6000, 18000), (6, 11), (0.1, 0.6), True,
        (0.1, 0.45), True, 0.9, 1.0, (85, 97),
    ),
    "hand-held": Camera(
        (605, 540, 455), (38, 40, 30), (0.4, 0.075, 0.012), (1.8, 2.3), (2500, 6000), (8, 14), (0.0, 0.4), True,
        (0.3, 0.7), False, 1.0, 0.0, (80, 95),
    ),
    "screening, white light": Camera(
        (600, 540, 460), (38, 38, 28), (0.36, 0.17, 0.085), (2.0, 2.5), (8000, 25000), (6, 11), (0.2, 0.8), True,
        (0.1, 0.4), False, 0.88, 0.0, (85, 98),
    ),
    "film, digitised": Camera(
        (620, 545, 450), (28, 28, 24), (0.5, 0.14, 0.05), (1.6, 2.0), (1800, 4000), (9, 15), (0.0, 0.1), False,
        (0.1, 0.4), False, 1.0, 4.0, (92, 101),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Ranges that eyes and exposures are drawn from; ``None`` is the camera's own. Units as in the engine."""

    age: tuple[float, float]
    pigmentation: tuple[float, float]
    blood_um: tuple[float, float]
    macular: tuple[float, float]
    sheen: float
    tigroid: float
    reflex: float
    exposure: tuple[float, float]
    white_balance: float
    unevenness: tuple[float, float]
    haze: tuple[float, float]
    defocus_um: tuple[float, float]
    opacity: tuple[float, float]
    noise: float
    sharpening: tuple[float, float] | None
    quality: tuple[int, int] | None

    def draw(self, name: str, rng: np.random.Generator) -> tuple[optics.Fundus, Look, Exposure]:
        """Draw an eye and how it is photographed with a named camera."""
        camera = CAMERAS[name]
        person, taking = rng.spawn(2)
        age = float(person.uniform(*self.age))
        pigment = float(person.uniform(*self.pigmentation))
        young = float(np.clip((60 - age) / 45, 0, 1))
        eye = optics.Fundus(
            age=age,
            rpe=0.08 + 0.1 * pigment,
            melanin=0.12 + 1.5 * pigment**1.5,
            blood_um=float(person.uniform(*self.blood_um)),
            macular=float(person.uniform(*self.macular)),
            sheen=self.sheen * (0.006 + 0.02 * young) * float(person.uniform(0.6, 1.4)),
        )
        look = Look(
            tigroid=float(np.clip(self.tigroid * person.beta(1.2, 2.0), 0, 1)),
            mottle=float(person.uniform(0.08, 0.28)),
            crescent=float(np.clip(person.normal(0.15, 0.35), 0, 0.95)),
            stripes=0.35 * young * self.sheen,
            reflex=self.reflex * (0.0015 + 0.004 * young) * float(person.uniform(0.7, 1.3)),
        )
        return eye, look, self._exposure(name, camera, taking)

    def _exposure(self, name: str, camera: Camera, rng: np.random.Generator) -> Exposure:
        tint = np.exp(self.white_balance * rng.standard_normal(3) * [0.5, 0.6, 1.0])
        where = rng.uniform(0, 2 * np.pi, 3)
        best, worst = self.quality or camera.quality
        return Exposure(
            camera=name,
            level=float(rng.uniform(*self.exposure)),
            tint=(float(tint[0]), float(tint[1]), float(tint[2])),
            gamma=float(rng.uniform(*camera.gamma)),
            vignetting=float(rng.uniform(*camera.vignetting)),
            tilt=float(rng.uniform(*self.unevenness)),
            tilt_angle=float(where[0]),
            shadow=float(max(rng.uniform(*self.unevenness) * 2 - 0.4, 0)) if rng.random() < 0.4 else 0.0,
            shadow_angle=float(where[1]),
            haze=float(rng.uniform(*self.haze)),
            haze_angle=float(where[2]),
            blur_um=float(np.hypot(rng.uniform(*camera.blur_um), rng.uniform(*self.defocus_um))),
            opacity=float(rng.uniform(*self.opacity)),
            photons=float(np.exp(rng.uniform(*np.log(camera.photons)))) / max(self.noise, 1e-6) ** 2,
            sharpening=float(rng.uniform(*(self.sharpening or camera.sharpening))),
            quality=int(rng.integers(best, worst + 1)),
        )


@dataclass(frozen=True)
class Exposure:
    """How one picture is taken.

    Parameters
    ----------
    camera
        Name of the profile.
    level
        Exposure over the camera's usual one.
    tint
        Factor on each colour by its white balance.
    gamma
        Of the tone curve.
    vignetting
        Loss of light at the edge of the field.
    tilt, tilt_angle
        Share by which one side is lighter than the middle, and which, radians.
    shadow, shadow_angle
        Depth of the shadow that the edge of the pupil throws, and its side.
    haze, haze_angle
        Light from the edge of the pupil as a share of the picture's mean, and its side.
    blur_um
        SD of the point spread on the retina, µm.
    opacity
        Share of the light that turbid media scatter over the picture.
    photons
        Electrons of a pixel at white.
    sharpening
        Share of high frequencies that is added again.
    quality
        JPEG's; 101 is not compressed.
    """

    camera: str
    level: float
    tint: tuple[float, float, float]
    gamma: float
    vignetting: float
    tilt: float
    tilt_angle: float
    shadow: float
    shadow_angle: float
    haze: float
    haze_angle: float
    blur_um: float
    opacity: float
    photons: float
    sharpening: float
    quality: int

    def attributes(self) -> dict[str, str | float]:
        """Return the acquisition as numbers."""
        return {
            "exposure": round(self.level, 3),
            "gamma": round(self.gamma, 3),
            "vignetting": round(self.vignetting, 3),
            "shadow": round(self.shadow, 3),
            "haze": round(self.haze, 3),
            "blur_um": round(self.blur_um, 2),
            "opacity": round(self.opacity, 3),
            "photons": round(self.photons),
            "jpeg_quality": float(self.quality),
        }


__all__ = ["CAMERAS", "Camera", "Exposure", "Settings"]
