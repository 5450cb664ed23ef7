"""Patches for training: prepared cases, where to cut them, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from equipoise.core.case import Case
from equipoise.core.contracts import Augment
from equipoise.core.labels import LabelScheme
from equipoise.core.mix import Draw
from equipoise.errors import DataError, LabelError, TrainingError
from equipoise.learners.normalise import Normaliser, readable

SEEDS_PER_LABEL = 4096
"""Foreground voxels kept per label and case to centre patches on; more would only cost memory."""

CACHE_BYTES = 1 << 30
"""Prepared cases kept in memory by one training; what does not fit is prepared again when it is drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A case ready to be cut.

    Parameters
    ----------
    image
        Normalised, float32, shape ``(C, I, J, K)``.
    labels
        0 or 1, uint8, shape ``(L, I, J, K)``.
    ignore
        Bool, shape ``(I, J, K)``, or ``None`` if every voxel counts.
    seeds
        Flat indices of foreground voxels, one array per label that the case has.
    """

    image: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray | None
    seeds: tuple[np.ndarray, ...]

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return self.image.nbytes + self.labels.nbytes + (0 if self.ignore is None else self.ignore.nbytes)


def prepare(case: Case, normaliser: Normaliser) -> Prepared:
    """Return a case normalised and with its foreground voxels found.

    Raises
    ------
    DataError
        The image has values that are not numbers, or the case has no label map.
    """
    image = normaliser(readable(case))
    masks = case.labels.masks()
    ignored = case.labels.ignored() if case.labels.ignore is not None else None
    counted = masks if ignored is None else masks & ~ignored
    found = (np.flatnonzero(mask) for mask in counted)
    seeds = tuple(flat[:: -(-flat.size // SEEDS_PER_LABEL)] for flat in found if flat.size)
    return Prepared(image, masks.astype(np.uint8), ignored if ignored is not None and ignored.any() else None, seeds)


@dataclass(slots=True)
class PreparedCases:
    """Prepares the cases of one task and remembers those that come again.

    Parameters
    ----------
    normaliser
        For all of them.
    scheme, channels, ndim
        What each case must have.
    budget
        Bytes that may be remembered.
    """

    normaliser: Normaliser
    scheme: LabelScheme
    channels: int
    ndim: int
    budget: int = CACHE_BYTES
    _kept: dict[int, tuple[Case, Prepared]] = field(default_factory=dict)

    def get(self, case: Case, keep: bool = True) -> Prepared:
        """Return a case prepared; ``keep=False`` for one that will not come again."""
        known = self._kept.get(id(case))
        if known:
            return known[1]
        self._require_same_task(case)
        made = prepare(case, self.normaliser)
        if keep and made.nbytes <= self.budget:
            self.budget -= made.nbytes
            # The case is kept with it: an address is unique only while its object lives.
            self._kept[id(case)] = (case, made)
        return made

    def _require_same_task(self, case: Case) -> None:
        if case.labels.scheme != self.scheme:
            raise LabelError(
                f"case {case.id!r} is labelled {case.labels.scheme.as_dict()}, the first one {self.scheme.as_dict()}",
                file=case.file,
                fix="train on cases of one label scheme: names, values and order",
            )
        if (case.image.channels, case.image.geometry.ndim) != (self.channels, self.ndim):
            raise DataError(
                f"case {case.id!r} has {case.image.channels} channel(s) in {case.image.geometry.ndim}-D, "
                f"the first one {self.channels} in {self.ndim}-D",
                file=case.file,
                fix="train on cases of one kind: all grey or all colour, all slices or all volumes",
            )


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Patches that are trained on together.

    Parameters
    ----------
    images
        float32, shape ``(B, C, I, J, K)``.
    labels
        0 or 1, uint8, shape ``(B, L, I, J, K)``.
    counted
        uint8, shape ``(B, 1, I, J, K)``: 0 where nothing counts (padding, ignored voxels).
    weights
        Loss weight of each patch, float32, shape ``(B,)``.
    """

    images: np.ndarray
    labels: np.ndarray
    counted: np.ndarray
    weights: np.ndarray


def place(case: Prepared, size: tuple[int, ...], foreground: float, rng: np.random.Generator) -> tuple[int, ...]:
    """Return where a patch begins; negative where the image is shorter than the patch.

    With probability ``foreground`` a foreground voxel of a label drawn at random lies at a random place in it (not
    always in its centre, which the network would learn), else it lies anywhere.
    """
    shape = case.image.shape[1:]
    room = [n - m for n, m in zip(shape, size, strict=True)]
    if case.seeds and rng.random() < foreground:
        flat = rng.choice(case.seeds[rng.integers(len(case.seeds))])
        within = [int(v) - int(rng.integers(m)) for v, m in zip(np.unravel_index(flat, shape), size, strict=True)]
        return tuple(min(max(at, 0), r) if r > 0 else r // 2 for at, r in zip(within, room, strict=True))
    return tuple(int(rng.integers(r + 1)) if r > 0 else r // 2 for r in room)


def cut(case: Prepared, at: tuple[int, ...], size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return image and labels of a patch; the labels get one more channel if some of its voxels do not count.

    What lies outside the image is a reflection of it and does not count.
    """
    shape = case.image.shape[1:]
    inside = (slice(None), *(slice(max(a, 0), min(a + m, n)) for a, m, n in zip(at, size, shape, strict=True)))
    image, labels = case.image[inside], case.labels[inside]
    margins = [(max(-a, 0), max(a + m - n, 0)) for a, m, n in zip(at, size, shape, strict=True)]
    padded = any(map(any, margins))
    ignored = None if case.ignore is None else case.ignore[inside[1:]][None].astype(np.uint8)
    if ignored is None and padded:
        ignored = np.zeros((1, *labels.shape[1:]), np.uint8)
    if ignored is not None:
        labels = np.concatenate([labels, ignored])
    if padded:
        image = np.pad(image, [(0, 0), *margins], mode="reflect")
        labels = np.pad(labels, [(0, 0), *margins], mode="reflect")
        seen = tuple(slice(before, m - after) for (before, after), m in zip(margins, size, strict=True))
        outside = np.ones(size, bool)
        outside[seen] = False
        labels[-1][outside] = 1
    return image, labels


def batch_of(
    draws: Iterator[Draw],
    count: int,
    cases: PreparedCases,
    size: tuple[int, ...],
    foreground: float,
    rng: np.random.Generator,
    augment: Augment | None = None,
    streamed: bool = False,
) -> tuple[Batch, list[Draw]]:
    """Return the patches of the next ``count`` draws, and the draws.

    Parameters
    ----------
    draws
        Of the training set.
    count
        Patches per batch.
    cases
        Prepares and remembers cases.
    size
        Of a patch, ``(I, J, K)``.
    foreground
        Share of patches that are placed on foreground.
    rng
        Places and augmentation.
    augment
        Applied to each patch. Labels have a further last channel (1 where nothing counts) in patches that hold
        padding or ignored voxels; it moves with the others.
    streamed
        Whether synthetic cases are fresh, so that remembering them is of no use.
    """
    drawn = [next(draws) for _ in range(count)]
    channels = len(cases.scheme.labels)
    images = np.empty((count, cases.channels, *size), np.float32)
    labels = np.empty((count, channels, *size), np.uint8)
    counted = np.ones((count, 1, *size), np.uint8)
    for index, draw in enumerate(drawn):
        case = cases.get(draw.case, keep=not (streamed and draw.case.synthetic))
        image, label = cut(case, place(case, size, foreground, rng), size)
        if augment is not None:
            image, label = _augmented(image, label, augment, rng)
        images[index], labels[index] = image, label[:channels]
        if len(label) > channels:
            counted[index] = label[channels:] == 0
    return Batch(images, labels, counted, np.array([d.weight for d in drawn], np.float32)), drawn


def _augmented(
    image: np.ndarray, labels: np.ndarray, augment: Augment, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    # A copy: an augmentation that works in place must not reach the remembered case.
    changed, moved = augment(image.copy(), labels.copy(), rng)
    if changed.shape != image.shape or moved.shape != labels.shape or not np.isfinite(changed).all():
        raise TrainingError(
            f"the augmentation turned a patch of image {image.shape} and labels {labels.shape} into {changed.shape} "
            f"and {moved.shape}" + ("" if np.isfinite(changed).all() else " with NaN or infinite values"),
            fix="return arrays of the shapes that came in, with finite values",
        )
    return changed, moved
