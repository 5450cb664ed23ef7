"""The reference body: profiles of trunk, thorax and spine along its length, the diaphragm, and what lies where.

Lengths in mm of an adult of 175 cm; x to the patient's left, y to the back, z up, z = 0 at the eighth thoracic
vertebra. Other people are this body with other widths, depths and heights, fat, breathing and age.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.interpolate import PchipInterpolator

from equipoise.engines.anatomy.torso.structures import ABDOMEN, MEDIASTINUM, index_of

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
    """

    table: np.ndarray
    domes: np.ndarray

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
        return cls(np.ascontiguousarray(np.column_stack([cavity, trunk, spine, fat])), domes)

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


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def diaphragm(x: float, y: float, domes: np.ndarray) -> float:
    """Return the height of the diaphragm's upper face in mm."""
    blend = 1 / (1 + math.exp(-x / 9))
    top = domes[0] * (1 - blend) + domes[1] * blend
    aside = abs(x) - 66
    u = aside / 76 if aside > 0 else aside / 150
    v = (y + 18) / (112 if y > -18 else 84)
    far = min(u * u + v * v, 1.0)
    # It falls farthest to the back, least to the front.
    deep = 82.0 if y > -18 else 82 - 42 * min((-18 - y) / 80, 1.0)
    height: float = top - deep * (1 - math.sqrt(1 - 0.985 * far))
    return height


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sort(x: float, y: float, z: float, row: np.ndarray, inner: float, cavity: float, floor: float) -> int:
    """Return what lies at a point inside the skin, as its place in `CODES`.

    ``inner`` and ``cavity`` are the sums of the superellipses of trunk and cavity, ``floor`` the diaphragm's height.
    """
    if inner > 1:
        return 0
    if cavity > 1:
        return 1
    if z < floor:
        return 1 if z > floor - 3 else 3
    # Between the lungs: they nearly meet behind the breast bone and in front of the spine; heart and vessels, painted
    # later, push them apart where they lie.
    front = (y - row[2]) / row[1]
    half = 4.0 + 13 * math.exp(-(((front + 0.05) / 0.42) ** 2))
    if y > row[6] - 14:
        half += min((y - row[6] + 14) * 0.9, 13.0)  # along the spine
    if z > 55 and front > -0.6:
        half += min((z - 55) / 9, 9.0)
    if abs(x) < half:
        return 2
    if cavity > 0.965:
        return 1
    lower = z < _fissure(y, x > 0)
    if x > 0:
        return 8 if lower else 7
    if lower:
        return 6
    return 5 if z < -2 - 0.05 * (y + 40) else 4  # the horizontal fissure, at the fourth rib


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fissure(y: float, left: bool) -> float:
    """Return the height of the oblique fissure: from T4 at the back to the diaphragm in front."""
    return (66.0 if left else 58.0) + 0.95 * (y - 85)


CODES = np.array(
    [
        index_of("fat"), index_of("muscle"), MEDIASTINUM, ABDOMEN, index_of("right upper lobe"),
        index_of("right middle lobe"), index_of("right lower lobe"), index_of("left upper lobe"),
        index_of("left lower lobe"),
    ],
    np.int64,
)  # fmt: skip
"""What `fill` and `codes_at` return: fat, muscle, above and below the diaphragm, and the five lobes."""


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def fill(
    values: np.ndarray, origin: np.ndarray, step: np.ndarray, table: np.ndarray, domes: np.ndarray, codes: np.ndarray
) -> None:
    """Write what lies where into a canvas of zeros."""
    ni, nj, nk = values.shape
    floors = np.empty((ni, nj))
    for i in range(ni):
        for j in range(nj):
            floors[i, j] = diaphragm(origin[0] + i * step[0], origin[1] + j * step[1], domes)
    # The superellipses' powers are taken once per row and column, not per voxel; up is the fastest axis of the volume.
    across, deep = np.empty((ni, nk, 3)), np.empty((nj, nk, 3))
    rows = np.empty((nk, table.shape[1]))
    for k in range(nk):
        rows[k] = table[min(max(np.int64(np.rint(origin[2] + k * step[2])) + 420, 0), table.shape[0] - 1)]
        for i in range(ni):
            across[i, k] = _powers(abs(origin[0] + i * step[0]), rows[k, 3] + rows[k, 7], rows[k, 3], rows[k, 0])
        for j in range(nj):
            y = origin[1] + j * step[1]
            away = y - rows[k, 5]
            fat = rows[k, 9] if away > 0 else rows[k, 8]
            deep[j, k] = _powers(abs(away), rows[k, 4] + fat, rows[k, 4], 1.0)
            deep[j, k, 2] = min(abs(y - rows[k, 2]) / rows[k, 1], 3.0) ** 2.35
    for i in range(ni):
        x = origin[0] + i * step[0]
        for j in range(nj):
            y = origin[1] + j * step[1]
            for k in range(nk):
                if across[i, k, 0] + deep[j, k, 0] <= 1:
                    place = _sort(
                        x, y, origin[2] + k * step[2], rows[k], across[i, k, 1] + deep[j, k, 1],
                        across[i, k, 2] + deep[j, k, 2], floors[i, j],
                    )  # fmt: skip
                    values[i, j, k] = codes[place]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _powers(away: float, skin: float, trunk: float, cavity: float) -> tuple[float, float, float]:
    # Beyond 3 half axes the sum is above 1 anyway.
    return min(away / skin, 3.0) ** 2.35, min(away / trunk, 3.0) ** 2.35, min(away / cavity, 3.0) ** 2.35


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def codes_at(points: np.ndarray, table: np.ndarray, domes: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return what lies at points that are inside the skin, int64, shape ``(n,)``."""
    found = np.zeros(len(points), np.int64)
    for n in range(len(points)):
        x, y, z = points[n]
        row = table[min(max(np.int64(np.rint(z)) + 420, 0), table.shape[0] - 1)]
        inner = (abs(x) / row[3]) ** 2.35 + (abs(y - row[5]) / row[4]) ** 2.35
        cavity = (abs(x) / row[0]) ** 2.35 + (abs(y - row[2]) / row[1]) ** 2.35
        found[n] = codes[_sort(x, y, z, row, inner, cavity, diaphragm(x, y, domes))]
    return found


__all__ = [
    "CODES", "VERTEBRAE", "Person", "Profiles", "codes_at", "diaphragm", "fill", "vertebra_z",
]  # fmt: skip
