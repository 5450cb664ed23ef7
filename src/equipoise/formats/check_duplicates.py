"""Finds one image under two ids and one patient under two names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations

from equipoise.formats.check_voxels import Seen
from equipoise.formats.finding import Finding
from equipoise.formats.likeness import near_duplicates

_ONE_PERSON = "a copy of a training image in the test set is scored from memory, not from skill"


def duplicates(seen: Sequence[Seen], accepted: frozenset[frozenset[str]]) -> list[Finding]:
    """Return exact copies and near-duplicates; one finding for all copies of one image.

    Parameters
    ----------
    seen
        The cases.
    accepted
        Pairs of ids that somebody has looked at and found to be two patients.
    """
    # An image that shows nothing equals every other such image, and is a finding of its own already.
    showing = [s for s in seen if s.look is not None]
    by_digest: dict[str, list[Seen]] = defaultdict(list)
    for s in showing:
        by_digest[s.digest].append(s)
    findings = [f for copies in by_digest.values() if len(copies) > 1 and (f := _copies(copies, accepted))]
    first = {copies[0].case.id: copies[0] for copies in by_digest.values()}
    pairs = [
        (first[a], first[b])
        for a, b, _ in near_duplicates({name: s.look or "" for name, s in first.items()})
        if _crossing(first[a], first[b]) and frozenset((a, b)) not in accepted
    ]
    return findings + [_near(group) for group in _connected(pairs)]


def _crossing(a: Seen, b: Seen) -> bool:
    """Return whether two cases are of different patients, as far as anybody said; two synthetic ones show none."""
    return a.case.patient != b.case.patient and not (a.case.synthetic and b.case.synthetic)


def _copies(copies: list[Seen], accepted: frozenset[frozenset[str]]) -> Finding | None:
    ids = tuple(s.case.id for s in copies)
    people = sorted({s.case.patient for s in copies}) if not all(s.case.synthetic for s in copies) else []
    if all(frozenset(pair) in accepted for pair in combinations(ids, 2)):
        return None
    files = ", ".join(str(s.case.file) for s in copies[1:4])
    known = all(s.opened.known for s in copies)
    if len(people) > 1 and known:
        return Finding(
            "duplicate-patient",
            "error",
            copies[0].case.file,
            f"the same image, value for value, is there {len(copies)} times, under the patients "
            f"{', '.join(map(repr, people[:4]))}: also {files}",
            f"one patient stands under {len(people)} ids: {_ONE_PERSON}",
            f"give them one patient, {people[0]!r}, in the table (or `patients.csv`), and leave one copy out: "
            + _without(ids[1:]),
            ids,
            tuple(s.case for s in copies[:2]),
        )
    return Finding(
        "duplicate-image",
        "warning",
        copies[0].case.file,
        f"the same image, value for value, is there {len(copies)} times: also {files}",
        "it counts several times in training and in every mean"
        if known
        else f"its copies are of one patient: {_ONE_PERSON}",
        f"leave the copies out: {_without(ids[1:])}",
        ids,
        tuple(s.case for s in copies[:2]),
    )


def _without(ids: Sequence[str]) -> str:
    rows = ", ".join(ids[:5]) + (" …" if len(ids) > 5 else "")
    return f"delete the row(s) {rows} from the table, or the file(s) from the folder"


def _connected(pairs: Iterable[tuple[Seen, Seen]]) -> list[list[tuple[Seen, Seen]]]:
    """Return pairs grouped so that cases that are linked over others are in one group."""
    group: dict[str, list[tuple[Seen, Seen]]] = {}
    members: dict[int, set[str]] = {}
    for a, b in pairs:
        one, two = group.get(a.case.id), group.get(b.case.id)
        joined = [(a, b), *(one or []), *(two or [] if two is not one else [])]
        names = {a.case.id, b.case.id}
        for old in (one, two):
            if old is not None:
                names |= members.pop(id(old), set())
        members[id(joined)] = names
        for name in names:
            group[name] = joined
    unique = {id(found): found for found in group.values()}
    return [sorted(found, key=lambda p: (p[0].case.id, p[1].case.id)) for found in unique.values()]


def _near(pairs: list[tuple[Seen, Seen]]) -> Finding:
    ids = tuple(sorted({s.case.id for pair in pairs for s in pair}))
    people = sorted({s.case.patient for pair in pairs for s in pair})
    known = all(s.opened.known for pair in pairs for s in pair)
    a, b = pairs[0]
    listed = ", ".join(f'["{x.case.id}", "{y.case.id}"]' for x, y in pairs[:4]) + (", …" if len(pairs) > 4 else "")
    told = f"of patients {', '.join(map(repr, people[:4]))}" + (" …" if len(people) > 4 else "")
    return Finding(
        "near-duplicate",
        "warning",
        a.case.file,
        f"{len(ids)} images {told if known else '(nobody said of whom)'} look alike: also "
        + ", ".join(str(y.case.file) for _, y in pairs[:3]),
        f"if it is one patient, or one image saved twice, {_ONE_PERSON}",
        f"look at the pictures; if it is one patient, give both the patient id {a.case.patient!r}; if they are two, "
        f"add under [split]: `accept_near_duplicates = [{listed}]`"
        if known
        else "look at the pictures; if it is one patient, name the patients so that both have one id",
        ids,
        (a.case, b.case),
    )


def spelling(seen: Sequence[Seen]) -> list[Finding]:
    """Return patients whose names differ only in case, separators or leading zeros: ``P-01`` and ``p1``."""
    groups: dict[tuple[str, tuple[str, ...]], set[str]] = defaultdict(set)
    for s in seen:
        if s.opened.known and not s.case.synthetic:
            groups[s.opened.part, _spelled(s.case.patient)].add(s.case.patient)
    findings = []
    for names in groups.values():
        if len(names) > 1:
            ordered = sorted(names)
            cases = [s.case for s in seen if s.case.patient in names]
            findings.append(
                Finding(
                    "patient-spelling",
                    "warning",
                    cases[0].file,
                    f"the patients {', '.join(map(repr, ordered))} differ in spelling only",
                    "if they are one person, images of that person can stand on both sides of a split",
                    f"write one of them everywhere, such as {ordered[0]!r}; if they are different people, rename one",
                    tuple(c.id for c in cases),
                )
            )
    return findings


def _spelled(name: str) -> tuple[str, ...]:
    parts = re.findall(r"\d+|[^\W\d_]+", name.casefold())
    return tuple(p.lstrip("0") or "0" if p.isdigit() else p for p in parts)
