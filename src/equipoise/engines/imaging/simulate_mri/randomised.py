"""Domain randomisation: a picture of a label map with any contrast, so that a network learns shapes and not scanners.

One pass over the voxels looks up the label where a random affine and elastic map sends the voxel, draws a Gaussian grey
value by label, multiplies by a bias field and bends the grey values by a gamma curve; then come the blur of the voxel
and of thick slices, coarse sampling along one axis, and noise.

References
----------
Billot B, Greve DN, Puonti O, et al. SynthSeg: segmentation of brain MRI scans of any contrast and resolution without
retraining. Medical Image Analysis 2023;86:102789. doi:10.1016/j.media.2023.102789
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from scipy import special

from equipoise.engines.imaging.simulate_mri.fields import exponential_row
from equipoise.engines.parts.appearance import blur, coarsen
from equipoise.engines.parts.warp import cubic_weights

CURVE = 1024
"""Points of the gamma curve, between which it is straight."""

# 65,536 equally likely quantiles of the standard normal law, up to 4.3 SD: one 16-bit random number each, four times
# as fast as exact draws, and grey values cannot tell.
QUANTILES = special.ndtri((np.arange(65536) + 0.5) / 65536).astype(np.float32)
QUANTILES /= QUANTILES.std()


@dataclass(frozen=True, eq=False)
class Look:
    """Everything that is random about one picture.

    Parameters
    ----------
    mean, sd
        Grey value of each label and its SD, index 0 for what has none; shape ``(L + 1,)``; means in 0 to 1.
    matrix, offset
        3 x 3 and 3: voxels of the picture to voxels of the label map.
    nodes, step
        Displacement of control nodes in voxels ``(3, *node_counts(shape, step))`` and their distance, as in
        `equipoise.engines.parts.warp.warp`; without nodes the map is affine.
    bias
        Coefficients of the bias field's logarithm as in `polynomial_field`, shape ``(P, Q, R)``.
    gamma
        Exponent of the grey values between 0 and 1.
    blur
        SD of the blur along I, J, K in voxels.
    coarse
        Voxel-size factor along I, J, K.
    noise
        SD of the noise after all of that.
    """

    mean: np.ndarray
    sd: np.ndarray
    matrix: np.ndarray = field(default_factory=lambda: np.eye(3))
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))
    nodes: np.ndarray | None = None
    step: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bias: np.ndarray = field(default_factory=lambda: np.zeros((1, 1, 1)))
    gamma: float = 1.0
    blur: tuple[float, float, float] = (0.0, 0.0, 0.0)
    coarse: tuple[float, float, float] = (1.0, 1.0, 1.0)
    noise: float = 0.0


def random_contrast(
    labels: np.ndarray, shape: tuple[int, int, int], look: Look, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture of a label map, and the label map as the picture shows it.

    Parameters
    ----------
    labels
        uint8, shape ``(I, J, K)``: index into ``look.mean``; seen from outside its grid it is continued at the border.
    shape
        Of the picture; with K = 1 nothing moves along K.
    look
        See `Look`.
    rng
        Of the Gaussians.

    Returns
    -------
    tuple
        float32 from 0 to about 1, and uint8, both of that shape.
    """
    image, seen = np.empty(shape, np.float32), np.empty(shape, np.uint8)
    axes = tuple(((2 * np.arange(n) - (n - 1)) / max(n - 1, 1)) for n in shape)
    powers = np.stack([axes[2] ** r for r in range(look.bias.shape[2])])
    _paint(
        np.ascontiguousarray(labels, np.uint8),
        np.asarray(look.matrix, np.float64),
        np.asarray(look.offset, np.float64),
        np.ascontiguousarray(control_nodes(look), np.float32),
        np.asarray(look.step, np.float64),
        look.nodes is not None,
        np.asarray(look.mean, np.float32),
        np.asarray(look.sd, np.float32),
        rng.integers(0, 65536, shape, np.uint16),
        QUANTILES,
        axes[0],
        axes[1],
        powers,
        np.asarray(look.bias, np.float64),
        gamma_curve(look.gamma),
        image,
        seen,
    )
    image = image[None]
    if max(look.blur) >= 0.1:
        image = blur(image, look.blur)
    if max(look.coarse) > 1:
        image = coarsen(image, look.coarse)
    if look.noise > 0:
        _add_noise(image[0], np.float32(look.noise), rng.integers(0, 65536, shape, np.uint16), QUANTILES)
    return image[0], seen


def control_nodes(look: Look) -> np.ndarray:
    """Return the displacement of control nodes in 3-D; in a 2-D picture the same on either side, and none across it."""
    if look.nodes is None:
        return np.zeros((3, 4, 4, 4), np.float32)
    if look.nodes.shape[3] > 1:
        return look.nodes
    return look.nodes.repeat(4, axis=3) * np.array([1, 1, 0], np.float32)[:, None, None, None]


def gamma_curve(gamma: float) -> np.ndarray:
    """Return grey values after the gamma curve at `CURVE` even points of 0 to 1, float32."""
    return np.asarray(np.linspace(0, 1, CURVE) ** gamma, np.float32)


@njit(cache=True, nogil=True, fastmath=True)
def _moved_line(line, base, weights, out):  # type: ignore[no-untyped-def]
    """Put the displacement along one row into ``out``; runs of one node interval are straight vector loops."""
    n = base.size
    start = 0
    while start < n:
        b = base[start]
        stop = start
        while stop < n and base[stop] == b:
            stop += 1
        for c in range(3):
            l0, l1, l2, l3 = line[c, b], line[c, b + 1], line[c, b + 2], line[c, b + 3]
            for k in range(start, stop):
                out[c, k] = weights[0, k] * l0 + weights[1, k] * l1 + weights[2, k] * l2 + weights[3, k] * l3
        start = stop


@njit(cache=True, nogil=True)
def _bias_line(c, x, y, powers, line, out):  # type: ignore[no-untyped-def]
    """Put the bias field along one row into ``out``."""
    for r in range(c.shape[2]):
        across = 0.0
        for p in range(c.shape[0] - 1, -1, -1):
            inner = 0.0
            for q in range(c.shape[1] - 1, -1, -1):
                inner = inner * y + c[p, q, r]
            across = across * x + inner
        line[r] = across
    exponential_row(line, powers, out)


@njit(cache=True, nogil=True, fastmath=True)
def _paint(  # type: ignore[no-untyped-def]
    labels,
    matrix,
    offset,
    nodes,
    step,
    elastic,
    mean,
    sd,
    uniform,
    quantiles,
    x,
    y,
    powers,
    bias,
    curve,
    image,
    seen,
):
    ni, nj, nk = labels.shape
    oi, oj, ok = image.shape
    base, weights = np.zeros(ok, np.int64), np.zeros((4, ok), np.float32)
    for k in range(ok):
        base[k], weights[0, k], weights[1, k], weights[2, k], weights[3, k] = cubic_weights(k / step[2])
    plane = np.zeros((3, nodes.shape[2], nodes.shape[3]), np.float32)
    line = np.zeros((3, nodes.shape[3]), np.float32)
    d = np.zeros((3, ok), np.float32)
    even, along = np.ones(ok, np.float32), np.empty(bias.shape[2])
    biased = bias.size > 1
    m = matrix.astype(np.float32)
    half, last = np.float32(0.5), np.float32(curve.size - 1)
    ti, tj, tk = np.float32(ni - 1), np.float32(nj - 1), np.float32(nk - 1)
    zero = np.float32(0.0)
    for i in range(oi):
        if elastic:
            b, w0, w1, w2, w3 = cubic_weights(i / step[0])
            for f in range(3):
                for p in range(nodes.shape[2]):
                    for q in range(nodes.shape[3]):
                        plane[f, p, q] = (
                            w0 * nodes[f, b, p, q]
                            + w1 * nodes[f, b + 1, p, q]
                            + w2 * nodes[f, b + 2, p, q]
                            + w3 * nodes[f, b + 3, p, q]
                        )
        for j in range(oj):
            if elastic:
                b, w0, w1, w2, w3 = cubic_weights(j / step[1])
                for f in range(3):
                    for q in range(nodes.shape[3]):
                        line[f, q] = (
                            w0 * plane[f, b, q]
                            + w1 * plane[f, b + 1, q]
                            + w2 * plane[f, b + 2, q]
                            + w3 * plane[f, b + 3, q]
                        )
                _moved_line(line, base, weights, d)
            if biased:
                _bias_line(bias, x[i], y[j], powers, along, even)
            r0 = np.float32(matrix[0, 0] * i + matrix[0, 1] * j + offset[0]) + half
            r1 = np.float32(matrix[1, 0] * i + matrix[1, 1] * j + offset[1]) + half
            r2 = np.float32(matrix[2, 0] * i + matrix[2, 1] * j + offset[2]) + half
            for k in range(ok):
                d0, d1, d2 = d[0, k], d[1, k], d[2, k] + np.float32(k)
                p = int(min(max(m[0, 0] * d0 + m[0, 1] * d1 + m[0, 2] * d2 + r0, zero), ti))
                q = int(min(max(m[1, 0] * d0 + m[1, 1] * d1 + m[1, 2] * d2 + r1, zero), tj))
                r = int(min(max(m[2, 0] * d0 + m[2, 1] * d1 + m[2, 2] * d2 + r2, zero), tk))
                label = labels[np.uintp(p), np.uintp(q), np.uintp(r)]
                seen[i, j, k] = label
                value = (mean[label] + sd[label] * quantiles[uniform[i, j, k]]) * even[k] * last
                value = min(max(value, zero), last)
                node = min(int(value), curve.size - 2)
                f = value - np.float32(node)
                image[i, j, k] = curve[node] + f * (curve[node + 1] - curve[node])


@njit(cache=True, nogil=True, fastmath=True)
def _add_noise(image, sd, uniform, quantiles):  # type: ignore[no-untyped-def]
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            for k in range(image.shape[2]):
                image[i, j, k] = abs(image[i, j, k] + sd * quantiles[uniform[i, j, k]])


__all__ = ["QUANTILES", "Look", "control_nodes", "gamma_curve", "random_contrast"]
