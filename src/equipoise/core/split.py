"""Splits by patient, and the firewall that keeps held-out patients out of everything that is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from equipoise.core.case import Case
from equipoise.core.random import rng_for
from equipoise.errors import LeakageError, NotEnoughCasesError, PlanError


@dataclass(frozen=True, slots=True)
class Split:
    """Which patients train, validate and test.

    Parameters
    ----------
    train
        Patients that anything may be fitted on.
    validation
        Patients that stopping, weights, filters and advice may read.
    test
        The sealed inside test.
    external
        The sealed test at another site, where there is one.
    target_validation
        Patients of the external site that may serve as validation.
    """

    train: frozenset[str]
    validation: frozenset[str]
    test: frozenset[str]
    external: frozenset[str] = frozenset()
    target_validation: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for (one, a), (two, b) in combinations(self.parts().items(), 2):
            if a & b:
                raise LeakageError(
                    f"patient(s) {_some(a & b)} are in {one} and in {two}",
                    why="a model that has seen a test patient is scored on its memory",
                    fix="give every image of one person the same patient id; `equipoise check` finds them",
                )

    def parts(self) -> dict[str, frozenset[str]]:
        """Return the parts by name."""
        return {
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
            "external": self.external,
            "target_validation": self.target_validation,
        }

    @property
    def held_out(self) -> frozenset[str]:
        """Every patient that nothing may be fitted on."""
        return self.validation | self.test | self.external | self.target_validation

    def part_of(self, patient: str) -> str:
        """Return the part that a patient is in."""
        for name, patients in self.parts().items():
            if patient in patients:
                return name
        raise PlanError(f"patient {patient!r} is in no part of the split")

    def subset(self, n: int, seed: int, replicate: int) -> tuple[str, ...]:
        """Return ``n`` training patients, nested in ``n`` for one replicate and redrawn across replicates."""
        if n > len(self.train):
            raise NotEnoughCasesError(
                f"{n} training patients are asked for, {len(self.train)} are there",
                fix=f"ask for at most {len(self.train)} in `sizes`, or give validation and test fewer patients",
            )
        order = rng_for(seed, "subset", replicate).permutation(np.array(sorted(self.train), dtype=object))
        return tuple(order[:n].tolist())


def check_no_leak(
    cases: Iterable[Case], held_out: frozenset[str], paid: frozenset[str] | None = None, what: str = "the training set"
) -> None:
    """Raise `LeakageError` if a held-out patient is in ``cases``, in person or as a parent.

    Parameters
    ----------
    cases
        Cases that something is about to be fitted on.
    held_out
        Validation and test patients.
    paid
        The training patients whose annotation this arm pays for. A synthetic case learned from anybody else would
        make the arm look cheaper than it is.
    what
        What the cases are for, in the message.
    """
    for case in cases:
        seen = ({case.patient} | case.people) & held_out
        if seen:
            raise LeakageError(
                f"case {case.id!r} ({case.origin.kind}) brings held-out patient(s) {_some(seen)} into {what}",
                why="a score on patients that the training has seen is no evidence",
                fix="fit the engine, normaliser or filter again without them",
            )
        unpaid = case.people - paid if paid is not None and case.synthetic else frozenset()
        if unpaid:
            raise LeakageError(
                f"synthetic case {case.id!r} was learned from {_some(unpaid)}, whom this arm does not pay for",
                why="the arm would use their annotation without its price",
                fix="fit the engine on the arm's own patients",
            )


def split_patients(strata: Mapping[str, str], fractions: Mapping[str, float], seed: int) -> dict[str, frozenset[str]]:
    """Split patients at random into named parts, in proportion within each stratum.

    Parameters
    ----------
    strata
        Patient to stratum (site, size class …).
    fractions
        Part to its share; they sum to 1.
    seed
        Of the experiment.

    Returns
    -------
    dict
        Part to patients. Counts differ from the exact shares by less than one patient in total.
    """
    if not np.isclose(sum(fractions.values()), 1.0) or min(fractions.values()) < 0:
        raise PlanError(f"shares must be positive and sum to 1, got {dict(fractions)}")
    rng = rng_for(seed, "split")
    # One shuffled queue, stratum after stratum, dealt out by cumulative quota: in proportion in each and overall.
    queue: list[str] = []
    for stratum in sorted(set(strata.values())):
        members = np.array(sorted(p for p, s in strata.items() if s == stratum), dtype=object)
        queue.extend(rng.permutation(members).tolist())
    names = list(fractions)
    parts: dict[str, set[str]] = {name: set() for name in names}
    for position, patient in enumerate(queue, 1):
        owed = [fractions[name] * position - len(parts[name]) for name in names]
        parts[names[int(np.argmax(owed))]].add(patient)
    return {name: frozenset(patients) for name, patients in parts.items()}


def size_strata(cases: Sequence[Case], sizes: Mapping[str, float], classes: int = 3) -> dict[str, str]:
    """Return a stratum per patient: site and size class.

    Parameters
    ----------
    cases
        Labelled cases.
    sizes
        Case id to the amount of foreground (any unit).
    classes
        Number of quantile classes of the patients' mean size.
    """
    patients = sorted({c.patient for c in cases})
    site = {c.patient: c.site or "" for c in cases}
    mean = {p: float(np.mean([sizes[c.id] for c in cases if c.patient == p])) for p in patients}
    edges = np.quantile(list(mean.values()), np.linspace(0, 1, classes + 1)[1:-1])
    return {p: f"{site[p]}|{int(np.searchsorted(edges, mean[p]))}" for p in patients}


def _some(patients: Iterable[str]) -> str:
    names = sorted(patients)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
