"""Policies: which operations happen to a patch, and how strongly.

All three draw from the operations that the modality has (see `operations`). Mirroring is no operation but comes first,
as it does in both papers, along the axes that the plan allows and nowhere else.

References
----------
Müller SG, Hutter F. TrivialAugment: tuning-free yet state-of-the-art data augmentation. ICCV 2021:754-762.
doi:10.1109/ICCV48922.2021.00081

Cubuk ED, Zoph B, Shlens J, Le QV. RandAugment: practical automated data augmentation with a reduced search space.
NeurIPS 2020;33:18613-18624.

Lim S, Kim I, Kim T, Kim C, Kim S. Fast AutoAugment. NeurIPS 2019;32:6665-6675.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from equipoise.core.registry import require_types
from equipoise.engines.augmentation.operations import draw_step, operations_for, possible
from equipoise.engines.augmentation.steps import Mirror, Pair, Step, apply
from equipoise.errors import DataError, PlanError

Steps = tuple[Step | None, ...]


@dataclass(frozen=True)
class Trivial:
    """TrivialAugment: one operation at random, or none, at a random strength. Nothing to tune.

    Parameters
    ----------
    modality
        ``"ct"``, ``"mri"``, ``"xray"``, ``"ultrasound"``, ``"histology"``, ``"fundus"``, or ``"any"`` for what all
        of them share.
    operations
        Names to choose from; empty is all of the modality.
    strength
        Strengths are uniform between 0 and this, at most 1.
    flip
        Axes (0, 1, 2 for I, J, K) that may be mirrored, each in half of the patches. A heart has a side: none by
        default.
    spacing
        Voxel size along I, J, K in mm; ones mean voxels.

    Raises
    ------
    PlanError
        An unknown modality or operation, an operation that the modality does not have, or a value out of its range.
    """

    kind: ClassVar[str] = "trivial"

    modality: str = "any"
    operations: tuple[str, ...] = ()
    strength: float = 1.0
    flip: tuple[int, ...] = ()
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        _check(self)
        _in_range(self.kind, "strength", self.strength)

    def __call__(self, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Pair:
        """Return a changed copy of one patch, ``(C, I, J, K)`` and ``(L, I, J, K)``; `DataError` on two grids."""
        return changed(self.draw(image.shape, rng), image, labels)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Steps:
        """Return what happens to a patch of shape ``(C, I, J, K)``."""
        mirror = _mirror(self.flip, shape, rng)
        names = possible(operations_for(self.modality, self.operations), shape)
        chosen, strength = int(rng.integers(len(names) + 1)), float(rng.uniform(0, self.strength))
        if chosen == len(names):
            return mirror, None
        return mirror, draw_step(names[chosen], shape, strength, self.spacing, rng)


@dataclass(frozen=True)
class Rand:
    """RandAugment: ``count`` operations at random, one after the other, all at one strength.

    Parameters
    ----------
    count
        Operations per patch (N in the paper), 1 or more.
    strength
        Of each, from 0 to 1 (M in the paper, in tenths).
    modality, operations, flip, spacing
        As in `Trivial`.

    Raises
    ------
    PlanError
        As in `Trivial`.
    """

    kind: ClassVar[str] = "rand"

    count: int = 2
    strength: float = 0.5
    modality: str = "any"
    operations: tuple[str, ...] = ()
    flip: tuple[int, ...] = ()
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        _check(self)
        _in_range(self.kind, "strength", self.strength)
        _at_least_one(self.kind, "count", self.count)

    def __call__(self, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Pair:
        """Return a changed copy of one patch, ``(C, I, J, K)`` and ``(L, I, J, K)``; `DataError` on two grids."""
        return changed(self.draw(image.shape, rng), image, labels)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Steps:
        """Return what happens to a patch of shape ``(C, I, J, K)``."""
        mirror = _mirror(self.flip, shape, rng)
        names = possible(operations_for(self.modality, self.operations), shape)
        chosen = [names[n] for n in rng.integers(len(names), size=self.count)] if names else []
        return mirror, *(draw_step(name, shape, self.strength, self.spacing, rng) for name in chosen)


@dataclass(frozen=True)
class Searched:
    """A policy whose weights and strengths were searched on validation patients.

    Written with ``weights`` empty it is a wish: `search.search` fills them within a part of the arm's own steps. Read
    back from a finished experiment they are numbers, so that the policy can be used again.

    Parameters
    ----------
    operations
        Names; empty is all of the modality.
    weights
        How often each operation is chosen, 0 or more, not all 0; they need not sum to 1. Empty is "not searched yet".
    strengths
        Largest strength of each operation, from 0 to 1; drawn uniformly below it.
    count
        Operations per patch.
    share
        Largest part of the arm's optimiser steps that the search may spend, from 0 to below 1.
    evaluations
        Short trainings that this part is divided into, 8 or more.
    modality, flip, spacing
        As in `Trivial`.

    Raises
    ------
    PlanError
        As in `Trivial`; lists of different lengths.
    """

    kind: ClassVar[str] = "searched"

    operations: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    strengths: tuple[float, ...] = ()
    count: int = 2
    share: float = 0.3
    evaluations: int = 24
    modality: str = "any"
    flip: tuple[int, ...] = ()
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        _check(self)
        _at_least_one(self.kind, "count", self.count)
        if self.evaluations < 8:
            raise PlanError(
                f"searched.evaluations must be 8 or more, got {self.evaluations}",
                why="with fewer there is nothing to choose between",
                fix="evaluations = 24, or use 'trivial', which needs no search",
            )
        if not 0 <= self.share < 1:
            raise PlanError(
                f"searched.share must be from 0 to below 1, got {self.share!r}",
                why="what the search spends is taken from the arm's own steps",
                fix="share = 0.3 searches with 30 % of them",
            )
        if not self.weights and not self.strengths:
            return
        names = operations_for(self.modality, self.operations)
        if len(self.weights) != len(names) or len(self.strengths) != len(names):
            raise PlanError(
                f"searched has {len(names)} operations {len(self.weights)} weights, {len(self.strengths)} strengths",
                fix="give one weight and one strength per operation, or neither to have them searched",
            )
        if not all(math.isfinite(w) and w >= 0 for w in self.weights) or sum(self.weights) <= 0:
            raise PlanError("searched.weights must be 0 or more and not all 0, else no operation can be chosen")
        for strength in self.strengths:
            _in_range(self.kind, "strengths", strength)

    @property
    def found(self) -> bool:
        """Whether it has weights, so that it can be used."""
        return bool(self.weights)

    def __call__(self, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Pair:
        """Return a changed copy of one patch, ``(C, I, J, K)`` and ``(L, I, J, K)``; `DataError` on two grids."""
        return changed(self.draw(image.shape, rng), image, labels)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Steps:
        """Return what happens to a patch of shape ``(C, I, J, K)``; `PlanError` if nothing has been searched yet."""
        if not self.found:
            raise PlanError(
                "the policy 'searched' has no weights yet",
                why="they are searched on validation patients before the training starts",
                fix="use it as training.augment of an experiment, which searches it, or use 'trivial'",
            )
        mirror = _mirror(self.flip, shape, rng)
        there = operations_for(self.modality, self.operations)
        able = set(possible(there, shape))
        known = [x for x in zip(there, self.weights, self.strengths, strict=True) if x[0] in able]
        total = sum(w for _, w, _ in known)
        if total <= 0:
            return mirror, *([None] * self.count)
        drawn = rng.choice(len(known), size=self.count, p=[w / total for _, w, _ in known])
        chosen = [(known[n][0], float(rng.uniform(0, known[n][2]))) for n in drawn]
        return mirror, *(draw_step(name, shape, strength, self.spacing, rng) for name, strength in chosen)


def changed(steps: Sequence[Step | None], image: np.ndarray, labels: np.ndarray) -> Pair:
    """Return a copy of a patch after ``steps``; `DataError` unless image and labels lie on one grid."""
    if image.ndim != 4 or labels.ndim != 4 or image.shape[1:] != labels.shape[1:]:
        raise DataError(
            f"image {image.shape} and labels {labels.shape} must be (C, I, J, K) and (L, I, J, K) on one grid",
            fix="cut both with the same indices",
        )
    return apply(steps, np.array(image, np.float32, order="C"), np.array(labels, order="C"))


def _mirror(flip: Sequence[int], shape: tuple[int, ...], rng: np.random.Generator) -> Step | None:
    axes = tuple(axis for axis in flip if shape[axis + 1] > 1 and rng.random() < 0.5)
    return Mirror(axes) if axes else None


def _check(policy: Trivial | Rand | Searched) -> None:
    """Raise `PlanError` unless what the policies share is right."""
    require_types(policy)
    operations_for(policy.modality, policy.operations)
    if not set(policy.flip) <= {0, 1, 2}:
        raise PlanError(
            f"{policy.kind}.flip names axes 0, 1, 2 (I, J, K), got {list(policy.flip)}", fix="flip = [0, 1]"
        )
    if not all(math.isfinite(s) and s > 0 for s in policy.spacing):
        raise PlanError(f"{policy.kind}.spacing needs three voxel sizes above 0, got {list(policy.spacing)}")


def _in_range(kind: str, name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise PlanError(f"{kind}.{name} must be from 0 to 1, got {value!r}", fix=f"set {name} = 0.5")


def _at_least_one(kind: str, name: str, value: int) -> None:
    if value < 1:
        raise PlanError(f"{kind}.{name} must be 1 or more, got {value!r}", fix=f"set {name} = 2")


__all__ = ["Rand", "Searched", "Trivial", "changed"]
