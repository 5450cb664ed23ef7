"""The cases of an experiment: an inventory that is taken once, the split, and the only door to each part."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from equipoise.annotation.consensus import with_consensus
from equipoise.core import Case, LabelMap, Split, rng_for, size_strata, split_patients
from equipoise.errors import DataError, LabelError, NotEnoughCasesError, PlanError
from equipoise.experiment.plan import Plan
from equipoise.formats import read
from equipoise.formats.likeness import near_duplicates, perceptual_hash

EXTERNAL = "external:"
"""Prefix of case and patient ids that come from ``[external]``, so that two sets may both have a patient 01."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the inventory knows of a case without its voxels."""

    id: str
    patient: str
    site: str | None
    scanner: str | None
    modality: str | None
    licence: str | None
    labelled: bool
    readers: int
    channels: int
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    unit: str
    foreground: dict[str, int]
    fingerprint: str
    look: str
    external: bool
    attributes: dict[str, str | float]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the cases come from, in a form that can be sent to a worker.

    Parameters
    ----------
    specs
        Canonical JSON of the inside set's format and, where there is one, of the external set's.
    content
        Hash of what the inventory found there. The same place may hold other files later, or name another folder when
        the process moves, and a worker that stays must not take the old cases for the new ones.
    """

    specs: tuple[str, ...]
    content: str

    def cases(self) -> dict[str, Case]:
        """Return every case by id, unread; kept for the sources that this process used last."""
        if self not in _KEPT:
            self.keep(listed(self.specs))
        return _KEPT[self]

    def keep(self, cases: dict[str, Case]) -> None:
        """Remember the cases, which some formats take seconds to list; earlier sources are forgotten."""
        while self not in _KEPT and len(_KEPT) >= SOURCES_KEPT:
            del _KEPT[next(iter(_KEPT))]
        _KEPT[self] = cases


SOURCES_KEPT = 2
"""Sources whose cases a process remembers: a run has one, and a report may compare it with another."""

_KEPT: dict[Source, dict[str, Case]] = {}


def listed(specs: Sequence[str]) -> dict[str, Case]:
    """Return every case of some sets by id, unread, as they are now.

    Raises
    ------
    DataError
        A case is synthetic.
    """
    found: dict[str, Case] = {}
    for position, spec in enumerate(specs):
        for case in read(json.loads(spec)):
            if position:
                case = replace(case, id=EXTERNAL + case.id, patient=EXTERNAL + case.patient)
            if case.synthetic:
                raise DataError(
                    f"case {case.id!r} is synthetic; the data of an experiment must be real", file=case.file
                )
            found[case.id] = case
    return found


def take_inventory(cases: Collection[Case], progress: Callable[[int, int], None] | None = None) -> list[Entry]:
    """Read every case once: its size, its fingerprint and how it looks (for near-duplicates)."""
    entries = []
    for number, case in enumerate(cases, 1):
        entries.append(_entry(case))
        if progress:
            progress(number, len(cases))
    return entries


def content_of(entries: Iterable[Entry]) -> str:
    """Return one hash of the images and truths of some cases, in whatever order."""
    return hashlib.sha256("".join(sorted(e.fingerprint for e in entries)).encode()).hexdigest()


def _entry(case: Case) -> Entry:
    image = case.image.array
    digest = hashlib.sha256(np.ascontiguousarray(image).tobytes())
    foreground: dict[str, int] = {}
    if isinstance(case.truth, LabelMap):
        masks = case.truth.masks()
        digest.update(np.packbits(masks).tobytes())
        foreground = {name: int(m.sum()) for name, m in zip(case.truth.scheme.names, masks, strict=True)}
    return Entry(
        id=case.id,
        patient=case.patient,
        site=case.site,
        scanner=case.scanner,
        modality=case.modality,
        licence=case.licence,
        labelled=case.truth is not None,
        readers=len(case.reads),
        channels=case.image.channels,
        shape=case.image.geometry.shape,
        spacing=case.image.spacing,
        unit=case.image.unit,
        foreground=foreground,
        fingerprint=digest.hexdigest(),
        look=perceptual_hash(image),
        external=case.id.startswith(EXTERNAL),
        attributes=dict(case.attributes),
    )


def check_inventory(entries: Sequence[Entry]) -> None:
    """Raise where the cases cannot be trained on together."""
    if not any(e.labelled for e in entries):
        raise DataError("no case has a truth", fix="name the label files in the plan's [data] section")
    twice = [name for name, count in Counter(e.id for e in entries).items() if count > 1]
    if twice:
        raise DataError(f"case id(s) {twice[:5]} stand for more than one image", fix="give each image its own id")
    kinds: dict[str, set[Any]] = {
        "channels": {e.channels for e in entries},
        "2-D and 3-D": {e.shape[2] > 1 for e in entries},
        "units": {e.unit for e in entries},
    }
    for what, values in kinds.items():
        if len(values) > 1:
            raise DataError(
                f"the cases differ in {what}: {sorted(values)}",
                why="one model cannot read both",
                fix="convert them to one kind, or run one experiment for each",
            )
    names = {tuple(e.foreground) for e in entries if e.labelled}
    if len(names) > 1:
        raise LabelError(f"the cases have different labels: {sorted(names)}", fix="name the same labels for all sets")


def make_split(plan: Plan, entries: Sequence[Entry], cases: Mapping[str, Case]) -> Split:
    """Split the labelled patients by the plan: stratified by site and size, the target site apart."""
    target = plan.target.site
    sites = {e.site for e in entries}
    if target is not None and target not in sites:
        raise PlanError(f"no case is from target site {target!r}; the sites are {sorted(map(str, sites))}")
    outside = {e.patient for e in entries if e.external or (target is not None and e.site == target)}
    labelled = [e for e in entries if e.labelled and e.patient not in outside]
    if len({e.patient for e in labelled}) < 3:
        raise NotEnoughCasesError(
            f"{len({e.patient for e in labelled})} labelled patient(s) cannot be split into train, validation and test",
            fix="annotate more patients, or name the labels of more cases",
        )
    sizes = {e.id: float(sum(e.foreground.values())) for e in labelled}
    strata = size_strata([cases[e.id] for e in labelled], sizes)
    shares = {"train": plan.split.train, "validation": plan.split.validation, "test": plan.split.test}
    parts = split_patients(strata, shares, plan.seed)
    queue = rng_for(plan.seed, "target").permutation(np.array(sorted(outside), dtype=object)).tolist()
    few = plan.target.validation_patients
    if few and few >= len(queue):
        raise NotEnoughCasesError(
            f"target.validation_patients = {few} leaves none of the {len(queue)} target patients for the test"
        )
    split = Split(**parts, external=frozenset(queue[few:]), target_validation=frozenset(queue[:few]))
    if max(plan.arms.sizes) > len(split.train):
        split.subset(max(plan.arms.sizes), plan.seed, 0)
    return split


def duplicates_across(plan: Plan, entries: Sequence[Entry]) -> list[tuple[str, str, int]]:
    """Return pairs of near-duplicate images of *different* patients: case, case, differing bits of 64.

    Two images of one patient may be alike; two patients' may not, unless the plan says that they were looked at.
    """
    patient = {e.id: e.patient for e in entries}
    accepted = {frozenset(pair) for pair in plan.split.accept_near_duplicates}
    return [
        (a, b, bits)
        for a, b, bits in near_duplicates({e.id: e.look for e in entries})
        if patient[a] != patient[b] and frozenset((a, b)) not in accepted
    ]


def part_cases(source: Source, patients: Iterable[str], labelled: bool = True) -> list[Case]:
    """Return the cases of some patients, in order of id; never used for a sealed part (see `vault`)."""
    wanted = frozenset(patients)
    chosen = [c for c in source.cases().values() if c.patient in wanted and (c.truth is not None or not labelled)]
    return sorted(chosen, key=lambda case: case.id)


def with_test_truth(plan: Plan, case: Case) -> Case:
    """Return a held-out case with the truth that it is scored against."""
    if plan.split.test_truth == "given":
        return case
    return with_consensus(case, minimum=plan.split.min_readers)


def test_set_hash(entries: Sequence[Entry], split: Split) -> str:
    """Return a hash of exactly the images and truths of the sealed parts."""
    sealed = split.test | split.external
    return content_of(e for e in entries if e.patient in sealed)


def to_json(entries: Sequence[Entry]) -> bytes:
    """Return the inventory as JSON."""
    return json.dumps([asdict(e) for e in entries]).encode()


def from_json(data: bytes) -> list[Entry]:
    """Return the inventory that `to_json` wrote."""

    def entry(row: dict[str, Any]) -> Entry:
        return Entry(**{**row, "shape": tuple(row["shape"]), "spacing": tuple(row["spacing"])})

    return [entry(row) for row in json.loads(data)]
