"""What an engine, an anatomy and a learner must offer. Contract tests for them are in `equipoise.testing`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from equipoise.core.case import Case
from equipoise.core.geometry import Geometry
from equipoise.core.image import Image
from equipoise.core.labels import LabelMap
from equipoise.core.mix import TrainingSet

Augment = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""Changes one patch: image ``(C, I, J, K)`` float32 and labels ``(L, I, J, K)`` uint8 to a pair of the same shapes."""


class Engine(Protocol):
    """Makes synthetic annotated cases, after learning from real ones if it learns.

    A kind is a frozen dataclass; its fields are its parameters.
    """

    kind: ClassVar[str]

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Engine:
        """Return an engine that has learned from training cases; it carries their patients as parents."""

    def sample(self, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None = None) -> Iterator[Case]:
        """Yield ``n`` synthetic cases, rendered under the given label maps (in turn) or under the engine's own."""


class Anatomy(Protocol):
    """Draws label maps for an engine to render."""

    kind: ClassVar[str]

    @property
    def parents(self) -> frozenset[str]:
        """The patients that it has learned from."""

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Anatomy:
        """Return an anatomy that has learned from training cases."""

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        """Yield ``n`` label maps."""


@dataclass(frozen=True, slots=True)
class FitRecord:
    """How a training went.

    Parameters
    ----------
    steps
        Optimiser steps taken.
    draws, synthetic_draws
        Cases drawn into batches, and how many of them were synthetic.
    distinct_synthetic
        Different synthetic cases among them.
    seconds
        Wall-clock time; 0 in a model that was read from its file.
    curve
        ``(step, training loss, validation score or NaN)``.
    best_step
        The step whose weights were kept.
    prevalence
        Share of each label among the voxels trained on, weighted as the loss weighs them, in channel order; empty where
        the learner does not count them.
    """

    steps: int
    draws: int
    synthetic_draws: int
    distinct_synthetic: int
    seconds: float
    curve: tuple[tuple[int, float, float], ...] = ()
    best_step: int = 0
    prevalence: tuple[float, ...] = ()


class Predictor(Protocol):
    """A trained model."""

    parents: frozenset[str]
    record: FitRecord

    def probability(self, image: Image) -> np.ndarray:
        """Return the probability of each label, float32, shape ``(L, I, J, K)``, on the image's own grid."""

    def decide(self, probability: np.ndarray, geometry: Geometry) -> LabelMap:
        """Return the label map that `probability` of an image on this grid amounts to: the model's rule of decision.

        Who needs both the probabilities and the label map calls `probability` once, and then this.
        """

    def predict(self, image: Image) -> LabelMap:
        """Return the predicted label map on the image's own grid: ``decide(probability(image), image.geometry)``."""

    def to_bytes(self) -> bytes:
        """Return the model as safetensors with its description; never a pickle."""


class Learner(Protocol):
    """Trains a predictor. A kind is a frozen dataclass; its fields are its parameters."""

    kind: ClassVar[str]

    def fit(
        self,
        training: TrainingSet,
        validation: Sequence[Case],
        steps: int,
        rng: np.random.Generator,
        augment: Augment | None = None,
        start: Predictor | None = None,
        select: bool = False,
    ) -> Predictor:
        """Return a predictor trained for ``steps`` steps.

        Parameters
        ----------
        training
            The guarded cases; what is drawn comes from `TrainingSet.draws`.
        validation
            Cases that may choose the checkpoint, never the weights.
        steps
            Optimiser steps, whatever the size of the set.
        rng
            Initialisation, order, patches and augmentation.
        augment
            Applied to every training patch.
        start
            Continue from this model instead of a random initialisation.
        select
            Keep the checkpoint that scores best on ``validation``, else the last one.
        """

    def load(self, data: bytes) -> Predictor:
        """Return the model that `Predictor.to_bytes` wrote."""


__all__ = ["Anatomy", "Augment", "Engine", "FitRecord", "Learner", "Predictor"]
