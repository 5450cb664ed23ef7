"""What a condition on lesions comes to: intervals of sizes and shapes, and places, of which one clause has to hold."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

QUANTITIES = ("size", "count", "sphericity", "spiculation", "lobulation", "margin")


@dataclass(frozen=True)
class Interval:
    """Numbers from ``low`` to ``high``; an open end does not belong to it."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def meet(self, other: Interval) -> Interval:
        """Return what both have in common; it may be empty."""
        low = max((self.low, self.low_open), (other.low, other.low_open))
        high = min((self.high, not self.high_open), (other.high, not other.high_open))
        return Interval(low[0], high[0], low[1], not high[1])

    @property
    def empty(self) -> bool:
        """Whether no number lies in it."""
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))

    def holds(self, value: float) -> bool:
        """Whether a number lies in it."""
        return not self.meet(Interval(value, value)).empty


@dataclass(frozen=True)
class Place:
    """A set of places: the outer part of the host, the inside of a structure, or what is close to one.

    Parameters
    ----------
    relation
        ``"periphery"``, ``"in"`` or ``"near"``.
    structure
        Its name; empty for the periphery.
    mm
        Largest distance of what is near; ``None`` is the anatomy's own.
    wanted
        Whether a lesion has to lie there, or must not.
    """

    relation: Literal["periphery", "in", "near"]
    structure: str = ""
    mm: float | None = None
    wanted: bool = True


@dataclass(frozen=True)
class Clause:
    """Conditions that hold together: an interval for every quantity of `QUANTITIES`, and places."""

    bounds: tuple[Interval, ...] = (Interval(),) * len(QUANTITIES)
    places: tuple[Place, ...] = ()

    def bound(self, quantity: str) -> Interval:
        """Return the interval of a quantity."""
        return self.bounds[QUANTITIES.index(quantity)]

    def meet(self, other: Clause) -> Clause:
        """Return both at once."""
        bounds = tuple(a.meet(b) for a, b in zip(self.bounds, other.bounds, strict=True))
        return Clause(bounds, tuple(dict.fromkeys((*self.places, *other.places))))

    @property
    def empty(self) -> bool:
        """Whether nothing can satisfy it, whatever the map."""
        places = set(self.places)
        torn = any(replace(place, wanted=not place.wanted) in places for place in places)
        return torn or any(bound.empty for bound in self.bounds)


Clauses = tuple[Clause, ...]


def tidy(clauses: Iterable[Clause]) -> Clauses:
    """Return the clauses that something can satisfy, each once."""
    return tuple(dict.fromkeys(clause for clause in clauses if not clause.empty))


def both(a: Clauses, b: Clauses) -> Clauses:
    """Return what satisfies one of each."""
    return tidy(x.meet(y) for x in a for y in b)


__all__ = ["QUANTITIES", "Clause", "Clauses", "Interval", "Place", "both", "tidy"]
