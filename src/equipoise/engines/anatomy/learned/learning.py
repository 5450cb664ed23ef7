"""What `learned` holds once it is fitted, how that is learned, and how one map is drawn from it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from equipoise.core import Case, Geometry, LabelMap, patients_of
from equipoise.core.registry import canonical, spec_of
from equipoise.engines.anatomy.learned.aligned import Aligned, Named, pose_on
from equipoise.engines.anatomy.learned.checks import COPY, Known, Rules, Tally
from equipoise.engines.anatomy.learned.frame import Frame
from equipoise.engines.anatomy.learned.measuring import without_specks
from equipoise.engines.anatomy.learned.shape_model import LEAST, ShapeModel
from equipoise.engines.anatomy.learned.structures import Structures, require_learnable
from equipoise.engines.anatomy.learned.suitability import require_suitable
from equipoise.engines.parts.training_maps import TrainingMaps
from equipoise.errors import EngineError

MANY_CASES = 100
"""Cases from which a network may learn more than principal components do."""

STEPS = {2: 1500, 3: 800}
"""Optimiser steps of the diffusion: minutes on one core."""

CROPS = 400
"""Crops that a diffusion over patches learns from, of all cases together and at the least."""

PILOT = 16
"""Maps that are drawn before a fit is called done: better an error then than in the middle of a trial."""


@dataclass(frozen=True, eq=False)
class Learned:
    """A fitted generative model of label maps.

    Parameters
    ----------
    model
        Draws fields and a pose: a `ShapeModel` or a `FieldDiffusion`.
    structures, frame
        What is drawn, and on which working grid.
    grids, sizes
        Grids of the training maps, and the size of what each shows by `aligned.yardstick` (NaN: nothing).
    rules, known, tally
        What drawn maps keep to, the training maps, and what was redrawn.
    parents
        The patients.
    about
        How it was fitted, in words and numbers.
    """

    model: Any
    structures: Structures
    frame: Frame
    grids: tuple[Geometry, ...]
    sizes: np.ndarray
    rules: Rules
    known: Known
    tally: Tally
    parents: frozenset[str]
    about: dict[str, str | float]

    def draw(self, rng: np.random.Generator, reach: float, attempts: int, tally: Tally) -> LabelMap:
        """Return one map that keeps to the rules.

        Parameters
        ----------
        rng
            Its own stream.
        reach
            Standard deviations that shape and pose may be away from their mean.
        attempts
            Maps that are drawn at most.
        tally
            Told of every map.

        Raises
        ------
        EngineError
            None of them keeps to the rules.
        """
        here = Tally()
        for _ in range(attempts):
            labels = self._one(rng, reach)
            wrong = self.rules.broken(labels)
            if not wrong and self.known.nearest(labels)[1] >= COPY:
                wrong = ("copy of a training map",)
            for count in (here, tally):
                count.reasons.update(wrong)
                count.rejected += bool(wrong)
                count.kept += not wrong
            if not wrong:
                return labels
        raise EngineError(
            f"anatomy 'learned' drew {attempts} maps and none is like the training maps: {here.most_frequent()}",
            why="a map with another topology or size teaches a structure that patients do not have",
            fix=f"lower `spread` (now {reach:g} standard deviations), raise `tolerance`, train on more patients, or "
            "use the anatomy `warped`",
        )

    def _one(self, rng: np.random.Generator, reach: float) -> LabelMap:
        present = self.structures.present[int(rng.integers(len(self.structures.present)))]
        scheme = self.structures.scheme
        if not present.any():  # as often as the training maps are empty
            grid = self.grids[int(rng.integers(len(self.grids)))]
            return LabelMap.on(grid, np.zeros((len(scheme.labels), *grid.shape), np.uint8), scheme)
        fields, row = self.model.draw(rng, present, reach)
        grid = self._grid(float(np.exp(row[3])), rng)
        distances = self.frame.draw(fields, pose_on(row, grid), grid)
        array = self.structures.array(distances, present, self.frame.gap)
        return LabelMap.on(grid, without_specks(array), scheme)

    def _grid(self, size: float, rng: np.random.Generator) -> Geometry:
        """Return the grid of a training map that shows something of about this size, else it might be cut."""
        shown = np.flatnonzero(np.isfinite(self.sizes))
        near = shown[np.argsort(np.abs(np.log(self.sizes[shown] / size)), kind="stable")]
        return self.grids[int(near[int(rng.integers(max(round(len(near) ** 0.5), 1)))])]


def learn(kind: Any, cases: Sequence[Case], rng: np.random.Generator) -> Learned:
    """Return the model of the label maps of training cases, for an anatomy with its parameters.

    Raises
    ------
    DataError, LabelError, GeometryMismatchError
        The maps cannot be learned from, or not by this model.
    EngineError
        The training failed, or what was learned draws no maps that are like the training maps.
    """
    require_learnable(cases, LEAST)
    cropping, training, piloting = rng.spawn(3)
    model, aligned = _chosen(kind, cases, cropping)
    require_suitable(aligned.suits, model == "pca")
    names = aligned.suits.names
    if model == "pca":
        fitted: Any = ShapeModel.of(aligned.fields, aligned.present, aligned.rows, names, kind.variance)
    else:
        fitted = _network(kind, aligned, training, len(cases))
    learned = Learned(
        fitted,
        aligned.structures,
        aligned.frame,
        tuple(Geometry(m.geometry.shape, m.geometry.affine, None, m.geometry.unit) for m in aligned.maps),
        aligned.sizes,
        Rules.of(aligned.maps, kind.tolerance),
        Known.of(aligned.ids, aligned.maps),
        Tally(),
        patients_of(cases),
        _about(model, len(cases), aligned, fitted),
    )
    tried = Tally()
    for stream in piloting.spawn(PILOT):
        learned.draw(stream, kind.spread, kind.attempts, tried)
    return replace(learned, about=learned.about | {"rejected in a pilot": round(tried.share, 3)})


def _chosen(kind: Any, cases: Sequence[Case], cropping: np.random.Generator) -> tuple[str, Aligned]:
    """Return the model in effect and the maps aligned for it.

    Where it is open, many cases take a network only if the modes of shape do not follow their held-out maps: what they
    do follow, they draw more smoothly, and in a hundredth of the time.
    """
    whole = [(case.id, case.patient, case.labels) for case in cases]
    if kind.model != "diffusion":
        aligned = Aligned.of(kind, "pca", whole)
        if kind.model == "pca" or len(cases) < MANY_CASES or aligned.suits.modes_suffice:
            return "pca", aligned
    crops = _crops(cases, kind.patch, kind.foreground, cropping) if kind.patch else whole
    return "diffusion", Aligned.of(kind, "diffusion", crops)


def _network(kind: Any, aligned: Aligned, rng: np.random.Generator, cases: int) -> Any:
    """Return a trained diffusion, with a warning where a shape model would know as much."""
    # Here, not above: `equipoise engines` must list this kind without importing torch.
    from equipoise.engines.anatomy.learned.field_diffusion import FieldDiffusion

    if cases < MANY_CASES and not kind.patch:
        warnings.warn(
            f"anatomy 'learned' trains a diffusion on {cases} label maps; with fewer than {MANY_CASES} it tends to "
            'repeat them: compare with model = "pca", and look at `nearest`',
            stacklevel=4,
        )
    seed = int(rng.integers(2**62))
    options = replace(kind, steps=kind.steps or STEPS[aligned.maps[0].geometry.ndim])
    return FieldDiffusion.of(
        aligned.fields,
        aligned.present,
        aligned.rows,
        aligned.patients,
        options,
        aligned.frame.step,
        seed,
        f"{canonical(spec_of(kind))}|{seed}",
    )


def _crops(cases: Sequence[Case], patch: int, foreground: float, rng: np.random.Generator) -> list[Named]:
    """Return windows on the cases' maps, as many of each case, with the case's id and patient."""
    each = max(-(-CROPS // len(cases)), 1)
    crops = []
    for case, stream in zip(cases, rng.spawn(len(cases)), strict=True):
        maps = TrainingMaps.of([case], stream)
        crops += [(case.id, case.patient, maps.draw(patch, foreground, stream).placed()[0]) for _ in range(each)]
    return crops


def _about(model: str, cases: int, aligned: Aligned, fitted: Any) -> dict[str, str | float]:
    about: dict[str, str | float] = {
        "model": model,
        "cases": cases,
        "working grid": " x ".join(str(n) for n in aligned.frame.shape if n > 1),
    }
    if isinstance(fitted, ShapeModel):
        about["modes"] = fitted.modes
        about["variance kept"] = round(min(float(b.explained[: len(b.sd)].sum()) for b in fitted.blocks), 4)
    else:
        about["steps"] = fitted.record.best_step
        about["stopped"] = fitted.record.stopped
    found = aligned.suits
    for name, kept, followed in zip(found.names, found.kept, found.followed, strict=True):
        about[f"Dice of {name!r} through the working grid"] = round(kept, 4)
        if np.isfinite(followed):
            about[f"Dice of {name!r} held out and rebuilt"] = round(followed, 4)
    return about


__all__ = ["Learned", "learn"]
