"""The reference body: profiles of trunk, thorax and spine along its length.

Lengths in mm of an adult of 175 cm; x to the patient's left, y to the back, z up, z = 0 at the eighth thoracic
vertebra. Other people are this body with other widths, depths and heights, fat, breathing and age.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

BOTTOM, TOP = -420, 420
"""Extent of the profiles; beyond the torso the trunk goes on as it ends."""
# z: half width and half depth of the thoracic cavity, and the y of its middle
_CAVITY = {
    168: (16, 12, 24), 161: (42, 30, 21), 150: (62, 42, 19), 130: (86, 54, 14), 110: (103, 64, 11), 80: (119, 76, 8),
    50: (128, 84, 5), 0: (138, 93, 0), -40: (142, 98, -4), -80: (142, 100, -8), -120: (141, 98, -10),
    -170: (136, 92, -10), -230: (132, 86, -8),
}  # fmt: skip
# z: half width and half depth of the trunk without fat, and the y of its middle
_TRUNK = {
    215: (56, 58, 14), 185: (60, 60, 16), 168: (82, 64, 20), 152: (118, 74, 18), 135: (140, 84, 15),
    110: (152, 94, 12), 80: (158, 102, 10), 50: (160, 108, 7), 0: (160, 118, 4), -40: (157, 121, 0),
    -80: (155, 122, -4), -120: (152, 119, -5), -170: (147, 112, -4), -230: (144, 106, -2),
}  # fmt: skip
_SPINE_Y = {
    210: 20, 180: 27, 150: 34, 130: 42, 100: 53, 60: 63, 30: 67, 0: 68, -40: 67, -80: 63, -120: 56, -160: 46, -230: 34
}  # fmt: skip
VERTEBRAE = (18.0, 18.0, 20.0, 21.0, 21.5, 22.0, 22.5, 23.0, 23.5, 24.0, 24.5, 25.5, 26.5, 27.5, 32.0, 33.0, 34.0, 34.0)
"""Heights of C6 to L4 with the disc below each: 283 mm from T1 to T12."""
T1_TOP = 158.0
RIGHT_DOME, LEFT_DOME = -74.0, -87.0
"""Heights of the diaphragm's domes in full inspiration: the right one at the tenth posterior rib."""


@dataclass(frozen=True)
class Person:
    """One adult.

    Parameters
    ----------
    female
        Sex of the reference: narrower, with breasts.
    age
        Years: kyphosis and depth of the chest, width of the aorta, calcium in the costal cartilage.
    bmi
        Body-mass index in kg/m².
    stature_cm
        Body height.
    breath
        0 is full expiration, 1 full inspiration.
    phase
        Of the heart's cycle: 0 end of diastole, 0.4 end of systole.
    scale
        Factors of this body against the reference, along x, y, z.
    fat_mm
        Subcutaneous fat at the side, front and back.
    arms_raised
        Above the head, as in CT and for lateral films, not beside the chest.
    """

    female: bool
    age: float
    bmi: float
    stature_cm: float
    breath: float
    phase: float
    scale: tuple[float, float, float]
    fat_mm: tuple[float, float, float]
    arms_raised: bool = False

    @classmethod
    def of(
        cls, female: bool, age: float, bmi: float, stature_cm: float, breath: float, phase: float,
        rng: np.random.Generator,
    ) -> Person:  # fmt: skip
        """Return a person with widths that vary by 4 % (standard deviation) about what sex, stature and age predict."""
        build = 1 + 0.04 * rng.standard_normal(3)
        height = stature_cm / 175
        # Ribs rise with the breath; with age the chest becomes deeper.
        wide = height**0.5 * (0.955 if female else 1.03) * (0.97 + 0.03 * breath) * (bmi / 24) ** 0.10
        deep = height**0.5 * (0.95 if female else 1.03) * (0.94 + 0.06 * breath) * (bmi / 24) ** 0.12
        deep *= 1 + 0.0012 * (age - 45)
        tall = height * (0.965 if female else 1.0) * (1 - 0.0006 * max(age - 50, 0))
        fat = max(2.0, (bmi - 17) * (1.6 if female else 1.15))
        return cls(
            female, age, bmi, stature_cm, breath, phase,
            (float(wide * build[0]), float(deep * build[1]), float(tall * build[2] ** 0.5)),
            (1.0 * fat + 1, 0.9 * fat + 2, 0.8 * fat + 2),
        )  # fmt: skip

    @property
    def lift(self) -> float:
        """How much higher than in full inspiration the diaphragm stands, in mm."""
        return 48.0 * (1 - self.breath)


@dataclass(frozen=True, eq=False)
class Profiles:
    """The body along its length, one row per mm from `BOTTOM`.

    Parameters
    ----------
    table
        Columns: cavity half width, half depth, middle; trunk half width, half depth, middle; y of the spine; fat at the
        side, front, back. Shape ``(n, 10)``.
    domes
        Height of the diaphragm's right and left dome.
    phases
        Of the waves that let planes of fat between muscles, and the skin, wander by some mm; radians, shape ``(4,)``.
    """

    table: np.ndarray
    domes: np.ndarray
    phases: np.ndarray

    @classmethod
    def of(cls, person: Person, rng: np.random.Generator) -> Profiles:
        """Return the profiles of a person in the reference's coordinates."""
        z = np.arange(BOTTOM, TOP + 1.0)
        columns = []
        for knots in (_CAVITY, _TRUNK):
            at = np.array(sorted(knots), float)
            values = np.array([knots[int(h)] for h in at], float)
            # Beyond the knots the cavity is closed above and goes on below; the neck and the belly go on.
            columns.append(PchipInterpolator(at, values)(np.clip(z, at[0], at[-1])))
        cavity, trunk = columns
        cavity[z > max(_CAVITY), :2] = 0.1
        at = np.array(sorted(_SPINE_Y), float)
        spine = PchipInterpolator(at, [_SPINE_Y[int(h)] for h in at])(np.clip(z, at[0], at[-1]))
        # Kyphosis: a bulge to the back in the middle of the chest that grows with age.
        spine += 10 * (person.age - 45) / 40 * np.exp(-(((z - 30) / 90) ** 2)) * (0.7 + 0.3 * rng.random())
        fat = (
            np.array(person.fat_mm)[None]
            * np.interp(z, [-230, -120, 0, 120, 170, 220], [1.6, 1.3, 1.0, 0.9, 0.7, 0.5])[:, None]
        )
        belly = np.interp(z, [-230, -140, -60], [1.0, 0.7, 0.0]) * max(person.bmi - 22, 0) * 2.0
        trunk[:, 1] += belly / 2
        trunk[:, 2] -= belly / 2
        domes = np.array([RIGHT_DOME, LEFT_DOME]) + person.lift + 5 * rng.standard_normal(2)
        table = np.ascontiguousarray(np.column_stack([cavity, trunk, spine, fat]))
        return cls(table, domes, rng.uniform(0, 2 * np.pi, 4))

    def at(self, z: float | np.ndarray) -> np.ndarray:
        """Return the rows at heights z, shape ``(..., 10)``."""
        rows: np.ndarray = self.table[np.clip(np.rint(np.asarray(z)) - BOTTOM, 0, len(self.table) - 1).astype(int)]
        return rows

    def wall(self, z: np.ndarray, side: float, around: np.ndarray, outside: float) -> np.ndarray:
        """Return points ``outside`` mm outside the thoracic cavity.

        Parameters
        ----------
        around
            Angle from the spine (0) to the breast bone (π), shape ``(n,)``.
        side
            -1 is the patient's right, 1 the left.
        """
        rows = self.at(z)
        a, b = rows[:, 0] + outside, rows[:, 1] + outside
        power = 2 / SQUARENESS
        x = side * a * np.abs(np.sin(around)) ** power
        y = rows[:, 2] + b * np.sign(np.cos(around)) * np.abs(np.cos(around)) ** power
        return np.column_stack([x, y, z])


SQUARENESS = 2.35
"""Exponent of the superellipses that cavity and trunk are cut across."""


def vertebra_z() -> np.ndarray:
    """Return the heights of the middles of C6 to L4 (body and disc)."""
    tops = T1_TOP + VERTEBRAE[0] + VERTEBRAE[1] - np.concatenate([[0.0], np.cumsum(VERTEBRAE)])
    middles: np.ndarray = (tops[:-1] + tops[1:]) / 2
    return middles


__all__ = ["BOTTOM", "SQUARENESS", "TOP", "VERTEBRAE", "Person", "Profiles", "vertebra_z"]
