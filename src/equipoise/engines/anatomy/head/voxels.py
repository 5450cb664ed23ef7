"""From a point in the head to the structure that lies there."""

from __future__ import annotations

import math

from numba import njit

from equipoise.engines.anatomy.head.atlas import (
    AIR,
    AIRWAYS,
    AMYGDALA,
    AMYGDALA_PART,
    BRAINSTEM,
    BRAINSTEM_PARTS,
    CALLOSUM,
    CAUDATE,
    CAUDATE_TUBE,
    CAVITY,
    CEREBELLAR_CORTEX,
    CEREBELLAR_WHITE,
    CEREBELLUM,
    CEREBRUM,
    CORD,
    CORE,
    CSF,
    EYE,
    EYEBALL,
    FACE,
    FAT,
    FOURTH_VENTRICLE,
    GREY,
    HIPPOCAMPUS_ANTERIOR,
    HIPPOCAMPUS_POSTERIOR,
    HIPPOCAMPUS_TUBE,
    LATERAL_VENTRICLE,
    MARROW,
    MUSCLE,
    ORBIT,
    PALLIDUM,
    PALLIDUM_PARTS,
    PEDUNCLE,
    PHARYNX,
    PUTAMEN,
    PUTAMEN_PARTS,
    SCALP,
    SKULL,
    TEMPORAL,
    TEMPORAL_HORN,
    THALAMUS,
    THALAMUS_PARTS,
    THIRD_VENTRICLE,
    UNCAL_APEX_MM,
    VENTRICLE,
    WHITE,
)
from equipoise.engines.anatomy.head.shapes import blend, carve, chain, ellipsoid, periodic

SHELL_MM = 66.0
"""Radius that directions from the middle of the cerebrum are brought to before the folding field is looked up."""
_SULCUS_MM, _SULCUS_SD_MM = 18.0, 6.0
_INSULA_MM = 39.0


@njit(cache=True, nogil=True)
def _cerebral_hull(x, y, z):  # type: ignore[no-untyped-def]
    """Return the distance from the smooth hull of the cerebrum; ``x`` is 0 or more."""
    main = carve(ellipsoid(x, y, z, CEREBRUM), _floor(x, y) - z, 8.0)
    return blend(main, ellipsoid(x, y, z, TEMPORAL), 9.0)


@njit(cache=True, nogil=True)
def _floor(x, y):  # type: ignore[no-untyped-def]
    """Return how far down the cerebrum reaches beside its temporal lobes: orbits, brainstem, tentorium."""
    tent = -1.0 - 0.32 * x - 0.08 * max(-46.0 - y, 0.0)
    back, front = min(max((-24.0 - y) / 18.0, 0.0), 1.0), min(max((y - 4.0) / 14.0, 0.0), 1.0)
    return -15.0 + (tent + 15.0) * back - 12.0 * front


@njit(cache=True, nogil=True)
def _intracranial(x, y, z):  # type: ignore[no-untyped-def]
    inside = carve(ellipsoid(x, y, z, CEREBRUM), _floor(x, y) - 1.0 - z, 8.0)
    for n in range(CAVITY.shape[0]):
        inside = blend(inside, ellipsoid(x, y, z, CAVITY[n]), 10.0)
    return blend(inside, chain(x, y, z, CORD) - 4.0, 6.0)


@njit(cache=True, nogil=True)
def _fold(x, y, z, field, gx, gy, gz, mm):  # type: ignore[no-untyped-def]
    """Return the distance to the nearest sheet on which a sulcus may run, in mm, and how deep it is there."""
    dx, dy, dz = x - CEREBRUM[0], y - CEREBRUM[1], z - CEREBRUM[2]
    r = math.sqrt(dx * dx + dy * dy + dz * dz) + 1e-6
    # Mostly a function of direction: sheets then run inwards, and bend a little on their way.
    s = (SHELL_MM / r) ** 0.7 / mm
    u, v, w = dx * s + 500.0, dy * s + 500.0, dz * s + 500.0
    value = periodic(field, u, v, w)
    a, b, c = periodic(gx, u, v, w), periodic(gy, u, v, w), periodic(gz, u, v, w)
    slope = math.sqrt(a * a + b * b + c * c) + 1e-4
    deep = periodic(field, 0.31 * u + 7.0, 0.31 * v + 3.0, 0.31 * w + 11.0)
    depth = _SULCUS_MM + _SULCUS_SD_MM * deep
    return abs(value) / slope / (s * mm), max(depth, 5.0)


@njit(cache=True, nogil=True)
def _pial(x, y, z, hull, width, field, gx, gy, gz, mm, side):  # type: ignore[no-untyped-def]
    """Return the depth below the cortex' surface in mm: below 0 in a sulcus or fissure."""
    depth = -hull
    sheet, reach = _fold(x * side, y, z, field, gx, gy, gz, mm)
    # No sulci into the nuclei, nor from below about the brainstem and the perforated substance.
    core = ellipsoid(x, y, z, CORE)
    reach = min(reach, max(depth + core - 2.0, 3.0))
    below = max(depth - reach, 0.0)
    away = math.sqrt(sheet * sheet + below * below) - width
    best = carve(hull, -away, 3.0)  # rounded crowns of the gyri
    # Between the hemispheres, above and around the corpus callosum, which _callosum puts there afterwards.
    roof = 27.0 - 0.016 * (y + 4.0) ** 2
    if z > roof or y > 31.0 or y < -42.0 or (y > 8.0 and z < 0.0):
        best = max(best, -(x - 0.6 - 0.6 * width))
    # The lateral fissure: a sheet from outside to the insula, and the cleft over the insula.
    insula = _INSULA_MM - 0.007 * (y + 6.0) ** 2
    if -48.0 < y < 30.0:
        ramp = z - (-7.0 - 0.30 * (y - 8.0))
        fade = min(1.0, (y + 48.0) / 18.0, (30.0 - y) / 8.0)
        half = (width + 0.7) * fade
        if x > insula:
            best = max(best, half - abs(ramp) * 0.958)
        over = abs(ramp - 5.0) - 12.0 * fade
        best = max(best, half - math.sqrt((x - insula) ** 2 + max(over, 0.0) ** 2))
    return -best


@njit(cache=True, nogil=True)
def _deep(x, y, z, ventricles, hippocampus, nuclei):  # type: ignore[no-untyped-def]
    """Return the deep structure at a point, or AIR (0) if there is none; ``x`` is 0 or more."""
    swell = 4.5 * (ventricles - 1.0)
    if chain(x, y, z, LATERAL_VENTRICLE) < swell or chain(x, y, z, TEMPORAL_HORN) < 0.35 * swell:
        return VENTRICLE
    if x > 0.4 and ellipsoid(x, y, z, THIRD_VENTRICLE) < 0.3 * swell and z < 10.0:
        return VENTRICLE
    if x <= 0.4 and ellipsoid(0.4, y, z, THIRD_VENTRICLE) < 0.0:
        return VENTRICLE
    shrunk = 6.0 * (1.0 - nuclei)
    if chain(x - 0.7 * swell, y, z, CAUDATE_TUBE) < -shrunk * 0.4:  # pushed aside by a wide ventricle
        return CAUDATE
    if blend(ellipsoid(x, y, z, THALAMUS_PARTS[0]), ellipsoid(x, y, z, THALAMUS_PARTS[1]), 4.0) < -shrunk:
        return THALAMUS
    # The putamen is hollow on its inner side, where the pallidum lies; a lamina of fibres parts them.
    pallidum = ellipsoid(x - 0.12 * (y - 3.0) * (y > 3.0), y, z, PALLIDUM_PARTS[0])
    if pallidum < -0.5 * shrunk:
        return PALLIDUM
    bent = x + 0.012 * (y - 3.0) ** 2
    if ellipsoid(bent, y, z, PUTAMEN_PARTS[0]) < -shrunk and pallidum > 0.6:
        return PUTAMEN
    if chain(x, y, z, HIPPOCAMPUS_TUBE) < 5.0 * (hippocampus - 1.0):
        return HIPPOCAMPUS_ANTERIOR if y > UNCAL_APEX_MM else HIPPOCAMPUS_POSTERIOR
    if ellipsoid(x, y, z, AMYGDALA_PART) < 4.0 * (hippocampus - 1.0):
        return AMYGDALA
    return AIR


@njit(cache=True, nogil=True)
def _hindbrain(x, y, z, gap, wave):  # type: ignore[no-untyped-def]
    """Return cerebellum, brainstem or fourth ventricle at a point, or AIR (0)."""
    if ellipsoid(x, y, z, FOURTH_VENTRICLE) < 0.0 and y < -38.0 + 0.3 * x:
        return VENTRICLE
    stem = blend(ellipsoid(x, y, z, BRAINSTEM_PARTS[0]), ellipsoid(x, y, z, BRAINSTEM_PARTS[1]), 6.0)
    stem = blend(stem, chain(x, y, z, CORD), 5.0)
    if stem < 0.0:
        return BRAINSTEM
    hull = blend(ellipsoid(x, y, z, CEREBELLUM[0]), ellipsoid(x, y, z, CEREBELLUM[1]), 6.0) + 0.5 * gap
    if ellipsoid(x, y, z, PEDUNCLE) < 0.0:
        return CEREBELLAR_WHITE
    if hull >= 0.0 or (x < 4.0 and y < -84.0 and hull > -5.0):
        return AIR
    # Leaves about the roof of the fourth ventricle: fissures from outside, stems of white matter from inside.
    angle = math.atan2(z + 33.0, -(y + 46.0))
    leaf = math.cos(15.0 * angle + 1.6 * wave)
    depth = -hull
    if leaf > 0.90 and depth < 7.0:
        return CSF
    if depth > 12.0 or (leaf < -0.62 and depth > 4.5):
        return CEREBELLAR_WHITE
    return CEREBELLAR_CORTEX


@njit(cache=True, nogil=True)
def _outside(x, y, z, vault, bone, scalp, wave):  # type: ignore[no-untyped-def]
    """Return what lies outside the cavity of the skull, at ``vault`` mm from it."""
    face = 1e9
    for n in range(FACE.shape[0]):
        face = blend(face, ellipsoid(x, y, z, FACE[n]), 12.0)
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
    orbit = ellipsoid(x, y, z, ORBIT)
    air = chain(x, y, z, PHARYNX)
    for n in range(AIRWAYS.shape[0]):
        air = min(air, ellipsoid(x, y, z, AIRWAYS[n]))
    if air < 0.0:
        # Turbinates: leaves of mucosa in the nose.
        return MUSCLE if x < 12.0 and y > 30.0 and math.cos(0.55 * z + wave) > 0.45 and air > -9.0 else AIR
    if orbit < 0.0 and skin < -3.0:
        return FAT if wave < 0.9 else MUSCLE
    if (air < 1.6 and y > 0.0) or (orbit < 2.2 and y < 74.0 and skin < -4.0):
        return SKULL
    if abs(z + 84.0) < 6.0 and x < 24.0 and 20.0 < y < 70.0 and skin < -5.0:
        return SKULL if abs(z + 84.0) > 3.5 else MARROW
    spine = 10.0 * (math.sqrt((x / 13.0) ** 2 + ((y + 22.0) / 10.0) ** 2) - 1.0)
    if z < -66.0 and spine < 0.0:
        return SKULL if spine > -1.8 or math.cos(2 * math.pi * (z + 66.0) / 18.0) > 0.9 else MARROW
    if skin > -1.8 - (0.55 + 0.15 * wave) * scalp - (4.0 if z < -40.0 else 0.0):
        return FAT
    return MUSCLE if wave < 1.0 or vault < bone + 9.0 else FAT


@njit(cache=True, nogil=True)
def paint(matrix, offset, bend, field, gx, gy, gz, mm, size, out):  # type: ignore[no-untyped-def]
    """Name the structure of every voxel.

    Parameters
    ----------
    matrix, offset
        Voxels to mm of the average head.
    bend
        float32 ``(3, I, J, K)``: what each voxel is moved by there, in mm.
    field, gx, gy, gz
        Folding field and its gradient per mm, periodic, float32 ``(N, N, N)``.
    mm
        Distance of the field's nodes.
    size
        ``(gap, width, thickness, ventricles, hippocampus, nuclei, bone, scalp)`` as in `by_age`.
    out
        uint8 ``(I, J, K)``.
    """
    gap, width, thickness, ventricles, hippocampus, nuclei, bone, scalp = size
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                x = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 2] * k + offset[0] + bend[0, i, j, k]
                y = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 2] * k + offset[1] + bend[1, i, j, k]
                z = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 2] * k + offset[2] + bend[2, i, j, k]
                side = -1.0 if x < 0 else 1.0
                x = abs(x)
                if x > 100.0 or y > 130.0 or y < -140.0 or z > 110.0:
                    out[i, j, k] = AIR
                    continue
                vault = _intracranial(x, y, z) - 2.0
                wave = periodic(field, 0.2 * side * x + 31.0, 0.2 * y + 17.0, 0.2 * z + 5.0)
                if vault >= 0.0:
                    out[i, j, k] = _outside(x, y, z, vault, bone, scalp, wave)
                    continue
                found = AIR
                if x < 48.0 and -75.0 < y < 42.0 and -36.0 < z < 42.0:
                    found = _deep(x, y, z, ventricles, hippocampus, nuclei)
                if found == AIR and x < 19.0 and chain(min(x, 0.0), y, z, CALLOSUM) < 0.12 * x:
                    found = WHITE
                if found == AIR and z < 12.0 and y < 0.0:
                    found = _hindbrain(x, y, z, gap, wave)
                if found == AIR:
                    hull = _cerebral_hull(x, y, z) + gap - 1.2
                    found = CSF
                    if hull < 0.0:
                        depth = _pial(x, y, z, hull, width, field, gx, gy, gz, mm, side)
                        if depth > 0.0:
                            found = GREY if depth < thickness else WHITE
                out[i, j, k] = found


__all__ = ["SHELL_MM", "paint"]
