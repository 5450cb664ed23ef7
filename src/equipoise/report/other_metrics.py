"""The metrics that the verdict does not rest on."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from equipoise.experiment.findings import Findings, Secondary
from equipoise.report.colours import Style, style_of_name
from equipoise.report.content import (
    Section,
    Table,
    estimate_cell,
    figure,
    named,
    number_cell,
    place_legend,
    styles,
    text_cell,
)
from equipoise.report.difference_rows import arm_cells, difference_notes, difference_row
from equipoise.report.marks import difference_axis
from equipoise.report.strips import Band, strip_figure
from equipoise.report.svg import tag
from equipoise.report.wording import BUDGETS, decimals_for, listed, place, with_unit


def secondary(findings: Findings) -> Section:
    """Return the metrics that the verdict does not rest on."""
    title, items = "Other metrics", findings.secondary
    if not items:
        why = f"No metric besides {findings.metric.title} was asked for in the plan."
        return Section("metrics", title, why, state="empty")
    names = listed(dict.fromkeys(s.metric for s in items))
    return Section(
        "metrics",
        title,
        f"{names} were measured on the same predictions; the verdict rests on {findings.metric.title} alone.",
        figures=[metric_figure("metric", items, styles(findings))],
        tables=metric_tables(items, styles(findings)),
        how=[
            "Differences from real, paired as above and not corrected for the number of metrics. Each metric has its "
            "own axis and unit. Patients for whom a metric has no value are left out and counted.",
            *difference_notes(findings, items),
        ],
    )


def metric_figure(key: str, items: Sequence[Secondary], looks: dict[str, Style]) -> Markup:
    """Return one panel of differences from real per metric; ``key`` is unique on the page."""
    panels = [_panel(f"{key}-{i}", metric, items, looks) for i, metric in enumerate(_metrics(items))]
    return figure(place_legend(), tag("div", *(p for p in panels if p), class_="multiples"))


def metric_tables(items: Sequence[Secondary], looks: dict[str, Style]) -> list[Table]:
    """Return one table per metric."""
    return [_table(metric, items, looks) for metric in _metrics(items)]


def _metrics(items: Sequence[Secondary]) -> list[tuple[str, str]]:
    """Return metrics with their units, each once."""
    return list(dict.fromkeys((s.metric, s.unit) for s in items))


def _panel(key: str, metric: tuple[str, str], items: Sequence[Secondary], looks: dict[str, Style]) -> Markup | None:
    chosen = [s for s in items if (s.metric, s.unit) == metric and s.difference is not None]
    if not chosen:
        return None
    decimals = decimals_for(s.difference for s in chosen)
    axis = difference_axis([s.difference for s in chosen], None, with_unit(f"difference in {metric[0]}", metric[1]))
    groups: dict[tuple[str, int, str], list[Secondary]] = {}
    for s in chosen:
        groups.setdefault((s.arm, s.n, s.budget), []).append(s)
    rows = []
    for (arm, n, budget), group in groups.items():
        style = style_of_name(arm, looks)
        note = f"n = {n}, {BUDGETS.get(budget, budget)}"
        rows.append(difference_row(named(style, arm), group, style, decimals, note))
    return strip_figure(key, _heading(metric), rows, axis, Band(), "narrow")


def _table(metric: tuple[str, str], items: Sequence[Secondary], looks: dict[str, Style]) -> Table:
    chosen = [s for s in items if (s.metric, s.unit) == metric]
    mean, diff = decimals_for(s.mean for s in chosen), decimals_for(s.difference for s in chosen)
    rows = [
        (
            *arm_cells(s, looks),
            text_cell(BUDGETS.get(s.budget, s.budget)),
            text_cell(place(s.where)),
            estimate_cell(s.mean, mean),
            estimate_cell(s.difference, diff, signed=True),
            number_cell(s.mean.patients),
            number_cell(s.mean.excluded),
        )
        for s in chosen
    ]
    name = _heading(metric)
    columns = ("Arm", "Real patients", "Budget", "Place", name, "Difference from real", "Test patients", "Left out")
    return Table(f"{metric[0]}, every arm", columns, rows)


def _heading(metric: tuple[str, str]) -> str:
    return with_unit(metric[0], f"({metric[1]})" if metric[1] else "")
