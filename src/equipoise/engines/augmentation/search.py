"""A policy searched on validation patients: a bandit over candidate policies with a fixed number of evaluations.

Half of the evaluations go to candidates drawn at random, by sequential halving: all are tried, the better half is tried
again, until one is left. The other half goes to candidates drawn around the best of them, to the first winner, and to
the augmentation that the arm would have had without a search, which may win as well.

The worth of a policy comes from outside, as a callable, since an engine knows neither learners nor validation patients.
Two meanings are useful. *Bandit*: a short training with the policy, scored on validation patients; each evaluation
costs steps. *Density matching* (`density_utility`): a model trained once without the policy is scored on changed
validation patches; evaluations cost nothing more, but mild policies are favoured, since the mildest change is none.

References
----------
Karnin Z, Koren T, Somekh O. Almost optimal exploration in multi-armed bandits. ICML 2013;28(3):1238-1246.

Rubinstein RY. The cross-entropy method for combinatorial and continuous optimization. Methodology and Computing in
Applied Probability 1999;1:127-190. doi:10.1023/A:1010091220143

Lim S, Kim I, Kim T, Kim C, Kim S. Fast AutoAugment. NeurIPS 2019;32:6665-6675.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from equipoise.core import Augment
from equipoise.core.registry import spec_of
from equipoise.engines.augmentation.operations import operations_for
from equipoise.engines.augmentation.policies import Searched
from equipoise.engines.augmentation.steps import Pair
from equipoise.errors import EngineError, PlanError

Utility = Callable[[Augment], float]
"""The worth of training with an augmentation, higher is better; NaN where it could not be trained."""

WEAKEST = 0.2
"""Least upper strength of an operation in a candidate: a policy that does nothing is not what is looked for."""

FEW = 0.5
"""Concentration of the first candidates' weights: below 1, so that each favours some operations."""

CLOSE = 40.0
"""Concentration of the second candidates' weights about the mean of the best."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate and what it was worth.

    Parameters
    ----------
    policy
        Its specification.
    generation
        0 for the augmentation without a search, 1 for candidates at random, 2 for those around the best.
    scores
        One per evaluation, in their order.
    """

    policy: dict[str, Any]
    generation: int
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean score; minus infinity if an evaluation failed or there was none."""
        return float(np.mean(self.scores)) if self.scores and all(map(math.isfinite, self.scores)) else -math.inf


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found, and all that it tried.

    Parameters
    ----------
    policy
        The best one, to train with. Its score is the best of many and therefore optimistic: it is no result.
    best
        Its position in ``tried``.
    tried
        In the order of their first evaluation.
    evaluations, steps
        What the search has spent.
    """

    policy: Augment
    best: int
    tried: tuple[Tried, ...]
    evaluations: int
    steps: int

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain values, to be kept with the training's facts."""
        tried = [{"policy": t.policy, "generation": t.generation, "scores": list(t.scores)} for t in self.tried]
        return {"best": self.best, "evaluations": self.evaluations, "steps": self.steps, "tried": tried}


@dataclass(slots=True)
class _Candidate:
    policy: Any
    generation: int
    scores: list[float] = field(default_factory=list)

    def frozen(self) -> Tried:
        return Tried(spec_of(self.policy), self.generation, tuple(self.scores))


@dataclass(slots=True)
class _Purse:
    """Pays for evaluations and never for more than there are."""

    utility: Utility
    left: int
    spent: int = 0

    def evaluate(self, candidate: _Candidate) -> None:
        self.left, self.spent = self.left - 1, self.spent + 1
        candidate.scores.append(float(self.utility(candidate.policy)))


def steps_each(wish: Searched, steps: int) -> int:
    """Return the optimiser steps of one evaluation, so that all of them stay within ``wish.share`` of ``steps``.

    Raises
    ------
    PlanError
        There is not one step for each.
    """
    each = int(wish.share * steps) // wish.evaluations
    if each < 1:
        enough = math.ceil(wish.evaluations / max(wish.share, 0.01))
        raise PlanError(
            f"{wish.evaluations} evaluations of a policy do not fit into {wish.share:.0%} of {steps} steps",
            why="the search is paid from the arm's own steps, so that every arm has the same budget",
            fix=f"raise training.steps to {enough} or more, or use 'trivial'",
        )
    return each


def search(
    wish: Searched, utility: Utility, rng: np.random.Generator, each: int = 0, reference: Augment | None = None
) -> Search:
    """Return the best policy found with ``wish.evaluations`` evaluations at most.

    Parameters
    ----------
    wish
        Operations, number per patch, axes and spacing of every candidate.
    utility
        See `Utility`; called once per evaluation, in an order that depends on ``rng`` and its answers only.
    rng
        Draws the candidates.
    each
        Optimiser steps that one call of ``utility`` spends, for the record; see `steps_each`.
    reference
        The augmentation without a search, such as `Classical`; it competes in the second half.

    Raises
    ------
    EngineError
        No evaluation gave a number.
    """
    names = operations_for(wish.modality, wish.operations)
    purse = _Purse(utility, wish.evaluations // 2)
    first = [_Candidate(p, 1) for p in _at_random(wish, names, max(2, purse.left // 2), rng)]
    winner = _halve(first, purse)
    purse.left = wish.evaluations - purse.spent
    second = [winner] if reference is None else [winner, _Candidate(reference, 0)]
    best = sorted((c for c in first if c.scores), key=_mean, reverse=True)[: max(2, len(first) // 4)]
    around = _around(wish, names, best, max(1, purse.left // 2 - len(second)), rng)
    second += [_Candidate(p, 2) for p in around]
    found = _halve(second, purse)
    tried = [c for c in (*first, *second[1:]) if c.scores]
    if not math.isfinite(_mean(found)):
        raise EngineError(
            f"none of the {purse.spent} evaluations of a policy gave a number",
            why="without one, no policy is better than another",
            fix="train once with augment = 'trivial': its error says what is wrong with the training",
        )
    best_of = next(n for n, c in enumerate(tried) if c is found)
    return Search(found.policy, best_of, tuple(c.frozen() for c in tried), purse.spent, purse.spent * each)


def density_utility(
    score: Callable[[np.ndarray, np.ndarray], float], patches: Sequence[Pair], rng: np.random.Generator
) -> Utility:
    """Return the worth of a policy as a finished model's mean score on changed validation patches.

    Parameters
    ----------
    score
        Of an image ``(C, I, J, K)`` against labels ``(L, I, J, K)``, higher is better.
    patches
        Of validation patients, normalised.
    rng
        Of the changes; every call draws new ones.
    """

    def worth(policy: Augment) -> float:
        streams = rng.spawn(len(patches))
        return float(np.mean([score(*policy(*pair, stream)) for pair, stream in zip(patches, streams, strict=True)]))

    return worth


def _mean(candidate: _Candidate) -> float:
    return candidate.frozen().mean


def _halve(candidates: list[_Candidate], purse: _Purse) -> _Candidate:
    """Return the winner of sequential halving; of equal ones the first. Earlier scores count."""
    alive, rounds = list(candidates), max(1, math.ceil(math.log2(len(candidates))))
    for r in range(rounds):
        if purse.left < len(alive):
            break
        pulls = max(1, purse.left // (len(alive) * (rounds - r)))
        for _ in range(pulls):
            for candidate in alive:
                purse.evaluate(candidate)
        alive = sorted(alive, key=_mean, reverse=True)[: -(-len(alive) // 2)]
    return alive[0]


def _at_random(wish: Searched, names: Sequence[str], n: int, rng: np.random.Generator) -> list[Searched]:
    """Return candidates: all operations alike at two strengths, then random ones."""
    even = [_policy(wish, names, np.ones(len(names)), np.full(len(names), s)) for s in (1.0, 0.5)]
    drawn = [
        _policy(wish, names, rng.dirichlet(np.full(len(names), FEW)), rng.uniform(WEAKEST, 1, len(names)))
        for _ in range(n - 2)
    ]
    return even[:n] + drawn


def _around(
    wish: Searched, names: Sequence[str], best: Sequence[_Candidate], n: int, rng: np.random.Generator
) -> list[Searched]:
    """Return candidates around the mean of the best."""
    weights = np.mean([np.array(c.policy.weights) for c in best], axis=0)
    strengths = np.mean([np.array(c.policy.strengths) for c in best], axis=0)
    return [
        _policy(
            wish,
            names,
            rng.dirichlet(CLOSE * weights / weights.sum() + 0.05),
            np.clip(strengths + 0.15 * rng.standard_normal(len(names)), WEAKEST, 1),
        )
        for _ in range(n)
    ]


def _policy(wish: Searched, names: Sequence[str], weights: np.ndarray, strengths: np.ndarray) -> Searched:
    # Four digits are written to a plan and are enough; sums need not be 1.
    shares = tuple(round(float(w), 4) for w in weights / weights.sum())
    return replace(
        wish, operations=tuple(names), weights=shares, strengths=tuple(round(float(s), 4) for s in strengths)
    )


__all__ = ["Search", "Tried", "Utility", "density_utility", "search", "steps_each"]
