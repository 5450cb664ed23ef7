"""Class labels for an engine to make images of, where the truth of a case is a class and not a map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from equipoise.core import Case, ClassLabel, Geometry
from equipoise.errors import LabelError, PlanError, did_you_mean

Wanted = Mapping[str, float] | tuple[str, ...] | None
"""Classes to make: names, or names with weights; ``None`` makes each as often as the training cases show it."""


@dataclass(frozen=True, eq=False)
class ClassLabels:
    """Draws classes, and the grids of their images: what an anatomy is to label maps.

    Parameters
    ----------
    classes
        All of the task, in order.
    shares
        How often each is drawn; they sum to 1.
    grids
        Of training images.
    members
        Numbers of the training images of each class, in order of the classes.
    """

    classes: tuple[str, ...]
    shares: tuple[float, ...]
    grids: tuple[Geometry, ...]
    members: tuple[tuple[int, ...], ...]
    parents: frozenset[str] = frozenset()

    @classmethod
    def of(cls, cases: Sequence[Case]) -> ClassLabels | None:
        """Return the classes of training cases with their frequencies; ``None`` if the cases have label maps."""
        truths = [case.truth for case in cases]
        labels = [truth for truth in truths if isinstance(truth, ClassLabel)]
        if not labels:
            return None
        names = labels[0].classes
        members = tuple(tuple(i for i, label in enumerate(labels) if label.name == name) for name in names)
        shares = tuple(len(of_class) / len(labels) for of_class in members)
        return cls(names, shares, tuple(case.image.geometry for case in cases), members)

    def without_patients(self, patch: tuple[int, int, int]) -> ClassLabels:
        """Return the classes equally often, on a grid of one patch: no patient's frequency, size or place."""
        grid = self.grids[0]
        plain = Geometry.from_spacing(patch, grid.spacing, unit=grid.unit)
        many = len(self.classes)
        return replace(self, shares=(1 / many,) * many, grids=(plain,), members=((0,),) * many)

    def wanted(self, kind: str, wanted: Wanted) -> ClassLabels:
        """Return the classes as often as a plan wants them; see `require_classes`."""
        weights = require_classes(kind, wanted, self.classes)
        if weights is None:
            return self
        total = sum(weights.values())
        return replace(self, shares=tuple(weights.get(name, 0.0) / total for name in self.classes))

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[ClassLabel]:
        """Yield ``n`` classes."""
        for _ in range(n):
            yield ClassLabel(self.classes[int(rng.choice(len(self.classes), p=self.shares))], self.classes)

    def like(self, label: ClassLabel, rng: np.random.Generator) -> tuple[int, Geometry]:
        """Return the number and the grid of a random training image of a class: what is made has its size and scale."""
        number = int(rng.choice(self.members[label.index]))
        return number, self.grids[number]


def require_classes(kind: str, wanted: Wanted, classes: Sequence[str]) -> dict[str, float] | None:
    """Return the weight of every wanted class, ``None`` if nothing is stated.

    Raises
    ------
    LabelError
        A class that does not exist, with the ones that do.
    PlanError
        Weights that cannot be, or classes wanted of an engine that learns from label maps.
    """
    if wanted is None:
        return None
    if not classes:
        raise PlanError(
            f"{kind}.classes = {list(wanted)} is stated, and the training cases have label maps, not classes",
            fix="leave `classes` out; which structures are drawn is the anatomy's to say",
        )
    weights = dict(wanted) if isinstance(wanted, Mapping) else dict.fromkeys(wanted, 1.0)
    for name, weight in weights.items():
        if name not in classes:
            raise LabelError(
                f"{kind}.classes names {name!r}, which the training cases do not have."
                f"{did_you_mean(name, classes)} The classes are {', '.join(map(repr, classes))}.",
                fix="name some of these, or leave `classes` out for all of them as often as they were seen",
            )
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < np.inf:
            raise PlanError(f"{kind}.classes gives {name!r} the weight {weight!r}; it must be 0 or more")
    if not sum(weights.values()) > 0:
        raise PlanError(
            f"{kind}.classes = {wanted!r} leaves no class to make", fix="name at least one, with a weight above 0"
        )
    return weights


__all__ = ["ClassLabels", "Wanted", "require_classes"]
