"""The folded cortex: how deep a point lies below the brain's surface.

Sulci are sheets that run inwards from the hull: primary ones along known courses, deep ones where a random wave on the
hull changes its sign, and shallow ones between, which branch off and end freely, because two sulci do not run side by
side with no room for a gyrus. Sheets wander on their way in, and their depth varies along them.

References
----------
Berry MV. Regular and irregular semiclassical wavefunctions. J Phys A 1977;10:2083. doi:10.1088/0305-4470/10/12/016
(random waves)
Fischl B, Dale AM. Measuring the thickness of the human cerebral cortex. PNAS 2000;97:11050.
doi:10.1073/pnas.200033797 (2.7 mm on gyri, 2.2 mm in sulci)
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from scipy import fft

from equipoise.engines.anatomy.head.hemisphere import LATTICE_MM, MARGIN_MM, ORIGIN_MM
from equipoise.engines.anatomy.head.shapes import carve, waves, within

FOLD_NODES, FOLD_MM = 64, 2.5
"""Nodes per axis of the periodic folding waves, and their distance."""
WANDER_NODES, WANDER_STEP, WANDER_WAVE_MM = 32, 5.0, 44.0
"""The same for what sheets wander by, and its wave length."""
DEEP, SHALLOW = 1.75, 1.15
"""Wave lengths of deep and shallow sulci in units of the whole pattern's."""
DEPTH_MM, DEPTH_SD_MM = (23.0, 8.0), (9.0, 5.0)
"""Of deep and of shallow sulci, along them."""
WANDER_MM, WANDER_SHARE = 2.5, 0.13
"""SD of what sheets wander by at the hull, and what is added per mm of depth: sulci run in at a slant and bend."""
ROOM_MM = 7.0
"""Within this distance of a sulcus no other runs alike."""
BAND = 0.12
"""SD of the waves' frequencies, relative."""
_BEYOND_MM = 6.0  # a sulcus that ends further away changes nothing: the cortex is thinner
_STEP = 0.7  # mm, of the differences that slopes are taken from
_ORIGIN = np.array(ORIGIN_MM)
_OTHER_SIDE = 23.0  # nodes: the left hemisphere's folds are not the right one's
DEEPEST_MM = 30.0
MOST_CROWDED = 2.6


def folding_waves(wave_mm: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the waves that fold one head: periodic random fields of variance 1.

    Parameters
    ----------
    wave_mm
        Length of the pattern's wave, twice the width of a gyrus.

    Returns
    -------
    tuple
        float32, ``(FOLD_NODES,) * 3 + (3,)``: of deep and shallow sulci and of their depth; and
        ``(WANDER_NODES,) * 3 + (3,)``: what they wander by.
    """
    lengths = (DEEP * wave_mm, SHALLOW * wave_mm, 1.6 * wave_mm)
    folds = np.stack([random_wave(length, FOLD_NODES, FOLD_MM, rng) for length in lengths], axis=-1)
    wander = np.stack([random_wave(WANDER_WAVE_MM, WANDER_NODES, WANDER_STEP, rng) for _ in range(3)], axis=-1)
    return folds, wander


def random_wave(wave_mm: float, n: int, step_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Return a periodic random field, float32 ``(n, n, n)``, of variance 1 with waves of one length, ± `BAND` (SD)."""
    along, last = fft.fftfreq(n, step_mm), fft.rfftfreq(n, step_mm)
    wave = np.sqrt(along[:, None, None] ** 2 + along[None, :, None] ** 2 + last[None, None, :] ** 2)
    off = wave * wave_mm / BAND - 1 / BAND
    held = np.abs(off) < 3.5  # waves of any other length are none
    parts = rng.standard_normal((np.count_nonzero(held), 2), np.float32)
    spectrum = np.zeros(wave.shape, np.complex64)
    spectrum[held] = (parts * np.exp(-0.5 * off[held] ** 2).astype(np.float32)[:, None]).view(np.complex64)[:, 0]
    field = fft.irfftn(spectrum, (n, n, n), overwrite_x=True)
    return np.asarray(field / field.std(), np.float32)


@njit(cache=True, nogil=True, fastmath=True)
def _sheets(x, y, z, side, far, space, folds, wander, at, wave, found):  # type: ignore[no-untyped-def]
    """Put three signed sheet coordinates and their depths at a place into ``found``."""
    # Wandering is looked up in the body, folds on the hull.
    waves(wander, side * x / WANDER_STEP + 11.0, y / WANDER_STEP + 5.0, z / WANDER_STEP + 23.0, wave)
    within(space, _ORIGIN, LATTICE_MM, x + far * wave[0], y + far * wave[1], z + far * wave[2], at)
    shift = _OTHER_SIDE if side < 0 else 0.0
    waves(folds, at[1] / FOLD_MM + shift + 200.0, at[2] / FOLD_MM + 200.0, at[3] / FOLD_MM + shift + 200.0, wave)
    found[0], found[1], found[2] = at[4], wave[0], wave[1]
    found[3] = at[5]
    found[4] = DEPTH_MM[0] + DEPTH_SD_MM[0] * wave[2]
    found[5] = DEPTH_MM[1] - DEPTH_SD_MM[1] * wave[2]


@njit(cache=True, nogil=True, fastmath=True)
def _room(slope, n, other, distance, reach):  # type: ignore[no-untyped-def]
    """Return how much room a deeper sulcus leaves one beside it: none for one that runs alike, all across it."""
    if reach < 2.0:
        return 1.0
    dot, a, b = 0.0, 1e-9, 1e-9
    for c in range(3):
        dot += slope[n, c] * slope[other, c]
        a += slope[n, c] ** 2
        b += slope[other, c] ** 2
    near = math.exp(-((distance / ROOM_MM) ** 2)) * min(1.0, 0.25 * (reach - 2.0))
    return 1.0 - near * dot * dot / (a * b)


@njit(cache=True, nogil=True, fastmath=True)
def pial_depth(x, y, z, side, vault, gap, width, space, folds, wander, at, wave, found, beside, slope):  # type: ignore[no-untyped-def]
    """Return the depth below the surface of the cortex in mm, and below the hull: below 0 in sulci and outside.

    Parameters
    ----------
    x, y, z, side
        mm on the right side, and 1 for the right, -1 for the left.
    vault, gap, width
        Distance from the dura, fluid between it and the hull, and half width of sulci, in mm.
    space, folds, wander
        `hemisphere` and both of `folding_waves`.
    at
        The lattice's channels at the place; room afterwards, as are:
    wave, found, beside, slope
        3, 6, 6 and 3 x 3 numbers.
    """
    hull, forbidden = min(-at[0] - gap + 1.2, -vault - 0.75 * gap), at[6]
    core = max(0.7 - at[7], 0.0) * 18.0  # sulci from both walls of a thin lobe do not meet in its middle
    if hull <= 0.0 or hull > DEEPEST_MM or forbidden < MARGIN_MM - _BEYOND_MM:
        return hull, hull
    far = WANDER_MM + WANDER_SHARE * hull
    _sheets(x, y, z, side, far, space, folds, wander, at, wave, found)
    reached = max(found[3], found[4], found[5])
    if hull + core - reached > _BEYOND_MM:
        return hull, hull
    onto_x, onto_y, onto_z, crowded = at[1], at[2], at[3], 0.0
    for c in range(3):
        a, b, d = x + _STEP * (c == 0), y + _STEP * (c == 1), z + _STEP * (c == 2)
        _sheets(a, b, d, side, far, space, folds, wander, at, wave, beside)
        for n in range(3):
            slope[n, c] = (beside[n] - found[n]) / _STEP
        crowded += (at[1] - onto_x) ** 2 + (at[2] - onto_y) ** 2 + (at[3] - onto_z) ** 2
    # How much closer sheets run here than on the hull: where it is bent sharply they converge and close up.
    crowded = math.sqrt(0.5 * crowded) / _STEP
    best = hull
    for n in range(3):
        steep = math.sqrt(slope[n, 0] ** 2 + slope[n, 1] ** 2 + slope[n, 2] ** 2) + 1e-6
        found[n] = abs(found[n]) / steep  # mm from the sheet
        reach = found[3 + n] * min(max(MOST_CROWDED - crowded, 0.0), 1.0)
        for other in range(n):
            reach *= _room(slope, n, other, found[other], found[3 + other])
        found[3 + n] = reach
        if reach > 1.5:
            half = width * (0.75 + 0.6 * math.exp(-hull / 4.0))
            below = max(hull + core - reach, 0.0)
            away = math.sqrt(found[n] ** 2 + below * below) - half
            best = carve(-best, -max(away, MARGIN_MM - forbidden), 2.5) * -1.0
    return best, hull


__all__ = ["FOLD_MM", "FOLD_NODES", "folding_waves", "pial_depth", "random_wave"]
