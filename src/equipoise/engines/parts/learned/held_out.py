"""What decides when a learned engine's training may stop: its images beside held-out real ones, not its loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.engines.parts.learned.examples import Batch, Examples
from equipoise.features.distances import kernel_distance, spread
from equipoise.features.encoder import Encoder

PATCHES = 48
"""Patches that a look compares."""

SLICES = 3
"""Of a patch of a volume, that the encoder sees."""

Render = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Makes images ``(B, C, I, J, K)`` in -1 … 1 under planes ``(B, M, I, J, K)``."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at what is made in the middle of a training.

    Parameters
    ----------
    step
        When.
    distance
        Kernel distance from held-out real patches, in the encoder's features scaled to the real ones' spread: around 0,
        images are as near to the held-out patients as patches of the training patients would be by chance.
    diversity
        Mean distance between made patches over that between real ones.
    """

    step: int
    distance: float
    diversity: float


@dataclass(frozen=True, eq=False)
class Judge:
    """Held-out real patches, and the features that they are compared in.

    Parameters
    ----------
    encoder
        Trained on the training images.
    batch
        Real patches of held-out training patients, with what they are conditioned on.
    mean, sd
        Of the real features.
    real
        Standardised features of the real patches.
    """

    encoder: Encoder
    batch: Batch
    mean: np.ndarray
    sd: np.ndarray
    real: np.ndarray

    @classmethod
    def of(cls, encoder: Encoder, examples: Examples, held_out: Sequence[int], rng: np.random.Generator) -> Judge:
        """Return the judge of a training that does not learn from the cases numbered ``held_out``."""
        batch = examples.draw(PATCHES, rng, held_out)
        features = encoder.embed(slices_of(batch.images))
        mean, sd = features.mean(0), np.maximum(features.std(0), 1e-6)
        return cls(encoder, batch, mean, sd, (features - mean) / sd)

    def look(self, step: int, render: Render, rng: np.random.Generator) -> tuple[Look, np.ndarray]:
        """Return how near and how varied the images under the held-out cases' labels are, and the images."""
        made = render(self.batch.planes, rng)
        if not np.isfinite(made).all():
            return Look(step, np.inf, 0.0), made
        features = (self.encoder.embed(slices_of(made)) - self.mean) / self.sd
        return Look(step, kernel_distance(self.real, features), spread(features) / max(spread(self.real), 1e-9)), made


def slices_of(images: np.ndarray) -> np.ndarray:
    """Return patches in -1 … 1 as the encoder reads them: 0 … 1, shape ``(N, C, I, J)``; some slices of each volume."""
    depth = images.shape[-1]
    chosen = np.unique(np.linspace(0, depth - 1, min(SLICES, depth) + 2)[1:-1].round().astype(int))
    flat = np.moveaxis(images[..., chosen], -1, 1).reshape(-1, *images.shape[1:4])
    return (flat.astype(np.float32) + 1) / 2


def hold_out(patients: Sequence[str], rng: np.random.Generator, share: float = 0.2) -> tuple[list[int], list[int]]:
    """Return the numbers of the cases to learn from and of those held out, by patient.

    With one patient nothing can be held out: both lists then name all cases, and distances are optimistic.
    """
    people = sorted(set(patients))
    if len(people) < 2:
        everyone = list(range(len(patients)))
        return everyone, everyone
    count = min(max(round(share * len(people)), 1), len(people) - 1)
    out = {people[i] for i in rng.choice(len(people), count, replace=False)}
    numbers: tuple[list[int], list[int]] = ([], [])
    for number, patient in enumerate(patients):
        numbers[patient in out].append(number)
    return numbers


__all__ = ["Judge", "Look", "hold_out", "slices_of"]
