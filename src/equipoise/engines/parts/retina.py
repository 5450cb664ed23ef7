"""What a drawn eye tells a camera beside its labels: where everything is, and how much blood lies under each pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from equipoise.engines.parts.placement import Placement

UM_PER_DEGREE = 288.0
"""Length on the retina of one degree of visual field (Drasdo and Fowler 1974)."""
DISC_RADIUS_MM = 0.9
"""Of the optic disc; 1.75 mm wide and 1.9 mm high (Jonas et al. 1988)."""
DISC_TO_FOVEA_MM = 4.5
"""Between the centres, 15.5° (Rohrschneider K, Invest Ophthalmol Vis Sci 2004;45:3257)."""
FOVEA_BELOW = 0.11
"""The fovea lies lower than the disc, as a share of their distance: 6.3°, between 5.6° (ibid.) and 7.8° (Jonas RA et
al., PLoS One 2015;10:e0141771)."""
ARTERY, VEIN, VESSEL, DISC, CUP, FOVEA = "artery", "vein", "vessel", "optic disc", "optic cup", "fovea"
STRUCTURES = (ARTERY, VEIN, DISC, CUP, FOVEA, VESSEL)
EXUDATE, HAEMORRHAGE, MICROANEURYSM = "exudate", "haemorrhage", "microaneurysm"
LESIONS = (EXUDATE, HAEMORRHAGE, MICROANEURYSM)
FIELD_SHARE = 0.485
"""Radius of the field over the shorter side of a picture that does not show its own."""


@dataclass(frozen=True)
class Ellipse:
    """In pixels: centre, half axes, and the angle of the first axis against I in radians."""

    x: float
    y: float
    a: float
    b: float
    angle: float = 0.0

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the distance from the edge in pixels, negative inside; exact for circles."""
        u, v = self._turned(x, y)
        return np.asarray((np.sqrt(u * u + v * v) - 1) * math.sqrt(self.a * self.b))

    def holds(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return whether places lie within."""
        u, v = self._turned(x, y)
        return np.asarray(u * u + v * v <= 1)

    def _turned(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return places along both axes, in half axes."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        x, y = x - self.x, y - self.y
        return x * (c / self.a) + y * (s / self.a), y * (c / self.b) - x * (s / self.b)


@dataclass(frozen=True)
class Landmarks:
    """Where the eye's landmarks lie on a picture, in pixels.

    Parameters
    ----------
    disc, cup
        Outlines.
    fovea
        Its centre, x and y.
    um_per_px
        Scale.
    """

    disc: Ellipse
    cup: Ellipse
    fovea: tuple[float, float]
    um_per_px: float

    @property
    def right(self) -> bool:
        """Whether it is a right eye: seen from the front, its disc lies right of the fovea."""
        return self.disc.x > self.fovea[0]


@dataclass(frozen=True)
class Field:
    """The round piece of fundus that a camera shows: centre and radius in pixels."""

    x: float
    y: float
    radius: float

    @classmethod
    def within(cls, columns: int, rows: int) -> Field:
        """Return the usual field in the middle of a picture."""
        return cls((columns - 1) / 2, (rows - 1) / 2, FIELD_SHARE * min(columns, rows))


@dataclass(frozen=True, eq=False, kw_only=True)
class Eye(Placement):
    """A drawn eye: a placement of no training case.

    Parameters
    ----------
    landmarks
        Where disc and fovea lie, labelled or not.
    field
        What the labels were drawn in.
    lumen_um
        Length of the path through the blood of arteries and of veins, mean of each pixel; float32 ``(2, I, J)``.
    axis
        How near the pixel lies to the axis of a vessel wide enough to have a light reflex, 0 to 1; as ``lumen_um``.
    exact
        Whether the labels were drawn from the landmarks; else the landmarks were guessed from the labels.
    """

    landmarks: Landmarks
    field: Field
    lumen_um: np.ndarray
    axis: np.ndarray
    exact: bool = True


__all__ = [
    "ARTERY",
    "CUP",
    "DISC",
    "DISC_RADIUS_MM",
    "DISC_TO_FOVEA_MM",
    "EXUDATE",
    "FOVEA",
    "FOVEA_BELOW",
    "HAEMORRHAGE",
    "LESIONS",
    "MICROANEURYSM",
    "STRUCTURES",
    "UM_PER_DEGREE",
    "VEIN",
    "VESSEL",
    "Ellipse",
    "Eye",
    "Field",
    "Landmarks",
]
