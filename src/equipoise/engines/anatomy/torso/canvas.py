"""A volume that shapes are painted into: ellipsoids, and chains of straight pieces with an elliptical cross-section."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit


@dataclass(frozen=True, eq=False)
class Canvas:
    """Voxels in the coordinates of the reference body (mm): x to the patient's left, y to the back, z up.

    Parameters
    ----------
    values
        Index of the object in each voxel, uint8, shape ``(I, J, K)``; changed in place.
    origin, step
        Position of the first voxel's centre, and distance of voxels, along I, J, K in mm.
    """

    values: np.ndarray
    origin: np.ndarray
    step: np.ndarray

    def ellipsoid(
        self,
        index: int,
        centre: Sequence[float] | np.ndarray,
        semi: Sequence[float] | np.ndarray,
        over: Iterable[int],
        axes: np.ndarray | None = None,
        above: float = -np.inf,
        below: float = np.inf,
    ) -> None:
        """Paint an ellipsoid over the given indices.

        Parameters
        ----------
        centre, semi
            Centre and half axes in mm.
        axes
            3 x 3, rows are the directions of the half axes; ``None`` is x, y, z.
        above, below
            Heights z between which it is painted, in mm.
        """
        turn = np.eye(3) if axes is None else np.asarray(axes, float)
        matrix = turn / np.asarray(semi, float)[:, None]
        reach = np.sqrt(((turn * np.asarray(semi, float)[:, None]) ** 2).sum(axis=0))
        low, high = self._box(np.asarray(centre, float) - reach, np.asarray(centre, float) + reach)
        _ellipsoid(
            self.values, self.origin, self.step, np.asarray(centre, float), matrix, low, high, index,
            _table(over), above, below,
        )  # fmt: skip

    def chain(
        self, index: int, points: np.ndarray, radius: np.ndarray | float, over: Iterable[int], flat: float = 1.0,
        normals: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Paint a bent tube through points over the given indices.

        Parameters
        ----------
        points
            Shape ``(n, 3)``, mm.
        radius
            At each point, mm; of a flat tube the larger half axis.
        flat
            Smaller half axis of the cross-section over the larger one.
        normals
            Direction of the smaller half axis at each point, shape ``(n, 3)``.
        """
        r = np.broadcast_to(np.asarray(radius, float), len(points))
        n = np.tile([1.0, 0.0, 0.0], (len(points), 1)) if normals is None else normals
        pieces = np.column_stack([points[:-1], points[1:], r[:-1], r[1:], (n[:-1] + n[1:]) / 2])
        self.pieces(index, pieces, over, flat)

    def pieces(self, index: int, pieces: np.ndarray, over: Iterable[int], flat: float = 1.0) -> None:
        """Paint straight tapering pieces: start, end, radius at both, and direction of the smaller half axis (or none).

        Shape ``(n, 8)`` or ``(n, 11)``, mm.
        """
        if not len(pieces):
            return
        if pieces.shape[1] == 8:
            pieces = np.column_stack([pieces, np.tile([1.0, 0.0, 0.0], (len(pieces), 1))])
        wide = np.maximum(pieces[:, 6], pieces[:, 7])[:, None]
        low = np.minimum(pieces[:, :3], pieces[:, 3:6]) - wide
        high = np.maximum(pieces[:, :3], pieces[:, 3:6]) + wide
        first = np.maximum(np.ceil((low - self.origin) / self.step), 0).astype(np.int64)
        last = np.minimum(np.floor((high - self.origin) / self.step) + 1, self.values.shape).astype(np.int64)
        seen = (first < last).all(axis=1)
        pieces = np.ascontiguousarray(pieces[seen])
        norm = np.maximum(np.linalg.norm(pieces[:, 8:11], axis=1, keepdims=True), 1e-9)
        pieces[:, 8:11] /= norm
        _pieces(self.values, self.origin, self.step, pieces, first[seen], last[seen], index, _table(over), flat)

    def _box(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = np.maximum(np.ceil((low - self.origin) / self.step), 0).astype(np.int64)
        last = np.minimum(np.floor((high - self.origin) / self.step) + 1, self.values.shape).astype(np.int64)
        return first, last


def smooth_curve(points: Sequence[Any] | np.ndarray, step: float = 6.0) -> np.ndarray:
    """Return a curve through points (Catmull-Rom), about ``step`` mm apart, shape ``(n, columns)``.

    Columns beyond the third (a radius, say) are carried along.
    """
    p = np.asarray(points, float)
    p = np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
    out = []
    for a, b, c, d in zip(p[:-3], p[1:-2], p[2:-1], p[3:], strict=True):
        n = max(2, int(np.ceil(np.linalg.norm((c - b)[:3]) / step)))
        t = (np.arange(n) / n)[:, None]
        out.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.vstack([*out, p[-2:-1]])


def _table(over: Iterable[int]) -> np.ndarray:
    table = np.zeros(256, np.bool_)
    table[list(over)] = True
    return table


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _ellipsoid(
    values: np.ndarray, origin: np.ndarray, step: np.ndarray, centre: np.ndarray, matrix: np.ndarray,
    low: np.ndarray, high: np.ndarray, index: int, over: np.ndarray, above: float, below: float,
) -> None:  # fmt: skip
    for i in range(low[0], high[0]):
        x = origin[0] + i * step[0] - centre[0]
        for j in range(low[1], high[1]):
            y = origin[1] + j * step[1] - centre[1]
            for k in range(low[2], high[2]):
                z = origin[2] + k * step[2]
                if z < above or z > below or not over[values[i, j, k]]:
                    continue
                z -= centre[2]
                u = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z
                v = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z
                w = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z
                if u * u + v * v + w * w <= 1:
                    values[i, j, k] = index


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _pieces(
    values: np.ndarray, origin: np.ndarray, step: np.ndarray, pieces: np.ndarray, first: np.ndarray,
    last: np.ndarray, index: int, over: np.ndarray, flat: float,
) -> None:  # fmt: skip
    squeeze = 1 / flat**2 - 1
    for n in range(pieces.shape[0]):
        p = pieces[n]
        lx, ly, lz, thick = p[3] - p[0], p[4] - p[1], p[5] - p[2], p[7] - p[6]
        square = max(lx * lx + ly * ly + lz * lz, 1e-9)
        for i in range(first[n, 0], last[n, 0]):
            x = origin[0] + i * step[0] - p[0]
            for j in range(first[n, 1], last[n, 1]):
                y = origin[1] + j * step[1] - p[1]
                for k in range(first[n, 2], last[n, 2]):
                    if not over[values[i, j, k]]:
                        continue
                    z = origin[2] + k * step[2] - p[2]
                    t = min(max((x * lx + y * ly + z * lz) / square, 0.0), 1.0)
                    dx, dy, dz = x - t * lx, y - t * ly, z - t * lz
                    across = dx * p[8] + dy * p[9] + dz * p[10]
                    r = p[6] + t * thick
                    if dx * dx + dy * dy + dz * dz + squeeze * across * across <= r * r:
                        values[i, j, k] = index


__all__ = ["Canvas", "smooth_curve"]
