"""Where what an anatomy draws comes from: a training case's grid, cropped, turned, deformed, and then pushed aside."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

from equipoise.engines.parts.warp import warp

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Placement:
    """The map from a drawn grid to the grid of the training case that it came from.

    Whatever is known voxel by voxel of that case, beside its labels, follows the labels through `carry`. A kind of
    placement may know more of the drawn grid itself, as `equipoise.engines.parts.retina.Eye` does.

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

    def displaced(self, pushes: tuple[Push, ...]) -> Placement:
        """Return the placement after pushes on the drawn grid, in the order in which they act.

        A kind that knows more of the drawn grid than its source overrides this, and moves what it knows.
        """
        if not pushes:
            return self
        return Displaced(**{f.name: getattr(self, f.name) for f in fields(Placement)}, first=self, pushes=pushes)


@dataclass(frozen=True, eq=False)
class Push:
    """A displacement of voxels within a box of a grid.

    Parameters
    ----------
    box
        Of the grid.
    source
        Of every voxel of the box, in C order, the voxel of the box whose tissue it has now; int, shape ``(n,)``.
    """

    box: Box
    source: np.ndarray

    def displace(self, values: np.ndarray) -> None:
        """Displace values of a grid, shape ``(L, I, J, K)``, in place."""
        block = values[:, *self.box]
        for channel in block:  # one at a time: a head of 20 labels would need 20 copies
            channel[:] = channel.ravel()[self.source].reshape(channel.shape)


@dataclass(frozen=True, eq=False)
class Displaced(Placement):
    """The placement of a training case's grid, and what was displaced on the drawn grid afterwards.

    Parameters
    ----------
    first
        How the training case was laid; the other fields are its own.
    pushes
        In the order in which they act.
    """

    first: Placement | None = None
    pushes: tuple[Push, ...] = ()

    def carry(self, values: np.ndarray) -> np.ndarray:
        """Return integers of the source's grid, shape ``(L, I, J, K)``, on the drawn grid; nearest neighbour."""
        return pushed(values if self.first is None else self.first.carry(values), self.pushes)


def pushed(values: np.ndarray, pushes: tuple[Push, ...]) -> np.ndarray:
    """Return values of a drawn grid, shape ``(L, I, J, K)``, after pushes: a copy."""
    moved = values.copy()
    for push in pushes:
        push.displace(moved)
    return moved


__all__ = ["Box", "Displaced", "Placement", "Push", "pushed"]
