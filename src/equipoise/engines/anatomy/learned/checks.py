"""Which drawn maps are kept: topology and sizes as the training maps have them, and no copy of any of these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from equipoise.core import LabelMap
from equipoise.engines.anatomy.learned.measuring import Measures, measured

ENOUGH = 8
"""Training maps that must agree on a fact, such as which labels touch, before it is asked of drawn ones."""

COUNTABLE = 6
"""Pieces up to which their number must be one that the training maps have; beyond, it is an amount like a size."""

LEAST_SD = {"size": 0.05, "extent": 0.05, "place": 0.02, "share": 0.02, "border": 0.02, "number": 0.1}
"""Smallest robust standard deviation taken for granted: logarithms, shares of the field of view, shares."""

COPY = 0.99
"""Dice with a training map from which a drawn map is a copy of it."""

THUMBNAIL = {2: 96, 3: 32}
"""Voxels along each axis of the field of view on which maps are compared."""


@dataclass(frozen=True, eq=False)
class Rules:
    """What drawn maps must keep to, derived from the training maps.

    Parameters
    ----------
    ranges
        Least and most of every amount: those of the training maps, widened by so many robust standard deviations.
    counts
        Least and most of every count that is small: exactly those of the training maps.
    facts
        What is so in all training maps, or in none.
    """

    ranges: dict[str, tuple[float, float]]
    counts: dict[str, tuple[int, int]]
    facts: dict[str, bool]

    @classmethod
    def of(cls, maps: Sequence[LabelMap], tolerance: float) -> Rules:
        """Return the rules of training maps; ``tolerance`` is the number of robust standard deviations."""
        found = [_with_numbers(measured(labels)) for labels in maps]
        ranges = {}
        for name in _names(m.amounts for m in found):
            values = np.array([m.amounts[name] for m in found if name in m.amounts])
            robust = 1.4826 * float(np.median(np.abs(values - np.median(values))))
            wide = tolerance * max(robust, LEAST_SD[name.split()[0]])
            ranges[name] = (float(values.min()) - wide, float(values.max()) + wide)
        counts = {}
        for name in _names(m.counts for m in found):
            seen = [m.counts[name] for m in found if name in m.counts]
            if max(seen) <= COUNTABLE:
                counts[name] = (min(seen), max(seen))
                del ranges[f"number of {name}"]
        facts = {}
        for name in _names(m.facts for m in found):
            so = [m.facts[name] for m in found if name in m.facts]
            if len(so) >= ENOUGH and len(set(so)) == 1:
                facts[name] = so[0]
        return cls(ranges, counts, facts)

    def broken(self, labels: LabelMap) -> tuple[str, ...]:
        """Return what a map breaks, in words; nothing if it may be kept."""
        found = _with_numbers(measured(labels))
        wrong = []
        for name, (low, high) in self.ranges.items():
            value = found.amounts.get(name)
            if value is not None and not low <= value <= high:
                wrong.append(f"{name} is too {'small' if value < low else 'large'}")
        for name, (least, most) in self.counts.items():
            count = found.counts.get(name)
            if count is not None and not least <= count <= most:
                wrong.append(f"too {'few' if count < least else 'many'} {name}")
        wrong += [
            f"{name}, as no training map has it" if found.facts[name] else f"not {name}, as every training map has it"
            for name, so in self.facts.items()
            if found.facts.get(name, so) != so
        ]
        return tuple(wrong)


@dataclass(frozen=True, eq=False)
class Known:
    """The training maps, small, to find out whether a drawn map is a copy of one.

    Parameters
    ----------
    names
        The cases.
    small
        Each on a common grid over its field of view, bool, shape ``(N, V)``.
    """

    names: tuple[str, ...]
    small: np.ndarray

    @classmethod
    def of(cls, names: Sequence[str], maps: Sequence[LabelMap]) -> Known:
        """Return the training maps, by the ids of their cases."""
        return cls(tuple(names), np.stack([_thumbnail(labels) for labels in maps]))

    def nearest(self, labels: LabelMap) -> tuple[str, float]:
        """Return the training case whose map a map is nearest to, and the Dice of all labels together.

        Both maps are laid over one another by their fields of view; two empty maps have a Dice of 0, for nobody's
        anatomy is in them.
        """
        mine = _thumbnail(labels)
        shared = (self.small & mine).sum(axis=1)
        total = self.small.sum(axis=1) + mine.sum()
        dice = 2 * shared / np.maximum(total, 1)
        at = int(dice.argmax())
        return self.names[at], float(dice[at])


@dataclass(eq=False)
class Tally:
    """How many maps were drawn and redrawn since the anatomy was fitted.

    Parameters
    ----------
    kept, rejected
        Maps that were handed out, and that were drawn again.
    reasons
        How often each rule was broken; a map may break several.
    """

    kept: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """Rejected maps among all that were drawn; 0 before the first."""
        return self.rejected / max(self.kept + self.rejected, 1)

    def most_frequent(self, count: int = 3) -> str:
        """Return the rules that were broken most often, for messages."""
        return "; ".join(f"{name} ({times} x)" for name, times in self.reasons.most_common(count))


def _thumbnail(labels: LabelMap) -> np.ndarray:
    masks, ndim = labels.masks(), labels.geometry.ndim
    side = THUMBNAIL[ndim]
    axes = [np.minimum((np.arange(side) + 0.5) / side * n, n - 1).astype(int) for n in labels.geometry.shape[:ndim]]
    axes += [np.zeros(1, int)] * (3 - ndim)
    small: np.ndarray = masks[np.ix_(np.arange(len(masks)), *axes)].ravel()
    return small


def _with_numbers(found: Measures) -> Measures:
    """Return measures with every count as an amount as well: counts that are large are held in a range."""
    numbers = {f"number of {name}": float(np.log1p(count)) for name, count in found.counts.items()}
    return Measures(found.amounts | numbers, found.counts, found.facts)


def _names(dicts: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for found in dicts for name in found))


__all__ = ["COPY", "Known", "Rules", "Tally"]
