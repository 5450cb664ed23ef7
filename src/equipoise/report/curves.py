"""What the ratio curve and the learning curve share: their points in a table, and their words."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from equipoise.experiment.findings import Curve, Estimate, Findings
from equipoise.report.colours import share_of, style_of_name
from equipoise.report.content import (
    Cell,
    Table,
    estimate_cell,
    named,
    number_cell,
    score_name,
    short_difference,
    styles,
    text_cell,
)
from equipoise.report.wording import BUDGETS, decimals_for, place, ratio


def curve_table(findings: Findings, curves: Sequence[Curve], axis: str, differences: bool) -> Table:
    """Return every point of the curves; ``axis`` names their abscissa, ``differences`` says that they are no scores."""
    looks, decimals = styles(findings), decimals_for(estimates(curves))

    def name(c: Curve) -> str | Markup:
        if c.kind == "ratio" and not is_control(c):
            return c.name
        return named(style_of_name(c.name, looks), c.name, c.where == "target")

    rows = [
        (
            text_cell(name(c)),
            text_cell(place(c.where)),
            text_cell(budget_words(c.budget)),
            Cell(ratio(p.x), share_of(p.x)) if c.kind == "ratio" else number_cell(p.x),
            estimate_cell(p.estimate, decimals, signed=differences),
        )
        for c in curves
        for p in c.points
    ]
    what = short_difference(findings) if differences else score_name(findings)
    what = what[0].upper() + what[1:]
    return Table("Every point", ("Curve", "Place", "Budget", axis, what), rows)


def estimates(curves: Sequence[Curve]) -> list[Estimate]:
    """Return the estimates of all points."""
    return [p.estimate for c in curves for p in c.points]


def is_control(curve: Curve) -> bool:
    """Return whether a curve is that of real data duplicated."""
    return "duplicat" in curve.name.lower()


def budget_words(budget: str) -> str:
    """Return a budget in words; one that the page does not know keeps its name."""
    return BUDGETS.get(budget, budget)
