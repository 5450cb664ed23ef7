"""The page of ``equipoise check``: every finding about the data, with a picture where one helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from equipoise.experiment.findings import Picture
from equipoise.report.content import Table, number_cell, text_cell
from equipoise.report.gallery import frame_side, shot
from equipoise.report.page import page, write_text
from equipoise.report.svg import tag
from equipoise.report.wording import count, listed, sentence

Severity = Literal["error", "warning", "note"]
SEVERITIES: Mapping[Severity, str] = {"error": "must be mended", "warning": "look at this", "note": "good to know"}


@dataclass(frozen=True, slots=True)
class CheckItem:
    """One finding about the data.

    Parameters
    ----------
    code
        Short and stable, such as ``"geometry"``: findings are grouped by it.
    severity
        ``"error"`` stops an experiment, ``"warning"`` is to be looked at, ``"note"`` is printed in the report.
    file
        The file it is about.
    what, why, fix
        What was found, why it matters, and the exact command or change that mends it.
    picture
        The suspicious overlay.
    """

    code: str
    severity: Severity
    file: str | None
    what: str
    why: str
    fix: str
    picture: Picture | None = None


@dataclass(frozen=True, slots=True)
class CheckFindings:
    """Everything that the page of a check shows.

    Parameters
    ----------
    title
        Such as the folder's name.
    source
        What was checked, as the user named it.
    cases, patients
        How many were found; ``patients`` is ``None`` where nothing says who they are.
    classes
        Label to its counts, such as ``{"nodule": {"cases": 12, "voxels": 3450}}``.
    items
        The findings; none is a good result.
    facts
        Further lines of the summary, such as format, spacing and sites.
    simulated
        Label where pixels are simulated.
    """

    title: str
    source: str
    cases: int
    patients: int | None
    classes: Mapping[str, Mapping[str, int]]
    items: Sequence[CheckItem]
    facts: Mapping[str, str] = field(default_factory=dict)
    simulated: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Findings of one kind, as the template shows them."""

    code: str
    severity: Severity
    word: str
    number: str
    rows: Sequence[Markup]


def render_check(findings: CheckFindings) -> str:
    """Return the page as one HTML text that needs no network and no other file."""
    return page(
        "check.html",
        findings=findings,
        lead=_lead(findings),
        facts=_facts(findings),
        groups=_groups(findings),
        classes=_classes(findings),
    )


def write_check(findings: CheckFindings, file: str | Path) -> Path:
    """Write the page under a temporary name, rename it, and return its path; errors as `page.write_report`."""
    return write_text(Path(file), render_check(findings))


def _lead(findings: CheckFindings) -> str:
    people = ", patients not stated" if findings.patients is None else f" of {count(findings.patients, 'patient')}"
    size = f"{count(findings.cases, 'case')}{people}"
    numbers = {s: sum(i.severity == s for i in findings.items) for s in SEVERITIES}
    words = {"error": ("error", "errors"), "warning": ("warning", "warnings"), "note": ("note", "notes")}
    said = listed(count(n, *words[s]) for s, n in numbers.items() if n)
    if not said:
        return f"{size}, and nothing to mend."
    if numbers["error"]:
        return f"{size}, with {said}: the errors must be mended before an experiment can run."
    return f"{size}, with {said}; an experiment can run."


def _facts(findings: CheckFindings) -> Markup:
    rows = [("Checked", findings.source), *findings.facts.items()]
    return tag("dl", *(tag("div", tag("dt", k), tag("dd", v)) for k, v in rows), class_="facts")


def _groups(findings: CheckFindings) -> list[Group]:
    order: list[Severity] = list(SEVERITIES)
    keys = sorted({(order.index(i.severity), i.code) for i in findings.items})
    groups = []
    for place, code in keys:
        severity = order[place]
        chosen = [i for i in findings.items if i.code == code and i.severity == severity]
        rows = [_item(i) for i in chosen]
        groups.append(Group(code, severity, SEVERITIES[severity], count(len(chosen), "finding"), rows))
    return groups


def _item(item: CheckItem) -> Markup:
    rows = [("Why", sentence(item.why)), ("Fix", tag("code", item.fix))]
    file = tag("p", tag("code", item.file), class_="file") if item.file else None
    facts = tag("dl", *(tag("div", tag("dt", k), tag("dd", v)) for k, v in rows), class_="facts tight")
    words = tag("div", file, tag("p", sentence(item.what), class_="what"), facts)
    if item.picture is None:
        return tag("li", words, class_="finding")
    side = frame_side([item.picture])
    seen = tag("div", shot(item.picture, side, {}), class_="seen", style=f"--frame:{side}px")
    return tag("li", words, seen, class_="finding")


def _classes(findings: CheckFindings) -> Table | None:
    kinds = list(dict.fromkeys(k for counts in findings.classes.values() for k in counts))
    if not kinds:
        return None
    rows = [(text_cell(name), *(number_cell(c.get(k)) for k in kinds)) for name, c in findings.classes.items()]
    return Table("Labels and how often they occur", ("Label", *(k.capitalize() for k in kinds)), rows)
