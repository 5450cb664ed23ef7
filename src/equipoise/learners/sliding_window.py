"""Prediction of a whole image from overlapping windows, blended by a Gaussian."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

SIGMA = 1 / 8
"""Width of the blending weight as a share of the window; nnU-Net's choice (doi:10.1038/s41592-020-01008-z)."""


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Return where windows begin along an axis: evenly spread, each sharing at least ``overlap`` with its neighbour."""
    if length <= window:
        return [0]
    step = max(int(window * (1 - overlap)), 1)
    count = -(-(length - window) // step) + 1
    return [int(v) for v in np.linspace(0, length - window, count).round()]


def blending(window: tuple[int, ...]) -> np.ndarray:
    """Return the weight of each voxel of a window, float32, greatest in its centre and never 0."""
    weight = np.ones(window, np.float32)
    for axis, n in enumerate(window):
        bell = np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / max(n * SIGMA, 1e-6)) ** 2)
        weight *= bell.reshape([-1 if a == axis else 1 for a in range(len(window))]).astype(np.float32)
    # Corners of a 3-D window weigh 1e-10 of its centre; where no other window reaches, rounding would decide.
    return np.maximum(weight, 1e-3)


def predict_windows(
    image: np.ndarray,
    window: tuple[int, ...],
    overlap: float,
    batch: int,
    labels: int,
    network: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return the blended prediction of an image.

    Parameters
    ----------
    image
        float32, shape ``(C, I, J, K)``. Where it is smaller than the window it is padded by reflection.
    window
        ``(I, J, K)``.
    overlap
        Least share of a window that its neighbour covers too.
    batch
        Windows per call.
    labels
        Channels of the prediction.
    network
        ``(B, C, *window)`` to ``(B, L, *window)``.

    Returns
    -------
    numpy.ndarray
        float32, shape ``(L, I, J, K)``.
    """
    shape = image.shape[1:]
    missing = [max(w - n, 0) for n, w in zip(shape, window, strict=True)]
    margins = [(m // 2, m - m // 2) for m in missing]
    padded = np.pad(image, [(0, 0), *margins], mode="reflect") if any(missing) else image
    corners = list(product(*(starts(n, w, overlap) for n, w in zip(padded.shape[1:], window, strict=True))))
    places = [tuple(slice(a, a + w) for a, w in zip(at, window, strict=True)) for at in corners]
    weight = blending(window)
    total = np.zeros((labels, *padded.shape[1:]), np.float32)
    covered = np.zeros(padded.shape[1:], np.float32)
    for first in range(0, len(places), batch):
        chosen = places[first : first + batch]
        for place, values in zip(chosen, network(np.stack([padded[:, *p] for p in chosen])), strict=True):
            total[:, *place] += values * weight
            covered[place] += weight
    total /= covered
    inner = tuple(slice(before, before + n) for (before, _), n in zip(margins, shape, strict=True))
    return np.ascontiguousarray(total[:, *inner])
