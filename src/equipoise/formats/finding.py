"""What a check found, as plain values: the words, the cases that a picture can show, and the counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from equipoise.core.case import Case
from equipoise.core.labels import LabelMap
from equipoise.errors import (
    DataError,
    GeometryMismatchError,
    LabelError,
    PatientUnknownError,
    UnreadableFileError,
)

Severity = Literal["error", "warning"]

CODES: Mapping[str, str] = {
    "set": "the set as a whole",
    "patient-unknown": "nobody said which patient it is",
    "duplicate-id": "one id for two cases",
    "missing-mask": "no mask named",
    "missing-file": "a named file is not there",
    "unreadable": "unreadable file",
    "geometry": "image and mask on different grids",
    "swapped": "image and mask exchanged",
    "labels": "labels outside the scheme",
    "not-finite": "NaN or infinite values",
    "constant": "nothing in the image",
    "mixed": "cases that one model cannot read together",
    "synthetic": "synthetic images where real ones are needed",
    "duplicate-patient": "one image under two patients",
    "near-duplicate": "nearly one image under two patients",
    "patient-spelling": "patients whose names differ in spelling only",
    "duplicate-image": "one image twice",
    "absent-label": "a label that no case has",
    "few-patients": "a label of too few patients",
    "not-enough": "more real patients asked for than there are",
    "mirrored-masks": "masks that fit better when turned",
    "turned-images": "a site whose images are turned",
    "empty": "empty truth",
    "full": "truth that covers the whole image",
    "tiny": "tiny foreground",
    "spacing": "spacing unlike the rest",
    "size": "size unlike the rest",
}
"""Every code with what it stands for, in the order in which findings are listed within one severity."""


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """One thing that is wrong, or that somebody should look at.

    Parameters
    ----------
    code
        One of `CODES`.
    severity
        ``"error"`` stops an experiment or makes its result wrong, ``"warning"`` may be right but must be looked at.
    file
        The file it is about.
    what, why, fix
        What was found, why it matters, and the exact command or TOML line that mends it.
    ids
        The cases it is about.
    shown
        Cases whose pictures show it, side by side if there are several; none where a picture would not help.
    outline
        Drawn over the only case of ``shown``; by default that case's own truth.
    """

    code: str
    severity: Severity
    file: str | None
    what: str
    why: str
    fix: str
    ids: tuple[str, ...] = ()
    shown: tuple[Case, ...] = ()
    outline: LabelMap | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the words, for ``--json``."""
        names = ("code", "severity", "file", "what", "why", "fix")
        return {**{name: getattr(self, name) for name in names}, "ids": list(self.ids)}


@dataclass(frozen=True, slots=True)
class LabelCount:
    """How often a label, or a class, occurs.

    Parameters
    ----------
    cases, patients
        That have it; patients are ``None`` where nobody said who they are.
    voxels
        Marked with it in all cases; ``None`` for a class of whole images.
    share
        Of all voxels of the annotated cases.
    """

    cases: int
    patients: int | None
    voxels: int | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """Everything that a check found.

    Parameters
    ----------
    findings
        Errors first, then by code as in `CODES`, then by file.
    cases
        Rows that the set lists, readable or not.
    read
        Cases that could be read whole.
    patients
        Different patients among them; ``None`` where nobody said who they are. Synthetic cases show none.
    labels
        Counts by label or class.
    without_truth
        Cases read that have no annotation at all.
    empty
        Annotated cases in which nothing is marked.
    facts
        Sizes, spacings, channels, sites, in words.
    annotated
        Prefix of the set, site and patient of every annotated real case.
    made_by
        Synthetic cases read, by the engine that made them.
    """

    findings: tuple[Finding, ...]
    cases: int
    read: int
    patients: int | None
    labels: Mapping[str, LabelCount] = field(default_factory=dict)
    without_truth: int = 0
    empty: int = 0
    facts: Mapping[str, str] = field(default_factory=dict)
    annotated: frozenset[tuple[str, str | None, str]] = frozenset()
    made_by: Mapping[str, int] = field(default_factory=dict)


def sorted_findings(findings: list[Finding]) -> tuple[Finding, ...]:
    """Return findings with errors first, then in the order of `CODES`, then by file and case."""
    order = list(CODES)

    def place(f: Finding) -> tuple[bool, int, str, tuple[str, ...]]:
        return f.severity != "error", order.index(f.code), f.file or "", f.ids

    return tuple(sorted(findings, key=place))


def from_error(error: DataError, case: str, again: str, file: str | None = None, **more: Any) -> Finding:
    """Return the finding that an error of reading stands for.

    Parameters
    ----------
    error
        What was raised.
    case
        The case's id, or "" for the whole set.
    again
        The command that runs the check again, for errors that name no fix.
    file
        Where the error names none.
    more
        Further fields of `Finding`.
    """
    named = error.file or file
    code = next((code for kind, code in _OF_ERROR.items() if isinstance(error, kind)), "set")
    if code == "unreadable" and named and not Path(named).exists():
        code = "missing-file"
    return Finding(
        code,
        "error",
        named,
        error.message,
        error.why or "a case that cannot be read cannot be trained on or tested on",
        error.fix or f"mend it, then run `{again}` again",
        ids=(case,) if case else (),
        **more,
    )


_OF_ERROR: Mapping[type[DataError], str] = {
    UnreadableFileError: "unreadable",
    GeometryMismatchError: "geometry",
    LabelError: "labels",
    PatientUnknownError: "patient-unknown",
}
