"""Two stains of a colour image found and changed: the same section from another laboratory, or another day.

References
----------
Macenko M, Niethammer M, Marron JS, et al. A method for normalizing histology slides for quantitative analysis. ISBI
2009:1107-1110. doi:10.1109/ISBI.2009.5193250

Tellez D, Litjens G, Bándi P, et al. Quantifying the effects of data augmentation and stain color normalization in
convolutional neural networks for computational pathology. Medical Image Analysis 2019;58:101544.
doi:10.1016/j.media.2019.101544
"""

from __future__ import annotations

import numpy as np

DARKEST = 0.05
"""Share of light that the darkest place lets through where grey values do not say it; also the floor of a logarithm."""

SAMPLED = 8192
"""Pixels that the stains are estimated from."""

DENSE_ENOUGH = 0.35
"""Natural optical density, Euclidean norm, above which a pixel says what colour its stain has (0.15 to base 10)."""


def stain_vectors(density: np.ndarray) -> np.ndarray:
    """Return the two stains of an image and what is at right angles to both, as unit columns, shape ``(3, 3)``.

    Parameters
    ----------
    density
        Optical densities in red, green, blue of some pixels, shape ``(3, N)``. Where fewer than 50 of them are dense,
        or all have one colour, the identity comes back: each colour is then treated as a stain of its own.
    """
    density = np.asarray(density, np.float64)
    dense = density[:, np.linalg.norm(density, axis=0) > DENSE_ENOUGH]
    if dense.shape[1] < 50:
        return np.eye(3)
    _, axes = np.linalg.eigh(np.cov(dense))
    plane = axes[:, :0:-1]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1.0, 1.0)
    angles = np.arctan2(*(plane.T @ dense)[::-1])
    ends = [plane @ (np.cos(a), np.sin(a)) for a in np.percentile(angles, (1, 99))]
    one, two = (e / np.linalg.norm(e) for e in ends)
    if one[0] < two[0]:  # haematoxylin, which takes red away, comes first
        one, two = two, one
    rest = np.cross(one, two)
    size = float(np.linalg.norm(rest))
    return np.column_stack([one, two, rest / size]) if size > 0.05 else np.eye(3)


def restained(density: np.ndarray, vectors: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return optical densities with the concentration of each stain changed.

    Parameters
    ----------
    density
        float32, shape ``(3, N)``, natural logarithm.
    vectors
        From `stain_vectors`.
    scale, shift
        Of each of the two stains, shape ``(2,)``; the shift fades out where there is no tissue, so that glass stays
        clear.
    """
    amounts = np.linalg.inv(vectors).astype(np.float32) @ density
    tissue = 1 - np.exp(-2 * np.maximum(density.sum(axis=0), 0))
    for n in range(2):
        amounts[n] += (np.float32(scale[n]) - 1) * amounts[n] + np.float32(shift[n]) * tissue
    changed: np.ndarray = vectors.astype(np.float32) @ amounts
    return changed


def restain_light(light: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return an image with its stains changed.

    Parameters
    ----------
    light
        Share of light that passes, float32, shape ``(3, I, J, K)``, 1 where there is glass.
    scale, shift
        As in `restained`.

    Returns
    -------
    np.ndarray
        Share of light, float32, same shape.
    """
    density = -np.log(np.maximum(light.reshape(3, -1), np.float32(DARKEST)))
    some = density[:, :: max(1, density.shape[1] // SAMPLED)]
    changed = restained(density, stain_vectors(some), scale, shift)
    out: np.ndarray = np.exp(-changed).reshape(light.shape)
    return out


__all__ = ["DARKEST", "SAMPLED", "restain_light", "restained", "stain_vectors"]
