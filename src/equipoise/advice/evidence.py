"""What validation says about real and synthetic cases: joint draws of every score that advice is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.core import rng_for
from equipoise.experiment.arms import PlannedArm
from equipoise.experiment.contrasts import RESAMPLES, Scores
from equipoise.experiment.findings import Estimate
from equipoise.stats import ExchangeRate, PowerLaw, crossed_draws, exchange_rate, fit_power_law, null_law

CLAIM = 5
"""Replicates below which an estimate speaks of these fits only."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Scores on validation patients, as joint draws of shape ``(B, …)``.

    Parameters
    ----------
    where
        Place of the validation patients.
    sizes
        Real cases of each real-only arm, rising; the last number counts as the cases at hand.
    real
        Scores of the real-only arms, shape ``(B, len(sizes))``.
    mixes, mixed
        The mixes at the largest size at which any was trained, and their scores, shape ``(B, len(mixes))``.
    law
        Curve of real-only training.
    null
        The sentence on the law in which synthetic cases do nothing.
    patients, replicates
        How many there were.
    """

    where: str
    sizes: list[int]
    real: np.ndarray
    mixes: list[PlannedArm]
    mixed: np.ndarray
    law: PowerLaw
    null: str
    patients: int
    replicates: int

    @property
    def at_hand(self) -> int:
        """Real cases that there are."""
        return self.sizes[-1]

    @property
    def mixed_at(self) -> int:
        """Real cases of the mixes."""
        return self.mixes[0].n

    @property
    def conditional(self) -> bool:
        """Whether there are too few replicates to speak beyond these fits."""
        return self.replicates < CLAIM

    @property
    def gains(self) -> np.ndarray:
        """Gain of each mix over ``real`` at the same number of real cases, shape ``(B, len(mixes))``."""
        return np.asarray(self.mixed - self.real[:, [self.sizes.index(self.mixed_at)]])

    def best_mix(self) -> int | None:
        """Return the mix with the highest lower bound, if that lies above 0: only then is it worth money."""
        low = np.quantile(self.gains, 0.025, axis=0)
        best = int(np.argmax(low))
        return best if low[best] > 0 else None

    def rate(self, mix: int) -> ExchangeRate:
        """Return how many real cases the synthetic ones of a mix are worth."""
        return exchange_rate(self.law, self.mixed_at, self.count(mix), self.gains[:, mix])

    def count(self, mix: int) -> float:
        """Return the synthetic cases of a mix."""
        return (self.mixes[mix].ratio or 0.0) * self.mixed_at

    def estimate(self, draws: np.ndarray) -> Estimate:
        """Return the mean of draws with its 95 % interval."""
        low, high = np.quantile(draws, [0.025, 0.975])
        mean = float(draws.mean())
        return Estimate(mean, float(low), float(high), patients=self.patients, conditional=self.conditional)


def gather(scores: Scores, sizes: Sequence[int]) -> Evidence | str:
    """Return the evidence of the plan's first budget, or a sentence that says why there is none."""
    finished = scores.finished
    plan = finished.prepared.plan
    where = "target validation" if "target validation" in scores.places() else "validation"
    run = [arm for arm in finished.prepared.arms if arm.budget == plan.arms.budgets[0] and (arm, 0) in finished.trained]
    real = sorted((a for a in run if a.family == "real"), key=lambda a: a.n)
    # An engine of known gap checks the instrument; it is not for sale, unless nothing else was tried.
    sold = {name for name, engine in plan.engines.items() if not engine.known_gap} or set(plan.engines)
    every = [a for a in run if a.family == "mix" and a.arm.engine in sold]
    full = max((a.n for a in every), default=0)
    if not full:
        return "No mix was trained, so nothing can be said about synthetic cases."
    mixes = [a for a in every if a.n == full]
    cube = [scores.matrix(arm, where, plan.metric.primary)[0] for arm in (*real, *mixes)]
    shared = np.isfinite(np.stack(cube)).all(axis=(0, 1)) if len({c.shape for c in cube}) == 1 else np.zeros(1, bool)
    if shared.sum() < 3:
        return f"Fewer than three {where} patients have the metric in every arm; annotate more of them."
    values = np.stack(cube)[:, :, shared]
    drawn = crossed_draws(values, rng_for(plan.seed, "advice", where), RESAMPLES).draws
    alone, mixed = drawn[:, : len(real)], drawn[:, len(real) :]
    counts = [a.n for a in real]
    law = fit_power_law(counts, alone, upper=1.0)
    null = null_law(counts, alone, [a.n for a in mixes], mixed, upper=1.0)
    return Evidence(where, counts, alone, mixes, mixed, law, null.message, values.shape[2], values.shape[1])
