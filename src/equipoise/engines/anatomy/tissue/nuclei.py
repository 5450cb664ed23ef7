"""Nuclei and red cells: how large they are, where they may lie, and their outlines.

Diameters are of sections after paraffin embedding, which shrinks tissue by about a fifth, and a section rarely cuts a
nucleus in its middle.

References
----------
Mescher AL. Junqueira's Basic Histology. 16th ed. 2021 (small lymphocytes 6 to 9 µm with little cytoplasm; fibroblasts
spindle-shaped, nuclei up to 20 µm long; red cells 7.5 µm fresh).

Elston CW, Ellis IO. Pathological prognostic factors in breast cancer. Histopathology 1991;19:403-410 (tumour nuclei up
to more than twice as large as normal ones).

Alberts B et al. Molecular Biology of the Cell. 7th ed. 2022 (metaphase plate about 10 µm long and 2 to 3 µm thick).

Bridson R. Fast Poisson disk sampling in arbitrary dimensions. ACM SIGGRAPH 2007 sketches.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from equipoise.engines.parts.tissue_scene import EPITHELIAL, FIBROBLAST, LYMPHOCYTE, MITOSIS, RED_CELL

MEAN_UM: dict[int, tuple[float, float]] = {
    EPITHELIAL: (6.0, 10.5),
    LYMPHOCYTE: (4.8, 6.4),
    FIBROBLAST: (4.6, 6.6),
    MITOSIS: (5.5, 8.0),
    RED_CELL: (4.8, 6.2),
}
"""Range of a case's mean diameter (of the circle of the same area), in µm."""

SPREAD: dict[int, float] = {EPITHELIAL: 0.16, LYMPHOCYTE: 0.09, FIBROBLAST: 0.2, MITOSIS: 0.12, RED_CELL: 0.05}
"""Standard deviation of the logarithm of the diameter within a case."""

STRETCH: dict[int, tuple[float, float]] = {
    EPITHELIAL: (1.05, 1.7),
    LYMPHOCYTE: (1.0, 1.25),
    FIBROBLAST: (2.2, 5.0),
    MITOSIS: (1.6, 3.2),
    RED_CELL: (1.0, 1.5),
}
"""Range of long over short axis."""

ROUGH: dict[int, float] = {EPITHELIAL: 0.07, LYMPHOCYTE: 0.05, FIBROBLAST: 0.1, MITOSIS: 0.15, RED_CELL: 0.05}
"""Amplitude of the outline's waves, relative to its radius."""

OVERLAP = 0.12
"""Largest share of a nucleus that may be hidden by another one."""

OUTSIDE = 0.35
"""Largest share of a nucleus that may reach out of its compartment, and is then cut off."""

LEAST_PX = 9
"""Smallest nucleus that is kept."""


def shapes(kind: int, diameters: np.ndarray, stretches: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return outlines: half axes in the unit of ``diameters``, and waves; float64, shape ``(N, 8)``.

    A nucleus bends its ellipse by three harmonics: columns are the half axes, and amplitude and phase of each.
    """
    out = np.empty((len(diameters), 8))
    out[:, 0], out[:, 1] = 0.5 * diameters * np.sqrt(stretches), 0.5 * diameters / np.sqrt(stretches)
    out[:, 2::2] = ROUGH[kind] * rng.standard_normal((len(out), 3)) / [1.0, 1.3, 1.6]
    out[:, 3::2] = rng.uniform(0, 2 * math.pi, (len(out), 3))
    return out


def place(
    body: np.ndarray,
    allowed: np.ndarray,
    liking: np.ndarray,
    outlines: np.ndarray,
    fibres: np.ndarray,
    wobble: float,
    apart: float,
    first: int,
    rng: np.random.Generator,
) -> int:
    """Place bodies by dart throwing, evenly or in crowds, and draw them; return how many found a place.

    Parameters
    ----------
    body
        Numbers of the bodies drawn so far, int32, shape ``(I, J)``; changed in place.
    allowed
        Where they may lie, bool, shape ``(I, J)``.
    liking
        How much they like each place, 0 or more, shape ``(I, J)``.
    outlines
        Of `shapes`, in pixels, one per body that is asked for.
    fibres
        Direction of their long axes, in radians, shape ``(I, J)``.
    wobble
        Standard deviation of the direction about it.
    apart
        Least distance of centres in pixels to begin with; it shrinks while places are wanting.
    first
        Number of the first body.
    """
    total = np.cumsum((liking * allowed).ravel(), dtype=np.float64)
    if not len(outlines) or total[-1] <= 0:
        return 0
    tries = 24 * len(outlines)
    darts = np.searchsorted(total, rng.random(tries) * total[-1], side="right")
    darts = np.minimum(darts, total.size - 1)
    at = np.stack(np.divmod(darts, body.shape[1]), axis=1) + rng.random((tries, 2)) - 0.5
    turn = fibres.ravel()[darts] + wobble * rng.standard_normal(tries)
    return int(_throw(body, allowed, at, turn, outlines, apart, first, OVERLAP, OUTSIDE, LEAST_PX))


@njit(cache=True, nogil=True)
def _throw(body, allowed, at, turn, outlines, apart, first, overlap, outside, least):  # type: ignore[no-untyped-def]
    """Throw darts; every quarter of them demands less distance than the one before."""
    wanted, tries = outlines.shape[0], at.shape[0]
    placed = 0
    centres = np.empty((wanted, 2))
    longest = 0.0
    for n in range(wanted):
        longest = max(longest, outlines[n, 0], outlines[n, 1])
    side = int(3 * longest) + 3
    found = np.empty((side * side, 2), np.int64)
    for t in range(tries):
        if placed == wanted:
            break
        near = (apart * (1.0 - 0.9 * t / tries)) ** 2
        clear = True
        for n in range(placed):
            di, dj = centres[n, 0] - at[t, 0], centres[n, 1] - at[t, 1]
            if di * di + dj * dj < near:
                clear = False
                break
        if clear and _draw(
            body, allowed, at[t, 0], at[t, 1], turn[t], outlines[placed], first + placed, overlap, outside, least, found
        ):
            centres[placed, 0], centres[placed, 1] = at[t, 0], at[t, 1]
            placed += 1
    return placed


@njit(cache=True, nogil=True)
def _draw(body, allowed, ci, cj, turn, outline, number, overlap, outside, least, found):  # type: ignore[no-untyped-def]
    a, b = outline[0], outline[1]
    cos, sin = math.cos(turn), math.sin(turn)
    far = 1.3 * max(a, b) + 1
    area, hidden, lost, free = 0, 0, 0, 0
    for i in range(int(ci - far), int(ci + far) + 2):
        for j in range(int(cj - far), int(cj + far) + 2):
            u, v = ((i - ci) * cos + (j - cj) * sin) / a, (-(i - ci) * sin + (j - cj) * cos) / b
            rho = math.sqrt(u * u + v * v)
            if rho > 1.45:
                continue
            angle = math.atan2(v, u)
            edge = 1.0
            for k in range(3):
                edge += outline[2 + 2 * k] * math.cos((k + 2) * angle + outline[3 + 2 * k])
            if rho > edge:
                continue
            area += 1
            if i < 0 or j < 0 or i >= body.shape[0] or j >= body.shape[1]:
                continue
            if body[i, j] > 0:
                hidden += 1
            elif not allowed[i, j]:
                lost += 1
            elif free < found.shape[0]:
                found[free, 0], found[free, 1] = i, j
                free += 1
    if free < least or hidden > overlap * area or lost > outside * area:
        return False
    for n in range(free):
        body[found[n, 0], found[n, 1]] = number
    return True


__all__ = ["MEAN_UM", "SPREAD", "STRETCH", "place", "shapes"]
