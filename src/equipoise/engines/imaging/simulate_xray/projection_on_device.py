"""`LabelRays.thickness` through torch, for a GPU: all rays side by side, plane after plane.

The same planes and weights as on the CPU, by bilinear reading everywhere. Where a ray runs along an edge between voxels
to the last bit, it may take the neighbour on the other side; sums are rounded in another order.
"""

from __future__ import annotations

import numpy as np

from equipoise.engines.parts.device import device_of

AGREES_MM = 0.001
"""Largest difference of a way from that of the CPU, but for `EDGES` of the ways."""
EDGES = 1e-4
"""Share of the ways that run along an edge, and differ by up to a voxel."""


def thickness_on(
    name: str, padded: np.ndarray, spacing: np.ndarray, rays: tuple[np.ndarray, ...], shape: tuple[int, int], count: int
) -> np.ndarray:
    """Return the length of each ray in each object in mm, float32, shape ``(columns, rows, count)``.

    Parameters
    ----------
    name
        ``"cpu"`` (by torch), ``"cuda"``, ``"cuda:0"`` ….
    padded, spacing
        As `LabelRays` has them.
    rays
        From `Beam.rays`.
    shape
        Detector elements: columns, rows.
    count
        Objects, air (index 0, never counted) included.

    Raises
    ------
    EngineError
        If there is no such device.
    """
    import torch

    device = device_of("simulate-xray", name)
    source, corner, column, row = (torch.as_tensor(np.asarray(v, np.float64), device=device) for v in rays)
    u, v = (torch.arange(n, dtype=torch.float64, device=device) for n in shape)
    way = ((corner + u[:, None, None] * column + v[None, :, None] * row) - source).reshape(-1, 3)
    step = way / way[:, 1:2].abs()
    across, plane, up = (float(s) for s in spacing)
    volume = torch.as_tensor(padded, device=device)
    na, nb, nc = padded.shape
    sx, sz = step[:, 0] * plane / across, step[:, 2] * plane / up
    mm = plane * torch.linalg.vector_norm(step, dim=1)
    out = torch.zeros((len(way), count), dtype=torch.float32, device=device)
    for n in range(nb):
        # From the source to this plane, in planes: rays run towards either end.
        planes = abs((n - (nb - 1) / 2) * plane - float(source[1])) / plane
        x = float(source[0]) / across + (na - 1) / 2 + planes * sx
        z = float(source[2]) / up + (nc - 1) / 2 + planes * sz
        inside = (x >= 0) & (x < na - 1) & (z >= 0) & (z < nc - 1)
        i, k = x.long().clamp(0, na - 2), z.long().clamp(0, nc - 2)
        fx, fz, here = x - i, z - k, mm * inside
        flat = volume[:, n].reshape(-1)
        for a, wa in ((0, 1 - fx), (1, fx)):
            for c, wc in ((0, 1 - fz), (1, fz)):
                found = flat[(i + a) * nc + k + c].long()
                # Each ray adds to a row of its own, so that no two additions meet.
                out.scatter_add_(1, found[:, None], (wa * wc * here).float()[:, None])
    out[:, 0] = 0
    ways: np.ndarray = out.reshape(*shape, count).cpu().numpy()
    return ways


__all__ = ["AGREES_MM", "EDGES", "thickness_on"]
