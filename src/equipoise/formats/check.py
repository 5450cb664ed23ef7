"""The gate: reads every case of one or several sets once and lists everything that is wrong with them.

Nothing is changed. Faults that end a normal reading (see `equipoise.formats.read`) are findings here, and the check
goes on behind them, so that one run names all that has to be mended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from equipoise.core.labels import LabelMap
from equipoise.formats.check_between import (
    facts_of,
    label_counts,
    made,
    makers,
    mixtures,
    orientations,
    outliers,
    scarce,
)
from equipoise.formats.check_duplicates import duplicates, spelling
from equipoise.formats.check_listing import Opened, open_set
from equipoise.formats.check_voxels import Seen, look_at
from equipoise.formats.finding import CODES, Checked, Finding, LabelCount, Severity, sorted_findings

__all__ = ["CODES", "Checked", "Finding", "LabelCount", "Severity", "check_sets"]


def check_sets(
    sets: Mapping[str, Mapping[str, Any]],
    again: str,
    accepted: Iterable[tuple[str, str]] = (),
    progress: Callable[[int, int], None] | None = None,
    real_only: bool = False,
) -> Checked:
    """Check sets of cases that are to be used together.

    Of synthetic cases the truth is not doubted: an engine knows it, and no hand slips. Neither do they count as
    patients.

    Parameters
    ----------
    sets
        Prefix of ids and patients to a specification as in `equipoise.formats.read`. One set has the prefix "".
    again
        The command that runs this check, for fixes.
    accepted
        Pairs of ids of near-duplicates that were looked at and are two patients.
    progress
        Called with cases done and cases in all.
    real_only
        Whether synthetic cases have no place in these sets, as in a plan's ``[data]``.

    Returns
    -------
    Checked
        Findings and counts; no finding means that nothing has to be mended.

    Raises
    ------
    PlanError, UnknownKindError
        A specification itself is wrong.
    """
    findings: list[Finding] = []
    opened: list[Opened] = []
    rows = 0
    for part, spec in sets.items():
        opening = open_set(spec, part, again)
        opened += opening.cases
        findings += opening.findings
        rows += opening.rows
    seen = []
    for number, case in enumerate(opened, 1):
        looked, found = look_at(case, again)
        findings += found
        if looked is not None:
            seen.append(looked)
        if progress:
            progress(number, len(opened))
    pairs = frozenset(frozenset(pair) for pair in accepted)
    findings += duplicates(seen, pairs) + spelling(seen)
    # A mask in the place of an image differs from the rest in everything; once said is enough.
    swapped = {name for f in findings if f.code == "swapped" for name in f.ids}
    images = [s for s in seen if s.case.id not in swapped]
    real = [s for s in images if not s.case.synthetic]
    findings += mixtures(images) + outliers(real) + orientations(real)
    if real_only:
        findings += made(seen)
    return _checked(findings, rows, seen, str(next(iter(sets.values()), {}).get("path", "")))


def _checked(findings: list[Finding], rows: int, seen: list[Seen], path: str) -> Checked:
    known = all(s.opened.known for s in seen)
    real = [s for s in seen if not s.case.synthetic]
    # A label seems to be missing everywhere if its masks could not be read; that is said already, once.
    if real and all(s.foreground is not None or not isinstance(s.case.truth, LabelMap) for s in real):
        findings = findings + scarce(label_counts(real), path)
    return Checked(
        sorted_findings(findings),
        rows,
        len(seen),
        len({s.case.patient for s in real}) if known and seen else None,
        label_counts(seen),
        sum(s.case.truth is None for s in seen),
        sum(s.foreground is not None and not any(s.foreground.values()) for s in seen),
        facts_of(seen),
        frozenset((s.opened.part, s.case.site, s.case.patient) for s in real if s.case.truth is not None),
        makers(seen),
    )
