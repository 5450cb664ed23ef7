"""Seamless insertion: the gradients of one image inside a region of another, without a step at its border.

Inside the region the result has the source's gradients, on its border the host's values. What is solved for is their
difference, which is harmonic there, so smooth corrections (another scanner, a shading) cost few sweeps.

References
----------
Pérez P, Gangnet M, Blake A. Poisson image editing. ACM Trans Graph 2003;22:313-318. doi:10.1145/882262.882269

Young DM. Iterative methods for solving partial difference equations of elliptic type. Trans Am Math Soc
1954;76:92-111. doi:10.2307/1990745 (successive over-relaxation)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit

from equipoise.errors import EngineError

TOLERANCE = 1e-5
"""Largest change of a voxel in a sweep, as a part of the correction's range, at which the solution is taken."""

SWEEPS = 4000
"""Never reached by a region that fits in memory: over-relaxation needs a few times the region's width."""


def blend(
    host: np.ndarray, source: np.ndarray, inside: np.ndarray, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> np.ndarray:
    """Return the host with the source's gradients inside a region.

    Parameters
    ----------
    host, source
        float32, shape ``(C, I, J, K)``; ``K == 1`` is 2-D.
    inside
        Bool, shape ``(I, J, K)``: the region. Where it meets the end of the grid the gradient across is the source's.
    spacing
        Voxel size along I, J, K.

    Returns
    -------
    np.ndarray
        float32, shape ``(C, I, J, K)``; equal to ``host`` outside the region.

    Raises
    ------
    EngineError
        A part of the region has no border inside the grid, so that nothing says how bright it is.
    """
    if not inside.any():
        return host.copy()
    index = np.flatnonzero(inside)
    neighbours, weights = _neighbours(inside.shape, index, spacing)
    if inside.all():
        raise EngineError(
            f"a region of {index.size} voxels covers its whole grid {inside.shape}",
            why="without host voxels around it, nothing says how bright it must be",
            fix="leave a margin of at least one voxel around the region",
        )
    width = max(int(np.ptp(x)) + 1 for x in np.nonzero(inside))
    omega = 2 / (1 + math.sin(math.pi / (width + 1)))
    out = host.copy()
    for c in range(len(host)):
        correction = (host[c] - source[c]).astype(np.float64).ravel()
        border = correction[neighbours[(neighbours >= 0) & ~inside.ravel()[neighbours]]]
        # The mean of the border is a good start: what is left falls off towards the middle.
        correction[index] = border.mean() if border.size else 0.0
        spread = float(np.ptp(border)) if border.size else 0.0
        if spread > 0:
            _relax(correction, index, neighbours, weights, omega, SWEEPS, TOLERANCE * spread)
        out[c].ravel()[index] = source[c].ravel()[index] + correction[index].astype(np.float32)
    return out


def _neighbours(shape: tuple[int, ...], index: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the flat neighbours of each voxel, shape ``(N, 6)``, -1 beyond the grid, and their weights ``(6,)``."""
    places = np.stack(np.unravel_index(index, shape))
    found, weights = [], []
    for axis, stride in enumerate((shape[1] * shape[2], shape[2], 1)):
        for sign in (-1, 1):
            there = places[axis] + sign
            found.append(np.where((there >= 0) & (there < shape[axis]), index + sign * stride, -1))
            weights.append(1.0 / spacing[axis] ** 2)
    return np.stack(found, axis=1), np.array(weights)


@njit(cache=True, nogil=True)
def _relax(values, index, neighbours, weights, omega, most, tolerance):  # type: ignore[no-untyped-def]
    for sweep in range(most):
        change = 0.0
        for n in range(index.size):
            total, norm = 0.0, 0.0
            for m in range(6):
                q = neighbours[n, m]
                if q >= 0:
                    total += weights[m] * values[q]
                    norm += weights[m]
            if norm > 0.0:
                step = omega * (total / norm - values[index[n]])
                values[index[n]] += step
                change = max(change, abs(step))
        if change < tolerance:
            return sweep + 1
    return most


__all__ = ["blend"]
