"""Changes of grey values and colours that keep every voxel in its place: curves, blur, coarser sampling, noise.

All work on float32 arrays ``(C, I, J, K)`` in one thread, since they run in every training step of processes that
already fill the cores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit

CURVE_NODES = 128
"""Points that a grey-value curve is tabulated at; between them it is straight."""


def remap(image: np.ndarray, low: np.ndarray, high: np.ndarray, curves: np.ndarray) -> None:
    """Send the grey values of each channel through a curve, in place.

    Parameters
    ----------
    image
        float32, C-contiguous, shape ``(C, I, J, K)``.
    low, high
        Shape ``(C,)``: grey values that are 0 and 1 of the curve. A value outside keeps its distance to the end.
    curves
        float32, shape ``(C, M)``: the curve at M evenly spaced points of [0, 1].
    """
    _remap(image.reshape(image.shape[0], -1), np.asarray(low, np.float64), np.asarray(high, np.float64), curves)


def moments(image: np.ndarray) -> np.ndarray:
    """Return mean, standard deviation, minimum and maximum of each channel, float64, shape ``(C, 4)``."""
    found: np.ndarray = _moments(image.reshape(image.shape[0], -1))
    return found


def rescale(image: np.ndarray, factor: np.ndarray, shift: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Replace each channel by ``factor * value + shift`` within ``[low, high]``, in place; each of shape ``(C,)``."""
    flat = image.reshape(image.shape[0], -1)
    _rescale(flat, *(np.asarray(x, np.float32) for x in (factor, shift, low, high)))


def gaussian_taps(sigma: float) -> np.ndarray:
    """Return the weights of a Gaussian of ``sigma`` voxels, cut at 3 sigma; they sum to 1. float32."""
    radius = max(1, math.ceil(3.0 * sigma))
    x = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (x / sigma) ** 2)
    taps: np.ndarray = (weights / weights.sum()).astype(np.float32)
    return taps


def blur(image: np.ndarray, sigma: Sequence[float]) -> np.ndarray:
    """Return the image blurred by a Gaussian, mirrored at the borders.

    Parameters
    ----------
    image
        float32, shape ``(C, I, J, K)``.
    sigma
        Standard deviation along I, J, K, in voxels; below 0.1 the axis is left as it is, as is one of length 1.
    """
    out = np.ascontiguousarray(image, np.float32)
    for axis, s in enumerate(sigma, 1):
        if s >= 0.1 and out.shape[axis] > 1:
            shape = out.shape
            view = out.reshape(math.prod(shape[:axis]), shape[axis], -1)
            blurred = np.empty_like(view)
            _convolve(view, gaussian_taps(min(s, shape[axis])), blurred)
            out = blurred.reshape(shape)
    return out.copy() if out is image else out


def coarsen(image: np.ndarray, factor: Sequence[float]) -> np.ndarray:
    """Return the image as if sampled on voxels ``factor`` times as large, brought back to its grid linearly.

    Parameters
    ----------
    image
        float32, shape ``(C, I, J, K)``. Nothing is averaged: blur before, where the coarse voxel should.
    factor
        Voxel-size factor along I, J, K; 1 or less leaves the axis as it is.
    """
    out = np.ascontiguousarray(image, np.float32)
    for axis, f in enumerate(factor, 1):
        n = out.shape[axis]
        few = max(1, round(n / f)) if f > 1.0 else n
        if few < n:
            shape = out.shape
            view = out.reshape(math.prod(shape[:axis]), n, -1)
            sampled = np.empty_like(view)
            _interpolate(view, *coarse_index(n, few), sampled)
            out = sampled.reshape(shape)
    return out.copy() if out is image else out


def correlated_noise(shape: tuple[int, ...], sigma: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Return Gaussian noise of variance 1 whose grain is a Gaussian of ``sigma`` voxels along I, J, K.

    Parameters
    ----------
    shape
        ``(C, I, J, K)``; channels are independent.
    sigma
        Below 0.1 voxels the noise is white along that axis.
    """
    noise = blur(rng.standard_normal(shape, dtype=np.float32), sigma)
    kept = 1.0  # a filter multiplies the variance of white noise by the sum of its squared weights
    for n, s in zip(shape[1:], sigma, strict=True):
        if s >= 0.1 and n > 1:
            kept *= float((gaussian_taps(min(s, n)).astype(float) ** 2).sum())
    noise *= np.float32(1.0 / math.sqrt(kept))
    return noise


def coarse_index(n: int, few: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return both sampled voxels around each of ``n`` when ``few`` are sampled, and the weight of the second."""
    sampled = np.minimum(((np.arange(few) + 0.5) * n / few).astype(np.int64), n - 1)
    place = np.clip((np.arange(n) + 0.5) * few / n - 0.5, 0, few - 1)
    first = place.astype(np.int64)
    second = np.minimum(first + 1, few - 1)
    return sampled[first], sampled[second], (place - first).astype(np.float32)


@njit(cache=True, nogil=True)
def _remap(values, low, high, curves):  # type: ignore[no-untyped-def]
    last = curves.shape[1] - 1
    for c in range(values.shape[0]):
        width = high[c] - low[c]
        if width <= 0.0:
            continue
        base, wide = np.float32(low[c]), np.float32(width)
        slope = np.float32(last / width)
        for v in range(values.shape[1]):
            t = (values[c, v] - base) * slope
            inside = min(max(t, np.float32(0.0)), np.float32(last))
            node = min(int(inside), last - 1)
            f = inside - np.float32(node)
            y = curves[c, node] * (np.float32(1.0) - f) + curves[c, node + 1] * f
            values[c, v] = base + wide * y + (t - inside) / slope


@njit(cache=True, nogil=True)
def _moments(values):  # type: ignore[no-untyped-def]
    out = np.empty((values.shape[0], 4))
    for c in range(values.shape[0]):
        total, square = 0.0, 0.0
        low = high = values[c, 0]
        origin = float(values[c, 0])  # sums about a value of the image: HU of -1000 would cost digits about 0
        for v in range(values.shape[1]):
            x = values[c, v]
            d = x - origin
            total += d
            square += d * d
            low, high = min(low, x), max(high, x)
        mean = total / values.shape[1]
        out[c, 0] = origin + mean
        out[c, 1] = math.sqrt(max(square / values.shape[1] - mean * mean, 0.0))
        out[c, 2], out[c, 3] = low, high
    return out


@njit(cache=True, nogil=True)
def _rescale(values, factor, shift, low, high):  # type: ignore[no-untyped-def]
    for c in range(values.shape[0]):
        a, b, lo, hi = factor[c], shift[c], low[c], high[c]
        for v in range(values.shape[1]):
            values[c, v] = min(max(values[c, v] * a + b, lo), hi)


@njit(cache=True, nogil=True)
def _mirrored(i, n):  # type: ignore[no-untyped-def]
    if i < 0:
        i = -i
    if i >= n:
        i = 2 * (n - 1) - i
    return min(max(i, 0), n - 1)


@njit(cache=True, nogil=True)
def _convolve(source, taps, out):  # type: ignore[no-untyped-def]
    outer, n, inner = source.shape
    radius = taps.size // 2
    padded = np.empty(n + 2 * radius, np.float32)
    for o in range(outer):
        if inner == 1:
            for i in range(n + 2 * radius):
                padded[i] = source[o, _mirrored(i - radius, n), 0]
            _add_taps(padded, taps, radius, n, out[o, :, 0])
        else:
            for i in range(n):
                target, middle = out[o, i], source[o, i]
                for m in range(inner):
                    target[m] = taps[radius] * middle[m]
                for t in range(1, radius + 1):
                    weight = taps[radius + t]
                    before, after = source[o, _mirrored(i - t, n)], source[o, _mirrored(i + t, n)]
                    for m in range(inner):
                        target[m] += weight * (before[m] + after[m])


@njit(cache=True, nogil=True)
def _add_taps(padded, taps, radius, n, target):  # type: ignore[no-untyped-def]
    """Filter one line; taps outside and voxels inside, so that the inner loop runs on vectors."""
    middle = padded[radius : radius + n]
    for i in range(n):
        target[i] = taps[radius] * middle[i]
    for t in range(1, radius + 1):
        weight = taps[radius + t]
        before, after = padded[radius - t : radius - t + n], padded[radius + t : radius + t + n]
        for i in range(n):
            target[i] += weight * (before[i] + after[i])


@njit(cache=True, nogil=True)
def _interpolate(source, first, second, weight, out):  # type: ignore[no-untyped-def]
    outer, n, inner = source.shape
    for o in range(outer):
        for i in range(n):
            target, a, b, w = out[o, i], source[o, first[i]], source[o, second[i]], weight[i]
            for m in range(inner):
                target[m] = a[m] * (np.float32(1.0) - w) + b[m] * w


__all__ = [
    "CURVE_NODES",
    "blur",
    "coarse_index",
    "coarsen",
    "correlated_noise",
    "gaussian_taps",
    "moments",
    "remap",
    "rescale",
]
