"""Vessels as pixels: which are labelled, and how much blood lies under each."""

from __future__ import annotations

import numpy as np
from numba import njit

FINE = 2
"""Samples per pixel along each axis."""
REFLEX_UM = 60.0
"""Narrower vessels show no light reflex."""
REFLEX_WIDTH = 0.3
"""Of the reflex, SD as a share of the radius (Brinchmann-Hansen and Heier 1986: a third of the calibre)."""


def paint_vessels(
    pieces: np.ndarray, shape: tuple[int, int], um_per_px: float, least_px: float, labelled_um: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the label of a tree, its blood and its axes.

    Parameters
    ----------
    pieces
        Cylinders with round ends, shape ``(P, 5)``: start and end in pixels, radius in pixels.
    shape
        I and J.
    um_per_px
        Scale.
    least_px
        Width that labels have at least, so that the thinnest vessels are not broken into dots.
    labelled_um
        Vessels narrower than this are seen but not labelled.

    Returns
    -------
    tuple
        Label, uint8; mean path through blood in µm, float32; closeness to the axis, float32 0 to 1; all of ``shape``.
    """
    label = np.zeros(shape, np.uint8)
    fine = np.zeros((2, shape[0] * FINE, shape[1] * FINE), np.float32)
    _paint(np.ascontiguousarray(pieces), label, fine, um_per_px, least_px / 2, labelled_um / 2 / um_per_px)
    lumen, axis = np.empty(shape, np.float32), np.empty(shape, np.float32)
    _mean(fine, lumen, axis)
    return label, lumen, axis


@njit(cache=True, nogil=True)
def _reach(low, high, drawn, scale, n):  # type: ignore[no-untyped-def]
    """Return the first and the last sample of an axis that a piece may cover."""
    return max(int((min(low, high) - drawn) * scale), 0), min(int((max(low, high) + drawn + 1) * scale), n - 1)


@njit(cache=True, nogil=True, fastmath=True)
def _away(x, y, lx, ly, ux, uy):  # type: ignore[no-untyped-def]
    """Return the squared distance from a piece of a place given from its start, in single precision."""
    t = min(max(x * np.float32(ux) + y * np.float32(uy), np.float32(0.0)), np.float32(1.0))
    a, b = x - t * np.float32(lx), y - t * np.float32(ly)
    return a * a + b * b


@njit(cache=True, nogil=True, fastmath=True)
def _paint(pieces, label, fine, um_per_px, least, shown):  # type: ignore[no-untyped-def]
    """Write labels, and to ``fine`` the squares of path and, of vessels with a reflex, its strength."""
    half = 0.5 / FINE
    for n in range(len(pieces)):
        x0, y0, x1, y1, r = pieces[n]
        lx, ly = x1 - x0, y1 - y0
        square = max(lx * lx + ly * ly, 1e-9)
        ux, uy = lx / square, ly / square
        drawn = max(r, least)
        if r >= shown:
            i0, i1 = _reach(x0, x1, drawn, 1, label.shape[0])
            j0, j1 = _reach(y0, y1, drawn, 1, label.shape[1])
            for i in range(i0, i1 + 1):
                x = i - x0
                for j in range(j0, j1 + 1):
                    y = j - y0
                    t = min(max(x * ux + y * uy, 0.0), 1.0)
                    if (x - t * lx) ** 2 + (y - t * ly) ** 2 <= drawn * drawn:
                        label[i, j] = 1
        # What is thinner than a sample fills a part of it.
        wide = max(r, half)
        scale = np.float32((2 * um_per_px * (r / wide) ** 2) ** 2)
        glance = min(max((2 * r * um_per_px - REFLEX_UM) / 40.0, 0.0), 1.0)
        i0, i1 = _reach(x0, x1, wide, FINE, fine.shape[1])
        j0, j1 = _reach(y0, y1, wide, FINE, fine.shape[2])
        square_of_width = np.float32(wide * wide)
        for i in range(i0, i1 + 1):
            x, row = np.float32((i + 0.5) / FINE - 0.5 - x0), fine[0, i]
            for j in range(j0, j1 + 1):
                away = _away(x, np.float32((j + 0.5) / FINE - 0.5 - y0), lx, ly, ux, uy)
                row[j] = max(row[j], scale * (square_of_width - away))
        if glance > 0:
            fall = np.float32(-0.5 / (REFLEX_WIDTH * r) ** 2)
            for i in range(i0, i1 + 1):
                x = np.float32((i + 0.5) / FINE - 0.5 - x0)
                for j in range(j0, j1 + 1):
                    away = _away(x, np.float32((j + 0.5) / FINE - 0.5 - y0), lx, ly, ux, uy)
                    if away < square_of_width:
                        fine[1, i, j] = max(fine[1, i, j], np.float32(glance) * np.exp(fall * away))


@njit(cache=True, nogil=True)
def _mean(fine, lumen, axis):  # type: ignore[no-untyped-def]
    for i in range(lumen.shape[0]):
        for j in range(lumen.shape[1]):
            a, b = np.float32(0.0), np.float32(0.0)
            for p in range(FINE):
                for q in range(FINE):
                    a += np.sqrt(fine[0, i * FINE + p, j * FINE + q])
                    b += fine[1, i * FINE + p, j * FINE + q]
            lumen[i, j] = a / np.float32(FINE * FINE)
            axis[i, j] = b / np.float32(FINE * FINE)


__all__ = ["paint_vessels"]
