"""Figures made of rows: the forest plot, strata, boundary accuracy and the other metrics share this one form.

A row is a label, a strip of marks on a shared axis, and the same numbers as text, so that nobody has to read them off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from equipoise.report.marks import Bar, backdrop, interval_mark, tick_row
from equipoise.report.svg import Axis, drawing, tag

LINE = 24
"""Height of one mark's line, in pixels."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a strip figure.

    Parameters
    ----------
    label
        What the row is about, may hold an arm's marker.
    bars
        Drawn below one another.
    numbers
        One text per bar.
    note
        Small text below the label.
    """

    label: Markup
    bars: Sequence[Bar]
    numbers: Sequence[str | Markup]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Band:
    """What is drawn behind all rows: the zero line and the margin, or a reference range."""

    zero: bool = True
    margin: float | None = None


def strip_figure(key: str, heading: str, rows: Sequence[Row], axis: Axis, band: Band, class_: str = "") -> Markup:
    """Return rows over one shared axis.

    Parameters
    ----------
    key
        Unique on the page.
    heading
        Says which budget, place or factor it is.
    class_
        ``"narrow"`` puts the numbers below the strip.
    """
    body = [_row(f"{key}-{i}", row, axis, band) for i, row in enumerate(rows)]
    foot = tag("div", tag("div", class_="s-label"), tag("div", tick_row(axis), class_="s-plot"), class_="s-row s-axis")
    head = tag("h4", heading) if heading else None
    return tag("div", head, *body, foot, class_=f"strips {class_}".strip())


def _row(key: str, row: Row, axis: Axis, band: Band) -> Markup:
    height = LINE * max(1, len(row.bars)) + 8
    placed = [Bar(b.estimate, b.style, b.tip, b.hollow, LINE * (i + 0.5) + 4) for i, b in enumerate(row.bars)]
    marks = [interval_mark(bar, axis) for bar in placed]
    plain_label = row.label.striptags()
    plot = drawing(
        key,
        plain_label,
        "; ".join(bar.tip for bar in row.bars) or "nothing to draw",
        height,
        backdrop(axis, band.zero, band.margin),
        *marks,
    )
    note = tag("div", row.note, class_="note") if row.note else None
    numbers = [tag("div", text) for text in row.numbers]
    return tag(
        "div",
        tag("div", row.label, note, class_="s-label"),
        tag("div", plot, class_="s-plot"),
        tag("div", *numbers, class_="s-numbers"),
        class_="s-row",
    )
