"""How a training case's grid was laid onto a drawn one: cropped, turned, deformed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from equipoise.engines.parts.warp import warp


@dataclass(frozen=True, eq=False)
class Placement:
    """The map from a drawn grid to the grid of the training case that it came from.

    Whatever is known voxel by voxel of that case, beside its labels, follows the labels through `carry`.

    Parameters
    ----------
    source
        Id of the training case.
    shape
        Of the drawn grid, ``(I, J, K)``.
    matrix, offset
        3 x 3 and 3: drawn voxels to source voxels.
    nodes, step
        Displacement as in `equipoise.engines.parts.warp.warp`; ``None`` is none.
    """

    source: str
    shape: tuple[int, int, int]
    matrix: np.ndarray = field(default_factory=lambda: np.eye(3))
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))
    nodes: np.ndarray | None = None
    step: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def carry(self, values: np.ndarray) -> np.ndarray:
        """Return integers of the source's grid, shape ``(L, I, J, K)``, on the drawn grid; nearest neighbour.

        Beyond the source's grid its outermost voxels go on, as tissue cut off by the border does: a mirror image would
        show a second organ, or a second lesion, where there is none.
        """
        nothing = np.zeros((1, *values.shape[1:]), np.float32)
        return warp(nothing, values, self.shape, self.matrix, self.offset, self.nodes, self.step, mirrored=False)[1]
