"""Drawing what a condition allows: numbers within clauses, places, and the order in which lesions are laid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from equipoise.engines.anatomy.lesion.clauses import Clause, Interval
from equipoise.engines.anatomy.lesion.shape import Look
from equipoise.engines.anatomy.lesion.sites import Sites
from equipoise.errors import PlanError

DISTRIBUTIONS = ("log-uniform", "log-normal", "uniform")
SHAPES = ("sphericity", "spiculation", "lobulation", "margin")


@dataclass(frozen=True)
class Spread:
    """A distribution on a range.

    Parameters
    ----------
    low, high
        The range; a single number where both are equal.
    form
        One of `DISTRIBUTIONS`. ``"log-normal"`` has its median in the range's geometric middle and four standard
        deviations of the logarithm between its ends.
    """

    low: float
    high: float
    form: str = "uniform"

    def mass(self, allowed: Interval) -> float:
        """Return the probability of an interval."""
        kept = allowed.meet(Interval(self.low, self.high))
        if kept.empty:
            return 0.0
        return 1.0 if self.low == self.high else max(self._share(kept.high) - self._share(kept.low), 0.0)

    def draw(self, allowed: Interval, rng: np.random.Generator) -> float:
        """Draw a number within an interval that has some mass: by the inverse of the distribution, so at once."""
        kept = allowed.meet(Interval(self.low, self.high))
        if kept.low == kept.high:
            return kept.low
        a, b = self._share(kept.low), self._share(kept.high)
        value = float(np.clip(self._number(a + (b - a) * rng.random()), kept.low, kept.high))
        return value if kept.holds(value) else 0.5 * (kept.low + kept.high)

    def _share(self, x: float) -> float:
        if self.form == "uniform":
            return (x - self.low) / (self.high - self.low)
        t = math.log(x / self.low) / math.log(self.high / self.low)
        return t if self.form == "log-uniform" else float((ndtr(4 * t - 2) - ndtr(-2)) / (ndtr(2) - ndtr(-2)))

    def _number(self, share: float) -> float:
        if self.form == "uniform":
            return self.low + (self.high - self.low) * share
        t = share if self.form == "log-uniform" else float(ndtri(ndtr(-2) + share * (ndtr(2) - ndtr(-2))) + 2) / 4
        return float(self.low * (self.high / self.low) ** t)


@dataclass(frozen=True)
class Drawer:
    """Draws looks and places that satisfy one of some clauses.

    Parameters
    ----------
    clauses
        Of the condition.
    spreads
        Distribution of ``"size"`` and every one of `SHAPES`.
    count
        Smallest and largest number of lesions in a map.
    """

    clauses: tuple[Clause, ...]
    spreads: Mapping[str, Spread]
    count: tuple[int, int]

    def mass(self, clause: Clause) -> float:
        """Return the probability that a lesion's size and shape satisfy a clause."""
        return math.prod(spread.mass(clause.bound(name)) for name, spread in self.spreads.items())

    def require_possible(self, where: str) -> None:
        """Raise `PlanError` unless some clause can be satisfied within the ranges."""
        counts = range(self.count[0], self.count[1] + 1)
        possible = [c for c in self.clauses if any(c.bound("count").holds(n) for n in counts)]
        if any(self.mass(c) > 0 for c in possible):
            return
        clause = self.clauses[0]
        names = [name for name, spread in self.spreads.items() if spread.mass(clause.bound(name)) == 0]
        said = [f"{name} is drawn from {self.spreads[name].low:g} to {self.spreads[name].high:g}" for name in names]
        if not possible or not names:
            said.append(f"the number of lesions in a map from {self.count[0]} to {self.count[1]}")
        keys = [{"size": "diameter_mm"}.get(name, name) for name in names] or ["count"]
        raise PlanError(
            f"where = {where!r} is impossible: {', '.join(said)}",
            fix=f"widen {' or '.join(keys)}, or change the condition",
        )

    def draw_count(self, rng: np.random.Generator) -> int:
        """Draw how many lesions a map has: uniform over what some clause allows."""
        options = [
            n
            for n in range(self.count[0], self.count[1] + 1)
            if any(c.bound("count").holds(n) and self.mass(c) > 0 for c in self.clauses)
        ]
        return options[int(rng.integers(len(options)))]

    def options(self, count: int, sites: Sites) -> list[tuple[Clause, np.ndarray, float]]:
        """Return the clauses that a map of so many lesions can satisfy, with the candidates of each and its weight."""
        found = []
        for clause in self.clauses:
            mass = self.mass(clause) if clause.bound("count").holds(count) else 0.0
            chosen = sites.chosen(clause) if mass > 0 else np.zeros(0, bool)
            if chosen.any():
                found.append((clause, chosen, mass * float(chosen.mean())))
        return found

    def draw(
        self, options: Sequence[tuple[Clause, np.ndarray, float]], weights: np.ndarray, rng: np.random.Generator
    ) -> tuple[Look, np.ndarray]:
        """Draw a look, and return it with the weights of the places that go with it.

        Parameters
        ----------
        options
            See `options`.
        weights
            How likely each candidate is before any condition, ``(N,)``.
        """
        share = np.array([weight for *_, weight in options])
        clause, chosen, _ = options[int(rng.choice(len(options), p=share / share.sum()))]
        values = {name: spread.draw(clause.bound(name), rng) for name, spread in self.spreads.items()}
        return Look(**values), np.where(chosen, weights, 0.0)


def weighted_choice(weights: np.ndarray, rng: np.random.Generator) -> int | None:
    """Draw an index by weight; ``None`` if all are 0."""
    edges = np.cumsum(weights, dtype=np.float64)
    if not len(edges) or edges[-1] <= 0:
        return None
    return int(min(np.searchsorted(edges, rng.random() * edges[-1], side="right"), len(edges) - 1))


__all__ = ["DISTRIBUTIONS", "SHAPES", "Drawer", "Spread", "weighted_choice"]
