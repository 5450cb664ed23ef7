"""Smooth fields of the scanner: polynomial bias, receiver coils, transmit field, off-resonance.

References
----------
Van Leemput K, Maes F, Vandermeulen D, Suetens P. Automated model-based bias field correction of MR images of the brain.
IEEE TMI 1999;18:885. doi:10.1109/42.811268 (polynomial model)
Roemer PB, Edelstein WA, Hayes CE, Souza SP, Mueller OM. The NMR phased array. MRM 1990;16:192.
doi:10.1002/mrm.1910160203 (field of a loop, sum of squares)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit

from equipoise.engines.parts.warp import node_counts, smooth_field

HEAD_MM = 200.0
"""Extent over which a bias field's strength is meant; across a smaller picture the field varies less."""


def polynomial_field(
    shape: tuple[int, int, int], coefficients: np.ndarray, exponential: bool = True, out: np.ndarray | None = None
) -> np.ndarray:
    """Return a polynomial of position on a grid, or its exponential.

    Parameters
    ----------
    shape
        ``(I, J, K)``.
    coefficients
        Shape ``(P, Q, R)``: of ``x**p * y**q * z**r``, with coordinates from -1 to 1 across each axis (0 on one of
        length 1).
    exponential
        Whether the polynomial is the field's logarithm, so that the field is above 0.
    out
        Where to put it: float32 of that shape, C-contiguous.

    Returns
    -------
    np.ndarray
        float32, shape ``(I, J, K)``.
    """
    x, y, z = ((2 * np.arange(n) - (n - 1)) / max(n - 1, 1) for n in shape)
    powers = np.stack([z**r for r in range(coefficients.shape[2])])
    out = np.empty(shape, np.float32) if out is None else out
    _polynomial(x, y, powers, np.asarray(coefficients, np.float64), exponential, out)
    return out


def draw_bias(strength: float, rng: np.random.Generator, order: int = 3) -> np.ndarray:
    """Return coefficients of `polynomial_field` up to a total order, without a constant, uniform in ± ``strength``."""
    degree = np.add.outer(np.add.outer(np.arange(order + 1), np.arange(order + 1)), np.arange(order + 1))
    drawn = rng.uniform(-strength, strength, degree.shape)
    return np.where((degree > 0) & (degree <= order), drawn, 0.0)


def within_view(coefficients: np.ndarray, shape: tuple[int, int, int], spacing: Sequence[float]) -> np.ndarray:
    """Return the coefficients of a field across `HEAD_MM` as they are across the picture."""
    out = coefficients
    for axis, (n, s) in enumerate(zip(shape, spacing, strict=True)):
        part = min(n * s / HEAD_MM, 1.5) ** np.arange(out.shape[axis])
        out = out * part.reshape([-1 if a == axis else 1 for a in range(3)])
    return out


def random_field(
    shape: tuple[int, int, int], spacing: Sequence[float], grain_mm: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a smooth random field of mean 0 and a variance near 1 whose grain is about ``grain_mm``; float32."""
    step = tuple(max(grain_mm / s, 1.0) for s in spacing)
    nodes = rng.standard_normal((1, *node_counts(shape, step)), np.float32)
    field: np.ndarray = smooth_field(nodes, step, shape)[0]
    # Between nodes a cubic B-spline averages: the variance of white nodes falls to 0.479 per axis.
    field *= np.float32(0.479 ** (-0.5 * sum(n > 1 for n in shape)))
    return field


def coil_field(shape: tuple[int, int, int], spacing: Sequence[float], coils: int, distance: float) -> np.ndarray:
    """Return what receiver loops around the object see together, mean 1; float32, shape ``(I, J, K)``.

    Parameters
    ----------
    coils
        Loops on a circle about the middle of the grid in the plane of I and J; 1 is a volume coil, even everywhere.
    distance
        Of the loops from the middle, in half diagonals of the grid; their radius is what fills the circle.
    """
    if coils == 1:
        return np.ones(shape, np.float32)
    half = [n * s / 2 for n, s in zip(shape, spacing, strict=True)]
    away = distance * math.hypot(half[0], half[1])
    radius = away * math.sin(math.pi / max(coils, 3)) * 1.2
    step = tuple(max(n / 10, 1.0) for n in shape)
    counts = node_counts(shape, step)
    axes = [
        ((np.arange(c) - 1) * t - (n - 1) / 2) * s if n > 1 else np.zeros(1)
        for c, t, n, s in zip(counts, step, shape, spacing, strict=True)
    ]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    total = np.zeros(counts)
    for angle in 2 * np.pi * np.arange(coils) / coils:
        squared = (x - away * np.cos(angle)) ** 2 + (y - away * np.sin(angle)) ** 2 + z**2
        total += (1 + squared / radius**2) ** -3  # the square of a loop's field about its axis
    field: np.ndarray = smooth_field(np.sqrt(total)[None].astype(np.float32), step, shape)[0]
    field /= field.mean()
    return field


def transmit_field(
    shape: tuple[int, int, int], spacing: Sequence[float], tesla: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the flip angle relative to nominal: brighter in the middle of a head the higher the field; float32.

    At 3 T it varies by about ± 20 %, in proportion to the square of the field (the wave length in tissue).
    """
    swing = min(0.02 * tesla**2, 0.45) * rng.uniform(0.5, 1.2)
    half = [max(n * s / 2, 1e-6) for n, s in zip(shape, spacing, strict=True)]
    across = [min(h / 100.0, 1.5) ** 2 for h in half]  # 100 mm: half a head
    c = np.zeros((3, 3, 3))
    c[0, 0, 0] = 1 + swing * 0.5
    c[2, 0, 0], c[0, 2, 0], c[0, 0, 2] = (-swing * a for a in across)
    c[1, 0, 0], c[0, 1, 0], c[0, 0, 1] = rng.uniform(-0.2, 0.2, 3) * swing
    field = polynomial_field(shape, c, exponential=False)
    return np.clip(field, 0.3, 1.6, out=field)


@njit(cache=True, nogil=True, fastmath=True)
def _polynomial(x, y, powers, c, exponential, out):  # type: ignore[no-untyped-def]
    plane = np.empty((c.shape[1], c.shape[2]))
    line = np.empty(c.shape[2])
    for i in range(out.shape[0]):
        for q in range(c.shape[1]):
            for r in range(c.shape[2]):
                total = 0.0
                for p in range(c.shape[0] - 1, -1, -1):
                    total = total * x[i] + c[p, q, r]
                plane[q, r] = total
        for j in range(out.shape[1]):
            for r in range(c.shape[2]):
                total = 0.0
                for q in range(c.shape[1] - 1, -1, -1):
                    total = total * y[j] + plane[q, r]
                line[r] = total
            if exponential:
                exponential_row(line, powers, out[i, j])
            else:
                target = out[i, j]
                for k in range(target.size):
                    value = 0.0
                    for r in range(line.size):
                        value += line[r] * powers[r, k]
                    target[k] = value


@njit(cache=True, nogil=True)
def exponential_row(line, powers, out):  # type: ignore[no-untyped-def]
    """Put the exponential of a polynomial at evenly spaced places into ``out``.

    The R-th differences of a polynomial of R coefficients are 0, so its exponential goes on by R - 1 products: no
    exponential per voxel. In double precision a row of 1,024 loses less than 1e-7.
    """
    order = line.size
    step = np.zeros(max(order, 4))
    for m in range(order):
        for r in range(order):
            step[m] += line[r] * powers[r, min(m, out.size - 1)]
    for m in range(1, order):
        for n in range(order - 1, m - 1, -1):
            step[n] -= step[n - 1]
    for m in range(step.size):
        step[m] = math.exp(step[m])
    if order <= 4:  # written out: the products stay in registers
        value, one, two, three = step[0], step[1], step[2], step[3]
        for k in range(out.size):
            out[k] = value
            value *= one
            one *= two
            two *= three
        return
    for k in range(out.size):
        out[k] = step[0]
        for m in range(order - 1):
            step[m] *= step[m + 1]


__all__ = [
    "HEAD_MM",
    "coil_field",
    "draw_bias",
    "exponential_row",
    "polynomial_field",
    "random_field",
    "transmit_field",
    "within_view",
]
