"""An experiment that is read, checked and split, before anything is trained."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from equipoise.core import Arm, Mix, Split
from equipoise.core.registry import canonical
from equipoise.errors import LeakageError
from equipoise.experiment.arms import PlannedArm, main_ratio, planned_arms
from equipoise.experiment.data import (
    Entry,
    Source,
    check_inventory,
    content_of,
    duplicates_across,
    listed,
    make_split,
    take_inventory,
    test_set_hash,
)
from equipoise.experiment.plan import Plan
from equipoise.experiment.tasks import Context, Progress


@dataclass(frozen=True, slots=True)
class Prepared:
    """An experiment that is checked and split, before anything is trained; ``seconds`` is what that took."""

    context: Context
    entries: list[Entry]
    arms: list[PlannedArm]
    duplicates: list[tuple[str, str, int]]
    test_set: str
    seconds: float = 0.0

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self.context.plan

    @property
    def split(self) -> Split:
        """Who trains, validates and tests."""
        return self.context.split

    def subset(self, n: int, replicate: int) -> tuple[str, ...]:
        """Return the patients of one size and replicate."""
        return self.split.subset(n, self.plan.seed, replicate)

    def unlabelled(self, patients: Sequence[str]) -> tuple[str, ...]:
        """Return the training patients whose images self-training may use without their annotation.

        These are patients who have no annotation at all, and those of the pool whom this arm does not pay for: their
        images are there, their annotation is withheld.
        """
        without = {e.patient for e in self.entries if not e.labelled} - self.split.held_out
        return tuple(sorted((self.split.train | without) - set(patients)))


def prepare(plan: Plan, root: Path | None, objects: Path, progress: Progress | None = None) -> Prepared:
    """Read, check and split the data; nothing is written."""
    start = time.perf_counter()

    def told(done: int, total: int) -> None:
        if progress:
            progress("reading the images", done, total, (time.perf_counter() - start) / done * (total - done))

    specs = tuple(canonical(spec) for spec in plan.sources(root))
    cases = listed(specs)
    entries = take_inventory(cases.values(), told)
    check_inventory(entries)
    split = make_split(plan, entries, cases)
    duplicates = duplicates_across(plan, entries)
    _refuse_duplicates(plan, entries, split, duplicates)
    content = content_of(e for e in entries if e.patient not in split.test | split.external)
    source = Source(specs, content_of(entries))
    source.keep(cases)
    context = Context(plan, source, split, content, str(objects))
    tests = test_set_hash(entries, split)
    return Prepared(context, entries, planned_arms(plan), duplicates, tests, time.perf_counter() - start)


def _refuse_duplicates(
    plan: Plan, entries: Sequence[Entry], split: Split, duplicates: Sequence[tuple[str, str, int]]
) -> None:
    patient = {e.id: e.patient for e in entries}
    parts = split.parts()

    def part(case: str) -> str:
        return next((name for name, members in parts.items() if patient[case] in members), "unlabelled")

    crossing = [(a, b) for a, b, _ in duplicates if part(a) != part(b)]
    if crossing and plan.split.near_duplicates == "refuse":
        pairs = ", ".join(f"{a} ({part(a)}) and {b} ({part(b)})" for a, b in crossing[:5])
        raise LeakageError(
            f"{len(crossing)} pair(s) of near-duplicate images of different patients lie in different parts: {pairs}",
            why="a copy of a training image in the test set is scored from memory",
            fix="give both the same patient id, or leave one out; if you looked and they are two patients, add "
            f"accept_near_duplicates = [{list(crossing[0])}] under [split]",
        )


def planned_trainings(prepared: Prepared) -> list[tuple[PlannedArm, int, Arm]]:
    """Return every different training that will be run: planned arm, replicate, and the arm it trains."""
    found: dict[tuple[Arm, int, str, int], tuple[PlannedArm, int, Arm]] = {}
    for planned in prepared.arms:
        for replicate in range(prepared.plan.arms.replicates):
            if planned.arm.schedule == "self-training" and not prepared.unlabelled(
                prepared.subset(planned.n, replicate)
            ):
                continue
            for arm in candidates(prepared.plan, planned):
                found.setdefault((arm, planned.n, planned.budget, replicate), (planned, replicate, arm))
    return list(found.values())


def candidates(plan: Plan, planned: PlannedArm) -> Iterator[Arm]:
    """Yield the arm itself; for ``weighted`` one per loss weight, of which 0 and 1 are arms that are there already."""
    arm = planned.arm
    if planned.family != "weighted":
        yield arm
        return
    for weight in planned.weights:
        if weight == 0:
            yield replace(arm, name="real", mix=Mix(), engine=None, control=True)
        elif weight == 1:
            yield replace(arm, name=arm.name.replace("weighted", f"mixed {main_ratio(plan):g}:1"))
        else:
            yield replace(arm, name=f"{arm.name}, weight {weight:g}", mix=replace(arm.mix, weight=weight))


def labelled_cases(prepared: Prepared, patients: Sequence[str]) -> int:
    """Return how many annotated cases some patients have."""
    wanted = set(patients)
    return sum(e.patient in wanted and e.labelled for e in prepared.entries)
