"""Compartments of tissue: where epithelium, lumen and stroma lie, and which way the fibres run.

Sizes are of paraffin sections.

References
----------
Young B, O'Dowd G, Woodford P. Wheater's Functional Histology. 6th ed. 2014 (glands, epithelia, capillaries).

Mescher AL. Junqueira's Basic Histology. 16th ed. 2021 (crypts 40 to 100 µm wide, columnar cells 15 to 30 µm high).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from equipoise.engines.parts.tissue_scene import EPITHELIUM, LUMEN, STROMA, smooth_noise

ARCHITECTURES = ("glandular", "solid", "stromal", "lymphoid")

GLAND_UM = (22.0, 70.0)
"""Outer radius of glands and ducts, log-uniform."""

CELL_UM = (12.0, 24.0)
"""Height of the cells that line them."""

SEPTUM_UM = (3.0, 25.0)
"""Least stroma between neighbouring glands, log-uniform."""

NEST_UM = (45.0, 130.0)
"""Scale of solid nests."""

CAPILLARY_UM = (3.5, 11.0)
"""Inner radius of capillaries and venules."""

CAPILLARIES_MM2 = 90.0
"""Mean number per mm² of stroma."""

BORDER_UM = 30.0
"""Distance around a gland within which the fibres follow it."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Compartments of a field of view.

    Parameters
    ----------
    compartment
        uint8, shape ``(I, J)``.
    fibres
        Direction of fibres, and of the long axes of epithelial cells within glands; radians, float32, ``(I, J)``.
    basal
        How much an epithelial nucleus likes a place: it lies in the outer half of a gland's cells. float32, ``(I, J)``.
    polar
        Whether epithelial nuclei stand upright on their border.
    vessels
        Where red cells may lie, bool, shape ``(I, J)``.
    """

    compartment: np.ndarray
    fibres: np.ndarray
    basal: np.ndarray
    polar: bool
    vessels: np.ndarray


def lay_out(architecture: str, share: float, shape: tuple[int, int], um: float, rng: np.random.Generator) -> Layout:
    """Return the compartments of one field of view.

    Parameters
    ----------
    architecture
        One of `ARCHITECTURES`.
    share
        Of epithelium, where the architecture does not decide it.
    shape
        Pixels along I and J.
    um
        Size of a pixel in µm.
    """
    fibres = (2 * math.pi * rng.random() + 1.6 * smooth_noise(shape, rng.uniform(40, 120), um, rng)).astype(np.float32)
    compartment = np.full(shape, STROMA, np.uint8)
    basal = np.zeros(shape, np.float32)
    if architecture == "glandular":
        _glands(compartment, fibres, basal, um, rng)
    else:
        _nests(compartment, fibres, basal, share, um, rng)
    vessels = _capillaries(compartment, fibres, um, rng)
    return Layout(compartment, fibres, basal, architecture == "glandular", vessels)


def _glands(
    compartment: np.ndarray, fibres: np.ndarray, basal: np.ndarray, um: float, rng: np.random.Generator
) -> None:
    """Lay glands that do not overlap, from the largest to the smallest, and let the fibres follow them."""
    ni, nj = compartment.shape
    septum, common = np.exp(rng.uniform(*np.log(SEPTUM_UM))), np.exp(rng.uniform(*np.log(GLAND_UM)))
    reach = 1.5 * GLAND_UM[1]
    area = (ni * um + 2 * reach) * (nj * um + 2 * reach)
    tries = int(min(12 * area / (math.pi * common**2) + 30, 4000))
    radii = np.sort(np.clip(common * np.exp(0.3 * rng.standard_normal(tries)), *GLAND_UM))[::-1]
    centres = rng.random((tries, 2)) * [ni * um + 2 * reach, nj * um + 2 * reach] - reach
    kept: list[int] = []
    for k in range(tries):
        if all(math.dist(centres[k], centres[m]) > radii[k] + radii[m] + septum for m in kept):
            kept.append(k)
    height = rng.uniform(*CELL_UM)
    outer = np.full(compartment.shape, -np.inf, np.float32)
    ragged = smooth_noise((ni, nj), 6.0, um, rng)
    for k in kept:
        waves = _waves(0.10, rng)
        cells = min(height * rng.uniform(0.8, 1.25), 0.8 * radii[k])
        stretch, turn = rng.uniform(1.0, 1.35), rng.uniform(0, math.pi)
        _gland(
            compartment, fibres, basal, outer, ragged, um, centres[k] / um, radii[k], cells, stretch, turn, waves,
            BORDER_UM,
        )  # fmt: skip


def _waves(amount: float, rng: np.random.Generator) -> np.ndarray:
    """Return amplitudes and phases of the 2nd to 6th harmonic of an outline, shape ``(5, 2)``."""
    orders = np.arange(2, 7)
    return np.stack([amount * rng.standard_normal(5) * 2 / orders, rng.uniform(0, 2 * math.pi, 5)], axis=1)


@njit(cache=True, nogil=True)
def _gland(compartment, fibres, basal, outer, ragged, um, centre, radius, cells, stretch, turn, waves, border):  # type: ignore[no-untyped-def]
    ni, nj = compartment.shape
    far = (1.7 * radius * math.sqrt(stretch) + border) / um
    cos, sin = math.cos(turn), math.sin(turn)
    root = math.sqrt(stretch)
    most = radius * (1.0 + np.abs(waves[:, 0]).sum())
    wave_cos, wave_sin = waves[:, 0] * np.cos(waves[:, 1]), waves[:, 0] * np.sin(waves[:, 1])
    for i in range(max(0, int(centre[0] - far)), min(ni, int(centre[0] + far) + 1)):
        for j in range(max(0, int(centre[1] - far)), min(nj, int(centre[1] + far) + 1)):
            x, y = (i - centre[0]) * um, (j - centre[1]) * um
            u, v = (x * cos + y * sin) / root, (-x * sin + y * cos) * root
            far_out = math.sqrt(u * u + v * v)
            if most - far_out < max(outer[i, j], -border):
                continue
            # cos(k a) and sin(k a) by turning a unit vector on: no trigonometry per pixel.
            c1, s1 = u / max(far_out, 1e-9), v / max(far_out, 1e-9)
            ck, sk = c1, s1
            edge = 1.0
            for k in range(wave_cos.size):
                ck, sk = ck * c1 - sk * s1, sk * c1 + ck * s1
                edge += wave_cos[k] * ck - wave_sin[k] * sk
            depth = radius * edge - far_out
            if depth > -border and depth > outer[i, j]:
                outer[i, j] = depth
                across = math.atan2(y, x)
                if depth > 0:
                    fibres[i, j] = across
                    inner = cells * (1.0 + 0.16 * ragged[i, j])
                    if depth < inner:
                        compartment[i, j] = EPITHELIUM
                        at = depth / inner - 0.36
                        basal[i, j] = math.exp(-0.5 * (at / 0.16) ** 2)
                    else:
                        compartment[i, j] = LUMEN
                        basal[i, j] = 0.0
                elif compartment[i, j] == STROMA:
                    near = math.exp(-((depth / 12.0) ** 2))
                    # Directions have no sign: the mean of doubled angles.
                    c = near * math.cos(2 * across + math.pi) + (1 - near) * math.cos(2 * fibres[i, j])
                    s = near * math.sin(2 * across + math.pi) + (1 - near) * math.sin(2 * fibres[i, j])
                    fibres[i, j] = 0.5 * math.atan2(s, c)


def _nests(
    compartment: np.ndarray, fibres: np.ndarray, basal: np.ndarray, share: float, um: float, rng: np.random.Generator
) -> None:
    """Lay solid nests that take a share of the field, with clefts, and let the fibres follow their borders."""
    shape = compartment.shape
    scale = rng.uniform(*NEST_UM)
    field = smooth_noise(shape, scale, um, rng) + 0.35 * smooth_noise(shape, scale / 3, um, rng)
    if share > 0:
        level = float(np.quantile(field, 1 - share))
        nest = field > level
        compartment[nest] = EPITHELIUM
        gi, gj = np.gradient(field)
        near = np.exp(-(((field - level) / 0.5) ** 2))
        along = 2 * np.arctan2(gi, -gj)
        fibres[:] = 0.5 * np.arctan2(
            near * np.sin(along) + (1 - near) * np.sin(2 * fibres),
            near * np.cos(along) + (1 - near) * np.cos(2 * fibres),
        )
    clefts = max(rng.uniform(-0.04, 0.10), 0.0)
    if clefts > 0:
        holes = smooth_noise(shape, rng.uniform(12, 30), um, rng) - 0.4 * np.abs(field)
        compartment[holes > np.quantile(holes, 1 - clefts)] = LUMEN
    basal[compartment == EPITHELIUM] = 1.0


def _capillaries(compartment: np.ndarray, fibres: np.ndarray, um: float, rng: np.random.Generator) -> np.ndarray:
    """Open small vessels in the stroma, along the fibres; return where they are."""
    ni, nj = compartment.shape
    vessels = np.zeros(compartment.shape, bool)
    for _ in range(int(rng.poisson(CAPILLARIES_MM2 * ni * nj * um * um * 1e-6))):
        i, j = int(rng.integers(ni)), int(rng.integers(nj))
        radius, stretch = float(np.exp(rng.uniform(*np.log(CAPILLARY_UM)))), float(rng.uniform(1.0, 3.0))
        if compartment[i, j] == STROMA:
            _ellipse(vessels, compartment, i, j, radius * stretch / um, radius / um, float(fibres[i, j]))
    compartment[vessels] = LUMEN
    return vessels


@njit(cache=True, nogil=True)
def _ellipse(out, compartment, ci, cj, a, b, angle):  # type: ignore[no-untyped-def]
    cos, sin = math.cos(angle), math.sin(angle)
    for i in range(max(0, int(ci - a)), min(out.shape[0], int(ci + a) + 2)):
        for j in range(max(0, int(cj - a)), min(out.shape[1], int(cj + a) + 2)):
            u, v = (i - ci) * cos + (j - cj) * sin, -(i - ci) * sin + (j - cj) * cos
            if (u / a) ** 2 + (v / b) ** 2 <= 1 and compartment[i, j] == STROMA:
                out[i, j] = True


__all__ = ["ARCHITECTURES", "Layout", "lay_out"]
