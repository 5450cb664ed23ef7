"""Resampling, blur and curves of a batch of patches in torch, equal to `engines.parts` in numpy up to rounding.

All take ``x`` of shape ``(B, C, I, J, K)``, float32, and one setting per patch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from equipoise.engines.parts.appearance import coarse_index, gaussian_taps
from equipoise.engines.parts.warp import cubic_weights


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return mean, SD, minimum and maximum of each channel, shape ``(B, C, 1, 1, 1)`` each."""
    flat = x.flatten(2)
    found = (flat.mean(2), flat.std(2, correction=0), flat.amin(2), flat.amax(2))
    mean, sd, low, high = (f[:, :, None, None, None] for f in found)
    return mean, sd, low, high


def spline(nodes: Tensor, step: Sequence[float], shape: tuple[int, int, int]) -> Tensor:
    """Return the cubic B-spline field ``(F, I, J, K)`` of nodes ``(F, P, Q, R)`` that are ``step`` voxels apart."""
    field = nodes.to(torch.float32)
    for axis, (n, s) in enumerate(zip(shape, step, strict=True), 1):
        if nodes.shape[axis] == 1:  # a 2-D image has one node along K
            continue
        weights = np.zeros((n, nodes.shape[axis]), np.float32)
        for i in range(n):
            first, *four = cubic_weights(i / s)
            weights[i, first : first + 4] = four
        field = torch.tensordot(torch.as_tensor(weights, device=nodes.device), field, dims=([1], [axis]))
        field = field.movedim(0, axis)
    return field


def moved(x: Tensor, y: Tensor, matrices: np.ndarray, offsets: np.ndarray, fields: Tensor) -> tuple[Tensor, Tensor]:
    """Return images and labels seen from ``matrix @ (v + field(v)) + offset``; mirrored once, then held, outside.

    Parameters
    ----------
    x, y
        Images, and labels ``(B, L, I, J, K)``.
    matrices, offsets
        Shapes ``(B, 3, 3)`` and ``(B, 3)``, output voxels to input voxels.
    fields
        Displacement in output voxels, shape ``(B, 3, I, J, K)``.
    """
    shape, device = x.shape[2:], x.device
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in shape]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None] + fields
    turn, shift = (torch.as_tensor(a, dtype=torch.float32, device=device) for a in (matrices, offsets))
    at = torch.einsum("bpq,bqijk->bpijk", turn, places) + shift[:, :, None, None, None]
    ends = torch.tensor([n - 1 for n in shape], dtype=torch.float32, device=device)[None, :, None, None, None]
    at = at.abs()
    at = torch.where(at > ends, 2 * ends - at, at).clamp_min(0).minimum(ends)
    first = at.long()
    weight = at - first
    last = torch.tensor([n - 1 for n in shape], device=device)[None, :, None, None, None]
    second = torch.minimum(first + 1, last)
    strides = (shape[1] * shape[2], shape[2], 1)

    def gathered(source: Tensor, corner: Sequence[Tensor]) -> Tensor:
        index = sum(c * s for c, s in zip(corner, strides, strict=True)).flatten(1)[:, None]  # type: ignore[union-attr]
        return source.flatten(2).gather(2, index.expand(-1, source.shape[1], -1)).reshape(source.shape)

    out = torch.zeros_like(x)
    used = [a for a in range(3) if shape[a] > 1]  # along an axis of one voxel both corners are the same
    for high in itertools.product((False, True), repeat=len(used)):
        taken, share = [first[:, a] for a in range(3)], torch.ones_like(weight[:, 0])
        for a, upper in zip(used, high, strict=True):
            taken[a] = second[:, a] if upper else first[:, a]
            share = share * (weight[:, a] if upper else 1 - weight[:, a])
        out += share[:, None] * gathered(x, taken)
    nearest = (at + 0.5).long()
    return out, gathered(y, [nearest[:, a] for a in range(3)])


def blurred(x: Tensor, sigmas: Sequence[Sequence[float]]) -> Tensor:
    """Return each patch blurred by a Gaussian of its own SD along I, J, K in voxels; mirrored at the borders."""
    for axis in range(3):
        n = x.shape[axis + 2]
        taps = [gaussian_taps(min(s[axis], n)) if s[axis] >= 0.1 and n > 1 else np.ones(1, np.float32) for s in sigmas]
        radius = max(t.size for t in taps) // 2
        if radius == 0:
            continue
        kernel = np.stack([np.pad(t, radius - t.size // 2) for t in taps])
        lines = x.movedim(axis + 2, -1)
        places = np.abs(np.arange(-radius, n + radius))
        places = np.clip(np.where(places >= n, 2 * (n - 1) - places, places), 0, n - 1)
        padded = lines.index_select(-1, torch.as_tensor(places, device=x.device))
        weights = torch.as_tensor(kernel, device=x.device)
        flat = padded.reshape(len(x), -1, n + 2 * radius).transpose(0, 1)
        out = torch.nn.functional.conv1d(flat, weights[:, None], groups=len(x)).transpose(0, 1)
        x = out.reshape(lines.shape).movedim(-1, axis + 2)
    return x.contiguous()


def coarsened(x: Tensor, factors: Sequence[Sequence[float]]) -> Tensor:
    """Return each patch as if sampled on voxels ``factor`` times as large, brought back to its grid linearly."""
    for axis in range(3):
        n = x.shape[axis + 2]
        few = [max(1, round(n / f[axis])) if f[axis] > 1 else n for f in factors]
        if min(few) == n:
            continue
        index = [coarse_index(n, m) for m in few]
        lines = [len(few), 1, 1, 1, 1]
        lines[axis + 2] = n
        first, second, weight = (
            torch.as_tensor(np.stack(part), device=x.device).reshape(lines) for part in zip(*index, strict=True)
        )
        a, b = torch.take_along_dim(x, first, axis + 2), torch.take_along_dim(x, second, axis + 2)
        x = a * (1 - weight) + b * weight
    return x


def remapped(x: Tensor, low: Tensor, high: Tensor, tables: Tensor) -> Tensor:
    """Return grey values sent through curves.

    Parameters
    ----------
    x
        Images.
    low, high
        Ends of the curves, shape ``(B, C, 1, 1, 1)``; a channel of one value stays as it is.
    tables
        The curves at evenly spaced points, shape ``(B, C, M)``.
    """
    last = tables.shape[2] - 1
    width = torch.where(high > low, high - low, torch.ones_like(low))
    t = ((x - low) * (last / width)).clamp(0, last)
    node = t.long().clamp_max(last - 1)
    flat = node.flatten(2)
    lower, upper = (tables.gather(2, flat + n).reshape(x.shape) for n in (0, 1))
    weight = t - node
    return torch.where(high > low, low + width * (lower * (1 - weight) + upper * weight), x)


__all__ = ["blurred", "coarsened", "moments", "moved", "remapped", "spline"]
