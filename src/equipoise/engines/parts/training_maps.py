"""The label maps of the training patients, to be drawn from: whole or as patches at native spacing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from equipoise.core import Case, Geometry, LabelMap, patients_of
from equipoise.engines.parts.legal import require_within
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.warp import smooth_field
from equipoise.errors import DataError, EngineError

REMEMBERED = 512
"""Labelled voxels per case that are remembered, to place patches on."""

LOOKS = 16
"""Places per axis of a patch at which it is asked whether it still lies on the map."""


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

    def draw(self, patch: int | tuple[int, ...], foreground: float, rng: np.random.Generator) -> Window:
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
        return Window(chosen, shape, first)


@dataclass(frozen=True, eq=False)
class Window:
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
        inward = self._inward(matrix, offset, nodes, step)
        offset = offset + inward
        placement = Placement(self.of.source, self.shape, matrix, offset, nodes, step)
        ignore = None if truth.ignore is None else np.asarray(truth.ignore).astype(np.uint8)
        stack = truth.array if ignore is None else np.concatenate([truth.array, ignore.astype(truth.array.dtype)])
        carried = placement.carry(stack)
        affine = truth.affine.copy()
        # Spacing stays that of the source: a scale in ``matrix`` changes the size of what is shown.
        affine[:3, 3] = truth.affine[:3, :3] @ (self.first + inward) + truth.affine[:3, 3]
        geometry = Geometry(self.shape, affine, None, truth.unit)
        n = len(truth.scheme.labels)
        left_out = None if ignore is None else carried[n:].astype(bool)
        return LabelMap.on(geometry, carried[:n], truth.scheme, left_out), placement

    def _inward(
        self, matrix: np.ndarray, offset: np.ndarray, nodes: np.ndarray | None, step: tuple[float, float, float]
    ) -> np.ndarray:
        """Return by how much a patch is moved in the source for all of it to be seen there, in source voxels.

        Beyond the map its outermost voxels go on as streaks, which tissue does not have. Along an axis on which the
        patch shows the whole map there is no room to move.
        """
        every = np.maximum(np.array(self.shape) // LOOKS, 1)
        few = (np.array(self.shape) - 1) // every + 1
        at = np.stack(np.meshgrid(*(np.arange(n) * e for n, e in zip(few, every, strict=True)), indexing="ij"))
        if nodes is not None:
            i, j, k = (int(n) for n in few)
            at = at + smooth_field(nodes, np.array(step) / every, (i, j, k))
        seen = matrix @ at.reshape(3, -1) + offset[:, None]
        low, high = seen.min(axis=1), seen.max(axis=1)
        full = np.array(self.of.labels.geometry.shape)
        least, most = -low, full - 1 - high
        moved = np.where(least <= most, np.clip(0, least, np.maximum(least, most)), (least + most) / 2)
        return np.where(np.array(self.shape) < full, moved, 0.0)


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


class DrawsTrainingMaps:
    """What anatomies that draw the label maps of training patients do alike; a kind adds how it lays one: `laid`.

    A kind is a frozen dataclass with these fields: ``patch``, the side of a patch in voxels or 0 for whole maps;
    ``foreground``, the share of patches around a labelled voxel; ``_maps``, what was fitted.
    """

    kind: ClassVar[str]
    patch: int
    foreground: float
    _maps: TrainingMaps | None

    def laid(self, window: Window, rng: np.random.Generator) -> tuple[LabelMap, Placement]:
        """Return the label map of a window, and where everything in it came from."""
        raise NotImplementedError

    def require_patches(self) -> None:
        """Raise `PlanError` unless the patches can be."""
        require_within(f"{self.kind}.patch", self.patch, 0, 4096, "voxels")
        require_within(f"{self.kind}.foreground", self.foreground, 0, 1)

    @property
    def parents(self) -> frozenset[str]:
        """The training patients."""
        return self._maps.parents if self._maps else frozenset()

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Self:
        """Return an anatomy that holds the label maps of these cases; `DataError` if there is none."""
        return replace(self, _maps=TrainingMaps.of(cases, rng))  # type: ignore[type-var]

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        """Yield ``n`` label maps."""
        for labels, _ in self.draw_placed(n, rng):
            yield labels

    def draw_placed(self, n: int, rng: np.random.Generator) -> Iterator[tuple[LabelMap, Placement]]:
        """Yield ``n`` label maps and how each was laid on its training case.

        Raises `EngineError` before `fit`.
        """
        if self._maps is None:
            raise EngineError(
                f"anatomy {self.kind!r} draws the label maps of training patients and has seen none",
                fix="fit the engine on training cases first (a plan does), or choose a procedural anatomy",
            )
        for _ in range(n):
            (stream,) = rng.spawn(1)
            yield self.laid(self._maps.draw(self.patch, self.foreground, stream), stream)
