"""Boundary accuracy of the arms, beside how far human readers are from one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from equipoise.experiment.findings import Boundary, Estimate, Findings
from equipoise.report.colours import READER, Style, mixed, style_of_name
from equipoise.report.content import (
    Section,
    Table,
    conditional_note,
    estimate_cell,
    figure,
    interval_note,
    legend,
    named,
    styles,
    text_cell,
)
from equipoise.report.marks import Bar, value_axis
from equipoise.report.strips import Band, Row, strip_figure
from equipoise.report.svg import tag
from equipoise.report.wording import decimals_for, interval, usable, with_unit

_TITLE = "Boundary accuracy, beside the readers"


def boundary(findings: Findings) -> Section:
    """Return the section of boundary accuracy against the consensus of the (other) readers."""
    items = findings.boundary
    if not items:
        why = (
            "Not audited: the test cases carry the annotation of one reader only, so the distance between readers, "
            "below which a difference means nothing, is unknown."
        )
        return Section("boundary", _TITLE, why, state="not audited")
    unit = items[0].unit
    looks = styles(findings)
    panels = [
        _panel("boundary-distance", f"Mean boundary distance ({unit})", items, lambda b: b.distance, looks, False),
        _panel("boundary-offset", f"Signed offset ({unit})", items, lambda b: b.offset, looks, True),
        _panel("boundary-dice", "Dice", items, lambda b: b.dice, looks, False),
    ]
    key = legend(
        [
            named(READER, "a reader against the consensus of the others"),
            named(Style(mixed(0.5), "diamond"), "an arm against the consensus of all"),
        ]
    )
    return Section(
        "boundary",
        _TITLE,
        _sentence(items, unit),
        figures=[figure(key, tag("div", *panels, class_="multiples three"))],
        tables=[_table(items, looks)],
        how=[
            "A reader is compared with the consensus of the others, never with one that holds their drawing; "
            "an arm is compared with the consensus of all.",
            "Distance is the mean distance between the two outlines, offset its signed mean: positive where one "
            "lies outside the consensus.",
            interval_note(findings),
            *conditional_note(e for b in items for e in (b.dice, b.distance, b.offset)),
        ],
    )


def _sentence(items: Sequence[Boundary], unit: str) -> str:
    readers = [b for b in items if b.kind == "reader" and usable(b.distance)]
    arms = [b for b in items if b.kind == "arm" and usable(b.distance)]
    decimals = decimals_for(b.distance for b in items)

    def said(b: Boundary) -> str:
        return with_unit(interval(b.distance, decimals), unit)

    parts = []
    if arms:
        near = min(arms, key=lambda b: b.distance.value)
        parts.append(f"of the arms, {near.who} draws nearest to the consensus, {said(near)} away on average")
    if readers:
        low, high = (f(readers, key=lambda b: b.distance.value) for f in (min, max))
        text = f"the readers lie {said(low)} ({low.who})"
        parts.append(
            text + (f" to {said(high)} ({high.who}) from one another" if len(readers) > 1 else " from the others")
        )
    text = "; ".join(parts) or "No boundary distance could be computed"
    return text[0].upper() + text[1:] + "."


def _panel(
    key: str,
    heading: str,
    items: Sequence[Boundary],
    pick: Callable[[Boundary], Estimate],
    looks: dict[str, Style],
    signed: bool,
) -> Markup:
    chosen = [pick(b) for b in items]
    decimals = decimals_for(chosen)
    ends = [*chosen, Estimate(0.0, 0.0, 0.0)] if signed else chosen
    axis = value_axis(ends, "− inside, + outside the truth" if signed else heading)
    rows = []
    for b in items:
        style = READER if b.kind == "reader" else style_of_name(b.who, looks)
        shown = interval(pick(b), decimals, signed)
        rows.append(
            Row(named(style, b.who), [Bar(pick(b), style, f"{b.who}: {shown}")], [tag("span", shown, class_="num")])
        )
    return strip_figure(key, heading, rows, axis, Band(zero=signed), "narrow")


def _table(items: Sequence[Boundary], looks: dict[str, Style]) -> Table:
    dice, distance = decimals_for(b.dice for b in items), decimals_for(b.distance for b in items)
    offset = decimals_for(b.offset for b in items)
    rows = [
        (
            text_cell(named(READER if b.kind == "reader" else style_of_name(b.who, looks), b.who)),
            text_cell(b.kind),
            estimate_cell(b.dice, dice),
            estimate_cell(b.distance, distance),
            estimate_cell(b.offset, offset, signed=True),
            text_cell(b.unit),
        )
        for b in items
    ]
    return Table("Readers and arms", ("Who", "Kind", "Dice", "Mean distance", "Signed offset", "Unit"), rows)
