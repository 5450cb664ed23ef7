"""The training images that lesions are painted into, and which of them a given label map fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.core import Case, LabelMap
from equipoise.errors import DataError, EngineError, LabelError, PlanError, did_you_mean


@dataclass(frozen=True, eq=False)
class Ground:
    """One training case.

    Parameters
    ----------
    number
        Among the training cases: its image has a scale of its own.
    case
        The case; lazy voxels stay lazy.
    healthy
        Whether it shows no lesion.
    """

    number: int
    case: Case
    healthy: bool


@dataclass(frozen=True, eq=False)
class Grounds:
    """All training cases.

    Parameters
    ----------
    every
        In the order in which the engine was fitted on them.
    names
        Of the labels that are lesions.
    open
        Those that drawn lesions may be set into.
    """

    every: tuple[Ground, ...]
    names: tuple[str, ...]
    open: tuple[Ground, ...]

    @classmethod
    def of(cls, cases: Sequence[Case], names: tuple[str, ...], into: str) -> Grounds:
        """Return training cases sorted by whether they show lesions.

        Parameters
        ----------
        cases
            With label maps of one scheme.
        names
            Labels that are lesions.
        into
            ``"healthy"``: lesions are set into cases that show none, and only if there is no such case into places of
            the others; ``"any"``: into all.

        Raises
        ------
        LabelError
            If no case shows any of the labels.
        """
        every = tuple(Ground(n, case, not lesions_in(case.labels, names).any()) for n, case in enumerate(cases))
        if all(ground.healthy for ground in every):
            raise LabelError(
                f"inpainting: none of {len(every)} training images shows {' or '.join(map(repr, names))}",
                why="how a lesion looks is learned from those of the training images",
                fix="add annotated cases that show it, or name other labels as lesions: labels = [...]",
            )
        healthy = tuple(ground for ground in every if ground.healthy)
        return cls(every, names, healthy if healthy and into == "healthy" else every)

    def named(self, case: str) -> Ground | None:
        """Return the training case of an id that lesions may be set into, or ``None``."""
        return next((ground for ground in self.open if ground.case.id == case), None)

    def under(self, labels: LabelMap, rng: np.random.Generator) -> Ground:
        """Return a training case that a given label map fits: it shows the same but for the map's lesions.

        Raises
        ------
        LabelError
            If the map's labels are others, or it shows no lesion.
        EngineError
            If it fits no training case.
        """
        scheme = self.every[0].case.labels.scheme
        if labels.scheme.names != scheme.names:
            raise LabelError(
                f"inpainting was fitted on the labels {scheme.names}, this map has {labels.scheme.names}",
                fix="fit it on cases with the labels that it is to render",
            )
        lesions = lesions_in(labels, self.names)
        if not lesions.any():
            raise LabelError(
                f"the given label map shows none of {', '.join(self.names)}: there is nothing to paint",
                fix="give maps that show a lesion, or use the real image as it is",
            )
        alike = [g for g in self.every if _same_grid(g.case.labels, labels)]
        fitting = [g for g in alike if self._differs_in_lesions(g.case.labels, labels, lesions)]
        fitting = [g for g in fitting if g.healthy] or fitting
        if not fitting:
            raise EngineError(
                f"the given label map fits none of {len(self.every)} training images: {len(self.every) - len(alike)} "
                f"have another grid, {len(alike)} show other structures than the map does beside its lesions",
                why="what is not painted stays as the real image shows it, so the map would name other tissue",
                fix="draw lesions into the label maps of the training images, or use `diffusion`, which makes whole "
                "images",
            )
        return fitting[int(rng.integers(len(fitting)))]

    def _differs_in_lesions(self, real: LabelMap, given: LabelMap, lesions: np.ndarray) -> bool:
        rest = [c for c, name in enumerate(real.scheme.names) if name not in self.names]
        same = (real.masks()[rest] == given.masks()[rest]).all(axis=0) | lesions
        return bool(same.all() and not (lesions_in(real, self.names) & ~lesions).any())


def lesions_in(labels: LabelMap, names: Sequence[str]) -> np.ndarray:
    """Return where any label of these names is, bool, shape ``(I, J, K)``."""
    channels = [labels.scheme.channel(name) for name in names]
    return np.asarray((labels.array[channels] > 0).any(axis=0))


def lesion_names(cases: Sequence[Case], stated: tuple[str, ...]) -> tuple[str, ...]:
    """Return which labels are lesions: as stated, or the only label that there is.

    Raises
    ------
    LabelError
        If a case has no label map, or the scheme has no label of a stated name.
    PlanError
        If none is stated and there are several.
    DataError
        If there is no case.
    """
    if not cases:
        raise DataError("inpainting was given no training image", fix="give annotated cases, some with lesions")
    for case in cases:
        if not isinstance(case.truth, LabelMap):
            raise LabelError(
                f"case {case.id!r} has {type(case.truth).__name__} as truth; lesions are painted under a label map",
                file=case.file,
                fix="leave it out, or annotate it; a healthy case has a label map that shows no lesion",
            )
    known = cases[0].labels.scheme.names
    if not stated and len(known) > 1:
        raise PlanError(
            f"inpainting must be told which of the labels {', '.join(known)} are lesions",
            fix=f'name them: labels = ["{known[-1]}"]',
        )
    for name in stated:
        if name not in known:
            raise LabelError(
                f"inpainting.labels: the training cases have no label {name!r}.{did_you_mean(name, known)}",
                fix=f"name some of {', '.join(known)}",
            )
    return stated or known


def _same_grid(a: LabelMap, b: LabelMap) -> bool:
    """Whether two maps have one shape, spacing, direction and unit; where they lie in the world does not matter."""
    one, other = a.geometry, b.geometry
    close = np.allclose(one.affine[:3, :3], other.affine[:3, :3], rtol=0, atol=0.05 * min(one.spacing))
    return one.shape == other.shape and one.unit == other.unit and bool(close)


__all__ = ["Ground", "Grounds", "lesion_names", "lesions_in"]
