"""What lies outside the cavity of the skull: bone, marrow, muscle, fat, skin, eyes and airways."""

from __future__ import annotations

import math

from numba import njit

from equipoise.engines.anatomy.head.atlas import (
    AIR,
    AIRWAYS,
    EYE,
    EYEBALL,
    FAT,
    MARROW,
    MUSCLE,
    ORBIT,
    PHARYNX,
    SCALP,
    SKULL,
)
from equipoise.engines.anatomy.head.shapes import blend, chain, ellipsoid


@njit(cache=True, nogil=True)
def outside(x, y, z, vault, face, bone, scalp, wave):  # type: ignore[no-untyped-def]
    """Return the structure at a point.

    Parameters
    ----------
    x, y, z
        mm on the right side.
    vault, face
        Distances from the dura and from the face's surface, mm.
    bone, scalp
        Thickness of skull and scalp, mm.
    wave
        Random field of variance 1.
    """
    # A wide blend of face and head would raise the whole scalp: below the brow only.
    skin = blend(vault - bone - scalp, face, 14.0)
    if skin > 0.0:
        return AIR
    if ellipsoid(x, y, z, EYEBALL) < 0.0:
        return EYE
    if skin > -1.8:
        return SCALP
    if 0.0 <= vault < bone:
        table = 1.5 + 0.3 * wave
        if table < vault < bone - table and (z > -20.0 or abs(wave) > 0.5):
            return MARROW
        return SKULL
    if (z < 20.0 and y > -10.0) or z < -60.0:
        found = _face_and_neck(x, y, z, skin, wave)
        if found >= 0:
            return found
    if x < 42.0 and -20.0 < y < 50.0 and z < -20.0:  # between the solids of head and face, not below the skin
        return MUSCLE
    if skin > -1.8 - (0.55 + 0.15 * wave) * scalp - (4.0 if z < -40.0 else 0.0):
        return FAT
    return MUSCLE if wave < 1.5 or vault < bone + 9.0 else FAT


@njit(cache=True, nogil=True)
def _face_and_neck(x, y, z, skin, wave):  # type: ignore[no-untyped-def]
    """Return airways, orbit, palate or spine at a point, or -1."""
    air = chain(x, y, z, PHARYNX)
    for n in range(AIRWAYS.shape[0]):
        air = min(air, ellipsoid(x, y, z, AIRWAYS[n]))
    if air < 0.0:
        # Turbinates: leaves of mucosa in the nose.
        return MUSCLE if x < 12.0 and y > 30.0 and math.cos(0.55 * z + wave) > 0.45 and air > -9.0 else AIR
    orbit = ellipsoid(x, y, z, ORBIT)
    if orbit < 0.0 and skin < -3.0:
        return FAT if wave < 1.2 else MUSCLE
    if (air < 1.6 and y > 0.0) or (orbit < 2.2 and y < 74.0 and skin < -4.0):
        return SKULL
    if abs(z + 84.0) < 6.0 and x < 24.0 and 20.0 < y < 70.0 and skin < -5.0:
        return SKULL if abs(z + 84.0) > 3.5 else MARROW
    spine = 10.0 * (math.sqrt((x / 13.0) ** 2 + ((y + 22.0) / 10.0) ** 2) - 1.0)
    if z < -66.0 and spine < 0.0:
        return SKULL if spine > -1.8 or math.cos(2 * math.pi * (z + 66.0) / 18.0) > 0.9 else MARROW
    return -1


__all__ = ["outside"]
