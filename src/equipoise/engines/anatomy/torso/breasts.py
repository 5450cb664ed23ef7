"""The breasts of a woman: fat with gland, on the muscle of the chest."""

from __future__ import annotations

import numpy as np
from numba import njit

from equipoise.engines.anatomy.torso.body import BOTTOM, SQUARENESS, Person, Profiles
from equipoise.engines.anatomy.torso.canvas import Canvas
from equipoise.engines.anatomy.torso.structures import index_of

APART_MM = 82.0
"""From the middle to the middle of a breast."""


def paint_breasts(canvas: Canvas, person: Person, profiles: Profiles, rng: np.random.Generator) -> None:
    """Paint both breasts: bulges that run out smoothly to the skin around them."""
    size = float(np.clip(rng.normal(1.0, 0.18) * (person.bmi / 24) ** 0.7, 0.6, 1.7))
    sag = rng.uniform(4, 26) * size
    for number, side in ((1, -1), (2, 1)):
        z = -28 - sag + 3 * rng.standard_normal()
        height = 36 * size * (1 + 0.05 * rng.standard_normal())
        wide = 36 * size**0.5
        # They hang: full below, running out slowly above.
        spread = np.array([wide, 0.8 * wide, 1.35 * wide])
        centre = np.array([side * APART_MM, z])
        _bulge(
            canvas.values, canvas.origin, canvas.step, profiles.table, centre, height, spread, index_of("fat")
        )  # fmt: skip
        row = profiles.at(z)
        front = row[5] - (row[4] + row[8]) * (1 - (APART_MM / (row[3] + row[7])) ** SQUARENESS) ** (1 / SQUARENESS)
        semi = np.array([0.95 * wide, 0.52 * height, 0.95 * wide])
        canvas.ellipsoid(
            index_of("breast", number), (centre[0], front - 0.36 * height, z + 2), semi, [index_of("fat")]
        )  # fmt: skip


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _bulge(
    values: np.ndarray, origin: np.ndarray, step: np.ndarray, table: np.ndarray, centre: np.ndarray, height: float,
    spread: np.ndarray, index: int,
) -> None:  # fmt: skip
    """Lift the skin in front by a bell of a height and widths (across, below, above) in mm."""
    ni, nj, nk = values.shape
    for k in range(nk):
        z = origin[2] + k * step[2]
        row = table[min(max(np.int64(np.rint(z)) - BOTTOM, 0), table.shape[0] - 1)]
        v = (z - centre[1]) / (spread[1] if z < centre[1] else spread[2])
        if abs(v) > 3:
            continue
        for i in range(ni):
            x = origin[0] + i * step[0]
            u, out = (x - centre[0]) / spread[0], abs(x) / (row[3] + row[7])
            if abs(u) > 3 or out >= 1:
                continue
            skin = row[5] - (row[4] + row[8]) * (1 - out**SQUARENESS) ** (1 / SQUARENESS)
            # Flatter than a Gaussian in the middle, as full breasts are.
            lift = height * np.exp(-0.5 * (u * u + v * v) ** 1.25)
            if lift < 0.5:
                continue
            for j in range(nj):
                y = origin[1] + j * step[1]
                if skin - lift <= y <= skin + 8 and values[i, j, k] == 0:
                    values[i, j, k] = index


__all__ = ["paint_breasts"]
