"""Folds: a strip where the section lies on itself, darker by its layers and out of focus."""

from __future__ import annotations

import numpy as np

from equipoise.engines.parts.appearance import blur
from equipoise.engines.parts.tissue_scene import smooth_noise

WIDTH_UM = (8.0, 30.0)
"""Range of a fold's width."""

SHIFT_UM = 35.0
"""How far the tissue of its upper layers lies away."""

LAYERS = (1.0, 2.0)
"""Range of the layers that it adds: a crease lies double, a pleat threefold."""

DEFOCUS_UM = 0.9
"""Standard deviation of the blur in a fold, which lies above the plane of focus."""


def folded(concentrations: np.ndarray, um: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return concentrations with a fold, and where it is.

    Parameters
    ----------
    concentrations
        float32, shape ``(3, I, J, 1)``.
    um
        Size of a pixel.

    Returns
    -------
    tuple
        Concentrations, and the fold's share of each pixel, float32, shape ``(I, J, 1)``.
    """
    _, ni, nj, _ = concentrations.shape
    angle = rng.uniform(0, np.pi)
    normal = np.array([np.cos(angle), np.sin(angle)])
    middle = rng.uniform(0.2, 0.8, 2) * [ni, nj]
    i, j = np.meshgrid(np.arange(ni) - middle[0], np.arange(nj) - middle[1], indexing="ij")
    away = um * (i * normal[0] + j * normal[1]) + 6.0 * smooth_noise((ni, nj), 40.0, um, rng)
    width = rng.uniform(*WIDTH_UM) * (1 + 0.3 * smooth_noise((ni, nj), 60.0, um, rng))
    share = np.clip((width / 2 - np.abs(away)) / 1.5 + 0.5, 0, 1).astype(np.float32)[..., None]
    layers = int(rng.integers(int(LAYERS[0]), int(LAYERS[1]) + 1))
    out = concentrations.copy()
    for layer in range(1, layers + 1):
        step = np.rint(layer * SHIFT_UM / um * normal).astype(int)
        out += share * np.roll(concentrations, (int(step[0]), int(step[1])), axis=(1, 2))
    return out, share


def out_of_focus(light: np.ndarray, share: np.ndarray, um: float) -> np.ndarray:
    """Return the light, shape ``(3, I, J, 1)``, blurred where the fold lies."""
    sigma = DEFOCUS_UM / um
    mixed: np.ndarray = light + share * (blur(light, (sigma, sigma, 0)) - light)
    return mixed


__all__ = ["folded", "out_of_focus"]
