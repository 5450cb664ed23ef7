"""The search of an arm's augmentation on validation patients, paid from the arm's own steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from equipoise.core import Augment, Case, Learner, TrainingSet
from equipoise.core.registry import make
from equipoise.engines.augmentation.policies import Searched
from equipoise.engines.augmentation.search import Search, search, steps_each
from equipoise.errors import EquipoiseError, TrainingError
from equipoise.experiment.plan import Plan
from equipoise.experiment.scoring import score_cases

REFERENCE = "classical"
"""The augmentation that a search competes with, and that stands in where nothing can be searched."""


def augmentation_of(plan: Plan) -> Augment:
    """Return the plan's augmentation; where it must be searched first, the one that the search competes with."""
    stated = make("augmentations", plan.training.augment)
    return cast(Augment, make("augmentations", REFERENCE) if _to_be_searched(stated) else stated)


def evaluations_of(plan: Plan) -> int:
    """Return how often a search of an arm's augmentation scores the validation patients; 0 without a search."""
    stated = make("augmentations", plan.training.augment)
    return cast(Searched, stated).evaluations if _to_be_searched(stated) else 0


def searched(
    plan: Plan,
    learner: Learner,
    training: TrainingSet,
    validation: Sequence[Case],
    steps: int,
    rng: np.random.Generator,
) -> Search | None:
    """Return the search of an arm's augmentation, ``None`` if the plan states one that is ready.

    Parameters
    ----------
    plan
        Its ``training.augment`` says what is searched.
    learner, training
        What is trained for a short while with each policy.
    validation
        Cases that each short training is scored on, with the plan's primary metric.
    steps
        Of the arm; the search takes its share of them.
    rng
        Draws policies and trainings.

    Raises
    ------
    PlanError
        There are too few steps, see `steps_each`.
    TrainingError
        There is no validation patient.
    EngineError
        No short training could be scored.
    """
    wish = make("augmentations", plan.training.augment)
    if not _to_be_searched(wish):
        return None
    if not validation:
        raise TrainingError(
            "a policy cannot be searched without validation patients",
            why="it would be chosen on the very patients that it is trained on, where no augmentation is best",
            fix="raise split.validation, or set training.augment = { kind = 'trivial' }",
        )
    each = steps_each(wish, steps)
    drawing, training_rng = rng.spawn(2)

    def utility(policy: Augment) -> float:
        try:
            model = learner.fit(training, (), each, training_rng.spawn(1)[0], policy)
        except EquipoiseError:
            raise
        except Exception:  # anybody's learner: a policy that breaks it is worth nothing, and the search goes on
            return float("nan")
        rows = score_cases(model, validation, plan.metric)
        values = [row[plan.metric.primary] for row in rows if np.isfinite(row[plan.metric.primary])]
        return float(np.mean(values)) if values else float("nan")

    return search(wish, utility, drawing, each, cast(Augment, make("augmentations", REFERENCE)))


def shortened(courses: Sequence[tuple[TrainingSet, int]], spent: int) -> list[tuple[TrainingSet, int]]:
    """Return courses with ``spent`` steps fewer in all, each shorter by the same share."""
    total = sum(steps for _, steps in courses)
    left = total - spent
    short = [steps * left // total for _, steps in courses]
    short[-1] += left - sum(short)
    return [(training, steps) for (training, _), steps in zip(courses, short, strict=True)]


def _to_be_searched(augment: object) -> bool:
    return isinstance(augment, Searched) and not augment.found


__all__ = ["augmentation_of", "evaluations_of", "searched", "shortened"]
