"""What decides when a learned engine's training may stop: its images beside held-out real ones, not its loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from equipoise.engines.parts.learned.examples import Batch, Examples
from equipoise.features.distances import kernel_distance, spread
from equipoise.features.encoder import Encoder

PATCHES = 48
"""Patches that a look compares."""

FEWEST = 12
"""Voxels under a label from which its mean and standard deviation are taken."""

SEEN = 0.02
"""Least spread of them that counts, in -1 … 1: a surround that is always the same black would outweigh all else."""

FAR = 4.0
"""Standard deviations at which a feature is as wrong as it can be: the cubic kernel must not hang on one of them."""

TOGETHER = 8
"""Of them that are rendered at a time: of large volumes, all at once would need more memory than a step does."""

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
        Kernel distance from held-out real patches, in the encoder's features and in what each label looks like, scaled
        to the real ones' spread: around 0, images are as near to the held-out patients as patches of the training
        patients would be by chance.
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
        Of the real features, over held-out and training patients: one patient alone would be like itself to a hair, and
        every other unlike it.
    real
        Standardised features of the real patches, see `features_of`.
    """

    encoder: Encoder
    batch: Batch
    mean: np.ndarray
    sd: np.ndarray
    real: np.ndarray

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        examples: Examples,
        held_out: Sequence[int],
        among: Sequence[int],
        rng: np.random.Generator,
    ) -> Judge:
        """Return the judge of a training that learns from the cases numbered ``among``, not from those ``held_out``."""
        batch, others = (examples.draw(PATCHES, rng, numbers) for numbers in (held_out, among))
        real, more = (features_of(encoder, b.images, b.planes) for b in (batch, others))
        features = np.concatenate([real, more])
        seen = np.isfinite(features)
        count = np.maximum(seen.sum(0), 1)
        mean = np.where(seen, features, 0).sum(0) / count
        sd = np.sqrt(np.where(seen, np.square(features - mean), 0).sum(0) / count)
        sd = np.maximum(sd, np.where(np.arange(len(sd)) < encoder.width, 1e-6, SEEN))
        unscaled = cls(encoder, batch, mean, sd, np.empty(0))
        return replace(unscaled, real=unscaled._standardised(real))

    def look(self, step: int, render: Render, rng: np.random.Generator) -> tuple[Look, np.ndarray]:
        """Return how near and how varied the images under the held-out cases' labels are, and the images."""
        planes = self.batch.planes
        made = np.concatenate([render(planes[i : i + TOGETHER], rng) for i in range(0, len(planes), TOGETHER)])
        if not np.isfinite(made).all():
            return Look(step, np.inf, 0.0), made
        features = self._standardised(features_of(self.encoder, made, self.batch.planes))
        return Look(step, kernel_distance(self.real, features), spread(features) / max(spread(self.real), 1e-9)), made

    def _standardised(self, features: np.ndarray) -> np.ndarray:
        """Return features scaled to the real ones' spread; the encoder's and the labels' count for one half each."""
        scaled: np.ndarray = np.clip(np.nan_to_num((features - self.mean) / self.sd), -FAR, FAR)
        labels = features.shape[1] - self.encoder.width
        scaled[:, self.encoder.width :] *= np.sqrt(self.encoder.width / labels)
        return scaled


def features_of(encoder: Encoder, images: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Return what patches look like as a whole, and what is seen under each of their labels.

    The second half notices images that are good pictures of something else: the encoder does not know the labels.

    Parameters
    ----------
    encoder
        Of slices; those of one volume are averaged.
    images, planes
        As in `Batch`.

    Returns
    -------
    numpy.ndarray
        Shape ``(B, width + 2 * C * (M + 1))``: mean and standard deviation of each channel under each plane and under
        none; NaN where a plane marks fewer than `FEWEST` voxels.
    """
    whole = encoder.embed(slices_of(images))
    whole = whole.reshape(len(images), -1, encoder.width).mean(1)
    under = np.stack([_under(*both) for both in zip(images, planes, strict=True)])
    return np.concatenate([whole, under], 1)


def _under(image: np.ndarray, planes: np.ndarray) -> np.ndarray:
    marked = planes > 0.5
    masks = [*marked, ~marked.any(0)]
    seen = [image[:, m] if m.sum() >= FEWEST else np.full((len(image), 1), np.nan) for m in masks]
    return np.concatenate([np.concatenate([x.mean(1), x.std(1)]) for x in seen])


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


__all__ = ["Judge", "Look", "features_of", "hold_out", "slices_of"]
