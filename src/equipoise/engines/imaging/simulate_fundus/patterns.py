"""What no two eyes share: the network of choroidal vessels, patches of pigment, striation of nerve fibres.

References
----------
Choroidal vessels and tessellation: Yan YN et al. Fundus tessellation. Ophthalmology 2015;122:1873.
Nerve fibres: Knighton RW, Jacobson SG, Kemp CM. The spectral reflectance of the nerve fiber layer of the macaque
retina. Invest Ophthalmol Vis Sci 1989;30.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy import fft, ndimage

from equipoise.engines.parts.appearance import blur


def choroid_network(fx: np.ndarray, fy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return where choroidal vessels run, 0 to 1: a network drawn out away from the posterior pole.

    Its lines are where a random field changes its sign; the field is periodic in the angle about the pole.

    Parameters
    ----------
    fx, fy
        Millimetres from the fovea, float32 ``(i, 1)`` and ``(1, j)``.
    rng
        Of the field.
    """
    n = 192
    waves = np.exp(
        -0.5 * ((np.hypot(fft.fftfreq(n, 1 / n)[:, None] / 5, fft.rfftfreq(n, 1 / n)[None] / 21) - 1) / 0.4) ** 2
    )
    spectrum = fft.rfft2(rng.standard_normal((n, n), np.float32)) * waves.astype(np.float32)
    lattice = fft.irfft2(spectrum, (n, n))
    lattice /= lattice.std()
    turn, shift = rng.uniform(-0.25, 0.25, 2)
    centre = rng.normal(0, 0.8, 2)
    out = np.empty((fx.shape[0], fy.shape[1]), np.float32)
    x, y = (np.asarray(a, np.float32) for a in (fx[:, 0] - centre[0], fy[0] - centre[1]))
    _network(lattice.astype(np.float32), x, y, np.float32(turn), np.float32(shift), out)
    return out


def fibre_thickness(
    dx: np.ndarray, dy: np.ndarray, away: np.ndarray, fovea: np.ndarray, stripes: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the thickness of the nerve fibre layer, 1 at the disc's poles, with its striation along the bundles.

    Parameters
    ----------
    dx, dy
        Millimetres from the disc, ``(i, 1)`` and ``(1, j)``.
    away, fovea
        Distances from disc and fovea, mm, ``(i, j)``.
    stripes
        Contrast of the striation.
    rng
        Of the bundles.
    """
    angle = np.arctan2(dy, np.abs(dx) + 1e-3)
    # Thick above and below the disc, thin towards the macula, none in the fovea.
    thick = np.exp(-np.maximum(away - 0.9, 0) / 3.2) * (0.3 + 0.7 * np.abs(np.sin(angle)) ** 1.5)
    thick = (thick + 0.12) * (1 - 0.93 * np.exp(-((fovea / 1.1) ** 2)))
    if stripes <= 0:
        return np.asarray(thick)
    n = 1024
    line = ndimage.gaussian_filter1d(rng.standard_normal(n), 1.3, mode="wrap")
    line = line / line.std() + ndimage.gaussian_filter1d(rng.standard_normal(n), 8, mode="wrap") * 4
    # Bundles bend around the fovea: the angle at which they left the disc, not the one that they are seen at.
    left = np.arctan2(dy, dx) + 0.1 * np.sign(dy) * np.minimum(away, 4.0)
    at = (left / (2 * np.pi) * n).astype(np.intp) % n
    return np.asarray(thick * np.clip(1 + stripes * line.astype(np.float32)[at] * np.exp(-away / 3.5), 0.05, 3.0))


def patches(shape: tuple[int, ...], mm: float, length_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth random field of variance 1, float32 ``(i, j)``.

    Parameters
    ----------
    shape
        Of the grid.
    mm
        Its step.
    length_mm
        SD of the Gaussian that white noise is smoothed by.
    """
    sigma = length_mm / mm
    coarse = max(1, int(sigma / 3))
    small = [n // coarse + 8 for n in shape]
    fine = sigma / coarse
    drawn = rng.standard_normal((1, *small, 1), np.float32)
    drawn = (blur(drawn, (fine, fine, 0)) if fine > 0.3 else drawn)[0, :, :, 0]
    drawn /= max(float(drawn.std()), 1e-6)
    if coarse == 1:
        return np.asarray(drawn[: shape[0], : shape[1]])
    i, j = (np.arange(n, dtype=np.float32) / coarse + 2 for n in shape)
    return np.asarray(_bilinear(drawn, i, j))


def _bilinear(values: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return values at the grid of two axes of places."""
    a, b = i.astype(np.intp), j.astype(np.intp)
    f, g = (i - a).astype(np.float32)[:, None], (j - b).astype(np.float32)[None]
    rows = values[a] * (1 - f) + values[a + 1] * f
    return np.asarray(rows[:, b] * (1 - g) + rows[:, b + 1] * g)


@njit(cache=True, nogil=True, fastmath=True)
def _network(lattice, fx, fy, turn, shift, out):  # type: ignore[no-untyped-def]
    n = lattice.shape[0]
    size = np.float32(n)
    along, around = np.float32(3.2 / 6.0) * size, np.float32(1 / (2 * np.pi))
    one = np.float32(1.0)
    for i in range(len(fx)):
        for j in range(len(fy)):
            far = np.log(np.sqrt(fx[i] * fx[i] + fy[j] * fy[j]) + np.float32(0.6))
            u = far * along + shift * size
            v = (np.arctan2(fy[j], fx[i]) * around + turn * far) * size
            a, b = int(np.floor(u)), int(np.floor(v))
            f, g = u - np.float32(a), v - np.float32(b)
            a0, a1, b0, b1 = a % n, (a + 1) % n, b % n, (b + 1) % n
            value = (one - f) * ((one - g) * lattice[a0, b0] + g * lattice[a0, b1]) + f * (
                (one - g) * lattice[a1, b0] + g * lattice[a1, b1]
            )
            near = min(max(np.float32(1.1) - abs(value) * np.float32(1.25), np.float32(0.0)), one)
            out[i, j] = near * near * (np.float32(3.0) - np.float32(2.0) * near)


__all__ = ["choroid_network", "fibre_thickness", "patches"]
