"""One step of a private training: patients drawn by lot, each one's gradient held short, and noise on their sum.

Two things are unlike every other training here. Lots and noise come from the operating system and are never written
down: whoever could draw them again from a seed in a plan could take the noise away. A private fit therefore cannot be
repeated. And nothing is kept but weights, all of which the accountant has counted: no loss, no look, no grid, no best
checkpoint, no hash of an image. Not covered are how long a step takes, and attacks on the rounding of floating-point
noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from equipoise.core import Case
from equipoise.engines.parts.learned.examples import Examples
from equipoise.engines.parts.learned.intensity import Intensity
from equipoise.engines.parts.learned.presets import Size
from equipoise.engines.parts.learned.privacy import Privacy, Spending, patients_in_order, require_public_range


@dataclass(frozen=True, eq=False)
class Private:
    """A private way to take steps.

    Parameters
    ----------
    spending
        How many patients, how much noise.
    secret
        Of lots, patches and noise; from the operating system unless a test needs to know it.
    """

    spending: Spending
    secret: np.random.Generator = field(default_factory=np.random.default_rng, repr=False)

    def step(
        self, trainee: Any, examples: Examples, among: Sequence[int], foreground: float, step: int = 1
    ) -> dict[str, float]:
        """Take one step; no loss is returned, since it would be told of private images without noise.

        Parameters
        ----------
        trainee
            Of one network; its ``gradient(batch, generator)`` adds a gradient to what the weights have.
        examples, among, foreground
            Where patches come from.
        step
            Its number: a trainee may have another learning rate at each.
        """
        if hasattr(trainee, "pace"):
            trainee.pace(step)
        (optimiser,) = trainee.optimisers.values()
        weights = [w for network in trainee.networks.values() for w in network.parameters() if w.requires_grad]
        privacy = self.spending.privacy
        cases = patients_in_order([examples.patients[i] for i in among])
        drawn = [name for name in cases if self.secret.random() < self.spending.rate]

        def gradient_of(name: str) -> Callable[[], object]:
            own = [among[i] for i in cases[name]]
            batch = examples.draw(privacy.patches, self.secret, own, foreground)
            return lambda: trainee.gradient(batch, self._torch())

        total = clipped_sum(weights, map(gradient_of, drawn), privacy.clip)
        add_noise(total, self.spending.noise * privacy.clip, self._torch())
        # By the expected number, not by how many the lot drew: that would tell it.
        expected = self.spending.rate * self.spending.patients
        for weight, value in zip(weights, total, strict=True):
            weight.grad = (value / expected).to(weight.dtype)
        optimiser.step()
        return {}

    def _torch(self) -> torch.Generator:
        return torch.Generator().manual_seed(int(self.secret.integers(2**63)))


def private_for(engine: Any, cases: Sequence[Case], size: Size) -> Private | None:
    """Return how an engine's plan protects patients, ``None`` if it does not; see `Privacy`."""
    privacy = Privacy.of(engine.kind, getattr(engine, "privacy", None))
    if privacy is None:
        return None
    return Private(privacy.spending(engine.kind, len({c.patient for c in cases}), size.batch, size.steps))


def private_intensity(engine: Any, private: Private, cases: Sequence[Case]) -> Intensity:
    """Return the scale of images whose own brightness must not be told."""
    eight_bit = all(case.image.array.dtype == np.uint8 for case in cases)
    return Intensity.within(cases, *require_public_range(engine.kind, private.spending.privacy, eight_bit))


def clipped_sum(
    weights: Sequence[nn.Parameter], patients: Iterable[Callable[[], object]], clip: float
) -> list[torch.Tensor]:
    """Return the sum of the patients' gradients, each of length ``clip`` at most.

    Parameters
    ----------
    weights
        All that is trained.
    patients
        Each call adds one patient's mean gradient to the weights' gradients.
    clip
        A gradient that is not a number counts as none, so that no patient can do more than this.
    """
    total = [torch.zeros_like(w, dtype=torch.float32) for w in weights]
    for add_gradient in patients:
        for weight in weights:
            weight.grad = None
        add_gradient()
        found = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        length = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g.double()) for g in found]))
        if torch.isfinite(length):
            share = min(1.0, clip / (length.item() + 1e-12))
            for one, gradient in zip(total, found, strict=True):
                one.add_(gradient, alpha=share)
    return total


def add_noise(total: Sequence[torch.Tensor], sd: float, generator: torch.Generator) -> None:
    """Add normal noise to every component in place."""
    for value in total:
        value.add_(torch.randn(value.shape, generator=generator).to(value.device), alpha=sd)


__all__ = ["Private", "add_noise", "clipped_sum", "private_for", "private_intensity"]
