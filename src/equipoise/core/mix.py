"""What an arm trains on: a mix of real and synthetic cases, and the guarded set that is built from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from equipoise.core.case import Case
from equipoise.core.split import Split, check_no_leak
from equipoise.errors import NotEnoughCasesError, PlanError

Stream = Callable[[np.random.Generator], Iterator[Case]]
"""Endless fresh synthetic cases from a random stream."""


@dataclass(frozen=True, slots=True)
class Mix:
    """How real and synthetic cases are put together, per real case paid for.

    Parameters
    ----------
    real
        Times that each real case is counted: 0 for synthetic only, 2 for real duplicated to the count of a 1:1 mix.
    synthetic
        Synthetic cases per real case: 0.25 for a 0.25:1 mix (synthetic : real).
    weight
        Loss weight of a synthetic case; a real one weighs 1.
    """

    real: float = 1.0
    synthetic: float = 0.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if min(self.real, self.synthetic, self.weight) < 0 or self.real + self.synthetic <= 0:
            raise PlanError(f"a mix needs some cases and no negative number, got {self}")
        if self.synthetic > 0 and self.weight == 0:
            raise PlanError("synthetic cases of weight 0 would fill the batches with nothing: use synthetic = 0")

    @property
    def per_real(self) -> float:
        """Cases in the training set per real case paid for."""
        return self.real + self.synthetic

    def counts(self, n: int) -> tuple[int, int]:
        """Return how many real entries and synthetic cases ``n`` real cases make."""
        return max(round(self.real * n), int(self.real > 0)), max(round(self.synthetic * n), int(self.synthetic > 0))


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train that the experiment compares.

    Parameters
    ----------
    name
        As the report calls it.
    mix
        What it trains on.
    schedule
        ``"joint"``, or ``"pretrain"`` (synthetic first, then real), or ``"self-training"`` (labels of a first model on
        unlabelled real images).
    engine
        Name of the engine in the plan that makes its synthetic cases.
    control
        Whether it is one of the controls that cannot be switched off.
    """

    name: str
    mix: Mix
    schedule: Literal["joint", "pretrain", "self-training"] = "joint"
    engine: str | None = None
    control: bool = False

    def __post_init__(self) -> None:
        if self.mix.synthetic > 0 and not self.engine and self.schedule != "self-training":
            raise PlanError(f"arm {self.name!r} mixes synthetic cases in, but names no engine")


@dataclass(frozen=True, slots=True)
class Draw:
    """One case drawn for one place in a batch, with its loss weight."""

    case: Case
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSet:
    """Cases to train on that are proven to hold no held-out patient.

    Parameters
    ----------
    real
        The annotated real cases that the arm pays for (or paid their synthetic cases' parents with).
    synthetic
        Frozen synthetic cases; empty if there is a ``stream``.
    mix
        Their proportions.
    split
        The split that they must respect; breaking it raises `LeakageError`.
    stream
        Fresh synthetic cases instead of frozen ones.
    extra_parents
        Further training patients that synthetic cases may come from without being paid for: the unlabelled ones of
        self-training.
    """

    real: tuple[Case, ...]
    synthetic: tuple[Case, ...]
    mix: Mix
    split: Split
    stream: Stream | None = None
    extra_parents: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        check_no_leak((*self.real, *self.synthetic), self.split.held_out, self.allowed)
        impostors = [c.id for c in self.real if c.synthetic]
        if impostors:
            raise PlanError(f"synthetic case(s) {impostors[:5]} stand among the real ones")
        if not all(c.synthetic for c in self.synthetic):
            raise PlanError("a real case stands among the synthetic ones; it would be counted and paid for wrongly")
        if self.mix.real > 0 and not self.real:
            raise NotEnoughCasesError("the mix asks for real cases and there is none")
        if self.mix.synthetic > 0 and not self.synthetic and self.stream is None:
            raise NotEnoughCasesError("the mix asks for synthetic cases and there is none")

    @property
    def allowed(self) -> frozenset[str]:
        """The patients that synthetic cases may come from."""
        return frozenset(c.patient for c in self.real) | self.extra_parents

    @property
    def parents(self) -> frozenset[str]:
        """Every patient that a model trained on this has seen."""
        used = frozenset(c.patient for c in self.real) if self.mix.real > 0 else frozenset()
        stream = self.allowed if self.stream else frozenset()
        return used | stream | frozenset().union(*(c.people for c in self.synthetic))

    @property
    def synthetic_share(self) -> float:
        """Sampling weight of the synthetic cases: their share of the draws."""
        real, synthetic = self.mix.counts(len(self.real))
        return synthetic / (real + synthetic)

    def draws(self, rng: np.random.Generator) -> Iterator[Draw]:
        """Yield cases for ever, each epoch in a new order, every case once per epoch (duplicates: as often as counted).

        A case of the stream is checked against the firewall when it is drawn.
        """
        n_real, n_synthetic = self.mix.counts(len(self.real))
        fresh = self._checked(self.stream(rng.spawn(1)[0])) if self.stream else None
        while True:
            real = _dealt(self.real, n_real, rng)
            frozen = () if fresh else _dealt(self.synthetic, n_synthetic, rng)
            for index in rng.permutation(n_real + n_synthetic):
                if index < n_real:
                    yield Draw(real[index], 1.0)
                else:
                    yield Draw(next(fresh) if fresh else frozen[index - n_real], self.mix.weight)

    def _checked(self, cases: Iterator[Case]) -> Iterator[Case]:
        for case in cases:
            check_no_leak((case,), self.split.held_out, self.allowed)
            if not case.synthetic:
                raise PlanError(f"the stream yields case {case.id!r} as real; an engine makes synthetic cases")
            yield case


def _dealt(cases: Sequence[Case], count: int, rng: np.random.Generator) -> list[Case]:
    """Return ``count`` cases, each as often as any other up to one; who is dealt once more is drawn."""
    if not count:
        return []
    rounds = [rng.permutation(len(cases)) for _ in range(-(-count // len(cases)))]
    return [cases[i] for i in np.concatenate(rounds)[:count]]
