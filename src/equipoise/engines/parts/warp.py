"""Affine and smooth elastic maps of an image and its labels in one pass, and smooth random fields.

Both rest on uniform cubic B-splines on a coarse grid of control nodes: a field of any size costs four products per axis
and voxel, because rows are combined before voxels. A free-form deformation whose nodes move by less than `SAFE_2D` or
`SAFE_3D` node distances is one-to-one, so tissue is never folded and labels never tear (Choi and Lee).

References
----------
Choi Y, Lee S. Injectivity conditions of 2D and 3D uniform cubic B-spline functions. Graphical Models 2000;62:411-427.
doi:10.1006/gmod.2000.0531

Rueckert D, Sonoda LI, Hayes C, et al. Nonrigid registration using free-form deformations. IEEE TMI 1999;18:712-721.
doi:10.1109/42.796284
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

SAFE_2D = 0.48
"""Largest node displacement, in node distances, at which a 2-D deformation is surely one-to-one."""

SAFE_3D = 0.40
"""The same in 3-D."""


def node_counts(shape: Sequence[int], step: Sequence[float]) -> tuple[int, ...]:
    """Return how many control nodes per axis cover a grid.

    Parameters
    ----------
    shape
        Voxels per axis.
    step
        Distance of the nodes per axis, in voxels, above 0. The first node lies one step before the first voxel. A 2-D
        image (``K == 1``) has one node along K.
    """
    counts = [int((n - 1) / s) + 4 for n, s in zip(shape, step, strict=True)]
    return (*counts[:2], *(1 if n == 1 else c for n, c in zip(shape[2:], counts[2:], strict=True)))


def smooth_field(nodes: np.ndarray, step: Sequence[float], shape: tuple[int, int, int]) -> np.ndarray:
    """Return the cubic B-spline field of control nodes on a voxel grid.

    Parameters
    ----------
    nodes
        float32, shape ``(F, *node_counts(shape, step))``: F fields.
    step
        Distance of the nodes along I, J, K, in voxels.
    shape
        ``(I, J, K)``.

    Returns
    -------
    np.ndarray
        float32, shape ``(F, I, J, K)``; every value lies between the smallest and largest node around it.
    """
    i, j, k = shape
    out = np.empty((nodes.shape[0], *shape), np.float32)
    if k == 1:  # the kernel is fast along its last axis, so a 2-D image takes the place (1, I, J)
        flat = np.ascontiguousarray(nodes.transpose(0, 3, 1, 2).repeat(4, axis=1))
        _field(flat, np.array([1.0, step[0], step[1]]), out.reshape(-1, 1, i, j))
    else:
        _field(np.ascontiguousarray(nodes), np.array(step, float), out)
    return out


def warp(
    image: np.ndarray,
    labels: np.ndarray,
    shape: tuple[int, int, int],
    matrix: np.ndarray,
    offset: np.ndarray,
    nodes: np.ndarray | None = None,
    step: Sequence[float] = (1.0, 1.0, 1.0),
    mirrored: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the image and labels seen from ``matrix @ (x + d(x)) + offset`` at every output voxel ``x``.

    Outside its grid the image is mirrored, and its labels with it: a patch then shows no invented black corner, and
    the label still names what is seen. What is an anatomy is not mirrored but continued: no body has a second head.

    Parameters
    ----------
    image
        float32, shape ``(C, I, J, K)``; linear interpolation.
    labels
        Integers, shape ``(L, I, J, K)``; nearest neighbour, so instance numbers stay whole.
    shape
        Output grid ``(I, J, K)``; ``K`` is 1 if and only if the image's is.
    matrix, offset
        3 x 3 and 3, output voxels to input voxels.
    nodes
        Displacement ``d`` of the control nodes in output voxels, float32, shape ``(3, *node_counts(shape, step))``;
        one-to-one below `SAFE_2D` or `SAFE_3D` times ``step``.
    step
        Distance of the nodes along I, J, K, in output voxels.
    mirrored
        Whether what lies outside is the grid's mirror image, or else its nearest voxel.

    Returns
    -------
    tuple
        Image ``(C, *shape)`` float32 and labels ``(L, *shape)`` of the input's type.
    """
    image, labels = np.ascontiguousarray(image, np.float32), np.ascontiguousarray(labels)
    out = np.empty((image.shape[0], *shape), np.float32)
    named = np.empty((labels.shape[0], *shape), labels.dtype)
    nodes = np.zeros((3, 0, 0, 0), np.float32) if nodes is None else np.ascontiguousarray(nodes, np.float32)
    matrix, offset, steps = np.array(matrix, float), np.array(offset, float), np.array(step, float)
    if shape[2] == 1:
        plane = np.ascontiguousarray(nodes[:2, :, :, 0] if nodes.size else nodes[:2, :, :, 0:0].reshape(2, 0, 0))
        _warp2(image[..., 0], labels[..., 0], matrix, offset, plane, steps, mirrored, out[..., 0], named[..., 0])
    else:
        _warp3(image, labels, matrix, offset, nodes, steps, mirrored, out, named)
    return out, named


@njit(cache=True, nogil=True)
def cubic_weights(t):  # type: ignore[no-untyped-def]
    """Return the first node and the four cubic B-spline weights at ``t`` node distances."""
    base = int(t)
    f = t - base
    g = 1.0 - f
    return (
        base,
        np.float32(g * g * g / 6.0),
        np.float32((3.0 * f * f * f - 6.0 * f * f + 4.0) / 6.0),
        np.float32((3.0 * g * g * g - 6.0 * g * g + 4.0) / 6.0),
        np.float32(f * f * f / 6.0),
    )


@njit(cache=True, nogil=True)
def _inside(x, n, mirrored):  # type: ignore[no-untyped-def]
    """Return a position mirrored at most once into ``[0, n - 1]``; what is further out takes the nearest end."""
    if mirrored:
        x = abs(x)
        if x > n - 1:
            x = 2.0 * (n - 1) - x
    return min(max(x, 0.0), n - 1.0)


@njit(cache=True, nogil=True)
def _combine_planes(nodes, t, out):  # type: ignore[no-untyped-def]
    b, w0, w1, w2, w3 = cubic_weights(t)
    for f in range(nodes.shape[0]):
        for p in range(nodes.shape[2]):
            for q in range(nodes.shape[3]):
                out[f, p, q] = (
                    w0 * nodes[f, b, p, q]
                    + w1 * nodes[f, b + 1, p, q]
                    + w2 * nodes[f, b + 2, p, q]
                    + w3 * nodes[f, b + 3, p, q]
                )


@njit(cache=True, nogil=True)
def _combine_lines(plane, t, out):  # type: ignore[no-untyped-def]
    b, w0, w1, w2, w3 = cubic_weights(t)
    for f in range(plane.shape[0]):
        for q in range(plane.shape[2]):
            out[f, q] = (
                w0 * plane[f, b, q] + w1 * plane[f, b + 1, q] + w2 * plane[f, b + 2, q] + w3 * plane[f, b + 3, q]
            )


@njit(cache=True, nogil=True)
def _field(nodes, step, out):  # type: ignore[no-untyped-def]
    fields, ni, nj, nk = out.shape
    plane = np.empty((fields, nodes.shape[2], nodes.shape[3]), np.float32)
    line = np.empty((fields, nodes.shape[3]), np.float32)
    for i in range(ni):
        _combine_planes(nodes, i / step[0], plane)
        for j in range(nj):
            _combine_lines(plane, j / step[1], line)
            for k in range(nk):
                b, w0, w1, w2, w3 = cubic_weights(k / step[2])
                for f in range(fields):
                    out[f, i, j, k] = w0 * line[f, b] + w1 * line[f, b + 1] + w2 * line[f, b + 2] + w3 * line[f, b + 3]


@njit(cache=True, nogil=True)
def _warp2(image, labels, matrix, offset, nodes, step, mirrored, out, named):  # type: ignore[no-untyped-def]
    channels, ni, nj = image.shape
    elastic = nodes.shape[1] > 0
    line = np.empty((2, nodes.shape[2]), np.float32)
    for i in range(out.shape[1]):
        if elastic:
            _combine_lines(nodes, i / step[0], line)
        for j in range(out.shape[2]):
            y0, y1 = float(i), float(j)
            if elastic:
                b, w0, w1, w2, w3 = cubic_weights(j / step[1])
                y0 += w0 * line[0, b] + w1 * line[0, b + 1] + w2 * line[0, b + 2] + w3 * line[0, b + 3]
                y1 += w0 * line[1, b] + w1 * line[1, b + 1] + w2 * line[1, b + 2] + w3 * line[1, b + 3]
            p = _inside(matrix[0, 0] * y0 + matrix[0, 1] * y1 + offset[0], ni, mirrored)
            q = _inside(matrix[1, 0] * y0 + matrix[1, 1] * y1 + offset[1], nj, mirrored)
            i0, j0 = int(p), int(q)
            i1, j1 = min(i0 + 1, ni - 1), min(j0 + 1, nj - 1)
            fp, fq = np.float32(p - i0), np.float32(q - j0)
            one = np.float32(1.0)
            for c in range(channels):
                low = image[c, i0, j0] * (one - fq) + image[c, i0, j1] * fq
                high = image[c, i1, j0] * (one - fq) + image[c, i1, j1] * fq
                out[c, i, j] = low * (one - fp) + high * fp
            ri, rj = int(p + 0.5), int(q + 0.5)
            for c in range(labels.shape[0]):
                named[c, i, j] = labels[c, ri, rj]


@njit(cache=True, nogil=True)
def _warp3(image, labels, matrix, offset, nodes, step, mirrored, out, named):  # type: ignore[no-untyped-def]
    channels, ni, nj, nk = image.shape
    elastic = nodes.shape[1] > 0
    plane = np.empty((3, nodes.shape[2], nodes.shape[3]), np.float32)
    line = np.empty((3, nodes.shape[3]), np.float32)
    one = np.float32(1.0)
    for i in range(out.shape[1]):
        if elastic:
            _combine_planes(nodes, i / step[0], plane)
        for j in range(out.shape[2]):
            if elastic:
                _combine_lines(plane, j / step[1], line)
            for k in range(out.shape[3]):
                y0, y1, y2 = float(i), float(j), float(k)
                if elastic:
                    b, w0, w1, w2, w3 = cubic_weights(k / step[2])
                    y0 += w0 * line[0, b] + w1 * line[0, b + 1] + w2 * line[0, b + 2] + w3 * line[0, b + 3]
                    y1 += w0 * line[1, b] + w1 * line[1, b + 1] + w2 * line[1, b + 2] + w3 * line[1, b + 3]
                    y2 += w0 * line[2, b] + w1 * line[2, b + 1] + w2 * line[2, b + 2] + w3 * line[2, b + 3]
                p = _inside(matrix[0, 0] * y0 + matrix[0, 1] * y1 + matrix[0, 2] * y2 + offset[0], ni, mirrored)
                q = _inside(matrix[1, 0] * y0 + matrix[1, 1] * y1 + matrix[1, 2] * y2 + offset[1], nj, mirrored)
                r = _inside(matrix[2, 0] * y0 + matrix[2, 1] * y1 + matrix[2, 2] * y2 + offset[2], nk, mirrored)
                i0, j0, k0 = int(p), int(q), int(r)
                i1, j1, k1 = min(i0 + 1, ni - 1), min(j0 + 1, nj - 1), min(k0 + 1, nk - 1)
                fp, fq, fr = np.float32(p - i0), np.float32(q - j0), np.float32(r - k0)
                for c in range(channels):
                    a00 = image[c, i0, j0, k0] * (one - fr) + image[c, i0, j0, k1] * fr
                    a01 = image[c, i0, j1, k0] * (one - fr) + image[c, i0, j1, k1] * fr
                    a10 = image[c, i1, j0, k0] * (one - fr) + image[c, i1, j0, k1] * fr
                    a11 = image[c, i1, j1, k0] * (one - fr) + image[c, i1, j1, k1] * fr
                    out[c, i, j, k] = (a00 * (one - fq) + a01 * fq) * (one - fp) + (a10 * (one - fq) + a11 * fq) * fp
                ri, rj, rk = int(p + 0.5), int(q + 0.5), int(r + 0.5)
                for c in range(labels.shape[0]):
                    named[c, i, j, k] = labels[c, ri, rj, rk]


__all__ = ["SAFE_2D", "SAFE_3D", "cubic_weights", "node_counts", "smooth_field", "warp"]
