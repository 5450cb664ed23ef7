"""What lies where in the body before organs are painted: lungs, mediastinum, abdomen, and the layers of the wall.

The wall's muscles are told apart by planes of fat, as textbooks of anatomy draw them (Standring S, Gray's Anatomy, 41st
ed. 2016, ch. 43 and 54): intercostal muscles inside, latissimus and serratus at the side, pectoral muscles in front
above the fourth rib, rectus and the three oblique layers below the ribs, erector spinae and trapezius at the back.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from equipoise.engines.anatomy.torso.body import BOTTOM, Profiles
from equipoise.engines.anatomy.torso.structures import ABDOMEN, MEDIASTINUM, index_of

CODES = np.array(
    [
        index_of("fat"), index_of("muscle"), MEDIASTINUM, ABDOMEN, index_of("right upper lobe"),
        index_of("right middle lobe"), index_of("right lower lobe"), index_of("left upper lobe"),
        index_of("left lower lobe"),
    ],
    np.int64,
)  # fmt: skip
"""What `fill_body` and `codes_at` return: fat, muscle, above and below the diaphragm, and the five lobes."""
_FAT, _MUSCLE = 0, 1
INTERCOSTAL_MM = 10.0
"""From the pleura to the outside of the ribs."""


def fill_body(values: np.ndarray, origin: np.ndarray, step: np.ndarray, profiles: Profiles) -> None:
    """Write what lies where into a canvas of zeros."""
    _fill(values, origin, step, profiles.table, profiles.domes, profiles.phases, CODES)


def codes_at(points: np.ndarray, profiles: Profiles) -> np.ndarray:
    """Return what lies at points that are inside the skin, as in `CODES`, int64, shape ``(n,)``."""
    return np.asarray(_codes_at(points, profiles.table, profiles.domes, profiles.phases, CODES))


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
def _sort(
    x: float, y: float, z: float, row: np.ndarray, inner: float, cavity: float, floor: float, phases: np.ndarray
) -> int:
    """Return what lies at a point inside the skin, as its place in `CODES`.

    ``inner`` and ``cavity`` are the sums of the superellipses of trunk and cavity, ``floor`` the diaphragm's height.
    """
    if inner > 1:
        return _FAT
    # Beside the spine lie gutters; behind it no lung reaches the middle.
    behind = y - row[6] + 6
    if cavity > 1 or (behind > 0 and abs(x) < 20 + 0.65 * behind):
        wall: int = _wall(x, y, z, row, inner, cavity, phases)
        return wall
    if z < floor:
        return _MUSCLE if z > floor - 3 else 3
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
        return _MUSCLE
    lower = z < _fissure(y, x > 0)
    if x > 0:
        return 8 if lower else 7
    if lower:
        return 6
    return 5 if z < -2 - 0.05 * (y + 40) else 4  # the horizontal fissure, at the fourth rib


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _wall(x: float, y: float, z: float, row: np.ndarray, inner: float, cavity: float, phases: np.ndarray) -> int:
    """Return whether a point between thoracic cavity and subcutaneous fat is fat or muscle."""
    # Sums grow by 2.35 / radius per mm near the surfaces that they describe.
    wave = math.sin(0.055 * y + 0.031 * z + phases[0]) + math.sin(0.047 * x - 0.04 * z + phases[1])
    wave += 0.4 * math.sin(0.17 * x + 0.11 * y + 0.06 * z + phases[3])
    out = (cavity - 1) * 0.19 * (row[0] + row[1])
    deep = (1 - inner) * 0.19 * (row[3] + row[4]) + 1.3 * wave
    plane = 1.2 + 0.11 * row[7]  # thickness of planes of fat: the fatter, the thicker
    aside = abs(x) + wave
    back = y - row[6]
    if back > -6 and aside < 74:
        behind: int = _back(aside, back, deep, plane)
        return behind
    if 0 < out < INTERCOSTAL_MM and z > -170:
        return _MUSCLE
    if out >= INTERCOSTAL_MM and out < INTERCOSTAL_MM + plane:
        return _FAT
    if z < -120 or (z < -70 and y < -30):
        below: int = _belly(aside, y, z, deep, plane)
        return below
    beside: int = _side(aside, y, z, deep, plane, 2 * wave)
    return beside


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _side(aside: float, y: float, z: float, deep: float, plane: float, wave: float) -> int:
    """Return fat or muscle outside the ribs, at the side and in front; muscles thin out to their edges."""
    edge = y + 38 - 0.25 * z + wave
    if edge > 0:  # latissimus over serratus
        thick = 9 * min(math.sqrt(edge / 30), 1.0)
        return _FAT if thick < deep < thick + plane or (deep < thick and edge < 3) else _MUSCLE
    if z < 12:
        return _FAT
    # Pectoral muscles; behind them lies the fat of the armpit.
    lateral, medial = -46 + 0.1 * (z - 12) + wave - y, aside - 13 - 0.05 * (z - 12)
    if lateral < 0 or medial < 0:
        return _FAT
    thick = min(4 + 0.35 * (z - 12), 15.0) * min(math.sqrt(lateral / 26), 1.0) * min(math.sqrt(medial / 14), 1.0)
    if deep < thick:
        return _MUSCLE
    return _MUSCLE if z > 48 and aside > 58 and lateral > 6 and deep > thick + plane else _FAT


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _back(aside: float, back: float, deep: float, plane: float) -> int:
    """Return fat or muscle behind the ribs and beside the spine."""
    if aside < 1.0 + 0.4 * plane and back > 30:
        return _FAT  # nuchal and supraspinous ligament, with fat
    if 8 < deep < 8 + plane:
        return _FAT  # below trapezius and latissimus
    edge = aside - 60 + 0.35 * back
    if deep > 8 and 0 < edge < 1.6 * plane:
        return _FAT  # beside the erector spinae
    # A cleft between longissimus and iliocostalis that does not reach through.
    cleft = abs(aside - 24 - 0.2 * back)
    return _FAT if 8 < deep < 17 and cleft < 0.05 * plane * (17 - deep) else _MUSCLE


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _belly(aside: float, y: float, z: float, deep: float, plane: float) -> int:
    """Return fat or muscle in the wall below the ribs."""
    if y < -45 and aside < 66:
        return _MUSCLE if deep < 10 and aside > 3 + 0.2 * plane else _FAT  # rectus, and the white line between
    if y < -45 and aside < 66 + 1.5 * plane:
        return _FAT
    if deep > 17 or 5.5 < deep < 5.5 + 0.5 * plane or 11.5 < deep < 11.5 + 0.4 * plane:
        return _FAT  # three oblique layers, and fat before the peritoneum
    return _MUSCLE


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fissure(y: float, left: bool) -> float:
    """Return the height of the oblique fissure: from T4 at the back to the diaphragm in front."""
    return (66.0 if left else 58.0) + 0.95 * (y - 85)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fill(
    values: np.ndarray, origin: np.ndarray, step: np.ndarray, table: np.ndarray, domes: np.ndarray,
    phases: np.ndarray, codes: np.ndarray,
) -> None:  # fmt: skip
    ni, nj, nk = values.shape
    floors = np.empty((ni, nj))
    for i in range(ni):
        for j in range(nj):
            floors[i, j] = diaphragm(origin[0] + i * step[0], origin[1] + j * step[1], domes)
    # The superellipses' powers are taken once per row and column, not per voxel; up is the fastest axis of the volume.
    across, deep, hollow = np.empty((ni, nk, 3)), np.empty((nj, nk, 3)), np.empty((ni, nk, 2))
    rows = np.empty((nk, table.shape[1]))
    for k in range(nk):
        z = origin[2] + k * step[2]
        rows[k] = table[min(max(np.int64(np.rint(z)) - BOTTOM, 0), table.shape[0] - 1)]
        for i in range(ni):
            x = origin[0] + i * step[0]
            across[i, k] = _powers(abs(x), rows[k, 3] + rows[k, 7], rows[k, 3], rows[k, 0])
            hollow[i, k, 0], hollow[i, k, 1] = _hollows(x, z, phases)
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
                more = hollow[i, k, 1 if y > rows[k, 5] else 0]
                if across[i, k, 0] + deep[j, k, 0] + more <= 1:
                    place = _sort(
                        x, y, origin[2] + k * step[2], rows[k], across[i, k, 1] + deep[j, k, 1] + more,
                        across[i, k, 2] + deep[j, k, 2], floors[i, j], phases,
                    )  # fmt: skip
                    values[i, j, k] = codes[place]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _hollows(x: float, z: float, phases: np.ndarray) -> tuple[float, float]:
    """Return by how much the sums of skin and trunk are larger in front and at the back: 0.1 is 5 mm of depth."""
    swell = 0.02 * math.sin(0.03 * x + 0.013 * z + phases[2])
    front = 0.05 * math.exp(-((x / 20) ** 2)) + swell
    # A furrow over the spine, between the bulges of the erector spinae.
    back = 0.11 * math.exp(-((x / 14) ** 2)) - 0.05 * math.exp(-(((abs(x) - 48) / 26) ** 2)) - swell
    return front, back


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _powers(away: float, skin: float, trunk: float, cavity: float) -> tuple[float, float, float]:
    # Beyond 3 half axes the sum is above 1 anyway.
    return min(away / skin, 3.0) ** 2.35, min(away / trunk, 3.0) ** 2.35, min(away / cavity, 3.0) ** 2.35


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _codes_at(
    points: np.ndarray, table: np.ndarray, domes: np.ndarray, phases: np.ndarray, codes: np.ndarray
) -> np.ndarray:
    found = np.zeros(len(points), np.int64)
    for n in range(len(points)):
        x, y, z = points[n]
        row = table[min(max(np.int64(np.rint(z)) - BOTTOM, 0), table.shape[0] - 1)]
        inner = (abs(x) / row[3]) ** 2.35 + (abs(y - row[5]) / row[4]) ** 2.35
        cavity = (abs(x) / row[0]) ** 2.35 + (abs(y - row[2]) / row[1]) ** 2.35
        found[n] = codes[_sort(x, y, z, row, inner, cavity, diaphragm(x, y, domes), phases)]
    return found


__all__ = ["CODES", "codes_at", "diaphragm", "fill_body"]
