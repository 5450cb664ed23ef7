"""What figures and tables of paired differences have in common: a row of marks, an arm's cells, and the notes owed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from markupsafe import Markup

from equipoise.experiment.findings import Estimate, Findings
from equipoise.report.colours import Style, style_of_name
from equipoise.report.content import Cell, conditional_note, interval_note, named, number_cell, text_cell
from equipoise.report.marks import Bar
from equipoise.report.strips import Row
from equipoise.report.svg import tag
from equipoise.report.wording import interval, place


class Placed(Protocol):
    """A result of an arm at a place, with its difference from ``real``."""

    @property
    def arm(self) -> str:
        """The arm's name."""

    @property
    def n(self) -> int:
        """Real patients."""

    @property
    def where(self) -> str:
        """The place."""

    @property
    def difference(self) -> Estimate | None:
        """From ``real``; ``None`` for ``real`` itself."""


def difference_row(
    label: Markup, items: Sequence[Placed], style: Style, decimals: int, note: str = "", about: str = ""
) -> Row:
    """Return the differences of one arm, a mark per place; the target site's are hollow.

    ``about`` stands behind the arm's name in what a mark says, such as ``"site A"``.
    """
    bars, numbers = [], []
    for item in items:
        if item.difference is None:
            continue
        shown = interval(item.difference, decimals, signed=True)
        tip = ", ".join(filter(None, (item.arm, about, f"{place(item.where)}: {shown}")))
        bars.append(Bar(item.difference, style, tip, hollow=item.where == "target"))
        numbers.append(tag("span", shown, class_="num"))
    return Row(label, bars, numbers, note)


def arm_cells(item: Placed, looks: dict[str, Style]) -> tuple[Cell, Cell]:
    """Return an arm's marker and name, and its real patients."""
    return text_cell(named(style_of_name(item.arm, looks), item.arm, item.where == "target")), number_cell(item.n)


def difference_notes(findings: Findings, items: Iterable[Placed]) -> list[str]:
    """Return how the intervals are to be read, and what they do not cover."""
    return [interval_note(findings), *conditional_note(s.difference for s in items)]
