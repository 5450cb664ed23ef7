"""The label maps of the training patients, to be drawn from: whole or as patches at native spacing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.core import Case, Geometry, LabelMap, patients_of
from equipoise.engines.parts.placement import Placement
from equipoise.errors import DataError, EngineError

REMEMBERED = 512
"""Labelled voxels per case that are remembered, to place patches on."""


@dataclass(frozen=True, eq=False)
class TrainingMap:
    """A training case's label map.

    Parameters
    ----------
    source
        The case's id.
    labels
        Its truth; lazy voxels stay lazy.
    foreground
        Positions of some labelled voxels, int, shape ``(N, 3)``.
    """

    source: str
    labels: LabelMap
    foreground: np.ndarray


@dataclass(frozen=True, eq=False)
class TrainingMaps:
    """All of them, and the patients they show."""

    maps: tuple[TrainingMap, ...]
    parents: frozenset[str]

    @classmethod
    def of(cls, cases: Sequence[Case], rng: np.random.Generator) -> TrainingMaps:
        """Return the label maps of training cases; `DataError` if there is none."""
        if not cases:
            raise DataError("there is no training case to take a label map from", fix="give at least one real case")
        return cls(tuple(_remembered(case, rng) for case in cases), patients_of(cases))

    def draw(self, patch: int | tuple[int, ...], foreground: float, rng: np.random.Generator) -> _Window:
        """Draw a case and a window on it.

        Parameters
        ----------
        patch
            Side in voxels, or one length per axis; 0 is the whole map. Never longer than the map.
        foreground
            Share of windows that are placed on a labelled voxel.
        rng
            Stream of the draw.
        """
        chosen = self.maps[int(rng.integers(len(self.maps)))]
        full = chosen.labels.geometry.shape
        shape = _window_shape(full, patch)
        middle = (np.array(full) - 1) * rng.random(3)
        on_label = rng.random() < foreground
        if patch and on_label and len(chosen.foreground):
            # The labelled voxel lies anywhere in the middle half, else every window would have its label in the centre.
            at = chosen.foreground[int(rng.integers(len(chosen.foreground)))]
            middle = at + (rng.random(3) - 0.5) * (np.array(shape) / 2)
        first = np.clip(np.rint(middle - (np.array(shape) - 1) / 2), 0, np.array(full) - np.array(shape))
        return _Window(chosen, shape, first)


@dataclass(frozen=True, eq=False)
class _Window:
    """A piece of a training case's map: ``first`` is its first voxel there."""

    of: TrainingMap
    shape: tuple[int, int, int]
    first: np.ndarray

    def placed(
        self,
        matrix: np.ndarray | None = None,
        nodes: np.ndarray | None = None,
        step: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> tuple[LabelMap, Placement]:
        """Return the window's label map, turned and deformed about its centre, and where everything came from."""
        truth = self.of.labels
        matrix = np.eye(3) if matrix is None else matrix
        centre = (np.array(self.shape) - 1) / 2
        offset = self.first + centre - matrix @ centre
        placement = Placement(self.of.source, self.shape, matrix, offset, nodes, step)
        ignore = None if truth.ignore is None else np.asarray(truth.ignore).astype(np.uint8)
        stack = truth.array if ignore is None else np.concatenate([truth.array, ignore.astype(truth.array.dtype)])
        carried = placement.carry(stack)
        affine = truth.affine.copy()
        # Spacing stays that of the source: a scale in ``matrix`` changes the size of what is shown.
        affine[:3, 3] = truth.affine[:3, :3] @ self.first + truth.affine[:3, 3]
        geometry = Geometry(self.shape, affine, None, truth.unit)
        n = len(truth.scheme.labels)
        left_out = None if ignore is None else carried[n:].astype(bool)
        return LabelMap.on(geometry, carried[:n], truth.scheme, left_out), placement


def _remembered(case: Case, rng: np.random.Generator) -> TrainingMap:
    where = np.argwhere(case.labels.masks().any(axis=0))
    if len(where) > REMEMBERED:
        where = where[np.sort(rng.choice(len(where), REMEMBERED, replace=False))]
    return TrainingMap(case.id, case.labels, where)


def _window_shape(full: tuple[int, int, int], patch: int | tuple[int, ...]) -> tuple[int, int, int]:
    if not patch:
        return full
    sides = (patch,) * 3 if isinstance(patch, int) else (*patch, 1, 1)[:3]
    i, j, k = (min(int(side), n) for side, n in zip(sides, full, strict=True))
    return i, j, k


def require_fitted(maps: TrainingMaps | None, kind: str) -> TrainingMaps:
    """Return the maps, or raise `EngineError` because nothing was fitted."""
    if maps is None:
        raise EngineError(
            f"anatomy {kind!r} draws the label maps of training patients and has seen none",
            fix="fit the engine on training cases first (a plan does), or choose a procedural anatomy",
        )
    return maps
