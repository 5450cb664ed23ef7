"""Training images and what they are conditioned on, as patches at native spacing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.core import Case, ClassLabel, LabelMap, LabelScheme
from equipoise.engines.parts.learned.intensity import Intensity
from equipoise.engines.parts.tissue_model import TissueModel
from equipoise.errors import DataError, GeometryMismatchError

SEEDS = 4096
"""Labelled voxels per case and label that patches may be centred on."""

SPACING_RATIO = 1.25
"""Largest ratio of two training images' spacings along an axis: a size in pixels is part of what is learned."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Patches for one step.

    Parameters
    ----------
    images
        -1 … 1, float32, shape ``(B, C, I, J, K)``.
    planes
        What they are conditioned on, float32, shape ``(B, M, I, J, K)``.
    sources
        Number of the training case of each patch.
    """

    images: np.ndarray
    planes: np.ndarray
    sources: np.ndarray


@dataclass(frozen=True, eq=False)
class Conditions:
    """How a label map or a class becomes the planes that a network is conditioned on.

    Parameters
    ----------
    scheme
        The labels, one plane each; ``None`` for class labels.
    classes
        The classes, one constant plane each; empty for label maps.
    tissue
        Sub-labels of what nobody labelled, one plane each, learned from the training images; ``None`` for none.
    """

    scheme: LabelScheme | None
    classes: tuple[str, ...] = ()
    tissue: TissueModel | None = None

    @classmethod
    def learned(
        cls, cases: Sequence[Case], intensity: Intensity, sublabels: int, rng: np.random.Generator
    ) -> Conditions:
        """Return what the truths of cases say; with ``sublabels``, also what their unlabelled tissue does."""
        truth = cases[0].truth
        if not isinstance(truth, LabelMap):
            return cls(None, truth.classes if truth else ())
        if not sublabels:
            return cls(truth.scheme)
        number = {case.id: i for i, case in enumerate(cases)}
        tissue = TissueModel.fit(
            cases, lambda case: intensity.encode(case.image.array, number[case.id]), rng, sublabels, inner=1
        )
        return cls(truth.scheme, (), tissue)

    @property
    def count(self) -> int:
        """Number of planes."""
        labels = len(self.scheme.labels) if self.scheme else len(self.classes)
        return labels + self.sublabels

    @property
    def sublabels(self) -> int:
        """How many of them are sub-labels; they come last."""
        return int((self.tissue.region == 0).sum()) if self.tissue else 0

    def of(self, truth: LabelMap | ClassLabel | None, shape: tuple[int, int, int], under: Any = None) -> np.ndarray:
        """Return the planes of a truth, uint8, shape ``(M, I, J, K)``.

        Parameters
        ----------
        truth
            A label map of the scheme, or a class.
        shape
            Of the image.
        under
            Sub-label of each voxel, shape ``(I, J, K)``; ``None`` where it is not known: its planes are then 0.
        """
        planes = np.zeros((self.count, *shape), np.uint8)
        if isinstance(truth, LabelMap):
            planes[: len(truth.scheme.labels)] = truth.masks()
        elif isinstance(truth, ClassLabel):
            planes[truth.index] = 1
        if under is not None and self.tissue is not None:
            first = self.count - self.sublabels
            for place, number in enumerate(np.flatnonzero(self.tissue.region == 0)):
                planes[first + place] = under == number
        return planes


@dataclass(frozen=True, eq=False)
class Examples:
    """The training cases, ready to be cut.

    Parameters
    ----------
    images, planes
        As in `Batch`, one array per case; planes are uint8.
    seeds
        Flat positions of labelled voxels by case, one array per label that the case has.
    patients, ids
        By case.
    patch
        Voxels along I, J, K; K is 1 in 2-D.
    """

    images: tuple[np.ndarray, ...]
    planes: tuple[np.ndarray, ...]
    seeds: tuple[tuple[np.ndarray, ...], ...]
    patients: tuple[str, ...]
    ids: tuple[str, ...]
    patch: tuple[int, int, int]

    @classmethod
    def of(
        cls, cases: Sequence[Case], intensity: Intensity, conditions: Conditions, patch: tuple[int, int, int]
    ) -> Examples:
        """Return the cases normalised, with what they are conditioned on and where they are labelled."""
        images, planes, seeds = [], [], []
        for number, case in enumerate(cases):
            under = conditions.tissue.maps[case.id] if conditions.tissue else None
            shape = case.image.geometry.shape
            images.append(_padded(intensity.encode(case.image.array, number), patch))
            planes.append(_padded(conditions.of(case.truth, shape, under), patch))
            labels = planes[-1][: conditions.count - conditions.sublabels] if conditions.scheme else ()
            found = (np.flatnonzero(mask) for mask in labels)
            seeds.append(tuple(flat[:: math.ceil(flat.size / SEEDS)] for flat in found if flat.size))
        return cls(
            tuple(images),
            tuple(planes),
            tuple(seeds),
            tuple(c.patient for c in cases),
            tuple(c.id for c in cases),
            patch,
        )

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return 2 if self.patch[2] == 1 else 3

    def draw(
        self, count: int, rng: np.random.Generator, among: Sequence[int] | None = None, foreground: float = 0.5
    ) -> Batch:
        """Return a batch of patches.

        Parameters
        ----------
        count
            How many.
        rng
            Chooses cases and places.
        among
            Numbers of the cases to draw from; all by default.
        foreground
            Share of patches around a labelled voxel, each label as often as any other.
        """
        numbers = np.arange(len(self.images)) if among is None else np.asarray(among)
        sources = rng.choice(numbers, count)
        cut = [self._cut(int(number), rng, foreground) for number in sources]
        images, planes = (np.stack(part) for part in zip(*cut, strict=True))
        return Batch(images, planes.astype(np.float32), sources)

    def _cut(self, number: int, rng: np.random.Generator, foreground: float) -> tuple[np.ndarray, np.ndarray]:
        image, seeds = self.images[number], self.seeds[number]
        full, patch = np.array(image.shape[1:]), np.array(self.patch)
        middle = (full - 1) * rng.random(3)
        if seeds and rng.random() < foreground:
            flat = seeds[int(rng.integers(len(seeds)))]
            at = np.array(np.unravel_index(flat[int(rng.integers(len(flat)))], full))
            # Anywhere in the middle half: else every patch would have its structure in the centre.
            middle = at + (rng.random(3) - 0.5) * (patch / 2)
        first = np.clip(np.rint(middle - (patch - 1) / 2).astype(int), 0, full - patch)
        box = (slice(None), *(slice(a, a + n) for a, n in zip(first, patch, strict=True)))
        return image[box], self.planes[number][box]


def patch_for(cases: Sequence[Case], side: int, multiple: int) -> tuple[int, int, int]:
    """Return a patch that suits all images: ``side`` along each axis, less where the images are smaller.

    Parameters
    ----------
    cases
        Of one dimension.
    side
        Wanted, in voxels.
    multiple
        The network halves its input so often that sides must be multiples of this.

    Raises
    ------
    DataError
        Images and volumes are mixed.
    """
    shapes = np.array([case.image.geometry.shape for case in cases])
    flat = shapes[:, 2] == 1
    if flat.any() and not flat.all():
        image, volume = (cases[int(f(flat))] for f in (np.argmax, np.argmin))
        raise DataError(
            f"{int(flat.sum())} of {len(cases)} training images are 2-D and the others are volumes: {image.id!r} has "
            f"{image.image.geometry.shape} voxels, {volume.id!r} {volume.image.geometry.shape}",
            file=volume.file,
            why="a network learns one or the other",
            fix="make two sets of them",
        )
    wide = -(-side // multiple) * multiple
    sides = [min(wide, -(-int(n) // multiple) * multiple) for n in np.median(shapes, axis=0)]
    return sides[0], sides[1], 1 if flat.all() else sides[2]


def require_sides(cases: Sequence[Case], least: int) -> None:
    """Raise `DataError` unless every image has so many voxels along I and J."""
    for case in cases:
        shape = case.image.geometry.shape
        if min(shape[:2]) < least:
            raise DataError(
                f"image of case {case.id!r} has {shape[0]} x {shape[1]} pixels, and {least} along each side are needed",
                file=case.file,
                why="the network that says when a training may stop looks at patches of that size",
                fix="leave the case out, or resample all images to smaller pixels",
            )


def require_one_spacing(cases: Sequence[Case]) -> None:
    """Raise `GeometryMismatchError` unless all images have about the same spacing."""
    grids = [case.image.geometry for case in cases]
    spacing = np.array([g.spacing for g in grids])[:, : grids[0].ndim]
    ratio = (spacing.max(0) / spacing.min(0)).max()
    if len({g.unit for g in grids}) > 1 or ratio > SPACING_RATIO:
        small, large = (cases[int(f(spacing.max(1)))] for f in (np.argmin, np.argmax))
        raise GeometryMismatchError(
            f"training images differ in spacing by a factor of {ratio:.2g}: "
            f"{tuple(round(s, 4) for s in small.image.geometry.spacing)} {small.image.geometry.unit} in {small.id!r}, "
            f"{tuple(round(s, 4) for s in large.image.geometry.spacing)} {large.image.geometry.unit} in {large.id!r}",
            file=large.file,
            why="the same organ would have two sizes in voxels, and the network would learn neither",
            fix="resample them to one spacing, or fit one engine per scanner (`where = {site = ...}` in the plan)",
        )


def up_to(array: np.ndarray, patch: tuple[int, int, int], multiple: int) -> np.ndarray:
    """Return an array ``(M, I, J, K)`` mirrored at its far ends up to a patch, and to sides that are multiples."""
    sides = zip(array.shape[1:], patch, strict=True)
    i, j, k = (max(p, n if p == 1 else -(-n // multiple) * multiple) for n, p in sides)
    return _padded(array, (i, j, k))


def _padded(array: np.ndarray, patch: tuple[int, int, int]) -> np.ndarray:
    """Return an array mirrored at its far ends until a patch fits in."""
    more = [(0, max(p - n, 0)) for n, p in zip(array.shape[1:], patch, strict=True)]
    return np.pad(array, [(0, 0), *more], mode="symmetric") if any(b for _, b in more) else array


__all__ = ["Batch", "Conditions", "Examples", "patch_for", "require_one_spacing", "require_sides", "up_to"]
