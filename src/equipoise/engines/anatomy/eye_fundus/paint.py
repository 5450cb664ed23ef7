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
def _paint(pieces, label, fine, um_per_px, least, shown):  # type: ignore[no-untyped-def]
    half = 0.5 / FINE
    for n in range(len(pieces)):
        x0, y0, x1, y1, r = pieces[n]
        lx, ly = x1 - x0, y1 - y0
        square = max(lx * lx + ly * ly, 1e-9)
        drawn = max(r, least)
        i0, i1 = int(max(min(x0, x1) - drawn, 0)), int(min(max(x0, x1) + drawn + 1, label.shape[0] - 1))
        j0, j1 = int(max(min(y0, y1) - drawn, 0)), int(min(max(y0, y1) + drawn + 1, label.shape[1] - 1))
        if r >= shown:
            for i in range(i0, i1 + 1):
                for j in range(j0, j1 + 1):
                    t = min(max(((i - x0) * lx + (j - y0) * ly) / square, 0.0), 1.0)
                    if (i - x0 - t * lx) ** 2 + (j - y0 - t * ly) ** 2 <= drawn * drawn:
                        label[i, j] = 1
        # What is thinner than a sample fills a part of it.
        wide = max(r, half)
        scale = 2 * um_per_px * (r / wide) ** 2
        glance = min(max((2 * r * um_per_px - REFLEX_UM) / 40.0, 0.0), 1.0)
        i0, i1 = max(int((min(x0, x1) - wide) * FINE), 0), min(int((max(x0, x1) + wide + 1) * FINE), fine.shape[1] - 1)
        j0, j1 = max(int((min(y0, y1) - wide) * FINE), 0), min(int((max(y0, y1) + wide + 1) * FINE), fine.shape[2] - 1)
        for i in range(i0, i1 + 1):
            x = (i + 0.5) / FINE - 0.5 - x0
            for j in range(j0, j1 + 1):
                y = (j + 0.5) / FINE - 0.5 - y0
                t = min(max((x * lx + y * ly) / square, 0.0), 1.0)
                away = (x - t * lx) ** 2 + (y - t * ly) ** 2
                if away < wide * wide:
                    fine[0, i, j] = max(fine[0, i, j], scale * np.sqrt(wide * wide - away))
                    if glance > 0:
                        near = glance * np.exp(-0.5 * away / (REFLEX_WIDTH * r) ** 2)
                        fine[1, i, j] = max(fine[1, i, j], near)


@njit(cache=True, nogil=True)
def _mean(fine, lumen, axis):  # type: ignore[no-untyped-def]
    for i in range(lumen.shape[0]):
        for j in range(lumen.shape[1]):
            a, b = np.float32(0.0), np.float32(0.0)
            for p in range(FINE):
                for q in range(FINE):
                    a += fine[0, i * FINE + p, j * FINE + q]
                    b += fine[1, i * FINE + p, j * FINE + q]
            lumen[i, j] = a / np.float32(FINE * FINE)
            axis[i, j] = b / np.float32(FINE * FINE)


__all__ = ["paint_vessels"]
