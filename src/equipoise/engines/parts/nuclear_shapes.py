"""Nuclei of a label map, one by one: size, elongation, direction, and the kind that their shape suggests."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from equipoise.core import LabelMap
from equipoise.engines.parts.tissue_scene import EPITHELIAL, FIBROBLAST, LYMPHOCYTE

LONG = 2.0
"""Long over short axis from which a nucleus without a named kind is taken as a fibroblast's."""

SMALL_UM, ROUND = 6.2, 1.5
"""Diameter and long over short axis up to which one is taken as a lymphocyte's."""


def size_of_pixel(labels: LabelMap, um_per_px: float) -> float:
    """Return the mean side of a pixel in µm; that of a grid in pixels is ``um_per_px`` for a spacing of 1."""
    side = float(np.sqrt(labels.spacing[0] * labels.spacing[1]))
    return side * (um_per_px if labels.unit == "px" else 1000.0)


def instances_of(channel: np.ndarray) -> np.ndarray:
    """Return instance numbers, ``(I, J)``; where nobody counted (all 1), pieces that hang together are counted."""
    flat = channel[:, :, 0].astype(np.int32)
    if flat.max(initial=0) > 1:
        return flat
    numbered: np.ndarray = ndimage.label(flat)[0].astype(np.int32)
    return numbered


def outlines_of(numbers: np.ndarray, um: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return number, diameter in µm, long over short axis, and direction in radians of each instance of ``(I, J)``."""
    where = np.nonzero(numbers)
    label = numbers[where]
    count = int(label.max(initial=0)) + 1
    size = np.bincount(label, minlength=count)
    known = np.flatnonzero(size)
    x, y = (np.asarray(w, float) for w in where)
    n = np.maximum(size, 1)
    mx, my = np.bincount(label, x, count) / n, np.bincount(label, y, count) / n
    # A pixel has a second moment of its own, 1/12, without which a line of pixels would have no width.
    xx = np.bincount(label, x * x, count) / n - mx**2 + 1 / 12
    yy = np.bincount(label, y * y, count) / n - my**2 + 1 / 12
    xy = np.bincount(label, x * y, count) / n - mx * my
    root = np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    middle = (xx + yy) / 2
    stretch = np.sqrt((middle + root) / np.maximum(middle - root, 1 / 12))
    direction = 0.5 * np.arctan2(2 * xy, xx - yy)
    return known, 2 * um * np.sqrt(size[known] / np.pi), stretch[known], direction[known]


def kinds_by_shape(diameter_um: np.ndarray, stretch: np.ndarray) -> np.ndarray:
    """Return the likely kinds of nuclei whose kind nobody named, shape ``(N,)``."""
    kind = np.full(len(diameter_um), EPITHELIAL)
    kind[(diameter_um < SMALL_UM) & (stretch < ROUND)] = LYMPHOCYTE
    kind[stretch > LONG] = FIBROBLAST
    return kind


__all__ = ["instances_of", "kinds_by_shape", "outlines_of", "size_of_pixel"]
