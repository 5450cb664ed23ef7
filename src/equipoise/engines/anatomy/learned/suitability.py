"""Whether shapes of this kind can be learned by this model, by numbers, before anything is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.core import LabelMap
from equipoise.engines.anatomy.learned.frame import Frame, Pose
from equipoise.engines.anatomy.learned.measuring import pieces
from equipoise.engines.anatomy.learned.shape_model import LEAST, ShapeModel
from equipoise.engines.anatomy.learned.structures import Structures
from equipoise.errors import DataError

MANY = 6
"""Pieces of a label, in the median map that shows it, above which they are a population and not one shape."""

KEPT = 0.8
"""Dice of a map and itself, brought to the working grid and back, below which its structures are too thin for it."""

FOLLOWED = 0.6
"""Mean Dice of held-out maps rebuilt from the modes below which the modes do not describe the shape."""

SUFFICIENT = 0.85
"""The same, from which maps drawn from the modes look like the training maps, and a network's no more so."""

LOOKED_AT = 24
"""Maps that are asked, at most."""

FOLDS = 5

ELSEWHERE = (
    "use the anatomy `warped`; `tissue` for nuclei and cells, `eye-fundus` for vessels of the retina; or learn crops "
    'with model = "diffusion", patch = 64 (or more), align = false'
)


@dataclass(frozen=True, slots=True)
class Suitability:
    """How well a model fits each structure.

    Parameters
    ----------
    names
        Of the structures.
    pieces
        Median number in the maps that show it.
    kept
        Mean Dice of maps brought to the working grid and back.
    followed
        Mean Dice of held-out maps rebuilt from the modes; NaN where it was not or could not be asked.
    """

    names: tuple[str, ...]
    pieces: tuple[float, ...]
    kept: tuple[float, ...]
    followed: tuple[float, ...]

    @property
    def modes_suffice(self) -> bool:
        """Whether modes of shape follow every structure so well that a network has nothing to add."""
        each = zip(self.pieces, self.kept, self.followed, strict=True)
        return all(count <= MANY and kept >= KEPT and followed >= SUFFICIENT for count, kept, followed in each)


def suitability_of(
    maps: Sequence[LabelMap],
    poses: Sequence[Pose],
    fields: np.ndarray,
    frame: Frame,
    structures: Structures,
    present: np.ndarray,
    patients: Sequence[str],
    variance: float | None,
) -> Suitability:
    """Return how well shapes can be learned.

    Parameters
    ----------
    maps, poses, fields
        Aligned maps, each with a labelled voxel; fields have the shape ``(N, S, I, J, K)``.
    frame, structures
        The working grid and what is on it.
    present
        Which structures each map shows, bool, shape ``(N, S)``.
    patients
        Of the maps: one is never on both sides.
    variance
        Share that the modes explain; ``None`` does not ask how well modes follow.
    """
    names = tuple(structures.name(s) for s in range(len(structures.each)))
    every = max(len(maps) // LOOKED_AT, 1)
    chosen = range(0, len(maps), every)
    count, kept = np.full((2, len(maps), len(names)), np.nan)
    for n in chosen:
        masks = structures.masks(maps[n].array)
        again = structures.array(frame.draw(fields[n], poses[n], maps[n].geometry), present[n], frame.gap)
        back = structures.masks(again)
        for s in np.flatnonzero(present[n]):
            count[n, s] = pieces(masks[s])
            kept[n, s] = dice(masks[s], back[s])
    followed = _followed(fields, present, patients, variance, names) if variance else kept * np.nan
    each = range(len(names))
    return Suitability(
        names,
        tuple(_over(np.median, count[:, s]) for s in each),
        tuple(_over(np.mean, kept[:, s]) for s in each),
        tuple(_over(np.mean, followed[:, s]) for s in each),
    )


def require_suitable(found: Suitability, modes: bool) -> None:
    """Raise `DataError` for the first structure that cannot be learned like this, with the kind that can.

    ``modes`` says whether modes of shape are to describe it, or a network that has no such need.
    """
    for name, count, kept, followed in zip(found.names, found.pieces, found.kept, found.followed, strict=True):
        if modes and count > MANY:
            raise DataError(
                f"{name!r} has {count:.0f} pieces in a typical map: a population, and no shape to average",
                why=f"modes of shape mean something only where piece meets piece; more than {MANY} pieces do not",
                fix=ELSEWHERE,
            )
        if kept < KEPT:
            raise DataError(
                f"{name!r} is too thin for the working grid: a training map brought to it and back has a Dice of "
                f"{kept:.2f} with itself, {KEPT} is needed",
                why="what the grid does not hold is missing from every drawn map",
                fix=f"raise `resolution`, or {ELSEWHERE}",
            )
        if modes and followed < FOLLOWED:
            raise DataError(
                f"{name!r}: held-out training maps rebuilt from the modes of shape have a mean Dice of {followed:.2f}, "
                f"{FOLLOWED} is needed",
                why="the shape varies in more ways than these cases show; drawn maps would be blurs of them",
                fix=f"add training patients, or {ELSEWHERE}; or leave the label out and add it by the anatomy `lesion`",
            )


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Dice of two masks of which at least one is not empty."""
    return 2.0 * float((one & other).sum()) / max(float(one.sum() + other.sum()), 1.0)


def _followed(
    fields: np.ndarray,
    present: np.ndarray,
    patients: Sequence[str],
    variance: float,
    names: Sequence[str],
) -> np.ndarray:
    """Return the Dice of each map, rebuilt by a model of the other patients, shape ``(N, S)``; NaN if not known."""
    out = np.full(present.shape, np.nan)
    people = sorted(set(patients))
    folds = min(FOLDS, len(people))
    fold = np.array([people.index(p) % folds for p in patients])
    for k in range(folds):
        mine, others = fold == k, fold != k
        shown = present[others].sum(axis=0)
        if (shown < LEAST).any():
            continue
        model = ShapeModel.of(fields[others], present[others], np.zeros((others.sum(), 4)), names, variance)
        for n, again in zip(np.flatnonzero(mine), model.rebuilt(fields[mine]), strict=True):
            for s in np.flatnonzero(present[n]):
                out[n, s] = dice(fields[n, s] < 0, again[s] < 0)
    return out


def _over(middle: Callable[[np.ndarray], np.floating], values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(middle(known)) if len(known) else float("nan")


__all__ = ["Suitability", "dice", "require_suitable", "suitability_of"]
