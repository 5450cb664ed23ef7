"""What one training is about: the guarded cases, the values in effect, the network, the normaliser."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from equipoise.core.case import Case, patients_of
from equipoise.core.contracts import Predictor
from equipoise.core.labels import LabelScheme
from equipoise.core.mix import TrainingSet
from equipoise.core.split import check_no_leak
from equipoise.errors import LeakageError, NotEnoughCasesError, PlanError, TrainingError
from equipoise.learners.extent import typical_extent
from equipoise.learners.network import Architecture
from equipoise.learners.normalise import Normaliser
from equipoise.learners.patches import PreparedCases
from equipoise.learners.recipe import Recipe, grid_for, with_room
from equipoise.learners.trained_unet import TrainedUNet

STREAM_SAMPLE = 8
"""Cases drawn from a stream to learn sizes and a normaliser from, where there are no other cases."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What one training is about.

    Parameters
    ----------
    recipe
        The values in effect; ``patch`` is the one that is cut.
    architecture
        Of the network.
    scheme
        Of the labels.
    cases
        Prepares and remembers the cases.
    parents
        Every patient that the model will have learned from.
    """

    recipe: Recipe
    architecture: Architecture
    scheme: LabelScheme
    cases: PreparedCases
    parents: frozenset[str]

    @property
    def patch(self) -> tuple[int, ...]:
        """The patch as ``(I, J, K)``."""
        return (*self.recipe.patch, 1)[:3]

    @property
    def normaliser(self) -> Normaliser:
        """Of the images."""
        return self.cases.normaliser


def require_fair(
    training: TrainingSet, validation: Sequence[Case], steps: int, select: bool, start: Predictor | None
) -> None:
    """Raise unless the training may be run: no held-out patient in it, and something to select on if it selects.

    Raises
    ------
    LeakageError
        A validation case is a sealed or a training patient, or ``start`` has seen a patient that it may not.
    PlanError
        ``steps`` below 1, or ``select`` without validation cases.
    """
    if steps < 1:
        raise PlanError(f"steps must be at least 1, got {steps}", fix="set `steps` in the plan")
    if select and not validation:
        raise PlanError(
            "the best checkpoint is asked for, and there is no validation case to choose it on",
            fix="give validation patients in the plan, or keep the last checkpoint: select = false",
        )
    split = training.split
    check_no_leak(validation, split.test | split.external, what="the validation set")
    seen = training.parents | (start.parents if start else frozenset())
    both = patients_of(validation) & seen
    if both:
        raise LeakageError(
            f"validation patient(s) {', '.join(sorted(both)[:5])} are trained on",
            why="the checkpoint would be chosen on what the model remembers",
            fix="validate on patients that are in no training set of the arm",
        )
    if start is not None:
        _require_clean(start.parents, training)


def _require_clean(parents: frozenset[str], training: TrainingSet) -> None:
    held_out, unpaid = parents & training.split.held_out, parents - training.allowed
    if held_out or unpaid:
        names = ", ".join(sorted(held_out or unpaid)[:5])
        raise LeakageError(
            f"the model to continue from was trained on {'held-out' if held_out else 'other'} patient(s) {names}",
            why="a score on patients that the training has seen is no evidence"
            if held_out
            else "the arm would use their annotation without its price",
            fix="train the first model on the arm's own patients, or on synthetic cases that come from them",
        )


def task_of(
    recipe_for: Callable[[int], Recipe],
    training: TrainingSet,
    start: TrainedUNet | None,
    stated: Mapping[str, Any],
    rng: np.random.Generator,
) -> Task:
    """Return the task of a training set.

    What the plan leaves open of patch, fold and batch follows from the cases that are drawn: their sizes and the
    extent of what is labelled in them. Their patients are parents of the model anyway.

    Parameters
    ----------
    recipe_for
        Number of axes to the values in effect.
    training
        The guarded cases.
    start
        The model to continue from: its network, patch and normaliser are kept.
    stated
        The values that the plan states; ``channels`` among them must be those of ``start``.
    rng
        For the sample of a stream.
    """
    known = _known_cases(training, rng)
    first = known[0]
    ndim = first.image.geometry.ndim
    recipe = recipe_for(ndim)
    if start is not None:
        _require_same_network(start, first, stated.get("channels"))
        kept = start.recipe
        recipe = replace(recipe, patch=kept.patch, fold=kept.fold, channels=kept.channels, norm=kept.norm)
        recipe = recipe if "batch" in stated else replace(recipe, batch=kept.batch)
        architecture, normaliser = start.architecture, start.normaliser
        recipe = replace(recipe, normalise=normaliser.mode, learning_rate=recipe.learning_rate * recipe.finetune)
    else:
        shapes = [case.image.geometry.shape[:ndim] for case in known]
        recipe = _fitting(recipe, known, shapes, stated)
        grid = grid_for(recipe.patch, shapes, recipe.fold, len(recipe.channels))
        recipe = replace(recipe, patch=grid.patch)
        architecture = Architecture(
            ndim,
            first.image.channels,
            len(first.labels.scheme.labels),
            recipe.channels[: len(grid.strides)],
            grid.strides,
            grid.fold,
            recipe.norm,
        )
        normaliser = _normaliser(recipe, training, known)
    parents = training.parents | normaliser.parents | (start.parents if start else frozenset())
    cases = PreparedCases(normaliser, first.labels.scheme, first.image.channels, ndim)
    return Task(recipe, architecture, first.labels.scheme, cases, parents)


def _known_cases(training: TrainingSet, rng: np.random.Generator) -> tuple[Case, ...]:
    """Return the cases that the mix draws: real ones if it does, frozen ones, else a sample of the stream."""
    real = training.real if training.mix.real > 0 else ()
    if real or training.synthetic:
        return (*real, *(training.synthetic if training.mix.synthetic > 0 else ()))
    sample = tuple(draw.case for draw in itertools.islice(training.draws(rng), STREAM_SAMPLE))
    if not sample:
        raise NotEnoughCasesError("there is no case to train on")
    return sample


def _fitting(
    recipe: Recipe, known: Sequence[Case], shapes: Sequence[tuple[int, ...]], stated: Mapping[str, Any]
) -> Recipe:
    """Return the recipe with patch, fold and batch for these cases.

    Real cases decide where any are drawn, so that all arms with real cases of the same patients have one recipe.
    """
    longest = [max(lengths) for lengths in zip(*shapes, strict=True)]
    if "patch" in stated or all(n <= m for n, m in zip(longest, recipe.patch, strict=True)):
        return recipe
    measured = [case for case in known if not case.synthetic] or known
    return with_room(recipe, typical_extent(measured, len(recipe.patch)), shapes, stated)


def _normaliser(recipe: Recipe, training: TrainingSet, known: Sequence[Case]) -> Normaliser:
    if recipe.normalise == "window" and recipe.window is not None:
        return Normaliser.of_window(*recipe.window)
    if recipe.normalise == "fitted":
        # Real intensities decide where there are any: an engine that is off must not move them.
        real = [case for case in known if not case.synthetic]
        return Normaliser.fit(real or known, training.split, training.allowed)
    return Normaliser()


def _require_same_network(start: TrainedUNet, first: Case, channels: tuple[int, ...] | None) -> None:
    made = start.architecture
    got = (first.image.geometry.ndim, first.image.channels, first.labels.scheme)
    need = (made.ndim, made.channels_in, start.scheme)
    if got != need or (channels is not None and tuple(channels) != start.recipe.channels):
        raise TrainingError(
            f"the model to continue from reads {need[1]} channel(s) in {need[0]}-D, predicts {need[2].names} with "
            f"widths {start.recipe.channels}; the cases have {got[1]} in {got[0]}-D, labels {got[2].names}, "
            f"and the plan says widths {channels}",
            fix="continue with cases of the same kind and the same `channels`, or start without a model",
        )
