"""Label maps that one anatomy drew and another one drew on: what they show now, and what the first one knew.

An anatomy may know more than its labels: a label map of `tissue` carries every nucleus and the compartments around it,
whatever is annotated. What draws on such a map hands the map itself on, with the way in which it pushed tissue aside.
An engine can then image what the first anatomy knew, move it, and image anew only what was drawn on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.core import LabelMap, LabelScheme
from equipoise.core.image import Voxels
from equipoise.engines.parts.placement import Push, pushed


@dataclass(frozen=True, eq=False)
class DrawnOver:
    """Voxels of a `LabelMap` that something was drawn on.

    Parameters
    ----------
    array
        What the map shows now, shape ``(L, I, J, K)``: the channels of ``under`` come first, new ones after them.
    under
        The map as the first anatomy drew it, on the same grid.
    pushes
        How its tissue was pushed aside, in the order in which they act.
    """

    array: np.ndarray
    under: LabelMap
    pushes: tuple[Push, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """``(L, I, J, K)``."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one value."""
        return self.array.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array if dtype is None else self.array.astype(dtype)

    def changed(self) -> np.ndarray:
        """Return where the map shows something else than what lay there and was pushed, bool, shape ``(I, J, K)``."""
        was = pushed(self.under.array, self.pushes)
        return np.asarray((self.array[: len(was)] != was).any(axis=0) | (self.array[len(was) :] > 0).any(axis=0))


def imaged_over(
    values: np.ndarray, labels: LabelMap, where: np.ndarray, paint: Callable[[LabelMap], np.ndarray], reach: int
) -> np.ndarray:
    """Return an image of a label map some of which is imaged anew.

    Parameters
    ----------
    values
        The rest of it, shape ``(C, I, J, K)``.
    labels
        The label map.
    where
        What is imaged anew, bool, shape ``(I, J, K)``.
    paint
        Images a piece of the label map.
    reach
        Voxels around ``where`` that the piece has at least.
    """
    out = values.copy()
    if not where.any():
        return out
    box = tuple(slice(max(int(on.min()) - reach, 0), int(on.max()) + reach + 1) for on in np.nonzero(where))
    offset = np.eye(4)
    offset[:3, 3] = [s.start for s in box]
    array = np.ascontiguousarray(labels.array[:, *box])
    piece = LabelMap(array, labels.scheme, labels.affine @ offset, labels.frame, labels.unit)
    out[:, *box][:, where[box]] = paint(piece)[:, where[box]]
    return out


def divided(labels: LabelMap, names: Sequence[str]) -> tuple[LabelMap, np.ndarray]:
    """Return the map of some of the labels, in this order, and where the others lie, bool, shape ``(I, J, K)``."""
    if tuple(names) == labels.scheme.names:
        return labels, np.zeros(labels.geometry.shape, bool)
    chosen = [labels.scheme.channel(name) for name in names]
    scheme = LabelScheme(tuple(labels.scheme.labels[c] for c in chosen), labels.scheme.exclusive)
    known = LabelMap.on(labels.geometry, labels.array[chosen], scheme, labels.ignore)
    others = [c for c in range(len(labels.scheme.labels)) if c not in chosen]
    return known, np.asarray((labels.array[others] > 0).any(axis=0))


def drawn_over(array: np.ndarray, under: LabelMap, pushes: tuple[Push, ...]) -> Voxels:
    """Return voxels that hand on what ``under`` knows beside its labels; an array's are labels and nothing else."""
    return array if isinstance(under.voxels, np.ndarray) else DrawnOver(array, under, pushes)


__all__ = ["DrawnOver", "divided", "drawn_over", "imaged_over"]
