"""From a point in the head to the structure that lies there."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from equipoise.engines.anatomy.head.atlas import (
    AIR,
    AMYGDALA,
    AMYGDALA_PART,
    BRAINSTEM,
    CALLOSUM,
    CAUDATE,
    CAUDATE_TUBE,
    CEREBELLAR_CORTEX,
    CEREBELLAR_WHITE,
    CEREBELLUM,
    CSF,
    FOURTH_VENTRICLE,
    GREY,
    HIPPOCAMPUS_ANTERIOR,
    HIPPOCAMPUS_FLAT,
    HIPPOCAMPUS_POSTERIOR,
    HIPPOCAMPUS_TUBE,
    HIPPOCAMPUS_WIDE,
    PALLIDUM,
    PALLIDUM_PARTS,
    PEDUNCLE,
    PUTAMEN,
    PUTAMEN_PARTS,
    TEMPORAL_HORN,
    THALAMUS,
    THALAMUS_PARTS,
    THIRD_VENTRICLE,
    UNCAL_APEX_MM,
    VENTRICLE,
    WHITE,
)
from equipoise.engines.anatomy.head.cortex import pial_depth
from equipoise.engines.anatomy.head.hemisphere import (
    HEAD_MM,
    HEAD_ORIGIN_MM,
    LATTICE_MM,
    ORIGIN_MM,
    brainstem,
    lateral_ventricle,
    tentorium,
)
from equipoise.engines.anatomy.head.outside import outside
from equipoise.engines.anatomy.head.shapes import blend, chain, ellipsoid, waves, within

_HEAD_ORIGIN, _SPACE_ORIGIN = np.array(HEAD_ORIGIN_MM), np.array(ORIGIN_MM)
_INSULA_MM = 38.0
LEAF_MM = 2.0
"""Thickness of cerebellar cortex as images show it."""


@njit(cache=True, nogil=True, fastmath=True)
def _lateral_fissure(x, y, z, width):  # type: ignore[no-untyped-def]
    """Return the depth below the surface of the lateral fissure: a sheet from outside and the cleft over the insula."""
    if x < 22.0 or y < -58.0 or y > 40.0 or z < -34.0 or z > 40.0:
        return 1e9
    end = max(-42.0 - y, y - 26.0, 0.0)
    half = width + 0.5
    insula = _INSULA_MM - 0.006 * (y + 4.0) ** 2 - 0.010 * (z - 3.0) ** 2 + 0.5 * math.sin(0.75 * y + 0.35 * z)
    ramp = z + 5.0 + 0.30 * (y - 8.0) - 1.8 * math.sin(0.14 * x + 0.13 * y) - 1.2 * math.sin(0.33 * y - 0.2 * x)
    sheet = math.sqrt(0.9 * ramp * ramp + max(insula - x, 0.0) ** 2 + end * end)
    over = max(abs(ramp - 5.0) - 13.0, 0.0)
    return min(sheet, math.sqrt((x - insula) ** 2 * 0.9 + over * over + end * end)) - half


@njit(cache=True, nogil=True, fastmath=True)
def _deep(x, y, z, ventricles, hippocampus, nuclei):  # type: ignore[no-untyped-def]
    """Return the deep structure at a point, or AIR (0) if there is none; ``x`` is 0 or more."""
    swell, shrunk = 4.5 * (ventricles - 1.0), 6.0 * (1.0 - nuclei)
    # It bulges into the frontal horn, and is pushed aside by a wide one.
    if chain(x - 0.7 * swell, y, z, CAUDATE_TUBE) < -shrunk * 0.4:
        return CAUDATE
    if lateral_ventricle(x, y, z) < swell or chain(x, y, z, TEMPORAL_HORN) < 0.35 * swell:
        return VENTRICLE
    if x > 0.4 and ellipsoid(x, y, z, THIRD_VENTRICLE) < 0.3 * swell and z < 10.0:
        return VENTRICLE
    if x <= 0.4 and ellipsoid(0.4, y, z, THIRD_VENTRICLE) < 0.0:
        return VENTRICLE
    if blend(ellipsoid(x, y, z, THALAMUS_PARTS[0]), ellipsoid(x, y, z, THALAMUS_PARTS[1]), 4.0) < -shrunk:
        return THALAMUS
    # The putamen is hollow on its inner side, where the pallidum lies; a lamina of fibres parts them.
    pallidum = ellipsoid(x - 0.12 * (y - 3.0) * (y > 3.0), y, z, PALLIDUM_PARTS[0])
    if pallidum < -0.5 * shrunk:
        return PALLIDUM
    bent = x + 0.012 * (y - 3.0) ** 2
    if ellipsoid(bent, y, z, PUTAMEN_PARTS[0]) < -shrunk and pallidum > 0.6:
        return PUTAMEN
    beyond = chain(HIPPOCAMPUS_WIDE * x, y, HIPPOCAMPUS_FLAT * z, HIPPOCAMPUS_TUBE) - 5.0 * (hippocampus - 1.0)
    if beyond < 0.0:
        return HIPPOCAMPUS_ANTERIOR if y > UNCAL_APEX_MM else HIPPOCAMPUS_POSTERIOR
    if ellipsoid(x, y, z, AMYGDALA_PART) < 4.0 * (hippocampus - 1.0):
        return AMYGDALA
    # Alveus and the white matter below; on the inner side the subiculum goes over into the parahippocampal cortex.
    return WHITE if beyond < 1.4 and x > 25.5 else AIR


@njit(cache=True, nogil=True, fastmath=True)
def _fissure(angle, radius, count, phase, reach, depth):  # type: ignore[no-untyped-def]
    """Return the distance from the nearest of ``count`` fissures about an axis that reach to a depth."""
    turn = angle * count / (2 * math.pi) + phase
    sheet = abs(turn - math.floor(turn + 0.5)) * 2 * math.pi * radius / count
    below = max(depth - reach, 0.0)
    return math.sqrt(sheet * sheet + below * below)


@njit(cache=True, nogil=True, fastmath=True)
def _hindbrain(x, y, z, vault, gap, width, wave):  # type: ignore[no-untyped-def]
    """Return cerebellum, brainstem or fourth ventricle at a point, or AIR (0)."""
    if ellipsoid(x, y, z, FOURTH_VENTRICLE) < 0.0 and y < -38.0 + 0.3 * x:
        return VENTRICLE
    if brainstem(x, y, z) < 0.0:
        return BRAINSTEM
    hull = blend(ellipsoid(x, y, z, CEREBELLUM[0]), ellipsoid(x, y, z, CEREBELLUM[1]), 6.0)
    hull = max(hull, z - tentorium(x, y) + 2.2, vault + 2.0) + 0.5 * gap
    if ellipsoid(x, y, z, PEDUNCLE) < 0.0:
        return CEREBELLAR_WHITE
    if hull >= 0.0 or (x < 2.5 and y < -80.0 and hull > -5.0):
        return AIR
    # Leaves about the roof of the fourth ventricle, in three generations: lobes, lobules, folia.
    back, up, depth = y + 46.0 - 0.010 * x * x, z + 33.0 + 0.008 * x * x, -hull
    radius = math.sqrt(back * back + up * up)
    angle = math.atan2(up, -back) + 0.12 * wave + 0.18 * math.sin(0.12 * radius + wave)
    near = min(max((radius - 7.0) / 12.0, 0.0), 1.0)  # not into the roof of the ventricle
    cleft = _fissure(angle, radius, 9, 0.3, near * (24.0 + 3.0 * wave), depth) - 0.2 - 0.6 * width
    cleft = min(cleft, _fissure(angle + 0.002 * x, radius, 22, 0.1, near * (14.0 + 3.0 * wave), depth) - 0.4 * width)
    cleft = min(cleft, _fissure(angle - 0.003 * x, radius, 66, 0.0, 5.0 * near, depth) - 0.1)
    if cleft < 0.0:
        return CSF
    # Folia are finer than voxels: the layer that they make up together is thicker than their cortex.
    return CEREBELLAR_CORTEX if cleft < LEAF_MM or depth < 3.5 else CEREBELLAR_WHITE


@njit(cache=True, nogil=True, fastmath=True)
def _cerebrum(x, y, z, side, vault, size, space, folds, wander, rooms, slope):  # type: ignore[no-untyped-def]
    """Return cortex, white matter or the fluid about them at a point."""
    gap, width, thickness = size[0], size[1], size[2]
    at, wave, found, beside = rooms[0], rooms[1], rooms[2], rooms[3]
    depth, hull = pial_depth(x, y, z, side, vault, gap, width, space, folds, wander, at, wave, found, beside, slope)
    if hull <= 0.0:
        return CSF
    depth = min(depth, _lateral_fissure(x, y, z, width))
    if depth <= 0.0:
        return CSF
    # Thinner in the depth of a sulcus than on the crown of a gyrus.
    return GREY if depth < thickness * (1.10 - 0.22 * min(hull / 12.0, 1.0)) else WHITE


@njit(cache=True, nogil=True, fastmath=True)
def _within_skull(x, y, z, side, vault, size, space, folds, wander, rooms, slope, wave):  # type: ignore[no-untyped-def]
    found, at = AIR, rooms[0]
    within(space, _SPACE_ORIGIN, LATTICE_MM, x, y, z, at)
    # Far from nuclei and ventricles, and well within the hemisphere, there is nothing to look for.
    if x < 48.0 and -75.0 < y < 42.0 and -36.0 < z < 42.0 and (at[6] < 12.0 or z < 6.0):
        found = _deep(x, y, z, size[3], size[4], size[5])
    if found == AIR and x < 19.0 and chain(min(x, 0.0), y, z, CALLOSUM) < 0.12 * x:
        found = WHITE
    if found == AIR and z < 12.0 and y < 0.0 and (x < 20.0 or at[0] > -4.0):
        found = _hindbrain(x, y, z, vault, size[0], size[1], wave)
    return found if found != AIR else _cerebrum(x, y, z, side, vault, size, space, folds, wander, rooms, slope)


@njit(cache=True, nogil=True, fastmath=True)
def paint(matrix, offset, bend, head, space, folds, wander, size, out):  # type: ignore[no-untyped-def]
    """Name the structure of every voxel.

    Parameters
    ----------
    matrix, offset
        Voxels to mm of the average head.
    bend
        float32 ``(3, I, J, K)``: what each voxel is moved by there, in mm.
    head, space, folds, wander
        `head_space`, `hemisphere`, and both of `folding_waves`.
    size
        ``(gap, width, thickness, ventricles, hippocampus, nuclei, bone, scalp)`` as in `by_age`.
    out
        uint8 ``(I, J, K)``.
    """
    rooms, slope, walls = np.empty((5, 8), np.float32), np.empty((3, 3)), np.empty(2, np.float32)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                x = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 2] * k + offset[0] + bend[0, i, j, k]
                y = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 2] * k + offset[1] + bend[1, i, j, k]
                z = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 2] * k + offset[2] + bend[2, i, j, k]
                side = -1.0 if x < 0 else 1.0
                x = abs(x)
                out[i, j, k] = AIR
                if x > 100.0 or y > 130.0 or y < -140.0 or z > 110.0:
                    continue
                within(head, _HEAD_ORIGIN, HEAD_MM, x, y, z, walls)
                vault, face = walls[0], walls[1]
                if min(vault - size[6] - size[7], face) > 5.0:
                    continue
                place = rooms[4]
                waves(wander, 0.1 * side * x + 31.0, 0.1 * y + 17.0, 0.1 * z + 5.0, place)
                wave = place[0]
                if vault >= 0.0:
                    out[i, j, k] = outside(x, y, z, vault, face, size[6], size[7], wave)
                else:
                    out[i, j, k] = _within_skull(x, y, z, side, vault, size, space, folds, wander, rooms, slope, wave)


__all__ = ["paint"]
